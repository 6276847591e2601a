//! Subscribers that follow a topic, or all that match a pattern, from publisher to publisher.

use std::fs;
use std::time::Duration;

use crate::harness::{Peer, World, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, Followed};

/// Fewer than the topic keeps: whoever attaches in time loses none of them.
const MESSAGES: u64 = 10;

fn tasks(peer: &Peer) -> Vec<fs::DirEntry> {
    fs::read_dir(format!("/proc/{}/task", peer.pid())).unwrap().flatten().collect()
}

/// Open descriptors, and threads.
fn resources(peer: &mut Peer) -> (u64, usize) {
    (peer.ask(Descriptors).number(), tasks(peer).len())
}

fn is_attached(world: &World) -> bool {
    is_attached_to(world, "scan")
}

fn is_attached_to(world: &World, topic: &str) -> bool {
    world.region(topic).counters().is_some_and(|counters| !counters.subscribers.is_empty())
}

fn wait_until_attached(world: &World, topic: &str) {
    wait_until("the follower to attach", || is_attached_to(world, topic));
}

/// Publishes `count` times, on one topic after the other; every `nth` publisher is a process that
/// is killed, the others close the topic. Every second one sends before the follower has attached.
fn restart(world: &World, topics: &[&str], count: u64, nth: u64) -> u64 {
    let mut closing = world.peer();
    let mut killed = 0;
    for (round, topic) in (0..count).zip(topics.iter().cycle()) {
        let mut doomed = round.is_multiple_of(nth).then(|| world.peer());
        let publisher = doomed.as_mut().unwrap_or(&mut closing);
        publisher.order(Publish(topic, 16, 100));
        if (round / nth).is_multiple_of(2) {
            publisher.order(Send(MESSAGES, 100));
            wait_until_attached(world, topic);
        } else {
            wait_until_attached(world, topic);
            publisher.order(Send(MESSAGES, 100));
        }
        match doomed {
            Some(doomed) => {
                doomed.kill();
                killed += 1;
            }
            None => closing.order(Unpublish),
        }
    }
    killed
}

/// A follower that receives from this number of publishers.
fn follower(world: &World, count: u64) -> Peer {
    let mut follower = world.peer();
    follower.order(Follow("scan"));
    follower.tell(FollowThrough(count, MESSAGES));
    follower
}

/// What it has received, and how many it knows to have been killed, which may be told late.
fn check(answer: Answer, count: u64, killed: u64) -> u64 {
    let Answer::Followed(followed) = answer else { panic!("{answer:?}") };
    let certified = followed.certified;
    assert!(certified <= killed);
    let expected = Followed { received: count * MESSAGES, lost: 0, wrong: 0, died: killed, certified };
    assert_eq!(followed, expected);
    certified
}

#[test]
fn a_thousand_restarts_lose_no_message_and_leak_nothing() {
    const COUNT: u64 = 1000;
    let world = World::with_daemon();
    let mut follower = world.peer();
    let before = resources(&mut follower);
    follower.order(Follow("scan"));
    let waiting = resources(&mut follower);
    follower.tell(FollowThrough(COUNT, MESSAGES));
    let killed = restart(&world, &["scan"], COUNT, 5);
    assert_ne!(check(follower.answer(), COUNT, killed), 0);
    assert_eq!(resources(&mut follower), waiting);
    follower.order(Unsubscribe);
    wait_until("the thread to end", || resources(&mut follower) == before);
    // One thread for all of them.
    for _ in 0..2 {
        follower.order(Follow("scan"));
    }
    assert_eq!(resources(&mut follower).1, before.1 + 1);
}

#[test]
fn restarts_without_a_daemon_lose_no_message() {
    let world = World::new();
    let mut follower = follower(&world, 60);
    // Only a successor or a look at the owner lock shows a death.
    let killed = restart(&world, &["scan"], 60, 3);
    assert_eq!(check(follower.answer(), 60, killed), 0, "there is no registry");
    assert_eq!(follower.ask(Counts), Answer::Counts { received: 600, lost: 0 });
}

#[test]
fn a_death_is_reported_with_its_certificate() {
    let world = World::with_daemon();
    let mut follower = world.peer();
    follower.order(Follow("scan"));
    let mut publisher = world.publisher("scan", 16, 100);
    wait_until("the follower to attach", || {
        assert_eq!(follower.ask(RecvFor(1)), Answer::Nothing);
        is_attached(&world)
    });
    publisher.order(Send(MESSAGES, 100));
    publisher.kill();
    wait_until("the registry to know of the death", || !world.client().deaths().unwrap().is_empty());
    assert_eq!(check(follower.ask(FollowThrough(1, MESSAGES)), 1, 1), 1);
}

#[test]
fn without_inotify_a_follower_looks_for_its_topic() {
    let world = World::with_daemon();
    let mut blind = world.peer();
    blind.order(DenyInotify);
    blind.order(Follow("scan"));
    blind.tell(FollowThrough(20, MESSAGES));
    let killed = restart(&world, &["scan"], 20, 4);
    check(blind.answer(), 20, killed);
}

