//! The ring in a single thread, against a reference implementation: which message, which loss,
//! which error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use crate::ring::copy::Line;
use crate::ring::end::Gone;
use crate::ring::layout::{CLOSED, Consumers, ORPHANED, Producer, READERS, RECORDS, Record, SlotHeader, TURN};
use crate::ring::memory::{Memory, ReaderMemory, WritableMemory};
use crate::ring::reader::{CopyTo, Pin, Reader, Received, unpin};
use crate::ring::start::Start;
use crate::ring::writer::{AllSlotsHeld, Writer};
use crate::shm::atomics::Native;

const WORDS: usize = 3;
const SUBSCRIBERS: usize = 3;

/// A ring in ordinary memory.
struct Heap {
    producer: Producer<Native>,
    consumers: Consumers<Native>,
    records: Vec<Record<Native>>,
    states: Vec<AtomicU64>,
    slots: Vec<(SlotHeader<Native>, [AtomicU64; WORDS])>,
    alive: Vec<AtomicBool>,
    sleeps: AtomicU32,
}

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

impl Heap {
    fn new(slots: u64) -> Arc<Self> {
        let record = || Record {
            pid: AtomicU32::new(0),
            uid: AtomicU32::new(0),
            program: [zero(), zero()],
            received: zero(),
            lost: zero(),
            cursor: zero(),
        };
        let header =
            || SlotHeader { position: zero(), passed: zero(), sequence: zero(), stamp_ns: zero(), len: zero() };
        Arc::new(Self {
            producer: Producer::default(),
            consumers: Consumers { waiting: zero(), wake: AtomicU32::new(0) },
            records: (0..RECORDS).map(|_| record()).collect(),
            states: (0..slots).map(|_| zero()).collect(),
            slots: (0..slots).map(|_| (header(), [zero(), zero(), zero()])).collect(),
            alive: (0..RECORDS).map(|_| AtomicBool::new(false)).collect(),
            sleeps: AtomicU32::new(0),
        })
    }

    fn place(&self, position: u64) -> &(SlotHeader<Native>, [AtomicU64; WORDS]) {
        &self.slots[(position % self.slots()) as usize]
    }

    fn words(&self, position: u64) -> [u64; WORDS] {
        self.place(position).1.each_ref().map(|word| word.load(Relaxed))
    }

    fn fill(&self, position: u64, words: [u64; WORDS]) {
        for (to, from) in self.place(position).1.iter().zip(words) {
            to.store(from, Relaxed);
        }
    }
}

impl Memory for Heap {
    type Atomics = Native;

    fn slots(&self) -> u64 {
        self.slots.len() as u64
    }
    fn producer(&self) -> &Producer<Native> {
        &self.producer
    }
    fn consumers(&self) -> &Consumers<Native> {
        &self.consumers
    }
    fn slot(&self, position: u64) -> &SlotHeader<Native> {
        &self.place(position).0
    }
    fn capacity(&self) -> usize {
        8 * WORDS
    }
    fn state(&self, position: u64) -> &AtomicU64 {
        &self.states[(position % self.slots()) as usize]
    }
    fn copy_payload(&self, position: u64, into: &mut [u8]) {
        assert!(into.len() <= self.capacity());
        let words = self.words(position);
        into.copy_from_slice(&words.as_bytes()[..into.len()]);
    }
    fn sleep(&self, seen: u32, _timeout: Duration) {
        assert_eq!(seen, self.consumers.wake.load(Relaxed));
        self.sleeps.fetch_add(1, Relaxed);
    }
}

impl WritableMemory for Heap {
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
    position: u64,
    sequence: u64,
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
struct ExpectedSlot {
    message: Option<Message>,
    /// The position in its header, whether the message is still valid or the writer has claimed the
    /// slot.
    named: Option<u64>,
    holders: u64,
    turn: bool,
}

/// What the writer and the slots must do.
#[derive(Debug)]
struct Expected {
    places: Vec<ExpectedSlot>,
    next: u64,
    /// The position whose slot is claimed.
    claimed: Option<u64>,
    published: u64,
    skips: u64,
    /// Bits of the subscribers that are alive.
    alive: u64,
}

impl Expected {
    fn place(&mut self, position: u64) -> &mut ExpectedSlot {
        let slots = self.places.len() as u64;
        &mut self.places[(position % slots) as usize]
    }

