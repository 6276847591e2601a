//! What the dead have left is cleared, and nothing else.

use super::*;

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
