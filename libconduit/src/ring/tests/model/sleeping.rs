//! Sleepers: a message and the end wake them.

use super::*;

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
