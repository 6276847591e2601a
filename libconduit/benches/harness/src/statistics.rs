//! Order statistics of everything measured: nothing is trimmed.

use std::sync::LazyLock;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer than any single measurement.
const LONGEST_NS: u64 = 600_000_000_000;
/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// Recorded durations, each of which spans several of what is wanted: a round trip spans two ways.
#[derive(Clone, Debug)]
pub struct Timings {
    spans: u64,
    histogram: Histogram<u64>,
    max_ns: u64,
    sum_ns: u64,
}

impl Timings {
    /// Allocates all memory at once, so that recording does not.
    pub fn new(spans: u64) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("the bounds are valid");
        Self { spans, histogram, max_ns: 0, sum_ns: 0 }
    }

    /// Adds one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns += ns;
    }

    /// Adds all durations of another measurement of the same kind.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("the bounds are the same");
        self.max_ns = self.max_ns.max(other.max_ns);
        self.sum_ns += other.sum_ns;
        self.spans = other.spans;
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The duration that so many of a thousand did not exceed, in nanoseconds; of all thousand, the
    /// longest one exactly.
    pub fn at(&self, per_mille: u64) -> f64 {
        let count = self.count();
        let rank = (count * per_mille).div_ceil(1000);
        // Half a rank below, so that no rounding of floats leads to the next one.
        let quantile = (rank as f64 - 0.5) / count.max(1) as f64;
        self.histogram.value_at_quantile(quantile.max(0.0)).min(self.max_ns) as f64 / self.spans as f64
    }

    /// The same, rounded.
    pub fn at_ns(&self, per_mille: u64) -> u64 {
        self.at(per_mille).round() as u64
    }

    /// Durations in nanoseconds, ascending, each with how often it occurred.
    pub fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        let spans = self.spans as f64;
        self.histogram.iter_recorded().map(move |step| (step.value_iterated_to() as f64 / spans, step.count_at_value()))
    }

    /// The median as if the clock did not move in steps: what lies on the middle step is taken to
    /// be spread over it.
    fn median(&self, step_ns: u64) -> f64 {
        let (p50, step) = (self.at(500), step_ns as f64 / self.spans as f64);
        let (mut below, mut within) = (0, 0);
        for (ns, count) in self.steps() {
            if ns < p50 - step / 2.0 {
                below += count;
            } else if ns < p50 + step / 2.0 {
                within += count;
            }
        }
        let part = (self.count() as f64 / 2.0 - below as f64) / f64::max(1.0, within as f64);
        p50 - step / 2.0 + part * step
    }

    /// What the table shows; `None` if nothing was recorded.
    pub fn figures(&self) -> Option<Figures> {
        let [p50, p90, p99, p999] = [500, 900, 990, 999].map(|per_mille| self.at(per_mille));
        let (spans, count) = (self.spans as f64, self.count());
        let (max, mean) = (self.max_ns as f64 / spans, self.sum_ns as f64 / spans / count.max(1) as f64);
        let median = self.median(*CLOCK_STEP_NS);
        (count > 0).then_some(Figures { median, p50, p90, p99, p999, max, mean, count, without_clock: None })
    }
}

/// The resolution of the clock: the distance between the two shortest times between two reads.
static CLOCK_STEP_NS: LazyLock<u64> = LazyLock::new(|| {
    const READS: usize = 10_000;
    /// Rounding to nanoseconds makes one time look like two this far apart.
    const ROUNDING_NS: u64 = 2;
    let mut times: Vec<_> = (0..READS).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
    times.sort_unstable();
    let next = times.iter().find(|&&time| time > times[0] + ROUNDING_NS);
    next.map_or(1, |next| next - times[0])
});

/// The statistics of many durations, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The median between the steps of the clock.
    pub median: f64,
    /// Percentiles.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// How many there are.
    pub count: u64,
    /// The median of the means of a few in a row, without a read of the clock in each.
    pub without_clock: Option<f64>,
}

/// The median; of an even number of values the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) })
}

/// Fewer than one in so many values are no group, but disturbances.
const LEAST_SHARE: usize = 20;

