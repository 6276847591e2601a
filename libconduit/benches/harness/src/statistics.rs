//! Order statistics of everything measured: nothing is trimmed.

use std::sync::LazyLock;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::transport::Result;

/// Longer than any single measurement.
const LONGEST_NS: u64 = 600_000_000_000;
/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// Durations, each of which is so many times what is wanted: a round trip is twice a way.
#[derive(Clone, Debug)]
pub struct Distribution {
    times: u64,
    histogram: Histogram<u64>,
    max_ns: u64,
    sum_ns: u64,
}

impl Distribution {
    pub fn new(times: u64) -> Result<Self> {
        // It takes its memory now, not in the middle of a measurement.
        Ok(Self { times, histogram: Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)?, max_ns: 0, sum_ns: 0 })
    }

    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns += ns;
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// So many of a thousand took no longer than this.
    pub fn at(&self, per_mille: u64) -> f64 {
        let count = self.count();
        let rank = (count * per_mille).div_ceil(1000);
        // Half a rank below, so that no rounding of floats leads to the next one.
        let quantile = (rank as f64 - 0.5) / count.max(1) as f64;
        self.histogram.value_at_quantile(quantile.max(0.0)).min(self.max_ns) as f64 / self.times as f64
    }

    /// The median as if the clock did not move in steps: what falls on the middle one is taken to be spread over it.
    fn median(&self, step_ns: u64) -> f64 {
        let p50 = self.at(500) * self.times as f64;
        let half_ns = step_ns as f64 / 2.0;
        let (mut below, mut within) = (0, 0);
        for step in self.histogram.iter_recorded() {
            let ns = step.value_iterated_to() as f64;
            if ns < p50 - half_ns {
                below += step.count_at_value();
            } else if ns < p50 + half_ns {
                within += step.count_at_value();
            }
        }
        let part = (self.count() as f64 / 2.0 - below as f64) / f64::max(1.0, within as f64);
        (p50 - half_ns + part * step_ns as f64) / self.times as f64
    }

    pub fn figures(&self) -> Option<Figures> {
        let [p50, p90, p99, p999] = [500, 900, 990, 999].map(|per_mille| self.at(per_mille));
        let (times, count) = (self.times as f64, self.count());
        let (max, mean) = (self.max_ns as f64 / times, self.sum_ns as f64 / times / count.max(1) as f64);
        let median = self.median(*CLOCK_STEP_NS);
        (count > 0).then_some(Figures { median, p50, p90, p99, p999, max, mean, count, without_clock: None })
    }
}

/// By how much the clock moves at least, about: how far the shortest times between two looks are apart.
static CLOCK_STEP_NS: LazyLock<u64> = LazyLock::new(|| {
    const LOOKS: usize = 10_000;
    /// What rounding to nanoseconds makes of one time.
    const ROUNDING_NS: u64 = 2;
    let mut times: Vec<_> = (0..LOOKS).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
    times.sort_unstable();
    let next = times.iter().find(|&&time| time > times[0] + ROUNDING_NS);
    next.map_or(1, |next| next - times[0])
});

/// What is known of many measurements, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The median between the steps of the clock.
    pub median: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
    pub count: u64,
    /// The median of means of a few in a row, without a look at the clock in each.
    pub without_clock: Option<f64>,
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_that_was_recorded() {
        let mut ways = Distribution::new(2).unwrap();
        (1..=1000).for_each(|ns| ways.record(2 * ns));
        let figures = ways.figures().unwrap();
        let found = [figures.p50, figures.p90, figures.p99, figures.p999, figures.max, figures.mean];
        assert_eq!((found, figures.count), ([500.0, 900.0, 990.0, 999.0, 1000.0, 500.5], 1000));
    }

    #[test]
    fn the_median_lies_between_the_steps_of_the_clock() {
        let mut ways = Distribution::new(2).unwrap();
        // 123 ns, at a clock that moves by 10 ns, give or take one.
        for ns in [120, 121, 120, 119, 121, 120, 120, 130, 131, 130] {
            ways.record(ns);
        }
        assert_eq!(ways.at(500), 60.0);
        assert!((ways.median(10) - 61.07).abs() < 0.01, "{}", ways.median(10));
        assert!((ways.median(1) - 60.0).abs() < 0.3, "{}", ways.median(1));
    }

    #[test]
    fn the_one_that_took_long_counts() {
        let mut all = Distribution::new(1).unwrap();
        (0..999).for_each(|_| all.record(100));
        all.record(123_456_789);
        let figures = all.figures().unwrap();
        assert_eq!((figures.p999, figures.max, figures.count), (100.0, 123_456_789.0, 1000));
    }

    #[test]
    fn nothing_measured_is_nothing() {
        assert_eq!(Distribution::new(1).unwrap().figures(), None);
        assert_eq!(median([]), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
