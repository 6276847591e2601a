//! What a pattern subscriber receives.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::TopicName;
use crate::registry::{DeathCertificate, Process};
use crate::ring::end::Gone;
use crate::subscriber::Sample;

/// A message of one of many topics: see
/// [`PatternSubscriber`](crate::PatternSubscriber).
#[must_use = "a sample that is dropped unread is received all the same"]
pub struct TopicSample<T: ?Sized> {
    pub(super) topic: Arc<TopicName>,
    pub(super) sample: Sample<T>,
}

/// A message, or a change of a topic: see
/// [`PatternSubscriber::recv_event`](crate::PatternSubscriber::recv_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum PatternEvent<T: ?Sized> {
    /// A message.
    Sample(TopicSample<T>),
    /// A topic has appeared, or has another publisher. Its messages follow.
    Connected {
        /// The topic.
        topic: TopicName,
        /// Its publisher, as it says itself.
        publisher: Process,
    },
    /// The publisher of a topic is gone, and every message of it that was there was received.
    Lost {
        /// The topic.
        topic: TopicName,
        /// Whether it was closed or its publisher died.
        how: Gone,
        /// How the publisher died, if the registry knows.
        certificate: Option<DeathCertificate>,
    },
    /// A topic matches, but is passed over.
    NotFollowed {
        /// The topic.
        topic: TopicName,
        /// Why: its type, or what keeps it from being opened.
        reason: String,
    },
    /// No message of a topic that has a publisher has come within the
    /// [deadline](crate::SubscriberBuilder::deadline).
    Overdue {
        /// The topic.
        topic: TopicName,
        /// How long there has been none.
        silence: Duration,
    },
    /// After [`Overdue`](Self::Overdue), there are messages of the topic again.
    Resumed {
        /// The topic.
        topic: TopicName,
        /// How long there was none.
        after: Duration,
    },
}

impl<T: ?Sized> TopicSample<T> {
    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The message without its topic.
    pub fn into_sample(self) -> Sample<T> {
        self.sample
    }
}

impl<T: ?Sized> Deref for TopicSample<T> {
    type Target = Sample<T>;

    #[inline]
    fn deref(&self) -> &Sample<T> {
        &self.sample
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for TopicSample<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sample.fmt(f)
    }
}