#[test]
fn a_program_may_close_the_descriptors_of_its_follower() {
    for is_connected in [false, true] {
        let world = World::with_daemon();
        let mut publisher = world.peer();
        let mut follower = world.peer();
        if is_connected {
            publisher.order(Publish("scan", 16, 100));
        }
        follower.order(Follow("scan"));
        follower.order(CloseFrom);
        if is_connected {
            publisher.order(Unpublish);
        }
        // That of the publisher which had no message counts.
        follower.tell(RecvFor(5_000));
        publisher.order(Publish("scan", 16, 100));
        publisher.order(Send(1, 100));
        assert_eq!(follower.answer(), crate::harness::sample(0));
        publisher.order(Unpublish);
        follower.tell(Recv);
        publisher.order(Publish("scan", 16, 100));
        publisher.order(Send(1, 100));
        assert_eq!(follower.answer(), crate::harness::sample(0));
        follower.order(Unsubscribe);
        follower.order(OwnFilesAreIntact);
    }
}

#[test]
fn a_follower_without_a_publisher_sleeps() {
    let world = World::with_daemon();
    let mut publisher = world.peer();
    let follower = follower(&world, 1);
    let switches = |peer: &Peer| -> u64 {
        let of_task = |task: &fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            line.trim().parse::<u64>().unwrap()
        };
        tasks(peer).iter().map(of_task).sum()
    };
    // Until it has fallen asleep.
    std::thread::sleep(Duration::from_millis(500));
    let before = switches(&follower);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(switches(&follower) - before, 0);
    publisher.order(Publish("scan", 16, 100));
    wait_until_attached(&world, "scan");
    publisher.order(Send(MESSAGES, 100));
    publisher.order(Unpublish);
    check(follower.answer(), 1, 0);
}

/// Of which two match a pattern in different ways.
const TRANSFORMS: [&str; 3] = ["tf/arm", "tf/base/left", "tf/head"];

#[test]
fn all_topics_of_a_pattern_are_followed_through_restarts() {
    const COUNT: u64 = 240;
    for has_daemon in [true, false] {
        let world = if has_daemon { World::with_daemon() } else { World::new() };
        let count = if has_daemon { COUNT } else { COUNT / 6 };
        let mut follower = world.peer();
        let before = resources(&mut follower);
        follower.order(FollowAll("tf/**"));
        let waiting = resources(&mut follower);
        follower.tell(FollowAllThrough(count, MESSAGES));
        let _other = world.publisher("map", 16, 100);
        let killed = restart(&world, &TRANSFORMS, count, 4);
        let certified = check(follower.answer(), count, killed);
        assert_eq!(certified != 0, has_daemon, "of {killed}");
        // The thread that waits for topics ends with the last of them.
        wait_until("everything to be closed", || resources(&mut follower) == waiting);
        follower.order(Unsubscribe);
        wait_until("the threads to end", || resources(&mut follower) == before);
    }
}

#[test]
fn without_inotify_all_topics_of_a_pattern_are_followed() {
    let world = World::with_daemon();
    let mut blind = world.peer();
    blind.order(DenyInotify);
    blind.order(FollowAll("tf/**"));
    blind.tell(FollowAllThrough(24, MESSAGES));
    let killed = restart(&world, &TRANSFORMS, 24, 4);
    check(blind.answer(), 24, killed);
}

#[test]
fn topics_beyond_the_limit_of_descriptors_are_reported() {
    let world = World::with_daemon();
    let mut follower = world.peer();
    follower.order(FollowAll("tf/**"));
    follower.order(LimitDescriptors);
    let _publisher = world.publisher("tf/arm", 16, 100);
    let answer = follower.ask(FollowAllThrough(1, MESSAGES));
    let failure = answer.failure();
    assert!(failure.starts_with("NotFollowed {") && failure.contains("Too many open files"), "{answer:?}");
}

#[test]
fn a_thousand_topics_share_few_threads() {
    const COUNT: usize = 1000;
    // A daemon takes fewer connections of one user than these would need.
    let world = World::new();
    let names: Vec<_> = (0..COUNT).map(|number| format!("t/{number}")).collect();
    let mut publishers = Vec::new();
    for names in names.chunks(250) {
        let mut publisher = world.peer();
        publisher.order(PublishFleet(2, 64, names.iter().map(String::as_str).collect()));
        publishers.push(publisher);
    }
    let mut follower = world.peer();
    let before = resources(&mut follower);
    follower.order(FollowAll("t/*"));
    let (descriptors, threads) = resources(&mut follower);
    assert!(descriptors <= before.0 + COUNT as u64 + 10, "{descriptors}");
    // One parker for each 127, and the lookout.
    assert!(threads <= before.1 + COUNT / 127 + 2, "{threads}");
    follower.tell(FollowAllThrough(COUNT as u64, 0));
    publishers.iter_mut().for_each(|publisher| publisher.order(UnpublishFleet));
    assert_eq!(follower.answer(), Answer::Followed(Followed::default()));
    wait_until("everything to be closed", || resources(&mut follower).0 < before.0 + 10);
    follower.order(Unsubscribe);
    wait_until("the threads to end", || resources(&mut follower) == before);
}
