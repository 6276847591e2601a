//! What is measured, as rows of the list: their order, and their sums.

use std::cmp::Ordering;

use clap::ValueEnum;
use conduit::registry::{RegionState, SubscriberInfo, TopicInfo};
use serde::Serialize;

use super::quantiles::Quantiles;

/// One topic. Its subscribers are in `readers`.
#[derive(Clone, Debug)]
pub(crate) struct TopicRow {
    pub(crate) topic: TopicInfo,
    /// Messages per second, one a refresh, oldest first.
    pub(crate) history: Vec<f64>,
    /// Between two messages.
    pub(crate) interval: Option<Quantiles>,
    pub(crate) readers: Vec<SubscriberRow>,
}

/// One subscriber.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SubscriberRow {
    #[serde(flatten)]
    pub(crate) subscriber: SubscriberInfo,
    pub(crate) lost_per_second: f64,
    /// How old the oldest message was that it had not received.
    #[serde(rename = "behind_ns")]
    pub(crate) behind: Option<Quantiles>,
}

impl TopicRow {
    pub(crate) fn lost(&self) -> u64 {
        self.readers.iter().fold(0, |sum, reader| sum.saturating_add(reader.subscriber.lost))
    }

    pub(crate) fn lost_per_second(&self) -> f64 {
        // An empty sum of f64 is -0.
        self.readers.iter().fold(0.0, |sum, reader| sum + reader.lost_per_second)
    }

    pub(crate) fn lag(&self) -> Option<u64> {
        self.readers.iter().map(|reader| reader.subscriber.lag).max()
    }

    /// Of the subscriber that is worst off.
    pub(crate) fn behind_p99(&self) -> Option<u64> {
        self.readers.iter().filter_map(|reader| Some(reader.behind?.p99)).max()
    }

    pub(crate) fn publisher(&self) -> &str {
        self.topic.publisher.as_ref().map_or("-", |process| &process.program)
    }
}

/// What the table can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    /// Name of the topic
    #[default]
    Name,
    /// State: live, closed, orphaned, kept, unauthorised, unlinked
    State,
    /// Messages per second
    Rate,
    /// Bytes per second
    Bandwidth,
    /// Number of subscribers
    Subscribers,
    /// Messages that subscribers lose per second
    Loss,
    /// Messages that subscribers have lost
    Lost,
    /// Messages that the last subscriber is behind
    Lag,
    /// Time that the last subscriber is behind (99th percentile)
    Behind,
    /// Interval between messages (99th percentile)
    Interval,
    /// Program that publishes
    Publisher,
}

impl SortKey {
    /// Whether the greatest comes first.
    pub(crate) fn is_descending(self) -> bool {
        !matches!(self, Self::Name | Self::State | Self::Publisher)
    }

    pub(super) fn next(self, step: isize) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|column| *column == self).unwrap_or(0);
        all[at.checked_add_signed(step).map_or(all.len() - 1, |at| at % all.len())]
    }

    fn compare(self, one: &TopicRow, other: &TopicRow) -> Ordering {
        let numbers = |number: fn(&TopicRow) -> Option<f64>| {
            number(one).unwrap_or(-1.0).total_cmp(&number(other).unwrap_or(-1.0))
        };
        match self {
            Self::Name => one.topic.name.cmp(&other.topic.name),
            Self::State => one.topic.state.to_string().cmp(&other.topic.state.to_string()),
            Self::Rate => numbers(|row| row.topic.rate_hz),
            Self::Bandwidth => numbers(|row| row.topic.bytes_per_second),
            Self::Subscribers => one.readers.len().cmp(&other.readers.len()),
            Self::Loss => numbers(|row| Some(row.lost_per_second())),
            Self::Lost => one.lost().cmp(&other.lost()),
            Self::Lag => one.lag().cmp(&other.lag()),
            Self::Behind => one.behind_p99().cmp(&other.behind_p99()),
            Self::Interval => one.interval.map(|it| it.p99).cmp(&other.interval.map(|it| it.p99)),
            Self::Publisher => one.publisher().cmp(other.publisher()),
        }
    }
}

/// Sorts rows by a column, and by name where that is the same.
pub(crate) fn sort(rows: &mut [TopicRow], by: SortKey, reversed: bool) {
    rows.sort_by(|one, other| compare(one, other, by, reversed));
}

pub(super) fn compare(one: &TopicRow, other: &TopicRow, by: SortKey, reversed: bool) -> Ordering {
    let order = by.compare(one, other);
    let order = if by.is_descending() != reversed { order.reverse() } else { order };
    order.then_with(|| one.topic.name.cmp(&other.topic.name))
}

/// Sums over all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Totals {
    pub(crate) topics: usize,
    pub(crate) live: usize,
    pub(crate) orphaned: usize,
    pub(crate) subscribers: usize,
    pub(crate) rate_hz: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) lost_per_second: f64,
}

impl Totals {
    pub(crate) fn of(rows: &[TopicRow]) -> Self {
        let count = |state| rows.iter().filter(|row| row.topic.state == state).count();
        let sum = |number: fn(&TopicRow) -> Option<f64>| rows.iter().filter_map(number).fold(0.0, |sum, one| sum + one);
        Self {
            topics: rows.len(),
            live: count(RegionState::Live),
            orphaned: count(RegionState::Orphaned),
            subscribers: rows.iter().map(|row| row.readers.len()).sum(),
            rate_hz: sum(|row| row.topic.rate_hz),
            bytes_per_second: sum(|row| row.topic.bytes_per_second),
            lost_per_second: sum(|row| Some(row.lost_per_second())),
        }
    }
}
