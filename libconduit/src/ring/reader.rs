//! The reading side of the ring. Labels refer to the [protocol](super).

use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use super::copy::CopyTarget;
use super::end::Gone;
use super::layout::{ENDED, MessageEntry, NUMBER, PINNING_RECORDS};
use super::memory::{Memory, ReaderMemory, Use, WritableMemory, head};
use super::sleeper::Sleeper;
use super::start::Start;
use super::writer::clear_record_bits;
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, AtomicLoad, Atomics, WritableAtomics};

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

/// Takes the newest message, in another mode, and skips those before it.
#[derive(Debug)]
pub(crate) struct Newest<T>(pub(crate) T);

impl<M: Memory, T: ReceiveMode<M>> ReceiveMode<M> for Newest<T> {
    const PINS: bool = T::PINS;
    const SKIPS: bool = true;

    #[inline(always)]
    fn take(&mut self, memory: &M, message: Found<'_, M>) -> Option<Received> {
        self.0.take(memory, message)
    }
}

impl<M: ReaderMemory> Reader<M> {
    /// A reader with the lock of `record`, or without a record.
    pub(crate) fn new(memory: Arc<M>, record: Option<usize>, start: Start) -> Self {
        let record = record.filter(|_| memory.writable().is_some());
        if let Some(record) = record
            && let Some(memory) = memory.writable()
        {
            clear_record_bits(memory, record);
            fault::point(Step::RecordCleared);
            raise_record_limit(memory, record);
        }
        let sleeper = Sleeper::new(Arc::clone(&memory), record);
        let prefetched = u64::MAX;
        let (cursor, expected, received, lost, skipped) = (0, 0, 0, 0, 0);
        let mut reader = Self { memory, sleeper, record, cursor, prefetched, expected, received, lost, skipped };
        reader.join(start);
        reader
    }

    /// Moves to the first message. The writer reuses slots that it finds behind all cursors, so
    /// this reader's must be visible before it relies on any message.
    fn join(&mut self, start: Start) {
        self.move_to(head(&*self.memory, Acquire));
        self.note_progress();
        // A3
        M::Atomics::fence(SeqCst);
        // Whatever the writer reuses without having seen the cursor lies below this head.
        let head = head(&*self.memory, Acquire);
        let slots = u64::from(self.memory.slots());
        let wanted = match start {
            Start::Next => 0,
            Start::Latest => 1,
            Start::Last(messages) => messages.into(),
            Start::Oldest => slots,
        };
        let newest = (head.saturating_sub(wanted.min(slots))..head).rev();
        let first = newest
            .take_while(|&position| is_kept(&*self.memory, position, self.memory.entry(position), Relaxed))
            .last();
        self.expected = first.unwrap_or(head);
        self.move_to(self.expected);
        self.note_progress();
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
        let message = self.receive_next(mode)?;
        self.note_progress();
        Some(message)
    }

    /// Receives the next message of a batch, if there is one.
    /// [`note_progress`](Self::note_progress) ends the batch.
    #[inline(always)]
    pub(crate) fn receive_next<T: ReceiveMode<M>>(&mut self, mode: &mut T) -> Option<Received> {
        if T::SKIPS {
            return self.receive_newest(mode);
        }
        loop {
            let position = self.cursor;
            // R1
            let entry = self.memory.entry(position);
            let found = entry.position.load(Acquire);
            if found & !ENDED != position + 1 {
                if !self.move_beyond(found) {
                    // So that both lines come at once, if the slot is the usual one.
                    self.memory.prefetch_payload(self.memory.entry_of(position));
                    if self.prefetched != position {
                        // Its line does not change until the message comes, unless another reader
                        // has the slot.
                        self.prefetched = position;
                        self.prefetch_state::<T>();
                    }
                    return None;
                }
                continue;
            }
            let taken = mode.take(&self.memory, Found { position, entry });
            self.move_to(position + 1);
            if let Some(mut message) = taken {
                message.lost = self.count(position);
                // Of the next message, which may be there already.
                self.prefetch_state::<T>();
                return Some(message);
            }
        }
    }

    /// Receives the newest message that is kept, unless it was received before. Each further round
    /// means that the writer has published a message.
    fn receive_newest(&mut self, mode: &mut impl ReceiveMode<M>) -> Option<Received> {
        let mut tried = self.cursor;
        loop {
            let next = self.beyond_newest(tried);
            let oldest = tried.max(next.saturating_sub(self.memory.slots().into()));
            for position in (oldest..next).rev() {
                // R1
                let entry = self.memory.entry(position);
                if entry.position.load(Acquire) & !ENDED == position + 1
                    && let Some(message) = mode.take(&self.memory, Found { position, entry })
                {
                    self.move_to(next);
                    self.skipped = self.skipped.saturating_add(position.saturating_sub(self.expected));
                    self.expected = position + 1;
                    self.received += 1;
                    return Some(message);
                }
            }
            if next == tried {
                self.move_to(next);
                return None;
            }
            tried = next;
        }
    }

    /// The position after that of the newest message, `least` at least. It may be beyond head,
    /// which moves when the message is readable.
    fn beyond_newest(&self, least: u64) -> u64 {
        let mut next = head(&*self.memory, Acquire).max(least);
        for _ in 0..self.memory.slots() {
            // R1
            let number = self.memory.entry(next).position.load(Acquire) & NUMBER;
            if number <= next {
                break;
            }
            next = number;
        }
        next
    }

