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
                let lock_second = || *ring.attached[0].lock().unwrap() = true;
                let (reader, ()) = Reader::attach(Shared::clone(&ring), 0, Start::Next, lock_second);
                Checked { reader, ring: Shared::clone(&ring), record: 0, pins: true, next: None, base: None }
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

/// Whoever joins a topic that retains messages gets as many, though more are published meanwhile.
#[test]
fn late_joiners_get_what_is_retained() {
    for (retain, start) in [(1, Start::Latest), (1, Start::Oldest), (2, Start::Last(2)), (2, Start::Oldest)] {
        model(2, move || {
            let ring = Ring::with_slots(SLOTS + 2);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Newest { retain });
            (0..retain).for_each(|_| send(&mut writer));
            let joiner = {
                let ring = Shared::clone(&ring);
                thread::spawn(move || Checked::new(&ring, 0, true, start).look_times(1))
            };
            send(&mut writer);
            writer.close();
            let joiner = joiner.join().unwrap().finish(writer.published());
            assert!(joiner.reader.received() >= retain.into(), "fewer than are retained");
            assert_nothing_is_held(&ring);
        });
    }
}

/// Readers that join at the same time are both counted among those whose cursors matter.
#[test]
fn two_readers_join_at_once() {
    model(3, || {
        let ring = Ring::new();
        let joining = [0, 1].map(|record| {
            let ring = Shared::clone(&ring);
            thread::spawn(move || drop(Checked::new(&ring, record, false, Start::Next)))
        });
        for joining in joining {
            joining.join().unwrap();
        }
        assert_eq!(ring.consumers.record_limit.load(Relaxed), 2);
    });
}

/// One reader pins, one copies and one joins, and none is in the way of another.
#[test]
fn three_readers() {
    for reuse in [Reuse::Oldest, Reuse::Newest { retain: 1 }] {
        model(1, move || {
            let ring = Ring::with_slots(SLOTS + 1);
            let mut writer = Writer::new(Shared::clone(&ring), reuse);
            let [pinning, copying] = [(0, true), (1, false)]
                .map(|(record, pins)| live(Checked::first(&ring, record, pins), |reader| reader.look_times(1)));
            let joining = {
                let ring = Shared::clone(&ring);
                thread::spawn(move || Checked::new(&ring, 2, true, Start::Latest).look_times(1))
            };
            (0..2).for_each(|_| send(&mut writer));
            writer.close();
            for reader in [pinning, copying, joining] {
                assert_eq!(reader.join().unwrap().finish(2).reader.lost(), 0);
            }
            assert_nothing_is_held(&ring);
        });
    }
}
