//! Opening a file that is open already, and the modes in which files are opened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::libc::mode_t;
use nix::sys::stat::{FileStat, Mode};

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

/// Opens a second description of an open file, whether it has a name or not.
pub(crate) fn reopen(file: impl AsFd, access: Access) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = access.flag() | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    Ok(nix::fcntl::open(path.as_str(), flags, Mode::empty())?)
}

pub(crate) fn is_regular(stat: &FileStat) -> bool {
    stat.st_mode & nix::libc::S_IFMT as mode_t == nix::libc::S_IFREG as mode_t
}