    /// Prefetches the state of the slot that the message at the cursor will probably have.
    #[inline(always)]
    fn prefetch_state<T: ReceiveMode<M>>(&self) {
        if T::PINS {
            self.memory.prefetch_state(self.memory.entry_of(self.cursor), Use::Write);
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
            None if !self.has_passed() => Ok(None),
            is_dead => self.receive_last(mode, is_dead.unwrap_or(false)),
        }
    }

    #[cold]
    fn receive_last(&mut self, mode: &mut impl ReceiveMode<M>, is_dead: bool) -> Result<Option<Received>, Gone> {
        let ended = self.has_ended().or(is_dead.then_some(Gone::Died));
        // The last messages may have come between the check for messages and the check for the end.
        if let Some(received) = self.receive(mode) {
            return Ok(Some(received));
        }
        let Some(how) = ended else { return Ok(None) };
        self.end();
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
        self.move_to(oldest.max(self.cursor + 1));
        true
    }

    /// Whether the entry says that the topic has ended before the cursor, or that the message
    /// there has come.
    #[inline]
    fn has_passed(&self) -> bool {
        // P1
        let found = self.memory.entry(self.cursor).position.load(Acquire);
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
        if let Some(record) = self.record
            && let Some(memory) = self.memory.writable()
        {
            let record = memory.record(record);
            record.received.store(self.received, Relaxed);
            record.lost.store(self.lost, Relaxed);
            // R6
            record.cursor.store(self.cursor, Release);
        }
    }

    /// How the topic ended, if it did; there may be messages left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        self.sleeper.has_ended()
    }

    /// Counts the messages that were published and never received: nothing will follow.
    fn end(&mut self) {
        let published = head(&*self.memory, Relaxed);
        self.lost = self.lost.saturating_add(published.saturating_sub(self.expected));
        self.expected = self.expected.max(published);
        self.note_progress();
    }

    /// Sleeps until there is news, the topic has ended, or the time is up; may return early.
    /// Returns whether there is news.
    pub(crate) fn sleep(&self, timeout: Duration) -> bool {
        self.sleeper.sleep(timeout)
    }
}

/// Whether the message of a position is kept: the writer has neither taken its slot for a newer
/// message (C2, R3 with the first load) nor published the message that comes before the one that
/// will take its entry (with the second). The reader has read both entries recently, the second for
/// the message before.
#[inline(always)]
fn is_kept<M: Memory>(memory: &M, position: u64, entry: &MessageEntry<M::Atomics>, order: Ordering) -> bool {
    let until = position + u64::from(memory.slots());
    let found = entry.position.load(order);
    let before = memory.entry(until - 1).position.load(order);
    found & !ENDED == position + 1 && before & NUMBER < until
}

/// Makes the writer consider a record's cursor.
fn raise_record_limit<M: WritableMemory>(memory: &M, record: usize) {
    let limit = &memory.consumers().record_limit;
    let needed = record as u32 + 1;
    let mut seen = limit.load(Relaxed);
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
    let state = memory.writable()?.state(message.slot);
    let bit = 1 << record;
    // R2
    let before = <M::Writable as Memory>::Atomics::fetch_or_before_loads(state, bit);
    if before & bit != 0 {
        // A peer claims that the slot has another message, too: undoing the pin would release the
        // one that is held.
        return None;
    }
    fault::point(Step::PinSet);
    // C1
    M::Atomics::fence(Acquire);
    // R3
    if !is_kept(memory, found.position, found.entry, SeqCst) {
        // Relaxed: nothing was read.
        state.fetch_and(!bit, Relaxed);
        return None;
    }
    fault::point(Step::PinChecked);
    Some(message)
}

/// Releases a pinned slot.
#[inline]
pub(super) fn unpin<M: WritableMemory>(memory: &M, slot: u32, record: usize) {
    fault::point(Step::UnpinBegun);
    // R5
    memory.state(slot).fetch_and(!(1 << record), Release);
    fault::point(Step::UnpinCleared);
}

#[inline(always)]
fn copy_out<M: Memory>(memory: &M, found: Found<'_, M>, into: &mut impl CopyTarget) -> Option<Received> {
    let message = read_entry(memory, &found)?;
    if let Some(bytes) = into.room(message.len) {
        memory.copy_payload(message.slot, bytes);
    }
    // C1
    M::Atomics::fence(Acquire);
    // C2
    is_kept(memory, found.position, found.entry, Relaxed).then_some(message)
}

/// What an entry says of its message. The caller checks afterwards that it is kept (R3, C2).
#[inline(always)]
fn read_entry<M: Memory>(memory: &M, found: &Found<'_, M>) -> Option<Received> {
    let Found { position, entry } = *found;
    let slot = entry.slot.load(Relaxed);
    let message = Received {
        sequence: position,
        stamp_ns: entry.stamp_ns.load(Relaxed),
        len: usize::try_from(entry.len.load(Relaxed)).unwrap_or(usize::MAX).min(memory.capacity()),
        slot,
        lost: 0,
    };
    (slot < memory.slots()).then_some(message)
}
