//! What one user causes at the daemon is bounded, and costs other users little.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use conduit::registry::EventKind;
use conduit::{Domain, ShmRegion};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::skip::{self, Lack};
use crate::harness::{NOBODY, Raw, World, wait_until};
use crate::protocol::Order::{HalfOpen, Publish, PublishFleet, UnlinkByRegistry};

/// Raw regions whose creator lives in this process, without the daemon's knowledge.
fn regions(world: &World, count: usize) -> Vec<ShmRegion> {
    let silent = Domain::new(world.path()).without_registry();
    let create = |number| ShmRegion::builder().domain(&silent).create(format!("region/{number}"), 100).unwrap();
    (0..count).map(create).collect()
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn late_registrations_of_live_regions_that_hang_up_occupy_no_threads() {
    let mut world = World::with_daemon();
    let regions = regions(&world, 200);
    wait_until("them to be listed", || world.list().len() == regions.len());
    let pid = world.daemon().pid();
    let registered: Vec<Raw> = (0..regions.len())
        .map(|number| {
            let name = format!("region/{number}");
            let file = std::fs::metadata(world.path_of(&name)).unwrap();
            let mut raw = Raw::connect(&world);
            let parameters = json!({"topic": name, "dev": file.dev(), "inode": file.ino()});
            let reply = raw.call("io.conduit.Registry.Register", &parameters);
            assert!(reply.get("error").is_none(), "{reply}");
            raw
        })
        .collect();
    drop(registered);
    let publisher = world.publisher("innocent", 16, 100);
    publisher.kill();
    let mut most = 0;
    wait_until("the innocent topic to be removed", || {
        most = most.max(threads(pid));
        !world.exists("innocent")
    });
    assert!(most < 40, "{most} threads");
    assert_eq!(world.list().len(), regions.len(), "the others live");
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn untracked(world: &World) -> u64 {
    world.client().status().unwrap().untracked
}

/// Checks that a topic is served from creation to removal.
fn serves(world: &World) {
    let publisher = world.publisher("innocent", 16, 100);
    assert!(world.list().iter().any(|topic| topic.name == "innocent"));
    publisher.kill();
    world.wait_until_gone("innocent");
}

#[test]
fn names_beyond_a_users_limit_are_counted_and_tracked_when_there_is_room() {
    let mut world = World::new();
    world.daemon_arguments = vec!["--max-regions-per-uid", "20"];
    world.start_daemon();
    drop(regions(&world, 50));
    let counts = |world: &World| (world.list().len(), untracked(world));
    wait_until("the names to be counted", || counts(&world) == (20, 30));
    serves(&world);
    world.wait_until_logged("are not tracked");
    let lines = world.log().lines().filter(|line| line.contains("are not tracked")).count();
    assert!((1..=6).contains(&lines), "{lines} lines for 30 names");

    world.kill_daemon();
    world.start_daemon();
    assert_eq!(counts(&world), (20, 30), "the next daemon finds the same");
    serves(&world);
    for topic in world.list().iter().take(15) {
        std::fs::remove_file(&topic.path).unwrap();
    }
    wait_until("others to be tracked instead", || counts(&world) == (20, 15));
    for number in 0..50 {
        let _ = std::fs::remove_file(world.path_of(&format!("region/{number}")));
    }
    wait_until("none to be left", || counts(&world) == (0, 0));
}

#[test]
fn thousands_of_names_of_one_file_cost_no_descriptors() {
    let mut world = World::with_daemon();
    let idle = descriptors(world.daemon().pid());
    drop(regions(&world, 1));
    for number in 0..3000 {
        std::fs::hard_link(world.path_of("region/0"), world.path_of(&format!("link/{number}"))).unwrap();
    }
    for _ in 0..2 {
        wait_until("the names to be counted", || untracked(&world) > 2900);
        serves(&world);
        let listed = world.list().len();
        assert!(listed < 20, "{listed} names of one file are listed");
        let open = descriptors(world.daemon().pid());
        assert!(open < idle + 10, "{open} descriptors, {idle} when idle");
        world.kill_daemon();
        world.start_daemon();
    }
    for number in 0..3000 {
        std::fs::remove_file(world.path_of(&format!("link/{number}"))).unwrap();
    }
    wait_until("the links to be gone", || world.list().len() == 1 && untracked(&world) == 0);
}

#[test]
fn announced_names_of_one_file_are_few() {
    let world = World::with_daemon();
    let _region = regions(&world, 1);
    let file = std::fs::metadata(world.path_of("region/0")).unwrap();
    let links: Vec<String> = (0..100).map(|number| format!("link/{number}")).collect();
    links.iter().for_each(|name| std::fs::hard_link(world.path_of("region/0"), world.path_of(name)).unwrap());
    let announce = |name: &String| {
        let mut raw = Raw::connect(&world);
        let parameters = json!({"topic": name, "dev": file.dev(), "inode": file.ino()});
        let reply = raw.call("io.conduit.Registry.Register", &parameters);
        assert!(reply.get("error").is_none(), "{reply}");
        raw
    };
    let announced: Vec<Raw> = links.iter().map(announce).collect();
    // What becomes of an announced name is looked at again when it is asked for.
    let is_listed = |name: &String| world.client().describe(&name.parse().unwrap()).is_ok();
    let described = links.iter().filter(|name| is_listed(name)).count();
    assert!(described < 20, "{described} announced names of one file are described");
    drop(announced);
    wait_until("the connections to end", || world.client().status().unwrap().clients < 10);
    let listed = world.list().len();
    assert!(listed < 20, "{listed} names of one file are listed");
    serves(&world);
}

#[test]
fn with_few_descriptors_topics_are_created_and_reaped() {
    let mut world = World::new();
    world.start_daemon_with_descriptors(64);
    let names: Vec<String> = (0..100).map(|number| format!("topic/{number}")).collect();
    let mut fleet = world.peer();
    fleet.order(PublishFleet(4, 100, names.iter().map(String::as_str).collect()));
    let pid = world.daemon().pid();
    if nix::unistd::geteuid().is_root() {
        let mut other = world.peer_of(NOBODY);
        other.order(Publish("theirs", 16, 100));
        other.order(UnlinkByRegistry("theirs"));
    } else {
        skip::report(&Lack::Root, "another user beside many topics");
    }
    assert!(descriptors(pid) < 64);
    fleet.kill();
    wait_until("all topics to be removed", || world.leftovers().is_empty());
    assert!(descriptors(pid) < 64);
    serves(&world);
}

#[test]
fn with_a_thousand_descriptors_one_user_leaves_room_for_others() {
    let mut world = World::new();
    world.start_daemon_with_descriptors(1024);
    let names: Vec<String> = (0..600).map(|number| format!("topic/{number}")).collect();
    let mut fleet = world.peer();
    fleet.order(PublishFleet(4, 100, names.iter().map(String::as_str).collect()));
    let mut crowd = world.peer();
    let _: u64 = crowd.ask(HalfOpen(900)).number();
    // The answer to one connection too many is a sentence, at once.
    let refused = Raw::connect(&world).reply();
    assert_eq!(refused["error"], "io.conduit.Registry.LimitExceeded", "{refused}");
    if nix::unistd::geteuid().is_root() {
        let mut other = world.peer_of(NOBODY);
        other.order(Publish("theirs", 16, 100));
        other.order(UnlinkByRegistry("theirs"));
    } else {
        skip::report(&Lack::Root, "another user beside many topics");
    }
    crowd.kill();
    fleet.kill();
    wait_until("all topics to be removed", || world.leftovers().is_empty());
    serves(&world);
    let pid = world.daemon().pid();
    wait_until("the descriptors to be free again", || descriptors(pid) < 40);
}

#[test]
fn a_watcher_that_reads_gets_nine_hundred_ends_at_once() {
    let mut world = World::with_daemon();
    drop(regions(&world, 900));
    wait_until("them to be listed", || world.list().len() == 900);
    let events = world.watch();
    events.find("the last of them", |event| event.topic == "region/99");
    world.daemon().signal(Signal::SIGSTOP);
    for number in 0..900 {
        std::fs::remove_file(world.path_of(&format!("region/{number}"))).unwrap();
    }
    world.daemon().signal(Signal::SIGCONT);
    for number in 0..900 {
        events.find(&format!("end {number}"), |event| event.kind == EventKind::Closed);
    }
    assert!(!world.log().contains("a watcher that does not read"), "{}", world.log());
}

#[test]
fn changes_that_the_kernel_drops_are_found_by_reading_the_directory() {
    let mut world = World::with_daemon();
    let _there = regions(&world, 2);
    wait_until("them to be listed", || world.list().len() == 2);
    world.daemon().signal(Signal::SIGSTOP);
    let queue: usize =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let link = world.path_of("link");
    for _ in 0..queue / 2 + 10 {
        std::fs::hard_link(world.path_of("region/0"), &link).unwrap();
        std::fs::remove_file(&link).unwrap();
    }
    let silent = Domain::new(world.path()).without_registry();
    let _new = ShmRegion::builder().domain(&silent).create("new", 100).unwrap();
    std::fs::rename(world.path_of("region/1"), world.path_of("moved")).unwrap();
    world.daemon().signal(Signal::SIGCONT);
    let names = || world.list().into_iter().map(|topic| topic.name).collect::<Vec<_>>();
    wait_until("the new names", || names() == ["moved", "new", "region/0"]);
    serves(&world);
}

#[test]
fn leases_leave_a_few_connections_for_questions() {
    let mut world = World::new();
    world.daemon_arguments = vec!["--max-connections-per-uid", "32"];
    world.start_daemon();
    let names: Vec<String> = (0..40).map(|number| format!("topic/{number}")).collect();
    let mut fleet = world.peer();
    fleet.order(PublishFleet(4, 100, names.iter().map(String::as_str).collect()));
    assert_eq!(world.list().len(), 40, "a question is answered");
    fleet.kill();
    wait_until("all topics to be removed", || world.leftovers().is_empty());
}

#[test]
fn watchers_with_long_patterns_are_few_and_leave_nothing() {
    let mut world = World::with_daemon();
    let idle = descriptors(world.daemon().pid());
    let watch = |number: usize| {
        let mut raw = Raw::connect(&world);
        let pattern = format!("{number}/**/{}", "a/".repeat(480) + "*");
        let call = json!({"method": "io.conduit.Registry.Watch", "parameters": {"topic": pattern}, "more": true});
        raw.send(format!("{call}\0").as_bytes());
        raw.0.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        raw
    };
    let mut crowd: Vec<Raw> = (0..40).map(watch).collect();
    let refused = (40..200).find_map(|number| {
        let mut raw = watch(number);
        let mut reply = [0; 512];
        let len = raw.0.read(&mut reply).unwrap_or(0);
        crowd.push(raw);
        (len > 0).then(|| String::from_utf8_lossy(&reply[..len]).into_owned())
    });
    let refused = refused.expect("the memory of patterns is limited");
    assert!(refused.contains("LimitExceeded"), "{refused}");
    for _ in 0..5 {
        serves(&world);
    }
    for raw in &mut crowd[..40] {
        let error = raw.0.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "its pattern matches nothing, and it stays");
    }
    drop(crowd);
    let pid = world.daemon().pid();
    wait_until("their descriptors to be free", || descriptors(pid) <= idle);
}

#[test]
fn a_name_that_changes_in_a_loop_fills_no_log() {
    let world = World::with_daemon();
    drop(regions(&world, 1));
    let is_over = AtomicBool::new(false);
    let renamed = std::thread::scope(|scope| {
        let renaming = scope.spawn(|| {
            let mut count = 0_u64;
            let (mut from, mut to) = (world.path_of("region/0"), world.path_of("other"));
            while !is_over.load(Ordering::Relaxed) {
                std::fs::rename(&from, &to).unwrap();
                std::mem::swap(&mut from, &mut to);
                count += 1;
            }
            count
        });
        for _ in 0..20 {
            serves(&world);
        }
        wait_until("many changes", || world.log().lines().count() > 300);
        is_over.store(true, Ordering::Relaxed);
        renaming.join().unwrap()
    });
    let lines = world.log().lines().count();
    assert!(lines < 3000, "{lines} lines after {renamed} changes of a name");
    wait_until("its last name to be listed", || {
        let listed = world.list();
        listed.len() == 1 && world.exists(&listed[0].name)
    });
}

#[test]
fn a_subscriber_without_a_record_is_not_shown() {
    let world = World::with_daemon();
    let _publisher = world.publisher("scan", 16, 100);
    let _subscriber = world.subscriber("scan");
    let file = std::fs::metadata(world.path_of("scan")).unwrap();
    let mut crowd: Vec<Raw> = (1..50).map(|_| Raw::connect(&world)).collect();
    for (record, raw) in (1..).zip(&mut crowd) {
        let parameters = json!({"topic": "scan", "dev": file.dev(), "inode": file.ino(), "record": record});
        let reply = raw.call("io.conduit.Registry.Attach", &parameters);
        assert_eq!(reply["error"], "io.conduit.Registry.Failed", "{reply}");
    }
    assert_eq!(world.list()[0].subscribers.len(), 1);
}
