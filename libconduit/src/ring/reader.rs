//! The reading side of the ring. Labels refer to the [protocol](super).

mod newest;
mod peek;

use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

pub(crate) use self::newest::Newest;
pub(crate) use self::peek::Peeked;
use super::copy::CopyTarget;
use super::end::Gone;
use super::layout::{ENDED, MessageEntry, NUMBER, PINNING_RECORDS};
use super::memory::{ANY_NUMBER, Memory, POWER_OF_TWO, ReaderMemory, Use, WritableMemory, head};
use super::sleeper::{Sleep, Sleeper};
use super::start::Start;
use super::writer::clear_record_bits;
use crate::fault::{self, Step};
use crate::mutation::{mutated, order, step};
use crate::shm::atomics::{Atomic, AtomicLoad, Atomics, WritableAtomics};
use crate::shm::stop_word::StopWord;

/// One reader of a ring.
#[derive(Debug)]
pub(crate) struct Reader<M: Memory> {
    memory: Arc<M>,
    sleeper: Sleeper<M>,
    /// The record whose lock this reader holds. Without one it can only copy.
    record: Option<usize>,
    /// The next position to receive.
    cursor: u64,
    /// The cursor for which a state was last prefetched in vain.
    prefetched: u64,
    /// The position after that of the last message received.
    expected: u64,
    received: u64,
    lost: u64,
    skipped: u64,
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Its position, which is its sequence number.
    pub(crate) sequence: u64,
    pub(crate) stamp_ns: u64,
    /// In bytes, at most the capacity.
    pub(crate) len: usize,
    /// The slot that has it.
    pub(crate) slot: u32,
    /// Messages missed since the one received before.
    pub(crate) lost: u64,
}

/// A message that was found readable.
pub(crate) struct Found<'a, M: Memory> {
    position: u64,
    entry: &'a MessageEntry<M::Atomics>,
    /// How entries are found: see [`ANY_NUMBER`].
    is_power_of_two: bool,
}

impl<'a, M: Memory> Found<'a, M> {
    /// The message of a position, if its entry has it.
    #[inline(always)]
    fn at<const IS_POWER_OF_TWO: bool>(memory: &'a M, position: u64) -> Self {
        Self { position, entry: memory.entry_as::<IS_POWER_OF_TWO>(position), is_power_of_two: IS_POWER_OF_TWO }
    }
}

/// How a reader takes a message out of its slot.
pub(crate) trait ReceiveMode<M: Memory> {
    /// Whether it writes the state of the message's slot.
    const PINS: bool;
    /// Whether it takes the newest message instead of the next one.
    const SKIPS: bool = false;

    /// Takes a message that was found readable, unless it is overwritten meanwhile.
    fn take(&mut self, memory: &M, message: Found<'_, M>) -> Option<Received>;
}

/// Leaves the message in its slot, held with the bit of a record: see [`unpin`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin {
    pub(crate) record: usize,
}

impl<M: ReaderMemory> ReceiveMode<M> for Pin {
    const PINS: bool = true;

    #[inline(always)]
    fn take(&mut self, memory: &M, message: Found<'_, M>) -> Option<Received> {
        pin(memory, message, self.record)
    }
}

/// Copies the message to a target.
#[derive(Debug)]
pub(crate) struct CopyTo<'a, T>(pub(crate) &'a mut T);

impl<M: Memory, T: CopyTarget> ReceiveMode<M> for CopyTo<'_, T> {
    const PINS: bool = false;

    #[inline(always)]
    fn take(&mut self, memory: &M, message: Found<'_, M>) -> Option<Received> {
        copy_out(memory, message, self.0)
    }
}

impl<M: ReaderMemory> Reader<M> {
    /// A reader with the lock of `record`, or without a record.
    pub(crate) fn new(memory: Arc<M>, record: Option<usize>, start: Start) -> Self {
        let record = record.filter(|_| memory.writable().is_some());
        if let Some(record) = record
            && let Some(memory) = memory.writable()
        {
            step!(clear_old_bits, clear_record_bits(memory, record));
            fault::point(Step::RecordCleared);
            step!(raise_record_limit, raise_record_limit(memory, record));
        }
        let sleeper = Sleeper::new(Arc::clone(&memory), record);
        let prefetched = u64::MAX;
        let (cursor, expected, received, lost, skipped) = (0, 0, 0, 0, 0);
        let mut reader = Self { memory, sleeper, record, cursor, prefetched, expected, received, lost, skipped };
        reader.join(start);
        reader
    }

