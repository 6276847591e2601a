//! Slots that come round again: what a reader finds in one is the message that it looked for.

use super::*;

/// While a reader holds a slot, the writer takes the one beside it twice in a row, so that its turn
/// is as it was. Whoever looks for the old message there finds that the position has changed.
#[test]
fn a_slot_is_taken_twice_beside_a_held_one() {
    for pins in [true, false] {
        model(1, move || {
            let ring = Ring::new();
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let mut holder = Checked::first(&ring, 1, true);
            let _holder_life = ring.lives[1].lock().unwrap();
            let reader = Checked::first(&ring, 0, pins);
            send(&mut writer);
            let held = holder.hold().unwrap();
            send(&mut writer);
            // It looks for the message of position 1.
            let reader = live(reader.look_times(1), |reader| reader.look_times(1));
            // Positions 3 and 5, the latter never published.
            let _ = try_send(&mut writer);
            if writer.claim().is_ok() {
                abandon(&mut writer);
            }
            holder.release(&held);
            reader.join().unwrap();
        });
    }
}

/// Two readers and as many messages as slots, all of which the writer claims ahead.
#[test]
fn two_readers_while_every_slot_comes_round() {
    for kinds in [&[true, true], &[true, false]] {
        readers_against(SLOTS + 1, u64::from(SLOTS) + 1, 1, kinds, 1);
    }
}

/// Of a writer that reuses the newest slots, readers lose nothing either, unless they fall behind
/// by as many messages as there are slots.
#[test]
fn hot_slots_lose_nothing() {
    for reuse in [Reuse::Newest { retain: 1 }, Reuse::Newest { retain: 0 }] {
        for pins in [&[true], &[false]] {
            readers_against_reuse(reuse, SLOTS + 1, SLOTS.into(), 2, pins, 2);
            readers_against_reuse(reuse, SLOTS, 3, 2, pins, 1);
        }
    }
}

/// Lapped by a writer that reuses the newest slots, readers count exactly what they miss.
#[test]
fn lapped_readers_of_hot_slots_count_their_losses() {
    readers_against_reuse(Reuse::Newest { retain: 1 }, SLOTS, 4, 1, &[true], 1);
    readers_against_reuse(Reuse::Newest { retain: 0 }, SLOTS, 4, 1, &[false], 1);
}

/// A slot that is reused at once is not written before its last reader has copied or released it.
#[test]
fn hot_slots_wait_for_their_readers() {
    for pins in [true, false] {
        model(2, move || {
            let ring = Ring::of_safe_copies(SLOTS + 1);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Newest { retain: 0 });
            let reader = Checked::first(&ring, 0, pins);
            let reader = live(reader, |reader| reader.look_times(2));
            send(&mut writer);
            send(&mut writer);
            writer.close();
            let reader = reader.join().unwrap().finish(2);
            assert_eq!(reader.reader.lost(), 0);
        });
    }
}

/// Whoever joins a topic whose slots are reused at once misses nothing that is published later.
#[test]
fn late_join_of_a_hot_topic() {
    for start in [Start::Next, Start::Latest] {
        model(2, move || {
            let ring = Ring::with_slots(SLOTS + 1);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Newest { retain: 0 });
            let joiner = {
                let ring = Shared::clone(&ring);
                thread::spawn(move || Checked::new(&ring, 0, true, start).look_times(1))
            };
            for _ in 0..2 {
                send(&mut writer);
            }
            writer.close();
            let joiner = joiner.join().unwrap().finish(2);
            assert!(start != Start::Next || joiner.reader.lost() == 0);
        });
    }
}
