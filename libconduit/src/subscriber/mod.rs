//! The subscribing side, typed.

mod batch;
mod copied;

pub use batch::Borrowed;
pub use copied::Copied;

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;

use crate::error::{OpenError, RecvError};
use crate::fault::{self, Step};
use crate::intervals::CHECK_INTERVAL;
use crate::message::Message;
use crate::ready_fd::{Beacon, ReadyFd};
use crate::registry::Lease;
use crate::ring::copy::Line;
use crate::ring::end::Gone;
use crate::ring::header::{Layout, read_control};
use crate::ring::layout::RECORDS;
use crate::ring::reader::{Reader, Received};
use crate::ring::slot::{Held, Invalid, MappedRing};
use crate::ring::start::Start;
use crate::shm::clock::{coarse_now, coarse_tick};
use crate::shm::dir::{FileId, ShmDir};
use crate::shm::fork;
use crate::shm::lock::{LockByte, OWNER};
use crate::shm::map::Mapping;
use crate::shm::mark::Mark;
use crate::shm::open::{Access, OpenFileError, is_regular, reopen};
use crate::shm::process::own_name;
use crate::watched::Watched;
use crate::{Domain, IntoTopicName, TopicName, TypeInfo};

/// How often a subscriber that spins tries before it looks at the clock: for about a microsecond.
const TRIES_PER_CLOCK_READ: u32 = 64;
/// No tick of the coarse clock.
const NEVER: u64 = u64::MAX;

/// A reader of a topic.
///
/// Samples are read where they lie. Several may be held at once; a held slot is skipped by the publisher, never
/// overwritten. A subscriber that falls behind by as many messages as the topic has slots misses messages, and learns how many.
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
pub struct Subscriber<T: ?Sized> {
    reader: Reader<Arc<MappedRing>>,
    watched: Arc<Watched>,
    /// The record that samples are pinned with; without one they are copies.
    pins: Option<usize>,
    topic: TopicName,
    message: TypeInfo,
    /// The type was given at run time: messages are bytes here, of the lengths it admits.
    checks_len: bool,
    beacon: Option<Beacon>,
    /// When what others say of the topic was last looked at: a tick of the coarse clock.
    tick: u64,
    spin: Duration,
    _receives: PhantomData<fn() -> Box<T>>,
}

