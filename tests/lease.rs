//! Leases that are lost, and taken again without a call or a thread of their holders.

use conduit::Subscriber;
use conduit::protocol::{EventKind, Liveness};
use nix::sys::signal::Signal;

use crate::harness::{World, wait_for, wait_until};

#[test]
fn a_sleeping_subscriber_comes_back_to_a_new_daemon() {
    let mut world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order("publish scan 16 100");
    let mut subscriber = world.peer();
    subscriber.order("subscribe scan");
    subscriber.tell("recv");
    world.wait_until_asleep("scan", 1);
    world.kill_daemon();
    world.start_daemon();
    let mut events = world.client().watch().unwrap();
    // It may have come before the watcher.
    let back = wait_for("the subscriber to come back", || {
        let event = events.next().unwrap().unwrap();
        matches!(event.kind, EventKind::Subscribed | EventKind::SubscriberPresent).then_some(event)
    });
    assert_eq!(back.process.unwrap().pid, subscriber.pid());
    publisher.order("send 1 10");
    subscriber.expect("sample 0 0 whole");
    subscriber.order("unsubscribe");
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Unsubscribed);
}

#[test]
fn a_subscriber_that_polls_comes_to_a_daemon_that_starts_later() {
    let mut world = World::new();
    let mut publisher = world.peer();
    publisher.order("publish scan 16 100");
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap();
    world.start_daemon();
    let mut events = world.client().watch().unwrap();
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Present);
    let (sender, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(events.next().unwrap().unwrap()));
    let event = wait_for("the subscriber to come", || {
        assert!(subscriber.try_recv().unwrap().is_none());
        seen.try_recv().ok()
    });
    assert_eq!((event.kind, event.process.unwrap().pid), (EventKind::Subscribed, std::process::id()));
}

#[test]
fn a_publisher_with_sleepers_comes_back_and_its_death_is_told_in_full() {
    let mut world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order("publish scan 16 100");
    let mut subscriber = world.peer();
    subscriber.order("subscribe scan");
    assert_eq!(world.list()[0].liveness, Some(Liveness::Lease));
    world.kill_daemon();
    world.start_daemon();
    assert_eq!(world.list()[0].liveness, Some(Liveness::Lock));
    let connections = |world: &World| {
        let peer = format!("/proc/{}/fd", publisher_pid(world));
        std::fs::read_dir(peer).unwrap().filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).count()
    };
    let before = connections(&world);
    wait_until("the publisher to come back", || {
        subscriber.tell("recv");
        world.wait_until_asleep("scan", 1);
        publisher.order("send 1 10");
        assert!(subscriber.answer().ends_with("whole"));
        // The dead connection has made way for a living one.
        connections(&world) == before && world.log().matches("ready").count() == 2 && has_lease(&world, publisher.pid())
    });
    let mut events = world.client().watch().unwrap();
    publisher.kill();
    let died = wait_for("the death", || {
        let event = events.next().unwrap().unwrap();
        (event.kind == EventKind::Died).then_some(event)
    });
    assert!(died.death.unwrap().signal.is_none_or(|signal| signal == 9));
}

fn publisher_pid(world: &World) -> u32 {
    world.list()[0].publisher.as_ref().unwrap().pid
}

/// Whether the process has a connection that lives.
fn has_lease(world: &World, pid: u32) -> bool {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| {
            std::fs::read_link(fd.unwrap().path())
                .ok()?
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')
                .map(Into::into)
        })
        .collect();
    let _ = world;
    // Column 6 of /proc/net/unix is the state: 03 is connected.
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.len() > 6 && columns[5] == "03" && inodes.iter().any(|inode| inode == columns[6])
    })
}

#[test]
fn the_death_of_an_adopted_publisher_is_told_in_full() {
    let mut world = World::new();
    let mut publisher = world.peer();
    publisher.order("publish scan 16 100");
    publisher.order("send 3 10");
    let mut sleeper = world.peer();
    sleeper.order("subscribe scan");
    sleeper.tell("recv");
    world.wait_until_asleep("scan", 1);
    world.start_daemon();
    let mut events = world.client().watch().unwrap();
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Present);
    publisher.kill();
    let died = wait_for("the death", || {
        let event = events.next().unwrap().unwrap();
        (event.kind == EventKind::Died).then_some(event)
    });
    let death = died.death.unwrap();
    // Kernels before 6.15 do not tell how it ended.
    assert!(death.signal.is_none_or(|signal| signal == 9));
    assert_eq!(death.last_sequence, Some(2));
    assert!(death.last_message_age_ns.is_some());
    let subscribers: Vec<_> = death.subscribers.iter().map(|one| (one.pid, one.asleep)).collect();
    assert_eq!(subscribers, [(sleeper.pid(), true)]);
    sleeper.expect("gone died");
    let log = world.log();
    assert!(log.contains("asleep=\"e2e") && log.contains("last_sequence=2"), "{log}");
}

#[test]
fn a_stopped_daemon_delays_nobody() {
    let mut world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order("publish scan 16 100");
    let mut subscriber = world.peer();
    subscriber.order("subscribe scan");
    world.kill_daemon();
    world.start_daemon();
    world.daemon().signal(Signal::SIGSTOP);
    // For longer than a second: each has looked for its lease meanwhile, and nobody waits for an answer.
    for number in 0..1500 {
        subscriber.tell("recv");
        world.wait_until_asleep("scan", 1);
        publisher.order("send 1 10");
        subscriber.expect(&format!("sample {number} 0 whole"));
    }
    world.daemon().signal(Signal::SIGCONT);
    wait_until("the daemon to go on", || world.list()[0].published == Some(1500));
}
