//! Readers of messages that are overwritten, or are not.

use super::*;

/// A pinned slot is not written, what is pinned is the message that was readable, and received +
/// lost = published.
#[test]
fn pin_against_reuse() {
    readers_against(SLOTS, 3, 3, &[true], 1);
    readers_against(SLOTS, 3, 2, &[true], 2);
}

/// A copy is a whole message or refused, and received + lost = published.
#[test]
fn copy_against_overwrite() {
    readers_against(SLOTS, 3, 3, &[false], 1);
}

/// A reader that is lapped counts exactly what it misses, pinning or copying.
#[test]
fn lapped_readers_count_their_losses() {
    readers_against(SLOTS, 4, 1, &[true], 2);
    readers_against(SLOTS, 4, 1, &[false], 1);
}

/// A pinning and a copying reader do not disturb each other, and lose nothing while nothing is
/// overwritten.
#[test]
fn two_readers() {
    readers_against(SLOTS + 1, 2, 3, &[true, false], 1);
}

/// As long as nothing is overwritten, nothing is lost.
#[test]
fn nothing_is_lost_without_lapping() {
    for pins in [&[true], &[false]] {
        readers_against(SLOTS + 1, SLOTS.into(), 3, pins, 2);
    }
}

/// One reader that never holds two samples never makes the writer fail, although it can be in the
/// way of each try of one pass.
#[test]
fn one_sample_at_a_time_leaves_a_slot() {
    model(4, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let mut reader = Checked::first(&ring, 0, true);
        send(&mut writer);
        let held = reader.hold().unwrap();
        // Nothing is claimed ahead now: the writer must look for a slot.
        send(&mut writer);
        let reader = live(reader, move |mut reader| {
            reader.release(&held);
            reader.look_times(1)
        });
        send(&mut writer);
        writer.close();
        reader.join().unwrap().finish(3);
        assert_nothing_is_held(&ring);
    });
}

/// Two readers that pin the same slot both keep it: the first to unpin does not release it.
#[test]
fn two_readers_pin_one_slot() {
    model(1, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let readers = [0, 1].map(|record| Checked::first(&ring, record, true));
        send(&mut writer);
        send(&mut writer);
        let readers = readers.map(|reader| live(reader, |reader| reader.look_times(1)));
        // The first goes to the slot that is claimed; the second wants the one that they pin.
        for _ in 0..2 {
            let _ = try_send(&mut writer);
        }
        writer.close();
        for reader in readers {
            reader.join().unwrap().finish(writer.published());
        }
        assert_nothing_is_held(&ring);
    });
}

/// The same with more preemptions: of two messages, the second of which is not finished.
#[test]
fn two_readers_pin_the_only_message() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let readers = [0, 1].map(|record| Checked::first(&ring, record, true));
        send(&mut writer);
        let readers = readers.map(|reader| live(reader, |reader| reader.look_times(1)));
        let _ = try_send(&mut writer);
        if let Ok(claim) = writer.claim() {
            fill(claim.memory(), claim.slot(), |index| word(2, index));
        }
        for reader in readers {
            reader.join().unwrap();
        }
        assert_nothing_is_held(&ring);
    });
}

/// A slot that two readers have pinned is not written until both have released it.
#[test]
fn the_second_of_two_readers_keeps_its_slot() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let readers = [0, 1].map(|record| Checked::first(&ring, record, true));
        send(&mut writer);
        let readers = readers.map(|mut reader| {
            let held = reader.hold().unwrap();
            live(reader, move |mut reader| {
                reader.release(&held);
                reader
            })
        });
        // The first goes to the slot that is claimed; the second wants the one that they pin.
        for _ in 0..2 {
            let _ = try_send(&mut writer);
        }
        writer.close();
        for reader in readers {
            reader.join().unwrap().finish(writer.published());
        }
        assert_nothing_is_held(&ring);
    });
}

/// An abandoned loan has no effect but the loss of the old message: its bytes are never received.
#[test]
fn abandoned_loan() {
    for pins in [true, false] {
        model(3, move || {
            let ring = Ring::new();
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let reader = Checked::first(&ring, 0, pins);
            send(&mut writer);
            send(&mut writer);
            let reader = live(reader, |reader| reader.look_times(2));
            abandon(&mut writer);
            send(&mut writer);
            writer.close();
            reader.join().unwrap().finish(3);
            assert_nothing_is_held(&ring);
        });
    }
}

/// The writer goes around a held slot, and readers lose nothing by it.
#[test]
fn messages_go_around_a_held_slot() {
    for pins in [true, false] {
        for (messages, preemptions) in [(1, 3), (2, 2)] {
            model(preemptions, move || {
                let ring = Ring::new();
                let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
                let mut holder = Checked::first(&ring, 1, true);
                let _holder_life = ring.lives[1].lock().unwrap();
                let reader = Checked::first(&ring, 0, pins);
                send(&mut writer);
                let held = holder.hold().unwrap();
                let reader = reader.look_times(1);
                send(&mut writer);
                let reader = live(reader.look_times(1), |reader| reader.look_times(1));
                for _ in 0..messages {
                    // The reader can hold the other slot.
                    assert!(try_send(&mut writer).is_ok() || pins && messages > 1);
                }
                writer.close();
                holder.release(&held);
                let reader = reader.join().unwrap().finish(writer.published());
                assert!(messages > 1 || reader.reader.lost() == 0);
            });
        }
    }
}
