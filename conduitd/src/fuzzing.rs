//! The entry points of the fuzz targets; compiled only for them.

use crate::clients::call::IncomingCall;
use crate::clients::frames::{Decoder, Frame};
use crate::clients::request::Request;
use crate::registry;

/// Splits bytes into messages, in chunks of the size that the first byte gives, and parses them.
/// The messages must end at the NUL bytes.
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

/// Parses a message as the daemon does, up to the request.
pub fn call(message: &[u8]) {
    if let Ok(call) = IncomingCall::parse(message) {
        let _ = Request::parse(&call.method, call.parameters);
    }
}

/// Drives the pure registry.
pub fn registry(data: &[u8]) {
    registry::exercise::run(data);
}
