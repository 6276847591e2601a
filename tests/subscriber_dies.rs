//! Subscribers are killed: their records and the slots that they held become free.

use conduit::registry::EventKind;
use conduit::{LoanError, OpenError, Publisher, Subscriber};

use crate::harness::{World, fill_pattern, sample, wait_for, wait_until};
use crate::protocol::Answer;
use crate::protocol::Order::*;

/// More than three times the 60 records of a region.
const KILLS: usize = 200;

#[test]
fn subscriber_killed_while_asleep_200_times() {
    let world = World::with_daemon();
    let _publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap();
    for _ in 0..KILLS {
        let subscriber = world.sleeper("scan");
        subscriber.kill();
    }
    wait_until("the list to forget them", || world.list()[0].subscribers.is_empty());
}

#[test]
fn subscriber_killed_while_holding_samples_200_times() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(4).create("scan").unwrap();
    for number in 0..KILLS {
        let mut subscriber = world.subscriber("scan");
        for _ in 0..3 {
            publisher.send(&[1; 100]).unwrap();
        }
        subscriber.order(Hold(3));
        assert_eq!(world.region("scan").counters().unwrap().subscribers[0].1.held, 3, "round {number}");
        subscriber.kill();
        // Without a daemon the publisher frees the slots of dead subscribers.
        for _ in 0..5 {
            publisher.send(&[2; 100]).unwrap();
        }
    }
}

/// With large slots, entering the memory into the page tables takes much of the opening.
const SIZES: [(usize, u64); 2] = [(1000, 200), (4 << 20, 40)];

#[test]
fn a_subscriber_that_is_listed_gets_the_next_message() {
    let world = World::new();
    for (capacity, rounds) in SIZES {
        let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(4).capacity(capacity);
        let mut publisher = publisher.create("scan").unwrap();
        for round in 0..rounds {
            let mut subscriber = world.peer();
            subscriber.tell(Subscribe("scan"));
            // The record of the subscriber that was killed before is still signed.
            wait_for("the subscriber to be listed", || publisher.subscribers().pop());
            let sequence = publisher.published();
            publisher.send(&pattern(sequence, 1000)).unwrap();
            subscriber.expect(Answer::Done);
            assert_eq!(subscriber.ask(RecvFor(1000)), sample(sequence), "round {round} with {capacity} bytes");
            subscriber.kill();
        }
    }
}

#[test]
fn a_subscriber_is_listed_under_its_own_pid() {
    let world = World::with_daemon();
    let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap();
    for _ in 0..50 {
        let mut subscriber = world.peer();
        subscriber.tell(Subscribe("scan"));
        let listed = wait_for("the subscriber to be listed", || publisher.subscribers().pop());
        assert_eq!(listed.pid, subscriber.pid());
        subscriber.expect(Answer::Done);
        subscriber.kill();
    }
}

#[test]
fn a_subscriber_that_was_dropped_is_not_listed_although_its_samples_are_held() {
    let world = World::new();
    let mut publisher = Publisher::<u64>::builder().domain(&world.domain()).create("scan").unwrap();
    let mut subscriber = Subscriber::<u64>::builder().domain(&world.domain()).open("scan").unwrap();
    publisher.send(&7).unwrap();
    let sample = subscriber.recv().unwrap();
    assert_eq!(publisher.subscribers().len(), 1);
    drop(subscriber);
    assert_eq!(publisher.subscribers().len(), 0);
    assert_eq!(*sample, 7);
}

fn pattern(sequence: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill_pattern(sequence, &mut bytes);
    bytes
}

#[test]
fn at_most_sixty_subscribers_can_attach() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<u64>::builder().domain(&domain).create("scan").unwrap();
    let open = || Subscriber::<u64>::builder().domain(&domain).open("scan");
    let mut all: Vec<_> = (0..60).map(|_| open().unwrap()).collect();
    assert!(matches!(open(), Err(OpenError::TooManySubscribers { limit: 60, .. })));
    publisher.send(&7).unwrap();
    for subscriber in &mut all {
        assert_eq!(*subscriber.try_recv().unwrap().unwrap(), 7);
    }
    all.pop();
    drop(open().unwrap());
}

#[test]
fn publishing_fails_while_all_slots_are_held_by_a_live_subscriber() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(2).create("scan").unwrap();
    let mut subscriber = world.subscriber("scan");
    // One at a time, because the publisher keeps one slot claimed until it publishes it.
    publisher.send(b"a").unwrap();
    subscriber.order(Hold(1));
    publisher.send(b"b").unwrap();
    subscriber.order(Hold(1));
    assert_eq!(publisher.send(b"c").unwrap_err(), LoanError::AllSlotsHeld { slots: 2 });
    assert_eq!(publisher.published(), 2, "nothing was lost");
    subscriber.kill();
    publisher.send(b"c").unwrap();
}

#[test]
fn a_subscribers_death_is_reported_and_others_continue() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut survivor = world.subscriber("scan");
    let victim = world.subscriber("scan");
    wait_until("both to be listed", || world.list()[0].subscribers.len() == 2);
    let mut events = world.client().watch().unwrap();
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Present);
    let pid = victim.pid();
    victim.kill();
    let event =
        wait_for("the event", || events.next().unwrap().ok().filter(|event| event.kind == EventKind::SubscriberDied));
    assert_eq!(event.process.unwrap().pid, pid);
    assert!(matches!(event.death.unwrap().signal, Some(9) | None));
    publisher.order(Send(3, 100));
    assert_eq!(survivor.ask(Recv), sample(0));
    let listed = world.list().remove(0).subscribers;
    assert_eq!(listed.iter().map(|subscriber| subscriber.pid).collect::<Vec<_>>(), [survivor.pid()]);
    assert_eq!((listed[0].received, listed[0].lost, listed[0].lag), (1, 0, 2));
}

#[test]
fn held_samples_stay_intact_while_lapped_a_million_times() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 4, 64);
    let mut reader = world.subscriber("scan");
    publisher.order(Send(3, 64));
    reader.order(Hold(3));
    // With a single free slot, every message laps the reader.
    publisher.tell(Send(1_000_000, 64));
    for _ in 0..50 {
        assert_eq!(reader.ask(HeldAreWhole), Answer::Flag(true));
    }
    publisher.expect(Answer::Done);
    assert_eq!(reader.ask(HeldAreWhole), Answer::Flag(true));
    reader.order(LetGo);
    publisher.order(Unpublish);
    let drained = reader.ask(Drain).drained();
    assert_eq!((drained.received + drained.lost, drained.torn), (1_000_003, 0), "{drained:?}");
}
