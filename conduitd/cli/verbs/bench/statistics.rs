//! Order statistics of everything measured: nothing is trimmed.

use hdrhistogram::Histogram;

use crate::failure::Failure;

/// Longer than any single measurement.
const LONGEST_NS: u64 = 600_000_000_000;
/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// Durations, each of which is so many times what is wanted: a round trip is twice a way.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    times: u64,
    histogram: Histogram<u64>,
    max_ns: u64,
}

impl Distribution {
    /// Of durations as they are.
    pub(super) fn new() -> Result<Self, Failure> {
        // It takes its memory now, not in the middle of a measurement.
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).map_err(Failure::new)?;
        Ok(Self { times: 1, histogram, max_ns: 0 })
    }

    /// Of one way each, from round trips.
    pub(super) fn of_round_trips() -> Result<Self, Failure> {
        Ok(Self { times: 2, ..Self::new()? })
    }

    pub(super) fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Takes in what another has measured in the same way.
    pub(super) fn add(&mut self, other: &Self) {
        // Their bounds are the same.
        let _ = self.histogram.add(&other.histogram);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub(super) fn max_ns(&self) -> u64 {
        (self.max_ns as f64 / self.times as f64).round() as u64
    }

    /// So many of a thousand took no longer than this.
    pub(super) fn at_ns(&self, per_mille: u64) -> u64 {
        self.at(per_mille).round() as u64
    }

    pub(super) fn median(&self) -> f64 {
        self.at(500)
    }

    fn at(&self, per_mille: u64) -> f64 {
        let count = self.count();
        let rank = (count * per_mille).div_ceil(1000);
        // Half a rank below, so that no rounding of floats leads to the next one.
        let quantile = (rank as f64 - 0.5) / count.max(1) as f64;
        self.histogram.value_at_quantile(quantile.max(0.0)).min(self.max_ns) as f64 / self.times as f64
    }

    /// Durations in nanoseconds, ascending, each with how often it occurred.
    pub(super) fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        let times = self.times as f64;
        self.histogram.iter_recorded().map(move |step| (step.value_iterated_to() as f64 / times, step.count_at_value()))
    }
}

/// How many messages took how long altogether.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) ns: u64,
}

impl Tally {
    pub(super) fn add(&mut self, messages: u64, ns: u64) {
        self.messages += messages;
        self.ns += ns;
    }

    pub(super) fn messages_per_second(self) -> f64 {
        self.messages as f64 * 1e9 / self.ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_that_was_recorded() {
        let mut ways = Distribution::of_round_trips().unwrap();
        (1..=1000).for_each(|ns| ways.record(2 * ns));
        let percentiles = [500, 900, 990, 999].map(|per_mille| ways.at_ns(per_mille));
        assert_eq!((ways.count(), percentiles, ways.max_ns()), (1000, [500, 900, 990, 999], 1000));
        assert_eq!(ways.steps().map(|(_, count)| count).sum::<u64>(), 1000);
        assert_eq!(ways.steps().next(), Some((1.0, 1)));
    }

    #[test]
    fn the_one_that_took_long_counts() {
        let mut all = Distribution::new().unwrap();
        (0..999).for_each(|_| all.record(100));
        let mut other = Distribution::new().unwrap();
        other.record(123_456_789);
        all.add(&other);
        assert_eq!((all.count(), all.max_ns(), all.median()), (1000, 123_456_789, 100.0));
        assert_eq!([999, 1000].map(|per_mille| all.at_ns(per_mille)), [100, 123_456_789]);
    }

    #[test]
    fn nothing_measured_is_no_reason_to_panic() {
        let none = Distribution::new().unwrap();
        assert_eq!((none.count(), none.at_ns(999), none.max_ns(), none.steps().count()), (0, 0, 0, 0));
        assert_eq!(Tally::default().messages_per_second(), 0.0);
    }

    #[test]
    fn rates_are_of_the_whole() {
        let mut tally = Tally::default();
        tally.add(100, 1_000_000);
        tally.add(300, 1_000_000);
        assert_eq!(tally.messages_per_second(), 200_000.0);
    }
}
