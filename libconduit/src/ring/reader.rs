//! The reading side of the ring. Labels refer to the [protocol](super).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::copy::CopyTarget;
use super::end::Gone;
use super::layout::TURN;
use super::memory::{Memory, StateUse, head};
use super::sleeper::Sleeper;
use super::start::Start;
use super::writer::clear_record_bits;
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, Atomics};

/// One reader of a ring.
#[derive(Debug)]
pub(crate) struct Reader<M: Memory> {
    memory: M,
    sleeper: Sleeper<M>,
    /// The record whose lock this reader holds; without one it can only copy out.
    record: Option<usize>,
    cursor: u64,
    /// Where there was nothing to pin when this was last looked for.
    looked_at: u64,
    expected: u64,
    received: u64,
    lost: u64,
}

/// What there is at a reader's cursor.
enum Place {
    /// Nothing yet.
    Empty,
    /// A message, and what its slot says of its position.
    Readable(u64),
    /// Nothing, ever; the cursor has moved on.
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
    /// Messages missed just before this one.
    pub(crate) lost: u64,
}

impl<M: Memory + Clone> Reader<M> {
    /// A reader with the lock of `record`, or without a record.
    pub(crate) fn new(memory: M, record: Option<usize>, start: Start) -> Self {
        if let Some(record) = record {
            clear_record_bits(&memory, record);
            fault::point(Step::RecordCleared);
        }
        // Head first: `published` is then at least as new, and the count starts with what comes after it.
        let head = head(&memory, Acquire);
        let expected = memory.producer().published.load(Relaxed);
        let sleeper = Sleeper::new(memory.clone(), record);
        let looked_at = u64::MAX;
        let mut reader = Self { memory, sleeper, record, cursor: head, looked_at, expected, received: 0, lost: 0 };
        let oldest = reader.oldest(head);
        let kept = match start {
            Start::Next => None,
            Start::Latest => (oldest..head).rev().find_map(|position| reader.sequence_at(position)),
            Start::Oldest => (oldest..head).find_map(|position| reader.sequence_at(position)),
        };
        if let Some((position, sequence)) = kept {
            reader.cursor = position;
            reader.expected = sequence;
        }
        reader.sleeper.note_cursor(reader.cursor);
        reader.note_progress();
        reader
    }
}

impl<M: Memory> Reader<M> {
    /// What others need to sleep on this reader's behalf.
    pub(crate) fn sleeper(&self) -> &Sleeper<M> {
        &self.sleeper
    }

