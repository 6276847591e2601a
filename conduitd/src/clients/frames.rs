//! Splits a stream of bytes into messages, each of which ends with a NUL byte.

use conduit::internal::protocol::END;

/// What the stream contains next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message, without its NUL byte.
    Message(Vec<u8>),
    /// More bytes without a NUL byte than a message may have. Nothing useful can follow.
    TooLong,
}

/// The bytes of incomplete messages. Holds no memory while there are none.
#[derive(Debug)]
pub(crate) struct Decoder {
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were returned as messages.
    taken: usize,
    /// Bytes of the buffer that were searched for a NUL byte.
    searched: usize,
}

impl Decoder {
    /// A decoder of messages of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), taken: 0, searched: 0 }
    }

    /// Adds bytes. The caller takes all messages out before it adds more, so that at most one
    /// message and a chunk are kept.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.searched -= self.taken;
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is complete.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == END) {
            let end = self.searched + at;
            let message = &self.buffer[self.taken..end];
            let frame = if message.len() > self.limit { Frame::TooLong } else { Frame::Message(message.to_vec()) };
            self.taken = end + 1;
            self.searched = self.taken;
            if self.taken == self.buffer.len() {
                self.clear();
            }
            return Some(frame);
        }
        self.searched = self.buffer.len();
        (self.pending() > self.limit).then(|| {
            self.clear();
            Frame::TooLong
        })
    }

    /// Whether any bytes were not returned.
    pub(crate) fn has_bytes(&self) -> bool {
        self.taken < self.buffer.len()
    }

    /// Bytes of the incomplete message.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len() - self.taken
    }

    fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(limit: usize, chunks: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = Decoder::new(limit);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            frames.extend(std::iter::from_fn(|| decoder.next()));
        }
        frames
    }

    fn message(bytes: &[u8]) -> Frame {
        Frame::Message(bytes.to_vec())
    }

    #[test]
    fn messages_are_independent_of_the_chunks() {
        let expected = [message(b"ab"), message(b"cd"), message(b"")];
        assert_eq!(frames(9, &[b"ab\0c", b"d", b"\0\0e"]), expected);
    }

    #[test]
    fn a_message_over_the_limit_is_too_long() {
        assert_eq!(frames(4, &[b"1234", b"\0"]), [message(b"1234")]);
        assert_eq!(frames(4, &[b"1234", b"5"]), [Frame::TooLong]);
        assert_eq!(frames(4, &[b"12345\0"]), [Frame::TooLong]);
    }

    #[test]
    fn no_memory_is_kept_between_messages() {
        let mut decoder = Decoder::new(100);
        decoder.push(b"abc\0d");
        assert_eq!((decoder.next(), decoder.next(), decoder.pending()), (Some(message(b"abc")), None, 1));
        decoder.push(b"\0");
        assert_eq!((decoder.next(), decoder.next(), decoder.pending()), (Some(message(b"d")), None, 0));
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_chunks_give_the_same_messages(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(b'x')], 0..200),
            chunk in 1usize..40,
        ) {
            let whole: Vec<Frame> = bytes.split(|&byte| byte == 0).map(message).collect();
            let chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
            // Bytes after the last NUL byte are not a message.
            prop_assert_eq!(frames(200, &chunks), &whole[..whole.len() - 1]);
        }
    }
}
