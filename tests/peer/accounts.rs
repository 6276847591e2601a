//! An account of every message of a topic.

use conduit::{RecvError, Sample, TopicName};

use crate::pattern::is_pattern;
use crate::protocol::Account;
use crate::receiving::end_of;

/// The state of one topic of a fleet.
pub struct Ledger {
    topic: TopicName,
    first: Option<u64>,
    next: u64,
    received: u64,
    wrong: u64,
}

impl Ledger {
    pub fn new(topic: &TopicName) -> Self {
        Self { topic: topic.clone(), first: None, next: 0, received: 0, wrong: 0 }
    }

    pub fn note(&mut self, sample: &Sample<[u8]>) {
        let number = sample.sequence();
        let is_right = self.first.is_none() || number == self.next + sample.lost();
        self.wrong += u64::from(!is_right || !is_pattern(seed_of(&self.topic, number), sample));
        self.first.get_or_insert(number - sample.lost());
        self.next = number + 1;
        self.received += 1;
    }

    pub fn end(self, error: &RecvError, lost: u64) -> (String, Account) {
        let end = match error {
            RecvError::PublisherGone { how, .. } => Ok(end_of(*how)),
            error => Err(error.to_string()),
        };
        let Self { topic, first, received, wrong, .. } = self;
        (topic.to_string(), Account { first: first.unwrap_or(0), received, lost, wrong, end })
    }
}

/// Different for every topic, so that no two topics have equal messages.
pub fn seed_of(topic: &TopicName, number: u64) -> u64 {
    let name = topic.as_str().bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(257) + u64::from(byte));
    number ^ name << 20
}