/// How a topic is to be read.
#[derive(Debug)]
pub struct SubscriberBuilder<T: ?Sized> {
    domain: Option<Domain>,
    start: Start,
    any_type: bool,
    expected: Option<TypeInfo>,
    copies: bool,
    prefault: bool,
    spin: Duration,
    _receives: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> SubscriberBuilder<T> {
    /// Uses another domain than the environment's.
    pub fn domain(mut self, domain: &Domain) -> Self {
        self.domain = Some(domain.clone());
        self
    }

    /// Where to start; by default with the next message to be published.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Whether to receive validated copies instead of zero-copy samples: for tools that may be stopped at any moment
    /// and must not withhold a slot from the publisher meanwhile. A message that is overwritten while it is copied is
    /// lost, and counted. Off by default.
    pub fn copy_samples(mut self, enabled: bool) -> Self {
        self.copies = enabled;
        self
    }

    /// Whether `open` enters all of the region's memory into the process's page tables, so that reading a slot for the first time does not
    /// stop for it. On by default; see [`PublisherBuilder::prefault`](crate::PublisherBuilder::prefault).
    pub fn prefault(mut self, enabled: bool) -> Self {
        self.prefault = enabled;
        self
    }

    /// How long `recv` and its kin look for a message again and again before they go to sleep; not at all by default. With
    /// `Duration::MAX` they never sleep.
    ///
    /// A message that comes while its receiver spins is there after some 100 ns instead of the tens of microseconds that it takes to wake a
    /// sleeper, and its publisher makes no system call. The price is a processor core, for that long after every message.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Opens the topic.
    pub fn open(self, name: impl IntoTopicName) -> Result<Subscriber<T>, OpenError>
    where
        T: Message,
    {
        let topic = name.into_topic_name()?;
        let domain = self.domain.unwrap_or_default();
        let directory = ShmDir::open(&domain).map_err(OpenError::io("open", domain.shm_dir().into()))?;
        let (file, may_write) = open_region(&directory, &topic)?;
        let path = || directory.path_of(&topic);
        let (layout, id) = check_region(&file).map_err(|error| error(path()))?;
        let expected = self.expected.unwrap_or(T::TYPE);
        if layout.message != expected && !self.any_type {
            return Err(OpenError::TypeMismatch {
                topic,
                found: Box::new(layout.message),
                expected: Box::new(expected),
            });
        }
        if !OWNER.is_write_locked(&file).map_err(OpenError::io("probe the lock of", path()))? {
            return Err(OpenError::Orphaned { topic });
        }
        let record = if may_write { Some(claim_record(&file, layout)) } else { None };
        let (mapping, record) = match record {
            Some(Ok(Some((mapping, record)))) => (Ok(mapping), Some(record)),
            Some(Ok(None)) => return Err(OpenError::TooManySubscribers { topic, limit: RECORDS }),
            Some(Err(error)) => (Err(error), None),
            None => (Mapping::new(&file, region_len(layout), false), None),
        };
        let mapping = mapping.map_err(OpenError::io("map", path()))?;
        if self.prefault {
            mapping.populate(record.is_some());
        }
        let mut ring = MappedRing::new(mapping, layout.geometry, file);
        if let Some(record) = record {
            ring = ring.with_record(record, std::process::id(), nix::unistd::getuid().as_raw(), own_name());
        }
        let reader = Reader::new(Arc::new(ring), record, self.start);
        // Its name is about to be removed: who opens a topic again shall not get the old one.
        match reader.has_ended() {
            Some(Gone::Died) => return Err(OpenError::Orphaned { topic }),
            Some(Gone::Closed) => return Err(OpenError::NotFound { topic, path: directory.path().into() }),
            None => {}
        }
        let lease = Lease::attach(&domain, &topic, id, record);
        fault::point(Step::RecordAttached);
        let watched = Arc::new(Watched::new(reader.sleeper().clone(), lease));
        Ok(Subscriber {
            reader,
            watched,
            pins: record.filter(|_| !self.copies),
            topic,
            message: layout.message,
            checks_len: self.expected.is_some() && !self.any_type,
            beacon: None,
            tick: NEVER,
            spin: self.spin,
            _receives: PhantomData,
        })
    }
}

impl SubscriberBuilder<[u8]> {
    /// Whether to accept a topic of any type and receive its messages as bytes: for tools that record or show them.
    /// Off by default.
    pub fn any_type(mut self, enabled: bool) -> Self {
        self.any_type = enabled;
        self
    }

