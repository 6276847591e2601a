//! Checks on a client's socket that consume nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Whether the client has closed the connection, or will read no more: poll(2) reports that
/// unasked.
pub(crate) fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whether everything that the client sent before it hung up has been read.
pub(crate) fn is_drained(stream: &UnixStream) -> bool {
    recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Ok(0)
}

/// Copies what can be read; `None` if nothing has arrived, `Some(0)` at the end of the stream.
pub(crate) fn peek(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let peek = || recv(stream.as_raw_fd(), chunk, flags).map_err(io::Error::from);
    match stream.try_io(Interest::READABLE, peek) {
        Ok(len) => Ok(Some(len)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
