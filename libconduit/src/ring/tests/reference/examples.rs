//! Single cases, step by step.

use super::*;

#[test]
fn a_dead_holder_is_found_while_other_slots_are_free() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut dead = Reader::new(Arc::clone(&ring), Some(5), Start::Next);
    assert_eq!(publish(&mut writer), 0);
    dead.receive(&mut Pin { record: 5 }).unwrap();
    // The slot goes from entry to entry, and is met with every message from the fourth on.
    for _ in 0..3 + 63 {
        assert_ne!(publish(&mut writer), 0);
    }
    assert_ne!(ring.state(0).load(Relaxed) & READERS, 0);
    let slots: Vec<_> = (0..5).map(|_| publish(&mut writer)).collect();
    assert_eq!(ring.state(0).load(Relaxed) & READERS, 0);
    assert!(slots.contains(&0), "{slots:?}");
}

#[test]
fn a_dead_publisher_is_an_end_like_any_other() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(0), Start::Next);
    publish(&mut writer);
    // Known to the reader alone.
    assert!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(true)).unwrap().is_some());
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(true)), Err(Gone::Died));
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(false)), Ok(None));
    // Marked by a reaper, after which no reader sleeps.
    ring.consumers.wake.fetch_or(ORPHANED, Relaxed);
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(false)), Err(Gone::Died));
    reader.sleep(Duration::ZERO, None);
    assert_eq!(ring.sleeps.load(Relaxed), 0);
    // Both: a publisher that closed in time has closed.
    ring.consumers.wake.fetch_or(CLOSED, Relaxed);
    assert_eq!(reader.receive_or_end(&mut Pin { record: 0 }, || Some(false)), Err(Gone::Closed));
}

/// A reader that checks its entry alone, as a subscriber that polls without pause does, finds the
/// end.
#[test]
fn a_poller_finds_the_end() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut poller = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut lines: Vec<Line> = Vec::new();
    let mut poll = || poller.receive_or_end(&mut CopyTo(&mut lines), || None);
    publish(&mut writer);
    assert_eq!(poll().unwrap().map(|message| message.sequence), Some(0));
    assert_eq!(poll(), Ok(None));
    writer.close();
    assert_eq!(poll(), Err(Gone::Closed));
}

/// Held slots make room for fewer messages, and for no holes.
#[test]
fn messages_go_around_a_held_slot() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut holder = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
    ring.alive[1].store(true, Relaxed);
    publish(&mut writer);
    let held = holder.receive(&mut Pin { record: 1 }).unwrap();
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    for sequence in 1..20 {
        assert_ne!(publish(&mut writer), held.slot);
        let message = reader.receive(&mut Pin { record: 2 }).unwrap();
        assert_eq!((message.sequence, message.lost), (sequence, 0));
        unpin(&*ring, message.slot, 2);
    }
}

/// A writer that reuses hot slots alternates between as few as it can, and falls back to all of
/// them for a reader that is behind, which loses nothing.
#[test]
fn hot_slots_are_used_while_nobody_is_behind() {
    for (retain, used) in [(0, 1), (1, 2), (3, 4)] {
        let ring = Heap::new(8);
        let mut writer = Writer::new(Arc::clone(&ring), Reuse::Newest { retain });
        let mut reader = Reader::new(Arc::clone(&ring), Some(1), Start::Next);
        let mut lines: Vec<Line> = Vec::new();
        let mut slots = std::collections::BTreeSet::new();
        for _ in 0..100 {
            slots.insert(publish(&mut writer));
            reader.receive(&mut CopyTo(&mut lines)).unwrap();
        }
        assert_eq!(slots.len(), used, "retain {retain}");
        for behind in 1..8 {
            for _ in 0..behind {
                publish(&mut writer);
            }
            for _ in 0..behind {
                assert_eq!(reader.receive(&mut CopyTo(&mut lines)).unwrap().lost, 0, "{behind} behind");
            }
        }
        // Overtaken by the whole ring, a reader has nothing to lose, and slots are reused again.
        let all: Vec<_> = (0..32).map(|_| publish(&mut writer)).collect();
        assert_eq!(all[16..].iter().collect::<std::collections::BTreeSet<_>>().len(), used, "retain {retain}");
        let message = reader.receive(&mut CopyTo(&mut lines)).unwrap();
        assert_eq!(message.lost + u64::from(retain.max(1)), 32);
    }
}