    /// A reader with the lock of `record`, whose second byte `lock_second` locks (A2).
    pub(crate) fn attach<R>(memory: Arc<M>, record: usize, start: Start, lock_second: impl FnOnce() -> R) -> (Self, R) {
        if mutated!(a2_before_h1) {
            let locked = lock_second();
            return (Self::new(memory, Some(record), start), locked);
        }
        // Only now: whoever counts this reader may rely on its cursor.
        let reader = Self::new(memory, Some(record), start);
        (reader, lock_second())
    }

    /// Moves to the first message. The writer reuses slots that it finds behind all cursors, so
    /// this reader's must be visible before it relies on any message.
    fn join(&mut self, start: Start) {
        // Relaxed: this relies on no message yet.
        self.move_to(head(&*self.memory, Relaxed));
        step!(join_cursor, self.note_progress());
        // A3
        step!(a3, M::Atomics::fence(order!(a3, SeqCst fence)));
        // Whatever the writer reuses without having seen the cursor lies below this head.
        let head =
            if mutated!(join_at_first_head) { self.cursor } else { head(&*self.memory, order!(h1_of_join, Acquire)) };
        let slots = u64::from(self.memory.slots());
        let wanted = match start {
            Start::Next => 0,
            Start::Latest => 1,
            Start::Last(messages) => messages.into(),
            Start::Oldest => slots,
        };
        let newest = (head.saturating_sub(wanted.min(slots))..head).rev();
        let first = newest
            .take_while(|&position| is_kept(&*self.memory, &Found::at::<ANY_NUMBER>(&*self.memory, position), Relaxed))
            .last();
        self.expected = first.unwrap_or(head);
        self.move_to(self.expected);
        step!(join_progress, self.note_progress());
    }

    /// Counts every message from the first one on as received or lost.
    pub(crate) fn count_from_first(&mut self) {
        self.expected = 0;
    }

    /// For threads that sleep on this reader's behalf.
    pub(crate) fn sleeper(&self) -> &Sleeper<M> {
        &self.sleeper
    }

    pub(crate) fn memory(&self) -> &Arc<M> {
        &self.memory
    }

    /// Messages missed so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Messages passed over so far on the way to newer ones.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Messages received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Receives the next message, if there is one.
    #[inline(always)]
    pub(crate) fn receive(&mut self, mode: &mut impl ReceiveMode<M>) -> Option<Received> {
        if mutated!(r6_before_r1) {
            self.note_progress_to(self.cursor + 1);
        }
        let message = self.receive_next(mode)?;
        step!(progress, self.note_progress());
        Some(message)
    }

    /// Receives the next message of a batch, if there is one.
    /// [`note_progress`](Self::note_progress) ends the batch.
    #[inline(always)]
    pub(crate) fn receive_next<T: ReceiveMode<M>>(&mut self, mode: &mut T) -> Option<Received> {
        if T::SKIPS {
            self.receive_newest(mode)
        } else if self.memory.is_power_of_two() {
            self.receive_as::<POWER_OF_TWO, T>(mode)
        } else {
            self.receive_as::<ANY_NUMBER, T>(mode)
        }
    }

    #[inline(always)]
    fn receive_as<const IS_POWER_OF_TWO: bool, T: ReceiveMode<M>>(&mut self, mode: &mut T) -> Option<Received> {
        loop {
            let position = self.cursor;
            // R1
            let message = Found::at::<IS_POWER_OF_TWO>(&*self.memory, position);
            let found = message.entry.position.load(order!(r1, Acquire));
            if found & !ENDED != position + 1 {
                if !self.move_beyond(found) {
                    // So that both lines come at once, if the slot is the usual one.
                    self.memory.prefetch_payload(self.memory.entry_of::<IS_POWER_OF_TWO>(position));
                    if self.prefetched != position {
                        // Its line does not change until the message comes, unless another reader
                        // has the slot.
                        self.prefetched = position;
                        self.prefetch_state::<IS_POWER_OF_TWO, T>();
                    }
                    return None;
                }
                continue;
            }
            let taken = mode.take(&self.memory, message);
            self.move_to(position + 1);
            if let Some(mut message) = taken {
                message.lost = self.count(position);
                // Of the next message, which may be there already.
                self.prefetch_state::<IS_POWER_OF_TWO, T>();
                return Some(message);
            }
        }
    }

    /// Prefetches the state of the slot that the message at the cursor will probably have.
    #[inline(always)]
    fn prefetch_state<const IS_POWER_OF_TWO: bool, T: ReceiveMode<M>>(&self) {
        if T::PINS {
            self.memory.prefetch_state(self.memory.entry_of::<IS_POWER_OF_TWO>(self.cursor), Use::Write);
        }
    }

