//! Models of the ring: loom runs its code under every schedule with a bounded number of
//! preemptions, and with every value that the memory model lets a load return.
//!
//! Two slots, one writer, up to two readers. A pinned payload is an `UnsafeCell` besides its words:
//! loom refuses every access to it that is not ordered with a write, even if the words happen to be
//! right. A Mutex and a Condvar model the futex, without spurious wake-ups: a lost wake-up is a
//! deadlock. A Mutex models the first lock of a record; the second is only asked for, and modelled
//! by a flag in a Mutex.
//!
//! Bounds: 3 preemptions; 2 where a second reader or a fourth message multiplies the schedules; 1
//! for a copying reader that is lapped and for joining while slots are overwritten, where loads
//! have many values to return.
//!
//! Loom takes sequentially consistent accesses for acquire-release, and no load of it returns a
//! value from the future. So it cannot detect why W7 acquires and S2 releases: they keep W8 after
//! W7, and S1 before S2. It does detect that the other order of either pair loses wake-ups.

mod batch;
mod news;
mod parked;
mod reuse;

use std::sync::atomic::Ordering::{self, Relaxed, Release};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::mutation::mutated;
use crate::ring::end::Gone;
use crate::ring::layout::{Consumers, MessageEntry, NO_CURSOR, ORPHANED, Producer, READERS, Record};
use crate::ring::memory::{Memory, ReaderMemory, WritableMemory};
use crate::ring::reader::{CopyTo, Pin, Reader, Received, unpin};
use crate::ring::reuse::Reuse;
use crate::ring::sleeper::{Sleep, sleep_for_any};
use crate::ring::start::Start;
use crate::ring::writer::{AllSlotsHeld, Writer};
use crate::shm::atomics::{Atomics, WordFamily, WritableAtomics, forward_atomic};

const SLOTS: u32 = 2;
const WORDS: u64 = 2;
const JUNK: u64 = 666;

#[derive(Default)]
struct Loom;

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
    fn fetch_or_before_loads(word: &AtomicU64, bits: u64) -> u64 {
        let before = word.fetch_or(bits, Ordering::AcqRel);
        Self::fence(Ordering::SeqCst);
        before
    }
}

forward_atomic!(AtomicU32, u32);
forward_atomic!(AtomicU64, u64);

struct Slot {
    state: AtomicU64,
    entry: MessageEntry<Loom>,
    words: [AtomicU64; WORDS as usize],
    bytes: UnsafeCell<()>,
}

struct Ring {
    producer: Producer<Loom>,
    consumers: Consumers<Loom>,
    records: [Record<Loom>; 2],
    slots: Vec<Slot>,
    /// Locked while the subscriber with that record is alive.
    lives: [Mutex<()>; 2],
    /// A2: whether the second byte of the record is locked.
    attached: [Mutex<bool>; 2],
    /// Locked while the publisher is alive.
    publisher_life: Mutex<()>,
    bed: Bed,
}

/// What sleepers sleep on: the futex.
type Bed = std::sync::Arc<(Mutex<()>, Condvar)>;

type Shared = std::sync::Arc<Ring>;

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
        held_since_ns: zero(),
        held: AtomicU32::new(0),
        flags: AtomicU32::new(0),
    }
}

