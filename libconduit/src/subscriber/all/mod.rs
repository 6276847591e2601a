//! Receiving from all topics that match a pattern.

#[cfg(feature = "async")]
mod asynchronous;
mod event;
mod history;
mod iter;
mod merged;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[cfg(feature = "async")]
pub use asynchronous::AsyncPatternSubscriber;
pub use event::{PatternEvent, TopicSample};
pub use history::MatchedTopic;
pub use iter::PatternIter;

use self::merged::{Merged, Next};
use super::{Subscriber, SubscriberBuilder};
use crate::error::{OpenError, RecvError};
use crate::message::Message;
use crate::mutation::step;
use crate::ready_fd::ReadyFd;
use crate::watched::Watched;
use crate::{TopicName, TopicPattern};

/// A process's subscription to all topics that match a pattern, as they come and go.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// use conduit::{Publisher, Subscriber};
///
/// let mut transforms = Subscriber::<u64>::builder()
///     # .domain(&domain)
///     .open_all("tf/**")?;
/// # let create = |name| Publisher::<u64>::builder().domain(&domain).create(name);
/// # let (mut arm, mut base) = (create("tf/arm")?, create("tf/base")?);
/// # arm.send(&1)?;
/// # base.send(&2)?;
/// # arm.send(&3)?;
/// for message in transforms.iter() {
///     let message = message?;
///     println!("{} #{}: {:?}", message.topic(), message.sequence(), **message);
///     # if **message == 3 { break }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Order
///
/// Among the messages that can be received, the one with the oldest time stamp is received first.
/// Topics that have no message are not waited for: a message that is published later, but with an
/// older stamp, comes later. Of each topic, messages come in order. The messages of publishers
/// [without time stamps](crate::PublisherBuilder::time_stamps) are ordered by when they were found.
///
/// A stamp counts as at most 100 ms older than the message can be. So a publisher that claims wrong
/// times can delay its own messages, but not those of others. Nor can one that sends much: what it
/// sends is newer than what others have sent before.
///
/// # Topics
///
/// The topics that match when the subscriber is opened are received from
/// [`start`](SubscriberBuilder::start) on. From those that appear later every message is received,
/// as by a subscriber that [follows](SubscriberBuilder::follow): what was overwritten before it was
/// received counts as lost. A topic is left when its publisher is gone and its last message was
/// received, and joined again when there is another publisher. [`try_recv_event`] reports both;
/// [`Sample::epoch`](crate::Sample::epoch) counts the publishers of each topic. A pattern that
/// matches nothing waits.
///
/// A topic whose messages have another type, or other fields than those of its publisher before, is
/// passed over, and so is one that cannot be opened; both are reported by [`try_recv_event`], once.
/// What can be opened later is tried again twice a second. Raw regions are no topics. A
/// [`deadline`](SubscriberBuilder::deadline) is that of each topic, while it has a publisher.
///
/// # What it costs
///
/// Each topic has a subscriber of its own, with its memory mapped (all of it at once, unless
/// [`prefault`](SubscriberBuilder::prefault) is off), its share of the slots
/// ([`max_held`](SubscriberBuilder::max_held) counts for each) and two descriptors (one without a
/// registry, which by default serves 1,024 handles of one user). At most 4,096 topics are received
/// from, and fewer if descriptors run out: those that are too many are reported as not followed,
/// and tried again.
///
/// Receiving takes a pass over 8 bytes for each topic and, when nothing is left that was found
/// before, a look at each topic. Sleeping takes a thread of the library for all lookouts of a
/// directory, and one for every 127 topics (one for every topic where the kernel, before Linux
/// 5.16, or a sandbox lacks `futex_waitv(2)`), as futures and descriptors do: a message wakes two
/// threads. None of them does anything while nothing happens, except to check twice a second
/// whether publishers live.
///
/// [`try_recv_event`]: Self::try_recv_event
#[must_use = "a subscriber that is dropped receives nothing"]
pub struct PatternSubscriber<T: ?Sized> {
    pattern: TopicPattern,
    /// Waits at the vacant ring, and receives nothing.
    hub: Subscriber<T>,
    merged: Merged<T>,
    /// Whether something else waits on its behalf.
    is_awaited: AtomicBool,
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives from all topics whose names match a [pattern](TopicPattern), as they come and go;
    /// of those that exist, the first message received is the next one published.
    ///
    /// # Errors
    ///
    /// As for [`SubscriberBuilder::open_all`].
    pub fn open_all(pattern: impl AsRef<str>) -> Result<PatternSubscriber<T>, OpenError> {
        Self::builder().open_all(pattern)
    }
}

