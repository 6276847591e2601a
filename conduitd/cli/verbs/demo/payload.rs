//! The content of the demo's messages: always the same, encoded differently in each message.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::failure::Failure;

/// Index of the message, before its content.
const INDEX_BYTES: usize = 8;
/// Points of the default point cloud.
pub(crate) const POINTS: u64 = 1_000_000;

/// The content of all messages, each encoded with a key of its own.
///
/// Every word of a message depends on the message's index, so bytes of an older message, or of two
/// messages, never pass for one of this.
#[derive(Debug)]
pub(crate) struct Payload {
    content: Vec<u8>,
}

impl Payload {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let content = fs::read(path).map_err(Failure::io("read", path))?;
        Ok(Self { content })
    }

    /// Length of a message.
    pub(crate) fn message_len(&self) -> usize {
        INDEX_BYTES + self.content.len()
    }

    /// Writes a message.
    pub(crate) fn write(&self, index: u64, message: &mut [u8]) {
        let key = key(index);
        let Some((head, body)) = message.split_first_chunk_mut() else { return };
        *head = index.to_ne_bytes();
        let (to, to_rest) = body.as_chunks_mut::<8>();
        let (from, from_rest) = self.content.as_chunks::<8>();
        for (to, from) in to.iter_mut().zip(from) {
            *to = (u64::from_ne_bytes(*from) ^ key).to_ne_bytes();
        }
        for ((to, from), key) in to_rest.iter_mut().zip(from_rest).zip(key.to_ne_bytes()) {
            *to = from ^ key;
        }
    }

    /// Compares every bit of a message with what was sent. The error is the offset of the first
    /// wrong byte, or the length if that is wrong.
    pub(crate) fn check(&self, index: u64, message: &[u8]) -> Result<(), usize> {
        if message.len() != self.message_len() {
            return Err(message.len());
        }
        let key = key(index);
        let (head, body) = message.split_at(INDEX_BYTES);
        let (found, found_rest) = body.as_chunks::<8>();
        let (sent, sent_rest) = self.content.as_chunks::<8>();
        // Without a branch in the loop the compiler compares many words at once.
        let words = found.iter().zip(sent);
        let difference =
            words.fold(0, |all, (found, sent)| all | (u64::from_ne_bytes(*found) ^ u64::from_ne_bytes(*sent) ^ key));
        let rest_differs =
            found_rest.iter().zip(sent_rest).zip(key.to_ne_bytes()).any(|((found, sent), key)| *found != sent ^ key);
        if difference == 0 && !rest_differs && head == index.to_ne_bytes() {
            return Ok(());
        }
        let mut sent = vec![0; self.message_len()];
        self.write(index, &mut sent);
        Err(sent.iter().zip(message).position(|(sent, found)| sent != found).unwrap_or(message.len()))
    }
}

/// A number that belongs to this index alone (splitmix64, a permutation).
fn key(index: u64) -> u64 {
    let mut key = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// Writes a synthetic lidar scan of a round room: arrays of x, y and z as `f32`, cut or repeated to
/// the size asked for.
pub(crate) fn write_point_cloud(size_bytes: u64, to: &mut impl Write) -> io::Result<()> {
    const RINGS: u64 = 64;
    let angle = |point: u64| (point / RINGS) as f32 * (std::f32::consts::TAU * RINGS as f32 / POINTS as f32);
    let x = (0..POINTS).map(|point| 10.0 * angle(point).cos());
    let y = (0..POINTS).map(|point| 10.0 * angle(point).sin());
    let z = (0..POINTS).map(|point| (point % RINGS) as f32 * 0.05);
    let mut left = size_bytes;
    for float in x.chain(y).chain(z).cycle() {
        if left == 0 {
            break;
        }
        let bytes = f32::to_ne_bytes(float);
        let len = left.min(bytes.len() as u64);
        to.write_all(&bytes[..len as usize])?;
        left -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(len: usize) -> Payload {
        Payload { content: (0..len).map(|at| (at * 7) as u8).collect() }
    }

    fn message(payload: &Payload, index: u64) -> Vec<u8> {
        let mut message = vec![0xaa; payload.message_len()];
        payload.write(index, &mut message);
        message
    }

    #[test]
    fn a_message_of_any_length_passes() {
        for len in [0, 1, 7, 8, 9, 100, 4096] {
            let payload = payload(len);
            assert_eq!(payload.check(3, &message(&payload, 3)), Ok(()), "{len}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let payload = payload(45);
        for bit in 0..payload.message_len() * 8 {
            let mut flipped = message(&payload, 5);
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(payload.check(5, &flipped), Err(bit / 8));
        }
    }

    #[test]
    fn stale_torn_and_short_messages_are_found() {
        let payload = payload(64);
        assert_eq!(payload.check(5, &message(&payload, 4)), Err(0));
        let torn = [&message(&payload, 5)[..40], &message(&payload, 4)[40..]].concat();
        assert_eq!(payload.check(5, &torn), Err(40));
        assert_eq!(payload.check(5, &message(&payload, 5)[..40]), Err(40));
    }

    #[test]
    fn the_point_cloud_has_the_size_asked_for() {
        let point_cloud = |size| {
            let mut bytes = Vec::new();
            write_point_cloud(size, &mut bytes).unwrap();
            bytes
        };
        for size in [0, 3, 4, 4_000_001, 12_000_000] {
            assert_eq!(point_cloud(size).len() as u64, size);
        }
        let repeated = point_cloud(12_000_008);
        assert_eq!(repeated[..8], repeated[12_000_000..]);
    }
}
