//! Publishers and subscribers in programs that fork, close descriptors they did not open, and meet
//! a registry that does not answer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use conduit::registry::{EventKind, Liveness};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Peer, World, stderr_of, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End, ForkBy, Way};

/// What the descriptors of a process refer to, apart from the standard ones.
fn opened_by(pid: u64) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = entries.map(|entry| entry.unwrap()).filter(|entry| {
        entry.file_name().to_str().is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 2))
    });
    let mut opened: Vec<_> = numbers.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    opened.sort();
    opened
}

/// A peer with a topic, a subscription, a raw region, and leases of all three.
fn busy(world: &World) -> (Peer, Vec<PathBuf>) {
    let mut peer = world.peer();
    let before = opened_by(peer.pid().into());
    peer.order(Publish("scan", 16, 1000));
    peer.order(Subscribe("scan"));
    peer.order(CreateRegion("map", 4096));
    assert!(opened_by(peer.pid().into()).len() > before.len());
    (peer, before)
}

#[test]
fn a_child_that_executes_nothing_keeps_no_descriptor_of_the_library() {
    let world = World::with_daemon();
    let (mut peer, before) = busy(&world);
    let child = peer.ask(ForkIdle(ForkBy::Fork)).number();
    // No region, whose memory it would keep, and no connection.
    wait_until("the child to have closed all of it", || opened_by(child) == before);
    peer.order(Send(3, 100));
    peer.order(Unpublish);
    kill(Pid::from_raw(child.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_child_that_no_handler_told_does_not_keep_a_topic_alive() {
    let world = World::with_daemon();
    let mut peer = world.publisher("scan", 16, 100);
    let sleeper = world.sleeper("scan");
    let child = peer.ask(ForkIdle(ForkBy::Clone)).number();
    // It has the descriptors, without the locks.
    assert!(opened_by(child).iter().any(|path| path.starts_with(world.path())));
    peer.kill();
    sleeper.expect(Answer::Gone(End::Died));
    world.wait_until_gone("scan");
    kill(Pid::from_raw(child.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn descriptors_closed_behind_the_librarys_back_are_not_closed_again() {
    for daemon in [true, false] {
        let mut world = World::new();
        if daemon {
            world.start_daemon();
        }
        world.peer().order(UseAllAfterCloseFrom("scan"));
        // Each handle did what it does on its end: only the raw region stays.
        let left: Vec<_> = world.leftovers().into_iter().map(|entry| format!("{entry:?}")).collect();
        assert!(left.len() == 1 && left[0].contains("scan/raw"), "{left:?}");
    }
}

#[test]
fn a_subscriber_that_lost_its_descriptor_notices_the_death_of_its_publisher() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 1000);
    let mut subscriber = world.subscriber("scan");
    subscriber.order(CloseFrom);
    subscriber.tell(Recv);
    world.wait_until_asleep("scan", 1);
    publisher.kill();
    subscriber.expect(Answer::Gone(End::Died));
    subscriber.order(Unsubscribe);
    subscriber.order(OwnFilesAreIntact);
}

#[test]
fn a_subscriber_that_lost_its_descriptor_does_not_wait_for_a_topic_without_a_name() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 1000);
    let mut subscriber = world.subscriber("scan");
    subscriber.order(CloseFrom);
    std::fs::remove_file(world.path_of("scan")).unwrap();
    publisher.kill();
    assert_eq!(subscriber.ask(Recv), Answer::Gone(End::Died));
    subscriber.order(OwnFilesAreIntact);
}

#[test]
fn a_publisher_that_lost_its_descriptor_frees_the_slots_of_dead_subscribers() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 2, 100);
    let mut subscriber = world.subscriber("scan");
    publisher.order(Send(1, 10));
    subscriber.order(Hold(1));
    publisher.order(CloseFrom);
    subscriber.kill();
    publisher.order(Send(10, 10));
    publisher.order(Unpublish);
    publisher.order(OwnFilesAreIntact);
    assert_eq!(world.leftovers(), []);
}

