//! Publishers and subscribers that notice silences, each by its own deadline.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use conduit::registry::{EventKind, RegistryEvent, TopicInfo};
use conduit::{Publisher, RecvError, Start, Subscriber, TopicEvent};
use nix::sys::signal::Signal;

use crate::harness::{Events, World, wait_for, wait_until};
use crate::protocol::Order::*;

/// Longer than a publisher is late on a busy machine.
const DEADLINE: Duration = Duration::from_millis(400);
/// Where a region has the publisher's deadline, and its count of messages.
const DEADLINE_AT: u64 = 64 + 56;
const HEAD_AT: u64 = 64;

fn publisher(world: &World, topic: &str, deadline: Duration, has_stamps: bool) -> Publisher<u64> {
    let builder = Publisher::builder().domain(&world.domain()).deadline(deadline);
    builder.time_stamps(has_stamps).create(topic).unwrap()
}

fn described(world: &World, topic: &str) -> TopicInfo {
    world.client().describe(&topic.parse().unwrap()).unwrap()
}

fn find(events: &Events, kind: &EventKind, topic: &str) -> RegistryEvent {
    events.find(kind.as_str(), |event| event.kind == *kind && event.topic == topic)
}

fn output(world: &World, arguments: &[&str]) -> String {
    let output = world.conduit(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_stopped_publisher_is_overdue_until_it_continues() {
    let world = World::with_daemon();
    let mut publisher = world.peer();
    publisher.order(PublishOften("scan", DEADLINE.as_millis() as u64));
    publisher.begin(Stream(100));
    let subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).start(Start::Latest);
    let mut subscriber = subscriber.deadline(DEADLINE).open("scan").unwrap();
    wait_until("a message", || matches!(subscriber.recv_event(), Ok(TopicEvent::Sample(_))));
    publisher.signal(Signal::SIGSTOP);
    // From now on nothing is sent. Before, the machine may have been busy for that long.
    let events = world.watch();
    wait_until("the topic to be overdue", || described(&world, "scan").is_overdue);
    let overdue = find(&events, &EventKind::Overdue, "scan");
    assert_eq!(overdue.process.map(|process| process.pid), Some(publisher.pid()));
    assert!(output(&world, &["list"]).contains(" overdue "));
    let info = output(&world, &["info", "scan"]);
    assert!(info.contains("State:        overdue") && info.contains("Deadline:     400 ms, missed"), "{info}");
    let json: serde_json::Value = serde_json::from_str(&output(&world, &["info", "scan", "--json"])).unwrap();
    assert_eq!((&json["deadline_ns"], &json["overdue"]), (&400_000_000.into(), &true.into()));
    // A watch that begins now reports it.
    let watched = world.watch();
    find(&watched, &EventKind::Present, "scan");
    find(&watched, &EventKind::Overdue, "scan");
    let silence = wait_for("the subscriber to notice", || match subscriber.recv() {
        Ok(_) => None,
        Err(RecvError::Overdue { silence, .. }) => Some(silence),
        Err(error) => panic!("{error}"),
    });
    assert!(silence >= DEADLINE);
    publisher.signal(Signal::SIGCONT);
    find(&events, &EventKind::Resumed, "scan");
    assert!(matches!(subscriber.recv_event(), Ok(TopicEvent::Resumed { after }) if after >= DEADLINE));
    assert!(matches!(subscriber.recv_event(), Ok(TopicEvent::Sample(_))));
    publisher.tell(Stop);
}

#[test]
fn a_silence_is_reported_once_and_so_is_its_end() {
    let world = World::with_daemon();
    let events = world.watch();
    for (topic, has_stamps) in [("stamped", true), ("unstamped", false)] {
        let mut publisher = publisher(&world, topic, Duration::from_millis(20), has_stamps);
        // The first message is awaited, too.
        for number in 0..3 {
            find(&events, &EventKind::Overdue, topic);
            assert!(described(&world, topic).is_overdue);
            assert_eq!(world.list()[0].deadline_ns, Some(20_000_000));
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(events.so_far(), [], "reported twice");
            // A single message may be overdue again before the daemon looks.
            let mut seen = Vec::new();
            wait_until("the end of the silence", || {
                publisher.send(&number).unwrap();
                seen.extend(events.so_far().into_iter().map(|event| (event.kind, event.topic)));
                !seen.is_empty()
            });
            assert_eq!(seen, [(EventKind::Resumed, topic.to_owned())]);
        }
        find(&events, &EventKind::Overdue, topic);
        drop(publisher);
        find(&events, &EventKind::Closed, topic);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(events.so_far(), [], "reported when it was gone");
    }
}

#[test]
fn a_new_daemon_reports_what_is_overdue() {
    let mut world = World::with_daemon();
    let mut publisher = publisher(&world, "scan", Duration::from_millis(20), true);
    publisher.send(&7).unwrap();
    find(&world.watch(), &EventKind::Overdue, "scan");
    world.kill_daemon();
    // Without a daemon the region itself tells.
    assert!(output(&world, &["list"]).contains(" overdue "));
    world.start_daemon();
    find(&world.watch(), &EventKind::Overdue, "scan");
}

#[test]
fn whatever_a_region_says_harms_nobody() {
    let mut world = World::with_daemon();
    let _publishers = ["a", "b", "c"].map(|topic| publisher(&world, topic, DEADLINE, true));
    world.kill_daemon();
    for (topic, deadline_ns, head) in [("a", 1_u64, u64::MAX), ("b", u64::MAX, u64::MAX - 1), ("c", 1, 1 << 62)] {
        let file = File::options().write(true).open(world.path_of(topic)).unwrap();
        file.write_all_at(&deadline_ns.to_ne_bytes(), DEADLINE_AT).unwrap();
        file.write_all_at(&head.to_ne_bytes(), HEAD_AT).unwrap();
    }
    world.start_daemon();
    let events = world.watch();
    for topic in ["a", "c"] {
        find(&events, &EventKind::Overdue, topic);
    }
    assert!(!described(&world, "b").is_overdue);
    assert_eq!(described(&world, "a").deadline_ns, Some(1));
    assert!(world.daemon().is_running());
}

/// Times that the daemon has fallen asleep, and the processor time that it has used.
fn work(world: &mut World) -> (u64, Duration) {
    let pid = world.daemon().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let busy_ns = stat.split(' ').next().unwrap().parse().unwrap();
    (line.trim().parse().unwrap(), Duration::from_nanos(busy_ns))
}

#[test]
fn looking_costs_little_whatever_is_promised_and_nothing_where_nothing_is() {
    let mut world = World::with_daemon();
    let _idle = ["a", "b"].map(|topic| publisher(&world, topic, Duration::MAX, true));
    wait_until("the daemon to sleep for half a second", || {
        let before = work(&mut world);
        std::thread::sleep(Duration::from_millis(500));
        work(&mut world).0 - before.0 < 3
    });
    let topics: Vec<_> = (0..200).map(|number| format!("topic/{number}")).collect();
    let mut publishers: Vec<_> =
        topics.iter().map(|topic| publisher(&world, topic, Duration::from_millis(1), true)).collect();
    let mut sent = || publishers.iter_mut().for_each(|publisher| publisher.send(&7).unwrap());
    wait_until("the daemon to work for less than a fifth of the time", || {
        let (before, begun) = (work(&mut world).1, Instant::now());
        while begun.elapsed() < Duration::from_millis(500) {
            sent();
            std::thread::sleep(Duration::from_millis(1));
        }
        (work(&mut world).1 - before) * 5 < begun.elapsed()
    });
}