fn slot() -> Slot {
    Slot {
        state: zero(),
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
    fn new() -> Shared {
        Self::build(SLOTS, Bed::new((Mutex::new(()), Condvar::new())))
    }

    fn with_slots(slots: u32) -> Shared {
        Self::build(slots, Bed::new((Mutex::new(()), Condvar::new())))
    }

    /// A ring whose readers sleep where those of another do, so that one thread can sleep on both.
    fn with_bed(bed: &Bed) -> Shared {
        Self::build(SLOTS, Bed::clone(bed))
    }

    #[expect(clippy::arc_with_non_send_sync, reason = "loom runs all its threads on one")]
    fn build(slots: u32, bed: Bed) -> Shared {
        Shared::new(Self {
            producer: Producer::default(),
            consumers: consumers(),
            records: [record(), record()],
            slots: (0..slots).map(|_| slot()).collect(),
            lives: [Mutex::new(()), Mutex::new(())],
            attached: [Mutex::new(false), Mutex::new(false)],
            publisher_life: Mutex::new(()),
            bed,
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
    fn entry_of(&self, position: u64) -> u32 {
        (position % self.slots.len() as u64) as u32
    }
    fn entry(&self, position: u64) -> &MessageEntry<Loom> {
        &self.slots[self.entry_of(position) as usize].entry
    }
    fn state(&self, slot: u32) -> &AtomicU64 {
        &self.slots[slot as usize].state
    }
    fn capacity(&self) -> usize {
        WORDS as usize * 8
    }
    fn copy_payload(&self, slot: u32, into: &mut [u8]) {
        let (words, _) = into.as_chunks_mut::<8>();
        for (to, from) in words.iter_mut().zip(&self.slots[slot as usize].words) {
            *to = from.load(Relaxed).to_ne_bytes();
        }
    }
    fn sleep(&self, seen: u32, _timeout: Duration) {
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

/// What word `index` of message `sequence` is.
fn word(sequence: u64, index: usize) -> u64 {
    10 * (sequence + 1) + index as u64
}

fn fill(ring: &Ring, slot: u32, word: impl Fn(usize) -> u64) {
    let slot = &ring.slots[slot as usize];
    slot.bytes.with_mut(|_| ());
    for (index, to) in slot.words.iter().enumerate() {
        to.store(word(index), Relaxed);
    }
}

fn try_send(writer: &mut Writer<Ring>) -> Result<(), AllSlotsHeld> {
    let sequence = writer.published();
    let claim = writer.claim()?;
    fill(claim.memory(), claim.slot(), |index| word(sequence, index));
    claim.publish(WORDS as usize * 8, || sequence + 7);
    Ok(())
}

fn send(writer: &mut Writer<Ring>) {
    try_send(writer).unwrap();
}

/// Claims a slot, writes half a message, and does not publish it.
fn abandon(writer: &mut Writer<Ring>) {
    let claim = writer.claim().unwrap();
    fill(claim.memory(), claim.slot(), |_| JUNK);
}

/// A reader that checks all it receives.
struct Checked {
    reader: Reader<Ring>,
    ring: Shared,
    record: usize,
    pins: bool,
    /// What follows the last message received; `None` before the first.
    next: Option<u64>,
    /// The sequence that the count started with; known with the first message.
    base: Option<u64>,
}

impl Checked {
    fn new(ring: &Shared, record: usize, pins: bool, start: Start) -> Self {
        let reader = Reader::new(Shared::clone(ring), Some(record), start);
        Self { reader, ring: Shared::clone(ring), record, pins, next: None, base: None }
    }

    /// A reader that attaches before the first message.
    fn first(ring: &Shared, record: usize, pins: bool) -> Self {
        Self { next: Some(0), base: Some(0), ..Self::new(ring, record, pins, Start::Next) }
    }

    fn check(&mut self, message: &Received, words: &[u64]) {
        let sequence = message.sequence;
        for (index, &found) in words.iter().enumerate() {
            assert_eq!(found, word(sequence, index), "torn");
        }
        assert_eq!((message.stamp_ns, message.len), (sequence + 7, WORDS as usize * 8), "torn");
        match self.next {
            Some(next) => assert_eq!(message.lost, sequence - next, "lost"),
            None => self.base = Some(sequence - message.lost),
        }
        self.next = Some(sequence + 1);
    }

    fn check_pinned(&mut self, message: &Received) {
        let slot = &self.ring.slots[message.slot as usize];
        slot.bytes.with(|_| ());
        let words: Vec<u64> = slot.words.iter().map(|word| word.load(Relaxed)).collect();
        self.check(message, &words);
    }

    /// Receives a message and keeps it pinned.
    fn hold(&mut self) -> Option<Received> {
        let message = self.reader.receive(&mut Pin { record: self.record })?;
        self.check_pinned(&message);
        Some(message)
    }

    /// Checks that the pinned message is unchanged, and unpins it.
    fn release(&mut self, message: &Received) {
        let slot = &self.ring.slots[message.slot as usize];
        slot.bytes.with(|_| ());
        assert_eq!(slot.words[1].load(Relaxed), word(message.sequence, 1), "overwritten");
        unpin(&*self.ring, message.slot, self.record);
    }

    fn look(&mut self) -> Result<bool, Gone> {
        let mut lines = Vec::new();
        let received = if self.pins {
            self.reader.receive_or_end(&mut Pin { record: self.record }, || Some(false))
        } else {
            self.reader.receive_or_end(&mut CopyTo(&mut lines), || Some(false))
        };
        let Some(message) = received? else { return Ok(false) };
        if self.pins {
            self.check_pinned(&message);
            self.release(&message);
        } else {
            self.check(&message, &lines[0].0[..WORDS as usize]);
        }
        Ok(true)
    }

    fn look_times(mut self, times: usize) -> Self {
        for _ in 0..times {
            if self.look().is_err() {
                break;
            }
        }
        self
    }

    /// Sleeps until `count` messages were received.
    fn sleep_for(mut self, count: u64) -> Self {
        while self.reader.received() < count {
            if !self.look().unwrap() {
                self.reader.sleep(Duration::MAX);
            }
        }
        self
    }

    /// Sleeps until the end. Returns how it ended, and checks the count.
    fn sleep_to_the_end(mut self, published: u64) -> Gone {
        loop {
            match self.look() {
                Ok(true) => (),
                Ok(false) => drop(self.reader.sleep(Duration::MAX)),
                Err(gone) => {
                    self.check_count(published);
                    return gone;
                }
            }
        }
    }

    fn check_count(&self, published: u64) {
        let base = self.base.unwrap_or(published - self.reader.lost());
        assert_eq!(self.reader.received() + self.reader.lost(), published - base);
    }

    /// Receives what is left of a closed topic, and checks the count.
    fn finish(mut self, published: u64) -> Self {
        loop {
            match self.look() {
                Ok(received) => assert!(received, "closed, but not reported"),
                Err(gone) => {
                    assert_eq!(gone, Gone::Closed);
                    self.check_count(published);
                    return self;
                }
            }
        }
    }
}

/// Runs a reader in a thread of its own, alive as long as that runs.
fn live<T: 'static>(reader: Checked, run: impl FnOnce(Checked) -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        let ring = Shared::clone(&reader.ring);
        let _life = ring.lives[reader.record].lock().unwrap();
        run(reader)
    })
}

/// What must be true once all readers are gone.
fn assert_nothing_is_held(ring: &Ring) {
    for slot in &ring.slots {
        assert_eq!(slot.state.load(Relaxed) & READERS, 0);
    }
}

fn model(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn readers_against(slots: u32, messages: u64, preemptions: usize, kinds: &'static [bool], looks: usize) {
    readers_against_reuse(Reuse::Oldest, slots, messages, preemptions, kinds, looks);
}

fn readers_against_reuse(
    reuse: Reuse,
    slots: u32,
    messages: u64,
    preemptions: usize,
    kinds: &'static [bool],
    looks: usize,
) {
    model(preemptions, move || {
        let ring = Ring::with_slots(slots);
        let mut writer = Writer::new(Shared::clone(&ring), reuse);
        let readers: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(record, &pins)| {
                let reader = Checked::first(&ring, record, pins);
                live(reader, move |reader| reader.look_times(looks))
            })
            .collect();
        for _ in 0..messages {
            // Two readers together can hold both slots.
            let sent = try_send(&mut writer);
            assert!(sent.is_ok() || kinds.len() > 1);
        }
        writer.close();
        let published = writer.published();
        for reader in readers {
            let reader = reader.join().unwrap().finish(published);
            assert!(messages >= slots.into() || reader.reader.lost() == 0);
        }
        assert_nothing_is_held(&ring);
    });
}

/// A pinned slot is not written, what is pinned is the message that was readable, and received +
/// lost = published.
#[test]
fn pin_against_reuse() {
    readers_against(SLOTS, 3, 3, &[true], 1);
    readers_against(SLOTS, 3, 2, &[true], 2);
}

/// A copy is a whole message or refused, and received + lost = published.
#[test]
fn copy_against_overwrite() {
    readers_against(SLOTS, 3, 3, &[false], 1);
}

/// A reader that was found attached receives the next message and no earlier one.
#[test]
fn attached_against_publishing() {
    model(3, || {
        let ring = Ring::new();
        let joining = {
            let ring = Shared::clone(&ring);
            thread::spawn(move || {
                let _life = ring.lives[0].lock().unwrap();
                let reader = Checked::new(&ring, 0, true, Start::Next);
                *ring.attached[0].lock().unwrap() = true;
                reader
            })
        };
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        send(&mut writer);
        let is_attached = *ring.attached[0].lock().unwrap();
        send(&mut writer);
        let mut reader = joining.join().unwrap();
        if is_attached {
            reader.look().unwrap();
            let base = reader.base.expect("a message");
            assert!(base <= 1, "the message sent after it was found attached was missed");
        }
    });
}

/// A reader that is lapped counts exactly what it misses, pinning or copying.
#[test]
fn lapped_readers_count_their_losses() {
    readers_against(SLOTS, 4, 1, &[true], 2);
    readers_against(SLOTS, 4, 1, &[false], 1);
}

/// A pinning and a copying reader do not disturb each other, and lose nothing while nothing is
/// overwritten.
#[test]
fn two_readers() {
    readers_against(SLOTS + 1, 2, 3, &[true, false], 1);
}

/// As long as nothing is overwritten, nothing is lost.
#[test]
fn nothing_is_lost_without_lapping() {
    for pins in [&[true], &[false]] {
        readers_against(SLOTS + 1, SLOTS.into(), 3, pins, 2);
    }
}

/// One reader that never holds two samples never makes the writer fail, although it can be in the
/// way of each try of one pass.
#[test]
fn one_sample_at_a_time_leaves_a_slot() {
    model(4, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let mut reader = Checked::first(&ring, 0, true);
        send(&mut writer);
        let held = reader.hold().unwrap();
        // Nothing is claimed ahead now: the writer must look for a slot.
        send(&mut writer);
        let reader = live(reader, move |mut reader| {
            reader.release(&held);
            reader.look_times(1)
        });
        send(&mut writer);
        writer.close();
        reader.join().unwrap().finish(3);
        assert_nothing_is_held(&ring);
    });
}

/// Two readers that pin the same slot both keep it: the first to unpin does not release it.
#[test]
fn two_readers_pin_one_slot() {
    model(1, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let readers = [0, 1].map(|record| Checked::first(&ring, record, true));
        send(&mut writer);
        send(&mut writer);
        let readers = readers.map(|reader| live(reader, |reader| reader.look_times(1)));
        // The first goes to the slot that is claimed; the second wants the one that they pin.
        for _ in 0..2 {
            let _ = try_send(&mut writer);
        }
        writer.close();
        for reader in readers {
            reader.join().unwrap().finish(writer.published());
        }
        assert_nothing_is_held(&ring);
    });
}

/// A reader that joins late misses no later message, and counts from where it joined.
#[test]
fn late_join() {
    for start in [Start::Next, Start::Latest, Start::Oldest] {
        for (messages, preemptions) in [(2, 2), (3, 1)] {
            model(preemptions, move || {
                let ring = Ring::with_slots(SLOTS + 1);
                let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
                let joiner = {
                    let ring = Shared::clone(&ring);
                    thread::spawn(move || Checked::new(&ring, 0, true, start).look_times(1))
                };
                for _ in 0..messages {
                    send(&mut writer);
                }
                writer.close();
                let joiner = joiner.join().unwrap().finish(messages);
                assert!(messages > SLOTS.into() || joiner.reader.lost() == 0);
            });
        }
    }
}

/// An abandoned loan has no effect but the loss of the old message: its bytes are never received.
#[test]
fn abandoned_loan() {
    for pins in [true, false] {
        model(3, move || {
            let ring = Ring::new();
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let reader = Checked::first(&ring, 0, pins);
            send(&mut writer);
            send(&mut writer);
            let reader = live(reader, |reader| reader.look_times(2));
            abandon(&mut writer);
            send(&mut writer);
            writer.close();
            reader.join().unwrap().finish(3);
            assert_nothing_is_held(&ring);
        });
    }
}

/// The writer goes around a held slot, and readers lose nothing by it.
#[test]
fn messages_go_around_a_held_slot() {
    for pins in [true, false] {
        for (messages, preemptions) in [(1, 3), (2, 2)] {
            model(preemptions, move || {
                let ring = Ring::new();
                let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
                let mut holder = Checked::first(&ring, 1, true);
                let _holder_life = ring.lives[1].lock().unwrap();
                let reader = Checked::first(&ring, 0, pins);
                send(&mut writer);
                let held = holder.hold().unwrap();
                let reader = reader.look_times(1);
                send(&mut writer);
                let reader = live(reader.look_times(1), |reader| reader.look_times(1));
                for _ in 0..messages {
                    // The reader can hold the other slot.
                    assert!(try_send(&mut writer).is_ok() || pins && messages > 1);
                }
                writer.close();
                holder.release(&held);
                let reader = reader.join().unwrap().finish(writer.published());
                assert!(messages > 1 || reader.reader.lost() == 0);
            });
        }
    }
}

/// Every message wakes a sleeper, also the second time.
#[test]
fn sleep_and_wake() {
    model(3, || {
        let ring = Ring::with_slots(SLOTS + 1);
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let reader = live(reader, |reader| reader.sleep_for(2));
        send(&mut writer);
        send(&mut writer);
        reader.join().unwrap();
    });
}

/// One message wakes all sleepers.
#[test]
fn two_sleepers() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let readers = [(0, true), (1, false)].map(|(record, pins)| Checked::first(&ring, record, pins));
        let readers = readers.map(|reader| live(reader, |reader| reader.sleep_for(1)));
        send(&mut writer);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// A thread that waits for two topics is woken by either, and by their ends.
#[test]
fn sleep_for_two_topics() {
    for messages in [[1, 1], [0, 1], [1, 0]] {
        model(2, move || {
            let first = Ring::new();
            let rings = [Shared::clone(&first), Ring::with_bed(&first.bed)];
            let writers = rings.each_ref().map(|ring| Writer::new(Shared::clone(ring), Reuse::Oldest));
            let mut readers = rings.each_ref().map(|ring| Checked::first(ring, 0, false));
            let writers = thread::spawn(move || {
                for (mut writer, messages) in writers.into_iter().zip(messages) {
                    for _ in 0..messages {
                        send(&mut writer);
                    }
                    if messages == 0 {
                        writer.close();
                    }
                }
            });
            let is_done = |readers: &[Checked; 2]| {
                let count = |reader: &Checked, messages| match messages {
                    0 => reader.reader.has_ended().is_some(),
                    _ => reader.reader.received() == messages,
                };
                readers.iter().zip(messages).all(|(reader, messages)| count(reader, messages))
            };
            let mut seen = Vec::new();
            while !is_done(&readers) {
                let idle = readers.iter_mut().map(Checked::look).filter(|it| *it == Ok(false)).count();
                // A topic that has ended is waited for no longer.
                let sleepers = readers.iter().map(|reader| reader.reader.sleeper());
                let sleepers: Vec<_> = sleepers.filter(|sleeper| sleeper.has_ended().is_none()).cloned().collect();
                if idle == sleepers.len() && !is_done(&readers) {
                    sleep_for_any(sleepers.iter(), &mut seen, |seen| {
                        let (asleep, woken) = &*first.bed;
                        let guard = asleep.lock().unwrap();
                        let mut words = sleepers.iter().map(|it| it.memory().consumers.wake.load(Relaxed));
                        if words.by_ref().eq(seen.iter().copied()) {
                            drop(woken.wait(guard).unwrap());
                        }
                    });
                }
            }
            writers.join().unwrap();
        });
    }
}

/// Two threads sleep for one reader: when one leaves, the other is still woken.
#[test]
fn a_leaving_sleeper_keeps_the_other_announced() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let other = reader.reader.sleeper().clone();
        let reader = live(reader, |reader| reader.sleep_for(1));
        let writer = thread::spawn(move || send(&mut writer));
        other.enter();
        other.announce();
        other.leave();
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

/// A message that goes around a held slot wakes a reader that waits for it.
#[test]
fn sleep_behind_a_held_slot() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let mut holder = Checked::first(&ring, 1, true);
        let _holder_life = ring.lives[1].lock().unwrap();
        let reader = Checked::first(&ring, 0, true);
        send(&mut writer);
        holder.hold().unwrap();
        let reader = reader.look_times(1);
        send(&mut writer);
        let reader = reader.look_times(1);
        let reader = live(reader, |reader| reader.sleep_for(3));
        send(&mut writer);
        reader.join().unwrap();
    });
}

