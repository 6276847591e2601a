//! Opening a file that is open already, the modes in which files are opened, and the numbers that
//! their descriptors get.
//!
//! A process may be started with standard input, output or error closed, or close them, and still
//! print: its text goes to whatever has the number then. So no descriptor of the library keeps a
//! number below 3 ([`above_standard`]), none has one even for a moment while it can write to a
//! region ([`open_writable`]), and those that are kept are not writable unless they must be.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::libc::mode_t;
use nix::sys::stat::{FileStat, Mode, fstat};
use rustix::io::fcntl_dupfd_cloexec;

/// The first number that does not stand for standard input, output or error.
const FIRST_NUMBER: RawFd = 3;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

impl Access {
    pub(super) fn flag(self) -> OFlag {
        match self {
            Self::Read => OFlag::O_RDONLY,
            Self::ReadWrite => OFlag::O_RDWR,
        }
    }
}

/// Why a file of the shared-memory directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFileError {
    #[error("there is no such file")]
    NotFound,
    #[error("permission denied")]
    NoPermission,
    /// A link, a directory, a device, or a mount point.
    #[error("it is not a regular file of the directory")]
    NotRegular,
    /// Another process holds a lease on it.
    #[error("it is leased by another process")]
    Leased,
    #[error(transparent)]
    Io(io::Error),
}

impl From<OpenFileError> for io::Error {
    fn from(error: OpenFileError) -> Self {
        match error {
            OpenFileError::NotFound => io::ErrorKind::NotFound.into(),
            OpenFileError::NoPermission => io::ErrorKind::PermissionDenied.into(),
            OpenFileError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

/// Gives a new descriptor a number of 3 or more.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() >= FIRST_NUMBER {
        return Ok(descriptor);
    }
    Ok(fcntl_dupfd_cloexec(&descriptor, FIRST_NUMBER)?)
}

/// Opens a file so that its descriptor never has a number below 3, not even until it is moved:
/// another thread may print at that moment.
pub(crate) fn open_writable<E>(open: impl FnOnce() -> Result<OwnedFd, E>) -> io::Result<OwnedFd>
where
    io::Error: From<E>,
{
    let _taken = take_standard_numbers()?;
    above_standard(open()?)
}

/// Takes the numbers below 3 that are free, with descriptors that can neither be read nor written.
fn take_standard_numbers() -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    loop {
        let descriptor = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        if descriptor.as_raw_fd() >= FIRST_NUMBER {
            return Ok(taken);
        }
        taken.push(descriptor);
    }
}

/// Opens a file for this access, with a number of 3 or more.
pub(super) fn open_for<E>(access: Access, open: impl FnOnce() -> Result<OwnedFd, E>) -> io::Result<OwnedFd>
where
    io::Error: From<E>,
{
    match access {
        Access::Read => above_standard(open()?),
        Access::ReadWrite => open_writable(open),
    }
}

/// The path of an open file in /proc, whether it has a name or not.
///
/// Of the calling thread, not of the process: `/proc/self` shows the descriptors of the main
/// thread, which may have ended, or have other ones (`unshare(CLONE_FILES)`).
pub(super) fn proc_path(file: impl AsFd) -> String {
    format!("/proc/thread-self/fd/{}", file.as_fd().as_raw_fd())
}

/// Opens a second description of an open file, whether it has a name or not. Under a `ForkGuard`:
/// a child must not inherit it.
pub(crate) fn reopen(file: impl AsFd, access: Access) -> io::Result<OwnedFd> {
    let path = proc_path(&file);
    let flags = access.flag() | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let reopened = open_for(access, || nix::fcntl::open(path.as_str(), flags, Mode::empty()))?;
    let (expected, found) = (fstat(&file)?, fstat(&reopened)?);
    if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino) {
        return Err(io::Error::other(format!("{path} is another file; mount /proc for this process's pid namespace")));
    }
    Ok(reopened)
}

pub(crate) fn is_regular(stat: &FileStat) -> bool {
    stat.st_mode & nix::libc::S_IFMT as mode_t == nix::libc::S_IFREG as mode_t
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustix::io::DupFlags;
    use rustix::thread::UnshareFlags;

    use super::*;

    #[test]
    fn a_file_is_reopened_in_a_thread_with_descriptors_of_its_own() {
        let read = std::thread::spawn(|| {
            // In the table of the other threads, this number stays that of an empty file.
            let mut descriptor = OwnedFd::from(tempfile::tempfile().unwrap());
            // SAFETY: from here on this thread uses only descriptors that it opens.
            #[allow(unsafe_code)]
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }.unwrap();
            let mut own = tempfile::tempfile().unwrap();
            own.write_all(b"own").unwrap();
            rustix::io::dup3(&own, &mut descriptor, DupFlags::CLOEXEC).unwrap();
            let mut text = String::new();
            std::fs::File::from(reopen(&descriptor, Access::Read).unwrap()).read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(read.join().unwrap(), "own");
    }
}
