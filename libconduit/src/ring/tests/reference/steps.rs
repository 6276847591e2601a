//! Any steps, of the ring and of the reference.

use super::expected::{Expected, Message};
use super::*;

struct Subscriber {
    reader: Reader<Heap>,
    record: Option<usize>,
    cursor: u64,
    expected: u64,
    base: u64,
    skipped: u64,
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
    Latest {
        who: usize,
        pin: bool,
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
        3 => (who.clone(), any::<bool>()).prop_map(|(who, pin)| Step::Latest { who, pin }),
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
            Step::Latest { who: index, pin } => {
                if let Some(index) = who(index) {
                    self.receive_latest(index, pin && self.subscribers[index].record.is_some());
                }
            }
            Step::Sleep { who: index } => {
                if let Some(index) = who(index) {
                    let subscriber = &self.subscribers[index];
                    let news = self.expected.next > subscriber.cursor;
                    let slept = self.ring.sleeps.load(Relaxed);
                    assert_eq!(subscriber.reader.sleep(Duration::ZERO, None), news);
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
        let (expected, base, held) = (cursor, cursor, Vec::new());
        self.subscribers.push(Subscriber { reader, record, cursor, expected, base, skipped: 0, held });
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
        let Message { slot, sequence, len } = message;
        assert_eq!(received, Ok(Some(Received { sequence, stamp_ns: message.stamp_ns(), len, slot, lost })));
        self.note_received(index, pinned, message, &lines);
        Ok(Some(message))
    }

    /// Receives the newest message that is kept, unless it was received.
    fn receive_latest(&mut self, index: usize, pinned: bool) {
        let (next, slots) = (self.expected.next, self.expected.slots());
        let subscriber = &mut self.subscribers[index];
        let mut unread = (subscriber.cursor.max(next.saturating_sub(slots))..next).rev();
        let expected = unread.find_map(|position| self.expected.entry(position).message);
        subscriber.cursor = next;
        let mut lines: Vec<Line> = Vec::new();
        let received = if pinned {
            let record = subscriber.record.expect("a reader that pins has a record");
            subscriber.reader.receive_or_end(&mut Newest(Pin { record }), || Some(false))
        } else {
            subscriber.reader.receive_or_end(&mut Newest(CopyTo(&mut lines)), || Some(false))
        };
        let Some(message) = expected else { return assert_eq!(received, Ok(None)) };
        subscriber.skipped += message.sequence - subscriber.expected;
        let Message { slot, sequence, len } = message;
        assert_eq!(received, Ok(Some(Received { sequence, stamp_ns: message.stamp_ns(), len, slot, lost: 0 })));
        self.note_received(index, pinned, message, &lines);
    }

    fn note_received(&mut self, index: usize, pinned: bool, message: Message, lines: &[Line]) {
        let Message { slot, sequence, len } = message;
        let subscriber = &mut self.subscribers[index];
        subscriber.expected = sequence + 1;
        if let Some(record) = subscriber.record {
            self.expected.cursors[record] = Some(subscriber.cursor);
        }
        if pinned {
            subscriber.held.push(message);
            let record = subscriber.record.expect("a reader that pins has a record");
            self.expected.holders[slot as usize] |= 1 << record;
        } else {
            assert_eq!(lines.as_bytes()[..len], message.words().as_bytes()[..len]);
        }
    }

    /// Invariants after every step.
    fn check(&self) {
        for subscriber in &self.subscribers {
            let Subscriber { reader, held, base, expected, skipped, .. } = subscriber;
            for message in held {
                assert_eq!(self.ring.words(message.slot), message.words(), "a held sample has changed");
            }
            assert_eq!(reader.received() + reader.lost() + reader.skipped(), expected - base);
            assert_eq!(reader.skipped(), *skipped);
            if let Some(record) = subscriber.record {
                let record = self.ring.record(record);
                assert_eq!(record.received.load(Relaxed), reader.received());
                assert_eq!(record.lost.load(Relaxed), reader.lost());
            }
        }
        for (holders, state) in self.expected.holders.iter().zip(&self.ring.states) {
            assert_eq!(state.word.load(Relaxed), *holders);
        }
        for (entry, (found, _)) in self.expected.entries.iter().zip(&self.ring.slots) {
            let found = found.position.load(Relaxed);
            assert_eq!(found & NUMBER, entry.number);
            assert!(found & TAKEN == 0 || entry.message.is_none());
        }
        assert_eq!(self.ring.producer.head.load(Relaxed), self.expected.next);
        assert_eq!(self.ring.producer.bytes.load(Relaxed), self.expected.bytes);
    }

    /// Closes the topic and receives what is left.
    fn finish(mut self) {
        self.writer.close();
        self.closed = true;
        for index in 0..self.subscribers.len() {
            while self.receive(index, false).is_ok() {}
            let Subscriber { reader, base, .. } = &self.subscribers[index];
            assert_eq!(reader.received() + reader.lost() + reader.skipped(), self.expected.next - base);
            assert!(!reader.sleep(Duration::ZERO, None));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_steps_do_what_the_reference_does(
        slots in prop_oneof![Just(2u32), Just(3), Just(4), Just(5), Just(8)],
        reuse in prop_oneof![Just(Reuse::Oldest), (0..3u16).prop_map(|retain| Reuse::Newest { retain })],
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(slots, reuse);
        for step in &steps {
            world.run(step);
        }
        world.finish();
    }
}
