//! Leases that were lost with the daemon, or never existed because no daemon ran: clients register
//! again by themselves and never block on it.

use std::time::{Duration, Instant};

use conduit::registry::{EventKind, RegistryEvent};
use conduit::{Publisher, RecvError, Subscriber};
use nix::sys::signal::Signal;

use crate::harness::{Events, Peer, World, drained, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

/// A subscriber asleep on "scan".
fn sleeper(world: &World) -> Peer {
    let mut subscriber = world.subscriber("scan");
    subscriber.tell(Drain);
    world.wait_until_asleep("scan", 1);
    subscriber
}

/// Waits until the daemon holds a lease for this subscriber; subscribers known from the region
/// alone cause no such event.
fn wait_until_attached(events: &Events, pid: u32) -> RegistryEvent {
    events.find("the subscriber to attach", |event| is_attachment(event, pid))
}

fn is_attachment(event: &RegistryEvent, pid: u32) -> bool {
    let is_its = event.process.as_ref().is_some_and(|process| process.pid == pid);
    is_its && matches!(event.kind, EventKind::Subscribed | EventKind::SubscriberPresent)
}

#[test]
fn a_sleeping_subscriber_attaches_again_when_the_daemon_is_restarted() {
    let mut world = World::with_daemon();
    let _publisher = world.publisher("scan", 16, 100);
    let subscriber = sleeper(&world);
    for _ in 0..3 {
        world.kill_daemon();
        world.start_daemon();
        wait_until_attached(&world.watch(), subscriber.pid());
    }
    // It is a lease: its end is reported.
    let (events, pid) = (world.watch(), subscriber.pid());
    wait_until_attached(&events, pid);
    subscriber.kill();
    let died = events.find("the subscriber's death", |event| event.kind == EventKind::SubscriberDied);
    assert_eq!(died.process.unwrap().pid, pid);
    // Kernels before 6.15 do not report the signal.
    assert!(matches!(died.death.unwrap().signal, Some(9) | None));
}

#[test]
fn a_subscriber_started_without_a_daemon_attaches_later() {
    let mut world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    let subscriber = sleeper(&world);
    world.start_daemon();
    let events = world.watch();
    wait_until_attached(&events, subscriber.pid());
    publisher.order(Unpublish);
    subscriber.expect(drained(0, 0, End::Closed));
}

#[test]
fn a_polling_subscriber_attaches_and_detaches_cleanly() {
    let mut world = World::new();
    let _publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap();
    world.start_daemon();
    let mut client = world.client();
    let events = world.watch();
    events.find("the topic", |event| event.kind == EventKind::Present);
    wait_until("the subscriber to attach", || {
        assert!(subscriber.try_recv().unwrap().is_none());
        // The daemon serves calls in order: after this reply it has processed everything sent
        // before.
        client.list().unwrap();
        events.so_far().iter().any(|event| event.kind == EventKind::Subscribed)
    });
    drop(subscriber);
    let end = events.find("its end", |event| event.process.is_some());
    assert_eq!(end.kind, EventKind::Unsubscribed);
}

#[test]
fn a_publisher_registers_again_when_it_wakes_a_subscriber() {
    let mut world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let _subscriber = sleeper(&world);
    // The region records the process name at creation, the kernel reports the current one.
    publisher.order(Rename("afterwards".into()));
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
fn the_certificate_of_an_adopted_publisher_is_complete() {
    let mut world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    publisher.order(Send(3, 10));
    let sleeper = world.sleeper("scan");
    world.start_daemon();
    let events = world.watch();
    publisher.kill();
    let died = events.find("its death", |event| event.kind == EventKind::Died);
    let death = died.death.unwrap();
    // Kernels before 6.15 do not report how the process ended.
    assert!(death.signal.is_none_or(|signal| signal == 9));
    assert_eq!(death.last_sequence, Some(2));
    assert!(death.last_message_age_ns.is_some());
    let subscribers: Vec<_> = death.subscribers.iter().map(|one| (one.pid, one.asleep)).collect();
    assert_eq!(subscribers, [(sleeper.pid(), true)]);
    sleeper.expect(Answer::Gone(End::Died));
    world.wait_until_logged("asleep=\"conduit-test");
    world.wait_until_logged("last_sequence=2");
}

#[test]
fn a_renewed_lease_ends_cleanly_without_a_daemon() {
    let mut world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut subscriber = world.subscriber("scan");
    let attach = |world: &World, subscriber: &mut Peer| {
        let events = world.watch();
        let pid = subscriber.pid();
        // It checks its lease twice a second while it receives.
        wait_until("the subscriber to attach", || {
            assert_eq!(subscriber.ask(RecvFor(10)), Answer::Nothing);
            events.so_far().iter().any(|event| is_attachment(event, pid))
        });
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
fn a_stopped_daemon_does_not_delay_clients_that_register_again() {
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
    // Neither client has checked for a daemon since: when they do, it exists and is stopped.
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
        // Until it has woken and sleeps again.
        world.wait_until_asleep("scan", 1);
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let state = std::fs::read_to_string(format!("/proc/{}/stat", world.daemon().pid())).unwrap();
    assert!(state.contains(") T "), "the daemon is still stopped: {state}");
    world.daemon().signal(Signal::SIGCONT);
    // The clients had already sent their registrations and make no further call.
    let events = world.watch();
    wait_until_attached(&events, std::process::id());
    drop(publisher);
    assert_eq!(sleeper.answer().drained().end, End::Closed);
}
