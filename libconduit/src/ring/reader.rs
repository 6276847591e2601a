//! The reading side of the ring. Labels refer to the [protocol](super).

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::copy::CopyTarget;
use super::end::Gone;
use super::layout::TURN;
use super::memory::{Memory, ReaderMemory, StateUse, WritableMemory, head};
use super::sleeper::Sleeper;
use super::start::Start;
use super::writer::clear_record_bits;
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, AtomicLoad, Atomics};

/// One reader of a ring.
#[derive(Debug)]
pub(crate) struct Reader<M: Memory> {
    memory: Arc<M>,
    sleeper: Sleeper<M>,
    /// The record whose lock this reader holds. Without one it can only copy.
    record: Option<usize>,
    cursor: u64,
    /// The cursor for which a state was last prefetched in vain.
    prefetched: u64,
    expected: u64,
    received: u64,
    lost: u64,
}

/// What head says about the cursor.
enum AtCursor {
    /// The position is not published yet.
    Empty,
    /// A message, with the position word of its slot.
    Readable(u64),
    /// The message was overwritten or skipped; the cursor has moved on.
    Hole,
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) position: u64,
    pub(crate) sequence: u64,
    pub(crate) stamp_ns: u64,
    /// In bytes, at most the capacity.
    pub(crate) len: usize,
    /// Messages missed since the one received before.
    pub(crate) lost: u64,
}

/// How a reader takes a message out of its slot.
pub(crate) trait ReceiveMode<M> {
    /// What the slot's state is needed for.
    const STATE_USE: StateUse;

    /// Takes the message at a position whose slot was found `readable`, unless it is overwritten
    /// meanwhile.
    fn take(&mut self, memory: &M, position: u64, readable: u64) -> Option<Received>;
}

/// Leaves the message in its slot, held with the bit of a record: see [`unpin`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin {
    pub(crate) record: usize,
}

impl<M: ReaderMemory> ReceiveMode<M> for Pin {
    const STATE_USE: StateUse = StateUse::Write;

    #[inline(always)]
    fn take(&mut self, memory: &M, position: u64, readable: u64) -> Option<Received> {
        pin(memory.writable()?, position, readable, self.record)
    }
}

/// Copies the message to a target.
#[derive(Debug)]
pub(crate) struct CopyTo<'a, T>(pub(crate) &'a mut T);

