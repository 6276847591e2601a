//! The ring in mapped memory, and the only places where payload bytes become values.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use super::copy::Line;
use super::geometry::Geometry;
use super::layout::{
    CONSUMERS_AT, Consumers, PRODUCER_AT, Producer, RECORDS, RECORDS_AT, Record, SLOT_HEADER_BYTES, SlotHeader,
    SlotState,
};
use super::memory::{Memory, StateUse};
use super::reader::{Received, unpin};
use super::writer::{AllSlotsHeld, Writer};
use crate::fault::{self, Step};
use crate::shm::atomics::Native;
use crate::shm::lock::LockByte;
use crate::shm::map::Mapping;
use crate::shm::{fork, futex, prefetch};

/// A topic's region, mapped. What shares its cache lines with other objects on the heap would be slowed down by their owners.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct MappedRing {
    mapping: Mapping,
    geometry: Geometry,
    /// A description without locks, to ask about others' and, at the publisher, to take a dead subscriber's.
    file: OwnedFd,
    generation: u32,
    /// The subscriber record that this mapping's lock stands for.
    record: Option<usize>,
}

impl MappedRing {
    /// # Panics
    ///
    /// If the mapping does not have the size that the geometry says.
    pub(crate) fn new(mapping: Mapping, geometry: Geometry, file: OwnedFd) -> Self {
        assert_eq!(mapping.len() as u64, geometry.region_bytes());
        Self { mapping, geometry, file, generation: fork::watched_generation(), record: None }
    }

    /// Signs the record whose lock this mapping keeps; it is given back when the mapping goes.
    pub(crate) fn with_record(mut self, index: usize, pid: u32, uid: u32, program: [u8; 16]) -> Self {
        let record = self.record(index);
        let words: [u64; 2] = zerocopy::transmute!(program);
        for (to, from) in record.program.iter().zip(words) {
            to.store(from, Relaxed);
        }
        for counter in [&record.received, &record.lost, &record.cursor] {
            counter.store(0, Relaxed);
        }
        record.uid.store(uid, Relaxed);
        record.pid.store(pid, Relaxed);
        fault::point(Step::RecordSigned);
        self.record = Some(index);
        self
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Whether this process was forked after the region was mapped, and so does not have the memory.
    #[inline(always)]
    pub(crate) fn is_foreign(&self) -> bool {
        self.generation != fork::generation()
    }

    #[inline(always)]
    fn slot_start(&self, position: u64) -> NonNull<u8> {
        // SAFETY: `slot_at` is below the region's size, which `new` compared with the mapping's.
        unsafe { self.mapping.start().add(self.geometry.slot_at(position)) }
    }

    #[inline(always)]
    fn payload(&self, position: u64) -> NonNull<u8> {
        // SAFETY: a slot is larger than its header (`Geometry::new`).
        unsafe { self.slot_start(position).add(SLOT_HEADER_BYTES) }
    }
}

impl Drop for MappedRing {
    fn drop(&mut self) {
        if let Some(index) = self.record
            && !self.is_foreign()
        {
            self.record(index).pid.store(0, Relaxed);
            fault::point(Step::RecordUnsigned);
        }
    }
}

impl Memory for MappedRing {
    type Atomics = Native;

    #[inline(always)]
    fn slots(&self) -> u64 {
        self.geometry.slots().into()
    }

    #[inline(always)]
    fn producer(&self) -> &Producer<Native> {
        self.mapping.shared(PRODUCER_AT)
    }

    #[inline(always)]
    fn consumers(&self) -> &Consumers<Native> {
        self.mapping.shared(CONSUMERS_AT)
    }

