//! The writing side of the ring. Labels refer to the [protocol](super).

mod run;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

pub(crate) use self::run::Run;
use super::layout::{CLOSED, ENDED, ONE_WAKE, ORPHANED, PINNING_RECORDS, READERS, TAKEN, UNLINKED};
use super::memory::{ANY_NUMBER, POWER_OF_TWO, SHARED_WAITING_BIT, Use, WritableMemory, waiting_bit};
use super::reuse::{Reuse, SlotOrder};
use super::window::Window;
use crate::fault::{self, Step};
use crate::mutation::{mutated, order, step};
use crate::shm::atomics::{Atomic, AtomicLoad, Atomics};

/// Held slots that the writer meets before it probes for dead readers, which costs a system call.
const MEETINGS_PER_RECLAIM: u32 = 64;

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
    /// The next position.
    next: u64,
    /// The slot that is claimed for it.
    claimed: Option<u32>,
    order: SlotOrder,
    bytes: u64,
    window: Window,
    meetings: u32,
    has_woken: bool,
}

/// The right to write a slot and publish it. Dropped without [`publish`](Self::publish), the next
/// claim is the same slot.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claim<'a, M> {
    writer: &'a mut Writer<M>,
    slot: u32,
}

/// Every slot is held by a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AllSlotsHeld;

