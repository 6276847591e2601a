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
