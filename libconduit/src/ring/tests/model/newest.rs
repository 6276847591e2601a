//! Receiving the newest message, while others are published.

use super::*;
use crate::ring::reader::Newest;

impl Checked {
    fn look_for_newest(&mut self) -> Result<bool, Gone> {
        let mut lines = Vec::new();
        let received = if self.pins {
            self.reader.receive_or_end(&mut Newest(Pin { record: self.record }), || Some(false))
        } else {
            self.reader.receive_or_end(&mut Newest(CopyTo(&mut lines)), || Some(false))
        };
        let Some(message) = received? else { return Ok(false) };
        assert!(self.next.is_none_or(|next| next <= message.sequence), "received again");
        // What lies before it is skipped.
        self.next = Some(message.sequence);
        if self.pins {
            self.check_pinned(&message);
            self.release(&message);
        } else {
            self.check(&message, &lines[0].0[..WORDS as usize]);
        }
        Ok(true)
    }
}

/// It is whole and not received twice, received + skipped = published, and the last message is not
/// missed.
fn newest_against_writer(pins: bool, messages: u64, preemptions: usize) {
    model(preemptions, move || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = live(Checked::first(&ring, 0, pins), |mut reader| {
            let _ = reader.look_for_newest();
            reader
        });
        for _ in 0..messages {
            send(&mut writer);
        }
        writer.close();
        let mut reader = reader.join().unwrap();
        while reader.look_for_newest().is_ok_and(|found| found) {}
        assert_eq!(reader.look_for_newest(), Err(Gone::Closed));
        assert_eq!((reader.next, reader.reader.lost()), (Some(messages), 0));
        reader.check_count(messages);
        assert_nothing_is_held(&ring);
    });
}

#[test]
fn pinned_newest() {
    newest_against_writer(true, 2, 3);
    newest_against_writer(true, 3, 2);
}

#[test]
fn copied_newest() {
    newest_against_writer(false, 2, 3);
    newest_against_writer(false, 3, 1);
}

/// While a message is kept that was not received, the newest one is found, though those before it
/// are overwritten meanwhile.
#[test]
fn newest_of_some() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let reader = Checked::first(&ring, 0, false);
        send(&mut writer);
        let reader = live(reader, |mut reader| assert_eq!(reader.look_for_newest(), Ok(true)));
        (0..2).for_each(|_| send(&mut writer));
        reader.join().unwrap();
    });
}
