//! What tokio does not offer on a client's socket: checks that consume nothing, and reading without
//! the event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;

const PEEK: MsgFlags = MsgFlags::MSG_PEEK.union(MsgFlags::MSG_DONTWAIT);

/// Whether the client has closed the connection, or will read no more: poll(2) reports that
/// unasked.
pub(crate) fn has_hung_up(stream: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Notices that a client hangs up which sends nothing more, but still reads.
pub(crate) struct HangUp {
    /// With a readiness of its own, so that whoever writes misses nothing that is noticed here.
    socket: UnixStream,
}

impl HangUp {
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
        Ok(Self { socket: UnixStream::from_std(socket)? })
    }

    /// Waits until the client hangs up; for ever if there is no client to wait for.
    pub(crate) async fn wait(client: Option<&Self>) -> io::Result<()> {
        let Some(Self { socket }) = client else { return std::future::pending().await };
        loop {
            // Epoll reports it with what is writable.
            socket.writable().await?;
            if has_hung_up(socket) {
                return Ok(());
            }
            // Tokio notes that it is not writable, and waits for the next report.
            let _ = socket.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }
}

/// Whether everything that the client sent before it hung up has been read.
pub(crate) fn is_drained(stream: &impl AsRawFd) -> bool {
    recv(stream.as_raw_fd(), &mut [0], PEEK) == Ok(0)
}

/// Copies what can be read; `None` if nothing has arrived, `Some(0)` at the end of the stream.
pub(crate) fn peek(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    let read = stream.try_io(Interest::READABLE, || Ok(recv(stream.as_raw_fd(), chunk, PEEK)?));
    if_arrived(read)
}

/// The same, for bytes that the event loop need not have heard of.
pub(crate) fn peek_now(stream: &impl AsRawFd, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    if_arrived(recv(stream.as_raw_fd(), chunk, PEEK).map_err(io::Error::from))
}

/// Removes as many bytes, which have arrived.
pub(crate) fn take(stream: &impl AsRawFd, chunk: &mut [u8]) {
    if !chunk.is_empty() {
        let _ = recv(stream.as_raw_fd(), chunk, MsgFlags::MSG_DONTWAIT);
    }
}

fn if_arrived(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(len) => Ok(Some(len)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
