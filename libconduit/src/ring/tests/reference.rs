//! The ring in a single thread, against a reference implementation: which message, which loss,
//! which error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use crate::ring::copy::Line;
use crate::ring::end::Gone;
use crate::ring::layout::{
    CLOSED, Consumers, ENDED, MessageEntry, NO_CURSOR, NUMBER, ORPHANED, PINNING_RECORDS, Producer, READERS, Record,
    TAKEN,
};
use crate::ring::memory::{Memory, ReaderMemory, WritableMemory};
use crate::ring::reader::{CopyTo, Pin, Reader, Received, unpin};
use crate::ring::reuse::Reuse;
use crate::ring::sleeper::Sleep;
use crate::ring::start::Start;
use crate::ring::writer::{AllSlotsHeld, Writer};
use crate::shm::atomics::Native;

const WORDS: usize = 3;
const SUBSCRIBERS: usize = 3;
const RECORDS: usize = 64;

/// A ring in ordinary memory.
struct Heap {
    producer: Producer<Native>,
    consumers: Consumers<Native>,
    records: Vec<Record<Native>>,
    states: Vec<AtomicU64>,
    slots: Vec<(MessageEntry<Native>, [AtomicU64; WORDS])>,
    alive: Vec<AtomicBool>,
    sleeps: AtomicU32,
}

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

