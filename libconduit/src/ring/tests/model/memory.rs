//! The memory of a ring in the model checker.

use std::sync::atomic::Ordering::{self, Relaxed};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Condvar, Mutex};

use crate::mutation::mutated;
use crate::ring::layout::{Consumers, MessageEntry, NO_CURSOR, Producer, Record, SlotState};
use crate::ring::memory::{Memory, ReaderMemory, WritableMemory};
use crate::shm::atomics::{Atomics, WordFamily, WritableAtomics, forward_atomic};
use crate::shm::stop_word::StopWord;

pub(super) const SLOTS: u32 = 2;
pub(super) const WORDS: u64 = 2;

#[derive(Default)]
pub(super) struct Loom;

impl WordFamily for Loom {
    type U32 = AtomicU32;
    type U64 = AtomicU64;
}

impl Atomics for Loom {
    type Counter = AtomicU32;

    fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

impl WritableAtomics for Loom {
    /// Loom takes sequentially consistent accesses for acquire-release, but knows the fence.
    fn fetch_or_before_loads(word: &AtomicU64, bits: u64, order: Ordering) -> u64 {
        let before = word.fetch_or(bits, order);
        if order == Ordering::SeqCst {
            Self::fence(order);
        }
        before
    }
}

forward_atomic!(AtomicU32, u32);
forward_atomic!(AtomicU64, u64);

pub(super) struct Slot {
    pub(super) state: SlotState<Loom>,
    entry: MessageEntry<Loom>,
    pub(super) words: [AtomicU64; WORDS as usize],
    pub(super) bytes: UnsafeCell<()>,
}

pub(super) struct Ring {
    producer: Producer<Loom>,
    pub(super) consumers: Consumers<Loom>,
    pub(super) records: [Record<Loom>; 3],
    pub(super) slots: Vec<Slot>,
    /// Locked while the subscriber with that record is alive.
    pub(super) lives: [Mutex<()>; 3],
    /// A2: whether the second byte of the record is locked.
    pub(super) attached: [Mutex<bool>; 3],
    /// Locked while the publisher is alive.
    pub(super) publisher_life: Mutex<()>,
    pub(super) bed: Bed,
    /// Whether no message is overwritten while it is copied.
    are_copies_safe: bool,
}

/// What sleepers sleep on: the futex.
pub(super) type Bed = std::sync::Arc<(Mutex<()>, Condvar)>;

pub(super) type Shared = std::sync::Arc<Ring>;

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

fn consumers() -> Consumers<Loom> {
    Consumers {
        waiting: zero(),
        wake: AtomicU32::new(0),
        record_limit: AtomicU32::new(0),
        gate: zero(),
        gate_wake: AtomicU32::new(0),
        gating: AtomicU32::new(0),
    }
}

fn record() -> Record<Loom> {
    Record {
        pid: AtomicU32::new(0),
        uid: AtomicU32::new(0),
        program: [zero(), zero()],
        received: zero(),
        lost: zero(),
        cursor: AtomicU64::new(NO_CURSOR),
        reserved: std::array::from_fn(|_| AtomicU32::new(0)),
        flags: AtomicU32::new(0),
    }
}

fn slot() -> Slot {
    Slot {
        state: SlotState { word: zero(), stamp_ns: zero() },
        entry: MessageEntry {
            position: zero(),
            stamp_ns: zero(),
            len: zero(),
            slot: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
        },
        words: [zero(), zero()],
        bytes: UnsafeCell::new(()),
    }
}

impl Ring {
    pub(super) fn new() -> Shared {
        Self::build(SLOTS, Bed::new((Mutex::new(()), Condvar::new())), false)
    }

    pub(super) fn with_slots(slots: u32) -> Shared {
        Self::build(slots, Bed::new((Mutex::new(()), Condvar::new())), false)
    }

    /// A ring of which no message is overwritten while it is copied: loom refuses a copy that is
    /// not ordered with a write, as it refuses it of a pinned message.
    pub(super) fn of_safe_copies(slots: u32) -> Shared {
        Self::build(slots, Bed::new((Mutex::new(()), Condvar::new())), true)
    }

    /// A ring whose readers sleep where those of another do, so that one thread can sleep on both.
    pub(super) fn with_bed(bed: &Bed) -> Shared {
        Self::build(SLOTS, Bed::clone(bed), false)
    }

    #[expect(clippy::arc_with_non_send_sync, reason = "loom runs all its threads on one")]
    fn build(slots: u32, bed: Bed, are_copies_safe: bool) -> Shared {
        Shared::new(Self {
            producer: Producer::default(),
            consumers: consumers(),
            records: [record(), record(), record()],
            slots: (0..slots).map(|_| slot()).collect(),
            lives: [Mutex::new(()), Mutex::new(()), Mutex::new(())],
            attached: [Mutex::new(false), Mutex::new(false), Mutex::new(false)],
            publisher_life: Mutex::new(()),
            bed,
            are_copies_safe,
        })
    }
}

impl Memory for Ring {
    type Atomics = Loom;

    fn slots(&self) -> u32 {
        self.slots.len() as u32
    }
    fn producer(&self) -> &Producer<Loom> {
        &self.producer
    }
    fn consumers(&self) -> &Consumers<Loom> {
        &self.consumers
    }
    fn is_power_of_two(&self) -> bool {
        self.slots.len().is_power_of_two()
    }
    fn entry_of<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> u32 {
        if IS_POWER_OF_TWO { position as u32 & (self.slots() - 1) } else { (position % u64::from(self.slots())) as u32 }
    }
    fn entry_as<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> &MessageEntry<Loom> {
        &self.slots[self.entry_of::<IS_POWER_OF_TWO>(position) as usize].entry
    }
    fn slot_state(&self, slot: u32) -> &SlotState<Loom> {
        &self.slots[slot as usize].state
    }
    fn capacity(&self) -> usize {
        WORDS as usize * 8
    }
    fn copy_payload(&self, slot: u32, into: &mut [u8]) {
        let slot = &self.slots[slot as usize];
        if self.are_copies_safe {
            slot.bytes.with(|_| ());
        }
        let (words, _) = into.as_chunks_mut::<8>();
        for (to, from) in words.iter_mut().zip(&slot.words) {
            *to = from.load(Relaxed).to_ne_bytes();
        }
    }
    fn sleep(&self, seen: u32, _timeout: Duration, _stop: Option<&StopWord>) {
        let (asleep, woken) = &*self.bed;
        let guard = asleep.lock().unwrap();
        if self.consumers.wake.load(Relaxed) == seen {
            drop(woken.wait(guard).unwrap());
        }
    }
}

impl WritableMemory for Ring {
    fn records(&self) -> usize {
        self.records.len()
    }
    fn record(&self, index: usize) -> &Record<Loom> {
        &self.records[index]
    }
    fn fetch_to_write(&self, slot: u32) {
        let Slot { bytes, words, .. } = &self.slots[slot as usize];
        bytes.with_mut(|_| ());
        words[0].store(words[0].load(Relaxed), Relaxed);
    }
    fn wake_all(&self) {
        let (asleep, woken) = &*self.bed;
        let _guard = asleep.lock().unwrap();
        woken.notify_all();
    }
    fn if_dead(&self, record: usize, action: impl FnOnce()) {
        let Ok(guard) = self.lives[record].try_lock() else { return };
        if mutated!(reclaim_after_unlock) {
            drop(guard);
            return action();
        }
        action();
    }
}

impl ReaderMemory for Ring {
    type Writable = Self;

    fn writable(&self) -> Option<&Self> {
        Some(self)
    }
}
