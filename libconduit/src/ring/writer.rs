//! The writing side of the ring. Labels refer to the [protocol](super).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::window::Window;
use super::{BUSY, Memory, READERS, WRITING};
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, Atomics};
use crate::shm::layout::{CLOSED, ONE_WAKE, ORPHANED, UNLINKED};

/// How many held slots the writer meets before it asks whether a holder is dead: asking costs a system call.
const SKIPS_PER_LOOK: u32 = 64;

/// What somebody else has done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intervention {
    /// Closed it.
    Ended,
    /// Removed its name.
    Unlinked,
}

/// The one writer of a ring.
#[derive(Debug)]
pub(crate) struct Writer<M> {
    memory: M,
    next: u64,
    sequence: u64,
    bytes: u64,
    window: Window,
    skips: u32,
    has_woken: bool,
}

/// Every slot is held by a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AllSlotsHeld;

impl<M: Memory> Writer<M> {
    /// A writer for a new ring: all of `memory` is zero.
    pub(crate) fn new(memory: M) -> Self {
        Self { memory, next: 0, sequence: 0, bytes: 0, window: Window::default(), skips: 0, has_woken: false }
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Messages published so far.
    pub(crate) fn published(&self) -> u64 {
        self.sequence
    }

    /// Whether somebody has been woken since the last question.
    #[inline]
    pub(crate) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.has_woken)
    }

    /// Takes a slot to write into and returns its position: `publish` or `abandon` it.
    #[inline]
    pub(crate) fn claim(&mut self) -> Result<u64, AllSlotsHeld> {
        if let Some(position) = self.claim_in_one_pass() {
            return Ok(position);
        }
        self.reclaim(READERS);
        // A second pass even if nobody was dead: readers that never hold two samples may have been in the way of
        // every single try of the first.
        self.claim_in_one_pass().ok_or(AllSlotsHeld)
    }

    #[inline]
    fn claim_in_one_pass(&mut self) -> Option<u64> {
        let mut may_look = true;
        for position in self.next..self.next + self.memory.slots() {
            let slot = self.memory.slot(position);
            // W1
            if let Err(state) = slot.state.compare_exchange(0, WRITING, Acquire, Relaxed)
                // A loan of our own that was leaked may be used again: nobody else writes.
                && state & WRITING == 0
            {
                self.skip(state, &mut may_look);
                continue;
            }
            fault::point(Step::ClaimTaken);
            // W2
            slot.position.store(BUSY | (position + 1), Relaxed);
            // W3
            M::Atomics::fence(Release);
            fault::point(Step::ClaimMarked);
            return Some(position);
        }
        None
    }

    #[cold]
    fn skip(&mut self, state: u64, may_look: &mut bool) {
        self.skips = self.skips.wrapping_add(1);
        // Once in a pass: each look goes over all slots.
        if *may_look && self.skips.is_multiple_of(SKIPS_PER_LOOK) {
            *may_look = false;
            self.reclaim(state);
        }
    }

    /// Publishes the claimed position; its payload is written.
    #[inline]
    pub(crate) fn publish(&mut self, position: u64, len: usize, stamp_ns: u64) {
        let slot = self.memory.slot(position);
        slot.sequence.store(self.sequence, Relaxed);
        slot.stamp_ns.store(stamp_ns, Relaxed);
        slot.len.store(len as u64, Relaxed);
        fault::point(Step::PublishWritten);
        // W5: a plain store, since WRITING excludes every other bit.
        slot.state.store(0, Relaxed);
        fault::point(Step::PublishFreed);
        // W6
        slot.position.store(position + 1, Release);
        fault::point(Step::PublishReadable);
        self.next = position + 1;
        self.sequence += 1;
        let producer = self.memory.producer();
        // W7
        producer.published.store(self.sequence, Relaxed);
        self.bytes += len as u64;
        producer.bytes.store(self.bytes, Relaxed);
        self.window.count(producer, self.sequence, self.bytes, stamp_ns);
        fault::point(Step::PublishCounted);
        // W8
        producer.head.store(self.next, Release);
        fault::point(Step::PublishMoved);
        let consumers = self.memory.consumers();
        // W9: always a swap, see S2.
        if consumers.waiting.swap(0, AcqRel) != 0 {
            fault::point(Step::PublishTaken);
            // W10
            consumers.wake.fetch_add(ONE_WAKE, Relaxed);
            fault::point(Step::PublishChanged);
            self.memory.wake_all();
            self.has_woken = true;
            fault::point(Step::PublishWoken);
        }
    }

    /// Gives a claimed slot back. What it held before is gone, what comes next takes the same position.
    #[inline]
    pub(crate) fn abandon(&mut self, position: u64) {
        // Relaxed: as W5.
        self.memory.slot(position).state.store(0, Relaxed);
    }

    /// What somebody else has done to the topic. One load from a line that `publish` looks at anyway.
    #[inline]
    pub(crate) fn intervention(&self) -> Option<Intervention> {
        let flags = self.memory.consumers().wake.load(Relaxed) & (CLOSED | ORPHANED | UNLINKED);
        match flags {
            0 => None,
            UNLINKED => Some(Intervention::Unlinked),
            _ => Some(Intervention::Ended),
        }
    }

    /// Notes that the name is gone, for everybody to see.
    #[cold]
    pub(crate) fn note_unlinked(&mut self) {
        self.memory.consumers().wake.fetch_or(UNLINKED, Relaxed);
    }

    /// Says that nothing will follow, and wakes all sleepers.
    pub(crate) fn close(&mut self) {
        fault::point(Step::CloseBegun);
        // E1
        self.memory.consumers().wake.fetch_or(CLOSED, Release);
        fault::point(Step::CloseMarked);
        self.memory.wake_all();
        fault::point(Step::CloseWoken);
    }

    /// Clears the bits of those holders in `state` that are dead, and bits that stand for nobody.
    #[cold]
    fn reclaim(&mut self, state: u64) {
        let mut held = 0;
        for position in 0..self.memory.slots() {
            let slot = self.memory.slot(position);
            let holders = slot.state.load(Relaxed);
            if holders & !(READERS | WRITING) != 0 {
                slot.state.fetch_and(READERS | WRITING, Relaxed);
            }
            held |= holders;
        }
        let mut suspects = held & state & READERS;
        while suspects != 0 {
            let record = suspects.trailing_zeros() as usize;
            suspects &= suspects - 1;
            self.memory.if_dead(record, || clear_record_bits(&self.memory, record));
        }
    }
}

/// Frees everything that record `record` holds. Only under the lock of that record.
pub(super) fn clear_record_bits<M: Memory>(memory: &M, record: usize) {
    let bit = 1 << record;
    for position in 0..memory.slots() {
        let state = &memory.slot(position).state;
        // Only where it is set: then the writer is not in the slot, and W5 cannot be lost.
        if state.load(Relaxed) & bit != 0 {
            state.fetch_and(!bit, Release);
        }
    }
    memory.consumers().waiting.fetch_and(!bit, Relaxed);
}
