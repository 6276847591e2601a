//! A topic's region as the memory of a ring.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use crate::fault::{self, Step};
use crate::mutation::{mutated, step};
use crate::ring::geometry::Geometry;
use crate::ring::layout::{
    CONSUMERS_AT, Consumers, MessageEntry, NO_CURSOR, PAGE_BYTES, PRODUCER_AT, Producer, RECORD_BYTES, RECORDS_AT,
    Record, SlotState,
};
use crate::ring::memory::{Memory, ReaderMemory, Use, WritableMemory};
use crate::shm::atomics::{Atomics, Native};
use crate::shm::cancellation::Uncancelled;
use crate::shm::lock::LockByte;
use crate::shm::map::{Mapping, Protection, ReadOnly, ReadWrite, SharedWords};
use crate::shm::region_file::RegionFile;
use crate::shm::stop_word::StopWord;
use crate::shm::{fork, futex, prefetch};

// SAFETY: all fields are words of the family.
unsafe impl<A: Atomics> SharedWords<A> for Producer<A> {}
// SAFETY: all fields are words of the family.
unsafe impl<A: Atomics> SharedWords<A> for Consumers<A> {}
// SAFETY: all fields are words of the family.
unsafe impl<A: Atomics> SharedWords<A> for Record<A> {}
// SAFETY: its only field is a word of the family.
unsafe impl<A: Atomics> SharedWords<A> for SlotState<A> {}
// SAFETY: all fields are words of the family.
unsafe impl<A: Atomics> SharedWords<A> for MessageEntry<A> {}

/// A mapped region whose writable form can be asked for.
pub(crate) trait RingProtection: Protection {
    fn writable(ring: &MappedRing<Self>) -> Option<&MappedRing<ReadWrite>>
    where
        Self: Sized;
}

impl RingProtection for ReadWrite {
    #[inline(always)]
    fn writable(ring: &MappedRing) -> Option<&MappedRing> {
        Some(ring)
    }
}

impl RingProtection for ReadOnly {
    #[inline(always)]
    fn writable(_: &MappedRing<Self>) -> Option<&MappedRing> {
        None
    }
}

/// A topic's region, mapped. Aligned so that it shares no cache lines with other objects on the
/// heap.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct MappedRing<P: RingProtection = ReadWrite> {
    mapping: Mapping<P>,
    geometry: Geometry,
    /// A description without locks, open for reading alone: for probing those of others and, at the
    /// publisher, for taking a dead subscriber's.
    file: ManuallyDrop<RegionFile>,
    generation: u32,
    /// Which publisher of a subscriber this is the ring of.
    epoch: u32,
    record: Option<HeldRecord>,
}

/// A subscriber record that this process holds.
#[derive(Debug)]
pub(crate) struct HeldRecord {
    index: usize,
    /// Keeps the record's locks: its open file description has no descriptor. Not the mapping of
    /// the ring, because nobody can fork while a description with locks has a descriptor, and
    /// entering a large region into the page tables takes long.
    _locks: Mapping,
}

impl HeldRecord {
    /// `locks` maps any part of the region through the description that has the record's lock.
    pub(crate) fn new(index: usize, locks: Mapping) -> Self {
        Self { index, _locks: locks }
    }
}

impl<P: RingProtection> MappedRing<P> {
    /// # Panics
    ///
    /// If the mapping does not have the size of the geometry.
    pub(crate) fn new(mapping: Mapping<P>, geometry: Geometry, file: RegionFile) -> Self {
        assert_eq!(mapping.len() as u64, geometry.region_bytes());
        let (file, generation) = (ManuallyDrop::new(file), fork::watched_generation());
        Self { mapping, geometry, file, generation, epoch: 0, record: None }
    }

    pub(crate) fn with_epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn file(&self) -> &RegionFile {
        &self.file
    }

    /// Whether this process was forked after the region was mapped, and so does not have the
    /// memory.
    #[inline(always)]
    pub(crate) fn is_foreign(&self) -> bool {
        self.generation != fork::generation()
    }

    /// The words at `AT` in the control page.
    #[inline(always)]
    fn control<T: SharedWords<P::Atomics>, const AT: usize>(&self) -> &T {
        const { assert!(AT + size_of::<T>() <= PAGE_BYTES && AT.is_multiple_of(align_of::<T>())) };
        // SAFETY: in the control page and aligned as asserted; `new` compared the mapping's size
        // with the region's, which includes the control page. `T` is made of words of the mapping's
        // family, which any bytes are valid for.
        unsafe { self.mapping.start().add(AT).cast::<T>().as_ref() }
    }