    /// Clears what the dead among `records` hold.
    fn bury(&mut self, records: u64) {
        for place in &mut self.places {
            place.holders &= self.alive | !records;
        }
    }

    fn first_free(&mut self) -> Option<u64> {
        for position in self.next..self.next + self.places.len() as u64 {
            let holders = self.place(position).holders;
            if holders == 0 {
                return Some(position);
            }
            self.skips += 1;
            if self.skips.is_multiple_of(64) {
                self.bury(holders);
            }
        }
        None
    }

    fn claim(&mut self) -> Result<u64, AllSlotsHeld> {
        if self.claimed.is_none() {
            let position = self.first_free().or_else(|| {
                self.bury(u64::MAX);
                self.first_free()
            });
            self.take(position.ok_or(AllSlotsHeld)?);
        }
        self.claimed.ok_or(AllSlotsHeld)
    }

    fn take(&mut self, position: u64) {
        let place = self.place(position);
        place.turn ^= true;
        place.message = None;
        self.claimed = Some(position);
    }

    fn publish(&mut self, message: Message) {
        let place = self.place(message.position);
        place.message = Some(message);
        place.named = Some(message.position);
        self.next = message.position + 1;
        self.published += 1;
        self.claimed = None;
        if self.place(self.next).holders == 0 {
            self.take(self.next);
        }
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
    Publish { len: usize },
    Abandon,
    Receive { who: usize, hold: bool },
    Copy { who: usize },
    Sleep { who: usize },
    Release { who: usize, which: usize },
    Join { start: Start, record: bool },
    Leave { who: usize },
    Die { who: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    let start = prop_oneof![Just(Start::Next), Just(Start::Latest), Just(Start::Oldest)];
    prop_oneof![
        12 => (0..=8 * WORDS).prop_map(|len| Step::Publish { len }),
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
    fn new(slots: u64) -> Self {
        let ring = Heap::new(slots);
        Self {
            writer: Writer::new(Arc::clone(&ring)),
            expected: Expected {
                // The first slot is claimed from the start.
                places: (0..slots).map(|slot| ExpectedSlot { turn: slot == 0, ..ExpectedSlot::default() }).collect(),
                next: 0,
                claimed: Some(0),
                published: 0,
                skips: 0,
                alive: 0,
            },
            subscribers: Vec::new(),
            closed: false,
            ring,
        }
    }

    fn run(&mut self, step: &Step) {
        let who = |who: usize| (!self.subscribers.is_empty()).then(|| who % self.subscribers.len());
        match *step {
            Step::Publish { len } => {
                if let Some(position) = self.claim() {
                    let message = Message { position, sequence: self.expected.published, len };
                    self.ring.fill(position, message.words());
                    let claim = self.writer.claim().expect("it was claimed just now");
                    claim.publish(len, || message.stamp_ns());
                    self.expected.publish(message);
                }
            }
            Step::Abandon => {
                if let Some(position) = self.claim() {
                    self.ring.fill(position, [666; WORDS]);
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

    fn claim(&mut self) -> Option<u64> {
        let claimed = self.writer.claim().map(|claim| claim.position());
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
        let mut kept: Vec<Message> = ((next + 1).saturating_sub(self.ring.slots())..next)
            .filter_map(|position| self.expected.place(position).message.filter(|found| found.position == position))
            .collect();
        let first = match start {
            Start::Next => None,
            Start::Latest => kept.pop(),
            Start::Oldest => kept.first().copied(),
        };
        let (cursor, expected) =
            first.map_or((next, self.expected.published), |message| (message.position, message.sequence));
        self.subscribers.push(Subscriber { reader, record, cursor, expected, base: expected, held: Vec::new() });
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
        unpin(&*self.ring, message.position, record);
        self.expected.place(message.position).holders &= !(1 << record);
    }

    fn receive(&mut self, index: usize, pinned: bool) -> Result<Option<Message>, Gone> {
        let slots = self.ring.slots();
        let subscriber = &mut self.subscribers[index];
        let expected = loop {
            let cursor = subscriber.cursor;
            if let Some(message) = self.expected.place(cursor).message.filter(|found| found.position == cursor) {
                break Some(message);
            }
            if self.expected.place(cursor).named == Some(cursor) {
                // Just claimed. Later positions may still be readable, if other readers hold them.
                subscriber.cursor = cursor + 1;
                continue;
            }
            if self.expected.next <= cursor {
                break None;
            }
            subscriber.cursor = (cursor + 1).max((self.expected.next + 1).saturating_sub(slots));
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
        subscriber.cursor = message.position + 1;
        subscriber.expected = message.sequence + 1;
        let Message { position, sequence, len } = message;
        assert_eq!(received, Ok(Some(Received { position, sequence, stamp_ns: message.stamp_ns(), len, lost })));
        if pinned {
            subscriber.held.push(message);
            self.expected.place(position).holders |= 1 << subscriber.record.expect("a reader that pins has a record");
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
                assert_eq!(self.ring.words(message.position), message.words(), "a held sample has changed");
            }
            assert_eq!(reader.received() + reader.lost(), expected - base);
            if let Some(record) = subscriber.record {
                let record = self.ring.record(record);
                assert_eq!(record.received.load(Relaxed), reader.received());
                assert_eq!(record.lost.load(Relaxed), reader.lost());
            }
        }
        for (place, state) in self.expected.places.iter().zip(&self.ring.states) {
            let turn = if place.turn { TURN } else { 0 };
            assert_eq!(state.load(Relaxed), place.holders | turn);
        }
        assert_eq!(self.ring.producer.head.load(Relaxed), self.expected.next);
        assert_eq!(self.ring.producer.published.load(Relaxed), self.expected.published);
    }

    /// Closes the topic and receives what is left.
    fn finish(mut self) {
        self.writer.close();
        self.closed = true;
        for index in 0..self.subscribers.len() {
            while self.receive(index, false).is_ok() {}
            let Subscriber { reader, base, .. } = &self.subscribers[index];
            assert_eq!(reader.received() + reader.lost(), self.expected.published - base);
            assert!(!reader.sleep(Duration::ZERO));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_steps_do_what_the_reference_does(
        slots in prop_oneof![Just(2u64), Just(4), Just(8)],
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(slots);
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
        cursor_moves in 0..6usize,
    ) {
        let ring = Heap::new(4);
        let write = || {
            let [head, published, waiting, _] = counters;
            ring.producer.head.store(head, Relaxed);
            ring.producer.published.store(published, Relaxed);
            ring.consumers.waiting.store(waiting, Relaxed);
            ring.consumers.wake.store(wake, Relaxed);
            for (((slot, _), state), [word, position, sequence, len]) in ring.slots.iter().zip(&ring.states).zip(&headers)
            {
                state.store(*word, Relaxed);
                slot.passed.store(*sequence, Relaxed);
                slot.position.store(*position, Relaxed);
                slot.sequence.store(*sequence, Relaxed);
                slot.len.store(*len, Relaxed);
            }
        };
        let mut early = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
        let mut writer = Writer::new(Arc::clone(&ring));
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
    prop_oneof![0..8u64, Just(u64::MAX), Just(u64::MAX - 1), TURN - 6..TURN + 6, any::<u64>()]
}

fn publish(writer: &mut Writer<Heap>) -> u64 {
    let claim = writer.claim().unwrap();
    let position = claim.position();
    claim.publish(8, || 0);
    position
}

#[test]
fn a_dead_holder_is_found_while_other_slots_are_free() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring));
    let mut dead = Reader::new(Arc::clone(&ring), Some(5), Start::Next);
    assert_eq!(publish(&mut writer), 0);
    dead.receive(&mut Pin { record: 5 }).unwrap();
    // Three messages in a round, and one skip.
    for _ in 0..3 * 64 {
        assert_ne!(publish(&mut writer) % 4, 0);
    }
    for _ in 0..4 {
        publish(&mut writer);
    }
    assert_eq!(ring.state(0).load(Relaxed) & READERS, 0);
    assert_ne!(ring.slot(0).position.load(Relaxed), 1);
}

#[test]
fn bits_of_no_reader_hold_nothing() {
    let ring = Heap::new(2);
    for state in &ring.states {
        state.store(0b1111 << RECORDS, Relaxed);
    }
    let mut writer = Writer::new(Arc::clone(&ring));
    assert_eq!(writer.claim().unwrap().position(), 0);
    assert!(ring.states.iter().all(|state| state.load(Relaxed) & !TURN == 0));
}

#[test]
fn a_forged_position_does_not_release_a_held_sample() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring));
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    ring.alive[0].store(true, Relaxed);
    for _ in 0..2 {
        publish(&mut writer);
        reader.receive(&mut Pin { record: 0 }).unwrap();
    }
    // As if position 2 could be read, in the slot that is held for position 0.
    let turn = ring.state(0).load(Relaxed) & TURN;
    ring.slot(0).position.store(turn | 3, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }), None);
    assert_eq!(ring.state(0).load(Relaxed) & READERS, 1);
    assert!(writer.claim().is_err());
}

#[test]
fn a_length_beyond_the_slot_is_cut() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring));
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    publish(&mut writer);
    ring.slot(0).len.store(u64::MAX, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }).unwrap().len, ring.capacity());
}