impl<M: Memory, T: CopyTarget> ReceiveMode<M> for CopyTo<'_, T> {
    const STATE_USE: StateUse = StateUse::Read;

    #[inline(always)]
    fn take(&mut self, memory: &M, position: u64, readable: u64) -> Option<Received> {
        copy_out(memory, position, readable, self.0)
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
        }
        // Head first: `published` is then at least as new, and the count starts with what comes
        // after it.
        let head = head(&*memory, Acquire);
        let expected = memory.producer().published.load(Relaxed);
        let sleeper = Sleeper::new(Arc::clone(&memory), record);
        let prefetched = u64::MAX;
        let mut reader = Self { memory, sleeper, record, cursor: head, prefetched, expected, received: 0, lost: 0 };
        let oldest = reader.oldest(head);
        let first = match start {
            Start::Next => None,
            Start::Latest => (oldest..head).rev().find_map(|position| reader.sequence_at(position)),
            Start::Oldest => (oldest..head).find_map(|position| reader.sequence_at(position)),
        };
        if let Some((position, sequence)) = first {
            reader.cursor = position;
            reader.expected = sequence;
        }
        reader.sleeper.note_cursor(reader.cursor);
        reader.note_progress();
        reader
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

    /// Messages received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The sequence of a position below an acquired head, if it is readable.
    ///
    /// If it is overwritten meanwhile the sequence may be the new message's. Then the count starts
    /// with that message, or with the one that is received before it.
    fn sequence_at(&self, position: u64) -> Option<(u64, u64)> {
        let slot = self.memory.slot(position);
        let found = slot.position.load(Relaxed);
        let is_taken = (self.memory.state(position).load(Relaxed) ^ found) & TURN != 0;
        (is_readable(found, position) && !is_taken).then(|| (position, slot.sequence.load(Relaxed)))
    }

    /// The oldest position that can be readable: the writer has claimed the slot of the one before.
    fn oldest(&self, head: u64) -> u64 {
        (head + 1).saturating_sub(self.memory.slots())
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
        loop {
            let position = self.cursor;
            let slot = self.memory.slot(position);
            // R1
            let mut found = slot.position.load(Acquire);
            if !is_readable(found, position) {
                // P1
                if is_to_come(found, position) && slot.passed.load(Acquire) <= position {
                    if self.prefetched != position {
                        // By now the writer has claimed the slot: the state's line does not change
                        // until the message comes.
                        self.prefetched = position;
                        self.memory.prefetch_state(position, T::STATE_USE);
                    }
                    return None;
                }
                found = match self.check_head() {
                    AtCursor::Empty => return None,
                    AtCursor::Readable(found) => found,
                    AtCursor::Hole => continue,
                };
            }
            self.move_to(position + 1);
            if let Some(mut message) = mode.take(&self.memory, position, found) {
                message.lost = self.count(message.sequence);
                // Of the next message, which may be there already.
                self.memory.prefetch_state(self.cursor, T::STATE_USE);
                return Some(message);
            }
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

    /// Goes by head and the wake word, not by the slot alone, whose words a peer may have changed.
    #[cold]
    fn receive_last(&mut self, mode: &mut impl ReceiveMode<M>, is_dead: bool) -> Result<Option<Received>, Gone> {
        let ended = self.has_ended().or(is_dead.then_some(Gone::Died));
        loop {
            // The last messages may have come between the check for messages and the check for the
            // end.
            if let Some(received) = self.receive(mode) {
                return Ok(Some(received));
            }
            if matches!(self.check_head(), AtCursor::Empty) {
                break;
            }
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

    /// Checks head where the slot has no readable message. Moves the cursor past a hole.
    #[cold]
    fn check_head(&mut self) -> AtCursor {
        let cursor = self.cursor;
        // H1
        let head = head(&*self.memory, Acquire);
        if head <= cursor {
            return AtCursor::Empty;
        }
        // Once more: the message may have come between the two loads. Relaxed, since head, which is
        // past it, was acquired.
        let found = self.memory.slot(cursor).position.load(Relaxed);
        if is_readable(found, cursor) {
            return AtCursor::Readable(found);
        }
        self.move_to((cursor + 1).max(self.oldest(head)));
        AtCursor::Hole
    }

    /// Whether the writer has passed the cursor: then head, or the end, says more.
    #[inline]
    fn has_passed(&self) -> bool {
        // P1
        self.memory.slot(self.cursor).passed.load(Acquire) > self.cursor
    }

    #[inline(always)]
    fn count(&mut self, sequence: u64) -> u64 {
        let lost = sequence.saturating_sub(self.expected);
        self.expected = sequence.wrapping_add(1);
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
            record.cursor.store(self.cursor, Relaxed);
        }
    }

    /// How the topic ended, if it did; there may be messages left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        self.sleeper.has_ended()
    }

    /// Counts the messages that were published and never received: nothing will follow.
    fn end(&mut self) {
        let published = self.memory.producer().published.load(Relaxed);
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

/// Whether a slot's position word makes this position readable.
#[inline]
fn is_readable(found: u64, position: u64) -> bool {
    found & !TURN == position + 1
}

/// Whether a slot's position word is older, so that this position may still come.
#[inline]
fn is_to_come(found: u64, position: u64) -> bool {
    found & !TURN <= position
}

#[inline(always)]
fn pin<M: WritableMemory>(memory: &M, position: u64, readable: u64, record: usize) -> Option<Received> {
    let state = memory.state(position);
    let bit = 1 << record;
    // The first guess: no other reader holds it.
    let mut seen = readable & TURN;
    loop {
        // R2
        match state.compare_exchange(seen, seen | bit, Acquire, Relaxed) {
            Ok(_) => break,
            // The writer has claimed the slot; or this reader holds it already, and undoing the pin
            // would release that.
            Err(now) if (now ^ readable) & TURN != 0 || now & bit != 0 => return None,
            Err(now) => seen = now,
        }
    }
    fault::point(Step::PinSet);
    // R3
    if memory.slot(position).position.load(Relaxed) != readable {
        // Relaxed: nothing was read.
        state.fetch_and(!bit, Relaxed);
        return None;
    }
    fault::point(Step::PinChecked);
    Some(read_header(memory, position))
}

/// Releases a pinned slot.
#[inline]
pub(super) fn unpin<M: WritableMemory>(memory: &M, position: u64, record: usize) {
    fault::point(Step::UnpinBegun);
    // R5
    memory.state(position).fetch_and(!(1 << record), Release);
    fault::point(Step::UnpinCleared);
}

#[inline(always)]
fn copy_out<M: Memory>(memory: &M, position: u64, readable: u64, into: &mut impl CopyTarget) -> Option<Received> {
    let message = read_header(memory, position);
    if let Some(bytes) = into.room(message.len) {
        memory.copy_payload(position, bytes);
    }
    // C1
    M::Atomics::fence(Acquire);
    // C2
    let is_taken = (memory.state(position).load(Acquire) ^ readable) & TURN != 0;
    // C3
    let is_changed = memory.slot(position).position.load(Relaxed) != readable;
    (!is_taken && !is_changed).then_some(message)
}

#[inline(always)]
fn read_header<M: Memory>(memory: &M, position: u64) -> Received {
    let slot = memory.slot(position);
    Received {
        position,
        sequence: slot.sequence.load(Relaxed),
        stamp_ns: slot.stamp_ns.load(Relaxed),
        len: usize::try_from(slot.len.load(Relaxed)).unwrap_or(usize::MAX).min(memory.capacity()),
        lost: 0,
    }
}
