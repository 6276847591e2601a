//! Subscribing to a topic.

mod all;
mod batch;
mod buffer;
mod connection;
mod copied;
mod deadline;
mod follow;
mod followed;
mod iter;
mod latest;
mod lent;
mod open;
mod sample;
mod share;
mod spin;
#[cfg(test)]
mod tests;
mod wait;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

#[cfg(feature = "async")]
pub use all::AsyncPatternSubscriber;
pub use all::{MatchedTopic, PatternEvent, PatternIter, PatternSubscriber, TopicSample};
pub use batch::Borrowed;
pub use copied::Copied;
pub use follow::TopicEvent;
pub use iter::Iter;
pub use open::SubscriberBuilder;
pub use sample::Sample;
pub use spin::Spin;

use self::followed::Follow;
use self::share::Share;
use self::spin::WaitMode;
use crate::error::RecvError;
use crate::fault::{self, Step};
use crate::intervals::CHECK_INTERVAL;
use crate::message::{Kind, Message};
use crate::mutation::{mutated, step};
use crate::ready_fd::{Beacon, ReadyFd};
use crate::ring::attached::{AttachedMode, AttachedReader};
use crate::ring::copy::Line;
use crate::ring::reader::{CopyTo, Pin, Received};
use crate::ring::slot::sample::HeldMessage;
use crate::shm::clock::{coarse_now, coarse_tick};
use crate::stop::Stop;
use crate::watched::{Seat, Watched};
use crate::{TopicName, TypeInfo};

/// No tick of the coarse clock.
const NEVER: u64 = u64::MAX;