#[test]
fn a_silent_daemon_costs_a_process_one_short_wait() {
    let mut world = World::with_daemon();
    let mut peer = world.publisher("scan", 16, 100);
    world.daemon().signal(Signal::SIGSTOP);
    let started = Instant::now();
    // Each registers, attaches or releases: 5 s for each would be minutes, 100 ms for each 15 s.
    // They are fewer than the connections that may wait to be accepted.
    peer.order(Churn("other", 50));
    for _ in 0..50 {
        peer.order(Subscribe("scan"));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // What it holds comes under lease when the daemon goes on.
    world.daemon().signal(Signal::SIGCONT);
    let (events, pid) = (world.watch(), peer.pid());
    events.find("the subscriber to attach", |event| {
        let is_its = event.process.as_ref().is_some_and(|process| process.pid == pid);
        is_its && matches!(event.kind, EventKind::Subscribed | EventKind::SubscriberPresent)
    });
    // And it asks again.
    wait_until("a lease", || {
        peer.order(Unpublish);
        peer.order(Publish("scan", 16, 100));
        world.list()[0].liveness == Some(Liveness::Lease)
    });
}

#[test]
fn closing_does_not_wait_for_a_silent_daemon() {
    let mut world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut fleet = world.peer();
    fleet.order(SubscribeFleet(vec!["scan"; 40]));
    world.daemon().signal(Signal::SIGSTOP);
    let started = Instant::now();
    publisher.order(Unpublish);
    fleet.order(UnsubscribeFleet);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    world.daemon().signal(Signal::SIGCONT);
    wait_until("the daemon to have noticed", || {
        world.list().is_empty() && world.client().status().unwrap().clients == 1
    });
}

#[test]
fn the_command_reads_the_directory_if_the_daemon_is_silent() {
    let mut world = World::with_daemon();
    let _publisher = world.publisher("scan", 16, 100);
    world.daemon().signal(Signal::SIGSTOP);
    for arguments in [&["list"][..], &["info", "scan"], &["type", "scan"], &["deaths"]] {
        let started = Instant::now();
        let output = world.conduit(arguments).stdin(std::process::Stdio::null()).output().unwrap();
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(complaint.contains("the registry does not answer: no reply within"), "{arguments:?}: {complaint}");
        let reads_directory = arguments[0] != "deaths";
        assert_eq!(output.status.success(), reads_directory, "{arguments:?}: {complaint}");
        assert!(!reads_directory || said.contains("scan") || arguments[0] == "type", "{arguments:?}: {said}");
        // A second; five on a busy machine.
        assert!(started.elapsed() < Duration::from_secs(8), "{arguments:?}: {:?}", started.elapsed());
    }
    world.daemon().signal(Signal::SIGCONT);
}

#[test]
fn what_only_a_silent_daemon_can_do_names_the_remedy() {
    let mut world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    world.daemon().signal(Signal::SIGSTOP);
    publisher.kill();
    for arguments in [&["rm", "scan"][..], &["gc"], &["deaths"]] {
        let complaint = stderr_of(&mut world.conduit(arguments), 1);
        assert!(complaint.ends_with("is conduitd stopped? `conduit doctor` names the remedy\n"), "{complaint}");
    }
    world.daemon().signal(Signal::SIGCONT);
    world.wait_until_gone("scan");
}

#[test]
fn limits_of_threads_and_descriptors_are_sentences() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    let mut peer = world.subscriber("scan");
    // Then a wait set needs threads, too.
    peer.order(DenyWaitv);
    peer.order(DenyThreads);
    for way in [Way::Descriptor, Way::Future, Way::Set] {
        let answer = peer.ask(WaitBy(way));
        let sentence = answer.failure();
        assert!(sentence.contains("cannot start a thread") && sentence.contains("ulimit -u"), "{way:?}: {answer:?}");
        peer.order(Subscribe("scan"));
    }
    let mut peer = world.peer();
    peer.order(LimitDescriptors);
    for order in [Publish("other", 16, 100), Subscribe("scan"), CreateRegion("map", 100)] {
        let answer = peer.ask(order);
        assert!(answer.failure().contains("ulimit -n"), "{answer:?}");
    }
    assert_eq!(world.leftovers().len(), 1);
}

#[test]
fn a_wait_goes_on_without_inotify() {
    let world = World::new();
    let mut peer = world.peer();
    peer.order(DenyInotify);
    peer.tell(AwaitTopic("scan"));
    let _publisher = world.publisher("scan", 16, 100);
    peer.expect(Answer::Flag(true));
}

#[test]
fn signals_do_not_keep_a_large_region_from_being_created() {
    let world = World::new();
    let mut peer = world.peer();
    peer.order(Interrupt);
    peer.order(Publish("scan", 4, 64 << 20));
}
