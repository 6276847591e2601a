//! Creating a topic.

use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::Publisher;
use crate::create::{CreateOptions, Created};
use crate::error::CreateError;
use crate::message::{Kind, Message};
use crate::ring::geometry::Geometry;
use crate::ring::header::Layout;
use crate::ring::layout::{
    DEFAULT_RECORDS, DEFAULT_SLOT_BYTES, DEFAULT_SLOTS, SLOT_ALIGN, SLOT_OVERHEAD_BYTES, SPACIOUS_SLOT_BYTES,
};
use crate::ring::reuse::Reuse;
use crate::ring::slot::mapped::MappedRing;
use crate::ring::writer::Writer;
use crate::shm::mark::Mark;
use crate::shm::process::own_name;
use crate::shm::region_file::RegionFile;
use crate::{Domain, IntoTopicName, Shape, TypeInfo};

/// How to create a topic.
#[derive(Debug)]
#[must_use = "a builder does nothing until its topic is created"]
pub struct PublisherBuilder<T: ?Sized> {
    options: CreateOptions,
    slots: u32,
    slot_bytes: Option<usize>,
    capacity: Option<usize>,
    max_subscribers: u16,
    retain: u16,
    deadline: Option<Duration>,
    time_stamps: bool,
    prefault: bool,
    message: Option<TypeInfo>,
    shape: Option<Shape>,
    _sends: PhantomData<fn(&T)>,
}

impl<T: ?Sized> PublisherBuilder<T> {
    /// Uses another domain than the environment's.
    pub fn domain(mut self, domain: &Domain) -> Self {
        self.options.domain = Some(domain.clone());
        self
    }

    /// Number of slots: 2 to 65,536, 16 by default. A power of two saves some nanoseconds per
    /// message.
    ///
    /// It limits how many samples all subscribers together can hold, and how many messages one of
    /// them can fall behind without loss: one fewer, because one slot is always the publisher's.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Size of a slot in bytes: a multiple of 128, of which 192 are the slot's state and header. By
    /// default what a message of the type needs, or 4096 if their lengths differ. Excludes
    /// [`capacity`](Self::capacity).
    pub fn slot_size(mut self, slot_bytes: usize) -> Self {
        self.slot_bytes = Some(slot_bytes);
        self
    }

    /// Makes the slots large enough for messages of `len_bytes`. Excludes
    /// [`slot_size`](Self::slot_size).
    pub fn capacity(mut self, len_bytes: usize) -> Self {
        self.capacity = Some(len_bytes);
        self
    }

    /// How many subscribers can be attached at a time: 1 to 1,024; 60 by default, which is also the
    /// number of those that can hold samples in place. More than that must
    /// [copy](crate::SubscriberBuilder::copy_samples). Each takes 64 bytes of the region.
    pub fn max_subscribers(mut self, max_subscribers: u16) -> Self {
        self.max_subscribers = max_subscribers;
        self
    }

    /// How many messages are kept at least, once every subscriber has received them, for those that
    /// open the topic later with [`Start::Last`](crate::Start::Last) or
    /// [`Start::Oldest`](crate::Start::Oldest); 1 by default.
    ///
    /// Matters for large messages: of 32 KiB or more on Intel's processors; of 512 KiB or more on
    /// others, if all their cores share a cache. Their publisher reuses the slot of the newest
    /// message that all subscribers have received, because it is in the processor's caches still;
    /// each message that is kept takes the caches' room for one. Of other messages one fewer are
    /// kept than the topic has slots, which is also the most that can be kept. Subscribers that may
    /// only read the region count as having received everything, and lose more when they are slow.
    pub fn retain(mut self, messages: u16) -> Self {
        self.retain = messages;
        self
    }

