//! What the ring needs of its memory, which is mapped, on the heap, or in a model checker.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layout::{Consumers, MessageEntry, NUMBER, Producer, Record, SlotState};
use crate::mutation::mutated;
use crate::shm::atomics::{AtomicLoad, Atomics, WordFamily, WritableAtomics};
use crate::shm::stop_word::StopWord;

/// The entry of a position is found by a division, which works with any number of slots.
pub(crate) const ANY_NUMBER: bool = false;
/// The entry of a position is found by a mask. What is done for every message exists in both forms,
/// since telling them apart at each entry would cost each message a dozen instructions.
pub(crate) const POWER_OF_TWO: bool = true;

/// What is about to be done with a line, for prefetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// A ring that can be read.
pub(crate) trait Memory {
    type Atomics: Atomics;

    /// Number of slots.
    fn slots(&self) -> u32;
    /// Whether the number of slots is a power of two.
    fn is_power_of_two(&self) -> bool;
    /// Index of a position's entry: the position modulo the number of slots. See [`ANY_NUMBER`].
    fn entry_of<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> u32;
    fn producer(&self) -> &Producer<Self::Atomics>;
    fn consumers(&self) -> &Consumers<Self::Atomics>;
    /// The entry of a position: see [`ANY_NUMBER`].
    fn entry_as<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> &MessageEntry<Self::Atomics>;
    /// The entry of a position.
    #[inline(always)]
    fn entry(&self, position: u64) -> &MessageEntry<Self::Atomics> {
        if self.is_power_of_two() {
            self.entry_as::<POWER_OF_TWO>(position)
        } else {
            self.entry_as::<ANY_NUMBER>(position)
        }
    }
    /// The state of a slot.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    fn slot_state(&self, slot: u32) -> &SlotState<Self::Atomics>;
    /// Who holds a slot: the word of its [state](Self::slot_state).
    #[inline(always)]
    fn state(&self, slot: u32) -> &<Self::Atomics as WordFamily>::U64 {
        &self.slot_state(slot).word
    }
    /// Prefetches the line of a word.
    fn prefetch<T>(&self, _word: &T, _use: Use) {}

    /// Prefetches the state of a slot.
    fn prefetch_state(&self, _slot: u32, _use: Use) {}
    /// Prefetches the first line of a slot's payload for reading.
    fn prefetch_payload(&self, _slot: u32) {}

    /// Largest message in bytes.
    fn capacity(&self) -> usize;
    /// Copies the start of a payload that may change meanwhile.
    ///
    /// # Panics
    ///
    /// If there is no such slot, or if `into` is larger than the capacity.
    fn copy_payload(&self, slot: u32, into: &mut [u8]);

    /// Sleeps while the wake word is `seen`, unless or until it is to stop; may return early.
    fn sleep(&self, seen: u32, timeout: Duration, stop: Option<&StopWord>);
}

/// A ring that can be written.
pub(crate) trait WritableMemory: Memory<Atomics: WritableAtomics> {
    /// Number of records.
    fn records(&self) -> usize;
    /// # Panics
    ///
    /// If there is no such record.
    fn record(&self, index: usize) -> &Record<Self::Atomics>;
    /// Fetches the first line of a claimed slot's payload to write it soon. Its bytes stay as they
    /// are: the claim may be given back.
    fn fetch_to_write(&self, slot: u32);
    /// Notes when the message of a slot that a reader holds was published, for those who look from
    /// outside.
    #[inline(always)]
    fn note_held(&self, _state: &SlotState<Self::Atomics>, _stamp_ns: u64) {}
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

/// Messages published so far, which is the next position (H1 with `Acquire`), capped so that no
/// peer can make a cursor overflow.
#[inline]
pub(super) fn head<M: Memory>(memory: &M, order: Ordering) -> u64 {
    memory.producer().head.load(order).min(if mutated!(any_head) { u64::MAX } else { NUMBER - 1 })
}

/// The bit of a record in the mask of sleepers. Records beyond the mask share one.
pub(crate) fn waiting_bit(record: usize) -> u64 {
    1 << record.min(SHARED_WAITING_BIT)
}

/// See [`waiting_bit`].
pub(super) const SHARED_WAITING_BIT: usize = 63;
