//! Writes replies and events to a client.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use conduit::internal::protocol::{Reply, encode};
use conduit::registry::RegistryError;
use nix::sys::socket::{MsgFlags, send};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::keeper::Keeper;
use crate::limits::Admission;

/// How long a client may leave a reply unread once its socket buffer is full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Refuses a client that is not admitted. The empty buffer of a new socket has room for the reply.
pub(super) fn refuse(stream: &impl AsRawFd, error: RegistryError) {
    let _ = send_now(stream, &encode(&Reply::from(error)));
}

/// Sends what fits into the socket buffer.
fn send_now(stream: &impl AsRawFd, bytes: &[u8]) -> nix::Result<usize> {
    send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
}

/// The way back to a client.
pub(super) struct ReplyWriter {
    pub(super) stream: UnixStream,
    pub(super) admission: Admission,
    pub(super) keeper: Keeper,
}

impl ReplyWriter {
    /// Sends an error as the reply.
    pub(super) async fn refuse(&self, error: RegistryError) -> io::Result<()> {
        self.send(&encode(&Reply::from(error))).await
    }

    /// Sends a reply, which the client must read within [`WRITE_TIMEOUT`].
    pub(super) async fn send(&self, reply: &[u8]) -> io::Result<()> {
        match self.try_write(reply)? {
            sent if sent == reply.len() => Ok(()),
            // Boxed: most connections never need room for it.
            sent => Box::pin(self.send_rest(reply, sent)).await,
        }
    }

    async fn send_rest(&self, reply: &[u8], sent: usize) -> io::Result<()> {
        let mut charge = self.admission.charge();
        charge.set(reply.len()).map_err(io::Error::other)?;
        let written = timeout(WRITE_TIMEOUT, self.write_rest(&reply[sent..])).await;
        written.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// Sends bytes that the client may read at any time.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.try_write(bytes)? {
            sent if sent == bytes.len() => Ok(()),
            sent => Box::pin(self.write_rest(&bytes[sent..])).await,
        }
    }

    pub(super) async fn write_rest(&self, mut bytes: &[u8]) -> io::Result<()> {
        let rest = async {
            while !bytes.is_empty() {
                self.stream.writable().await?;
                bytes = &bytes[self.try_write(bytes)?..];
            }
            Ok(())
        };
        self.keeper.without(&self.stream, rest).await
    }

    /// Writes what fits into the socket buffer.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        // The event loop need not have heard of a new socket, and has to hear of one that is full.
        let mut sent = send_now(&self.stream, bytes).unwrap_or(0);
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}