impl Heap {
    fn new(slots: u32) -> Arc<Self> {
        let record = || Record {
            pid: AtomicU32::new(0),
            uid: AtomicU32::new(0),
            program: [zero(), zero()],
            received: zero(),
            lost: zero(),
            cursor: AtomicU64::new(NO_CURSOR),
            held_since_ns: zero(),
            held: AtomicU32::new(0),
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
            records: (0..RECORDS).map(|_| record()).collect(),
            states: (0..slots).map(|_| zero()).collect(),
            slots: (0..slots).map(|_| (entry(), [zero(), zero(), zero()])).collect(),
            alive: (0..RECORDS).map(|_| AtomicBool::new(false)).collect(),
            sleeps: AtomicU32::new(0),
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
    fn entry_of(&self, position: u64) -> u32 {
        (position % self.slots.len() as u64) as u32
    }
    fn entry(&self, position: u64) -> &MessageEntry<Native> {
        &self.slots[self.entry_of(position) as usize].0
    }
    fn capacity(&self) -> usize {
        8 * WORDS
    }
    fn state(&self, slot: u32) -> &AtomicU64 {
        &self.states[slot as usize]
    }
    fn copy_payload(&self, slot: u32, into: &mut [u8]) {
        assert!(into.len() <= self.capacity());
        let words = self.words(slot);
        into.copy_from_slice(&words.as_bytes()[..into.len()]);
    }
    fn sleep(&self, seen: u32, _timeout: Duration) {
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
    fn wake_all(&self) {}
    fn if_dead(&self, record: usize, action: impl FnOnce()) {
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

#[derive(Clone, Copy, Debug, PartialEq)]
struct Message {
    sequence: u64,
    slot: u32,
    len: usize,
}

impl Message {
    fn words(self) -> [u64; WORDS] {
        [self.sequence, !self.sequence, self.sequence << 32 | self.len as u64]
    }

    fn stamp_ns(self) -> u64 {
        1000 + self.sequence
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct ExpectedEntry {
    /// Its message, unless that was or may be overwritten.
    message: Option<Message>,
    /// One more than the position in it.
    number: u64,
    slot: u32,
}

/// What the writer and the slots must do.
#[derive(Debug)]
struct Expected {
    reuse: Reuse,
    entries: Vec<ExpectedEntry>,
    /// Of each slot.
    holders: Vec<u64>,
    next: u64,
    claimed: Option<u32>,
    meetings: u64,
    /// Bits of the subscribers that are alive.
    alive: u64,
    /// What the records say, if anything.
    cursors: [Option<u64>; SUBSCRIBERS],
}

impl Expected {
    fn new(slots: u32, reuse: Reuse) -> Self {
        let mut new = Self {
            reuse,
            entries: (0..slots).map(|slot| ExpectedEntry { slot, ..ExpectedEntry::default() }).collect(),
            holders: vec![0; slots as usize],
            next: 0,
            claimed: None,
            meetings: 0,
            alive: 0,
            cursors: [None; SUBSCRIBERS],
        };
        new.claim_ahead();
        new
    }

    fn slots(&self) -> u64 {
        self.entries.len() as u64
    }

    fn index(&self, position: u64) -> usize {
        (position % self.slots()) as usize
    }

    fn entry(&mut self, position: u64) -> &mut ExpectedEntry {
        let index = self.index(position);
        &mut self.entries[index]
    }

    /// Clears what the dead among `records` hold.
    fn bury(&mut self, records: u64) {
        for holders in &mut self.holders {
            *holders &= self.alive | !records;
        }
    }

    /// The ages of the messages whose slots are tried, in this order; 1 is the newest message.
    fn ages(&self) -> Vec<u64> {
        let first = match self.reuse {
            Reuse::Oldest => self.slots(),
            Reuse::Newest { retain } => {
                // Whoever has missed messages already has none to lose.
                let lags = self.cursors.iter().flatten().map(|cursor| self.next - cursor);
                let behind = lags.filter(|&lag| lag < self.slots()).max().unwrap_or(0);
                self.slots().min(1 + behind.max(retain.into()))
            }
        };
        (first..=self.slots()).chain((1..first).rev()).collect()
    }

    fn first_free(&mut self, ages: &[u64]) -> Option<u64> {
        for age in ages {
            let from = self.next + self.slots() - age;
            let slot = self.entry(from).slot;
            let holders = self.holders[slot as usize];
            if holders == 0 {
                return Some(from);
            }
            self.meetings += 1;
            if self.meetings.is_multiple_of(64) {
                self.bury(holders);
            }
        }
        None
    }

    fn claim(&mut self) -> Result<u32, AllSlotsHeld> {
        if self.claimed.is_none() {
            let ages = self.ages();
            let from = self.first_free(&ages).or_else(|| {
                self.bury(u64::MAX);
                self.first_free(&ages)
            });
            self.take(from.ok_or(AllSlotsHeld)?);
        }
        self.claimed.ok_or(AllSlotsHeld)
    }

    /// Gives the slot of an entry to the next one, and its message is gone.
    fn take(&mut self, from: u64) {
        let (from, next) = (self.index(from), self.index(self.next));
        self.claimed = Some(self.entries[from].slot);
        (self.entries[from].slot, self.entries[next].slot) = (self.entries[next].slot, self.entries[from].slot);
        self.entries[from].message = None;
    }

    fn claim_ahead(&mut self) {
        self.claimed = None;
        if self.reuse == (Reuse::Newest { retain: 0 }) {
            return;
        }
        let from = self.next + self.slots() - self.ages()[0];
        let slot = self.entry(from).slot;
        if self.holders[slot as usize] == 0 {
            self.take(from);
        }
    }

    fn publish(&mut self, message: Message) {
        let entry = self.entry(message.sequence);
        entry.message = Some(message);
        entry.number = message.sequence + 1;
        self.next = message.sequence + 1;
        // One fewer are kept than there are entries.
        self.entry(message.sequence + 1).message = None;
        self.claim_ahead();
    }
}

struct Subscriber {
    reader: Reader<Heap>,
    record: Option<usize>,
    cursor: u64,
    expected: u64,
    base: u64,
    held: Vec<Message>,
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        len: usize,
    },
    /// `expected`: the number that the writer expects.
    Batch {
        lens: Vec<usize>,
        expected: u64,
    },
    Abandon,
    Receive {
        who: usize,
        hold: bool,
    },
    Copy {
        who: usize,
    },
    Sleep {
        who: usize,
    },
    Release {
        who: usize,
        which: usize,
    },
    Join {
        start: Start,
        record: bool,
    },
    Leave {
        who: usize,
    },
    Die {
        who: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    let start =
        prop_oneof![Just(Start::Next), Just(Start::Latest), Just(Start::Oldest), (0..9u32).prop_map(Start::Last)];
    prop_oneof![
        12 => (0..=8 * WORDS).prop_map(|len| Step::Publish { len }),
        4 => (prop::collection::vec(0..=8 * WORDS, 0..12), prop_oneof![Just(None), (0..20u64).prop_map(Some)])
            .prop_map(|(lens, expected)| Step::Batch { expected: expected.unwrap_or(lens.len() as u64), lens }),
        2 => Just(Step::Abandon),
        8 => (who.clone(), any::<bool>()).prop_map(|(who, hold)| Step::Receive { who, hold }),
        3 => who.clone().prop_map(|who| Step::Copy { who }),
        2 => who.clone().prop_map(|who| Step::Sleep { who }),
        5 => (who.clone(), 0..4usize).prop_map(|(who, which)| Step::Release { who, which }),
        3 => (start, prop::bool::weighted(0.8)).prop_map(|(start, record)| Step::Join { start, record }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        1 => who.prop_map(|who| Step::Die { who }),
    ]
}

struct World {
    ring: Arc<Heap>,
    writer: Writer<Heap>,
    expected: Expected,
    subscribers: Vec<Subscriber>,
    closed: bool,
}

impl World {
    fn new(slots: u32, reuse: Reuse) -> Self {
        let ring = Heap::new(slots);
        Self {
            writer: Writer::new(Arc::clone(&ring), reuse),
            expected: Expected::new(slots, reuse),
            subscribers: Vec::new(),
            closed: false,
            ring,
        }
    }

    fn run(&mut self, step: &Step) {
        let who = |who: usize| (!self.subscribers.is_empty()).then(|| who % self.subscribers.len());
        match *step {
            Step::Publish { len } => {
                if let Some(slot) = self.claim() {
                    let message = Message { sequence: self.expected.next, slot, len };
                    self.ring.fill(slot, message.words());
                    let claim = self.writer.claim().expect("it was claimed just now");
                    claim.publish(len, || message.stamp_ns());
                    self.expected.publish(message);
                }
            }
            Step::Batch { ref lens, expected } => self.publish_batch(lens, expected),
            Step::Abandon => {
                if let Some(slot) = self.claim() {
                    self.ring.fill(slot, [666; WORDS]);
                }
            }
            Step::Receive { who: index, hold } => {
                if let Some(index) = who(index)
                    && let Some(message) = self.receive(index, self.subscribers[index].record.is_some()).ok().flatten()
                    && !hold
                    && self.subscribers[index].record.is_some()
                {
                    let last = self.subscribers[index].held.len() - 1;
                    assert_eq!(self.subscribers[index].held[last], message);
                    self.release(index, last);
                }
            }
            Step::Copy { who: index } => {
                if let Some(index) = who(index) {
                    let _ = self.receive(index, false);
                }
            }
            Step::Sleep { who: index } => {
                if let Some(index) = who(index) {
                    let subscriber = &self.subscribers[index];
                    let news = self.expected.next > subscriber.cursor;
                    let slept = self.ring.sleeps.load(Relaxed);
                    assert_eq!(subscriber.reader.sleep(Duration::ZERO), news);
                    assert_eq!(self.ring.sleeps.load(Relaxed) - slept, u32::from(!news && !self.closed));
                    assert_eq!(self.ring.consumers.waiting.load(Relaxed), 0);
                }
            }
            Step::Release { who: index, which } => {
                if let Some(index) = who(index)
                    && which < self.subscribers[index].held.len()
                {
                    self.release(index, which);
                }
            }
            Step::Join { start, record } => self.join(start, record),
            Step::Leave { who: index } => {
                if let Some(index) = who(index) {
                    while !self.subscribers[index].held.is_empty() {
                        self.release(index, 0);
                    }
                    self.forget(index);
                }
            }
            Step::Die { who: index } => {
                if let Some(index) = who(index) {
                    self.forget(index);
                }
            }
        }
        self.check();
    }

    /// What a batch does is what single messages would do.
    fn publish_batch(&mut self, lens: &[usize], expected: u64) {
        let mut run = self.writer.run(expected);
        for &len in lens {
            let claimed = run.slot().map(|(slot, _)| slot);
            assert_eq!(claimed, self.expected.claim());
            let Ok(slot) = claimed else { break };
            let message = Message { sequence: self.expected.next, slot, len };
            self.ring.fill(slot, message.words());
            run.publish(len, message.stamp_ns());
            self.expected.publish(message);
        }
    }

    fn claim(&mut self) -> Option<u32> {
        let claimed = self.writer.claim().map(|claim| claim.slot());
        assert_eq!(claimed, self.expected.claim());
        claimed.ok()
    }

    fn join(&mut self, start: Start, record: bool) {
        let record = record.then(|| (0..SUBSCRIBERS).find(|record| self.expected.alive & 1 << record == 0));
        if record == Some(None) {
            return;
        }
        let record = record.flatten();
        if let Some(record) = record {
            self.expected.bury(1 << record);
            self.expected.alive |= 1 << record;
            self.ring.alive[record].store(true, Relaxed);
            // What the previous subscriber may have left.
            self.ring.consumers.waiting.fetch_or(1 << record, Relaxed);
        }
        let reader = Reader::new(Arc::clone(&self.ring), record, start);
        assert_eq!(self.ring.consumers.waiting.load(Relaxed), 0);
        let next = self.expected.next;
        let wanted = match start {
            Start::Next => 0,
            Start::Latest => 1,
            Start::Last(messages) => messages as usize,
            Start::Oldest => usize::MAX,
        };
        let newest = (next.saturating_sub(self.expected.slots())..next).rev();
        let is_kept = |&position: &u64| self.expected.entry(position).message.is_some();
        let cursor = newest.take_while(is_kept).take(wanted).last().unwrap_or(next);
        if let Some(record) = record {
            self.expected.cursors[record] = Some(cursor);
        }
        self.subscribers.push(Subscriber { reader, record, cursor, expected: cursor, base: cursor, held: Vec::new() });
    }

    fn forget(&mut self, index: usize) {
        if let Some(record) = self.subscribers.remove(index).record {
            self.expected.alive &= !(1 << record);
            self.ring.alive[record].store(false, Relaxed);
        }
    }

    fn release(&mut self, index: usize, which: usize) {
        let subscriber = &mut self.subscribers[index];
        let message = subscriber.held.remove(which);
        let record = subscriber.record.expect("a reader that holds a sample has a record");
        unpin(&*self.ring, message.slot, record);
        self.expected.holders[message.slot as usize] &= !(1 << record);
    }

    fn receive(&mut self, index: usize, pinned: bool) -> Result<Option<Message>, Gone> {
        let slots = self.expected.slots();
        let subscriber = &mut self.subscribers[index];
        let expected = loop {
            let cursor = subscriber.cursor;
            let entry = self.expected.entry(cursor);
            if entry.number <= cursor {
                break None;
            }
            if entry.number == cursor + 1 && entry.message.is_some() {
                break entry.message;
            }
            subscriber.cursor = (cursor + 1).max((entry.number + 1).saturating_sub(slots));
        };
        let mut lines: Vec<Line> = Vec::new();
        let received = if pinned {
            let record = subscriber.record.expect("a reader that pins has a record");
            subscriber.reader.receive_or_end(&mut Pin { record }, || Some(false))
        } else {
            subscriber.reader.receive_or_end(&mut CopyTo(&mut lines), || Some(false))
        };
        let Some(message) = expected else {
            let end = if self.closed { Err(Gone::Closed) } else { Ok(None) };
            assert_eq!(received, end);
            return end.map(|_| None);
        };
        let lost = message.sequence - subscriber.expected;
        subscriber.cursor = message.sequence + 1;
        subscriber.expected = subscriber.cursor;
        if let Some(record) = subscriber.record {
            self.expected.cursors[record] = Some(subscriber.cursor);
        }
        let Message { slot, sequence, len } = message;
        assert_eq!(received, Ok(Some(Received { sequence, stamp_ns: message.stamp_ns(), len, slot, lost })));
        if pinned {
            subscriber.held.push(message);
            let record = subscriber.record.expect("a reader that pins has a record");
            self.expected.holders[slot as usize] |= 1 << record;
        } else {
            assert_eq!(lines.as_bytes()[..len], message.words().as_bytes()[..len]);
        }
        Ok(Some(message))
    }

    /// Invariants after every step.
    fn check(&self) {
        for subscriber in &self.subscribers {
            let Subscriber { reader, held, base, expected, .. } = subscriber;
            for message in held {
                assert_eq!(self.ring.words(message.slot), message.words(), "a held sample has changed");
            }
            assert_eq!(reader.received() + reader.lost(), expected - base);
            if let Some(record) = subscriber.record {
                let record = self.ring.record(record);
                assert_eq!(record.received.load(Relaxed), reader.received());
                assert_eq!(record.lost.load(Relaxed), reader.lost());
            }
        }
        for (holders, state) in self.expected.holders.iter().zip(&self.ring.states) {
            assert_eq!(state.load(Relaxed), *holders);
        }
        for (entry, (found, _)) in self.expected.entries.iter().zip(&self.ring.slots) {
            let found = found.position.load(Relaxed);
            assert_eq!(found & NUMBER, entry.number);
            assert!(found & TAKEN == 0 || entry.message.is_none());
        }
        assert_eq!(self.ring.producer.head.load(Relaxed), self.expected.next);
    }

    /// Closes the topic and receives what is left.
    fn finish(mut self) {
        self.writer.close();
        self.closed = true;
        for index in 0..self.subscribers.len() {
            while self.receive(index, false).is_ok() {}
            let Subscriber { reader, base, .. } = &self.subscribers[index];
            assert_eq!(reader.received() + reader.lost(), self.expected.next - base);
            assert!(!reader.sleep(Duration::ZERO));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_steps_do_what_the_reference_does(
        slots in prop_oneof![Just(2u32), Just(4), Just(8)],
        reuse in prop_oneof![Just(Reuse::Oldest), (0..3u16).prop_map(|retain| Reuse::Newest { retain })],
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(slots, reuse);
        for step in &steps {
            world.run(step);
        }
        world.finish();
    }

    /// Whatever a peer writes, no reader or writer panics, reads beyond the slot or loops forever.
    #[test]
    fn any_words_are_tolerated(
        counters in prop::array::uniform4(word()),
        wake: u32,
        headers in prop::collection::vec(prop::array::uniform4(word()), 4),
        start in prop_oneof![Just(Start::Next), Just(Start::Latest), Just(Start::Oldest)],
        reuse in prop_oneof![Just(Reuse::Oldest), Just(Reuse::Newest { retain: 1 })],
        cursor_moves in 0..6usize,
    ) {
        let ring = Heap::new(4);
        let write = || {
            let [head, limit, waiting, cursor] = counters;
            ring.producer.head.store(head, Relaxed);
            ring.consumers.waiting.store(waiting, Relaxed);
            ring.consumers.wake.store(wake, Relaxed);
            ring.consumers.record_limit.store(limit as u32, Relaxed);
            ring.record(3).cursor.store(cursor, Relaxed);
            for (((entry, _), state), [word, position, slot, len]) in ring.slots.iter().zip(&ring.states).zip(&headers)
            {
                state.store(*word, Relaxed);
                entry.position.store(*position, Relaxed);
                entry.slot.store(*slot as u32, Relaxed);
                entry.len.store(*len, Relaxed);
            }
        };
        let mut early = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
        let mut writer = Writer::new(Arc::clone(&ring), reuse);
        write();
        let mut late = Reader::new(Arc::clone(&ring), Some(2), start);
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..cursor_moves {
            for (record, reader) in [(1, &mut early), (2, &mut late)] {
                let _ = reader.receive_or_end(&mut Pin { record }, || Some(false));
                let received = reader.receive_or_end(&mut CopyTo(&mut lines), || Some(false));
                match received {
                    Ok(Some(message)) => prop_assert!(message.len <= ring.capacity()),
                    // Nor does it report news forever.
                    Ok(None) => prop_assert!(!reader.sleep(Duration::ZERO)),
                    Err(_) => (),
                }
            }
            write();
            if let Ok(claim) = writer.claim() {
                claim.publish(8, || 0);
            }
        }
    }
}

/// Words that are nearly right, or at an end of the range, more often than not.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![0..8u64, Just(u64::MAX), Just(u64::MAX - 1), TAKEN - 6..TAKEN + 6, ENDED - 6..ENDED + 6, any::<u64>()]
}

/// Publishes a message. Returns its slot.
fn publish(writer: &mut Writer<Heap>) -> u32 {
    let claim = writer.claim().unwrap();
    let slot = claim.slot();
    claim.publish(8, || 0);
    slot
}

#[test]
fn a_dead_holder_is_found_while_other_slots_are_free() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut dead = Reader::new(Arc::clone(&ring), Some(5), Start::Next);
    assert_eq!(publish(&mut writer), 0);
    dead.receive(&mut Pin { record: 5 }).unwrap();
    // The slot goes from entry to entry, and is met with every message from the fourth on.
    for _ in 0..3 + 63 {
        assert_ne!(publish(&mut writer), 0);
    }
    assert_ne!(ring.state(0).load(Relaxed) & READERS, 0);
    let slots: Vec<_> = (0..5).map(|_| publish(&mut writer)).collect();
    assert_eq!(ring.state(0).load(Relaxed) & READERS, 0);
    assert!(slots.contains(&0), "{slots:?}");
}

#[test]
fn bits_of_no_reader_hold_nothing() {
    let ring = Heap::new(2);
    for state in &ring.states {
        state.store(0b1111 << PINNING_RECORDS, Relaxed);
    }
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    assert_eq!(writer.claim().unwrap().slot(), 0);
    assert!(ring.states.iter().all(|state| state.load(Relaxed) == 0));
}

#[test]
fn a_forged_entry_does_not_release_a_held_sample() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    ring.alive[0].store(true, Relaxed);
    for _ in 0..2 {
        publish(&mut writer);
        reader.receive(&mut Pin { record: 0 }).unwrap();
    }
    // As if the message of position 2 were in the slot that is held for position 0.
    ring.entry(2).position.store(3, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }), None);
    assert_eq!(ring.state(0).load(Relaxed), 1);
    assert!(writer.claim().is_err());
    // Nor is a slot looked for that does not exist.
    ring.entry(3).position.store(4, Relaxed);
    ring.entry(3).slot.store(2, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }), None);
}

#[test]
fn a_length_beyond_the_slot_is_cut() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    publish(&mut writer);
    ring.entry(0).len.store(u64::MAX, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }).unwrap().len, ring.capacity());
}