    pub(crate) fn memory(&self) -> &M {
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

    /// A position below an acquired head, if it is readable, and its sequence.
    ///
    /// If it is overwritten meanwhile the sequence may be the new message's. Then the count starts with that, or with what
    /// is received before it.
    fn sequence_at(&self, position: u64) -> Option<(u64, u64)> {
        let slot = self.memory.slot(position);
        let found = slot.position.load(Relaxed);
        let is_taken = (self.memory.state(position).load(Relaxed) ^ found) & TURN != 0;
        (is_readable(found, position) && !is_taken).then(|| (position, slot.sequence.load(Relaxed)))
    }

    /// The oldest position that is kept: the writer has claimed the one before.
    fn oldest(&self, head: u64) -> u64 {
        (head + 1).saturating_sub(self.memory.slots())
    }

    /// Receives the next message and pins its slot. `unpin` it.
    #[inline(always)]
    pub(crate) fn receive_pinned(&mut self) -> Option<Received> {
        let record = self.record?;
        self.receive(StateUse::Write, |memory, position, readable| pin(memory, position, readable, record))
    }

    /// Receives a copy of the next message.
    #[inline(always)]
    pub(crate) fn receive_copy(&mut self, into: &mut impl CopyTarget) -> Option<Received> {
        self.receive(StateUse::Read, |memory, position, readable| copy_out(memory, position, readable, into))
    }

    #[inline(always)]
    fn receive(&mut self, purpose: StateUse, take: impl FnMut(&M, u64, u64) -> Option<Received>) -> Option<Received> {
        let message = self.receive_next(purpose, take)?;
        self.note_progress();
        Some(message)
    }

    #[inline(always)]
    fn receive_next(
        &mut self,
        purpose: StateUse,
        mut take: impl FnMut(&M, u64, u64) -> Option<Received>,
    ) -> Option<Received> {
        loop {
            let cursor = self.cursor;
            let slot = self.memory.slot(cursor);
            // R1
            let mut found = slot.position.load(Acquire);
            if !is_readable(found, cursor) {
                // P1
                if is_to_come(found, cursor) && slot.passed.load(Acquire) <= cursor {
                    if self.looked_at != cursor {
                        // By now the writer has claimed it; until the message comes, its line can come.
                        self.looked_at = cursor;
                        self.memory.expect_state(cursor, purpose);
                    }
                    return None;
                }
                found = match self.look_at_head() {
                    Place::Empty => return None,
                    Place::Readable(found) => found,
                    Place::Hole => continue,
                };
            }
            if let Some(message) = self.take(found, &mut take) {
                // The next message may be there already; then its line comes while this one is read.
                self.memory.expect_state(self.cursor, purpose);
                return Some(message);
            }
        }
    }

    #[inline(always)]
    fn move_to(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.sleeper.note_cursor(cursor);
    }

    /// What there is at the cursor, where nothing was found that can be read; moves on from a place where nothing will come.
    #[cold]
    fn look_at_head(&mut self) -> Place {
        let cursor = self.cursor;
        // H1
        let head = head(&self.memory, Acquire);
        if head <= cursor {
            return Place::Empty;
        }
        // Once more: it may have come between the two looks. Relaxed: head, which is past it, was acquired.
        let found = self.memory.slot(cursor).position.load(Relaxed);
        if is_readable(found, cursor) {
            return Place::Readable(found);
        }
        self.move_to((cursor + 1).max(self.oldest(head)));
        Place::Hole
    }

    /// Takes the message at the cursor, which was found readable, unless it is overwritten meanwhile.
    #[inline(always)]
    fn take(&mut self, readable: u64, take: &mut impl FnMut(&M, u64, u64) -> Option<Received>) -> Option<Received> {
        let position = self.cursor;
        self.move_to(position + 1);
        let mut message = take(&self.memory, position, readable)?;
        message.lost = self.count(message.sequence);
        Some(message)
    }

    /// Receives up to `max` messages by `one`, which receives one of a batch, if there is one, and says whether to go on.
    #[inline(always)]
    pub(crate) fn receive_batch(&mut self, max: usize, mut one: impl FnMut(&mut Self) -> Option<bool>) -> usize {
        let mut count = 0;
        while count < max
            && let Some(go_on) = one(self)
        {
            count += 1;
            if !go_on {
                break;
            }
        }
        if count > 0 {
            self.note_progress();
        }
        count
    }

    /// Receives the next message, as one of a batch, and pins it.
    #[inline(always)]
    pub(crate) fn receive_pinned_of_batch(&mut self) -> Option<Received> {
        let record = self.record?;
        self.receive_next(StateUse::Write, |memory, position, readable| pin(memory, position, readable, record))
    }

    /// Receives a copy of the next message, as one of a batch.
    #[inline(always)]
    pub(crate) fn receive_copy_of_batch(&mut self, into: &mut impl CopyTarget) -> Option<Received> {
        self.receive_next(StateUse::Read, |memory, position, readable| copy_out(memory, position, readable, into))
    }

    /// Whether the writer says that nothing will come at the cursor: then head, or the end, tells more.
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

    /// Tells observers how far this reader is.
    #[inline(always)]
    fn note_progress(&self) {
        if let Some(record) = self.record {
            let record = self.memory.record(record);
            record.received.store(self.received, Relaxed);
            record.lost.store(self.lost, Relaxed);
            record.cursor.store(self.cursor, Relaxed);
        }
    }

    /// Receives, or says how the topic ended once nothing is left of it.
    ///
    /// `died` is asked, if there is no message, whether the publisher is known to be dead; `None` if that, and what others than the
    /// publisher say in the wake word, was looked at a moment ago.
    #[inline]
    pub(crate) fn receive_or_end<T>(
        &mut self,
        mut receive: impl FnMut(&mut Self) -> Option<T>,
        died: impl FnOnce(&M) -> Option<bool>,
    ) -> Result<Option<T>, Gone> {
        if let Some(received) = receive(self) {
            return Ok(Some(received));
        }
        match died(&self.memory) {
            None if !self.has_passed() => Ok(None),
            died => self.receive_last(receive, died.unwrap_or(false)),
        }
    }

    /// Goes by head and the wake word, not by what the slot says alone, which a peer may have changed.
    #[cold]
    fn receive_last<T>(
        &mut self,
        mut receive: impl FnMut(&mut Self) -> Option<T>,
        died: bool,
    ) -> Result<Option<T>, Gone> {
        let ended = self.has_ended().or(died.then_some(Gone::Died));
        loop {
            // The last messages may have come between the look for messages and the look for the end.
            if let Some(received) = receive(self) {
                return Ok(Some(received));
            }
            if matches!(self.look_at_head(), Place::Empty) {
                break;
            }
        }
        let Some(how) = ended else { return Ok(None) };
        self.end();
        Err(how)
    }

    /// How the topic ended, if it did; messages may be left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        self.sleeper.has_ended()
    }

    /// Counts what was published and never seen: nothing will follow.
    fn end(&mut self) {
        let published = self.memory.producer().published.load(Relaxed);
        self.lost = self.lost.saturating_add(published.saturating_sub(self.expected));
        self.expected = self.expected.max(published);
        self.note_progress();
    }

    /// Sleeps until there is news, the end, or the time is up; may return early.
    ///
    /// Returns whether there is news.
    pub(crate) fn sleep(&self, timeout: Duration) -> bool {
        self.sleeper.sleep(timeout)
    }
}

/// Whether what a slot says of its position means that this one can be read.
#[inline]
fn is_readable(found: u64, position: u64) -> bool {
    found & !TURN == position + 1
}

/// Whether what a slot says of its position leaves this one to come: an older one is there.
#[inline]
fn is_to_come(found: u64, position: u64) -> bool {
    found & !TURN <= position
}

#[inline(always)]
fn pin<M: Memory>(memory: &M, position: u64, readable: u64, record: usize) -> Option<Received> {
    let state = memory.state(position);
    let bit = 1 << record;
    // A guess: nobody else holds it.
    let mut seen = readable & TURN;
    loop {
        // R2
        match state.compare_exchange(seen, seen | bit, Acquire, Relaxed) {
            Ok(_) => break,
            // The writer has taken the slot; or a sample of this subscriber is in it, which undoing the pin would free.
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

/// Gives a pinned slot back.
#[inline]
pub(super) fn unpin<M: Memory>(memory: &M, position: u64, record: usize) {
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
