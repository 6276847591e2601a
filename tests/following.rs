//! Subscribers that follow a topic from publisher to publisher.

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
    world.region("scan").counters().is_some_and(|counters| !counters.subscribers.is_empty())
}

fn wait_until_attached(world: &World) {
    wait_until("the follower to attach", || is_attached(world));
}

/// Publishes `count` times; every `nth` publisher is a process that is killed, the others close the
/// topic. Every second one sends before the follower has attached.
fn restart(world: &World, count: u64, nth: u64) -> u64 {
    let mut closing = world.peer();
    let mut killed = 0;
    for round in 0..count {
        let mut doomed = round.is_multiple_of(nth).then(|| world.peer());
        let publisher = doomed.as_mut().unwrap_or(&mut closing);
        publisher.order(Publish("scan", 16, 100));
        if (round / nth).is_multiple_of(2) {
            publisher.order(Send(MESSAGES, 100));
            wait_until_attached(world);
        } else {
            wait_until_attached(world);
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
    let killed = restart(&world, COUNT, 5);
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
    let killed = restart(&world, 60, 3);
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
    let killed = restart(&world, 20, 4);
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
    wait_until_attached(&world);
    publisher.order(Send(MESSAGES, 100));
    publisher.order(Unpublish);
    check(follower.answer(), 1, 0);
}