/// Where values fall into two groups: the middle of the widest gap between neighbours, as a ratio,
/// or `None` if even that is narrower than `least`. All values are positive.
pub fn widest_gap(values: impl IntoIterator<Item = f64>, least: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let fewest = values.len().div_ceil(LEAST_SHARE);
    let inner = values.get(fewest.checked_sub(1)?..values.len() - fewest + 1)?;
    let gaps = inner.windows(2).filter(|pair| pair[1] >= least * pair[0]);
    let widest = gaps.max_by(|one, other| f64::total_cmp(&(one[1] / one[0]), &(other[1] / other[0])))?;
    Some((widest[0] * widest[1]).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_everything_recorded() {
        let mut ways = Timings::new(2);
        (1..=1000).for_each(|ns| ways.record(2 * ns));
        let figures = ways.figures().unwrap();
        let found = [figures.p50, figures.p90, figures.p99, figures.p999, figures.max, figures.mean];
        assert_eq!((found, figures.count), ([500.0, 900.0, 990.0, 999.0, 1000.0, 500.5], 1000));
        assert_eq!([500, 900, 990, 999].map(|per_mille| ways.at_ns(per_mille)), [500, 900, 990, 999]);
        assert_eq!(ways.steps().map(|(_, count)| count).sum::<u64>(), 1000);
        assert_eq!(ways.steps().next(), Some((1.0, 1)));
    }

    #[test]
    fn the_median_lies_between_the_steps_of_the_clock() {
        let mut ways = Timings::new(2);
        // 123 ns, at a clock that moves by 10 ns, give or take one.
        for ns in [120, 121, 120, 119, 121, 120, 120, 130, 131, 130] {
            ways.record(ns);
        }
        assert_eq!(ways.at(500), 60.0);
        assert!((ways.median(10) - 61.07).abs() < 0.01, "{}", ways.median(10));
        assert!((ways.median(1) - 60.0).abs() < 0.3, "{}", ways.median(1));
    }

    #[test]
    fn the_longest_duration_is_kept() {
        let (mut all, mut other) = (Timings::new(1), Timings::new(1));
        (0..999).for_each(|_| all.record(100));
        other.record(123_456_789);
        all.add(&other);
        let figures = all.figures().unwrap();
        assert_eq!((figures.p999, figures.max, figures.count), (100.0, 123_456_789.0, 1000));
        assert_eq!([999, 1000].map(|per_mille| all.at_ns(per_mille)), [100, 123_456_789]);
        assert_eq!(all.count(), 1000);
    }

    #[test]
    fn nothing_measured_is_no_panic() {
        let none = Timings::new(1);
        assert_eq!((none.count(), none.at_ns(999), none.at_ns(1000), none.steps().count()), (0, 0, 0, 0));
        assert_eq!((none.figures(), median([])), (None, None));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn two_groups_are_told_apart_whatever_the_processor() {
        let split = |values: &[f64]| widest_gap(values.iter().copied(), 1.5);
        // An AMD processor: one complex, and two.
        assert_eq!(split(&[62.0, 200.0, 61.0, 64.0, 196.0]), Some((64.0_f64 * 196.0).sqrt()));
        // An Intel one, where every core is as far as another.
        assert_eq!(split(&[106.0, 116.0, 111.0, 109.0]), None);
        assert_eq!(split(&[106.0, 158.0]), None);
        assert_eq!(split(&[25.0, 60.0, 400.0]), Some((60.0_f64 * 400.0).sqrt()), "the widest");
        assert_eq!([split(&[60.0]), split(&[])], [None, None]);
    }

    #[test]
    fn a_few_disturbed_values_are_no_group() {
        let mut values = vec![60.0; 5];
        values.extend([200.0; 80]);
        values.extend([30_000.0, 8e6, 6e6]);
        assert_eq!(widest_gap(values.clone(), 1.5), Some((60.0_f64 * 200.0).sqrt()));
        values.extend([30_000.0; 10]);
        assert_eq!(widest_gap(values, 1.5), Some((200.0_f64 * 30_000.0).sqrt()));
    }
}