    /// Expects a type that is known only at run time, and receives its values as bytes, aligned to 64. A message whose length the
    /// type does not [admit](TypeInfo::admits) is [`RecvError::Invalid`]. See
    /// [`PublisherBuilder::message_type`](crate::PublisherBuilder::message_type).
    pub fn message_type(mut self, message: TypeInfo) -> Self {
        self.expected = Some(message);
        self
    }
}

/// Opens the file for writing if this user may, else for reading.
fn open_region(directory: &ShmDir, topic: &TopicName) -> Result<(OwnedFd, bool), OpenError> {
    let name = topic.file_name();
    let opened = match directory.open_file(&name, Access::ReadWrite) {
        Err(OpenFileError::NoPermission) => directory.open_file(&name, Access::Read).map(|file| (file, false)),
        other => other.map(|file| (file, true)),
    };
    opened.map_err(|error| OpenError::from_file(error, directory, topic, "a topic"))
}

fn check_region(file: &OwnedFd) -> Result<(Layout, FileId), impl FnOnce(std::path::PathBuf) -> OpenError + use<>> {
    let check = || {
        let stat = fstat(file).map_err(|errno| CheckError::Io(errno.into()))?;
        if !is_regular(&stat) || matches!(Mark::read(file), Some(Mark::Raw { .. } | Mark::Kept)) {
            return Err(CheckError::Kind);
        }
        let layout = Layout::check(&read_control(file), stat.st_size.max(0) as u64).map_err(CheckError::Layout)?;
        Ok((layout, FileId::of(&stat)))
    };
    check().map_err(|error| {
        move |path| match error {
            CheckError::Io(source) => OpenError::io("examine", path)(source),
            CheckError::Kind => OpenError::Kind { path, expected: "a topic" },
            CheckError::Layout(reason) => OpenError::Layout { path, reason },
        }
    })
}

enum CheckError {
    Io(std::io::Error),
    Kind,
    Layout(crate::LayoutError),
}

fn region_len(layout: Layout) -> NonZeroUsize {
    NonZeroUsize::new(layout.geometry.region_bytes() as usize).unwrap_or(NonZeroUsize::MIN)
}

/// Takes the lock of a free record, on a description that from then on lives in the mapping alone.
fn claim_record(file: &OwnedFd, layout: Layout) -> std::io::Result<Option<(Mapping, usize)>> {
    let _no_fork = fork::Guard::new();
    let locked = reopen(file, Access::ReadWrite)?;
    // Twice: the publisher may hold the lock of a dead subscriber's record for a moment.
    for record in (0..RECORDS).chain(0..RECORDS) {
        if LockByte::record(record).try_write(&locked)? {
            fault::point(Step::RecordLocked);
            let mapping = Mapping::new(&locked, region_len(layout), true)?;
            fault::point(Step::RecordMapped);
            return Ok(Some((mapping, record)));
        }
    }
    Ok(None)
}

impl<T: ?Sized> Subscriber<T> {
    /// Starts to describe a subscriber that differs from the default.
    pub fn builder() -> SubscriberBuilder<T> {
        SubscriberBuilder {
            domain: None,
            start: Start::Next,
            any_type: false,
            expected: None,
            copies: false,
            prefault: true,
            spin: Duration::ZERO,
            _receives: PhantomData,
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The type of the topic's messages, as the publisher named it.
    pub fn message_type(&self) -> TypeInfo {
        self.message
    }

    /// Messages missed so far. With [`received`](Self::received) it adds up to what was published since the start.
    pub fn lost(&self) -> u64 {
        self.reader.lost()
    }

    /// Messages received so far.
    pub fn received(&self) -> u64 {
        self.reader.received()
    }

    /// Whether samples are read in place. If not, they are validated copies: this user may only read the region, or wanted
    /// them.
    pub fn is_zero_copy(&self) -> bool {
        self.pins.is_some()
    }

    /// A descriptor that is readable while there is something to receive: for event loops that do not know of this library.
    /// [`ReadyFd`] says exactly when.
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
    /// If there are too many open files, or a thread is needed to wait for the topic and can not be started. In a process forked from the
    /// subscriber's it is an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub fn ready_fd(&mut self) -> std::io::Result<ReadyFd> {
        if self.reader.memory().is_foreign() {
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, RecvError::Forked));
        }
        if let Some(handle) = self.beacon.as_ref().and_then(Beacon::handle) {
            return Ok(handle);
        }
        let (beacon, handle) = Beacon::new(&self.watched)?;
        self.beacon = Some(beacon);
        Ok(handle)
    }

    /// For whoever waits on this subscriber's behalf.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// Opens a topic; the first message received is the next one published.
    pub fn open(name: impl IntoTopicName) -> Result<Self, OpenError> {
        Self::builder().open(name)
    }

    /// Receives the next message, sleeping until there is one.
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<T>, RecvError> {
        self.wait(Self::try_recv)
    }