/// The end wakes a sleeper, after the last message, and the count is complete.
#[test]
fn close_against_sleeper() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        let reader = live(reader, |reader| reader.sleep_to_the_end(1));
        send(&mut writer);
        writer.close();
        assert_eq!(reader.join().unwrap(), Gone::Closed);
    });
}

/// The end wakes all sleepers.
#[test]
fn close_against_two_sleepers() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let readers = [(0, true), (1, false)].map(|(record, pins)| Checked::first(&ring, record, pins));
        let readers = readers.map(|reader| live(reader, |reader| reader.sleep_to_the_end(0)));
        writer.close();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Gone::Closed);
        }
    });
}

/// A reaper's mark wakes a sleeper, after the last message of the dead publisher; a claimed slot is
/// not a message.
#[test]
fn orphan_against_sleeper() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, true);
        let reader = live(reader, |reader| reader.sleep_to_the_end(1));
        let publisher = {
            let ring = Shared::clone(&ring);
            thread::spawn(move || {
                let _life = ring.publisher_life.lock().unwrap();
                send(&mut writer);
                let _ = writer.claim().unwrap();
            })
        };
        publisher.join().unwrap();
        drop(ring.publisher_life.lock().unwrap());
        ring.consumers.wake.fetch_or(ORPHANED, Release);
        ring.wake_all();
        assert_eq!(reader.join().unwrap(), Gone::Died);
    });
}

