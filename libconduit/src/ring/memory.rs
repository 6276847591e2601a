//! What the ring needs of its memory, which is mapped, on the heap, or in a model checker.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layout::{Consumers, Producer, Record, SlotHeader, TURN};
use crate::shm::atomics::{AtomicLoad, Atomics, WordFamily, WritableAtomics};

/// What a slot's state is about to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateUse {
    /// To validate a copy.
    Read,
    /// To pin the slot.
    Write,
}

/// A ring that can be read.
pub(crate) trait Memory {
    type Atomics: Atomics;

    /// Number of slots, a power of two.
    fn slots(&self) -> u64;
    fn producer(&self) -> &Producer<Self::Atomics>;
    fn consumers(&self) -> &Consumers<Self::Atomics>;
    fn slot(&self, position: u64) -> &SlotHeader<Self::Atomics>;
    /// The state of the slot at a position.
    fn state(&self, position: u64) -> &<Self::Atomics as WordFamily>::U64;
    /// Prefetches the state of the slot at a position.
    fn prefetch_state(&self, _position: u64, _use: StateUse) {}

    /// Largest message in bytes.
    fn capacity(&self) -> usize;
    /// Copies the start of a payload that may change meanwhile.
    ///
    /// # Panics
    ///
    /// If `into` is larger than the capacity.
    fn copy_payload(&self, position: u64, into: &mut [u8]);

    /// Sleeps while the wake word is `seen`; may return early.
    fn sleep(&self, seen: u32, timeout: Duration);
}

/// A ring that can be written.
pub(crate) trait WritableMemory: Memory<Atomics: WritableAtomics> {
    fn record(&self, index: usize) -> &Record<Self::Atomics>;
    /// Wakes all sleepers of the wake word.
    fn wake_all(&self);
    /// Runs `action` under the lock of a record, unless its subscriber is alive.
    fn if_dead(&self, record: usize, action: impl FnOnce());
}

/// A ring that a reader uses: writable or not, as its type says.
pub(crate) trait ReaderMemory: Memory {
    type Writable: WritableMemory;

    /// The ring as writable memory, if it is.
    fn writable(&self) -> Option<&Self::Writable>;
}

/// The next position to be published (H1 with `Acquire`), capped so that no peer can make a cursor
/// overflow.
#[inline]
pub(super) fn head<M: Memory>(memory: &M, order: Ordering) -> u64 {
    memory.producer().head.load(order).min(TURN - 2)
}
