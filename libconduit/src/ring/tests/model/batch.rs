//! Batches: several messages, and then one report of progress.

use super::*;

impl Checked {
    /// Receives up to `max` messages as a batch does.
    fn batch(mut self, max: usize) -> Self {
        if !matches!(self.look(), Ok(true)) {
            return self;
        }
        for _ in 1..max {
            let mut lines = Vec::new();
            let received = if self.pins {
                self.reader.receive_next(&mut Pin { record: self.record })
            } else {
                self.reader.receive_next(&mut CopyTo(&mut lines))
            };
            let Some(message) = received else { break };
            if self.pins {
                self.check_pinned(&message);
                self.release(&message);
            } else {
                self.check(&message, &lines[0].0[..WORDS as usize]);
            }
        }
        self.reader.note_progress();
        self
    }
}

/// What is received in batches is whole, and counted as exactly as one by one.
#[test]
fn batch_against_overwrite() {
    for pins in [true, false] {
        model(2, move || {
            let ring = Ring::new();
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let reader = Checked::first(&ring, 0, pins);
            send(&mut writer);
            let reader = live(reader, |reader| reader.batch(3));
            for _ in 0..2 {
                send(&mut writer);
            }
            writer.close();
            let reader = reader.join().unwrap().finish(3);
            assert_eq!(ring.records[0].received.load(Relaxed), reader.reader.received());
            assert_eq!(ring.records[0].lost.load(Relaxed), reader.reader.lost());
            assert_nothing_is_held(&ring);
        });
    }
}

const FOUR: u32 = 4;

/// Publishes `messages` messages in a row, of which the writer expects `expected`.
fn send_run(writer: &mut Writer<Ring>, messages: u64, expected: u64) {
    let first = writer.published();
    let mut run = writer.run(expected);
    for sequence in first..first + messages {
        let (slot, _) = run.slot().unwrap();
        fill(run.memory(), slot, |index| word(sequence, index));
        run.publish(WORDS as usize * 8, sequence + 7);
    }
}

/// Two slots that are claimed together are not written while a reader looks at the second one's
/// message, or at those that come after it.
#[test]
fn claimed_run_against_readers() {
    for (kinds, messages, expected, preemptions) in [
        (&[true][..], 2, 2, 2),
        (&[false], 2, 2, 2),
        // The second slot is claimed in vain.
        (&[true], 1, 2, 2),
        (&[false], 1, 2, 2),
        // Two chunks.
        (&[true], 3, 4, 2),
        (&[true, false], 2, 2, 1),
    ] {
        model(preemptions, move || {
            let ring = Ring::with_slots(FOUR);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let readers: Vec<_> =
                kinds.iter().enumerate().map(|(record, &pins)| Checked::first(&ring, record, pins)).collect();
            for _ in 0..FOUR {
                send(&mut writer);
            }
            let looks = if kinds.len() == 1 { 2 } else { 1 };
            let readers: Vec<_> =
                readers.into_iter().map(|reader| live(reader, move |reader| reader.look_times(looks))).collect();
            send_run(&mut writer, messages, expected);
            writer.close();
            for reader in readers {
                reader.join().unwrap().finish(u64::from(FOUR) + messages);
            }
            assert_nothing_is_held(&ring);
        });
    }
}

/// A reader that holds a slot in the middle of a run keeps it, and the run goes around it.
#[test]
fn claimed_run_around_a_held_slot() {
    model(2, || {
        let ring = Ring::with_slots(FOUR);
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let mut holder = Checked::first(&ring, 0, true);
        let _life = ring.lives[0].lock().unwrap();
        send(&mut writer);
        assert!(holder.look().unwrap());
        for _ in 1..FOUR {
            send(&mut writer);
        }
        let holder = thread::spawn(move || {
            let held = holder.hold();
            if let Some(held) = held {
                holder.release(&held);
            }
        });
        send_run(&mut writer, 3, 3);
        holder.join().unwrap();
        assert_nothing_is_held(&ring);
    });
}

/// A sleeper is woken though the writer looks for sleepers once per chunk.
#[test]
fn claimed_run_against_sleep() {
    model(2, || {
        let ring = Ring::with_slots(FOUR);
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = live(Checked::first(&ring, 0, false), |reader| reader.sleep_for(2));
        send_run(&mut writer, 2, 2);
        let reader = reader.join().unwrap();
        assert_eq!(reader.reader.lost(), 0);
    });
}
