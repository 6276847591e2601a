//! Slots that come round again: what a reader finds in one is the message that it looked for.

use super::*;

/// While a reader holds a slot, the writer takes the one beside it twice in a row, so that its turn
/// is as it was. Whoever looks for the old message there finds that the position has changed.
#[test]
fn a_slot_is_taken_twice_beside_a_held_one() {
    for pins in [true, false] {
        model(1, move || {
            let ring = Ring::new();
            let mut writer = Writer::new(Shared::clone(&ring));
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
        readers_against(SLOTS + 1, SLOTS + 1, 1, kinds, 1);
    }
}
