//! Statistics from the headers of a topic's messages, read without subscribing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use conduit::inspect::{MessageHeader, Region};
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::RegionState;
use conduit::{OpenError, TopicName};
use serde::Serialize;

/// Limits of the time between two samples.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The last messages of one topic, across restarts of its publisher.
pub(crate) struct Sampler {
    pub(crate) topic: TopicName,
    region: Option<Region>,
    slots: u32,
    /// The next position to read.
    position: u64,
    window: usize,
    messages: VecDeque<MessageHeader>,
    /// The newest sequence numbers and when they were seen, for topics without time stamps.
    seen: VecDeque<(u64, Instant)>,
    /// Messages seen since the last report.
    fresh: usize,
}

/// Statistics of the messages in the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct RateSummary {
    /// Messages per second, including those that were missed.
    pub(crate) rate_hz: f64,
    /// Bytes per second; missed messages count with the mean length.
    pub(crate) bytes_per_second: f64,
    /// Messages in the window.
    #[serde(rename = "window")]
    pub(crate) count: usize,
    /// Messages in between that were overwritten before they were seen.
    pub(crate) missed: u64,
    /// Longest time in seconds between two messages of which those in between were missed.
    #[serde(rename = "gap_s")]
    pub(crate) longest_gap: Option<f64>,
    /// Whether messages have time stamps. Without them the rate is measured by the clock of this
    /// process, and there are no intervals.
    pub(crate) stamped: bool,
    /// Seconds between two consecutive messages.
    #[serde(rename = "interval_s")]
    pub(crate) interval: Option<Spread>,
    /// Lengths in bytes.
    #[serde(rename = "length_bytes")]
    pub(crate) length: Spread,
}

/// Mean, extremes and standard deviation of a set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Of the population, not of a sample.
    pub(crate) std_dev: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
        Some(Self { mean, min: fold(f64::min)?, max: fold(f64::max)?, std_dev: variance.sqrt() })
    }
}

impl Sampler {
    /// Keeps the last `window` messages of those published from now on.
    pub(crate) fn new(topic: TopicName, window: usize) -> Self {
        let (messages, seen) = (VecDeque::new(), VecDeque::new());
        Self { topic, region: None, slots: 2, position: u64::MAX, window, messages, seen, fresh: 0 }
    }