    #[inline(always)]
    fn record(&self, index: usize) -> &Record<Native> {
        assert!(index < RECORDS);
        self.mapping.shared(RECORDS_AT + index * size_of::<Record<Native>>())
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> &SlotHeader<Native> {
        // SAFETY: the header lies at the start of the slot, in the mapping and aligned, since slots are whole cache lines;
        // it consists of atomics, valid for any bytes.
        unsafe { self.slot_start(position).cast().as_ref() }
    }

    #[inline(always)]
    fn state(&self, position: u64) -> &AtomicU64 {
        // SAFETY: as for `slot`; the state lies in the mapping too, aligned to its size.
        let state: &SlotState<Native> =
            unsafe { self.mapping.start().add(self.geometry.state_at(position)).cast().as_ref() };
        &state.word
    }

    #[inline(always)]
    fn expect_state(&self, position: u64, purpose: StateUse) {
        match purpose {
            StateUse::Read => prefetch::for_reading(self.state(position)),
            StateUse::Write => prefetch::for_writing(self.state(position)),
        }
    }

    #[inline(always)]
    fn capacity(&self) -> usize {
        self.geometry.capacity()
    }

    #[inline(always)]
    fn copy_payload(&self, position: u64, into: &mut [u8]) {
        assert!(into.len() <= self.capacity(), "a copy is longer than a slot");
        let payload = self.payload(position).cast::<u64>();
        // SAFETY: within the payload, whose size is a multiple of 8 and at least that of `into`, and aligned to 64. The
        // publisher may write meanwhile: hence atomic loads, and the caller validates the whole copy.
        let word = |index: usize| unsafe { AtomicU64::from_ptr(payload.add(index).as_ptr()) }.load(Relaxed);
        let whole = into.len() / size_of::<u64>();
        let (words, rest) = into.as_chunks_mut::<{ size_of::<u64>() }>();
        for (index, to) in words.iter_mut().enumerate() {
            *to = word(index).to_ne_bytes();
        }
        if !rest.is_empty() {
            rest.copy_from_slice(&word(whole).to_ne_bytes()[..rest.len()]);
        }
    }

    fn wake_all(&self) {
        futex::wake_all(&self.consumers().wake);
    }

    fn sleep(&self, seen: u32, timeout: Duration) {
        futex::wait(&self.consumers().wake, seen, timeout);
    }

    fn if_dead(&self, record: usize, action: impl FnOnce()) {
        let lock = LockByte::record(record);
        // Asking first is three times cheaper than trying. On any error the holder counts as alive. A read lock is enough to
        // keep the record from being claimed meanwhile, and other readers can not prevent it.
        if !lock.is_write_locked(&self.file).unwrap_or(true) && lock.try_read(&self.file).unwrap_or(false) {
            fault::point(Step::ReclaimLocked);
            action();
            fault::point(Step::ReclaimCleared);
            lock.unlock(&self.file);
        }
    }
}

/// A claimed slot, seen as a value of type `T`. Dropped without `publish` it is the next one to be claimed.
#[derive(Debug)]
pub(crate) struct Claimed<'a, T: ?Sized> {
    writer: &'a mut Writer<Arc<MappedRing>>,
    value: NonNull<T>,
    _writes: PhantomData<&'a mut T>,
}

// SAFETY: it is a `&mut Writer`, which is Send, and a `&mut T` into memory that lives as long.
unsafe impl<T: ?Sized + Send> Send for Claimed<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Claimed<'_, T> {}

/// Why a slot could not be claimed as a value.
#[derive(Debug)]
pub(crate) enum ClaimError {
    AllSlotsHeld,
    TooLarge,
    /// `len` bytes are no `T`, whatever they contain.
    Size,
}

impl From<AllSlotsHeld> for ClaimError {
    fn from(_: AllSlotsHeld) -> Self {
        Self::AllSlotsHeld
    }
}

impl<'a> Claimed<'a, [u8]> {
    /// Claims a slot for `len` bytes, which are whatever the slot held before.
    #[inline(always)]
    pub(crate) fn new(writer: &'a mut Writer<Arc<MappedRing>>, len: usize) -> Result<Self, ClaimError> {
        if len > writer.memory().capacity() {
            return Err(ClaimError::TooLarge);
        }
        let position = writer.claim()?;
        let value = NonNull::slice_from_raw_parts(writer.memory().payload(position), len);
        Ok(Self { writer, value, _writes: PhantomData })
    }

