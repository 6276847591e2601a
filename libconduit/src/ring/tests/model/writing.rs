//! What the writer does in which order, and who would notice another.

use std::sync::atomic::Ordering::Acquire;

use super::*;
use crate::ring::writer::clear_record_bits;

/// A copying reader without a record, which the writer does not see.
fn unseen(ring: &Shared) -> Checked {
    let reader = Reader::new(Shared::clone(ring), None, Start::Next);
    Checked { reader, ring: Shared::clone(ring), record: 0, pins: false, next: Some(0), base: Some(0) }
}

/// A slot is not claimed behind the back of a reader that the writer does not see: its copy is
/// whole or refused.
#[test]
fn unseen_readers_of_a_hot_topic_copy_whole_messages() {
    for retain in [1, 0] {
        model(2, move || {
            let ring = Ring::with_slots(SLOTS + 1);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Newest { retain });
            let reader = live(unseen(&ring), |reader| reader.look_times(1));
            for _ in 0..3 {
                send(&mut writer);
            }
            writer.close();
            reader.join().unwrap().finish(3);
        });
    }
}

/// A message whose slot is held stays readable while the writer looks for another slot.
#[test]
fn a_held_message_is_readable_while_the_writer_looks_for_slots() {
    for pins in [true, false] {
        model(2, move || {
            let ring = Ring::with_slots(SLOTS + 1);
            let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
            let mut holder = Checked::first(&ring, 1, true);
            let _holder_life = ring.lives[1].lock().unwrap();
            let reader = Checked::first(&ring, 0, pins);
            for _ in 0..2 {
                send(&mut writer);
                holder.hold().unwrap();
            }
            let reader = reader.look_times(1);
            send(&mut writer);
            let reader = live(reader, |mut reader| assert_eq!(reader.look(), Ok(true), "the message of position 1"));
            // Two slots are held: it gets that of the newest message.
            assert!(writer.claim().is_ok());
            reader.join().unwrap();
        });
    }
}

/// Whoever finds messages counted finds their bytes counted.
#[test]
fn bytes_are_counted_before_messages() {
    model(3, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let observer = {
            let ring = Shared::clone(&ring);
            thread::spawn(move || {
                let messages = ring.producer().head.load(Acquire);
                assert!(ring.producer().bytes.load(Relaxed) >= messages * WORDS * 8);
            })
        };
        send(&mut writer);
        send(&mut writer);
        observer.join().unwrap();
    });
}

/// Whoever clears the bits of a dead reader passes on that it has read: the writer that finds them
/// cleared may overwrite the slot.
#[test]
fn cleared_bits_release_what_the_dead_one_read() {
    model(2, || {
        let ring = Ring::new();
        let mut writer = Writer::new(Shared::clone(&ring), Reuse::Oldest);
        let mut dead = Checked::first(&ring, 0, true);
        send(&mut writer);
        send(&mut writer);
        let next = live(Checked::first(&ring, 1, true), move |next| {
            dead.hold();
            clear_record_bits(&*next.ring, 0);
        });
        for _ in 0..2 {
            let _ = try_send(&mut writer);
        }
        next.join().unwrap();
    });
}
