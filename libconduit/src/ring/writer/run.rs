//! Many messages in a row, in chunks that share a fence, a move of head and a look for sleepers.

use std::ops::Range;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::{ANY_NUMBER, AllSlotsHeld, POWER_OF_TWO, TAKEN, WritableMemory, Writer};
use crate::fault::{self, Step};
use crate::mutation::{mutated, order, step};
use crate::ring::reuse::Reuse;
use crate::shm::atomics::{Atomic, AtomicLoad};

/// Messages of a chunk at most: a fence costs each of them next to nothing then, and the first one
/// does not wait long for head to move. Not more than a bit mask has bits.
const LONGEST_CHUNK: u64 = 64;

/// The right to write a number of slots and publish them, one after the other. When it is dropped,
/// what was published is counted and its sleepers are awake; what was claimed in vain is kept.
#[derive(Debug)]
#[must_use]
pub(crate) struct Run<'a, M: WritableMemory> {
    writer: &'a mut Writer<M>,
    chunk: Chunk,
    /// Messages that are expected to be published, those of the chunk included.
    expected: u64,
    stamp_ns: u64,
    /// The slot for the next message.
    slot: u32,
}

/// Positions whose slots are claimed together.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    first: u64,
    /// The position after the last.
    end: u64,
    /// Bit i: the entry of position `first + i` was flagged as taken for this chunk.
    flagged: u64,
}

impl Chunk {
    /// Of no positions.
    fn at(next: u64) -> Self {
        Self { first: next, end: next, flagged: 0 }
    }
}

impl<M: WritableMemory> Run<'_, M> {
    pub(crate) fn memory(&self) -> &M {
        &self.writer.memory
    }

    /// The slot for the next message, and whether a chunk begins with it.
    #[inline(always)]
    pub(crate) fn slot(&mut self) -> Result<(u32, bool), AllSlotsHeld> {
        let begins = self.writer.next == self.chunk.end;
        if begins {
            self.finish_chunk();
            self.chunk = Chunk::at(self.writer.next);
            self.chunk = self.writer.claim_chunk(self.expected)?;
        }
        fault::point(Step::ClaimTaken);
        let (writer, next) = (&*self.writer, self.writer.next);
        self.slot = if writer.memory.is_power_of_two() {
            writer.slot_of::<POWER_OF_TWO>(next)
        } else {
            writer.slot_of::<ANY_NUMBER>(next)
        };
        Ok((self.slot, begins))
    }

    /// Publishes the message of `len` bytes that was written into [`slot`](Self::slot).
    #[inline(always)]
    pub(crate) fn publish(&mut self, len: usize, stamp_ns: u64) {
        if self.writer.memory.is_power_of_two() {
            self.publish_as::<POWER_OF_TWO>(len, stamp_ns);
        } else {
            self.publish_as::<ANY_NUMBER>(len, stamp_ns);
        }
    }

    #[inline(always)]
    fn publish_as<const IS_POWER_OF_TWO: bool>(&mut self, len: usize, stamp_ns: u64) {
        let writer = &mut *self.writer;
        debug_assert!(writer.next < self.chunk.end, "the slot was not claimed");
        let entry = writer.memory.entry_as::<IS_POWER_OF_TWO>(writer.next);
        step!(run_entry_slot, entry.slot.store(self.slot, Relaxed));
        step!(run_entry_len, entry.len.store(len as u64, Relaxed));
        step!(run_entry_stamp, entry.stamp_ns.store(stamp_ns, Relaxed));
        fault::point(Step::PublishWritten);
        // W4
        step!(w4_of_run, entry.position.store(writer.next + 1, order!(w4_of_run, Release)));
        fault::point(Step::PublishReadable);
        writer.next += 1;
        step!(run_bytes, writer.bytes += len as u64);
        step!(run_claimed_none, writer.claimed = None);
        self.expected = self.expected.saturating_sub(1);
        self.stamp_ns = stamp_ns;
    }

    /// Counts what was published of the chunk, if anything.
    #[inline(always)]
    fn finish_chunk(&mut self) {
        if self.writer.next != self.chunk.first {
            step!(w6_of_run, self.writer.move_head(self.stamp_ns));
        }
    }
}