    /// Receives the next message, sleeping until there is one or the time is up.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Sample<T>, RecvError> {
        self.wait_for(timeout, Self::try_recv)
    }

    /// Receives the next message if there is one.
    ///
    /// Looking for a message that is not there costs some nanoseconds and disturbs the publisher as little as can be, so it may
    /// be called in a loop. That the publisher died, or was removed by others, is then seen some milliseconds after it is known.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Sample<T>>, RecvError> {
        // Written out, so that the usual case gets by without moving results about in memory.
        if let Some(record) = self.pins
            && self.beacon.is_none()
            && !self.reader.memory().is_foreign()
            && let Some(message) = self.reader.receive_pinned()
        {
            return match Held::pinned(self.reader.memory(), record, &message) {
                Ok(held) if self.admits(&message) => Ok(Some(Sample { held, lost: message.lost })),
                _ => Err(self.invalid(&message)),
            };
        }
        self.look_or_recv()
    }

    #[inline(never)]
    fn look_or_recv(&mut self) -> Result<Option<Sample<T>>, RecvError> {
        let pins = self.pins;
        let Some((message, held)) = self.receive_with(|reader| receive(reader, pins))? else { return Ok(None) };
        match held {
            Ok(held) if self.admits(&message) => Ok(Some(Sample { held, lost: message.lost })),
            _ => Err(self.invalid(&message)),
        }
    }

    /// Brings the descriptor in line with what is left to receive.
    #[cold]
    fn settle_beacon(&mut self, error: Option<&RecvError>) {
        let Some(beacon) = &self.beacon else { return };
        match error {
            Some(RecvError::Forked) => {}
            Some(RecvError::PublisherGone { .. }) => beacon.raise_for_good(),
            _ if beacon.is_used() => beacon.settle(&self.watched),
            _ => self.beacon = None,
        }
    }

    /// What `receive` returns, or why nothing will follow.
    #[inline]
    fn receive_with<R>(
        &mut self,
        receive: impl FnMut(&mut Reader<Arc<MappedRing>>) -> Option<R>,
    ) -> Result<Option<R>, RecvError> {
        if self.reader.memory().is_foreign() {
            return Err(RecvError::Forked);
        }
        let (watched, tick) = (&self.watched, &mut self.tick);
        let received = self.reader.receive_or_end(receive, |_| {
            let now = coarse_tick();
            // Who polls without pause asks so once in a tick of that clock, some milliseconds; unless somebody who waits for it
            // has seen the end.
            if now == *tick && !watched.is_over() {
                return None;
            }
            *tick = now;
            Some(watched.look(coarse_now(), CHECK_INTERVAL))
        });
        let received = received.map_err(|how| self.gone(how));
        if self.beacon.is_some() {
            self.settle_beacon(received.as_ref().err());
        }
        received
    }

    #[cold]
    fn gone(&self, how: Gone) -> RecvError {
        RecvError::PublisherGone { topic: self.topic.clone(), how }
    }

    /// Whether the message is one of the type, as far as its length tells.
    #[inline(always)]
    fn admits(&self, message: &Received) -> bool {
        !self.checks_len || self.message.admits(message.len)
    }

    #[cold]
    fn invalid(&self, message: &Received) -> RecvError {
        RecvError::Invalid {
            topic: self.topic.clone(),
            sequence: message.sequence,
            expected: Box::new(if self.checks_len { self.message } else { T::TYPE }),
        }
    }

    /// Tries until there is something.
    #[inline]
    fn wait<R>(&mut self, mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>) -> Result<R, RecvError> {
        let tries = if self.spin.is_zero() { 1 } else { TRIES_PER_CLOCK_READ };
        for _ in 0..tries {
            if let Some(received) = try_recv(self)? {
                return Ok(received);
            }
        }
        loop {
            if let Some(received) = self.wait_until(None, &mut try_recv)? {
                return Ok(received);
            }
        }
    }

    /// Tries until there is something, or the time is up.
    fn wait_for<R>(
        &mut self,
        timeout: Duration,
        try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<R, RecvError> {
        // A timeout beyond the clock's end is none.
        let deadline = Instant::now().checked_add(timeout);
        self.wait_until(deadline, try_recv)?.ok_or_else(|| RecvError::TimedOut { topic: self.topic.clone(), timeout })
    }

    fn wait_until<R>(
        &mut self,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        loop {
            if let Some(received) = self.spin(deadline, &mut try_recv)? {
                return Ok(Some(received));
            }
            let mut step = self.watched.longest_sleep();
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(None);
                }
                step = step.min(left);
            }
            let has_news = self.reader.sleep(step);
            self.tick = NEVER;
            if !has_news {
                self.watched.look_after_waking();
            }
        }
    }

    /// Tries once, and then again and again for as long as the builder said.
    #[inline]
    fn spin<R>(
        &mut self,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let received = try_recv(self)?;
        if received.is_some() || self.spin.is_zero() {
            return Ok(received);
        }
        let begun = Instant::now();
        let end = begun.checked_add(self.spin).into_iter().chain(deadline).min();
        loop {
            for _ in 0..TRIES_PER_CLOCK_READ {
                if let Some(received) = try_recv(self)? {
                    return Ok(Some(received));
                }
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(None);
            }
        }
    }
}

