//! Descriptors that the library keeps in a program that it knows nothing about.
//!
//! The program may fork; see [`descriptor_table`](super::descriptor_table). And it may close
//! descriptors that it did not open: daemons begin with `closefrom(3)`. Then the next file that it
//! opens gets the number. So a number is compared with what was opened under it before each use and
//! before it is closed: device and inode, which every file, socket and pipe has of its own.
//! (Eventfds and the like share one inode. The library keeps none of them.)
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use super::descriptor_table::{Opened, forget, is_noted, note};
use super::fork::ForkGuard;
use super::open::{self, Access, above_standard};

/// A number that no file has: every call with it fails with EBADF.
const NOWHERE: RawFd = -2;

/// What children of `fork` do with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InChildren {
    Closed,
    /// The program knows its number, and must not find another file there.
    Open,
}

/// A descriptor that outlives a call. It never has a number below 3.
#[derive(Debug)]
pub struct Descriptor {
    number: RawFd,
    serial: u64,
    opened: Opened,
}

impl Descriptor {
    /// Keeps what `open` opens, which must not fork and not make another one.
    pub(crate) fn open<E>(open: impl FnOnce() -> Result<OwnedFd, E>) -> io::Result<Self>
    where
        io::Error: From<E>,
    {
        Self::open_as(InChildren::Closed, open)
    }

    pub(crate) fn open_as<E>(in_children: InChildren, open: impl FnOnce() -> Result<OwnedFd, E>) -> io::Result<Self>
    where
        io::Error: From<E>,
    {
        let _no_fork = ForkGuard::new();
        let descriptor = above_standard(open()?)?;
        let number = descriptor.as_raw_fd();
        let opened = Opened::at(number).ok_or(Errno::EBADF)?;
        let serial = note(number, opened, in_children == InChildren::Open)?;
        Ok(Self { number: descriptor.into_raw_fd(), serial, opened })
    }

    /// Opens a second description of an open file, whether it has a name or not.
    pub(crate) fn reopen(file: impl AsFd, access: Access) -> io::Result<Self> {
        Self::open(|| open::reopen(file, access))
    }

    /// Whether the number still refers to what was opened.
    pub(crate) fn is_intact(&self) -> bool {
        is_noted(self.number, self.serial) && Opened::at(self.number) == Some(self.opened)
    }

    /// The number, whatever it refers to now.
    pub(crate) fn number(&self) -> RawFd {
        self.number
    }
}

impl AsFd for Descriptor {
    /// If the number no longer refers to what was opened, one for which every call fails with
    /// EBADF.
    fn as_fd(&self) -> BorrowedFd<'_> {
        let number = if self.is_intact() { self.number } else { NOWHERE };
        // SAFETY: not -1. Either the descriptor that `self` keeps open, or a number that the kernel
        // gives to no file, so that no call with it can reach one.
        unsafe { BorrowedFd::borrow_raw(number) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_intact() {
            // SAFETY: what the library opened is still there, and `self` alone closes it.
            unsafe { libc::close(self.number) };
        }
        forget(self.number, self.serial);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use rustix::io::DupFlags;

    use super::*;

    fn temporary() -> io::Result<OwnedFd> {
        Ok(tempfile::tempfile_in("/dev/shm")?.into())
    }

    /// Puts another file under a number, as a program does that closes and opens.
    fn replace(number: RawFd) -> Opened {
        let other = temporary().unwrap();
        // SAFETY: the number is open, and is not closed when this owner is forgotten.
        let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup3(&other, &mut target, DupFlags::CLOEXEC).unwrap();
        Opened::at(number).unwrap()
    }

    #[test]
    fn a_number_that_got_another_file_is_neither_used_nor_closed() {
        let kept = Descriptor::open(temporary).unwrap();
        assert!(kept.is_intact() && kept.as_fd().as_raw_fd() == kept.number());
        let number = kept.number();
        let other = replace(number);
        assert!(!kept.is_intact());
        assert_eq!(nix::sys::stat::fstat(&kept).unwrap_err(), Errno::EBADF);
        drop(kept);
        assert_eq!(Opened::at(number), Some(other));
        // SAFETY: `replace` opened it, and nothing else closes it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }

    #[test]
    fn a_number_that_the_library_got_again_belongs_to_the_newer_handle() {
        let file = temporary().unwrap();
        let older = Descriptor::open(|| file.try_clone()).unwrap();
        // SAFETY: as a program that closes what it did not open.
        unsafe { libc::close(older.number()) };
        // The same file under the same number: only the note tells them apart.
        let dup = || rustix::io::fcntl_dupfd_cloexec(&file, older.number());
        let newer = Descriptor::open(dup).unwrap();
        if newer.number() == older.number() {
            assert!(!older.is_intact());
            drop(older);
        }
        assert!(newer.is_intact());
    }

    #[test]
    fn a_forked_child_has_none_of_them_and_closes_no_other_file() {
        let kept = Descriptor::open(temporary).unwrap();
        let shown = Descriptor::open_as(InChildren::Open, temporary).unwrap();
        // SAFETY: the child makes no calls but those on descriptors, and exits.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let is_closed = Opened::at(kept.number()).is_none() && shown.is_intact();
                // SAFETY: as `close_in_child` closed it, the number is free for the child's files.
                let own = unsafe { libc::fcntl(shown.number(), libc::F_DUPFD, kept.number()) };
                drop((kept, shown));
                // SAFETY: `_exit` is async-signal-safe.
                unsafe { libc::_exit(i32::from(!is_closed || Opened::at(own).is_none())) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                assert!(kept.is_intact() && shown.is_intact());
            }
        }
    }
}
