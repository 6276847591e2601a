//! The reading side of the ring. Labels refer to the [protocol](super).

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use super::writer::clear_record_bits;
use super::{BUSY, Line, Memory, WRITING};
use crate::error::Gone;
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, Atomics};
use crate::shm::layout::{CLOSED, ORPHANED};

/// Where a reader starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first message published from now on.
    #[default]
    Next,
    /// With the newest message that is kept, if there is one.
    Latest,
    /// With the oldest message that is kept, if there is one.
    Oldest,
}

/// One reader of a ring.
#[derive(Debug)]
pub(crate) struct Reader<M> {
    memory: M,
    /// The record whose lock this reader holds; without one it can only copy out.
    record: Option<usize>,
    cursor: u64,
    expected: u64,
    received: u64,
    lost: u64,
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

impl<M: Memory> Reader<M> {
    /// A reader with the lock of `record`, or without a record.
    pub(crate) fn new(memory: M, record: Option<usize>, start: Start) -> Self {
        if let Some(record) = record {
            clear_record_bits(&memory, record);
            fault::point(Step::RecordCleared);
        }
        // Head first: `published` is then at least as new, and the count starts with what comes after it.
        let head = head(&memory, Acquire);
        let expected = memory.producer().published.load(Relaxed);
        let mut reader = Self { memory, record, cursor: head, expected, received: 0, lost: 0 };
        let oldest = head.saturating_sub(reader.memory.slots());
        let kept = match start {
            Start::Next => None,
            Start::Latest => (oldest..head).rev().find_map(|position| reader.sequence_at(position)),
            Start::Oldest => (oldest..head).find_map(|position| reader.sequence_at(position)),
        };
        if let Some((position, sequence)) = kept {
            reader.cursor = position;
            reader.expected = sequence;
        }
        reader.note_progress();
        reader
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
    /// If it is being overwritten the sequence may be the new message's. Then the count starts with that, or with what
    /// is received before it.
    fn sequence_at(&self, position: u64) -> Option<(u64, u64)> {
        let slot = self.memory.slot(position);
        (slot.position.load(Relaxed) == position + 1).then(|| (position, slot.sequence.load(Relaxed)))
    }

    /// Receives the next message and pins its slot. `unpin` it.
    #[inline]
    pub(crate) fn receive_pinned(&mut self) -> Option<Received> {
        let record = self.record?;
        self.receive(|memory, position| pin(memory, position, record))
    }

    /// Receives a copy of the next message.
    #[inline]
    pub(crate) fn receive_copy(&mut self, into: &mut Vec<Line>) -> Option<Received> {
        self.receive(|memory, position| copy_out(memory, position, into))
    }

    #[inline]
    fn receive(&mut self, mut take: impl FnMut(&M, u64) -> Option<Received>) -> Option<Received> {
        loop {
            let cursor = self.cursor;
            let slot = self.memory.slot(cursor);
            // R1
            if slot.position.load(Acquire) != cursor + 1 {
                // H1
                let head = head(&self.memory, Acquire);
                if head <= cursor {
                    return None;
                }
                // Relaxed: head, which is past it, was acquired.
                if slot.position.load(Relaxed) != cursor + 1 {
                    self.cursor = (cursor + 1).max(head.saturating_sub(self.memory.slots()));
                    continue;
                }
            }
            self.cursor = cursor + 1;
            if let Some(mut message) = take(&self.memory, cursor) {
                message.lost = self.count(message.sequence);
                return Some(message);
            }
        }
    }

    fn count(&mut self, sequence: u64) -> u64 {
        let lost = sequence.saturating_sub(self.expected);
        self.expected = sequence.wrapping_add(1);
        self.received += 1;
        self.lost = self.lost.saturating_add(lost);
        self.note_progress();
        lost
    }

    /// Tells observers how far this reader is.
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
    /// `died` is asked, if there is no message, whether the publisher is known to be dead.
    #[inline(always)]
    pub(crate) fn receive_or_end<T>(
        &mut self,
        mut receive: impl FnMut(&mut Self) -> Option<T>,
        died: impl FnOnce(&M) -> bool,
    ) -> Result<Option<T>, Gone> {
        if let Some(received) = receive(self) {
            return Ok(Some(received));
        }
        let died = died(&self.memory);
        let Some(how) = self.has_ended().or(died.then_some(Gone::Died)) else { return Ok(None) };
        // The last messages may have come between the look for messages and the look for the end.
        if let Some(received) = receive(self) {
            return Ok(Some(received));
        }
        self.end();
        Err(how)
    }

    /// How the topic ended, if it did; messages may be left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        // E2
        let flags = self.memory.consumers().wake.load(Acquire);
        if flags & CLOSED != 0 {
            Some(Gone::Closed)
        } else if flags & ORPHANED != 0 {
            Some(Gone::Died)
        } else {
            None
        }
    }

