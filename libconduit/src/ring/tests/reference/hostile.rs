//! What peers write that are hostile or out of their mind.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a peer writes, no reader or writer panics, reads beyond the slot or loops forever.
    #[test]
    fn any_words_are_tolerated(
        counters in prop::array::uniform4(word()),
        wake: u32,
        headers in prop::collection::vec(prop::array::uniform4(word()), 4),
        start in prop_oneof![Just(Start::Next), Just(Start::Latest), Just(Start::Oldest)],
        reuse in prop_oneof![Just(Reuse::Oldest), Just(Reuse::Newest { retain: 1 })],
        cursor_moves in 0..6usize,
        newest: bool,
    ) {
        let ring = Heap::new(4);
        let write = || {
            let [head, limit, waiting, cursor] = counters;
            ring.producer.head.store(head, Relaxed);
            ring.consumers.waiting.store(waiting, Relaxed);
            ring.consumers.wake.store(wake, Relaxed);
            ring.consumers.record_limit.store(limit as u32, Relaxed);
            ring.record(3).cursor.store(cursor, Relaxed);
            for (((entry, _), state), [word, position, slot, len]) in ring.slots.iter().zip(&ring.states).zip(&headers)
            {
                state.word.store(*word, Relaxed);
                entry.position.store(*position, Relaxed);
                entry.slot.store(*slot as u32, Relaxed);
                entry.len.store(*len, Relaxed);
            }
        };
        let mut early = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
        let mut writer = Writer::new(Arc::clone(&ring), reuse);
        write();
        let mut late = Reader::new(Arc::clone(&ring), Some(2), start);
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..cursor_moves {
            for (record, reader) in [(1, &mut early), (2, &mut late)] {
                let _ = reader.receive_or_end(&mut Pin { record }, || Some(false));
                let received = if newest {
                    reader.receive_or_end(&mut Newest(CopyTo(&mut lines)), || Some(false))
                } else {
                    reader.receive_or_end(&mut CopyTo(&mut lines), || Some(false))
                };
                match received {
                    Ok(Some(message)) => prop_assert!(message.len <= ring.capacity()),
                    // Nor does it report news forever.
                    Ok(None) => prop_assert!(!reader.sleep(Duration::ZERO, None)),
                    Err(_) => (),
                }
            }
            write();
            if let Ok(claim) = writer.claim() {
                claim.publish(8, || 0);
            }
        }
    }
}

/// Words that are nearly right, or at an end of the range, more often than not.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![0..8u64, Just(u64::MAX), Just(u64::MAX - 1), TAKEN - 6..TAKEN + 6, ENDED - 6..ENDED + 6, any::<u64>()]
}

#[test]
fn bits_of_no_reader_hold_nothing() {
    let ring = Heap::new(2);
    for state in &ring.states {
        state.word.store(0b1111 << PINNING_RECORDS, Relaxed);
    }
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    assert_eq!(writer.claim().unwrap().slot(), 0);
    assert!(ring.states.iter().all(|state| state.word.load(Relaxed) == 0));
}

#[test]
fn a_forged_entry_does_not_release_a_held_sample() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    ring.alive[0].store(true, Relaxed);
    for _ in 0..2 {
        publish(&mut writer);
        reader.receive(&mut Pin { record: 0 }).unwrap();
    }
    // As if the message of position 2 were in the slot that is held for position 0.
    ring.entry(2).position.store(3, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }), None);
    assert_eq!(ring.state(0).load(Relaxed), 1);
    assert!(writer.claim().is_err());
    // Nor is a slot looked for that does not exist.
    ring.entry(3).position.store(4, Relaxed);
    ring.entry(3).slot.store(2, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }), None);
}

#[test]
fn a_length_beyond_the_slot_is_cut() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    publish(&mut writer);
    ring.entry(0).len.store(u64::MAX, Relaxed);
    assert_eq!(reader.receive(&mut Pin { record: 0 }).unwrap().len, ring.capacity());
}