    /// # Panics
    ///
    /// If there is no such slot.
    #[inline(always)]
    fn checked(&self, slot: u32) -> u32 {
        assert!(slot < self.geometry.slots(), "there is no such slot");
        slot
    }

    /// # Panics
    ///
    /// If there is no such slot.
    #[inline(always)]
    pub(in crate::ring) fn payload(&self, slot: u32) -> NonNull<u8> {
        let at = self.geometry.slot_at(self.checked(slot)) + self.geometry.payload_at();
        // SAFETY: in the slot, since slots are larger than what precedes their payloads
        // (`Geometry`); and slots lie within the region, whose size `new` compared with the
        // mapping's.
        unsafe { self.mapping.start().add(at) }
    }
}

impl MappedRing {
    /// Signs a record.
    pub(crate) fn with_record(mut self, held: HeldRecord, pid: u32, uid: u32, program: [u8; 16]) -> Self {
        let record = self.record(held.index);
        // Whoever reads the record meanwhile must not find the new holder with the old one's pid.
        // survives sign_nobody_left_out: only who reads the record before the next line could tell.
        step!(sign_nobody, record.pid.store(0, Relaxed));
        let words: [u64; 2] = zerocopy::transmute!(program);
        for (to, from) in record.program.iter().zip(words) {
            step!(sign_program, to.store(from, Relaxed));
        }
        for counter in [&record.received, &record.lost] {
            step!(sign_counters, counter.store(0, Relaxed));
        }
        for word in &record.reserved {
            step!(sign_reserved, word.store(0, Relaxed));
        }
        step!(sign_flags, record.flags.store(0, Relaxed));
        step!(sign_cursor, record.cursor.store(NO_CURSOR, Relaxed));
        step!(sign_uid, record.uid.store(uid, Relaxed));
        step!(sign_pid, record.pid.store(pid, Release));
        fault::point(Step::RecordSigned);
        self.record = Some(held);
        self
    }

    /// Ends the signature: this process receives no more messages, though it may hold some.
    pub(crate) fn unsign(&self) {
        if let Some(held) = &self.record {
            let record = self.record(held.index);
            step!(unsign_pid, record.pid.store(0, Relaxed));
            step!(unsign_cursor, record.cursor.store(NO_CURSOR, Relaxed));
        }
    }
}

