//! The writing side of the ring. Labels refer to the [protocol](super).

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use super::layout::{CLOSED, ONE_WAKE, ORPHANED, READERS, TURN, UNLINKED};
use super::memory::WritableMemory;
use super::window::Window;
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, AtomicLoad, Atomics};

/// Held slots that the writer skips before it probes for dead readers, which costs a system call.
const SKIPS_PER_RECLAIM: u32 = 64;

/// What another process has done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intervention {
    /// Ended it.
    Ended,
    /// Removed its name.
    Unlinked,
}

/// The one writer of a ring.
#[derive(Debug)]
pub(crate) struct Writer<M> {
    memory: Arc<M>,
    next: u64,
    /// The slot that is claimed for the next message.
    claimed: Option<ClaimedSlot>,
    sequence: u64,
    bytes: u64,
    window: Window,
    skips: u32,
    has_woken: bool,
}

/// A slot that no reader can hold until its position is published.
#[derive(Clone, Copy, Debug)]
struct ClaimedSlot {
    position: u64,
    /// The state's turn since the claim.
    turn: u64,
}

/// The right to write a slot and publish it. Dropped without [`publish`](Self::publish), the next
/// claim is the same slot.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claim<'a, M> {
    writer: &'a mut Writer<M>,
    slot: ClaimedSlot,
}

/// Every slot is held by a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AllSlotsHeld;

impl<M: WritableMemory> Claim<'_, M> {
    pub(crate) fn memory(&self) -> &M {
        &self.writer.memory
    }

    pub(crate) fn position(&self) -> u64 {
        self.slot.position
    }

    /// Publishes the message of `len` bytes that was written into the slot, with the time that
    /// `stamp_ns` returns.
    #[inline(always)]
    pub(crate) fn publish(self, len: usize, stamp_ns: impl FnOnce() -> u64) {
        self.writer.publish(self.slot, len, stamp_ns);
    }
}