#[test]
fn a_dead_publisher_is_an_end_like_any_other() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring));
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

/// A reader that checks its slot alone, as a subscriber that polls without pause does, follows
/// `passed`.
#[test]
fn a_poller_moves_past_a_hole_and_finds_the_end() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring));
    let mut holder = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
    ring.alive[1].store(true, Relaxed);
    let mut poller = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut lines: Vec<Line> = Vec::new();
    let mut poll = || poller.receive_or_end(&mut CopyTo(&mut lines), || None);
    publish(&mut writer);
    holder.receive(&mut Pin { record: 1 }).unwrap();
    for position in 0..4 {
        assert_eq!(poll().unwrap().map(|message| message.position), Some(position));
        assert_eq!(poll(), Ok(None));
        if position < 3 {
            publish(&mut writer);
        }
    }
    assert_eq!(publish(&mut writer), 5, "the slot of position 4 is held");
    let message = poll().unwrap().unwrap();
    assert_eq!((message.position, message.sequence, message.lost), (5, 4, 0));
    assert_eq!(poll(), Ok(None));
    writer.close();
    assert_eq!(poll(), Err(Gone::Closed));
}

/// A batch counts as the same number of single messages would, and is not larger than asked for.
#[test]
fn a_batch_counts_as_its_messages_do() {
    let ring = Heap::new(8);
    let mut writer = Writer::new(Arc::clone(&ring));
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
            unpin(&**reader.memory(), message.position, 2);
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

/// What lies beyond a hole is part of the same batch.
#[test]
fn a_batch_goes_on_behind_a_hole() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring));
    let mut holder = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
    ring.alive[1].store(true, Relaxed);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    publish(&mut writer);
    holder.receive(&mut Pin { record: 1 }).unwrap();
    for _ in 0..3 {
        publish(&mut writer);
    }
    let mut batch = || {
        let mut lines: Vec<Line> = Vec::new();
        let message = reader.receive_next(&mut CopyTo(&mut lines))?;
        Some((message.position, message.lost))
    };
    for position in 0..4 {
        assert_eq!(batch(), Some((position, 0)));
    }
    assert_eq!(publish(&mut writer), 5, "the slot of position 4 is held");
    assert_eq!(batch(), Some((5, 0)));
    assert_eq!(batch(), None);
}

/// A reader that joins while messages are counted and head has not moved may receive them: then it
/// counts on from them.
#[test]
fn a_reader_that_joins_before_head_moves_counts_from_its_first_message() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring));
    publish(&mut writer);
    // As if two more had been counted between the loads of head and `published`.
    ring.producer.published.store(3, Relaxed);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut receive = || {
        let message = reader.receive(&mut CopyTo(&mut Vec::<Line>::new())).unwrap();
        (message.sequence, message.lost)
    };
    publish(&mut writer);
    assert_eq!(receive(), (1, 0));
    // A lap: sequences 2 to 4 are overwritten, and so counted as lost.
    for _ in 0..6 {
        publish(&mut writer);
    }
    assert_eq!(receive(), (5, 3));
}
