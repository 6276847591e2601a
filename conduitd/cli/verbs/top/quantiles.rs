//! Quantiles of what was measured lately.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Measurements older than twice this do not count.
const HALF: Duration = Duration::from_secs(30);

/// How durations are distributed, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

/// Durations of the last half to whole minute, with two digits.
pub(crate) struct RecentDurations {
    before: Histogram<u64>,
    now: Histogram<u64>,
    begun: Instant,
}

impl RecentDurations {
    pub(crate) fn new(begun: Instant) -> Self {
        let empty = || Histogram::new(2).unwrap_or_else(|_| unreachable!("a histogram can have two digits"));
        Self { before: empty(), now: empty(), begun }
    }

    pub(crate) fn record(&mut self, ns: u64, at: Instant) {
        self.forget(at);
        // It grows as far as a duration goes.
        let _ = self.now.record(ns);
    }

    /// `None` if nothing was measured recently.
    pub(crate) fn quantiles(&mut self, at: Instant) -> Option<Quantiles> {
        self.forget(at);
        let mut all = self.before.clone();
        // Both resize themselves.
        all.add(&self.now).ok()?;
        let percentile = |quantile| all.value_at_quantile(quantile);
        (!all.is_empty()).then(|| Quantiles { p50: percentile(0.5), p99: percentile(0.99), max: all.max() })
    }

    fn forget(&mut self, at: Instant) {
        let age = at.saturating_duration_since(self.begun);
        if age < HALF {
            return;
        }
        std::mem::swap(&mut self.before, &mut self.now);
        self.now.reset();
        if age >= 2 * HALF {
            self.before.reset();
        }
        self.begun = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_measurements_are_forgotten() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut recent = RecentDurations::new(begun);
        assert_eq!(recent.quantiles(begun), None);
        for ns in 1..=100 {
            recent.record(ns, begun);
        }
        assert_eq!(recent.quantiles(after(1)), Some(Quantiles { p50: 50, p99: 99, max: 100 }));
        recent.record(7, after(31));
        assert_eq!(recent.quantiles(after(32)).unwrap().max, 100);
        assert_eq!(recent.quantiles(after(62)), Some(Quantiles { p50: 7, p99: 7, max: 7 }));
        assert_eq!(recent.quantiles(after(200)), None);
        recent.record(3_600_000_000_000, after(200));
        let hour = recent.quantiles(after(200)).unwrap().p50;
        assert!((3_560_000_000_000..3_640_000_000_000).contains(&hour), "{hour}");
    }
}