    /// Receives the next message; without one, reports how the topic ended once every message is
    /// received.
    ///
    /// `is_dead` is called if there is no message, and returns whether the publisher is known to be
    /// dead; `None` if that, and the flags in the wake word, were checked a moment ago.
    #[inline]
    pub(crate) fn receive_or_end(
        &mut self,
        mode: &mut impl ReceiveMode<M>,
        is_dead: impl FnOnce() -> Option<bool>,
    ) -> Result<Option<Received>, Gone> {
        if let Some(received) = self.receive(mode) {
            return Ok(Some(received));
        }
        match is_dead() {
            None if !self.has_passed() || mutated!(p1_left_out) => Ok(None),
            is_dead => self.receive_last(mode, is_dead.unwrap_or(false)),
        }
    }

    #[cold]
    fn receive_last(&mut self, mode: &mut impl ReceiveMode<M>, is_dead: bool) -> Result<Option<Received>, Gone> {
        let ended = self.has_ended().or(is_dead.then_some(Gone::Died));
        // The last messages may have come between the check for messages and the check for the end.
        if !mutated!(no_look_after_e2)
            && let Some(received) = self.receive(mode)
        {
            return Ok(Some(received));
        }
        let ended = if mutated!(e2_after_last_look) { self.has_ended().or(ended) } else { ended };
        let Some(how) = ended else { return Ok(None) };
        step!(end, self.end());
        Err(how)
    }

    #[inline(always)]
    fn move_to(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.sleeper.note_cursor(cursor);
    }

    /// Moves the cursor beyond a message that was overwritten, as an entry's position says.
    /// `false`: the message is yet to come.
    #[inline]
    fn move_beyond(&mut self, found: u64) -> bool {
        let number = found & NUMBER;
        if number <= self.cursor {
            return false;
        }
        // With the position that was found, one fewer can be readable than there are slots.
        let oldest = (number + 1).saturating_sub(self.memory.slots().into());
        let oldest = if mutated!(loss_of_oldest) { oldest + 1 } else { oldest };
        let next = self.cursor + 1;
        self.move_to(if mutated!(loss_step_by_step) { next } else { oldest.max(next) });
        true
    }

    /// Whether the entry says that the topic has ended before the cursor, or that the message
    /// there has come.
    #[inline]
    fn has_passed(&self) -> bool {
        // P1
        // survives p1_relaxed: the reader would poll once more (litmus test E3-P1).
        let found = self.memory.entry(self.cursor).position.load(order!(p1, Acquire));
        found & ENDED != 0 || found & NUMBER > self.cursor
    }

    #[inline(always)]
    fn count(&mut self, position: u64) -> u64 {
        let lost = position.saturating_sub(self.expected);
        self.expected = position + 1;
        self.received += 1;
        self.lost = self.lost.saturating_add(lost);
        lost
    }

    /// Publishes this reader's progress in its record.
    #[inline(always)]
    pub(crate) fn note_progress(&self) {
        self.note_progress_to(self.cursor);
    }

    #[inline(always)]
    fn note_progress_to(&self, cursor: u64) {
        if let Some(record) = self.record
            && let Some(memory) = self.memory.writable()
        {
            let record = memory.record(record);
            step!(record_received, record.received.store(self.received, Relaxed));
            step!(record_lost, record.lost.store(self.lost, Relaxed));
            // R6
            step!(r6, record.cursor.store(cursor, order!(r6, Release)));
        }
    }

    /// How the topic ended, if it did; there may be messages left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        self.sleeper.has_ended()
    }

    /// Whether there is a message at the cursor, or was.
    pub(crate) fn has_news(&self) -> bool {
        self.sleeper.has_news()
    }

    /// Number of slots.
    pub(crate) fn slots(&self) -> u32 {
        self.memory.slots()
    }

    /// The samples that are held of what this reader received.
    pub(crate) fn held(&self) -> u32 {
        let Some(memory) = self.memory.writable() else { return 0 };
        let bit = self.record.filter(|&record| record < PINNING_RECORDS).map_or(0, |record| 1 << record);
        let is_held = |&slot: &u32| memory.state(slot).load(Relaxed) & bit != 0;
        (0..memory.slots()).filter(is_held).count() as u32
    }

    /// Counts the messages that were published and never received: nothing will follow.
    fn end(&mut self) {
        let published = head(&*self.memory, Relaxed);
        self.lost = self.lost.saturating_add(published.saturating_sub(self.expected));
        self.expected = self.expected.max(published);
        step!(end_progress, self.note_progress());
    }

    /// See [`Sleeper::sleep`].
    pub(crate) fn sleep(&self, timeout: Duration, stop: Option<&StopWord>) -> bool {
        self.sleeper.sleep(timeout, stop)
    }
}

