//! Publishers that the kernel is dumping: they hold their locks and will never run again.

use conduit::registry::{EventKind, RegionState};
use conduit::{Publisher, ShmRegion};

use crate::harness::skip::{Lack, skip};
use crate::harness::{NOBODY, Peer, SlowFolder, World, need_root, sample, wait_for, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

macro_rules! slow_folder {
    () => {
        match SlowFolder::new() {
            Some(folder) => folder,
            None => skip!(Lack::CoreDumps, "a core dump that takes long"),
        }
    };
}

/// A topic whose publisher dumps core: its subscriber is told, and a restart takes over, while the
/// dump goes on.
/// Returns the new publisher.
fn told_and_restarted(world: &World, folder: &SlowFolder, publisher: Peer) -> Peer {
    let sleeper = world.sleeper("scan");
    let dump = folder.dump(publisher);
    sleeper.expect(Answer::Gone(End::Died));
    let mut successor = world.publisher("scan", 16, 1000);
    assert!(dump.is_in_progress(), "it was no different from any death");
    let again = world.sleeper("scan");
    successor.order(Send(1, 1000));
    again.expect(sample(0));
    dump.end();
    let again = world.sleeper("scan");
    successor.order(Send(1, 1000));
    again.expect(sample(1));
    successor
}

#[test]
fn a_publisher_that_dumps_core_is_dead_without_daemon() {
    let folder = slow_folder!();
    let world = World::new();
    drop(told_and_restarted(&world, &folder, world.publisher("scan", 16, 1000)));
}

#[test]
fn a_publisher_that_dumps_core_is_dead_with_daemon() {
    let folder = slow_folder!();
    let mut world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 1000);
    let mut events = world.client().watch().unwrap();
    let pid = publisher.pid();
    let mut successor = told_and_restarted(&world, &folder, publisher);
    assert_eq!(world.list()[0].state, RegionState::Live);
    assert_eq!(world.list()[0].publisher.as_ref().unwrap().pid, successor.pid());
    successor.order(Unpublish);
    // The end of the dump is no second death.
    let mut deaths = Vec::new();
    loop {
        let event = events.next().unwrap().unwrap();
        match event.kind {
            EventKind::Died => deaths.push(event.process.unwrap().pid),
            EventKind::Closed => break,
            kind => assert_ne!(kind, EventKind::Unlinked),
        }
    }
    assert_eq!(deaths, [pid]);
    assert!(world.daemon().is_running());
}

#[test]
fn a_publisher_whose_main_thread_has_ended_lives_until_it_dumps_core() {
    let folder = slow_folder!();
    for daemon in [true, false] {
        let mut world = World::new();
        if daemon {
            world.start_daemon();
        }
        let mut publisher = world.publisher("scan", 16, 1000);
        publisher.order(EndMainThread);
        let zombie = || std::fs::read_to_string(format!("/proc/{}/stat", publisher.pid())).unwrap().contains(") Z ");
        wait_until("the main thread to end", zombie);
        let sleeper = world.sleeper("scan");
        let error = Publisher::<u64>::builder().domain(&world.domain()).create("scan").unwrap_err();
        assert!(error.to_string().contains("is already published by pid"), "{error}");
        assert!(!error.to_string().contains("exiting"), "{error}");
        publisher.order(Send(1, 1000));
        sleeper.expect(sample(0));
        drop(told_and_restarted(&world, &folder, publisher));
    }
}

#[test]
fn a_raw_region_whose_creator_dumps_core_is_taken_over() {
    let folder = slow_folder!();
    let world = World::new();
    let mut creator = world.peer();
    creator.order(CreateRegion("scan", 4096));
    let dump = folder.dump(creator);
    drop(ShmRegion::builder().domain(&world.domain()).create("scan", 64).unwrap());
    assert!(dump.is_in_progress());
}

#[test]
fn tools_know_that_a_publisher_dumps_core() {
    let folder = slow_folder!();
    let world = World::new();
    let dump = folder.dump(world.publisher("scan", 16, 1000));
    assert_eq!(world.region("scan").describe().state, RegionState::Orphaned);
    let error = conduit::Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap_err();
    assert!(matches!(error, conduit::OpenError::Orphaned { .. }), "{error}");
    let removed = world.conduit(&["gc"]).output().unwrap();
    assert!(String::from_utf8_lossy(&removed.stdout).contains("removed"), "{removed:?}");
    assert!(!world.exists("scan") && dump.is_in_progress());
}

#[test]
fn a_subscriber_that_dumps_core_is_not_counted() {
    let folder = slow_folder!();
    let world = World::with_daemon();
    let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap();
    let subscriber = world.subscriber("scan");
    assert_eq!(publisher.subscribers().len(), 1);
    let mut events = world.client().watch().unwrap();
    let dump = folder.dump(subscriber);
    assert_eq!(publisher.subscribers().len(), 0);
    assert_eq!(world.region("scan").describe().subscribers, []);
    wait_for("the event", || events.next().unwrap().ok().filter(|event| event.kind == EventKind::SubscriberDied));
    assert_eq!(world.list()[0].subscribers, []);
    assert!(dump.is_in_progress());
}

#[test]
fn who_may_not_know_is_told_by_the_daemon() {
    need_root!("a subscriber of another user");
    let folder = slow_folder!();
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 1000);
    let mut reader = world.peer_of(NOBODY);
    reader.order(Subscribe("scan"));
    let dump = folder.dump(publisher);
    assert_eq!(reader.ask(Recv), Answer::Gone(End::Died));
    assert!(dump.is_in_progress());
}

#[test]
fn who_may_not_take_over_is_told_why() {
    need_root!("a publisher of another user");
    let folder = slow_folder!();
    let world = World::new();
    let dump = folder.dump(world.publisher("scan", 16, 1000));
    let answer = world.peer_of(NOBODY).ask(Publish("scan", 16, 1000));
    let expected = format!("pid {} (conduit-test-pe) of uid 0, which is dumping core", dump.pid());
    assert!(answer.failure().contains(&expected), "{answer:?}");
    dump.end();
    let answer = world.peer_of(NOBODY).ask(Publish("scan", 16, 1000));
    assert!(answer.failure().contains("is an orphan"), "{answer:?}");
}

#[test]
fn a_daemon_that_hears_of_no_core_dumps_looks_when_it_is_asked() {
    need_root!("a publisher of another user");
    let folder = slow_folder!();
    let mut world = World::new();
    world.start_daemon_without_network();
    wait_until("the daemon to say so", || world.log().contains("does not report core dumps here"));
    let dump = folder.dump(world.publisher("scan", 16, 1000));
    // It may neither read the list of mappings nor remove the name.
    let mut successor = world.peer_of(NOBODY);
    successor.order(Publish("scan", 16, 1000));
    assert!(dump.is_in_progress());
}
