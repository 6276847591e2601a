//! One of the topics that a pattern subscriber receives from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::TopicName;
use crate::error::RecvError;
use crate::mutation::{mutated, step};
use crate::parker::Ticket;
use crate::ring::reader::Peeked;
use crate::ring::vacant::VacantRing;
use crate::shm::clock::now_ns;
use crate::subscriber::followed::FollowedPublisher;
use crate::subscriber::{Sample, Subscriber};

/// The key of a topic without a message.
pub(super) const NO_MESSAGE: u64 = u64::MAX;
/// The key of a topic whose message cannot be received before a sample of it is dropped.
pub(super) const DEFERRED: u64 = u64::MAX - 1;
const LATEST_KEY: u64 = u64::MAX - 2;

/// How long before its publication a message may have been stamped: its publisher may be
/// interrupted between the two.
const STAMP_TOLERANCE: Duration = Duration::from_millis(100);

/// Has a pattern subscriber look at its topics: ends the ring at which it waits.
#[derive(Debug)]
struct SourceAlarm {
    /// Whether it was raised since it was armed. Set before the ring is ended.
    is_raised: AtomicBool,
    vacancy: VacantRing,
}

impl Wake for SourceAlarm {
    fn wake(self: Arc<Self>) {
        step!(source_alarm_raised, self.is_raised.store(true, Release));
        step!(source_alarm, self.vacancy.end());
    }
}

/// A topic that has a publisher.
///
/// Messages of different topics are ordered by *keys*: when they were published. A publisher may
/// claim any time, and must not come before all others for ever by that. So a key is not less than
/// the time at which the message was certainly not published yet.
pub(super) struct TopicSource<T: ?Sized> {
    pub(super) subscriber: Subscriber<T>,
    pub(super) topic: Arc<TopicName>,
    pub(super) publisher: FollowedPublisher,
    /// What was received instead of being looked at only, or too early.
    pub(super) ahead: Option<Result<Sample<T>, RecvError>>,
    ticket: Ticket,
    alarm: Arc<SourceAlarm>,
    waker: Waker,
    /// Messages from this position on were published later than `horizon_ns`.
    horizon: u64,
    horizon_ns: u64,
    /// Those before it, later than this.
    floor_ns: u64,
}

impl<T: ?Sized> TopicSource<T> {
    /// # Errors
    ///
    /// If a thread that waits for it cannot be started.
    pub(super) fn new(
        subscriber: Subscriber<T>,
        topic: Arc<TopicName>,
        publisher: FollowedPublisher,
        vacancy: &VacantRing,
    ) -> io::Result<Self> {
        let ticket = Ticket::new(Arc::clone(subscriber.watched()))?;
        let alarm = Arc::new(SourceAlarm { is_raised: AtomicBool::new(true), vacancy: vacancy.clone() });
        let waker = Waker::from(Arc::clone(&alarm));
        let (horizon, horizon_ns) = (subscriber.reader.horizon(), now_ns());
        Ok(Self { subscriber, topic, publisher, ahead: None, ticket, alarm, waker, horizon, horizon_ns, floor_ns: 0 })
    }

    /// Has the alarm raised as soon as there is something to receive. Returns whether there is
    /// already.
    pub(super) fn arm(&self) -> bool {
        if !self.alarm.is_raised.load(Acquire) {
            return false;
        }
        self.alarm.is_raised.store(false, Release);
        let is_ready = self.ticket.arm(&self.waker);
        if is_ready {
            self.alarm.is_raised.store(true, Release);
        }
        is_ready
    }

    /// The key of the next message, if there is one. `now_ns` is the time, or earlier.
    pub(super) fn peek(&mut self, now_ns: u64) -> u64 {
        match self.subscriber.reader.peek() {
            Some(message) => self.key_of(message, now_ns),
            None => NO_MESSAGE,
        }
    }

    /// The key of a message. One without a stamp is ordered by when it was found.
    pub(super) fn key_of(&mut self, message: Peeked, now_ns: u64) -> u64 {
        if message.position >= self.horizon {
            step!(source_floor, self.floor_ns = self.horizon_ns.saturating_sub(STAMP_TOLERANCE.as_nanos() as u64));
            (self.horizon, self.horizon_ns) = (self.subscriber.reader.horizon(), now_ns);
        }
        let claimed_ns =
            if message.stamp_ns == 0 && !mutated!(source_unstamped_first) { now_ns } else { message.stamp_ns };
        claimed_ns.clamp(self.floor_ns, LATEST_KEY)
    }
}