    /// Sees the bytes as a message of a type for which any bytes are valid.
    #[inline(always)]
    pub(crate) fn cast<T>(mut self) -> Result<Claimed<'a, T>, ClaimError>
    where
        T: ?Sized + FromBytes + IntoBytes + KnownLayout<PointerMetadata: Sized> + Immutable,
    {
        let value = NonNull::from(T::mut_from_bytes(&mut self).map_err(|_| ClaimError::Size)?);
        Ok(self.with_value(value))
    }

    /// Sees the bytes as a message of a type for which zeros are valid, after writing them.
    #[inline(always)]
    pub(crate) fn cast_zeroed<T>(mut self) -> Result<Claimed<'a, T>, ClaimError>
    where
        T: ?Sized + TryFromBytes + zerocopy::FromZeros + IntoBytes + KnownLayout<PointerMetadata: Sized> + Immutable,
    {
        self.fill(0);
        let value = NonNull::from(T::try_mut_from_bytes(&mut self).map_err(|_| ClaimError::Size)?);
        Ok(self.with_value(value))
    }

    #[inline(always)]
    fn with_value<T: ?Sized>(self, value: NonNull<T>) -> Claimed<'a, T> {
        Claimed { writer: self.writer, value, _writes: PhantomData }
    }
}

impl<T> Claimed<'_, [T]> {
    /// Shortens the message to `len` elements; a longer `len` changes nothing.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.value.len() {
            self.value = NonNull::slice_from_raw_parts(self.value.cast(), len);
        }
    }
}

impl<T: ?Sized> Claimed<'_, T> {
    #[inline(always)]
    pub(crate) fn publish(self, stamp_ns: impl FnOnce() -> u64) {
        if self.writer.memory().is_foreign() {
            // Forked with a loan in its hands: it is the parent's to publish.
            return;
        }
        let len = size_of_val::<T>(&self);
        if let Some(position) = self.writer.claimed() {
            self.writer.publish(position, len, stamp_ns);
        }
    }
}

impl<T: ?Sized> Deref for Claimed<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the pointer came from a reference to a valid value in the slot's payload; until this claim ends,
        // the slot is claimed: readers can not pin it, and nobody else writes it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for Claimed<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and `self` is borrowed mutably.
        unsafe { self.value.as_mut() }
    }
}

/// A received message: pinned in its slot, or a copy of it.
#[derive(Debug)]
pub(crate) struct Held<T: ?Sized> {
    value: NonNull<T>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Slot(Pin),
    Copy(Box<OwnCopy>),
}

#[derive(Debug)]
struct Pin {
    ring: Arc<MappedRing>,
    position: u64,
    record: u32,
}

/// A message outside of its slot.
#[derive(Debug)]
struct OwnCopy {
    #[expect(dead_code, reason = "owns what `value` points to")]
    lines: Vec<Line>,
    sequence: u64,
    stamp_ns: u64,
}

impl Drop for Pin {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.ring.is_foreign() {
            unpin(&self.ring, self.position, self.record as usize);
        }
    }
}

// SAFETY: a `Held<T>` gives out `&T` only; its parts may be dropped on any thread, unpinning is atomic.
unsafe impl<T: ?Sized + Send + Sync> Send for Held<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for Held<T> {}

/// The message's bytes are no value of the type.
#[derive(Debug)]
pub(crate) struct Invalid;

impl<T: ?Sized + TryFromBytes + KnownLayout + Immutable> Held<T> {
    /// A message that `record` has pinned. If its bytes are no `T`, it is unpinned.
    #[inline(always)]
    pub(crate) fn pinned(ring: &Arc<MappedRing>, record: usize, message: &Received) -> Result<Self, Invalid> {
        let pin = Pin { ring: Arc::clone(ring), position: message.position, record: record as u32 };
        let value = view_pinned(&pin.ring, message)?;
        Ok(Self { value, place: Place::Slot(pin) })
    }

