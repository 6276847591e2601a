//! Resources that publishers and subscribers do not use: system calls while no subscriber sleeps,
//! and extra descriptors.

use std::path::Path;
use std::time::Duration;

use crate::harness::skip::{Lack, skip};
use crate::harness::{Peer, World, drained, sample};
use crate::protocol::Order::*;
use crate::protocol::{Answer, Deed, End};

/// Runs an action in a process that any system call kills; returns whether the process survived.
fn lives_without_calls(deed: Deed) -> bool {
    let (answer, status) = World::new().peer().end_by(WithoutCalls(deed));
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(nix::libc::SIGSYS);
    assert!(killed || (status.success() && answer == Some(Answer::Done)), "{deed:?}: {answer:?}, {status}");
    !killed
}

#[test]
fn a_system_call_kills_the_filtered_process() {
    // Without this, the other tests would prove nothing.
    assert!(!lives_without_calls(Deed::Sleep));
}

#[test]
fn publishing_without_subscribers_makes_no_system_call() {
    assert!(lives_without_calls(Deed::PublishUnstamped));
}

#[test]
fn receiving_available_messages_makes_no_system_call() {
    assert!(lives_without_calls(Deed::ReceiveUnstamped));
}

#[test]
fn time_stamps_make_no_system_call() {
    if !lives_without_calls(Deed::ReadClocks) {
        skip!(Lack::FastClock, "the cost of time stamps");
    }
    assert!(lives_without_calls(Deed::PublishStamped));
    assert!(lives_without_calls(Deed::ReceiveStamped));
}

#[test]
fn reading_the_latest_messages_makes_no_system_call() {
    if !lives_without_calls(Deed::ReadClocks) {
        skip!(Lack::FastClock, "the cost of time stamps");
    }
    assert!(lives_without_calls(Deed::Latest));
}

#[test]
fn polling_without_messages_makes_no_system_call() {
    if !lives_without_calls(Deed::ReadClocks) {
        skip!(Lack::FastClock, "the cost of time stamps");
    }
    assert!(lives_without_calls(Deed::Look));
}

/// Checks how many descriptors publishing and subscribing open and close.
fn descriptors_of(world: &World, with_lease: u64) {
    let descriptors = |peer: &mut Peer| peer.ask(Descriptors).number();
    let (mut publisher, mut subscriber) = (world.peer(), world.peer());
    let before = (descriptors(&mut publisher), descriptors(&mut subscriber));
    publisher.order(Publish("scan", 16, 100));
    subscriber.order(Subscribe("scan"));
    // Sleeping and receiving open none either.
    publisher.order(Send(3, 100));
    assert_eq!(subscriber.ask(Recv), sample(0));
    subscriber.tell(Drain);
    world.wait_until_asleep("scan", 1);
    publisher.order(Send(3, 100));
    assert_eq!(descriptors(&mut publisher), before.0 + with_lease);
    world.wait_until_asleep("scan", 1);
    publisher.order(Unpublish);
    assert_eq!(subscriber.answer(), drained(6, 0, End::Closed));
    assert_eq!(descriptors(&mut subscriber), before.1 + with_lease);
    subscriber.order(Unsubscribe);
    assert_eq!((descriptors(&mut publisher), descriptors(&mut subscriber)), before);
}

#[test]
fn without_a_lease_each_handle_keeps_one_descriptor() {
    descriptors_of(&World::new(), 1);
}

#[test]
fn with_a_lease_each_handle_keeps_two_descriptors() {
    descriptors_of(&World::with_daemon(), 2);
}

#[test]
fn no_handle_depends_on_what_else_is_in_the_directory() {
    for daemon in [false, true] {
        let mut world = World::new();
        if daemon {
            world.start_daemon();
        }
        let dead = world.publisher("scan", 16, 100);
        let mut peer = world.peer();
        peer.order(DenyListing);
        dead.kill();
        // Takes over, closes, creates anew.
        peer.order(Publish("scan", 16, 100));
        peer.order(Subscribe("scan"));
        peer.order(Send(1, 100));
        assert_eq!(peer.ask(Recv), sample(0));
        peer.order(Unsubscribe);
        peer.order(Unpublish);
        peer.order(CreateRegion("map", 100));
        peer.order(DropRegion);
        peer.order(UnlinkRegion("map"));
    }
    // Without this, the above would prove nothing.
    let world = World::new();
    let mut peer = world.peer();
    peer.order(DenyListing);
    let (_, status) = peer.end_by(Descriptors);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(nix::libc::SIGSYS));
}

#[test]
fn an_adaptive_subscriber_of_a_slow_topic_sleeps() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut subscriber = world.peer();
    subscriber.order(SubscribeAdaptive("scan"));
    let before_ns = subscriber.ask(ProcessorTime).number();
    subscriber.tell(Drain);
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(10));
        world.wait_until_asleep("scan", 1);
        publisher.order(Send(1, 100));
    }
    publisher.order(Unpublish);
    assert_eq!(subscriber.answer(), drained(100, 0, End::Closed));
    let used = Duration::from_nanos(subscriber.ask(ProcessorTime).number() - before_ns);
    assert!(used < Duration::from_millis(250), "{used:?} in more than a second");
}

#[test]
fn an_adaptive_subscriber_of_a_topic_that_is_fast_at_times_receives_everything() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 32_768, 100);
    let mut subscriber = world.peer();
    subscriber.order(SubscribeAdaptive("scan"));
    subscriber.tell(Drain);
    for _ in 0..10 {
        publisher.order(Send(3000, 100));
        world.wait_until_asleep("scan", 1);
        publisher.order(Send(1, 100));
    }
    publisher.order(Unpublish);
    assert_eq!(subscriber.answer(), drained(30_010, 0, End::Closed));
}

#[test]
fn a_publisher_removes_its_name_after_a_change_of_directory() {
    let world = World::new();
    let mut command = world.command(Peer::PROGRAM);
    command.current_dir(world.path().parent().unwrap());
    command.env("CONDUIT_SHM_DIR", Path::new(world.path().file_name().unwrap()));
    let mut publisher = Peer::run(command, None);
    publisher.order(Publish("scan", 16, 100));
    publisher.order(GoTo("/"));
    assert!(world.exists("scan"));
    publisher.order(Send(1, 100));
    publisher.order(Unpublish);
    assert_eq!(world.leftovers(), []);
}
