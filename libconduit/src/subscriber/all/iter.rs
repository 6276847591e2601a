//! Messages of many topics as an iterator.

use std::fmt;
use std::iter::FusedIterator;

use super::{PatternSubscriber, TopicSample};
use crate::error::RecvError;
use crate::message::Message;
use crate::subscriber::iter;

/// The messages of a pattern subscriber: see [`PatternSubscriber::iter`].
#[must_use = "iterators receive nothing unless they are used"]
pub struct PatternIter<'a, T: ?Sized> {
    subscriber: &'a mut PatternSubscriber<T>,
    has_ended: bool,
}

impl<T: ?Sized + Message> PatternSubscriber<T> {
    /// The messages as they come, each received as by [`recv`](Self::recv). It ends when
    /// the subscriber is [stopped](crate::SubscriberBuilder::stop), and in a forked process.
    pub fn iter(&mut self) -> PatternIter<'_, T> {
        PatternIter { subscriber: self, has_ended: false }
    }
}

impl<T: ?Sized + Message> Iterator for PatternIter<'_, T> {
    type Item = Result<TopicSample<T>, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        iter::next(&mut self.has_ended, || self.subscriber.recv())
    }
}

impl<T: ?Sized + Message> FusedIterator for PatternIter<'_, T> {}

impl<'a, T: ?Sized + Message> IntoIterator for &'a mut PatternSubscriber<T> {
    type Item = Result<TopicSample<T>, RecvError>;
    type IntoIter = PatternIter<'a, T>;

    fn into_iter(self) -> PatternIter<'a, T> {
        self.iter()
    }
}

impl<T: ?Sized> fmt::Debug for PatternIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PatternIter").field(&self.subscriber).finish()
    }
}