impl<M: WritableMemory> Claim<'_, M> {
    pub(crate) fn memory(&self) -> &M {
        &self.writer.memory
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot
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
    pub(crate) fn new(memory: Arc<M>, reuse: Reuse) -> Self {
        let order = SlotOrder::new(memory.slots(), reuse);
        let window = Window::default();
        let mut writer =
            Self { memory, next: 0, claimed: None, order, bytes: 0, window, meetings: 0, has_woken: false };
        writer.claim_ahead::<ANY_NUMBER>();
        writer
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Messages published so far.
    pub(crate) fn published(&self) -> u64 {
        self.next
    }

    /// Whether a reader was woken since the last call.
    #[inline]
    pub(crate) fn take_woken(&mut self) -> bool {
        if mutated!(woken_for_ever) { self.has_woken } else { std::mem::take(&mut self.has_woken) }
    }

    /// Claims a slot to write into.
    #[inline(always)]
    pub(crate) fn claim(&mut self) -> Result<Claim<'_, M>, AllSlotsHeld> {
        let slot = self.claim_slot()?;
        fault::point(Step::ClaimTaken);
        Ok(Claim { writer: self, slot })
    }

    #[inline(always)]
    fn claim_slot(&mut self) -> Result<u32, AllSlotsHeld> {
        if mutated!(claimed_is_forgotten) {
            self.claimed = None;
        }
        match self.claimed {
            Some(slot) => Ok(slot),
            None => self.claim_any(),
        }
    }

    fn claim_any(&mut self) -> Result<u32, AllSlotsHeld> {
        let first = self.first_candidate();
        if let Some(slot) = self.claim_from(first) {
            return Ok(slot);
        }
        step!(reclaim_after_pass, self.reclaim(READERS));
        if mutated!(single_pass) {
            return Err(AllSlotsHeld);
        }
        // A second pass even if no reader was dead: one that never holds two samples may have
        // blocked every try of the first. Where it was found last, W1 has acquired what it released
        // before.
        self.claim_from(first).ok_or(AllSlotsHeld)
    }

    /// How many messages ago the slot was filled that is tried first.
    #[inline(always)]
    fn first_candidate(&self) -> u64 {
        let slots = u64::from(self.memory.slots());
        match self.order.reuse() {
            Reuse::Oldest => slots,
            Reuse::Newest { retain } => {
                let retain = if mutated!(retain_none) { 0 } else { retain.into() };
                let first = self.longest_lag().max(retain) + 1;
                if mutated!(first_beyond_ring) { first } else { slots.min(first) }
            }
        }
    }

    /// How many messages ago the newest was published that some reader has yet to receive. A
    /// reader that was overtaken by the whole ring has nothing to lose.
    fn longest_lag(&self) -> u64 {
        if mutated!(lag_of_nobody) {
            return 0;
        }
        let limit = self.memory.consumers().record_limit.load(Relaxed) as usize;
        let limit = if mutated!(record_limit_of_any_size) { limit } else { limit.min(self.memory.records()) };
        // W9
        // survives w9_relaxed: W3 comes before anything is overwritten (litmus test W9-R6).
        let cursors = (0..limit).map(|record| self.memory.record(record).cursor.load(order!(w9, Acquire)));
        let lags = cursors.map(|cursor| match mutated!(lag_of_no_cursor) {
            true => self.next.wrapping_sub(cursor),
            false => self.next.saturating_sub(cursor),
        });
        let mut lags = lags.filter(|&lag| lag < self.memory.slots().into() || mutated!(lag_of_overtaken));
        let lag = if mutated!(lag_of_first) { lags.next() } else { lags.max() };
        lag.unwrap_or(0)
    }

    /// Claims the slot of the message that was published `first` messages ago, or of an older one,
    /// or of the oldest of the newer ones.
    fn claim_from(&mut self, first: u64) -> Option<u32> {
        let slots = u64::from(self.memory.slots());
        let mut may_reclaim = true;
        let newer = if mutated!(newer_not_tried) { 1..1 } else { 1..first };
        for age in (first..=slots).chain(newer.rev()) {
            let from = self.next + slots - age;
            match self.try_claim(from) {
                Ok(slot) => {
                    self.adopt(from, slot);
                    return Some(slot);
                }
                Err(holders) => self.meet(holders, &mut may_reclaim),
            }
        }
        None
    }

    /// Gives a claimed slot of another entry to the next one.
    fn adopt(&mut self, from: u64, slot: u32) {
        step!(adopt_swap, {
            let entry_of = |position| self.memory.entry_of::<ANY_NUMBER>(position);
            self.order.swap(entry_of(from), entry_of(self.next));
        });
        step!(adopt_claimed, self.claimed = Some(slot));
    }

    /// Claims the slot of a position's entry, or returns its holders.
    fn try_claim(&self, position: u64) -> Result<u32, u64> {
        let slot = self.slot_of::<ANY_NUMBER>(position);
        let holders = self.holders(slot);
        if holders != 0 && !mutated!(w2_of_held_slots) {
            return Err(holders);
        }
        let found = self.take_entry::<ANY_NUMBER>(position);
        // W3
        step!(w3_of_claim, M::Atomics::fence(order!(w3_of_claim, SeqCst fence)));
        self.settle(position, slot, found)
    }

    #[inline(always)]
    fn slot_of<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> u32 {
        self.order.slot_of(self.memory.entry_of::<IS_POWER_OF_TWO>(position))
    }

    #[inline(always)]
    fn holders(&self, slot: u32) -> u64 {
        // W1
        self.memory.state(slot).load(order!(w1, Acquire))
    }

    /// Flags an entry's message as about to be overwritten. Returns the entry's position.
    #[inline(always)]
    fn take_entry<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> u64 {
        let word = &self.memory.entry_as::<IS_POWER_OF_TWO>(position).position;
        let found = word.load(Relaxed);
        // W2
        step!(w2, word.store(found | TAKEN, Relaxed));
        found
    }

    /// Ends a claim after W2 and W3: takes it back if a reader has pinned the slot.
    #[inline(always)]
    fn settle(&self, position: u64, slot: u32, found: u64) -> Result<u32, u64> {
        if mutated!(w1_left_out) {
            return Ok(slot);
        }
        match self.holders(slot) {
            0 => Ok(slot),
            holders => {
                // W4: the message is as complete as it was.
                // survives w4_of_taking_back_relaxed: W3 has released the message.
                step!(w4_of_taking_back, {
                    let word = &self.memory.entry(position).position;
                    word.store(found, order!(w4_of_taking_back, Release));
                });
                Err(holders)
            }
        }
    }

    #[cold]
    fn meet(&mut self, holders: u64, may_reclaim: &mut bool) {
        self.meetings = self.meetings.wrapping_add(1);
        // At most once per pass: it visits all slots.
        if *may_reclaim && self.meetings.is_multiple_of(MEETINGS_PER_RECLAIM) {
            *may_reclaim = mutated!(reclaim_with_every_meeting);
            step!(reclaim_when_met, self.reclaim(holders));
        }
    }

    #[inline(always)]
    fn publish(&mut self, slot: u32, len: usize, stamp_ns: impl FnOnce() -> u64) {
        if self.memory.is_power_of_two() {
            self.publish_as::<POWER_OF_TWO>(slot, len, stamp_ns);
        } else {
            self.publish_as::<ANY_NUMBER>(slot, len, stamp_ns);
        }
    }

    #[inline(always)]
    fn publish_as<const IS_POWER_OF_TWO: bool>(&mut self, slot: u32, len: usize, stamp_ns: impl FnOnce() -> u64) {
        let entry = self.memory.entry_as::<IS_POWER_OF_TWO>(self.next);
        if mutated!(w4_before_entry) {
            entry.position.store(self.next + 1, Release);
        }
        // Before the clock is read: the line then comes from a polling reader's cache meanwhile.
        step!(entry_slot, entry.slot.store(slot, Relaxed));
        step!(entry_len, entry.len.store(len as u64, Relaxed));
        self.prefetch_claim::<IS_POWER_OF_TWO>();
        let stamp_ns = stamp_ns();
        step!(entry_stamp, entry.stamp_ns.store(stamp_ns, Relaxed));
        fault::point(Step::PublishWritten);
        // W4
        step!(w4, entry.position.store(self.next + 1, order!(w4, Release)));
        fault::point(Step::PublishReadable);
        self.next += 1;
        step!(bytes_of_message, self.bytes += len as u64);
        self.move_head(stamp_ns);
        step!(claim_ahead, self.claim_ahead::<IS_POWER_OF_TWO>());
        fault::point(Step::PublishClaimed);
    }

    /// Counts what was published, the last of it at `stamp_ns`.
    #[inline(always)]
    fn move_head(&mut self, stamp_ns: u64) {
        let producer = self.memory.producer();
        if mutated!(w6_before_w5) {
            producer.head.store(self.next, Release);
        }
        // W5
        step!(w5, producer.bytes.store(self.bytes, Relaxed));
        step!(window_count, self.window.count(producer, self.next, self.bytes, stamp_ns));
        fault::point(Step::PublishCounted);
        // W6
        step!(w6, producer.head.store(self.next, order!(w6, Release)));
        fault::point(Step::PublishMoved);
    }

    /// Claims a slot for the next position, if no reader holds it, and wakes the sleepers.
    #[inline(always)]
    fn claim_ahead<const IS_POWER_OF_TWO: bool>(&mut self) {
        step!(claimed_none, self.claimed = None);
        match self.order.reuse() {
            // Publishing the last message was W2.
            Reuse::Oldest => {
                self.fence_and_wake();
                let slot = self.slot_of::<IS_POWER_OF_TWO>(self.next);
                if self.holders(slot) == 0 || mutated!(w1_of_ahead_left_out) {
                    self.claimed = Some(slot);
                }
            }
            // Not before its reader has had the time to receive it.
            Reuse::Newest { retain: 0 } => {
                self.fence_and_wake();
                if mutated!(claim_ahead_of_readers) {
                    let _ = self.claim_any();
                }
            }
            Reuse::Newest { .. } => {
                let from = self.next + u64::from(self.memory.slots()) - self.first_candidate();
                let slot = self.slot_of::<IS_POWER_OF_TWO>(from);
                let is_late = mutated!(w2_after_w3);
                if is_late {
                    self.fence_and_wake();
                }
                let found = self.take_entry::<IS_POWER_OF_TWO>(from);
                if !is_late {
                    self.fence_and_wake();
                }
                if self.settle(from, slot, found).is_ok() {
                    self.adopt(from, slot);
                }
            }
        }
    }

    /// Prefetches what claiming ahead reads, while the lines of this message move.
    #[inline(always)]
    fn prefetch_claim<const IS_POWER_OF_TWO: bool>(&self) {
        let memory = &*self.memory;
        match self.order.reuse() {
            Reuse::Oldest => memory.prefetch_state(self.slot_of::<IS_POWER_OF_TWO>(self.next + 1), Use::Read),
            Reuse::Newest { .. } => {
                // The usual case: one reader, which has received the message before.
                let before = self.next + u64::from(memory.slots()) - 1;
                memory.prefetch(memory.record(0), Use::Read);
                memory.prefetch(memory.entry_as::<IS_POWER_OF_TWO>(before), Use::Write);
                memory.prefetch_state(self.slot_of::<IS_POWER_OF_TWO>(before), Use::Read);
            }
        }
    }

    #[inline(always)]
    fn fence_and_wake(&mut self) {
        if mutated!(w7_before_w3) && self.memory.consumers().waiting.load(Relaxed) == 0 {
            return M::Atomics::fence(SeqCst);
        }
        // W3
        step!(w3, M::Atomics::fence(order!(w3, SeqCst fence)));
        // W7
        if self.memory.consumers().waiting.load(Relaxed) != 0 {
            step!(w7, self.wake());
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&mut self) {
        let consumers = self.memory.consumers();
        let is_early = mutated!(w8_before_w7);
        if is_early {
            consumers.wake.fetch_add(ONE_WAKE, Relaxed);
        }
        // W7: see S2.
        // survives w7_relaxed: litmus test W7-S2; loom returns no value from the future.
        let bits = if mutated!(w7_takes_none) { u64::MAX } else { 0 };
        if consumers.waiting.swap(bits, order!(w7, Acquire)) == 0 {
            return;
        }
        fault::point(Step::PublishTaken);
        // W8
        if !is_early {
            step!(w8, consumers.wake.fetch_add(ONE_WAKE, Relaxed));
        }
        fault::point(Step::PublishChanged);
        step!(wake_all, self.memory.wake_all());
        step!(has_woken, self.has_woken = true);
        fault::point(Step::PublishWoken);
    }

    /// What another process has done to the topic. One load from a line that `publish` needs
    /// anyway.
    #[inline]
    pub(crate) fn intervention(&self) -> Option<Intervention> {
        let flags = self.memory.consumers().wake.load(Relaxed) & (CLOSED | ORPHANED | UNLINKED);
        if mutated!(intervention_unseen) {
            return None;
        }
        if mutated!(unlinked_is_ended) && flags == UNLINKED {
            return Some(Intervention::Ended);
        }
        match flags {
            0 => None,
            UNLINKED => Some(Intervention::Unlinked),
            _ => Some(Intervention::Ended),
        }
    }

    /// Marks the topic as unlinked.
    #[cold]
    pub(crate) fn note_unlinked(&mut self) {
        step!(note_unlinked, self.memory.consumers().wake.fetch_or(UNLINKED, Relaxed));
    }

    /// Ends the topic and wakes all sleepers.
    pub(crate) fn close(&mut self) {
        fault::point(Step::CloseBegun);
        let word = &self.memory.entry(self.next).position;
        if mutated!(e3_before_e1) {
            word.store(word.load(Relaxed) | ENDED, Release);
        }
        // E1
        // survives e1_relaxed: the W3 of the last message has released all of them.
        step!(e1, self.memory.consumers().wake.fetch_or(CLOSED, order!(e1, Release)));
        fault::point(Step::CloseMarked);
        // E3
        step!(e3, word.store(word.load(Relaxed) | ENDED, order!(e3, Release)));
        step!(close_wake_all, self.memory.wake_all());
        fault::point(Step::CloseWoken);
    }

    /// Clears the bits of dead readers that are in `state`, and bits of no reader.
    #[cold]
    fn reclaim(&mut self, state: u64) {
        let mut held = 0;
        for slot in 0..self.memory.slots() {
            let state = self.memory.state(slot);
            let holders = state.load(Relaxed);
            if holders & !READERS != 0 {
                step!(reclaim_no_readers, state.fetch_and(READERS, Relaxed));
            }
            held |= holders;
        }
        let mut suspects = held & state & READERS;
        while suspects != 0 {
            let record = suspects.trailing_zeros() as usize;
            suspects &= suspects - 1;
            if record < self.memory.records() || mutated!(reclaim_beyond_records) {
                step!(reclaim_dead, self.memory.if_dead(record, || clear_record_bits(&*self.memory, record)));
            }
        }
    }
}

/// Releases every slot that a record holds. The caller holds the lock of that record.
pub(super) fn clear_record_bits<M: WritableMemory>(memory: &M, record: usize) {
    if record < PINNING_RECORDS || mutated!(clear_beyond_bits) {
        let bit = 1 << record;
        for slot in 0..memory.slots() {
            let state = memory.state(slot);
            if state.load(Relaxed) & bit != 0 {
                step!(clear_record_bits, state.fetch_and(!bit, order!(clear_record_bits, Release)));
            }
        }
    }
    if record < SHARED_WAITING_BIT || mutated!(clear_shared_waiting) {
        step!(clear_waiting, memory.consumers().waiting.fetch_and(!waiting_bit(record), Relaxed));
    }
}