    /// Counts what was published and never seen: nothing will follow.
    fn end(&mut self) {
        let published = self.memory.producer().published.load(Relaxed);
        self.lost = self.lost.saturating_add(published.saturating_sub(self.expected));
        self.expected = self.expected.max(published);
        self.note_progress();
    }

    fn has_news(&self) -> bool {
        // Head, not the slot: at a hole nothing will ever appear. Relaxed: S2 acquired what must not be missed.
        head(&self.memory, Relaxed) > self.cursor
    }

    /// Sleeps until there is news, the end, or the time is up; may return early.
    ///
    /// Returns whether there is news.
    pub(crate) fn sleep(&self, timeout: Duration) -> bool {
        let consumers = self.memory.consumers();
        // S1
        let seen = consumers.wake.load(Relaxed);
        let bit = self.record.map_or(0, |record| 1 << record);
        if bit != 0 {
            // S2: in every round, since whoever woke us has cleared it.
            consumers.waiting.fetch_or(bit, AcqRel);
            fault::point(Step::SleepAnnounced);
        }
        let news = self.has_news();
        if !news && seen & (CLOSED | ORPHANED) == 0 {
            self.memory.sleep(seen, timeout);
        }
        // A bit that stays set would cost the next publish a system call.
        if bit != 0 && consumers.waiting.load(Relaxed) & bit != 0 {
            consumers.waiting.fetch_and(!bit, Relaxed);
        }
        news || self.has_news()
    }
}

/// Head, or where it could at most be: a lie must not make a cursor overflow.
#[inline]
fn head<M: Memory>(memory: &M, order: Ordering) -> u64 {
    memory.producer().head.load(order).min(BUSY - 1)
}

#[inline]
fn pin<M: Memory>(memory: &M, position: u64, record: usize) -> Option<Received> {
    let slot = memory.slot(position);
    let bit = 1 << record;
    let mut state = slot.state.load(Relaxed);
    loop {
        // With the own bit set, a sample of this subscriber is in the slot: undoing the pin would free it.
        if state & (WRITING | bit) != 0 {
            return None;
        }
        // R2
        match slot.state.compare_exchange(state, state | bit, Acquire, Relaxed) {
            Ok(_) => break,
            Err(now) => state = now,
        }
    }
    fault::point(Step::PinSet);
    // R3
    if slot.position.load(Relaxed) != position + 1 {
        // Relaxed: nothing was read.
        slot.state.fetch_and(!bit, Relaxed);
        return None;
    }
    fault::point(Step::PinChecked);
    memory.record(record).held.fetch_add(1, Relaxed);
    Some(read_header(memory, position))
}

/// Gives a pinned slot back.
#[inline]
pub(super) fn unpin<M: Memory>(memory: &M, position: u64, record: usize) {
    fault::point(Step::UnpinBegun);
    // R5
    memory.slot(position).state.fetch_and(!(1 << record), Release);
    fault::point(Step::UnpinCleared);
    memory.record(record).held.fetch_sub(1, Relaxed);
}

#[inline]
fn copy_out<M: Memory>(memory: &M, position: u64, into: &mut Vec<Line>) -> Option<Received> {
    let message = read_header(memory, position);
    memory.copy_payload(position, message.len, into);
    // C3
    M::Atomics::fence(Acquire);
    // C4
    (memory.slot(position).position.load(Relaxed) == position + 1).then_some(message)
}

#[inline]
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
