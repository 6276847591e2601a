//! Messages with a known value for every byte, and reproducible random numbers.

/// The content of message `number`, so that bytes of another message are detected.
fn pattern(number: u64, word: usize) -> [u8; 8] {
    (number ^ word as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()
}

pub fn is_pattern(number: u64, message: &[u8]) -> bool {
    let mut words = message.chunks(8).enumerate();
    words.all(|(at, word)| *word == pattern(number, at)[..word.len()])
}

pub fn fill_pattern(number: u64, message: &mut [u8]) {
    for (at, word) in message.chunks_mut(8).enumerate() {
        word.copy_from_slice(&pattern(number, at)[..word.len()]);
    }
}

/// SplitMix64: the same seed gives the same numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len() as u64) as usize]
    }
}