/// A process's subscription to a topic.
///
/// Samples are read in place. Several may be held at once; the publisher goes around a held slot
/// and never overwrites it. A subscriber that falls behind by as many messages as the topic has
/// slots loses messages, and every sample reports how many were lost before it.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
/// use conduit::{RecvError, Subscriber};
///
/// let mut subscriber = Subscriber::<u64>::builder()
///     # .domain(&domain)
///     .open("ticks")?;
/// # publisher.send(&7)?;
/// # drop(publisher);
/// loop {
///     match subscriber.recv() {
///         Ok(sample) => println!("{} #{} lost {}", *sample, sample.sequence(), sample.lost()),
///         Err(RecvError::PublisherGone { .. }) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a subscriber that is dropped receives nothing"]
pub struct Subscriber<T: ?Sized> {
    reader: AttachedReader,
    watched: Arc<Watched>,
    has_deadline: bool,
    /// The record that pins samples; without one, samples are copies.
    pins: Option<usize>,
    share: Share,
    topic: TopicName,
    message: TypeInfo,
    /// Whether the type was given at run time: `T` is `[u8]`, and the type decides which lengths
    /// are valid.
    checks_len: bool,
    beacon: Option<Beacon>,
    /// Whether there is more to do than to receive: there is a deadline or a beacon.
    is_attended: bool,
    /// When the publisher's life was last checked: a tick of the coarse clock.
    tick: u64,
    mode: WaitMode,
    /// How often a blocking call tries before it looks at the clock, and at what may stop it.
    first_tries: u32,
    stop: Option<Stop>,
    follow: Option<Box<Follow>>,
    _receives: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Subscriber<T> {
    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The type of the topic's messages, as the publisher named it.
    pub fn message_type(&self) -> TypeInfo {
        self.message
    }

    /// Messages lost so far. The sum of this, [`received`](Self::received) and
    /// [`skipped`](Self::skipped) is what was published since the start.
    pub fn lost(&self) -> u64 {
        self.earlier(1) + self.reader.lost()
    }

    /// Messages that [`latest`](Self::latest) and `latest_copy` have passed over so far, whether or
    /// not they were still there.
    pub fn skipped(&self) -> u64 {
        self.earlier(2) + self.reader.skipped()
    }

    /// Messages received so far.
    pub fn received(&self) -> u64 {
        self.earlier(0) + self.reader.received()
    }

    /// What earlier publishers add to a count.
    fn earlier(&self, which: usize) -> u64 {
        self.follow.as_ref().map_or(0, |follow| follow.earlier[which])
    }

    /// Whether samples are read in place. If not, they are validated copies, because this user may
    /// only read the region or because [`copy_samples`](SubscriberBuilder::copy_samples) is on.
    pub fn is_zero_copy(&self) -> bool {
        self.pins.is_some()
    }

    /// A descriptor that is readable while there is something to receive, for event loops of other
    /// libraries. [`ReadyFd`] documents exactly when.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
    /// # let mut subscriber = conduit::Subscriber::<u64>::builder().domain(&domain).open("ticks")?;
    /// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    ///
    /// let ready = subscriber.ready_fd()?;
    /// let mut descriptors = [PollFd::new(std::os::fd::AsFd::as_fd(&ready), PollFlags::POLLIN)];
    /// assert_eq!(poll(&mut descriptors, PollTimeout::ZERO)?, 0);
    /// publisher.send(&7)?;
    /// poll(&mut descriptors, PollTimeout::NONE)?;
    /// assert_eq!(*subscriber.try_recv()?.unwrap(), 7);
    /// assert_eq!(poll(&mut descriptors, PollTimeout::ZERO)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If too many files are open, or if a thread that waits for the topic cannot be started. In a
    /// process forked from the subscriber's it is an error of the kind
    /// [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub fn ready_fd(&mut self) -> std::io::Result<ReadyFd> {
        if self.reader.is_foreign() {
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, RecvError::Forked));
        }
        if let Some(handle) = self.beacon.as_ref().and_then(Beacon::handle) {
            return Ok(handle);
        }
        let (beacon, handle) = Beacon::new(&self.watched)?;
        self.beacon = Some(beacon);
        self.is_attended = true;
        Ok(handle)
    }

    /// For what waits on this subscriber's behalf: wait sets and parkers.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }

    /// Where to find that, if it changes.
    pub(crate) fn seat(&self) -> Option<&Arc<Seat>> {
        self.follow.as_ref().map(|follow| &follow.seat)
    }
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives the next message if there is one.
    ///
    /// Without a message this costs some nanoseconds and hardly disturbs the publisher, so it may
    /// be called in a loop. The death or removal of the publisher is then reported within some
    /// milliseconds of becoming known.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Sample<T>>, RecvError> {
        // Written out: the common case must not move results through memory.
        if let Some(record) = self.pins
            && let AttachedReader::Writable(reader) = &mut self.reader
            && (self.beacon.is_none() || mutated!(recv_past_beacon))
            && (!reader.memory().is_foreign() || mutated!(recv_in_child))
            && (self.share.has_room() || mutated!(recv_past_share))
            && let Some(message) = reader.receive(&mut Pin { record })
        {
            step!(share_add, self.share.add());
            return match HeldMessage::pinned(reader.memory(), record, &message) {
                Ok(held) if self.admits(&message) => Ok(Some(Sample { held, lost: message.lost })),
                _ => Err(self.invalid(&message)),
            };
        }
        self.check_and_recv()
    }

    #[inline(never)]
    fn check_and_recv(&mut self) -> Result<Option<Sample<T>>, RecvError> {
        let mut lines: Vec<Line> = Vec::new();
        let received = match self.pins {
            Some(record) => self.receive_with(&mut Pin { record })?,
            None => self.receive_with(&mut CopyTo(&mut lines))?,
        };
        received.map(|message| self.sample(&message, lines)).transpose()
    }

    /// A message that was pinned, or copied to `lines`.
    fn sample(&mut self, message: &Received, lines: Vec<Line>) -> Result<Sample<T>, RecvError> {
        let held = match (&self.reader, self.pins) {
            (AttachedReader::Writable(reader), Some(record)) => {
                step!(share_add_checked, self.share.add());
                HeldMessage::pinned(reader.memory(), record, message)
            }
            _ => HeldMessage::copied(lines, message, self.epoch()),
        };
        match held {
            Ok(held) if self.admits(message) => Ok(Sample { held, lost: message.lost }),
            _ => Err(self.invalid(message)),
        }
    }

    /// Makes the descriptor readable if, and only if, there is something left to receive.
    #[cold]
    fn settle_beacon(&mut self, error: Option<&RecvError>) {
        let Some(beacon) = &self.beacon else { return };
        match error {
            Some(RecvError::Forked) => {}
            Some(RecvError::PublisherGone { .. }) => step!(beacon_at_end, beacon.raise_for_good()),
            _ if beacon.is_used() => step!(beacon, beacon.settle(&self.watched)),
            _ => {
                self.beacon = None;
                self.is_attended = self.has_deadline;
            }
        }
    }

    /// Receives a message, or reports why none will follow.
    #[inline]
    fn receive_with<M: AttachedMode>(&mut self, mode: &mut M) -> Result<Option<Received>, RecvError> {
        if self.reader.is_foreign() && !mutated!(check_in_child) {
            return Err(RecvError::Forked);
        }
        if M::HOLDS && !self.share.has_room() && !mutated!(check_past_share) {
            self.count_held()?;
        }
        let (watched, tick) = (&self.watched, &mut self.tick);
        let received = self.reader.receive_or_end(mode, || {
            let now = coarse_tick();
            // A subscriber that polls without pause checks once per tick of the coarse clock, some
            // milliseconds, unless a wait set or parker has already seen the end.
            if now == *tick && (!watched.is_over() || mutated!(tick_of_the_over)) {
                return None;
            }
            *tick = now;
            Some(watched.check(coarse_now(), CHECK_INTERVAL))
        });
        let received = match received {
            Ok(received) => Ok(received),
            // There may be a message of another publisher: whoever waits looks again.
            Err(how) => self.move_on(how).map(|()| None),
        };
        if self.is_attended { self.attend(received) } else { received }
    }

    /// Reports a silence if there is no message, and settles the beacon.
    fn attend(&mut self, received: Result<Option<Received>, RecvError>) -> Result<Option<Received>, RecvError> {
        let received = match received {
            Ok(None) if self.has_deadline => self.report_silence(),
            received => received,
        };
        if self.beacon.is_some() {
            self.settle_beacon(received.as_ref().err());
        }
        received
    }

    /// There is no message: reports that there has been none for as long as the deadline.
    fn report_silence(&self) -> Result<Option<Received>, RecvError> {
        match self.watched.take_overdue() {
            None => Ok(None),
            Some(silence) => Err(RecvError::Overdue { topic: self.topic.clone(), silence }),
        }
    }

    /// Counts the samples that are held, because as many were received as may be.
    #[cold]
    fn count_held(&mut self) -> Result<(), RecvError> {
        self.share.recount(self.reader.held());
        let is_over = || self.watched.is_known_over() || self.reader.has_ended().is_some();
        // If nothing will follow, that is what to report.
        if self.share.has_room() || is_over() && !self.reader.has_news() {
            return Ok(());
        }
        Err(RecvError::TooManyHeld { topic: self.topic.clone(), max_held: self.share.max_held() })
    }

    /// Whether the length is valid for the type.
    #[inline(always)]
    fn admits(&self, message: &Received) -> bool {
        // Known at compile time: other types than bytes are never given at run time.
        let may_be_given = matches!(T::TYPE.kind, Kind::Slice) && T::TYPE.size == 1;
        !may_be_given || !self.checks_len || self.message.admits(message.len)
    }

    #[cold]
    fn invalid(&self, message: &Received) -> RecvError {
        RecvError::Invalid {
            topic: self.topic.clone(),
            sequence: message.sequence,
            expected: Box::new(if self.checks_len { self.message } else { T::TYPE }),
        }
    }
}

impl<T: ?Sized> Drop for Subscriber<T> {
    fn drop(&mut self) {
        if !self.reader.is_foreign() || mutated!(leave_in_child) {
            if let Some(beacon) = &self.beacon {
                step!(beacon_of_dropped, beacon.raise_for_good());
            }
            self.reader.detach();
            step!(watched_leave, self.watched.leave());
        }
        fault::point(Step::RecordReleased);
    }
}

impl<T: ?Sized> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("topic", &self.topic)
            .field("received", &self.received())
            .field("lost", &self.lost())
            .finish()
    }
}