impl<M: WritableMemory> Drop for Run<'_, M> {
    fn drop(&mut self) {
        let Chunk { first, end, .. } = self.chunk;
        let next = self.writer.next;
        // The slot of the next position stays claimed, if it was, but not those after it.
        step!(run_unused_give_back, self.writer.give_back(self.chunk, next + 1..end));
        if next != first {
            self.finish_chunk();
            step!(run_claim_ahead, self.writer.claim_ahead::<ANY_NUMBER>());
            fault::point(Step::PublishClaimed);
        }
    }
}

impl<M: WritableMemory> Writer<M> {
    /// Begins to publish `expected` messages, or fewer, or more.
    #[inline(always)]
    pub(crate) fn run(&mut self, expected: u64) -> Run<'_, M> {
        Run { chunk: Chunk::at(self.next), writer: self, expected, stamp_ns: 0, slot: 0 }
    }

    /// Claims slots for the next positions, up to `wanted`, and wakes the sleepers. Each is the
    /// slot of its entry; a slot that a reader holds ends the chunk, unless it is the first.
    fn claim_chunk(&mut self, wanted: u64) -> Result<Chunk, AllSlotsHeld> {
        if self.memory.is_power_of_two() {
            self.claim_chunk_as::<POWER_OF_TWO>(wanted)
        } else {
            self.claim_chunk_as::<ANY_NUMBER>(wanted)
        }
    }

    #[inline(always)]
    fn claim_chunk_as<const IS_POWER_OF_TWO: bool>(&mut self, wanted: u64) -> Result<Chunk, AllSlotsHeld> {
        let first = self.next;
        let longest = LONGEST_CHUNK.min(u64::from(self.memory.slots()) / 2).max(1);
        let mut chunk = Chunk { first, end: first + wanted.clamp(1, longest), flagged: 0 };
        if chunk.end == first + 1 || self.order.reuse() != Reuse::Oldest {
            if self.claimed.is_none() {
                self.claim_ahead::<ANY_NUMBER>();
            }
            self.claim_slot()?;
            return Ok(Chunk { end: first + 1, ..chunk });
        }
        for position in first + 1..chunk.end {
            // W2; a flag that was there before must stay if this one is removed.
            if !mutated!(w2_of_run_left_out) && self.take_entry::<IS_POWER_OF_TWO>(position) & TAKEN == 0 {
                chunk.flagged |= 1 << (position - first);
            }
        }
        step!(w3_of_run, self.fence_and_wake());
        // What is claimed already may have the bit of a reader that is about to be refused.
        let claimed = first + u64::from(self.claimed.is_some());
        // W1
        let is_free = |&position: &u64| {
            mutated!(w1_of_run_left_out) || self.holders(self.slot_of::<IS_POWER_OF_TWO>(position)) == 0
        };
        let end = (claimed..chunk.end).find(|position| !is_free(position)).unwrap_or(chunk.end);
        for position in claimed..end {
            self.memory.fetch_to_write(self.slot_of::<IS_POWER_OF_TWO>(position));
        }
        step!(run_held_give_back, self.give_back(chunk, end.max(first + 1)..chunk.end));
        if end == first {
            self.claim_slot()?;
        } else {
            self.claimed = Some(self.slot_of::<IS_POWER_OF_TWO>(first));
        }
        Ok(Chunk { end: end.max(first + 1), ..chunk })
    }

    /// Removes the flags of a chunk from positions whose slots were not written.
    #[inline(always)]
    fn give_back(&self, chunk: Chunk, positions: Range<u64>) {
        for position in positions {
            if chunk.flagged & 1 << (position - chunk.first) != 0 || mutated!(run_gives_back_old_flags) {
                let word = &self.memory.entry(position).position;
                // W4: the message is as complete as it was.
                // survives w4_of_run_giving_back_relaxed: W3 has released the message.
                word.store(word.load(Relaxed) & !TAKEN, order!(w4_of_run_giving_back, Release));
            }
        }
    }
}
