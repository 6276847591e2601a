//! How much work a user may cause over time: some at once, the rest at a steady rate.

use std::time::{Duration, Instant};

/// The work that a user has caused, as the time that it takes to pay for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkPace {
    paid_at: Option<Instant>,
}

impl WorkPace {
    /// Adds work.
    pub(crate) fn spend(&mut self, now: Instant, cost: Duration) {
        let from = self.paid_at.map_or(now, |paid_at| paid_at.max(now));
        self.paid_at = from.checked_add(cost).or(self.paid_at);
    }

    /// How long to wait until no more than `credit` is unpaid; `None`: not at all.
    pub(crate) fn wait(&self, now: Instant, credit: Duration) -> Option<Duration> {
        let unpaid = self.paid_at?.saturating_duration_since(now);
        unpaid.checked_sub(credit).filter(|wait| !wait.is_zero())
    }

    /// Whether all is paid.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.paid_at.is_none_or(|paid_at| paid_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_beyond_the_credit_is_paid_by_waiting() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = WorkPace::default();
        assert!(pace.is_idle(start));
        pace.spend(start, 3 * second);
        assert_eq!(pace.wait(start, 3 * second), None);
        pace.spend(start, second);
        assert_eq!(pace.wait(start, 3 * second), Some(second));
        assert_eq!(pace.wait(start + second, 3 * second), None);
        assert!(!pace.is_idle(start + second));
        pace.spend(start + 10 * second, second);
        assert_eq!(pace.wait(start + 10 * second, Duration::ZERO), Some(second), "idleness is not saved up");
    }
}
