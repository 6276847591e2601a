//! A writer of words that readers check, and readers that check all they receive.

use super::*;

const JUNK: u64 = 666;

/// What word `index` of message `sequence` is.
pub(super) fn word(sequence: u64, index: usize) -> u64 {
    10 * (sequence + 1) + index as u64
}

pub(super) fn fill(ring: &Ring, slot: u32, word: impl Fn(usize) -> u64) {
    let slot = &ring.slots[slot as usize];
    slot.bytes.with_mut(|_| ());
    for (index, to) in slot.words.iter().enumerate() {
        to.store(word(index), Relaxed);
    }
}

pub(super) fn try_send(writer: &mut Writer<Ring>) -> Result<(), AllSlotsHeld> {
    let sequence = writer.published();
    let claim = writer.claim()?;
    fill(claim.memory(), claim.slot(), |index| word(sequence, index));
    claim.publish(WORDS as usize * 8, || sequence + 7);
    Ok(())
}

pub(super) fn send(writer: &mut Writer<Ring>) {
    try_send(writer).unwrap();
}

/// Claims a slot, writes half a message, and does not publish it.
pub(super) fn abandon(writer: &mut Writer<Ring>) {
    let claim = writer.claim().unwrap();
    fill(claim.memory(), claim.slot(), |_| JUNK);
}

/// A reader that checks all it receives.
pub(super) struct Checked {
    pub(super) reader: Reader<Ring>,
    pub(super) ring: Shared,
    pub(super) record: usize,
    pub(super) pins: bool,
    /// What follows the last message received; `None` before the first.
    pub(super) next: Option<u64>,
    /// The sequence that the count started with; known with the first message.
    pub(super) base: Option<u64>,
}

impl Checked {
    pub(super) fn new(ring: &Shared, record: usize, pins: bool, start: Start) -> Self {
        let reader = Reader::new(Shared::clone(ring), Some(record), start);
        Self { reader, ring: Shared::clone(ring), record, pins, next: None, base: None }
    }

    /// A reader that attaches before the first message.
    pub(super) fn first(ring: &Shared, record: usize, pins: bool) -> Self {
        Self { next: Some(0), base: Some(0), ..Self::new(ring, record, pins, Start::Next) }
    }

    pub(super) fn check(&mut self, message: &Received, words: &[u64]) {
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

    pub(super) fn check_pinned(&mut self, message: &Received) {
        let slot = &self.ring.slots[message.slot as usize];
        slot.bytes.with(|_| ());
        let words: Vec<u64> = slot.words.iter().map(|word| word.load(Relaxed)).collect();
        self.check(message, &words);
    }

    /// Receives a message and keeps it pinned.
    pub(super) fn hold(&mut self) -> Option<Received> {
        let message = self.reader.receive(&mut Pin { record: self.record })?;
        self.check_pinned(&message);
        Some(message)
    }

    /// Checks that the pinned message is unchanged, and unpins it.
    pub(super) fn release(&mut self, message: &Received) {
        let slot = &self.ring.slots[message.slot as usize];
        slot.bytes.with(|_| ());
        assert_eq!(slot.words[1].load(Relaxed), word(message.sequence, 1), "overwritten");
        unpin(&*self.ring, message.slot, self.record);
    }

    pub(super) fn look(&mut self) -> Result<bool, Gone> {
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

    pub(super) fn look_times(mut self, times: usize) -> Self {
        for _ in 0..times {
            if self.look().is_err() {
                break;
            }
        }
        self
    }

    /// Sleeps until `count` messages were received.
    pub(super) fn sleep_for(mut self, count: u64) -> Self {
        while self.reader.received() < count {
            if !self.look().unwrap() {
                self.reader.sleep(Duration::MAX, None);
            }
        }
        self
    }

    /// Sleeps until the end. Returns how it ended, and checks the count: nothing is lost.
    pub(super) fn sleep_to_the_end(mut self, published: u64) -> Gone {
        loop {
            match self.look() {
                Ok(true) => (),
                Ok(false) => drop(self.reader.sleep(Duration::MAX, None)),
                Err(gone) => {
                    assert_eq!((self.reader.received(), self.reader.lost()), (published, 0));
                    return gone;
                }
            }
        }
    }

    pub(super) fn check_count(&self, published: u64) {
        let base = self.base.unwrap_or(published - self.reader.lost());
        let reader = &self.reader;
        assert_eq!(reader.received() + reader.lost() + reader.skipped(), published - base);
    }

    /// Receives what is left of a closed topic, and checks the count.
    pub(super) fn finish(mut self, published: u64) -> Self {
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
pub(super) fn live<T: 'static>(reader: Checked, run: impl FnOnce(Checked) -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        let ring = Shared::clone(&reader.ring);
        let _life = ring.lives[reader.record].lock().unwrap();
        run(reader)
    })
}

/// What must be true once all readers are gone.
pub(super) fn assert_nothing_is_held(ring: &Ring) {
    for slot in &ring.slots {
        assert_eq!(slot.state.word.load(Relaxed) & READERS, 0);
    }
}

pub(super) fn model(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

pub(super) fn readers_against(slots: u32, messages: u64, preemptions: usize, kinds: &'static [bool], looks: usize) {
    readers_against_reuse(Reuse::Oldest, slots, messages, preemptions, kinds, looks);
}

pub(super) fn readers_against_reuse(
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
