//! The ring in a single thread, against a reference implementation: which message, which loss,
//! which error.

mod examples;
mod expected;
mod hostile;
mod steps;
mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use crate::ring::copy::Line;
use crate::ring::end::Gone;
use crate::ring::layout::{
    CLOSED, Consumers, ENDED, MessageEntry, NO_CURSOR, NUMBER, ORPHANED, PINNING_RECORDS, Producer, READERS, Record,
    SlotState, TAKEN,
};
use crate::ring::memory::{Memory, ReaderMemory, WritableMemory};
use crate::ring::reader::{CopyTo, Newest, Pin, Reader, Received, unpin};
use crate::ring::reuse::Reuse;
use crate::ring::sleeper::Sleep;
use crate::ring::start::Start;
use crate::ring::writer::{AllSlotsHeld, Writer};
use crate::shm::atomics::Native;
use crate::shm::stop_word::StopWord;

const WORDS: usize = 3;
const SUBSCRIBERS: usize = 3;
const RECORDS: usize = 64;

/// A ring in ordinary memory.
struct Heap {
    producer: Producer<Native>,
    consumers: Consumers<Native>,
    records: Vec<Record<Native>>,
    states: Vec<SlotState<Native>>,
    slots: Vec<(MessageEntry<Native>, [AtomicU64; WORDS])>,
    alive: Vec<AtomicBool>,
    sleeps: AtomicU32,
    wakes: AtomicU32,
    /// How often it was asked whether a reader is dead.
    probes: AtomicU32,
    /// How often an entry was looked at.
    looks: AtomicU32,
}

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

impl Heap {
    fn new(slots: u32) -> Arc<Self> {
        Self::with_records(slots, RECORDS)
    }

    fn with_records(slots: u32, records: usize) -> Arc<Self> {
        let record = || Record {
            pid: AtomicU32::new(0),
            uid: AtomicU32::new(0),
            program: [zero(), zero()],
            received: zero(),
            lost: zero(),
            cursor: AtomicU64::new(NO_CURSOR),
            reserved: std::array::from_fn(|_| AtomicU32::new(0)),
            flags: AtomicU32::new(0),
        };
        let entry = || MessageEntry {
            position: zero(),
            stamp_ns: zero(),
            len: zero(),
            slot: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
        };
        let consumers = Consumers {
            waiting: zero(),
            wake: AtomicU32::new(0),
            record_limit: AtomicU32::new(0),
            gate: zero(),
            gate_wake: AtomicU32::new(0),
            gating: AtomicU32::new(0),
        };
        Arc::new(Self {
            producer: Producer::default(),
            consumers,
            records: (0..records).map(|_| record()).collect(),
            states: (0..slots).map(|_| SlotState { word: zero(), stamp_ns: zero() }).collect(),
            slots: (0..slots).map(|_| (entry(), [zero(), zero(), zero()])).collect(),
            alive: (0..records).map(|_| AtomicBool::new(false)).collect(),
            sleeps: AtomicU32::new(0),
            wakes: AtomicU32::new(0),
            probes: AtomicU32::new(0),
            looks: AtomicU32::new(0),
        })
    }

    fn words(&self, slot: u32) -> [u64; WORDS] {
        self.slots[slot as usize].1.each_ref().map(|word| word.load(Relaxed))
    }

    fn fill(&self, slot: u32, words: [u64; WORDS]) {
        for (to, from) in self.slots[slot as usize].1.iter().zip(words) {
            to.store(from, Relaxed);
        }
    }
}

impl Memory for Heap {
    type Atomics = Native;

    fn slots(&self) -> u32 {
        self.slots.len() as u32
    }
    fn producer(&self) -> &Producer<Native> {
        &self.producer
    }
    fn consumers(&self) -> &Consumers<Native> {
        &self.consumers
    }
    fn is_power_of_two(&self) -> bool {
        self.slots.len().is_power_of_two()
    }
    fn entry_of<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> u32 {
        if IS_POWER_OF_TWO { position as u32 & (self.slots() - 1) } else { (position % u64::from(self.slots())) as u32 }
    }
    fn entry_as<const IS_POWER_OF_TWO: bool>(&self, position: u64) -> &MessageEntry<Native> {
        self.looks.fetch_add(1, Relaxed);
        &self.slots[self.entry_of::<IS_POWER_OF_TWO>(position) as usize].0
    }
    fn capacity(&self) -> usize {
        8 * WORDS
    }
    fn slot_state(&self, slot: u32) -> &SlotState<Native> {
        &self.states[slot as usize]
    }
    fn copy_payload(&self, slot: u32, into: &mut [u8]) {
        assert!(into.len() <= self.capacity());
        let words = self.words(slot);
        into.copy_from_slice(&words.as_bytes()[..into.len()]);
    }
    fn sleep(&self, seen: u32, _timeout: Duration, _stop: Option<&StopWord>) {
        assert_eq!(seen, self.consumers.wake.load(Relaxed));
        self.sleeps.fetch_add(1, Relaxed);
    }
}

impl WritableMemory for Heap {
    fn records(&self) -> usize {
        self.records.len()
    }
    fn record(&self, index: usize) -> &Record<Native> {
        &self.records[index]
    }
    fn fetch_to_write(&self, slot: u32) {
        let [first, ..] = &self.slots[slot as usize].1;
        first.store(first.load(Relaxed), Relaxed);
    }
    fn wake_all(&self) {
        self.wakes.fetch_add(1, Relaxed);
    }
    fn if_dead(&self, record: usize, action: impl FnOnce()) {
        self.probes.fetch_add(1, Relaxed);
        if !self.alive[record].load(Relaxed) {
            action();
        }
    }
}

impl ReaderMemory for Heap {
    type Writable = Self;

    fn writable(&self) -> Option<&Self> {
        Some(self)
    }
}

/// Publishes a message. Returns its slot.
fn publish(writer: &mut Writer<Heap>) -> u32 {
    let claim = writer.claim().unwrap();
    let slot = claim.slot();
    claim.publish(8, || 0);
    slot
}