#[test]
fn a_dead_publisher_is_an_end_like_any_other() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    publish(&mut writer);
    // Known to the reader alone.
    assert!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(true)).unwrap().is_some());
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(true)), Err(Gone::Died));
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(false)), Ok(None));
    // Marked by a reaper, after which no reader sleeps.
    ring.consumers.wake.fetch_or(ORPHANED, Relaxed);
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(false)), Err(Gone::Died));
    reader.sleep(Duration::ZERO);
    assert_eq!(ring.sleeps.load(Relaxed), 0);
    // Both: a publisher that closed in time has closed.
    ring.consumers.wake.fetch_or(CLOSED, Relaxed);
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(false)), Err(Gone::Closed));
}

/// A reader that checks its entry alone, as a subscriber that polls without pause does, finds the
/// end.
#[test]
fn a_poller_finds_the_end() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut poller = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut lines: Vec<Line> = Vec::new();
    let mut poll = || poller.receive_or_end(&mut CopyTo(&mut lines), || None);
    publish(&mut writer);
    assert_eq!(poll().unwrap().map(|message| message.sequence), Some(0));
    assert_eq!(poll(), Ok(None));
    writer.close();
    assert_eq!(poll(), Err(Gone::Closed));
}

/// Held slots make room for fewer messages, and for no holes.
#[test]
fn messages_go_around_a_held_slot() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut holder = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
    ring.alive[1].store(true, Relaxed);
    publish(&mut writer);
    let held = holder.receive(&mut Pin { record: 1 }).unwrap();
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    for sequence in 1..20 {
        assert_ne!(publish(&mut writer), held.slot);
        let message = reader.receive(&mut Pin { record: 2 }).unwrap();
        assert_eq!((message.sequence, message.lost), (sequence, 0));
        unpin(&*ring, message.slot, 2);
    }
}

