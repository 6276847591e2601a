//! How long to wait before something that failed is tried again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that double up to [`LONGEST`], and differ by up to a quarter, so that many processes do
/// not try at the same moments.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// After an attempt that held for `lasted`: if that was long, the next failure is a new one.
    pub(crate) fn after(&mut self, lasted: Duration) {
        if lasted > LONGEST {
            self.next = FIRST;
        }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let next = self.next;
        self.next = (next * 2).min(LONGEST);
        let random = RandomState::new().build_hasher().finish() % 1000;
        next.mul_f64(0.75 + random as f64 / 2000.0)
    }

    /// Sleeps until the next attempt.
    pub(crate) fn sleep(&mut self) {
        std::thread::sleep(self.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..10).map(|_| backoff.next()).collect();
        let is_about = |wait: &Duration, of: Duration| (of.mul_f64(0.75)..=of.mul_f64(1.25)).contains(wait);
        assert!(is_about(&waits[0], FIRST) && is_about(&waits[1], 2 * FIRST), "{waits:?}");
        assert!(waits[6..].iter().all(|wait| is_about(wait, LONGEST)), "{waits:?}");
        assert!(waits[6..].windows(2).any(|pair| pair[0] != pair[1]), "{waits:?}");
        backoff.after(LONGEST / 2);
        assert!(is_about(&backoff.next(), LONGEST));
        backoff.after(2 * LONGEST);
        assert!(is_about(&backoff.next(), FIRST));
    }
}
