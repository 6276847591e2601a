//! The file of a mapped region, kept to probe the locks of others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::fstat;

use super::descriptor::Descriptor;
use super::dir::{DirLocation, FileId};
use super::open::Access;
use crate::TopicName;

/// The file of a mapped region, open for reading, and how to find it again: the program may close
/// descriptors that it did not open.
#[derive(Debug)]
pub(crate) struct RegionFile {
    descriptor: Descriptor,
    /// `None` for a file that never had a name.
    name: Option<(DirLocation, TopicName)>,
    id: FileId,
}

impl RegionFile {
    pub(crate) fn new(descriptor: Descriptor, name: Option<(DirLocation, TopicName)>) -> io::Result<Self> {
        let id = FileId::of(&fstat(&descriptor)?);
        Ok(Self { descriptor, name, id })
    }

    /// Lends the file: for this call only, if its descriptor was closed behind the library's back.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the file must be found by its name, and no longer
    /// has it; those of `action`.
    pub(crate) fn with<R>(&self, action: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        if self.descriptor.is_intact() {
            return action(self.descriptor.as_fd());
        }
        let (location, topic) = self.name.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let again = location.open()?.open_file(&topic.file_name(), Access::Read)?;
        if FileId::of(&fstat(&again)?) != self.id {
            return Err(io::ErrorKind::NotFound.into());
        }
        action(again.as_fd())
    }
}
