//! The publishing side, typed.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::create::{CreateOptions, Created};
use crate::error::{CreateError, LoanError, SendError};
use crate::fault::{self, Step};
use crate::inspect::Region;
use crate::inspect::reaping::ReapRegion;
use crate::message::{Kind, Message};
use crate::registry::Lease;
use crate::ring::geometry::Geometry;
use crate::ring::header::Layout;
use crate::ring::layout::{DEFAULT_SLOT_BYTES, DEFAULT_SLOTS, MIN_SLOT_BYTES, SLOT_ALIGN, SLOT_OVERHEAD_BYTES};
use crate::ring::memory::Memory;
use crate::ring::slot::claim::{ClaimError, Claimed};
use crate::ring::slot::mapped::MappedRing;
use crate::ring::writer::{Intervention, Writer};
use crate::shm::clock::{coarse_now, now_ns};
use crate::shm::dir::{DirLocation, FileId};
use crate::shm::mark::Mark;
use crate::shm::process::own_name;
use crate::{Domain, IntoTopicName, TopicName, TypeInfo};

/// The one process that writes a topic.
///
/// Publishing never blocks, never allocates, and makes no system call unless a subscriber sleeps. When it is dropped the
/// topic is closed, sleeping subscribers wake with [`RecvError::PublisherGone`](crate::RecvError::PublisherGone), and the
/// region's name is removed; what subscribers hold stays valid.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// use conduit::Publisher;
///
/// let mut publisher = Publisher::<[u8]>::builder().slots(8).capacity(1 << 20)
///     # .domain(&domain)
///     .create("camera/front")?;
/// publisher.send(b"small, copied into its slot")?;
/// let mut frame = publisher.loan_slice(640 * 480)?; // written in place
/// frame.fill(127);
/// frame.publish();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Publisher<T: ?Sized> {
    writer: Writer<Arc<MappedRing>>,
    topic: TopicName,
    location: DirLocation,
    id: FileId,
    lease: Lease,
    time_stamps: bool,
    /// A type given at run time, whose messages are bytes here.
    message: Option<TypeInfo>,
    /// The caller knows that the name is gone.
    told_unlinked: bool,
    _sends: PhantomData<fn(&T)>,
}

/// How a topic is to be made.
#[derive(Debug)]
pub struct PublisherBuilder<T: ?Sized> {
    options: CreateOptions,
    slots: u32,
    slot_bytes: Option<usize>,
    capacity: Option<usize>,
    time_stamps: bool,
    prefault: bool,
    message: Option<TypeInfo>,
    _sends: PhantomData<fn(&T)>,
}

impl<T: ?Sized> PublisherBuilder<T> {
    fn new() -> Self {
        Self {
            options: CreateOptions::default(),
            slots: DEFAULT_SLOTS,
            slot_bytes: None,
            capacity: None,
            time_stamps: true,
            prefault: true,
            message: None,
            _sends: PhantomData,
        }
    }

    /// Uses another domain than the environment's.
    pub fn domain(mut self, domain: &Domain) -> Self {
        self.options.domain = Some(domain.clone());
        self
    }

    /// Number of slots: a power of two from 2 to 65,536; 16 by default.
    ///
    /// It bounds how many samples all subscribers together can hold, and how far one of them can fall behind without loss: by one
    /// message less, because one slot is always the publisher's.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Size of a slot in bytes: a multiple of 128, of which 192 are the slot's state and header. By default 4096, or
    /// what a message of the type needs if that is more. Excludes [`capacity`](Self::capacity).
    pub fn slot_size(mut self, slot_bytes: usize) -> Self {
        self.slot_bytes = Some(slot_bytes);
        self
    }

    /// Makes the slots large enough for messages of `len_bytes`. Excludes [`slot_size`](Self::slot_size).
    pub fn capacity(mut self, len_bytes: usize) -> Self {
        self.capacity = Some(len_bytes);
        self
    }

    /// Permission bits of the region's file, 0o640 for example. By default what the process's umask leaves of 0o666.
    /// The owner may always read and write.
    ///
    /// Who may only read it can subscribe all the same: it gets validated copies instead of zero-copy samples.
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

    /// Whether every message carries the time of its publication, which costs one clock read. On by default.
    pub fn time_stamps(mut self, enabled: bool) -> Self {
        self.time_stamps = enabled;
        self
    }

    /// Whether `create` enters all of the region's memory into the process's page tables. On by default. Memory is reserved in either
    /// case; this takes about 1.3 us per page of 4 KiB once (25 us for a default topic, 65 ms for 192 MiB) and saves twice that when the slots
    /// are used for the first time, which would otherwise make each side late in the middle of its work.
    pub fn prefault(mut self, enabled: bool) -> Self {
        self.prefault = enabled;
        self
    }