/// A writer that reuses hot slots alternates between as few as it can, and falls back to all of
/// them for a reader that is behind, which loses nothing.
#[test]
fn hot_slots_are_used_while_nobody_is_behind() {
    for (retain, used) in [(0, 1), (1, 2), (3, 4)] {
        let ring = Heap::new(8);
        let mut writer = Writer::new(Arc::clone(&ring), Reuse::Newest { retain });
        let mut reader = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
        let mut lines: Vec<Line> = Vec::new();
        let mut slots = std::collections::BTreeSet::new();
        for _ in 0..100 {
            slots.insert(publish(&mut writer));
            reader.receive(&mut CopyTo(&mut lines)).unwrap();
        }
        assert_eq!(slots.len(), used, "retain {retain}");
        for behind in 1..8 {
            for _ in 0..behind {
                publish(&mut writer);
            }
            for _ in 0..behind {
                assert_eq!(reader.receive(&mut CopyTo(&mut lines)).unwrap().lost, 0, "{behind} behind");
            }
        }
        // Overtaken by the whole ring, a reader has nothing to lose, and slots are reused again.
        let all: Vec<_> = (0..32).map(|_| publish(&mut writer)).collect();
        assert_eq!(all[16..].iter().collect::<std::collections::BTreeSet<_>>().len(), used, "retain {retain}");
        let message = reader.receive(&mut CopyTo(&mut lines)).unwrap();
        assert_eq!(message.lost + u64::from(retain.max(1)), 32);
    }
}