    /// Reads the headers of new messages. Returns whether the topic has a live publisher.
    pub(crate) fn sample(&mut self, directory: &ShmDir) -> Result<bool, OpenError> {
        if self.region.is_none() {
            match Region::open_in(directory, &self.topic) {
                Ok(region) if region.is_raw() => {
                    return Err(OpenError::Kind { path: directory.path_of(&self.topic), expected: "a topic" });
                }
                Ok(region) if is_live(&region) => self.begin(region),
                Ok(_) | Err(OpenError::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let Some(region) = &self.region else { return Ok(false) };
        if let Some((messages, position)) = region.messages_since(self.position) {
            self.position = position;
            if !messages.is_empty() {
                self.take(messages, Instant::now());
                return Ok(true);
            }
        }
        let is_live = is_live(region);
        if !is_live {
            // What it published is reported; the next publisher's sequence numbers start again.
            self.region = None;
        }
        Ok(is_live)
    }

    /// Starts again with a publisher, and skips what it has published before.
    fn begin(&mut self, region: Region) {
        self.position = region.messages_since(u64::MAX).map_or(0, |(_, head)| head);
        self.slots = region.describe_from(None).slots.unwrap_or(2);
        self.region = Some(region);
        self.messages.clear();
        self.seen.clear();
    }

    fn take(&mut self, messages: Vec<MessageHeader>, now: Instant) {
        self.fresh += messages.len();
        self.seen.extend(messages.last().map(|last| (last.sequence, now)));
        self.messages.extend(messages);
        self.messages.drain(..self.messages.len().saturating_sub(self.window));
        let first = self.messages.front().map_or(0, |first| first.sequence);
        while self.seen.len() > 2 && self.seen[1].0 <= first {
            self.seen.pop_front();
        }
    }

    /// How long to wait without missing messages that are overwritten meanwhile.
    pub(crate) fn pause(&self) -> Duration {
        // After a burst the next one may be as fast.
        let recent = self.messages.len().saturating_sub(self.slots as usize);
        let rate = [0, recent].into_iter().filter_map(|first| self.rate_from(first)).fold(0.0, f64::max);
        let until_a_quarter_is_new = Duration::try_from_secs_f64(f64::from(self.slots) / 4.0 / rate);
        until_a_quarter_is_new.unwrap_or(LONGEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Whether messages have arrived since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.fresh) > 0
    }

    /// Messages per second from one of the messages on, by their time stamps if they have any.
    fn rate_from(&self, first: usize) -> Option<f64> {
        let stamp = |message: &MessageHeader| Some((message.sequence, message.stamp_ns?));
        let first = self.messages.get(first)?;
        let (count, seconds) = match (stamp(first), self.messages.back().and_then(stamp)) {
            (Some(first), Some(last)) => (last.0.saturating_sub(first.0), last.1.saturating_sub(first.1) as f64 / 1e9),
            _ => {
                let before = self.seen.iter().rev().find(|(sequence, _)| *sequence <= first.sequence);
                let since = before.or(self.seen.front())?;
                let last = self.seen.back()?;
                (last.0.saturating_sub(since.0), last.1.saturating_duration_since(since.1).as_secs_f64())
            }
        };
        Some(count as f64 / seconds).filter(|rate| rate.is_finite() && *rate > 0.0)
    }

    /// `None` before there is anything to compare: two messages with time stamps, or two looks at
    /// a topic without.
    pub(crate) fn summary(&self) -> Option<RateSummary> {
        let rate_hz = self.rate_from(0)?;
        let mut intervals = Vec::new();
        let (mut missed, mut longest_gap): (u64, Option<f64>) = (0, None);
        for (one, next) in self.messages.iter().zip(self.messages.iter().skip(1)) {
            let between = next.sequence.saturating_sub(one.sequence).saturating_sub(1);
            missed = missed.saturating_add(between);
            let (Some(from), Some(to)) = (one.stamp_ns, next.stamp_ns) else { continue };
            let seconds = to.saturating_sub(from) as f64 / 1e9;
            match between {
                0 => intervals.push(seconds),
                _ => longest_gap = Some(longest_gap.map_or(seconds, |longest| longest.max(seconds))),
            }
        }
        let lengths: Vec<f64> = self.messages.iter().map(|message| message.len_bytes as f64).collect();
        let length = Spread::of(&lengths)?;
        Some(RateSummary {
            rate_hz,
            bytes_per_second: rate_hz * length.mean,
            count: self.messages.len(),
            missed,
            longest_gap,
            stamped: self.is_stamped(),
            interval: Spread::of(&intervals),
            length,
        })
    }

    /// Whether its messages have time stamps; true as long as there are none.
    pub(crate) fn is_stamped(&self) -> bool {
        self.messages.back().is_none_or(|last| last.stamp_ns.is_some())
    }
}

fn is_live(region: &Region) -> bool {
    matches!(region.describe().state, RegionState::Live | RegionState::Unlinked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(messages: &[(u64, u64, u64)]) -> Sampler {
        let mut sampler = Sampler::new("imu".parse().unwrap(), 100);
        sampler.messages = messages
            .iter()
            .map(|&(sequence, ms, len_bytes)| MessageHeader::new(sequence, Some(ms * 1_000_000), len_bytes))
            .collect();
        sampler
    }

    #[test]
    fn missed_messages_count_for_the_rate_but_not_for_the_intervals() {
        let summary = sampler(&[(5, 1000, 10), (6, 1010, 30), (8, 1030, 20), (9, 1050, 20)]).summary().unwrap();
        assert_eq!(summary.count, 4);
        assert!((summary.rate_hz - 80.0).abs() < 1e-9, "4 intervals in 50 ms");
        assert!((summary.bytes_per_second - 1600.0).abs() < 1e-9);
        assert_eq!((summary.missed, summary.longest_gap, summary.stamped), (1, Some(0.02), true));
        let interval = summary.interval.unwrap();
        assert!((interval.min - 0.01).abs() < 1e-12 && (interval.max - 0.02).abs() < 1e-12);
        assert!((interval.mean - 0.015).abs() < 1e-12 && (interval.std_dev - 0.005).abs() < 1e-12);
        assert_eq!((summary.length.min, summary.length.max, summary.length.mean), (10.0, 30.0, 20.0));
    }

    #[test]
    fn one_message_or_none_has_no_rate() {
        assert_eq!(sampler(&[]).summary(), None);
        assert_eq!(sampler(&[(1, 5, 1)]).summary(), None);
        assert_eq!(sampler(&[(1, 5, 1), (2, 5, 1)]).summary(), None, "at the same time");
    }

    #[test]
    fn headers_that_contradict_each_other_have_no_rate() {
        assert_eq!(sampler(&[(9, 5, 1), (2, 6, 1)]).summary(), None, "sequence numbers that fall");
        assert_eq!(sampler(&[(1, 9, 1), (2, 5, 1)]).summary(), None, "time that runs backwards");
        let huge = sampler(&[(u64::MAX, 5, u64::MAX), (u64::MAX, 6, u64::MAX), (0, 7, 0)]).summary();
        assert_eq!(huge, None);
        let first_to_last = sampler(&[(0, 5, u64::MAX), (u64::MAX, 7, u64::MAX)]).summary().unwrap();
        assert!(first_to_last.rate_hz.is_finite() && first_to_last.interval.is_none());
    }

    #[test]
    fn a_stall_is_visible_although_the_messages_around_it_were_missed() {
        // The last two of each burst of a hundred, twice a second.
        let summary = sampler(&[(98, 1000, 1), (99, 1000, 1), (198, 1500, 1), (199, 1500, 1)]).summary().unwrap();
        assert_eq!((summary.missed, summary.longest_gap), (98, Some(0.5)));
        assert_eq!(summary.interval.unwrap().max, 0.0, "of consecutive messages");
        assert!((summary.rate_hz - 202.0).abs() < 1e-9);
    }

    #[test]
    fn without_time_stamps_the_rate_is_measured_by_the_own_clock() {
        let mut sampler = sampler(&[]);
        let begun = Instant::now();
        let header = |sequence| MessageHeader::new(sequence, None, 10);
        sampler.take(vec![header(3), header(4)], begun);
        assert_eq!(sampler.summary(), None);
        sampler.take(vec![header(5)], begun + Duration::from_millis(500));
        sampler.take((8..14).map(header).collect(), begun + Duration::from_millis(1000));
        let summary = sampler.summary().unwrap();
        assert!((summary.rate_hz - 9.0).abs() < 1e-9 && (summary.bytes_per_second - 90.0).abs() < 1e-9);
        assert_eq!((summary.count, summary.missed), (9, 2));
        assert_eq!((summary.stamped, summary.interval, summary.longest_gap), (false, None, None));
        // What is no longer in the window does not count.
        sampler.window = 3;
        sampler.take((14..24).map(header).collect(), begun + Duration::from_millis(1500));
        assert!((sampler.summary().unwrap().rate_hz - 20.0).abs() < 1e-9);
    }

    #[test]
    fn bursts_are_looked_at_often() {
        let mut sampler = sampler(&[(0, 0, 1), (1, 1000, 1), (2, 2000, 1), (3, 2001, 1)]);
        sampler.slots = 2;
        assert_eq!(sampler.pause(), SHORTEST_PAUSE);
        sampler.messages.pop_back();
        assert_eq!(sampler.pause(), LONGEST_PAUSE);
    }
}
