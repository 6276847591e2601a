//! Readers that join while messages are published.

use super::*;

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
