//! Waiting for topics by a wait set, a future and a descriptor, while publishers come, die and go.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use conduit::{Gone, Publisher, RecvError, Start, Subscriber};

use crate::harness::{NOBODY, Random, World, is_pattern, wait_until};

const WAYS: [&str; 3] = ["set", "future", "descriptor"];

/// A publisher is killed while a process waits for its next message.
fn killed_while_somebody_waits(world: &World, prepare: &[&str]) -> Duration {
    let mut longest = Duration::ZERO;
    for how in WAYS {
        let mut publisher = world.peer();
        publisher.order("publish scan 16 1000");
        let mut subscriber = world.peer();
        for order in prepare {
            subscriber.order(order);
        }
        subscriber.order("subscribe scan");
        subscriber.tell(&format!("wait-by {how}"));
        for _ in 0..3 {
            world.wait_until_asleep("scan", 1);
            publisher.order("send 1 1000");
        }
        world.wait_until_asleep("scan", 1);
        publisher.kill();
        let killed = Instant::now();
        subscriber.expect("3 received 0 lost, publisher died");
        longest = longest.max(killed.elapsed());
    }
    longest
}

#[test]
fn a_publisher_killed_while_somebody_waits_without_daemon() {
    killed_while_somebody_waits(&World::new(), &[]);
}

#[test]
fn a_publisher_killed_while_somebody_waits_with_daemon() {
    // The daemon's mark wakes at once: sooner than anybody looks by himself. On a busy machine not every time.
    let world = World::with_daemon();
    let fast = Duration::from_millis(250);
    assert!((0..5).any(|_| killed_while_somebody_waits(&world, &[]) < fast), "they look by themselves");
}

#[test]
fn a_publisher_killed_while_somebody_waits_on_an_old_kernel() {
    killed_while_somebody_waits(&World::new(), &["deny-waitv"]);
    let world = World::with_daemon();
    let fast = Duration::from_millis(250);
    assert!((0..5).any(|_| killed_while_somebody_waits(&world, &["deny-waitv"]) < fast), "they look by themselves");
}

/// A fleet of topics is received in one thread of one process, and every message accounted for.
fn fleet(count: usize, how: &str, parkers: usize, prepare: &[&str]) {
    let world = World::new();
    let topics = (0..count).map(|number| format!("topic-{number}")).collect::<Vec<_>>().join(" ");
    let mut publisher = world.peer();
    publisher.order(&format!("publish-fleet 16 200 {topics}"));
    let mut subscriber = world.peer();
    for order in prepare {
        subscriber.order(order);
    }
    subscriber.order(&format!("subscribe-fleet {topics}"));
    assert_eq!(subscriber.ask(&format!("drain-fleet-by {how} {parkers}")), "draining");
    assert_eq!(publisher.ask("stream-fleet 10 100"), "streaming");
    std::thread::sleep(Duration::from_millis(500));
    let published = publisher.ask("stop");
    publisher.order("unpublish-fleet");
    let published: HashMap<_, u64> = published
        .split(' ')
        .map(|it| it.split_once('=').unwrap())
        .map(|(topic, n)| (topic, n.parse().unwrap()))
        .collect();
    let drained = subscriber.answer();
    assert_eq!(drained.split(' ').count(), count);
    let mut all = 0;
    for one in drained.split(' ') {
        let (topic, result) = one.split_once('=').unwrap();
        let [first, received, lost, wrong, end] = result.split('/').collect::<Vec<_>>()[..] else { panic!("{one}") };
        let number = |text: &str| text.parse::<u64>().unwrap();
        assert_eq!((wrong, end), ("0", "closed"), "{one}");
        assert_eq!((number(first), number(received) + number(lost)), (0, published[topic]), "{one}");
        assert!(number(received) > 0, "{one}");
        all += number(received);
    }
    assert!(all > 2 * count as u64);
    wait_until("the parkers to end", || subscriber.ask("parkers") == "0");
}

#[test]
fn a_hundred_topics_in_one_set() {
    fleet(100, "set", 0, &[]);
}

#[test]
fn more_topics_in_one_set_than_the_kernel_takes_at_once() {
    fleet(300, "set", 3, &[]);
}

#[test]
fn many_topics_in_one_set_on_an_old_kernel() {
    fleet(40, "set", 40, &["deny-waitv"]);
}

