//! What the messages hold: words that tell a message from every other, so that a torn one is found.

/// A permutation of the indices when multiplied with them: odd, and with bits in all places.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Writes a message: its index, and words that depend on the index and their place.
#[inline]
pub(super) fn write(index: u64, words: &mut [u64]) {
    let base = index.wrapping_mul(FACTOR);
    for (place, word) in words.iter_mut().enumerate() {
        *word = base.wrapping_add(place as u64);
    }
    if let Some(first) = words.first_mut() {
        *first = index;
    }
}

/// Compares a message with what was written under this index; returns the place of the first wrong byte.
#[inline]
pub(super) fn check(index: u64, words: &[u64]) -> Result<(), usize> {
    let base = index.wrapping_mul(FACTOR);
    let Some((first, rest)) = words.split_first() else { return Ok(()) };
    // Without a branch in the loop the compiler compares many words at once.
    let differing = |all, (place, word): (usize, &u64)| all | (word ^ base.wrapping_add(place as u64 + 1));
    if rest.iter().enumerate().fold(first ^ index, differing) == 0 { Ok(()) } else { Err(first_wrong(index, words)) }
}

#[cold]
fn first_wrong(index: u64, words: &[u64]) -> usize {
    let mut expected = vec![0; words.len()];
    write(index, &mut expected);
    let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
    bytes(&expected).iter().zip(bytes(words)).take_while(|(expected, found)| **expected == *found).count()
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
        for index in [0, 5, u64::MAX] {
            assert_eq!(check(index, &message(index)), Ok(()));
            for bit in 0..9 * 64 {
                let mut words = message(index);
                words[bit / 64] ^= (1_u64 << (bit % 64)).to_le();
                assert_eq!(check(index, &words), Err(bit / 8), "{index}");
            }
        }
        assert_eq!(check(3, &[]), Ok(()));
    }

    #[test]
    fn torn_and_stale_messages_are_found() {
        assert_eq!(check(5, &message(4)), Err(0));
        for at in 1..9 {
            let torn = [&message(5)[..at], &message(4)[at..]].concat();
            assert!(check(5, &torn).is_err_and(|byte| byte / 8 == at), "{at}");
        }
    }
}
