//! The contents of messages: words that tell a message from every other one, so that a torn message
//! is found.

use crate::{BenchError, Result};

/// Odd and with bits in all places: multiplying by it permutes the indices.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// First word of the message that ends a turn.
pub const END: u64 = u64::MAX;
/// Set in the index of an answer.
pub const ANSWER: u64 = 1 << 63;
/// Words of a cache line.
const LINE_WORDS: usize = 8;

/// How much of a message is written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Its first cache line.
    Header,
    /// Every byte.
    Whole,
}

impl Touch {
    /// That much of a message.
    #[inline]
    pub fn of(self, words: &[u64]) -> &[u64] {
        match self {
            Self::Header => &words[..words.len().min(LINE_WORDS)],
            Self::Whole => words,
        }
    }

    /// The same, to write.
    #[inline]
    pub fn of_mut(self, words: &mut [u64]) -> &mut [u64] {
        let touched = self.of(words).len();
        &mut words[..touched]
    }
}

/// Writes the words of a message: its index, and words that depend on the index and their position.
#[inline]
pub fn write(index: u64, words: &mut [u64]) {
    let base = index.wrapping_mul(FACTOR);
    for (position, word) in words.iter_mut().enumerate() {
        *word = base.wrapping_add(position as u64);
    }
    if let Some(first) = words.first_mut() {
        *first = index;
    }
}

/// Compares the words of a message with what was written under this index.
#[inline]
pub fn check(index: u64, words: &[u64]) -> Result<()> {
    let base = index.wrapping_mul(FACTOR);
    let Some((first, rest)) = words.split_first() else { return Ok(()) };
    // Without a branch in the loop the compiler compares many words at once.
    let differing = |all, (position, word): (usize, &u64)| all | (word ^ base.wrapping_add(position as u64 + 1));
    if rest.iter().enumerate().fold(first ^ index, differing) == 0 { Ok(()) } else { Err(damaged(index, words)) }
}

#[cold]
fn damaged(index: u64, words: &[u64]) -> BenchError {
    let mut expected = vec![0; words.len()];
    write(index, &mut expected);
    let at = expected.iter().zip(words).position(|(expected, found)| expected != found).unwrap_or_default();
    let (expected, found, count) = (expected[at], words[at], words.len());
    format!(
        "message {index} is damaged: word {at} of {count} is {found:#x} instead of {expected:#x}: \
         this must not happen, please report it"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: u64) -> [u64; 9] {
        let mut words = [7; 9];
        write(index, &mut words);
        words
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for index in [0, 5, 5 | ANSWER, u64::MAX] {
            check(index, &message(index)).unwrap();
            for bit in 0..9 * 64 {
                let mut words = message(index);
                words[bit / 64] ^= 1 << (bit % 64);
                let error = check(index, &words).unwrap_err().to_string();
                assert!(error.contains(&format!("word {} ", bit / 64)), "{index} {bit}: {error}");
            }
        }
        check(3, &[]).unwrap();
    }

    #[test]
    fn torn_and_stale_messages_are_found() {
        assert!(check(5, &message(4)).is_err());
        for at in 1..9 {
            let torn = [&message(5)[..at], &message(4)[at..]].concat();
            assert!(check(5, &torn).unwrap_err().to_string().contains(&format!("word {at} ")), "{at}");
        }
    }

    #[test]
    fn the_header_is_a_cache_line() {
        assert_eq!([1, 8, 9].map(|words| Touch::Header.of(&vec![0; words]).len()), [1, 8, 8]);
        assert_eq!(Touch::Whole.of(&[0; 9]).len(), 9);
    }
}
