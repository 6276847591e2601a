//! Wait sets, futures and descriptors, while publishers start, die and close.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use conduit::{Gone, Publisher, RecvError, Start, Subscriber};

use crate::harness::{NOBODY, Random, World, drained, is_pattern, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Account, Answer, End, Order, Way};

const WAYS: [Way; 3] = [Way::Set, Way::Future, Way::Descriptor];

/// Kills a publisher while a subscriber waits for the next message, once for each way to wait.
fn killed_while_somebody_waits(world: &World, prepare: &[Order]) -> [Duration; 3] {
    WAYS.map(|how| {
        let mut publisher = world.publisher("scan", 16, 1000);
        let mut subscriber = world.peer();
        for order in prepare {
            subscriber.order(order.clone());
        }
        subscriber.order(Subscribe("scan"));
        subscriber.tell(WaitBy(how));
        for _ in 0..3 {
            world.wait_until_asleep("scan", 1);
            publisher.order(Send(1, 1000));
        }
        world.wait_until_asleep("scan", 1);
        publisher.kill();
        let killed = Instant::now();
        subscriber.expect(drained(3, 0, End::Died));
        killed.elapsed()
    })
}

/// The daemon's mark wakes the sleeper at once; without it the sleeper notices half a second after
/// it fell asleep. On a busy machine single values may be late, so the median decides.
fn the_daemon_wakes_them(prepare: &[Order]) {
    let world = World::with_daemon();
    let mut all: Vec<_> = (0..3).flat_map(|_| killed_while_somebody_waits(&world, prepare)).collect();
    all.sort();
    assert!(all[all.len() / 2] < Duration::from_millis(250), "the daemon does not wake them: {all:?}");
}

#[test]
fn a_publisher_killed_while_somebody_waits_without_daemon() {
    killed_while_somebody_waits(&World::new(), &[]);
}

#[test]
fn a_publisher_killed_while_somebody_waits_with_daemon() {
    the_daemon_wakes_them(&[]);
}

#[test]
fn a_publisher_killed_while_somebody_waits_on_an_old_kernel() {
    killed_while_somebody_waits(&World::new(), &[DenyWaitv]);
    the_daemon_wakes_them(&[DenyWaitv]);
}

/// Receives many topics in one thread of one process, and accounts for every message.
fn fleet(count: usize, how: Way, parkers: usize, prepare: &[Order]) {
    let world = World::new();
    let topics: Vec<_> = (0..count).map(|number| format!("topic-{number}")).collect();
    let names = || topics.iter().map(String::as_str).collect();
    let mut publisher = world.peer();
    publisher.order(PublishFleet(16, 200, names()));
    let mut subscriber = world.peer();
    for order in prepare {
        subscriber.order(order.clone());
    }
    subscriber.order(SubscribeFleet(names()));
    subscriber.begin(DrainFleetBy(how, parkers));
    publisher.begin(StreamFleet(10, 100));
    let regions: Vec<_> = topics.iter().map(|topic| world.region(topic)).collect();
    wait_until("every topic to carry messages", || regions.iter().all(|it| it.counters().unwrap().published > 5));
    let Answer::Published(published) = publisher.ask(Stop) else { panic!("no counts") };
    publisher.order(UnpublishFleet);
    let published: HashMap<_, _> = published.into_iter().collect();
    let Answer::Fleet(ends) = subscriber.answer() else { panic!("no accounts") };
    assert_eq!(ends.len(), count);
    let mut all = 0;
    for (topic, account) in ends {
        let Account { first, received, lost, wrong, end } = account.clone();
        assert_eq!((wrong, end), (0, Ok(End::Closed)), "{topic}");
        assert_eq!((first, received + lost), (0, published[&topic]), "{topic}: {account:?}");
        assert!(received > 0, "{topic}: {account:?}");
        all += received;
    }
    assert!(all > 2 * count as u64);
    wait_until("the parkers to end", || subscriber.ask(Parkers) == Answer::Number(0));
}