/// A batch counts as the same number of single messages would, and is not larger than asked for.
#[test]
fn a_batch_counts_as_its_messages_do() {
    let ring = Heap::new(8);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    for _ in 0..10 {
        publish(&mut writer);
    }
    let mut seen = Vec::new();
    let mut batch = |reader: &mut Reader<Heap>, max| {
        seen.clear();
        while seen.len() < max
            && let Some(message) = reader.receive_next(&mut Pin { record: 2 })
        {
            seen.push((message.sequence, message.lost));
            unpin(&**reader.memory(), message.slot, 2);
        }
        reader.note_progress();
        seen.clone()
    };
    assert_eq!(batch(&mut reader, 2), [(3, 3), (4, 0)]);
    assert_eq!(ring.record(2).received.load(Relaxed), 2);
    assert_eq!(ring.record(2).lost.load(Relaxed), 3);
    assert_eq!(batch(&mut reader, 100), [(5, 0), (6, 0), (7, 0), (8, 0), (9, 0)]);
    assert_eq!(ring.record(2).received.load(Relaxed), 7);
    assert_eq!(batch(&mut reader, 100), []);
}

/// A reader that joins while a message is readable and head has not moved receives it, and counts
/// from there.
#[test]
fn a_reader_that_joins_before_head_moves_counts_from_its_first_message() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    publish(&mut writer);
    publish(&mut writer);
    ring.producer.head.store(1, Relaxed);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut receive = || {
        let message = reader.receive(&mut CopyTo(&mut Vec::<Line>::new())).unwrap();
        (message.sequence, message.lost)
    };
    assert_eq!(receive(), (1, 0));
    // A lap: sequences 2 to 4 are overwritten, and so counted as lost.
    for _ in 0..6 {
        publish(&mut writer);
    }
    assert_eq!(receive(), (5, 3));
}

/// The first of two threads that sleep for a reader leaves the other alone.
#[test]
fn a_thread_that_leaves_does_not_rouse_the_other() {
    let ring = Heap::new(2);
    let reader = Reader::new(Arc::clone(&ring), Some(3), Start::Next);
    let sleeper = reader.sleeper();
    for _ in 0..2 {
        sleeper.enter();
        sleeper.announce();
    }
    sleeper.leave();
    assert_eq!(ring.consumers.waiting.load(Relaxed), 1 << 3);
    sleeper.leave();
    assert_eq!(ring.consumers.waiting.load(Relaxed), 0);
    assert_eq!(ring.consumers.wake.load(Relaxed), 0);
}

/// A reader that was overtaken many times continues at the oldest message, and looks for no other.
#[test]
fn a_lapped_reader_skips_what_was_overwritten() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    (0..1000).for_each(|_| _ = publish(&mut writer));
    let looks = ring.looks.load(Relaxed);
    let message = reader.receive(&mut CopyTo(&mut Vec::<Line>::new())).unwrap();
    assert_eq!((message.sequence, message.lost), (997, 997));
    assert!(ring.looks.load(Relaxed) - looks < 10);
}

/// The record says at the end what was lost, the messages included that nothing follows.
#[test]
fn the_record_is_complete_at_the_end() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    publish(&mut writer);
    // Its message was taken for a claim that is never published.
    ring.entry(0).position.fetch_or(TAKEN, Relaxed);
    writer.close();
    assert_eq!(reader.receive_or_end(&mut Pin { record: 2 }, || Some(false)), Err(Gone::Closed));
    assert_eq!((reader.lost(), ring.record(2).lost.load(Relaxed)), (1, 1));
}

/// What was published before the end is received, though it came after the last look.
#[test]
fn the_last_message_comes_before_the_end() {
    let ring = Heap::new(2);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    let mut lines: Vec<Line> = Vec::new();
    let mut end_meanwhile = || {
        publish(&mut writer);
        writer.close();
        Some(false)
    };
    let received = reader.receive_or_end(&mut CopyTo(&mut lines), &mut end_meanwhile).unwrap();
    assert_eq!(received.map(|message| message.sequence), Some(0));
    assert_eq!(reader.receive_or_end(&mut CopyTo(&mut lines), || Some(false)), Err(Gone::Closed));
}

/// The newest message is readable before head moves.
#[test]
fn the_newest_message_may_be_beyond_head() {
    let ring = Heap::new(4);
    let mut writer = Writer::new(Arc::clone(&ring), Reuse::Oldest);
    let mut reader = Reader::new(Arc::clone(&ring), Some(2), Start::Next);
    (0..3).for_each(|_| _ = publish(&mut writer));
    ring.producer.head.store(1, Relaxed);
    let message = reader.receive(&mut Newest(CopyTo(&mut Vec::<Line>::new()))).unwrap();
    assert_eq!((message.sequence, message.lost, reader.skipped()), (2, 0, 2));
}