    /// A message that was copied out and validated.
    pub(crate) fn copied(lines: Vec<Line>, message: &Received) -> Result<Self, Invalid> {
        let value = NonNull::from(view_copy(&lines, message.len)?);
        // Moving the vector does not move what it holds.
        let copy = OwnCopy { lines, sequence: message.sequence, stamp_ns: message.stamp_ns };
        Ok(Self { value, place: Place::Copy(Box::new(copy)) })
    }
}

/// A pinned message that is lent for a while.
#[derive(Debug)]
pub(crate) struct Lent<'a, T: ?Sized> {
    value: NonNull<T>,
    ring: &'a MappedRing,
    position: u64,
    record: usize,
    _reads: PhantomData<&'a T>,
}

impl<'a, T: ?Sized + TryFromBytes + KnownLayout + Immutable> Lent<'a, T> {
    /// A message that `record` has pinned. If its bytes are no `T`, it is unpinned.
    #[inline(always)]
    pub(crate) fn pinned(ring: &'a MappedRing, record: usize, message: &Received) -> Result<Self, Invalid> {
        let position = message.position;
        match view_pinned(ring, message) {
            Ok(value) => Ok(Self { value, ring, position, record, _reads: PhantomData }),
            Err(invalid) => {
                unpin(ring, position, record);
                Err(invalid)
            }
        }
    }
}

impl<T: ?Sized> Drop for Lent<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.ring.is_foreign() {
            unpin(self.ring, self.position, self.record);
        }
    }
}

impl<T: ?Sized> Deref for Lent<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pointer came from a reference to a valid value in a slot that is pinned until `self` is dropped.
        unsafe { self.value.as_ref() }
    }
}

/// The value of a pinned message.
#[inline(always)]
fn view_pinned<T: ?Sized + TryFromBytes + KnownLayout + Immutable>(
    ring: &MappedRing,
    message: &Received,
) -> Result<NonNull<T>, Invalid> {
    // SAFETY: within the slot's payload (`len` is clamped to the capacity). The pin keeps the publisher from
    // writing it, and the caller keeps pin and mapping. (A hostile process with write access could still; it can corrupt
    // data of this topic, and the type system cannot see it.)
    let bytes = unsafe { slice::from_raw_parts(ring.payload(message.position).as_ptr(), message.len) };
    T::try_ref_from_bytes(bytes).map(NonNull::from).map_err(|_| Invalid)
}

/// The value of a message that was copied out.
pub(crate) fn view_copy<T: ?Sized + TryFromBytes + KnownLayout + Immutable>(
    lines: &[Line],
    len: usize,
) -> Result<&T, Invalid> {
    let bytes = lines.as_bytes().get(..len).ok_or(Invalid)?;
    T::try_ref_from_bytes(bytes).map_err(|_| Invalid)
}

impl<T: ?Sized> Held<T> {
    /// Whether the value lies in shared memory.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.place, Place::Slot(_))
    }

    /// The message's sequence number.
    pub(crate) fn sequence(&self) -> u64 {
        match &self.place {
            // As unchanged as the message itself.
            Place::Slot(pin) => pin.ring.slot(pin.position).sequence.load(Relaxed),
            Place::Copy(copy) => copy.sequence,
        }
    }

    /// When the message was published; 0 if its publisher does not say.
    pub(crate) fn stamp_ns(&self) -> u64 {
        match &self.place {
            Place::Slot(pin) => pin.ring.slot(pin.position).stamp_ns.load(Relaxed),
            Place::Copy(copy) => copy.stamp_ns,
        }
    }
}

impl<T: ?Sized> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pointer came from a reference to a valid value that `place` keeps alive and unchanged.
        unsafe { self.value.as_ref() }
    }
}
