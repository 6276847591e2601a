//! Where the log goes: standard error, or the journal.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::queue::LogSink;

/// Lines on standard error.
pub(super) struct StandardError;

impl LogSink for StandardError {
    fn write(&mut self, mut entry: &[u8]) -> io::Result<()> {
        // Not through its lock, which would be held for as long as this blocks.
        let stderr = io::stderr();
        while !entry.is_empty() {
            match nix::unistd::write(&stderr, entry) {
                Ok(written) => entry = &entry[written..],
                Err(Errno::EINTR) => {}
                // Another process that has it open made it non-blocking.
                Err(Errno::EAGAIN) => {
                    let _ = poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// The socket of the journal: see its
/// [native protocol](https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Fails if the journal cannot be reached.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Found out without sending anything, which could block.
        UnixDatagram::unbound()?.connect(path)?;
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.into() })
    }
}

impl LogSink for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<()> {
        // Not connected: the journal may be started anew, with another socket.
        self.socket.send_to(entry, &self.path).map(drop)
    }
}
