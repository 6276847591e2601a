//! Opening a topic.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{ConnectOptions, TopicConnection};
use super::share::Share;
use super::spin::WaitMode;
use super::{NEVER, Spin, Subscriber};
use crate::error::OpenError;
use crate::message::Message;
use crate::ring::attached::AttachedReader;
use crate::ring::start::Start;
use crate::stop::Stop;
use crate::watched::Watched;
use crate::{Domain, IntoTopicName, TopicName, TypeInfo};

/// How to read a topic.
#[derive(Debug)]
#[must_use = "a builder does nothing until its topic is opened"]
pub struct SubscriberBuilder<T: ?Sized> {
    pub(super) options: ConnectOptions,
    spin: Spin,
    max_held: Option<u32>,
    stop: Option<Stop>,
    _receives: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> SubscriberBuilder<T> {
    /// Uses another domain than the environment's.
    pub fn domain(mut self, domain: &Domain) -> Self {
        self.options.domain = Some(domain.clone());
        self
    }

    /// The first message to receive; by default the next one to be published.
    pub fn start(mut self, start: Start) -> Self {
        self.options.start = start;
        self
    }

    /// Whether to receive validated copies instead of zero-copy samples: for tools that may be
    /// stopped at any moment and must not withhold a slot from the publisher meanwhile. A message
    /// that is overwritten while it is copied is lost, and counted. Off by default.
    pub fn copy_samples(mut self, enabled: bool) -> Self {
        self.options.copies = enabled;
        self
    }

    /// Whether `open` enters all of the region's memory into the process's page tables, so that the
    /// first read of a slot takes no page fault. On by default; see
    /// [`PublisherBuilder::prefault`](crate::PublisherBuilder::prefault).
    pub fn prefault(mut self, enabled: bool) -> Self {
        self.options.prefault = enabled;
        self
    }

    /// How long the blocking calls poll for a message before they sleep: a time, or
    /// [`Spin::Adaptive`]; not at all by default. With `Duration::MAX` they never sleep.
    ///
    /// A message that arrives while its receiver polls is received after some 100 ns instead of the
    /// tens of microseconds that waking a thread takes, and its publisher makes no system call. The
    /// price of a fixed time is a processor core, for that long after every message;
    /// `Spin::Adaptive` pays it only while messages come so fast that it is worth it.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
    /// use conduit::{Spin, Subscriber};
    ///
    /// let mut subscriber = Subscriber::<u64>::builder()
    ///     # .domain(&domain)
    ///     .spin(Spin::Adaptive)
    ///     .open("ticks")?;
    /// # publisher.send(&7)?;
    /// assert_eq!(*subscriber.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spin(mut self, spin: impl Into<Spin>) -> Self {
        self.spin = spin.into();
        self
    }

    /// How many samples this subscriber may hold at once: half of the topic's slots by default, and
    /// at least one. Receiving another one is
    /// [`TooManyHeld`](crate::RecvError::TooManyHeld), and the message stays where it is. So a
    /// subscriber that keeps samples by mistake, or takes too long with too many, gets an error
    /// itself and cannot take the last slots from the publisher.
    ///
    /// Copies do not count, since they hold no slot. The borrowed messages of
    /// [`try_recv_with`](Subscriber::try_recv_with) and of batches need room for one.
    pub fn max_held(mut self, samples: u32) -> Self {
        self.max_held = Some(samples);
        self
    }

    /// Lets `stop` end the blocking calls of this subscriber, from another thread or on a signal:
    /// see [`Stop`].
    ///
    /// Once it is stopped, they return [`RecvError::Stopped`](crate::RecvError::Stopped) at once,
    /// and [`iter`](Subscriber::iter) ends. What has arrived is not lost:
    /// [`try_recv`](Subscriber::try_recv) and the other calls that do not wait receive it.
    pub fn stop(mut self, stop: &Stop) -> Self {
        self.stop = Some(stop.clone());
        self
    }

    /// Opens the topic.
    ///
    /// # Errors
    ///
    /// If the topic has no publisher, if its messages have another type, if this user may not read
    /// it, if [`max_held`](Self::max_held) or [`deadline`](Self::deadline) is 0, or if as many
    /// subscribers are attached as the topic has
    /// [records](crate::PublisherBuilder::max_subscribers) for.
    pub fn open(self, name: impl IntoTopicName) -> Result<Subscriber<T>, OpenError>
    where
        T: Message,
    {
        let topic = name.into_topic_name()?;
        self.check()?;
        if self.options.follows {
            return self.open_following(topic);
        }
        let connection = self.options.connect(&topic, T::TYPE)?;
        let TopicConnection { reader, record, watched, layout, .. } = connection;
        let mut subscriber = self.subscriber(reader, watched, topic, layout.message);
        subscriber.pins = record.filter(|_| !self.options.copies);
        Ok(subscriber)
    }

    /// Checks what was asked for.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        if self.max_held == Some(0) {
            return Err(OpenError::NoneHeld);
        }
        if self.options.deadline == Some(Duration::ZERO) {
            return Err(OpenError::ZeroDeadline);
        }
        Ok(())
    }

    /// A subscriber that copies.
    pub(super) fn subscriber(
        &self,
        reader: AttachedReader,
        watched: Arc<Watched>,
        topic: TopicName,
        message: TypeInfo,
    ) -> Subscriber<T> {
        let share = Share::new(self.max_held, reader.slots());
        let mode = WaitMode::from(self.spin);
        Subscriber {
            reader,
            watched,
            has_deadline: self.options.deadline.is_some(),
            pins: None,
            share,
            topic,
            message,
            checks_len: self.options.expected.is_some() && !self.options.any_type,
            beacon: None,
            is_attended: self.options.deadline.is_some(),
            tick: NEVER,
            mode,
            first_tries: if self.stop.is_some() { 0 } else { mode.first_tries() },
            stop: self.stop.clone(),
            follow: None,
            _receives: PhantomData,
        }
    }
}

impl SubscriberBuilder<[u8]> {
    /// Whether to accept a topic of any type and receive its messages as bytes: for tools that
    /// record or show them. Off by default.
    pub fn any_type(mut self, enabled: bool) -> Self {
        self.options.any_type = enabled;
        self
    }

    /// Expects a type that is known only at run time, and receives its values as bytes that are
    /// aligned for it. A message whose length the type does not [admit](TypeInfo::admits) is
    /// [`RecvError::Invalid`](crate::RecvError::Invalid). See
    /// [`PublisherBuilder::message_type`](crate::PublisherBuilder::message_type).
    pub fn message_type(mut self, message: TypeInfo) -> Self {
        self.options.expected = Some(message);
        self
    }
}

impl<T: ?Sized> Subscriber<T> {
    /// Configures a subscriber that differs from the default.
    pub fn builder() -> SubscriberBuilder<T> {
        SubscriberBuilder {
            options: ConnectOptions::default(),
            spin: Spin::Never,
            max_held: None,
            stop: None,
            _receives: PhantomData,
        }
    }
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// Opens a topic; the first message received is the next one published.
    pub fn open(name: impl IntoTopicName) -> Result<Self, OpenError> {
        Self::builder().open(name)
    }
}
