//! Opening a topic.

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::sys::stat::fstat;

use super::{NEVER, Spin, Subscriber};
use crate::error::OpenError;
use crate::fault::{self, Step};
use crate::inspect::open_directory;
use crate::message::Message;
use crate::registry::Lease;
use crate::ring::attached::AttachedReader;
use crate::ring::end::Gone;
use crate::ring::header::Layout;
use crate::ring::layout::{PAGE_BYTES, PINNING_RECORDS};
use crate::ring::reader::Reader;
use crate::ring::slot::mapped::{HeldRecord, MappedRing};
use crate::ring::start::Start;
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::{DirLocation, FileId, ShmDir};
use crate::shm::dying::RegionOwner;
use crate::shm::lock::{LockByte, OWNER};
use crate::shm::map::{Mapping, ReadOnly};
use crate::shm::mark::Mark;
use crate::shm::new_file::MAP;
use crate::shm::open::{Access, OpenFileError, is_regular, reopen};
use crate::shm::process::own_name;
use crate::shm::region_file::RegionFile;
use crate::shm::{fork, room};
use crate::watched::Watched;
use crate::{Domain, IntoTopicName, TopicName, TypeInfo};

/// How to read a topic.
#[derive(Debug)]
#[must_use = "a builder does nothing until its topic is opened"]
pub struct SubscriberBuilder<T: ?Sized> {
    domain: Option<Domain>,
    start: Start,
    any_type: bool,
    expected: Option<TypeInfo>,
    copies: bool,
    prefault: bool,
    spin: Spin,
    _receives: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> SubscriberBuilder<T> {
    /// Uses another domain than the environment's.
    pub fn domain(mut self, domain: &Domain) -> Self {
        self.domain = Some(domain.clone());
        self
    }

    /// The first message to receive; by default the next one to be published.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Whether to receive validated copies instead of zero-copy samples: for tools that may be
    /// stopped at any moment and must not withhold a slot from the publisher meanwhile. A message
    /// that is overwritten while it is copied is lost, and counted. Off by default.
    pub fn copy_samples(mut self, enabled: bool) -> Self {
        self.copies = enabled;
        self
    }

    /// Whether `open` enters all of the region's memory into the process's page tables, so that the
    /// first read of a slot takes no page fault. On by default; see
    /// [`PublisherBuilder::prefault`](crate::PublisherBuilder::prefault).
    pub fn prefault(mut self, enabled: bool) -> Self {
        self.prefault = enabled;
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

    /// Opens the topic.
    ///
    /// # Errors
    ///
    /// If the topic has no publisher, if its messages have another type, if this user may not read
    /// it, or if as many subscribers are attached as the topic has
    /// [records](crate::PublisherBuilder::max_subscribers) for.
    pub fn open(self, name: impl IntoTopicName) -> Result<Subscriber<T>, OpenError>
    where
        T: Message,
    {
        let topic = name.into_topic_name()?;
        let domain = self.domain.clone().unwrap_or_default();
        let directory = open_directory(&domain)?;
        let file = directory
            .open_file(&topic.file_name(), Access::Read)
            .map_err(|error| OpenError::from_file(error, &directory, &topic, "a topic"))?;
        let (layout, id) = self.check_region(&file, &directory, &topic)?;
        let location = directory.location().map_err(OpenError::io("examine", directory.path().into()))?;
        let (reader, record) = self
            .map(file, layout, (location, topic.clone()))
            .map_err(OpenError::io(MAP, directory.path_of(&topic)))?
            .ok_or_else(|| OpenError::TooManySubscribers { topic: topic.clone(), limit: self.records(layout).len() })?;
        // A topic that has ended is about to lose its name: opening it again must not yield the old
        // one.
        match reader.has_ended() {
            Some(Gone::Died) => return Err(OpenError::Orphaned { topic }),
            Some(Gone::Closed) => return Err(OpenError::NotFound { topic, path: directory.path().into() }),
            None => {}
        }
        let lease = Lease::attach(&domain, &topic, id, record);
        fault::point(Step::RecordRegistered);
        let publisher = RegionOwner { pid: layout.pid, file: id, is_raw: false };
        let watched = Arc::new(Watched::new(reader.sleeper(), publisher, lease));
        Ok(Subscriber {
            reader,
            watched,
            pins: record.filter(|_| !self.copies),
            topic,
            message: layout.message,
            checks_len: self.expected.is_some() && !self.any_type,
            beacon: None,
            tick: NEVER,
            mode: self.spin.into(),
            _receives: PhantomData,
        })
    }

    /// Checks that the file is a topic of the expected type whose publisher lives.
    fn check_region(
        &self,
        file: &Descriptor,
        directory: &ShmDir,
        topic: &TopicName,
    ) -> Result<(Layout, FileId), OpenError>
    where
        T: Message,
    {
        let path = || directory.path_of(topic);
        let stat = fstat(file).map_err(|errno| OpenError::io("examine", path())(errno.into()))?;
        if !is_regular(&stat) || matches!(Mark::read(file), Some(Mark::Raw { .. } | Mark::Kept)) {
            return Err(OpenError::Kind { path: path(), expected: "a topic" });
        }
        let layout = Layout::read(file).map_err(|reason| OpenError::Layout { path: path(), reason })?;
        let expected = self.expected.unwrap_or(T::TYPE);
        if layout.message != expected && !self.any_type {
            let (found, expected) = (Box::new(layout.message), Box::new(expected));
            return Err(OpenError::TypeMismatch { topic: topic.clone(), found, expected });
        }
        let id = FileId::of(&stat);
        if !OWNER.is_write_locked(file).map_err(OpenError::io("probe the lock of", path()))?
            || (RegionOwner { pid: layout.pid, file: id, is_raw: false }).dying().is_some()
        {
            return Err(OpenError::Orphaned { topic: topic.clone() });
        }
        Ok((layout, id))
    }

    /// The records that suit this subscriber, the preferred ones first. One that only copies leaves
    /// those that can pin slots to others.
    fn records(&self, layout: Layout) -> Vec<usize> {
        let records = layout.geometry.records();
        let pinning = 0..PINNING_RECORDS.min(records);
        if self.copies { (PINNING_RECORDS..records).chain(pinning).collect() } else { pinning.collect() }
    }

    /// Maps the region, with a record if this user may write it; `None` if all records are taken.
    ///
    /// A region that can be written is mapped before a record is claimed, since that can take long.
    fn map(
        &self,
        file: Descriptor,
        layout: Layout,
        name: (DirLocation, TopicName),
    ) -> io::Result<Option<(AttachedReader, Option<usize>)>> {
        // Entering a hole into the page tables takes memory.
        let prefault = self.prefault && room::is_reserved(&file);
        if let Some(mapping) = map_writable(&file, layout)? {
            if prefault {
                mapping.populate();
            }
            match attach(&file, name.clone(), mapping, layout, (self.start, self.records(layout)))? {
                Attachment::Attached(reader, record) => {
                    return Ok(Some((AttachedReader::Writable(reader), Some(record))));
                }
                Attachment::NoneFree => return Ok(None),
                Attachment::Obstructed => {}
            }
        }
        let mapping = Mapping::<ReadOnly>::new(&file, region_len(layout))?;
        if prefault {
            mapping.populate();
        }
        let ring = MappedRing::new(mapping, layout.geometry, RegionFile::new(file, Some(name))?);
        Ok(Some((AttachedReader::ReadOnly(Reader::new(Arc::new(ring), None, self.start)), None)))
    }
}

impl SubscriberBuilder<[u8]> {
    /// Whether to accept a topic of any type and receive its messages as bytes: for tools that
    /// record or show them. Off by default.
    pub fn any_type(mut self, enabled: bool) -> Self {
        self.any_type = enabled;
        self
    }

    /// Expects a type that is known only at run time, and receives its values as bytes, aligned to
    /// 64. A message whose length the type does not [admit](TypeInfo::admits) is
    /// [`RecvError::Invalid`](crate::RecvError::Invalid). See
    /// [`PublisherBuilder::message_type`](crate::PublisherBuilder::message_type).
    pub fn message_type(mut self, message: TypeInfo) -> Self {
        self.expected = Some(message);
        self
    }
}

impl<T: ?Sized> Subscriber<T> {
    /// Configures a subscriber that differs from the default.
    pub fn builder() -> SubscriberBuilder<T> {
        SubscriberBuilder {
            domain: None,
            start: Start::Next,
            any_type: false,
            expected: None,
            copies: false,
            prefault: true,
            spin: Spin::Never,
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

fn region_len(layout: Layout) -> NonZeroUsize {
    NonZeroUsize::new(layout.geometry.region_bytes() as usize).unwrap_or(NonZeroUsize::MIN)
}

/// Maps the region, without locks; `None` if this user may only read it.
fn map_writable(file: &Descriptor, layout: Layout) -> io::Result<Option<Mapping>> {
    let _no_fork = fork::ForkGuard::new();
    match reopen(file, Access::ReadWrite) {
        Ok(writable) => Mapping::new(writable, region_len(layout)).map(Some),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            io::ErrorKind::WouldBlock => Err(OpenFileError::Leased.into()),
            _ => Err(error),
        },
    }
}

/// What came of claiming a record.
enum Attachment {
    Attached(Reader<MappedRing>, usize),
    NoneFree,
    /// A process that may only read the region holds read locks on the records that are free. It
    /// can keep others from locking them, but not from reading: without a record.
    Obstructed,
}

/// Claims a record, and attaches with it.
fn attach(
    file: &Descriptor,
    region_name: (DirLocation, TopicName),
    mapping: Mapping,
    layout: Layout,
    (start, records): (Start, Vec<usize>),
) -> io::Result<Attachment> {
    const PAGE: NonZeroUsize = NonZeroUsize::new(PAGE_BYTES).unwrap();
    let name = own_name();
    let kept = RegionFile::new(Descriptor::reopen(file, Access::Read)?, Some(region_name))?;
    let _no_fork = fork::ForkGuard::new();
    let locked = reopen(file, Access::ReadWrite)?;
    let Some(index) = claim_record(locked.as_fd(), &records)? else {
        for record in records {
            if !LockByte::record(record).is_write_locked(&locked)? {
                return Ok(Attachment::Obstructed);
            }
        }
        return Ok(Attachment::NoneFree);
    };
    fault::point(Step::RecordLocked);
    let held = HeldRecord::new(index, Mapping::new(&locked, PAGE)?);
    fault::point(Step::RecordMapped);
    let (pid, uid) = (std::process::id(), nix::unistd::getuid().as_raw());
    let ring = MappedRing::new(mapping, layout.geometry, kept);
    let ring = ring.with_record(held, pid, uid, name);
    let reader = Reader::new(Arc::new(ring), Some(index), start);
    // Only now: whoever counts this reader may rely on its cursor.
    if !LockByte::attached(index).try_write(&locked)? {
        return Ok(Attachment::Obstructed);
    }
    fault::point(Step::RecordAttached);
    Ok(Attachment::Attached(reader, index))
}

/// Locks a free record, of which the second byte is free, too.
fn claim_record(locked: impl AsFd + Copy, records: &[usize]) -> io::Result<Option<usize>> {
    // Twice: the publisher locks the record of a dead subscriber briefly, to clear it.
    for &record in records.iter().chain(records) {
        if LockByte::record(record).try_write(locked)? {
            if !LockByte::attached(record).is_locked(locked)? {
                return Ok(Some(record));
            }
            LockByte::record(record).unlock(locked);
        }
    }
    Ok(None)
}
