//! What a pattern subscriber knows of the topics that it has found.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::OpenError;
use crate::shm::dir::FileId;
use crate::{Shape, TopicName};

/// How many topics are received from at once, at most.
pub(super) const MOST_SOURCES: usize = 4096;
/// How many topics are remembered, at most.
const MOST_REMEMBERED: usize = 2 * MOST_SOURCES;

/// A topic that a [`PatternSubscriber`](super::PatternSubscriber) has found: see
/// [`sources`](super::PatternSubscriber::sources).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatchedTopic {
    /// The topic.
    pub topic: TopicName,
    /// Whether its messages are received: it has a publisher, and that could be subscribed to.
    pub is_connected: bool,
    /// How many publishers it has had, as far as this subscriber was connected to them.
    pub epoch: u32,
    /// Messages received, of all its publishers.
    pub received: u64,
    /// Messages lost, of all its publishers.
    pub lost: u64,
    /// Why its messages are not received, if it has a publisher that cannot be subscribed to.
    pub refusal: Option<String>,
}

/// What is remembered of a topic.
#[derive(Default)]
pub(super) struct TopicHistory {
    pub(super) is_connected: bool,
    pub(super) epoch: u32,
    /// Of earlier publishers.
    pub(super) received: u64,
    pub(super) lost: u64,
    /// The fields that the messages of earlier publishers have had.
    pub(super) shape: Option<Shape>,
    /// The last region that could not be opened, and why, which was reported.
    refusal: Option<(Option<FileId>, String)>,
    /// Whether it may be possible to open it later.
    pub(super) retries: bool,
    /// Grows with every change of any topic.
    changed: u64,
}

impl TopicHistory {
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_ref().map(|(_, reason)| reason.as_str())
    }
}

/// All that is remembered.
#[derive(Default)]
pub(super) struct Histories {
    topics: BTreeMap<Arc<TopicName>, TopicHistory>,
    changes: u64,
    /// Whether there is a topic that it may be possible to open later.
    pub(super) retry: bool,
}

impl Histories {
    pub(super) fn get(&self, topic: &TopicName) -> Option<&TopicHistory> {
        self.topics.get(topic)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<TopicName>, &TopicHistory)> {
        self.topics.iter()
    }

    /// The history of a topic, which has changed. One that was not known may displace another.
    pub(super) fn change(&mut self, topic: &TopicName) -> &mut TopicHistory {
        if !self.topics.contains_key(topic) && self.topics.len() >= MOST_REMEMBERED {
            let idle = self.topics.iter().filter(|(_, history)| !history.is_connected);
            let oldest = idle.min_by_key(|(_, history)| history.changed).map(|(topic, _)| Arc::clone(topic));
            oldest.and_then(|oldest| self.topics.remove(&oldest));
        }
        self.changes += 1;
        let history = self.topics.entry(Arc::new(topic.clone())).or_default();
        history.changed = self.changes;
        history
    }

    /// The topic is connected. Returns its shared name.
    pub(super) fn connect(&mut self, topic: &TopicName, shape: Option<Shape>) -> Arc<TopicName> {
        let history = self.change(topic);
        history.is_connected = true;
        history.epoch += 1;
        history.refusal = None;
        history.retries = false;
        if history.shape.is_none() {
            history.shape = shape;
        }
        self.topics.get_key_value(topic).map_or_else(|| Arc::new(topic.clone()), |(name, _)| Arc::clone(name))
    }

    /// The topic could not be opened. Returns why, unless that was reported, or nobody publishes
    /// it. `region` is the one that could not be opened.
    pub(super) fn refuse(&mut self, topic: &TopicName, error: &OpenError, region: Option<FileId>) -> Option<String> {
        let retries = match error {
            // Nobody, so far, or no topic.
            OpenError::NotFound { .. } | OpenError::Orphaned { .. } | OpenError::Kind { .. } => {
                if let Some(history) = self.topics.get_mut(topic) {
                    history.refusal = None;
                    history.retries = false;
                }
                return None;
            }
            // Only another publisher changes that.
            OpenError::TypeMismatch { .. } | OpenError::ShapeMismatch { .. } | OpenError::Layout { .. } => false,
            _ => true,
        };
        self.retry |= retries;
        let history = self.change(topic);
        history.retries = retries;
        let refusal = Some((region, error.to_string()));
        if history.refusal == refusal {
            return None;
        }
        history.refusal = refusal;
        Some(error.to_string())
    }

    /// The topics that it may be possible to open now.
    pub(super) fn take_retries(&mut self) -> Vec<TopicName> {
        self.retry = false;
        let retried = self.topics.iter().filter(|(_, history)| history.retries && !history.is_connected);
        retried.map(|(topic, _)| TopicName::clone(topic)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize) -> TopicName {
        format!("t/{number}").parse().unwrap()
    }

    #[test]
    fn topics_that_come_and_go_are_forgotten_some_day_and_connected_ones_are_not() {
        let mut histories = Histories::default();
        histories.connect(&topic(0), None);
        for number in 1..MOST_REMEMBERED + 10 {
            histories.connect(&topic(number), None);
            histories.change(&topic(number)).is_connected = false;
        }
        assert_eq!(histories.iter().count(), MOST_REMEMBERED);
        assert!(histories.get(&topic(0)).is_some_and(|history| history.is_connected));
        assert!(histories.get(&topic(1)).is_none() && histories.get(&topic(MOST_REMEMBERED)).is_some());
    }
}
