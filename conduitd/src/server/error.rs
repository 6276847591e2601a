//! Why the daemon could not start.

use std::io;
use std::path::{Path, PathBuf};

use conduit::internal::foreign_text::clean;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process listens on the socket.
    #[error("{who} listens on {} already; stop it, or choose another --socket", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
        /// The other process: a registry, or the program that the kernel names.
        who: String,
    },
    /// Another daemon serves the directory.
    #[error("another registry serves {} already{}; stop it, or choose another --shm-dir", path.display(), who(*pid, socket.as_deref()))]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
        /// The other daemon's pid, from its lock file.
        pid: Option<u32>,
        /// The other daemon's socket, from its lock file.
        socket: Option<String>,
    },
    /// The directory was replaced by another one while the daemon served it.
    #[error("{} was removed or replaced; the daemon ends, for its service manager to start it anew", path.display())]
    DirectoryReplaced {
        /// The directory.
        path: PathBuf,
    },
    /// The service manager passed a socket, and the command line names another one.
    #[error(
        "systemd passes the socket {}, but --socket is {}; leave --socket out, or change ListenStream= of the socket unit",
        passed.display(),
        asked.display()
    )]
    OtherSocket {
        /// The socket that was passed.
        passed: PathBuf,
        /// The socket that was asked for.
        asked: PathBuf,
    },
    /// There is no default socket for this user.
    #[error("no default path for the socket: give --socket or set XDG_RUNTIME_DIR")]
    NoSocket,
    /// The socket's name is taken by something else.
    #[error("{} is not a socket; choose another --socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The policy file is missing or invalid.
    #[error("{0}")]
    Policy(String),
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn who(pid: Option<u32>, socket: Option<&str>) -> String {
    match (pid, socket) {
        (Some(pid), Some(socket)) => format!(" (pid {pid}, at {})", clean(socket)),
        (Some(pid), None) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError + use<> {
    let path = path.to_owned();
    move |source| StartError::Io { doing, path, source }
}
