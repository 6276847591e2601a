//! The ring: how one writer and up to 60 readers share slots without ever waiting for each other.
//!
//! # The protocol
//!
//! The writer numbers *positions* 0, 1, 2, ...; position h lives in slot h mod N. Messages carry a *sequence* of their
//! own, because the writer skips positions whose slot a reader holds. A slot has two words: `state` (bit i: held by
//! reader i; [`WRITING`]: the writer is in it) and `position` (h + 1: position h can be read; [`BUSY`] added: it is being
//! written). The ring has `head` (the next position), `published` (the next sequence) and, to sleep on, `waiting` (bit i:
//! reader i sleeps) and the futex word `wake`, whose lowest bits say how the topic ended.
//!
//! **Publish.** Claim the slot at h by moving its state from 0 to WRITING (W1); if a reader holds it, try the next position,
//! N at most. Mark its position busy (W2) before any byte changes (W3). Write the message. Give the state back (W5), *then*
//! make the position readable (W6): a reader that sees it readable can pin it. Count it (W7), *then* move head (W8). If
//! `waiting` was not empty, take all of it (W9), change the wake word (W10) and wake the sleepers. If every slot is held,
//! h stays as it is: moving it would tell readers that messages they can still read are gone.
//!
//! **Receive at position k.** Look at the slot first (R1) and at head only if k is not there (H1): polling then shares a
//! line with the writer only when there is something to read. If head has passed k, look at the slot once more, for the
//! message may have come between the two looks; then k is a hole or overwritten, and the next position to try is
//! `max(k + 1, head - N)`. A position that is readable is *pinned*: set the own bit unless the writer is in the slot (R2), look
//! at the position again (R3); and later cleared (R5). Or it is *copied out*: read everything, then (C3) check that the
//! position is unchanged (C4), which works because the writer invalidates it first.
//!
//! **Loss** is the gap between the sequence received and the one expected, and at the end the gap up to `published`.
//!
//! **Sleep.** Read the wake word (S1), set the own bit in `waiting` (S2), look at head once more, and sleep unless the
//! word has changed. S2 and W9 are both read-modify-writes of one word, so one of them sees the other: either the
//! writer sees the bit and wakes, or the reader sees the message. **Close** sets a bit of the wake word (E1), which by
//! itself keeps everybody from falling asleep, and wakes all; a reader that finds the bit looks once more for
//! messages before it reports the end.
//!
//! **Reclaim.** A dead reader's bits are cleared by whoever holds the lock of its record: the writer, when it keeps
//! meeting a held slot, or the next subscriber with that record. Without the lock a new subscriber could have
//! pinned in between.
//!
//! # Orderings
//!
//! | label | pairs with | why |
//! |---|---|---|
//! | W1 acquire | R5 release, reclaim release | the last reader's reads happen before the slot is overwritten |
//! | W3 fence release | C3 fence acquire | who copied a byte of the new message sees the position busy |
//! | W3 fence release | R2 acquire of W5's value | who pins a reused slot sees at least that it was busy (R3) |
//! | W6 release | R1 acquire | the message is complete when its position is readable |
//! | W8 release | H1 acquire | position and `published` are at least as new as head |
//! | W9 acq-rel | S2 acq-rel | one of writer and sleeper sees the other; S1 is before S2, and W10 after W9 |
//! | E1 release | E2 acquire | who sees the end sees all messages and counts before it |
//!
//! Everything else is relaxed. The models in `model.rs` run this very code; `reference.rs` says what one thread sees.

#[cfg(test)]
mod model;
pub(crate) mod reader;
#[cfg(test)]
mod reference;
pub(crate) mod sleeper;
pub(crate) mod slot;
#[cfg(test)]
mod stress;
pub(crate) mod window;
pub(crate) mod writer;

use std::time::Duration;

use crate::shm::atomics::Atomics;
use crate::shm::layout::{Consumers, Producer, RECORDS, Record, SlotHeader};

/// In a slot's state: the writer is in it.
pub(crate) const WRITING: u64 = 1 << 63;
/// The bits of a slot's state that stand for readers.
pub(crate) const READERS: u64 = (1 << RECORDS) - 1;
/// In a slot's position: that position is being written.
pub(crate) const BUSY: u64 = 1 << 63;

/// The memory a ring lies in, and what only the kernel can do about it.
pub(crate) trait Memory {
    type Atomics: Atomics;

    /// Number of slots, a power of two.
    fn slots(&self) -> u64;
    fn producer(&self) -> &Producer<Self::Atomics>;
    fn consumers(&self) -> &Consumers<Self::Atomics>;
    fn record(&self, index: usize) -> &Record<Self::Atomics>;
    fn slot(&self, position: u64) -> &SlotHeader<Self::Atomics>;

    /// Largest message in bytes.
    fn capacity(&self) -> usize;
    /// Copies a payload that may change meanwhile; `len` is at most the capacity and rounds up to whole words.
    fn copy_payload(&self, position: u64, len: usize, into: &mut Vec<Line>);

    /// Wakes all who sleep on the wake word.
    fn wake_all(&self);
    /// Sleeps while the wake word is `seen`; may return early.
    fn sleep(&self, seen: u32, timeout: Duration);
    /// Runs `action` under the lock of a record, unless its subscriber lives.
    fn if_dead(&self, record: usize, action: impl FnOnce());
}

impl<M: Memory> Memory for std::sync::Arc<M> {
    type Atomics = M::Atomics;

    #[inline]
    fn slots(&self) -> u64 {
        (**self).slots()
    }
    #[inline]
    fn producer(&self) -> &Producer<Self::Atomics> {
        (**self).producer()
    }
    #[inline]
    fn consumers(&self) -> &Consumers<Self::Atomics> {
        (**self).consumers()
    }
    #[inline]
    fn record(&self, index: usize) -> &Record<Self::Atomics> {
        (**self).record(index)
    }
    #[inline]
    fn slot(&self, position: u64) -> &SlotHeader<Self::Atomics> {
        (**self).slot(position)
    }
    #[inline]
    fn capacity(&self) -> usize {
        (**self).capacity()
    }
    #[inline]
    fn copy_payload(&self, position: u64, len: usize, into: &mut Vec<Line>) {
        (**self).copy_payload(position, len, into);
    }
    fn wake_all(&self) {
        (**self).wake_all();
    }
    fn sleep(&self, seen: u32, timeout: Duration) {
        (**self).sleep(seen, timeout);
    }
    fn if_dead(&self, record: usize, action: impl FnOnce()) {
        (**self).if_dead(record, action);
    }
}

/// A cache line of a copied payload: aligned for any message type.
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u64; 8]);