    /// Permission bits of the region's file, 0o640 for example. By default what the process's umask
    /// leaves of 0o666. The owner may always read and write.
    ///
    /// A process that may only read the file can subscribe too: it receives validated copies
    /// instead of zero-copy samples.
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode = Some(mode);
        self
    }

    /// Numeric id of the group of the region's file.
    pub fn group(mut self, gid: u32) -> Self {
        self.options.group = Some(gid);
        self
    }

    /// How long `create` waits for a dying owner of the name before it fails; 250 ms by default.
    pub fn takeover_timeout(mut self, patience: Duration) -> Self {
        self.options.patience = patience;
        self
    }

    /// Promises to send at least so often. The registry reports a topic that has been silent for
    /// longer as [overdue](crate::registry::EventKind::Overdue) and says when it has
    /// [resumed](crate::registry::EventKind::Resumed); `conduit list` and `info` show it. None by
    /// default.
    ///
    /// It costs the publisher nothing: the promise is in the region, and the daemon looks when the
    /// next message is due. It looks at a topic at most every 10 ms, less often if it has very many
    /// to look at, and for the end of a silence after an eighth of it, so every second at most. It
    /// reports one silence of a topic per second. A topic whose first message does not come in
    /// time is overdue, too. Without [time stamps](Self::time_stamps), silences are measured from
    /// look to look. Time that the machine is suspended for does not count.
    ///
    /// `Duration::MAX` is a promise that the daemon never finds broken; zero is an error of
    /// [`create`](Self::create). A subscriber that wants to know itself has a
    /// [deadline of its own](crate::SubscriberBuilder::deadline).
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// use std::time::Duration;
    ///
    /// use conduit::Publisher;
    /// use conduit::inspect::Region;
    ///
    /// let deadline = Duration::from_millis(100);
    /// let imu = Publisher::<f64>::builder().deadline(deadline)
    ///     # .domain(&domain)
    ///     .create("imu")?;
    /// let region = Region::open(&domain, imu.topic())?;
    /// assert_eq!(region.deadline(), Some(deadline));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Whether every message carries the time of its publication, which costs one read of the
    /// clock. On by default.
    pub fn time_stamps(mut self, enabled: bool) -> Self {
        self.time_stamps = enabled;
        self
    }

    /// Whether `create` enters all of the region's memory into the process's page tables. On by
    /// default.
    ///
    /// The memory is reserved in either case. Prefaulting takes about 1.3 us per page of 4 KiB once
    /// (25 us for a default topic, 65 ms for 192 MiB). Without it the first use of every slot takes
    /// page faults that cost twice as much, in the middle of each side's work.
    pub fn prefault(mut self, enabled: bool) -> Self {
        self.prefault = enabled;
        self
    }

    /// Creates the topic. The name of a dead publisher's topic is taken over.
    ///
    /// # Errors
    ///
    /// If a live process publishes the topic, if the slots are not possible or messages of the type
    /// do not fit them, if the [`deadline`](Self::deadline) is 0, if there is too little memory, or
    /// if the registry's policy does not allow it.
    pub fn create(self, name: impl IntoTopicName) -> Result<Publisher<T>, CreateError>
    where
        T: Message,
    {
        let topic = name.into_topic_name()?;
        let message = self.message.unwrap_or(T::TYPE);
        let geometry = self.geometry(&message)?;
        let (pid, uid, program) = (std::process::id(), nix::unistd::getuid().as_raw(), own_name());
        let (retain, deadline_ns) = (self.retain, self.deadline_ns()?);
        let control_page = Layout { geometry, message, retain, deadline_ns, pid, uid, program }.control_page();
        // `[u8]` has no shape to describe.
        let of_type = || (T::TYPE != <[u8]>::TYPE).then(T::shape);
        let shape = self.shape.clone().or_else(of_type).and_then(|shape| shape.to_text());
        let size = geometry.region_bytes();
        let Created { file, location, lease } =
            self.options.create(&topic, size, Mark::Topic, &control_page, shape.as_deref())?;
        let id = file.id;
        if self.prefault {
            file.mapping.populate();
        }
        let kept = RegionFile::new(file.file, Some((location.clone(), topic.clone())));
        let kept = kept.map_err(CreateError::io("examine", location.path_of(&topic)))?;
        let ring = MappedRing::new(file.mapping, geometry, kept);
        Ok(Publisher {
            writer: Writer::new(Arc::new(ring), Reuse::for_capacity(geometry.capacity(), self.retain)),
            topic,
            location,
            id,
            lease,
            time_stamps: self.time_stamps,
            message: self.message,
            is_unlink_reported: false,
            discarded_loans: 0,
            _sends: PhantomData,
        })
    }

    fn deadline_ns(&self) -> Result<Option<NonZeroU64>, CreateError> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let deadline_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        NonZeroU64::new(deadline_ns).map(Some).ok_or(CreateError::ZeroDeadline)
    }

    fn geometry(&self, message: &TypeInfo) -> Result<Geometry, CreateError> {
        let need = if message.kind == Kind::Value { message.size } else { 0 };
        let slot_bytes = match (self.slot_bytes, self.capacity) {
            (Some(slot_size), Some(capacity)) => return Err(CreateError::SlotSizeAndCapacity { slot_size, capacity }),
            (Some(slot_bytes), None) => slot_bytes as u64,
            (None, Some(capacity)) => slot_bytes_for(capacity as u64),
            (None, None) if message.kind == Kind::Value => slot_bytes_for(need),
            (None, None) => DEFAULT_SLOT_BYTES,
        };
        let geometry = Geometry::new(self.slots, slot_bytes)?.with_records(self.max_subscribers)?.for_messages(message);
        let capacity = geometry.capacity() as u64;
        if need > capacity {
            return Err(CreateError::SlotTooSmall { message: Box::new(*message), need, capacity });
        }
        Ok(geometry)
    }
}