#[test]
fn a_hundred_topics_in_one_set() {
    fleet(100, Way::Set, 0, &[]);
}

#[test]
fn more_topics_in_one_set_than_one_futex_waitv_takes() {
    fleet(300, Way::Set, 3, &[]);
}

#[test]
fn many_topics_in_one_set_on_an_old_kernel() {
    fleet(40, Way::Set, 40, &[DenyWaitv]);
}

#[test]
fn more_asynchronous_topics_than_one_parker_can_wait_for() {
    fleet(300, Way::Future, 3, &[]);
}

#[test]
fn asynchronous_topics_on_an_old_kernel() {
    fleet(40, Way::Future, 40, &[DenyWaitv]);
}

#[test]
fn cancelled_futures_lose_no_messages() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 64, 100);
    let subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).start(Start::Oldest).open("scan").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let is_asleep = || world.region("scan").counters().unwrap().subscribers.iter().any(|(_, it)| it.asleep);
    let mut subscriber = subscriber.into_async().unwrap();
    runtime.block_on(async {
        let pending = tokio::time::timeout(Duration::from_millis(5), subscriber.recv());
        assert!(pending.await.is_err());
        assert!(!is_asleep(), "a dropped future is still waited for");
    });
    publisher.begin(Stream(100));
    let mut random = Random(7);
    let (mut next, mut lost, mut cancelled, mut received) = (0, 0, 0, 0);
    let end = runtime.block_on(async {
        loop {
            if received == 1000 {
                publisher.tell(Stop);
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
            if received > 1000 && next > 0 && publisher.answers_so_far() == [Answer::Number(next)] {
                publisher.order(Unpublish);
            }
        }
    });
    assert!(matches!(end, RecvError::PublisherGone { how: Gone::Closed, .. }), "{end}");
    assert!(cancelled > 50, "only {cancelled} were cancelled");
    let subscriber = subscriber.into_inner();
    assert_eq!((subscriber.received() + subscriber.lost(), subscriber.lost()), (next, lost));
}

#[test]
fn an_unread_message_does_not_keep_the_parker_busy() {
    for prepare in [&[][..], &[DenyWaitv]] {
        let world = World::new();
        let mut publisher = world.publisher("scan", 16, 100);
        let mut subscriber = world.peer();
        for order in prepare {
            subscriber.order(order.clone());
        }
        subscriber.order(Subscribe("scan"));
        subscriber.begin(LeaveUnread);
        world.wait_until_asleep("scan", 1);
        publisher.order(Send(1, 100));
        subscriber.expect(Answer::LeftUnread { was_readable: [true, false], is_at_rest: true });
    }
}

#[test]
fn a_forked_child_can_subscribe_and_wait() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut subscriber = world.peer();
    subscriber.begin(ForkWaiting("scan"));
    world.wait_until_asleep("scan", 2);
    publisher.order(Send(1, 100));
    subscriber.expect(Answer::Forked { child_exit: 0, sequence: 0 });
}

#[test]
fn read_only_subscribers_wait_by_polling() {
    let world = World::new();
    for how in WAYS {
        for prepare in [None, Some(DenyWaitv)] {
            let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).mode(0o444);
            let mut publisher = publisher.create("scan").unwrap();
            let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
            std::fs::set_permissions(publisher.path(), read_only).unwrap();
            let mut reader = if nix::unistd::geteuid().is_root() { world.peer_of(NOBODY) } else { world.peer() };
            prepare.into_iter().for_each(|order| reader.order(order));
            reader.order(Subscribe("scan"));
            assert_eq!(reader.ask(ZeroCopy), Answer::Flag(false));
            reader.tell(WaitBy(how));
            for _ in 0..3 {
                // A read-only subscriber does not record that it sleeps.
                std::thread::sleep(Duration::from_millis(20));
                publisher.send(&[0; 100]).unwrap();
            }
            drop(publisher);
            reader.expect(drained(3, 0, End::Closed));
        }
    }
}