impl<M: WritableMemory> Writer<M> {
    /// A writer for a new ring, whose memory is zero.
    pub(crate) fn new(memory: Arc<M>) -> Self {
        let window = Window::default();
        let mut writer =
            Self { memory, next: 0, claimed: None, sequence: 0, bytes: 0, window, skips: 0, has_woken: false };
        writer.claim_ahead();
        writer
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Messages published so far.
    pub(crate) fn published(&self) -> u64 {
        self.sequence
    }

    /// Whether a reader was woken since the last call.
    #[inline]
    pub(crate) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.has_woken)
    }

    /// Claims a slot to write into.
    #[inline(always)]
    pub(crate) fn claim(&mut self) -> Result<Claim<'_, M>, AllSlotsHeld> {
        let slot = match self.claimed {
            Some(slot) => slot,
            None => self.claim_any()?,
        };
        // W2
        M::Atomics::fence(Release);
        fault::point(Step::ClaimTaken);
        Ok(Claim { writer: self, slot })
    }

    /// Claims the slot of the next position, if no reader holds it.
    #[inline(always)]
    fn claim_ahead(&mut self) {
        self.claimed = self.try_claim(self.next).ok();
    }

    #[cold]
    fn claim_any(&mut self) -> Result<ClaimedSlot, AllSlotsHeld> {
        if self.claim_in_one_pass().is_none() {
            self.reclaim(READERS);
            // A second pass even if no reader was dead: a reader that never holds two samples may
            // have blocked every try of the first.
            self.claim_in_one_pass();
        }
        self.claimed.ok_or(AllSlotsHeld)
    }

    fn claim_in_one_pass(&mut self) -> Option<ClaimedSlot> {
        let mut may_reclaim = true;
        for position in self.next..self.next + self.memory.slots() {
            match self.try_claim(position) {
                Ok(claim) => {
                    self.claimed = Some(claim);
                    return self.claimed;
                }
                Err(state) => self.skip(position, state, &mut may_reclaim),
            }
        }
        None
    }

    /// Claims the slot of a position, or returns its state.
    #[inline(always)]
    fn try_claim(&self, position: u64) -> Result<ClaimedSlot, u64> {
        let state = self.memory.state(position);
        // The turn since the last message. Loading the state would fetch its line twice, to read
        // and to write.
        let known = self.memory.slot(position).position.load(Relaxed) & TURN;
        let claim = |turn| ClaimedSlot { position, turn };
        // W1
        match state.compare_exchange(known, known ^ TURN, AcqRel, Relaxed) {
            Ok(_) => Ok(claim(known ^ TURN)),
            Err(held) if held & !TURN != 0 => Err(held),
            // A peer has tampered with one of the two.
            Err(found) => state.compare_exchange(found, found ^ TURN, AcqRel, Relaxed).map(|_| claim(found ^ TURN)),
        }
    }

    #[cold]
    fn skip(&mut self, position: u64, state: u64, may_reclaim: &mut bool) {
        // W3
        self.memory.slot(position).passed.store(position + 1, Release);
        self.skips = self.skips.wrapping_add(1);
        // At most once per pass: it visits all slots.
        if *may_reclaim && self.skips.is_multiple_of(SKIPS_PER_RECLAIM) {
            *may_reclaim = false;
            self.reclaim(state);
        }
    }

    #[inline(always)]
    fn publish(&mut self, ClaimedSlot { position, turn }: ClaimedSlot, len: usize, stamp_ns: impl FnOnce() -> u64) {
        let slot = self.memory.slot(position);
        // Before the clock is read: the line then comes from a polling reader's cache meanwhile.
        slot.sequence.store(self.sequence, Relaxed);
        slot.len.store(len as u64, Relaxed);
        let stamp_ns = stamp_ns();
        slot.stamp_ns.store(stamp_ns, Relaxed);
        fault::point(Step::PublishWritten);
        // W4
        slot.position.store(turn | (position + 1), Release);
        fault::point(Step::PublishReadable);
        self.next = position + 1;
        self.sequence += 1;
        let producer = self.memory.producer();
        // W5
        producer.published.store(self.sequence, Relaxed);
        self.bytes += len as u64;
        producer.bytes.store(self.bytes, Relaxed);
        self.window.count(producer, self.sequence, self.bytes, stamp_ns);
        fault::point(Step::PublishCounted);
        // W6
        producer.head.store(self.next, Release);
        fault::point(Step::PublishMoved);
        let consumers = self.memory.consumers();
        // W7: always a swap, see S2.
        if consumers.waiting.swap(0, AcqRel) != 0 {
            self.wake();
        }
        self.claim_ahead();
        fault::point(Step::PublishClaimed);
    }

    #[cold]
    fn wake(&mut self) {
        fault::point(Step::PublishTaken);
        // W8
        self.memory.consumers().wake.fetch_add(ONE_WAKE, Relaxed);
        fault::point(Step::PublishChanged);
        self.memory.wake_all();
        self.has_woken = true;
        fault::point(Step::PublishWoken);
    }

    /// What another process has done to the topic. One load from a line that `publish` needs
    /// anyway.
    #[inline]
    pub(crate) fn intervention(&self) -> Option<Intervention> {
        let flags = self.memory.consumers().wake.load(Relaxed) & (CLOSED | ORPHANED | UNLINKED);
        match flags {
            0 => None,
            UNLINKED => Some(Intervention::Unlinked),
            _ => Some(Intervention::Ended),
        }
    }

    /// Marks the topic as unlinked.
    #[cold]
    pub(crate) fn note_unlinked(&mut self) {
        self.memory.consumers().wake.fetch_or(UNLINKED, Relaxed);
    }

    /// Ends the topic and wakes all sleepers.
    pub(crate) fn close(&mut self) {
        fault::point(Step::CloseBegun);
        // E1
        self.memory.consumers().wake.fetch_or(CLOSED, Release);
        fault::point(Step::CloseMarked);
        // E3
        self.memory.slot(self.next).passed.store(self.next + 1, Release);
        self.memory.wake_all();
        fault::point(Step::CloseWoken);
    }

    /// Clears the bits of dead readers that are in `state`, and bits of no reader.
    #[cold]
    fn reclaim(&mut self, state: u64) {
        let mut held = 0;
        for position in 0..self.memory.slots() {
            let state = self.memory.state(position);
            let holders = state.load(Relaxed);
            if holders & !(READERS | TURN) != 0 {
                state.fetch_and(READERS | TURN, Relaxed);
            }
            held |= holders;
        }
        let mut suspects = held & state & READERS;
        while suspects != 0 {
            let record = suspects.trailing_zeros() as usize;
            suspects &= suspects - 1;
            self.memory.if_dead(record, || clear_record_bits(&*self.memory, record));
        }
    }
}

/// Releases every slot that a record holds. The caller holds the lock of that record.
pub(super) fn clear_record_bits<M: WritableMemory>(memory: &M, record: usize) {
    let bit = 1 << record;
    for position in 0..memory.slots() {
        let state = memory.state(position);
        if state.load(Relaxed) & bit != 0 {
            state.fetch_and(!bit, Release);
        }
    }
    memory.consumers().waiting.fetch_and(!bit, Relaxed);
}