impl PublisherBuilder<[u8]> {
    /// The slot size that [`capacity`](Self::capacity) computes for messages of `len_bytes`, for
    /// programs that display it or use it as a default.
    ///
    /// ```
    /// use conduit::PublisherBuilder;
    ///
    /// assert_eq!(PublisherBuilder::slot_size_for(65), 384);
    /// assert_eq!(PublisherBuilder::slot_size_for(3904), 4096);
    /// assert_eq!(PublisherBuilder::slot_size_for(3905), 8192);
    /// ```
    pub fn slot_size_for(len_bytes: usize) -> usize {
        usize::try_from(slot_bytes_for(len_bytes as u64)).unwrap_or(usize::MAX)
    }

    /// Gives the topic a type other than bytes that is known only at run time. Messages are sent as
    /// the bytes of its values; one whose length the type does not [admit](TypeInfo::admits) is
    /// refused with [`LoanError::WrongLength`](crate::LoanError::WrongLength). The caller ensures
    /// that the bytes are valid values. Payloads are aligned for the type.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// use conduit::{Kind, Publisher, Subscriber, TypeInfo};
    ///
    /// let ticks = TypeInfo::new("u64", Kind::Value, 8, 8)?;
    /// let mut publisher = Publisher::<[u8]>::builder().message_type(ticks)
    ///     # .domain(&domain)
    ///     .create("ticks")?;
    /// let mut subscriber = Subscriber::<u64>::builder()
    ///     # .domain(&domain)
    ///     .open("ticks")?;
    /// publisher.send(&7_u64.to_ne_bytes())?;
    /// assert_eq!(*subscriber.recv()?, 7);
    /// assert!(publisher.send(b"short").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn message_type(mut self, message: TypeInfo) -> Self {
        self.message = Some(message);
        self
    }

    /// Says which fields the messages of such a type have; of a slice, its elements. Tools that
    /// show messages use it if its size is that of the type.
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = Some(shape);
        self
    }
}

/// The slot size that suits messages of this length: whole pairs of cache lines, at least three,
/// and whole pages above one page.
fn slot_bytes_for(len_bytes: u64) -> u64 {
    let needed = len_bytes.saturating_add(SLOT_OVERHEAD_BYTES as u64);
    let unit = if needed > DEFAULT_SLOT_BYTES { DEFAULT_SLOT_BYTES } else { SLOT_ALIGN };
    // `Geometry` refuses sizes beyond those of files.
    needed.checked_next_multiple_of(unit).unwrap_or(u64::MAX).max(SPACIOUS_SLOT_BYTES)
}

impl<T: ?Sized> Publisher<T> {
    /// Configures a topic that differs from the default.
    pub fn builder() -> PublisherBuilder<T> {
        PublisherBuilder {
            options: CreateOptions::default(),
            slots: DEFAULT_SLOTS,
            slot_bytes: None,
            capacity: None,
            max_subscribers: DEFAULT_RECORDS,
            retain: 1,
            deadline: None,
            time_stamps: true,
            prefault: true,
            message: None,
            shape: None,
            _sends: PhantomData,
        }
    }
}

impl<T: ?Sized + Message> Publisher<T> {
    /// Creates a topic with 16 slots of 4096 bytes, or larger ones if a message needs it.
    ///
    /// # Errors
    ///
    /// See [`PublisherBuilder::create`].
    pub fn create(name: impl IntoTopicName) -> Result<Self, CreateError> {
        Self::builder().create(name)
    }
}
