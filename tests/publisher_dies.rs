//! Publishers are killed: subscribers are notified, the name becomes free, and nothing is left
//! behind.

use conduit::registry::{EventKind, RegionState};

use crate::harness::{Peer, World, drained, sample, wait_for, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

/// Two subscribers asleep in `recv`.
fn sleepers(world: &World, topic: &str) -> [Peer; 2] {
    let sleepers = [(); 2].map(|()| {
        let mut peer = world.subscriber(topic);
        peer.tell(Recv);
        peer
    });
    world.wait_until_asleep(topic, 2);
    sleepers
}

#[test]
fn publisher_killed_while_subscribers_sleep_with_daemon() {
    let world = World::with_daemon();
    let mut events = world.client().watch().unwrap();
    let mut publisher = world.publisher("scan", 16, 1000);
    publisher.order(Send(5, 1000));
    let sleepers = sleepers(&world, "scan");
    let pid = publisher.pid();
    publisher.kill();
    for sleeper in &sleepers {
        sleeper.expect(Answer::Gone(End::Died));
    }
    world.wait_until_gone("scan");
    let died = events.find(|event| event.as_ref().unwrap().kind == EventKind::Died).unwrap().unwrap();
    assert_eq!((died.topic.as_str(), died.process.unwrap().pid), ("scan", pid));
    let death = died.death.unwrap();
    // Kernels before 6.15 do not report the signal.
    assert!(matches!(death.signal, Some(9) | None));
    assert_eq!(death.last_sequence, Some(4));
    assert!(death.last_message_age_ns.is_some());
    let mut subscribers: Vec<u32> = death.subscribers.iter().map(|subscriber| subscriber.pid).collect();
    subscribers.sort_unstable();
    let mut expected = sleepers.each_ref().map(Peer::pid);
    expected.sort_unstable();
    assert_eq!(subscribers, expected);
    world.wait_until_empty();
}

#[test]
fn publisher_killed_while_subscribers_sleep_without_daemon() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 1000);
    let sleepers = sleepers(&world, "scan");
    publisher.kill();
    for sleeper in &sleepers {
        sleeper.expect(Answer::Gone(End::Died));
    }
}

#[test]
fn publisher_killed_while_idle() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 1000);
    wait_until("the topic to be listed", || world.list().len() == 1);
    publisher.kill();
    world.wait_until_gone("scan");
    wait_until("the list to be empty", || world.list().is_empty());
    world.wait_until_empty();
}

#[test]
fn publisher_killed_while_writing() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 4, 1000);
    let mut subscriber = world.subscriber("scan");
    publisher.order(Send(2, 1000));
    publisher.order(Loan(1000));
    publisher.kill();
    // Published messages stay readable; a half-written one never appears.
    assert_eq!(subscriber.ask(Drain), drained(2, 0, End::Died));
    world.wait_until_gone("scan");
    let _successor = world.publisher("scan", 4, 1000);
}

#[test]
fn closing_and_dying_are_distinguished() {
    let world = World::with_daemon();
    let mut events = world.client().watch().unwrap();
    let mut publisher = world.publisher("scan", 16, 1000);
    let sleepers = sleepers(&world, "scan");
    publisher.order(Unpublish);
    for sleeper in &sleepers {
        sleeper.expect(Answer::Gone(End::Closed));
    }
    assert!(!world.exists("scan"), "the publisher itself removes the name");
    let kinds = [EventKind::Published, EventKind::Subscribed, EventKind::Subscribed, EventKind::Closed];
    for kind in kinds {
        assert_eq!(events.next().unwrap().unwrap().kind, kind);
    }
    drop(publisher);
    world.wait_until_empty();
}

#[test]
fn losses_are_complete_when_the_publisher_closes() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 4, 100);
    let mut subscriber = world.subscriber("scan");
    publisher.order(Send(10, 100));
    publisher.order(Unpublish);
    assert_eq!(subscriber.ask(Drain), drained(3, 7, End::Closed));
}