#[test]
fn more_asynchronous_topics_than_one_thread_can_wait_for() {
    fleet(300, "tasks", 3, &[]);
}

#[test]
fn asynchronous_topics_on_an_old_kernel() {
    fleet(40, "tasks", 40, &["deny-waitv"]);
}

#[test]
fn cancelled_futures_lose_nothing_and_leave_nothing_behind() {
    let world = World::new();
    let mut publisher = world.peer();
    publisher.order("publish scan 64 100");
    let subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).start(Start::Oldest).open("scan").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let is_asleep = || world.region("scan").counters().unwrap().subscribers.iter().any(|(_, it)| it.asleep);
    let mut subscriber = subscriber.into_async().unwrap();
    runtime.block_on(async {
        let pending = tokio::time::timeout(Duration::from_millis(5), subscriber.recv());
        assert!(pending.await.is_err());
        assert!(!is_asleep(), "a dropped future is still waited for");
    });
    assert_eq!(publisher.ask("stream 100"), "streaming");
    let mut random = Random(7);
    let (mut next, mut lost, mut cancelled, mut received) = (0, 0, 0, 0);
    let end = runtime.block_on(async {
        loop {
            if received == 1000 {
                publisher.tell("stop");
                received += 1;
            }
            let patience = Duration::from_micros(random.below(1000));
            let sample = tokio::select! {
                biased;
                () = tokio::time::sleep(patience) => None,
                sample = subscriber.recv() => Some(sample),
            };
            match sample {
                None => cancelled += 1,
                Some(Ok(sample)) => {
                    assert_eq!(sample.sequence(), next + sample.lost());
                    assert!(is_pattern(sample.sequence(), &sample));
                    lost += sample.lost();
                    next = sample.sequence() + 1;
                    received += 1;
                }
                Some(Err(error)) => return error,
            }
            if received > 1000 && next > 0 && publisher.answers_so_far() == [next.to_string()] {
                publisher.order("unpublish");
            }
        }
    });
    assert!(matches!(end, RecvError::PublisherGone { how: Gone::Closed, .. }), "{end}");
    assert!(cancelled > 50, "only {cancelled} were cancelled");
    let subscriber = subscriber.into_inner();
    assert_eq!((subscriber.received() + subscriber.lost(), subscriber.lost()), (next, lost));
}

#[test]
fn a_message_left_unread_keeps_nobody_busy() {
    for prepare in [&[][..], &["deny-waitv"]] {
        let world = World::new();
        let mut publisher = world.peer();
        publisher.order("publish scan 16 100");
        let mut subscriber = world.peer();
        for order in prepare {
            subscriber.order(order);
        }
        subscriber.order("subscribe scan");
        assert_eq!(subscriber.ask("leave-unread"), "waiting");
        world.wait_until_asleep("scan", 1);
        publisher.order("send 1 100");
        subscriber.expect("readable true, then false, the parker rests");
    }
}

#[test]
fn a_forked_child_can_wait_anew() {
    let world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order("publish scan 16 100");
    let mut subscriber = world.peer();
    assert_eq!(subscriber.ask("fork-waiting scan"), "child waits");
    world.wait_until_asleep("scan", 2);
    publisher.order("send 1 100");
    let answer = subscriber.answer();
    assert!(answer.starts_with("Exited(") && answer.ends_with(", 0), 0 in the parent"), "{answer}");
}

#[test]
fn who_may_only_read_waits_in_short_steps() {
    let world = World::new();
    for how in WAYS {
        for prepare in [None, Some("deny-waitv")] {
            let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).mode(0o444);
            let mut publisher = publisher.create("scan").unwrap();
            let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
            std::fs::set_permissions(publisher.path(), read_only).unwrap();
            let mut reader = if nix::unistd::geteuid().is_root() { world.peer_of(NOBODY) } else { world.peer() };
            prepare.into_iter().for_each(|order| reader.order(order));
            reader.order("subscribe scan");
            assert_eq!(reader.ask("zero-copy"), "false");
            reader.tell(&format!("wait-by {how}"));
            for _ in 0..3 {
                // Nobody can see whether it sleeps.
                std::thread::sleep(Duration::from_millis(20));
                publisher.send(&[0; 100]).unwrap();
            }
            drop(publisher);
            reader.expect("3 received 0 lost, publisher closed the topic");
        }
    }
}
