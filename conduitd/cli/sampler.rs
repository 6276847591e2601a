//! Statistics from the headers of a topic's messages, read without subscribing.

use std::collections::VecDeque;
use std::time::Duration;

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
    /// The next position to read.
    position: u64,
    window: usize,
    messages: VecDeque<MessageHeader>,
    /// Messages seen since the last report.
    fresh: usize,
}

/// Statistics of the messages in the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct RateSummary {
    /// Messages per second, including those overwritten before they were seen.
    pub(crate) rate_hz: f64,
    /// Bytes per second; messages overwritten unseen count with the mean length.
    pub(crate) bytes_per_second: f64,
    /// Messages in the window.
    #[serde(rename = "window")]
    pub(crate) count: usize,
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
        Self { topic, region: None, position: u64::MAX, window, messages: VecDeque::new(), fresh: 0 }
    }

    /// Reads the headers of new messages. Returns whether the topic has a live publisher.
    pub(crate) fn sample(&mut self, directory: &ShmDir) -> Result<bool, OpenError> {
        if self.region.is_none() {
            match Region::open_in(directory, &self.topic) {
                Ok(region) if region.is_raw() => {
                    return Err(OpenError::Kind { path: directory.path_of(&self.topic), expected: "a topic" });
                }
                Ok(region) => {
                    // Skips what was published before.
                    self.position = region.messages_since(u64::MAX).map_or(0, |(_, head)| head);
                    self.region = Some(region);
                }
                Err(OpenError::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let Some(region) = &self.region else { return Ok(false) };
        if let Some((messages, position)) = region.messages_since(self.position) {
            self.position = position;
            self.fresh += messages.len();
            self.messages.extend(messages);
            self.messages.drain(..self.messages.len().saturating_sub(self.window));
        }
        let is_live = matches!(region.describe().state, RegionState::Live | RegionState::Unlinked);
        if !is_live {
            self.region = None;
            // The next publisher's sequence numbers start again.
            self.messages.clear();
        }
        Ok(is_live)
    }

    /// How long to wait without missing messages that are overwritten meanwhile.
    pub(crate) fn pause(&self) -> Duration {
        let slots = self.region.as_ref().and_then(|region| region.describe().slots).unwrap_or(2);
        let rate = self.summary().map_or(0.0, |summary| summary.rate_hz);
        let until_half_is_new = Duration::try_from_secs_f64(f64::from(slots) / 2.0 / rate).unwrap_or(LONGEST_PAUSE);
        until_half_is_new.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Whether messages have arrived since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.fresh) > 0
    }

    /// `None` before the second message with a time stamp.
    pub(crate) fn summary(&self) -> Option<RateSummary> {
        let stamped = || self.messages.iter().filter_map(|message| Some((message.sequence, message.stamp_ns?)));
        let (first, last) = (stamped().next()?, stamped().next_back()?);
        let seconds = last.1.saturating_sub(first.1) as f64 / 1e9;
        // Headers of a hostile publisher need not be in order.
        let rate_hz = last.0.saturating_sub(first.0) as f64 / seconds;
        if !rate_hz.is_finite() || rate_hz == 0.0 {
            return None;
        }
        let intervals: Vec<f64> = stamped()
            .zip(stamped().skip(1))
            .filter(|((one, _), (next, _))| Some(*next) == one.checked_add(1))
            .map(|((_, from), (_, to))| to.saturating_sub(from) as f64 / 1e9)
            .collect();
        let lengths: Vec<f64> = self.messages.iter().map(|message| message.len_bytes as f64).collect();
        let length = Spread::of(&lengths)?;
        let (bytes_per_second, count) = (rate_hz * length.mean, self.messages.len());
        Some(RateSummary { rate_hz, bytes_per_second, count, interval: Spread::of(&intervals), length })
    }
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
}
