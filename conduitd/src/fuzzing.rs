//! What the fuzzer drives; compiled for it alone.

use conduit::internal::protocol::Call;

use crate::frames::{Decoder, Frame};
use crate::{connection, registry};

/// Cuts bytes that arrive in chunks as their first byte says, and parses what comes out. The cuts must be those of the NUL
/// bytes.
pub fn frames(data: &[u8]) {
    const LIMIT: usize = 64;
    let Some((first, bytes)) = data.split_first() else { return };
    let mut decoder = Decoder::new(LIMIT);
    let mut whole = bytes.split(|byte| *byte == 0);
    for chunk in bytes.chunks(usize::from(*first).max(1)) {
        decoder.push(chunk);
        while let Some(frame) = decoder.next() {
            let expected = whole.next().unwrap_or_default();
            match frame {
                Frame::TooLong => {
                    assert!(expected.len() > LIMIT);
                    return;
                }
                Frame::Message(message) => {
                    assert_eq!(message, expected);
                    call(&message);
                }
            }
        }
        assert!(decoder.pending() <= LIMIT);
    }
}

/// Parses a message as the daemon does, up to the point where the registry is asked.
pub fn call(message: &[u8]) {
    if let Ok(call) = serde_json::from_slice::<Call>(message) {
        connection::parse_any(&call.method, call.parameters);
    }
}

/// Drives the registry.
pub fn registry(data: &[u8]) {
    registry::exercise::run(data);
}