/// A batch counts as the same number of single messages would, and is not larger than asked for.
#[test]
fn a_batch_counts_as_its_messages_do() {
    let ring = Heap::new(8);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    for _ in 0..10 {
        publish(&mut writer);
    }
    let mut seen = Vec::new();
    let mut batch = |reader: &mut Reader<Heap>, max| {
        seen.clear();
        while seen.len() < max
            && let Some(message) = reader.receive_next(&mut Pin { record: 2 })
        {
            seen.push((message.sequence, message.lost));
            unpin(&**reader.memory(), message.slot, 2);
        }
        reader.note_progress();
        seen.clone()
    };
    assert_eq!(batch(&mut reader, 2), [(3, 3), (4, 0)]);
    assert_eq!(ring.record(2).received.load(Relaxed), 2);
    assert_eq!(ring.record(2).lost.load(Relaxed), 3);
    assert_eq!(batch(&mut reader, 100), [(5, 0), (6, 0), (7, 0), (8, 0), (9, 0)]);
    assert_eq!(ring.record(2).received.load(Relaxed), 7);
    assert_eq!(batch(&mut reader, 100), []);
}

/// A reader that joins while a message is readable and head has not moved receives it, and counts
/// from there.
#[test]
fn a_reader_that_joins_before_head_moves_counts_from_its_first_message() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    publish(&mut writer);
    publish(&mut writer);
    ring.producer.head.store(1, Relaxed);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut receive = || {
        let message = reader.receive(&mut CopyTo(&mut Vec::<Line>::new())).unwrap();
        (message.sequence, message.lost)
    };
    assert_eq!(receive(), (1, 0));
    // A lap: sequences 2 to 4 are overwritten, and so counted as lost.
    for _ in 0..6 {
        publish(&mut writer);
    }
    assert_eq!(receive(), (5, 3));
}

/// The first of two threads that sleep for a reader leaves the other alone.
#[test]
fn a_thread_that_leaves_does_not_rouse_the_other() {
    let ring = Heap::new(2);
    let reader = Reader::new(Arc::clone(&ring), Some(3), Start::Next);
    let sleeper = reader.sleeper();
    for _ in 0..2 {
        sleeper.enter();
        sleeper.announce();
    }
    sleeper.leave();
    assert_eq!(ring.consumers.waiting.load(Relaxed), 1 << 3);
    sleeper.leave();
    assert_eq!(ring.consumers.waiting.load(Relaxed), 0);
    assert_eq!(ring.consumers.wake.load(Relaxed), 0);
}