/// Whether the message of a position is kept: the writer has neither taken its slot for a newer
/// message (C2, R3 with the first load) nor published the message that comes before the one that
/// will take its entry (with the second). The reader has read both entries recently, the second for
/// the message before.
#[inline(always)]
fn is_kept<M: Memory>(memory: &M, message: &Found<'_, M>, order: Ordering) -> bool {
    let Found { position, entry, is_power_of_two } = *message;
    let until = position + u64::from(memory.slots());
    let found = entry.position.load(order);
    let last = until - 1;
    let last =
        if is_power_of_two { memory.entry_as::<POWER_OF_TWO>(last) } else { memory.entry_as::<ANY_NUMBER>(last) };
    let before = last.position.load(order);
    let is_in_entry = found & !ENDED == position + 1 || mutated!(kept_without_flag);
    let is_before_reuse = before & NUMBER < until || mutated!(kept_until_overwritten);
    is_in_entry && is_before_reuse
}

/// Makes the writer consider a record's cursor.
fn raise_record_limit<M: WritableMemory>(memory: &M, record: usize) {
    let limit = &memory.consumers().record_limit;
    let needed = record as u32 + 1;
    let mut seen = limit.load(Relaxed);
    if mutated!(record_limit_stored) {
        return limit.store(needed, Relaxed);
    }
    while seen < needed {
        match limit.compare_exchange(seen, needed, Relaxed, Relaxed) {
            Ok(_) => break,
            Err(now) => seen = now,
        }
    }
}

#[inline(always)]
fn pin<M: ReaderMemory>(memory: &M, found: Found<'_, M>, record: usize) -> Option<Received> {
    debug_assert!(record < PINNING_RECORDS);
    let message = read_entry(memory, &found)?;
    let slot_state = memory.writable()?.slot_state(message.slot);
    let state = &slot_state.word;
    let bit = 1 << record;
    // R2
    let before = if mutated!(r2_left_out) {
        0
    } else {
        <M::Writable as Memory>::Atomics::fetch_or_before_loads(state, bit, order!(r2, SeqCst))
    };
    if before & bit != 0 && !mutated!(r2_of_own_pin) {
        // A peer claims that the slot has another message, too: undoing the pin would release the
        // one that is held.
        return None;
    }
    fault::point(Step::PinSet);
    // C1
    // survives c1_of_pin_left_out: in the models R2 has a fence, which does the same. The litmus
    // test of W3 and C1 shows what the processor needs.
    step!(c1_of_pin, M::Atomics::fence(Acquire));
    // R3
    // survives r3_acquire: in the models the fence of R2 does it. The litmus test of R2 and R3
    // shows what the processor needs.
    // survives r3_relaxed: as above.
    if !is_kept(memory, &found, order!(r3, SeqCst load)) && !mutated!(r3_left_out) {
        // Relaxed: nothing was read.
        step!(r3_undo, state.fetch_and(!bit, Relaxed));
        return None;
    }
    memory.writable()?.note_held(slot_state, message.stamp_ns);
    fault::point(Step::PinChecked);
    Some(message)
}

/// Releases a pinned slot.
#[inline]
pub(super) fn unpin<M: WritableMemory>(memory: &M, slot: u32, record: usize) {
    fault::point(Step::UnpinBegun);
    // R5
    step!(r5, memory.state(slot).fetch_and(!(1 << record), order!(r5, Release)));
    fault::point(Step::UnpinCleared);
}

#[inline(always)]
fn copy_out<M: Memory>(memory: &M, found: Found<'_, M>, into: &mut impl CopyTarget) -> Option<Received> {
    let message = read_entry(memory, &found)?;
    if let Some(bytes) = into.room(message.len) {
        memory.copy_payload(message.slot, bytes);
    }
    // C1
    step!(c1, M::Atomics::fence(Acquire));
    // C2
    (is_kept(memory, &found, Relaxed) || mutated!(c2_left_out)).then_some(message)
}

/// What an entry says of its message. The caller checks afterwards that it is kept (R3, C2).
#[inline(always)]
fn read_entry<M: Memory>(memory: &M, found: &Found<'_, M>) -> Option<Received> {
    let Found { position, entry, .. } = *found;
    let slot = entry.slot.load(Relaxed);
    let longest = if mutated!(any_length) { usize::MAX } else { memory.capacity() };
    let message = Received {
        sequence: position,
        stamp_ns: entry.stamp_ns.load(Relaxed),
        len: usize::try_from(entry.len.load(Relaxed)).unwrap_or(usize::MAX).min(longest),
        slot,
        lost: 0,
    };
    (slot < memory.slots() || mutated!(any_slot)).then_some(message)
}