impl<T: ?Sized + Message> SubscriberBuilder<T> {
    /// Receives from all topics whose names match a [pattern](TopicPattern), as they come and go.
    /// The options apply to each topic; [`follow`](Self::follow) is implied.
    ///
    /// A recorder of all topics:
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # use conduit::{Domain, Publisher, Subscriber};
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = Domain::new(directory.path()).without_registry();
    /// # let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks")?;
    /// let mut topics = Subscriber::<[u8]>::builder()
    ///     # .domain(&domain)
    ///     .any_type(true)
    ///     .open_all("**")?;
    /// # publisher.send(&7)?;
    /// # let mut file = Vec::new();
    /// # /*
    /// let mut file = std::fs::File::create("everything")?;
    /// # */
    /// for message in topics.iter() {
    ///     let message = message?;
    ///     writeln!(file, "{} {:?} {}", message.topic(), message.stamp_ns(), message.len())?;
    ///     file.write_all(&message)?;
    ///     # break;
    /// }
    /// # assert!(file.ends_with(&7_u64.to_ne_bytes()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the pattern is not valid, if [`max_held`](Self::max_held) is 0, or if the shared-memory
    /// directory cannot be read or watched. A topic that cannot be opened is no error.
    pub fn open_all(self, pattern: impl AsRef<str>) -> Result<PatternSubscriber<T>, OpenError> {
        let pattern = TopicPattern::new(pattern.as_ref())?;
        self.check()?;
        let message = self.options.expected.unwrap_or(T::TYPE);
        let merged = Merged::new(self, pattern.clone())?;
        let reader = merged.vacancy.reader();
        let watched = Arc::new(Watched::vacant(reader.sleeper()));
        let hub = merged.builder.subscriber(reader, watched, TopicName::of_several(pattern.as_str()), message);
        Ok(PatternSubscriber { pattern, hub, merged, is_awaited: AtomicBool::new(false) })
    }
}

impl<T: ?Sized> PatternSubscriber<T> {
    /// The pattern.
    pub fn pattern(&self) -> &TopicPattern {
        &self.pattern
    }

    /// What is known of each topic that was found, in the order of their names: those that are
    /// received from, and of the others the last ones, up to 8,192 in all.
    pub fn sources(&self) -> Vec<MatchedTopic> {
        self.merged.topics()
    }

    /// Messages received so far, from all topics.
    pub fn received(&self) -> u64 {
        self.hub.received()
    }