/// The next message, pinned with the record or copied out without one.
fn receive<T: ?Sized + Message>(
    reader: &mut Reader<Arc<MappedRing>>,
    pins: Option<usize>,
) -> Option<(Received, Result<Held<T>, Invalid>)> {
    if let Some(record) = pins {
        let message = reader.receive_pinned()?;
        let held = Held::pinned(reader.memory(), record, &message);
        Some((message, held))
    } else {
        let mut lines: Vec<Line> = Vec::new();
        let message = reader.receive_copy(&mut lines)?;
        let held = Held::copied(lines, &message);
        Some((message, held))
    }
}

impl<T: ?Sized> Drop for Subscriber<T> {
    fn drop(&mut self) {
        if !self.reader.memory().is_foreign() {
            if let Some(beacon) = &self.beacon {
                beacon.raise_for_good();
            }
            self.watched.leave();
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

/// A message as a subscriber holds it. While it lives its slot is not overwritten; it may outlive the subscriber and the
/// topic, and be sent to another thread.
///
/// In a process forked from the subscriber's, reading a zero-copy sample is an invalid memory access: the region is not
/// inherited.
pub struct Sample<T: ?Sized> {
    held: Held<T>,
    lost: u64,
}

/// What every form of a received message says of it.
macro_rules! message_accessors {
    ($sequence:expr, $lost:expr, $stamp_ns:expr) => {
        /// The message's number, from 0 at the topic's creation and without gaps at the publisher.
        pub fn sequence(&self) -> u64 {
            $sequence(self)
        }

        /// How many messages this subscriber missed between the one before and this one.
        pub fn lost(&self) -> u64 {
            $lost(self)
        }

        /// When it was published: CLOCK_MONOTONIC in nanoseconds; `None` if the publisher has time stamps off.
        pub fn stamp_ns(&self) -> Option<u64> {
            Some($stamp_ns(self)).filter(|&stamp_ns| stamp_ns != 0)
        }

        /// How long ago it was published; `None` if the publisher has time stamps off.
        pub fn age(&self) -> Option<std::time::Duration> {
            let now_ns = $crate::shm::clock::now_ns();
            self.stamp_ns().map(|stamp_ns| std::time::Duration::from_nanos(now_ns.saturating_sub(stamp_ns)))
        }
    };
}
use message_accessors;

impl<T: ?Sized> Sample<T> {
    message_accessors!(|sample: &Self| sample.held.sequence(), |sample: &Self| sample.lost, |sample: &Self| {
        sample.held.stamp_ns()
    });

    /// Whether the message is read in place; if not, it is a copy.
    pub fn is_zero_copy(&self) -> bool {
        self.held.is_pinned()
    }
}

impl<T: ?Sized> Deref for Sample<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Sample<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