    /// Creates the topic. A name that a dead publisher left is taken over.
    pub fn create(self, name: impl IntoTopicName) -> Result<Publisher<T>, CreateError>
    where
        T: Message,
    {
        let topic = name.into_topic_name()?;
        let message = self.message.unwrap_or(T::TYPE);
        let message_bytes = if message.kind == Kind::Value { message.size } else { 0 };
        let slot_bytes = match (self.slot_bytes, self.capacity) {
            (Some(slot_bytes), Some(capacity)) => {
                return Err(CreateError::SlotSizeAndCapacity { slot_size: slot_bytes, capacity });
            }
            (Some(slot_bytes), None) => slot_bytes as u64,
            (None, Some(capacity)) => slot_bytes_for(capacity as u64),
            (None, None) => slot_bytes_for(message_bytes).max(DEFAULT_SLOT_BYTES),
        };
        let geometry = Geometry::new(self.slots, slot_bytes)?;
        if message_bytes > geometry.capacity() as u64 {
            let capacity = geometry.capacity() as u64;
            return Err(CreateError::SlotTooSmall { message: Box::new(message), need: message_bytes, capacity });
        }
        let layout = Layout {
            geometry,
            message,
            pid: std::process::id(),
            uid: nix::unistd::getuid().as_raw(),
            program: own_name(),
        };

        let control_page = layout.control_page();
        // Bytes are bytes.
        let shape = (T::TYPE != <[u8]>::TYPE).then(|| T::shape().to_text()).flatten();
        let size = geometry.region_bytes();
        let Created { file, location, lease } =
            self.options.create(&topic, size, Mark::Topic, control_page.as_bytes(), shape.as_deref())?;
        let id = file.id;
        if self.prefault {
            file.mapping.populate();
        }
        let ring = MappedRing::new(file.mapping, geometry, file.file);
        Ok(Publisher {
            writer: Writer::new(Arc::new(ring)),
            topic,
            location,
            id,
            lease,
            time_stamps: self.time_stamps,
            message: self.message,
            told_unlinked: false,
            _sends: PhantomData,
        })
    }
}

impl PublisherBuilder<[u8]> {
    /// The size of the slots that [`capacity`](Self::capacity) gives for messages of `len_bytes`: for programs that name it, in advice
    /// or as a default.
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

    /// Gives the topic another type than bytes, known only at run time. Messages are sent as the bytes of its values: a message whose
    /// length the type does not [admit](TypeInfo::admits) is refused with [`LoanError::WrongLength`]. What the bytes mean is up to
    /// the caller; payloads are aligned to 64 bytes.
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
}

/// The slot that a message of this length needs: whole pairs of cache lines, and whole pages if it is larger than one.
fn slot_bytes_for(len_bytes: u64) -> u64 {
    let needed = len_bytes.saturating_add(SLOT_OVERHEAD_BYTES as u64);
    let unit = if needed > DEFAULT_SLOT_BYTES { DEFAULT_SLOT_BYTES } else { SLOT_ALIGN };
    // Beyond what a file can hold the geometry is refused anyway.
    needed.checked_next_multiple_of(unit).unwrap_or(u64::MAX).max(MIN_SLOT_BYTES)
}

impl<T: ?Sized + Message> Publisher<T> {
    /// Creates a topic with 16 slots of 4096 bytes, or larger ones if a message needs it.
    pub fn create(name: impl IntoTopicName) -> Result<Self, CreateError> {
        Self::builder().create(name)
    }

    /// Sends a copy of a message.
    #[inline(always)]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        let stamped = self.time_stamps;
        let bytes = message.as_bytes();
        let mut claimed = self.claim(bytes.len())?;
        claimed.copy_from_slice(bytes);
        claimed.publish(|| stamp(stamped));
        Ok(())
    }

    #[inline(always)]
    fn claim(&mut self, len: usize) -> Result<Claimed<'_, [u8]>, LoanError> {
        if let Some(message) = self.message.as_ref().filter(|message| !message.admits(len)) {
            return Err(LoanError::WrongLength { len, size: message.size, exact: message.kind == Kind::Value });
        }
        if self.writer.memory().is_foreign() || self.writer.take_woken() || self.writer.intervention().is_some() {
            self.look_around()?;
        }
        let geometry = self.writer.memory().geometry();
        Claimed::new(&mut self.writer, len).map_err(|error| loan_error(&error, geometry, len))
    }

    /// Who has nobody to wake makes no system calls; who has just done so looks at its lease and its name.
    #[cold]
    fn look_around(&mut self) -> Result<(), LoanError> {
        if self.writer.memory().is_foreign() {
            return Err(LoanError::Forked);
        }
        if self.lease.look(coarse_now()) && !self.has_its_name() {
            self.writer.note_unlinked();
        }
        match self.writer.intervention() {
            None => Ok(()),
            Some(Intervention::Ended) => Err(LoanError::Removed),
            Some(Intervention::Unlinked) if self.told_unlinked => Ok(()),
            Some(Intervention::Unlinked) => {
                self.told_unlinked = true;
                Err(LoanError::Unlinked)
            }
        }
    }

    /// What can not be looked at is no reason to worry anybody.
    fn has_its_name(&self) -> bool {
        let found = self.location.open().and_then(|directory| directory.id_of(&self.topic));
        !found.is_ok_and(|found| found != Some(self.id))
    }

    #[inline(always)]
    fn loan_as<'a, U: ?Sized>(
        &'a mut self,
        len: usize,
        cast: impl FnOnce(Claimed<'a, [u8]>) -> Result<Claimed<'a, U>, ClaimError>,
    ) -> Result<Loan<'a, U>, LoanError> {
        let geometry = self.writer.memory().geometry();
        let time_stamps = self.time_stamps;
        let claimed = cast(self.claim(len)?).map_err(|error| loan_error(&error, geometry, len))?;
        Ok(Loan { claimed, time_stamps })
    }
}