    /// A descriptor that is readable while there is something to receive, for event loops of other
    /// libraries; see [`Subscriber::ready_fd`]. It stays readable until
    /// [`try_recv`](Self::try_recv) or [`try_recv_event`](Self::try_recv_event) has found nothing.
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::ready_fd`].
    pub fn ready_fd(&mut self) -> io::Result<ReadyFd> {
        self.watched();
        self.hub.ready_fd()
    }

    /// For what waits on this subscriber's behalf: from now on, it arms its topics before it
    /// returns without a message.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        if !self.hub.reader.is_foreign() && !self.is_awaited.swap(true, Relaxed) {
            // They are not armed yet.
            step!(all_awaited_from_now, self.merged.vacancy.end());
        }
        self.hub.watched()
    }
}

impl<T: ?Sized + Message> PatternSubscriber<T> {
    /// Receives the next message if there is one.
    ///
    /// # Errors
    ///
    /// [`Forked`](RecvError::Forked), and the errors of the topic whose turn it is:
    /// [`TooManyHeld`](RecvError::TooManyHeld), after which other topics have their turns,
    /// [`Invalid`](RecvError::Invalid), and [`Overdue`](RecvError::Overdue). The subscriber
    /// continues after them.
    pub fn try_recv(&mut self) -> Result<Option<TopicSample<T>>, RecvError> {
        let waits = *self.is_awaited.get_mut();
        next_message(&mut self.hub, &mut self.merged, waits)
    }

    /// Receives the next message, sleeping until there is one.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), and [`NotFollowed`](RecvError::NotFollowed) if a thread
    /// that waits for topics cannot be started.
    pub fn recv(&mut self) -> Result<TopicSample<T>, RecvError> {
        let merged = &mut self.merged;
        self.hub.wait(|hub| next_message(hub, merged, true), |message| message.stamp_ns())
    }

    /// Receives the next message, sleeping until there is one or the timeout expires.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`TimedOut`](RecvError::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<TopicSample<T>, RecvError> {
        let merged = &mut self.merged;
        self.hub.wait_for(timeout, |hub| next_message(hub, merged, true), |message| message.stamp_ns())
    }

    /// Receives the next message, or learns of the next change of a topic, if there is one.
    ///
    /// A topic's changes are reported in order with its messages, unless calls that receive only
    /// messages have passed them over. When a publisher has died, this asks the registry how, and
    /// waits for 100 ms at most until it knows.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    pub fn try_recv_event(&mut self) -> Result<Option<PatternEvent<T>>, RecvError> {
        let waits = *self.is_awaited.get_mut();
        next_event(&mut self.hub, &mut self.merged, waits)
    }

    /// Receives the next message or change of a topic, sleeping until there is one; see
    /// [`try_recv_event`](Self::try_recv_event).
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let publisher = conduit::Publisher::<u64>::builder().domain(&domain);
    /// # let mut publisher = publisher.create("tf/arm")?;
    /// use conduit::{PatternEvent, Subscriber};
    ///
    /// let mut transforms = Subscriber::<u64>::builder()
    ///     # .domain(&domain)
    ///     .open_all("tf/**")?;
    /// # publisher.send(&7)?;
    /// # drop(publisher);
    /// loop {
    ///     match transforms.recv_event()? {
    ///         PatternEvent::Sample(message) => println!("{}: {message:?}", message.topic()),
    ///         PatternEvent::Connected { topic, publisher } => println!("{topic}: {publisher}"),
    ///         PatternEvent::Lost { topic, how, .. } => {
    ///             println!("the publisher of {topic} {how}");
    ///             # break;
    ///         }
    ///         PatternEvent::NotFollowed { reason, .. } => println!("{reason}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn recv_event(&mut self) -> Result<PatternEvent<T>, RecvError> {
        let merged = &mut self.merged;
        self.hub.wait(|hub| next_event(hub, merged, true), |_| None)
    }

    /// Receives the next message or change of a topic, sleeping until there is one or the timeout
    /// expires.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn recv_event_timeout(&mut self, timeout: Duration) -> Result<PatternEvent<T>, RecvError> {
        let merged = &mut self.merged;
        self.hub.wait_for(timeout, |hub| next_event(hub, merged, true), |_| None)
    }
}

fn next_message<T: ?Sized + Message>(
    hub: &mut Subscriber<T>,
    merged: &mut Merged<T>,
    waits: bool,
) -> Result<Option<TopicSample<T>>, RecvError> {
    loop {
        match merged.next(hub, waits)? {
            Some(Next::Message(message)) => return Ok(Some(message)),
            Some(Next::Change(_)) => {}
            None => return Ok(None),
        }
    }
}

fn next_event<T: ?Sized + Message>(
    hub: &mut Subscriber<T>,
    merged: &mut Merged<T>,
    waits: bool,
) -> Result<Option<PatternEvent<T>>, RecvError> {
    match merged.next(hub, waits) {
        Ok(None) => Ok(None),
        Ok(Some(Next::Message(message))) => Ok(Some(PatternEvent::Sample(message))),
        Ok(Some(Next::Change(change))) => Ok(Some(merged.event(change))),
        Err(RecvError::Overdue { topic, silence }) => Ok(Some(PatternEvent::Overdue { topic, silence })),
        Err(error) => Err(error),
    }
}

impl<T: ?Sized> fmt::Debug for PatternSubscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternSubscriber")
            .field("pattern", &self.pattern.as_str())
            .field("topics", &self.merged.connected())
            .field("received", &self.received())
            .finish()
    }
}