impl<P: RingProtection> Drop for MappedRing<P> {
    fn drop(&mut self) {
        if self.record.is_some()
            && let Some(ring) = P::writable(self)
            && (!ring.is_foreign() || mutated!(unsign_in_child))
        {
            step!(unsign, ring.unsign());
            fault::point(Step::RecordUnsigned);
        }
        // The last sample may be dropped on a thread that is cancelled where it closes a file.
        let _uncancelled = Uncancelled::new();
        // SAFETY: nobody uses the field after this.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

impl<P: RingProtection> Memory for MappedRing<P> {
    type Atomics = P::Atomics;

    #[inline(always)]
    fn slots(&self) -> u32 {
        self.geometry.slots()
    }

    #[inline(always)]
    fn is_power_of_two(&self) -> bool {
        self.geometry.is_power_of_two()
    }

    #[inline(always)]
    fn entry_of<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> u32 {
        self.geometry.entry_of::<IS_POWER_OF_TWO>(position)
    }

    #[inline(always)]
    fn producer(&self) -> &Producer<P::Atomics> {
        self.control::<_, PRODUCER_AT>()
    }

    #[inline(always)]
    fn consumers(&self) -> &Consumers<P::Atomics> {
        self.control::<_, CONSUMERS_AT>()
    }

    #[inline(always)]
    fn entry_as<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> &MessageEntry<P::Atomics> {
        let at = self.geometry.slot_at(self.entry_of::<IS_POWER_OF_TWO>(position));
        // SAFETY: the entry is at the start of a slot, within the mapping, and aligned, since slots
        // are whole pairs of cache lines. It consists of words of the mapping's family
        // (`SharedWords`), which any bytes are valid for.
        unsafe { self.mapping.start().add(at).cast().as_ref() }
    }

    #[inline(always)]
    fn slot_state(&self, slot: u32) -> &SlotState<P::Atomics> {
        let at = self.geometry.state_at(self.checked(slot));
        // SAFETY: states lie in front of the slots, within the region, whose size `new` compared
        // with the mapping's, at multiples of their size. They consist of words of the mapping's
        // family (`SharedWords`), which any bytes are valid for.
        unsafe { self.mapping.start().add(at).cast().as_ref() }
    }

    #[inline(always)]
    fn prefetch<T>(&self, word: &T, purpose: Use) {
        match purpose {
            Use::Read => prefetch::for_reading(word),
            Use::Write => prefetch::for_writing(word),
        }
    }

    #[inline(always)]
    fn prefetch_state(&self, slot: u32, purpose: Use) {
        let state = self.mapping.start().as_ptr().wrapping_add(self.geometry.state_at(slot));
        match purpose {
            Use::Read => prefetch::for_reading(state),
            Use::Write => prefetch::for_writing(state),
        }
    }

    #[inline(always)]
    fn prefetch_payload(&self, slot: u32) {
        let at = self.geometry.slot_at(slot) + self.geometry.payload_at();
        prefetch::for_reading(self.mapping.start().as_ptr().wrapping_add(at));
    }

    #[inline(always)]
    fn capacity(&self) -> usize {
        self.geometry.capacity()
    }

    #[inline(always)]
    fn copy_payload(&self, slot: u32, into: &mut [u8]) {
        assert!(into.len() <= self.capacity(), "a copy is longer than a slot");
        let payload = self.payload(slot).cast::<u64>();
        // SAFETY: within the payload, whose size is a multiple of 8 and at least that of `into`,
        // and aligned to 32. Only relaxed loads, which are defined in read-only memory, too. The
        // publisher may write meanwhile; the caller validates the copy.
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

    fn sleep(&self, seen: u32, timeout: Duration, stop: Option<&StopWord>) {
        step!(futex_wait, futex::wait(P::futex_word(&self.consumers().wake), seen, timeout, stop));
    }
}

impl WritableMemory for MappedRing {
    fn records(&self) -> usize {
        self.geometry.records()
    }

    #[inline(always)]
    fn record(&self, index: usize) -> &Record<Native> {
        assert!(index < self.geometry.records(), "there is no such record");
        // SAFETY: in front of `control_bytes` of the geometry, whose region's size `new` compared
        // with the mapping's, and aligned to the records' size. It consists of words of the
        // mapping's family (`SharedWords`), which any bytes are valid for.
        unsafe { self.mapping.start().add(RECORDS_AT + index * RECORD_BYTES).cast().as_ref() }
    }

    #[inline(always)]
    fn fetch_to_write(&self, slot: u32) {
        // SAFETY: the first word of the payload, which is aligned to 32 and at least as long. The
        // slot is claimed: no reader pins it and no honest process writes it meanwhile. Readers
        // that copy it use atomic loads.
        let word = unsafe { AtomicU64::from_ptr(self.payload(slot).cast().as_ptr()) };
        // A store, as AMD's processors ignore a prefetch for writing of a line that they share.
        word.store(word.load(Relaxed), Relaxed);
    }

    #[inline(always)]
    fn note_held(&self, state: &SlotState<Native>, stamp_ns: u64) {
        step!(note_held, state.stamp_ns.store(stamp_ns, Relaxed));
    }

    fn wake_all(&self) {
        step!(futex_wake, futex::wake_all(&self.consumers().wake));
    }

    fn if_dead(&self, record: usize, action: impl FnOnce()) {
        let lock = LockByte::record(record);
        // A probe is three times cheaper than an attempt to lock. On any error the holder counts as
        // alive. A read lock is enough to keep the record from being claimed meanwhile, and other
        // readers cannot prevent it.
        let _ = self.file.with(|file| {
            // survives reclaim_without_probe: the lock is refused as well, which only takes longer.
            let is_free = mutated!(reclaim_without_probe) || !lock.is_write_locked(file)?;
            if is_free && (mutated!(reclaim_without_lock) || lock.try_read(file)?) {
                fault::point(Step::ReclaimLocked);
                step!(reclaim, action());
                fault::point(Step::ReclaimCleared);
                step!(reclaim_unlock, lock.unlock(file));
            }
            Ok(())
        });
    }
}

impl<P: RingProtection> ReaderMemory for MappedRing<P> {
    type Writable = MappedRing;

    #[inline(always)]
    fn writable(&self) -> Option<&MappedRing> {
        P::writable(self)
    }
}
