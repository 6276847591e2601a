//! Leases that are lost with the daemon, or that began without one: clients take them again by themselves, and never wait.

use std::time::{Duration, Instant};

use conduit::registry::{EventKind, RegistryEvent};
use conduit::{Publisher, RecvError, Subscriber};
use nix::sys::signal::Signal;

use crate::harness::drained;
use crate::harness::{Events, Peer, World, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

/// A subscriber asleep on "scan".
fn sleeper(world: &World) -> Peer {
    let mut subscriber = world.peer();
    subscriber.order(Subscribe("scan"));
    subscriber.tell(Drain);
    world.wait_until_asleep("scan", 1);
    subscriber
}

/// Waits until the daemon has a lease of this subscriber: what the region says of him makes no such event.
fn wait_until_attached(events: &Events, pid: u32) -> RegistryEvent {
    events.find("the subscriber to attach", |event| {
        let is_his = event.process.as_ref().is_some_and(|process| process.pid == pid);
        is_his && matches!(event.kind, EventKind::Subscribed | EventKind::SubscriberPresent)
    })
}

#[test]
fn a_sleeping_subscriber_attaches_again_when_the_daemon_is_restarted() {
    let mut world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order(Publish("scan", 16, 100));
    let subscriber = sleeper(&world);
    for _ in 0..3 {
        world.kill_daemon();
        world.start_daemon();
        wait_until_attached(&world.watch(), subscriber.pid());
    }
    // And it is a lease: its end is told.
    let (events, pid) = (world.watch(), subscriber.pid());
    wait_until_attached(&events, pid);
    subscriber.kill();
    let died = events.find("his death", |event| event.kind == EventKind::SubscriberDied);
    assert_eq!(died.process.unwrap().pid, pid);
    // Kernels before 6.15 do not tell the signal.
    assert!(matches!(died.death.unwrap().signal, Some(9) | None));
}

#[test]
fn a_subscriber_that_began_without_a_daemon_attaches_when_there_is_one() {
    let mut world = World::new();
    let mut publisher = world.peer();
    publisher.order(Publish("scan", 16, 100));
    let subscriber = sleeper(&world);
    world.start_daemon();
    let events = world.watch();
    wait_until_attached(&events, subscriber.pid());
    publisher.order(Unpublish);
    subscriber.expect(drained(0, 0, End::Closed));
}

#[test]
fn a_subscriber_that_only_polls_attaches_too_and_leaves_cleanly() {
    let mut world = World::new();
    let _publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap();
    world.start_daemon();
    let mut client = world.client();
    let events = world.watch();
    events.find("the topic", |event| event.kind == EventKind::Present);
    wait_until("the subscriber to attach", || {
        assert!(subscriber.try_recv().unwrap().is_none());
        // The daemon takes calls in turns: what it was sent before this one it has heard.
        client.list().unwrap();
        events.so_far().iter().any(|event| event.kind == EventKind::Subscribed)
    });
    drop(subscriber);
    let end = events.find("its end", |event| event.process.is_some());
    assert_eq!(end.kind, EventKind::Unsubscribed);
}

#[test]
fn a_publisher_registers_again_when_it_wakes_somebody() {
    let mut world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order(Publish("scan", 16, 100));
    let _subscriber = sleeper(&world);
    // What the region says of him is from then, what the kernel says is from now.
    publisher.order(Rename("afterwards"));
    let named = |world: &World| world.list()[0].publisher.clone().unwrap();
    assert_ne!(named(&world).program, "afterwards");
    for _ in 0..3 {
        world.kill_daemon();
        world.start_daemon();
        assert_ne!(named(&world).program, "afterwards", "a daemon that was just started knows what the region says");
        wait_until("the publisher to register", || {
            publisher.order(Send(1, 10));
            named(&world).program == "afterwards"
        });
    }
    let (events, pid) = (world.watch(), publisher.pid());
    publisher.kill();
    let died = events.find("its death", |event| event.kind == EventKind::Died);
    let process = died.process.unwrap();
    assert_eq!((process.pid, process.program.as_str()), (pid, "afterwards"));
    assert!(matches!(died.death.unwrap().signal, Some(9) | None));
}

#[test]
fn the_death_of_an_adopted_publisher_is_told_in_full() {
    let mut world = World::new();
    let mut publisher = world.peer();
    publisher.order(Publish("scan", 16, 100));
    publisher.order(Send(3, 10));
    let mut sleeper = world.peer();
    sleeper.order(Subscribe("scan"));
    sleeper.tell(Recv);
    world.wait_until_asleep("scan", 1);
    world.start_daemon();
    let events = world.watch();
    publisher.kill();
    let died = events.find("its death", |event| event.kind == EventKind::Died);
    let death = died.death.unwrap();
    // Kernels before 6.15 do not tell how it ended.
    assert!(death.signal.is_none_or(|signal| signal == 9));
    assert_eq!(death.last_sequence, Some(2));
    assert!(death.last_message_age_ns.is_some());
    let subscribers: Vec<_> = death.subscribers.iter().map(|one| (one.pid, one.asleep)).collect();
    assert_eq!(subscribers, [(sleeper.pid(), true)]);
    sleeper.expect(Answer::Gone(End::Died));
    let log = world.log();
    assert!(log.contains("asleep=\"conduit-test") && log.contains("last_sequence=2"), "{log}");
}

#[test]
fn a_lease_taken_again_ends_cleanly_even_if_the_daemon_is_dead_again() {
    let mut world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order(Publish("scan", 16, 100));
    let mut subscriber = world.peer();
    subscriber.order(Subscribe("scan"));
    let attach = |world: &World, subscriber: &mut Peer| {
        let events = world.watch();
        // Half a second until it looks.
        for _ in 0..100 {
            assert_eq!(subscriber.ask(RecvFor(10)), Answer::Nothing);
        }
        wait_until_attached(&events, subscriber.pid());
    };
    world.kill_daemon();
    world.start_daemon();
    attach(&world, &mut subscriber);
    world.kill_daemon();
    subscriber.order(Unsubscribe);
    subscriber.order(Subscribe("scan"));
    world.start_daemon();
    attach(&world, &mut subscriber);
    world.kill_daemon();
    publisher.order(Unpublish);
    assert_eq!(subscriber.ask(Recv), Answer::Gone(End::Closed));
    subscriber.order(Unsubscribe);
}

#[test]
fn a_stopped_daemon_keeps_nobody_waiting_who_comes_back() {
    let mut world = World::new();
    let mut publisher = Publisher::<u64>::builder().domain(&world.domain()).create("scan").unwrap();
    let mut subscriber = Subscriber::<u64>::builder().domain(&world.domain()).open("scan").unwrap();
    let sleeper = {
        let mut peer = world.peer();
        peer.order(SubscribeAny("scan"));
        peer.tell(Drain);
        world.wait_until_asleep("scan", 1);
        peer
    };
    // Nobody has looked since: the daemon is there and stopped when they do.
    world.start_daemon();
    world.daemon().signal(Signal::SIGSTOP);
    let end = Instant::now() + Duration::from_millis(1500);
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        let started = Instant::now();
        publisher.send(&7).unwrap();
        assert_eq!(*subscriber.recv().unwrap(), 7);
        assert!(matches!(subscriber.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut { .. })));
        longest = longest.max(started.elapsed());
        // Until it has been woken and sleeps again.
        world.wait_until_asleep("scan", 1);
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let state = std::fs::read_to_string(format!("/proc/{}/stat", world.daemon().pid())).unwrap();
    assert!(state.contains(") T "), "the daemon is still stopped: {state}");
    world.daemon().signal(Signal::SIGCONT);
    // They had said what they had to, and need no further call.
    let events = world.watch();
    wait_until_attached(&events, std::process::id());
    drop(publisher);
    assert_eq!(sleeper.answer().drained().end, End::Closed);
}
