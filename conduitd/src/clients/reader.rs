//! Reads the messages of a client, within its limits.

use std::io;
use std::time::Duration;

use conduit::internal::protocol::END;
use conduit::registry::RegistryError;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::frames::{Decoder, Frame};
use crate::limits::Charge;
use crate::sockets::{peek, peek_now, take};

/// How long a message may take from its first byte to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message that is read without a decoder, in bytes.
const CHUNK_BYTES: usize = 4096;

/// What a client sent.
pub(super) enum Incoming {
    Message(Vec<u8>),
    /// A message over a limit: nothing that follows can be understood.
    Unacceptable(RegistryError),
    End,
}

/// Reads messages. Dropping the future of [`next`](Self::next) loses nothing.
pub(super) struct CallReader {
    decoder: Decoder,
    limit: usize,
    /// The memory of the unfinished message.
    charge: Charge,
    /// When the unfinished message must be complete.
    deadline: Option<Instant>,
    /// Bytes of the current message that stay in the socket until [`finish`](Self::finish).
    peeked: usize,
    /// Nothing has been read yet. Most clients send their first call with the connection: it is
    /// there before the event loop has heard of the socket.
    is_new: bool,
}

impl CallReader {
    /// `limit`: of a message, in bytes.
    pub(super) fn new(limit: usize, charge: Charge) -> Self {
        Self { decoder: Decoder::new(limit), limit, charge, deadline: None, peeked: 0, is_new: true }
    }

    /// Whether a part of the next message has been read.
    pub(super) fn has_next(&self) -> bool {
        self.decoder.has_bytes()
    }

    pub(super) async fn next(&mut self, stream: &UnixStream) -> io::Result<Incoming> {
        loop {
            match self.decoder.next() {
                Some(Frame::Message(message)) => {
                    self.deadline = None;
                    return Ok(Incoming::Message(message));
                }
                Some(Frame::TooLong) => return Ok(exceeded("bytes in a message", self.limit as u64)),
                None => {}
            }
            let pending = self.decoder.pending();
            if let Err(error) = self.charge.set(pending) {
                return Ok(Incoming::Unacceptable(error));
            }
            if std::mem::take(&mut self.is_new)
                && let Some(message) = self.peek_message(&mut [0; CHUNK_BYTES], |chunk| peek_now(stream, chunk))?
            {
                return Ok(Incoming::Message(message));
            }
            if pending == 0 {
                stream.readable().await?;
            } else {
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + MESSAGE_TIMEOUT);
                let Ok(readable) = timeout_at(deadline, stream.readable()).await else {
                    return Ok(exceeded("seconds from a message's begin to its end", MESSAGE_TIMEOUT.as_secs()));
                };
                readable?;
            }
            // Only now, so that the future of a silent client has no room for it.
            let mut chunk = [0; CHUNK_BYTES];
            if pending == 0
                && let Some(message) = self.peek_message(&mut chunk, |chunk| peek(stream, chunk))?
            {
                return Ok(Incoming::Message(message));
            }
            match stream.try_read(&mut chunk) {
                Ok(0) => return Ok(Incoming::End),
                Ok(len) => self.decoder.push(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message, if all of it has arrived. It stays in the socket until
    /// [`finish`](Self::finish).
    fn peek_message(
        &mut self,
        chunk: &mut [u8],
        peek: impl FnOnce(&mut [u8]) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<Vec<u8>>> {
        let len = peek(chunk)?.unwrap_or(0);
        let end = chunk[..len].iter().position(|&byte| byte == END).filter(|&end| end <= self.limit);
        self.peeked = end.map_or(0, |end| end + 1);
        Ok(end.map(|end| chunk[..end].to_vec()))
    }

    /// Removes the current message from the socket.
    pub(super) fn finish(&mut self, stream: &UnixStream) {
        let mut chunk = [0; CHUNK_BYTES];
        // Only this reader reads: the peeked bytes are still there.
        take(stream, &mut chunk[..self.peeked]);
        self.peeked = 0;
    }
}

fn exceeded(what: &str, limit: u64) -> Incoming {
    Incoming::Unacceptable(RegistryError::LimitExceeded { what: what.into(), limit })
}