/// The next subscriber with a dead one's record clears its pins, after all of its reads, and keeps
/// its own.
#[test]
fn record_reclaimed_by_the_next_subscriber() {
    model(1, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        send(&mut writer);
        send(&mut writer);
        let subscribers = {
            let ring = Shared::clone(&ring);
            thread::spawn(move || {
                {
                    let _life = ring.lives[0].lock().unwrap();
                    Checked::new(&ring, 0, true, Start::Oldest).hold();
                }
                let _life = ring.lives[0].lock().unwrap();
                Checked::new(&ring, 0, true, Start::Oldest).look_times(1)
            })
        };
        send(&mut writer);
        // Wants the slot that the dead one held.
        let _ = try_send(&mut writer);
        writer.close();
        subscribers.join().unwrap().finish(writer.published());
        assert_nothing_is_held(&ring);
    });
}

/// A ring of which a dead subscriber, with record 0, holds both slots.
fn held_by_the_dead() -> (Shared, Writer<Ring>) {
    let ring = Ring::new();
    let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
    let mut dead = Checked::first(&ring, 0, true);
    for _ in 0..SLOTS {
        send(&mut writer);
        dead.hold().unwrap();
    }
    (ring, writer)
}

/// The writer clears a dead subscriber's pins and no others.
#[test]
fn reclaim_while_another_pins() {
    model(3, || {
        let (ring, mut writer) = held_by_the_dead();
        let reader = Checked { next: Some(1), base: Some(1), ..Checked::new(&ring, 1, true, Start::Oldest) };
        let reader = live(reader, |reader| reader.look_times(2));
        let sent = try_send(&mut writer).or_else(|_| try_send(&mut writer));
        assert!(sent.is_ok(), "the dead subscriber's slots are still held");
        writer.close();
        reader.join().unwrap().finish(writer.published());
        assert_nothing_is_held(&ring);
    });
}

/// The writer clears a dead subscriber's pins, but not those of a new one that took the record
/// meanwhile.
#[test]
fn reclaim_while_the_record_is_claimed() {
    model(2, || {
        let (ring, mut writer) = held_by_the_dead();
        let subscriber = {
            let ring = Shared::clone(&ring);
            thread::spawn(move || {
                let _life = ring.lives[0].lock().unwrap();
                let mut subscriber = Checked::new(&ring, 0, true, Start::Oldest);
                if let Some(message) = subscriber.hold() {
                    subscriber.release(&message);
                }
                subscriber
            })
        };
        // The second wants the slot that the new subscriber holds.
        for _ in 0..2 {
            let _ = try_send(&mut writer);
        }
        writer.close();
        subscriber.join().unwrap().finish(writer.published());
        assert_nothing_is_held(&ring);
    });
}
