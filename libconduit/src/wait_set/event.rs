//! What a wait set reports.

use std::iter::FusedIterator;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::vec;

/// A subscriber or timer of a [`WaitSet`](crate::WaitSet). Tokens are unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// The number of a token, for interfaces that pass numbers. It is never 0.
impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        token.0
    }
}

/// The token of a number; a number that comes from no token is in no set.
impl From<u64> for Token {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// What a [`WaitSet`](crate::WaitSet) reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A subscriber has something to receive: a message, or the end of its topic.
    Ready(Token),
    /// A timer expired.
    Timer {
        /// The timer.
        token: Token,
        /// How many earlier expirations since the previous report this event also stands for.
        missed: u64,
    },
    /// A [`WaitSetWaker`](crate::WaitSetWaker) was used, once or several times.
    Woken,
}

/// The events that ended a wait, in the order in which to handle them. Empty if the wait timed out.
#[must_use = "events that are not handled are lost, except `Event::Ready`"]
#[derive(Clone, Debug)]
pub struct Events(pub(super) vec::IntoIter<Event>);

impl Events {
    /// Whether no events are left.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Events {}
impl FusedIterator for Events {}
