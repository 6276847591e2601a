//! What the writer does besides messages: waking, counting, and freeing what the dead hold.

use super::*;
use crate::ring::layout::{ONE_WAKE, UNLINKED};
use crate::ring::memory::SHARED_WAITING_BIT;
use crate::ring::writer::{Intervention, clear_record_bits};

/// Who has announced itself is woken by the next message, and by no other.
#[test]
fn a_message_wakes_those_who_announced_themselves_once() {
    for reuse in [Reuse::Oldest, Reuse::Newest { retain: 0 }, Reuse::Newest { retain: 1 }] {
        let ring = Heap::new(4);
        let mut writer = Writer::new(Arc::clone(&ring), reuse);
        publish(&mut writer);
        assert!(!writer.take_woken());
        ring.consumers.waiting.store(0b101, Relaxed);
        for _ in 0..2 {
            publish(&mut writer);
            assert_eq!(ring.consumers.waiting.load(Relaxed), 0);
            assert_eq!(ring.consumers.wake.load(Relaxed), ONE_WAKE);
            assert_eq!(ring.wakes.load(Relaxed), 1);
        }
        assert!(writer.take_woken());
        assert!(!writer.take_woken());
    }
}

#[test]
fn the_end_wakes_everybody() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    publish(&mut writer);
    writer.close();
    assert_eq!(ring.consumers.wake.load(Relaxed), CLOSED);
    assert_eq!(ring.wakes.load(Relaxed), 1);
    assert_eq!(ring.entry(1).position.load(Relaxed), ENDED);
}

#[test]
fn the_first_message_opens_the_window_of_the_rate() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    writer.claim().unwrap().publish(8, || 2_000_000_000);
    writer.claim().unwrap().publish(8, || 2_000_000_001);
    let producer = &ring.producer;
    assert_eq!(producer.window_stamp_ns.load(Relaxed), 2_000_000_000);
    assert_eq!(producer.window_published.load(Relaxed), 1);
    assert_eq!(producer.window_bytes.load(Relaxed), 8);
}

#[test]
fn the_writer_learns_what_others_did_to_its_topic() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    ring.consumers.wake.store(7 * ONE_WAKE, Relaxed);
    assert_eq!(writer.intervention(), None);
    writer.note_unlinked();
    assert_eq!(ring.consumers.wake.load(Relaxed), (7 * ONE_WAKE) | UNLINKED);
    assert_eq!(writer.intervention(), Some(Intervention::Unlinked));
    for end in [CLOSED, ORPHANED, CLOSED | UNLINKED] {
        ring.consumers.wake.store(end, Relaxed);
        assert_eq!(writer.intervention(), Some(Intervention::Ended));
    }
}

/// Two passes over the slots, and one look at everybody between them.
#[test]
fn a_claim_in_vain_probes_each_holder_three_times_at_most() {
    let ring = Heap::new(256);
    ring.alive[5].store(true, Relaxed);
    for state in &ring.states {
        state.word.store(1 << 5, Relaxed);
    }
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    assert!(writer.claim().is_err());
    assert_eq!(ring.probes.load(Relaxed), 3);
}

#[test]
fn a_holder_without_a_record_is_left_alone() {
    let ring = Heap::with_records(2, 3);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    publish(&mut writer);
    for state in &ring.states {
        state.word.store(1 << 5, Relaxed);
    }
    // Claimed before the bits were there.
    publish(&mut writer);
    assert!(writer.claim().is_err());
    assert!(ring.states.iter().all(|state| state.word.load(Relaxed) == 1 << 5));
}

#[test]
fn records_without_a_bit_clear_nobodys_bits() {
    let ring = Heap::with_records(2, 80);
    ring.consumers.waiting.store(1 << SHARED_WAITING_BIT | 1 << 62, Relaxed);
    ring.state(1).store(u64::MAX, Relaxed);
    clear_record_bits(&*ring, PINNING_RECORDS);
    clear_record_bits(&*ring, 79);
    assert_eq!(ring.consumers.waiting.load(Relaxed), 1 << SHARED_WAITING_BIT | 1 << 62);
    assert_eq!(ring.state(1).load(Relaxed), u64::MAX);
    // It has a bit among the sleepers alone.
    clear_record_bits(&*ring, 62);
    assert_eq!(ring.consumers.waiting.load(Relaxed), 1 << SHARED_WAITING_BIT);
    assert_eq!(ring.state(1).load(Relaxed), u64::MAX);
}