#[test]
fn a_crashed_publisher_restarts_at_once_with_daemon() {
    restart(&World::with_daemon());
}

#[test]
fn a_crashed_publisher_restarts_at_once_without_daemon() {
    restart(&World::new());
}

fn restart(world: &World) {
    for round in 0..20 {
        let mut publisher = world.publisher("scan", 16, 1000);
        publisher.order(Send(3, 1000));
        let mut subscriber = world.peer();
        subscriber.order(SubscribeOldest("scan"));
        assert_eq!(subscriber.ask(Recv), sample(0), "round {round}");
        publisher.kill();
        subscriber.kill();
    }
}

#[test]
fn old_subscribers_of_a_topic_that_was_taken_over_are_woken_without_daemon() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 1000);
    let sleepers = sleepers(&world, "scan");
    publisher.kill();
    let mut successor = world.publisher("scan", 16, 1000);
    for sleeper in &sleepers {
        sleeper.expect(Answer::Gone(End::Died));
    }
    let again = world.sleeper("scan");
    successor.order(Send(1, 1000));
    again.expect(sample(0));
}

#[test]
fn aborting_and_exiting_count_as_dying() {
    let world = World::with_daemon();
    for (how, signal, code) in [(Abort, Some(6), None), (Exit, None, Some(0))] {
        let mut events = world.client().watch().unwrap();
        let mut publisher = world.publisher("scan", 16, 1000);
        let what = format!("{how:?}");
        publisher.tell(how);
        let died = wait_for("the event", || events.next().unwrap().ok().filter(|event| event.kind == EventKind::Died));
        drop(publisher);
        let death = died.death.unwrap();
        let is_told = death.signal.is_some() || death.exit_code.is_some();
        assert!(!is_told || (death.signal, death.exit_code) == (signal, code), "{what}: {death:?}");
        assert!(world.list().iter().all(|topic| topic.state != RegionState::Live));
    }
}

#[test]
fn a_stopped_publisher_is_not_dead() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 1000);
    publisher.signal(nix::sys::signal::Signal::SIGSTOP);
    let subscriber = world.sleeper("scan");
    // Two of the intervals at which a sleeping subscriber probes the owner lock.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(world.list()[0].state, RegionState::Live);
    publisher.signal(nix::sys::signal::Signal::SIGCONT);
    publisher.order(Send(1, 10));
    subscriber.expect(sample(0));
}

#[test]
fn a_forked_child_inherits_nothing_of_a_publisher() {
    for daemon in [true, false] {
        let mut world = World::new();
        if daemon {
            world.start_daemon();
        }
        let mut publisher = world.publisher("scan", 16, 1000);
        let sleepers = sleepers(&world, "scan");
        // The child inherits the handle, drops it, and keeps the lease's socket open.
        publisher.order(Fork);
        publisher.order(Send(0, 0));
        assert!(world.exists("scan"));
        publisher.kill();
        for sleeper in &sleepers {
            sleeper.expect(Answer::Gone(End::Died));
        }
        let _successor = world.publisher("scan", 16, 1000);
    }
}

#[test]
fn an_ended_topic_cannot_be_opened_again() {
    use conduit::{OpenError, Subscriber};
    let world = World::new();
    for (mark, is_expected) in [
        (2_u32, (|error| matches!(error, OpenError::Orphaned { .. })) as fn(&OpenError) -> bool),
        (1, |error| matches!(error, OpenError::NotFound { .. })),
    ] {
        let publisher = world.publisher("scan", 16, 100);
        // The mark that a reaper or the publisher sets just before it removes the name.
        let file = std::fs::File::options().write(true).open(world.path_of("scan")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &mark.to_ne_bytes(), 136).unwrap();
        let error = Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap_err();
        assert!(is_expected(&error), "{error}");
        publisher.kill();
    }
}