#[cold]
fn loan_error(error: &ClaimError, geometry: Geometry, len: usize) -> LoanError {
    match error {
        ClaimError::AllSlotsHeld => LoanError::AllSlotsHeld { slots: geometry.slots() },
        ClaimError::TooLarge | ClaimError::Size => LoanError::MessageTooLarge { len, capacity: geometry.capacity() },
    }
}

fn stamp(enabled: bool) -> u64 {
    if enabled { now_ns() } else { 0 }
}

impl<T: Message + FromBytes> Publisher<T> {
    /// Lends a slot to write a message in place. Its contents are unspecified: those of an older message, mostly.
    ///
    /// For types with invalid bytes (a `bool`, an enum) there are [`loan_zeroed`](Self::loan_zeroed) and
    /// [`send`](Self::send).
    #[inline(always)]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, LoanError> {
        self.loan_as(size_of::<T>(), Claimed::cast)
    }
}

impl<T: Message + FromZeros> Publisher<T> {
    /// Lends a slot to write a message in place, after filling it with zeros.
    pub fn loan_zeroed(&mut self) -> Result<Loan<'_, T>, LoanError> {
        self.loan_as(size_of::<T>(), Claimed::cast_zeroed)
    }
}

impl<E: Message + FromBytes> Publisher<[E]> {
    /// Lends a slot to write `len` elements in place. Their values are unspecified until written.
    #[inline(always)]
    pub fn loan_slice(&mut self, len: usize) -> Result<Loan<'_, [E]>, LoanError> {
        self.loan_as(len.saturating_mul(size_of::<E>()), Claimed::cast)
    }
}

impl<T: ?Sized> Publisher<T> {
    /// Starts to describe a topic that differs from the default.
    pub fn builder() -> PublisherBuilder<T> {
        PublisherBuilder::new()
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Where the region's file is: an absolute path.
    pub fn path(&self) -> std::path::PathBuf {
        self.location.path_of(&self.topic)
    }

    /// Messages published so far, which is the sequence number of the next.
    pub fn published(&self) -> u64 {
        self.writer.published()
    }

    /// Number of slots.
    pub fn slots(&self) -> u32 {
        self.writer.memory().geometry().slots()
    }

    /// Largest message in bytes.
    pub fn capacity(&self) -> usize {
        self.writer.memory().capacity()
    }

    /// The subscribers that live now. Costs some system calls; meant for flow control and reports, not for every message.
    pub fn subscribers(&self) -> Vec<crate::model::SubscriberInfo> {
        let region = self.location.open().ok().and_then(|directory| Region::open_in(&directory, &self.topic).ok());
        let counters = region.filter(|region| region.id() == self.id).and_then(|region| region.counters());
        counters.map(|counters| counters.subscribers.into_iter().map(|(_, one)| one).collect()).unwrap_or_default()
    }
}

impl<T: ?Sized> Drop for Publisher<T> {
    fn drop(&mut self) {
        if self.writer.memory().is_foreign() {
            return;
        }
        self.writer.close();
        let removed = self.location.open().and_then(|directory| directory.remove(&self.topic, self.id));
        if let Err(error) = removed {
            tracing::warn!("can not remove {}: {error}", self.path().display());
        }
        fault::point(Step::CloseRemoved);
        self.lease.release();
        fault::point(Step::CloseReleased);
    }
}

impl<T: ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.topic).field("published", &self.published()).finish()
    }
}

/// A slot lent to write a message in place. Dropped without [`publish`](Self::publish) nobody sees it, and the next loan
/// has the same slot.
pub struct Loan<'a, T: ?Sized> {
    claimed: Claimed<'a, T>,
    time_stamps: bool,
}

impl<T: ?Sized> Loan<'_, T> {
    /// Publishes the message.
    #[inline(always)]
    pub fn publish(self) {
        let time_stamps = self.time_stamps;
        self.claimed.publish(|| stamp(time_stamps));
    }
}

impl<E> Loan<'_, [E]> {
    /// Shortens the message to its first `len` elements. Does nothing if it has no more.
    ///
    /// Of a type that was given at run time it should still be a message: this is not checked here, and subscribers refuse what is none.
    pub fn truncate(&mut self, len: usize) {
        self.claimed.truncate(len);
    }
}

impl<T: ?Sized> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.claimed
    }
}

impl<T: ?Sized> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.claimed
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
