//! When a turn ends.

use std::time::{Duration, Instant};

/// By how much a turn may exceed its time for the sake of its rounds. On a machine that is busy
/// with other things a round can take many milliseconds.
const LONGEST_EXTENSION: Duration = Duration::from_millis(500);

/// When a turn ends: after this time and so many rounds.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// Not before.
    pub end: Instant,
    /// Not after fewer rounds, unless they take half a second longer.
    pub rounds: u64,
}

impl Until {
    /// Whether the turn is over after so many rounds.
    #[inline]
    pub fn is_over(self, rounds: u64, now: Instant) -> bool {
        now >= self.end && (rounds >= self.rounds || now >= self.end + LONGEST_EXTENSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_waits_for_its_rounds_but_not_forever() {
        let end = Instant::now();
        let until = Until { end, rounds: 2 };
        assert!(!until.is_over(2, end - Duration::from_millis(1)), "its time is not over");
        assert!(!until.is_over(1, end + Duration::from_millis(1)), "a round is missing");
        assert!(until.is_over(2, end));
        assert!(until.is_over(1, end + LONGEST_EXTENSION), "the machine is busy");
    }
}
