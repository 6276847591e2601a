//! The daemon under a service manager: its clients do not notice that it is killed and restarted.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use conduit::registry::{EventKind, Liveness, RegionState};
use conduit::{Domain, Publisher, ShmRegion};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::skip::{Lack, skip};
use crate::harness::{Daemon, Peer, Raw, SlowFolder, World, sample, wait_until};
use crate::manager::Manager;
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

/// The sockets of a process, by inode.
fn sockets(pid: u32) -> BTreeSet<PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).collect()
}

fn started() -> (World, Manager, Daemon) {
    let world = World::new();
    let manager = Manager::new(&world);
    let daemon = manager.start(&world);
    manager.hear("READY=1");
    (world, manager, daemon)
}

/// Kills the daemon with SIGKILL and starts a new one.
fn restart(world: &World, manager: &Manager, daemon: Daemon) -> Daemon {
    daemon.kill();
    let daemon = manager.start(world);
    manager.hear("READY=1");
    daemon
}

fn pair(world: &World) -> (Peer, Peer) {
    let publisher = world.publisher("scan", 16, 100);
    let subscriber = world.subscriber("scan");
    (publisher, subscriber)
}

#[test]
fn clients_do_not_notice_that_the_daemon_is_restarted() {
    let (world, manager, mut daemon) = started();
    let (mut publisher, mut subscriber) = pair(&world);
    let events = world.watch();
    let next = || events.find("the next event", |_| true);
    assert_eq!([next().kind, next().kind], [EventKind::Present, EventKind::SubscriberPresent]);
    let before = [sockets(publisher.pid()), sockets(subscriber.pid())];
    assert_eq!(before.each_ref().map(BTreeSet::len), [1, 1]);
    for _ in 0..3 {
        daemon = restart(&world, &manager, daemon);
        // New connections must not be mistaken for restored ones.
        world.list();
        wait_until("they to end", || world.client().status().unwrap().clients == 4);
        let topics = world.list();
        assert_eq!(topics.len(), 1);
        assert_eq!((&topics[0].state, topics[0].liveness.as_ref()), (&RegionState::Live, Some(&Liveness::Lease)));
        assert_eq!(topics[0].publisher.as_ref().unwrap().pid, publisher.pid());
        assert_eq!(topics[0].subscribers.len(), 1);
        publisher.order(Send(1, 100));
    }
    // Longer than the interval at which either client checks its lease.
    std::thread::sleep(Duration::from_millis(600));
    publisher.order(Send(1, 100));
    assert_eq!(subscriber.ask(Counts), Answer::Counts { received: 0, lost: 0 });
    for sequence in 0..4 {
        assert_eq!(subscriber.ask(Recv), sample(sequence));
    }
    assert_eq!([sockets(publisher.pid()), sockets(subscriber.pid())], before, "the connections are the same");

    let pid = publisher.pid();
    publisher.kill();
    assert_eq!(subscriber.ask(Recv), Answer::Gone(End::Died));
    let died = next();
    assert_eq!((died.kind, died.process.unwrap().pid), (EventKind::Died, pid), "the next event, nothing twice");
    assert!(died.death.unwrap().signal.is_none_or(|signal| signal == 9));
    world.wait_until_gone("scan");
    let pid = subscriber.pid();
    subscriber.kill();
    let died = next();
    assert_eq!((died.kind, died.process.unwrap().pid), (EventKind::SubscriberDied, pid));
    wait_until("nothing to be kept but the watcher", || manager.kept().iter().all(|name| !name.contains("scan")));
    drop(daemon);
}

#[test]
fn events_missed_during_a_restart_are_reported_once() {
    let (world, manager, daemon) = started();
    let (publisher, mut subscriber) = pair(&world);
    let mut closing = world.publisher("closing", 16, 100);
    let unregistered = Domain::new(world.path()).without_registry();
    let silent = Publisher::<[u8]>::builder().domain(&unregistered).create("silent").unwrap();
    let stays = Publisher::<[u8]>::builder().domain(&unregistered).create("stays").unwrap();
    wait_until("all to be listed", || world.list().len() == 4);
    let events = world.watch();
    let present: Vec<_> = (0..5).map(|_| events.find("the next event", |_| true).kind).collect();
    assert_eq!(present[4], EventKind::SubscriberPresent);

    daemon.kill();
    let (killed, closed) = (publisher.pid(), closing.pid());
    publisher.kill();
    // It waits for the reply to its last call.
    closing.tell(Unpublish);
    wait_until("it to be closed", || !world.exists("closing"));
    drop(silent);
    let again = Publisher::<[u8]>::builder().domain(&unregistered).create("silent").unwrap();
    let new = Publisher::<[u8]>::builder().domain(&unregistered).create("new").unwrap();
    let _daemon = manager.start(&world);
    closing.expect(Answer::Done);

    let mut told: Vec<_> = (0..5).map(|_| events.find("the next event", |_| true)).collect();
    told.sort_by(|one, other| one.topic.cmp(&other.topic));
    let told: Vec<_> =
        told.iter().map(|it| (it.topic.as_str(), it.kind.clone(), it.process.as_ref().map(|it| it.pid))).collect();
    let own = Some(std::process::id());
    let expected = [
        ("closing", EventKind::Closed, Some(closed)),
        ("new", EventKind::Published, own),
        ("scan", EventKind::Died, Some(killed)),
        ("silent", EventKind::Closed, None),
        ("silent", EventKind::Published, own),
    ];
    assert_eq!(told, expected);
    subscriber.order(Unsubscribe);
    assert_eq!(events.find("the next event", |_| true).kind, EventKind::Unsubscribed, "no other event was sent");
    drop((stays, new, again));
}

#[test]
fn a_slow_start_extends_the_start_timeout() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    for number in 0..1000 {
        drop(ShmRegion::builder().domain(&world.domain()).create(format!("scan/{number}"), 100).unwrap());
    }
    let manager = Manager::new(&world);
    let _daemon = manager.start(&world);
    assert_eq!(manager.hear("EXTEND_TIMEOUT_USEC="), "EXTEND_TIMEOUT_USEC=30000000");
    manager.hear("READY=1");
    assert_eq!(world.list().len(), 1001);
}

#[test]
fn a_lease_is_stored_before_it_is_acknowledged() {
    let (world, manager, daemon) = started();
    manager.hold_barriers_back();
    let mut publisher = world.peer();
    publisher.tell(Publish("scan", 16, 100));
    wait_until("the barrier", || manager.barriers_held_back() > 0);
    let kept = manager.wait_until_kept("owner");
    assert!(kept.ends_with(" scan"), "{kept}");
    assert!(publisher.answers_so_far().is_empty() && !world.exists("scan"), "it is not acknowledged");
    // A service manager that hangs does not block publishers.
    publisher.expect(Answer::Done);
    manager.answer_barriers();
    // Announced and named: what is stored first for every lease.
    let _daemon = restart(&world, &manager, daemon);
    assert_eq!(world.list()[0].liveness, Some(Liveness::Lease));
}

#[test]
fn a_pending_call_is_answered_by_the_restarted_daemon() {
    // A publisher waits for 100 ms, or a second on a busy machine, and then continues without.
    wait_until("a daemon that restarts in time", || {
        let (world, manager, daemon) = started();
        manager.hold_barriers_back();
        let mut publisher = world.peer();
        publisher.tell(Publish("scan", 16, 100));
        wait_until("the barrier", || manager.barriers_held_back() > 0);
        daemon.kill();
        manager.answer_barriers();
        let begun = Instant::now();
        let _daemon = manager.start(&world);
        publisher.expect(Answer::Done);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        wait_until("it to be listed", || world.list().len() == 1);
        world.list()[0].liveness == Some(Liveness::Lease)
    });
}

#[test]
fn a_watcher_whose_filter_is_too_long_to_store_is_disconnected() {
    let (world, manager, daemon) = started();
    let mut watcher = Raw::connect(&world);
    let glob = "a".repeat(250);
    let watch = json!({ "method": "io.conduit.Registry.Watch", "more": true, "parameters": { "topic": glob } });
    watcher.send(format!("{watch}\0").as_bytes());
    let mut idle = Raw::connect(&world);
    idle.call("io.conduit.Registry.List", &json!({}));
    manager.wait_until_kept("idle");
    // This client came last: if the other one were stored as idle, it would be stored by now.
    idle.call("io.conduit.Registry.List", &json!({}));
    assert_eq!(manager.kept().iter().filter(|name| name.starts_with("client")).count(), 1);
    let _daemon = restart(&world, &manager, daemon);
    assert!(watcher.is_hung_up(), "it must subscribe again");
}

#[test]
fn late_leases_stay_late_after_a_restart() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    let manager = Manager::new(&world);
    let daemon = manager.start(&world);
    manager.hear("READY=1");
    let metadata = std::fs::metadata(world.path_of("scan")).unwrap();
    let mut late = Raw::connect(&world);
    use std::os::unix::fs::MetadataExt;
    let reply = late.call(
        "io.conduit.Registry.Register",
        &json!({ "topic": "scan", "dev": metadata.dev(), "inode": metadata.ino() }),
    );
    assert_eq!(reply, json!({ "parameters": {} }));
    manager.wait_until_kept(" late ");
    let _daemon = restart(&world, &manager, daemon);
    assert_eq!(world.list()[0].liveness, Some(Liveness::Lock), "its lock decides");
    // The end of the connection proves nothing about the topic.
    drop(late);
    wait_until("it to be forgotten", || !manager.kept().iter().any(|name| name.contains(" late ")));
    assert_eq!(world.list().len(), 1);
    publisher.order(Send(1, 10));
}

#[test]
fn a_call_sent_before_a_restart_is_answered_after_it() {
    let (world, manager, daemon) = started();
    let mut client = world.client();
    client.list().unwrap();
    manager.wait_until_kept("idle");
    let mut raw = Raw::connect(&world);
    raw.call("io.conduit.Registry.List", &json!({}));
    wait_until("both to be kept", || manager.kept().iter().filter(|name| name.contains("idle")).count() == 2);
    daemon.signal(Signal::SIGSTOP);
    raw.send(b"{\"method\":\"io.conduit.Registry.List\"}\0");
    let _daemon = restart(&world, &manager, daemon);
    assert_eq!(raw.reply()["parameters"]["topics"], json!([]), "by the next, over the same connection");
    client.list().unwrap();
    // Connections that ask once and close need not be stored.
    wait_until("the next two to be kept", || manager.kept().iter().filter(|name| name.contains("idle")).count() == 2);
    drop((client, raw));
    wait_until("both to be forgotten", || !manager.kept().iter().any(|name| name.contains("idle")));
}

#[test]
fn a_watcher_with_a_partly_sent_message_is_not_restored() {
    let (world, manager, daemon) = started();
    let mut lazy = Raw::connect(&world);
    lazy.send(b"{\"method\":\"io.conduit.Registry.Watch\",\"more\":true}\0");
    manager.wait_until_kept("watcher");
    let mut publisher = world.peer();
    publisher.tell(Churn("scan", 3000));
    wait_until("it to be given up", || !manager.kept().iter().any(|name| name.contains("watcher")));
    let _daemon = restart(&world, &manager, daemon);
    let mut bytes = Vec::new();
    lazy.0.read_to_end(&mut bytes).unwrap();
    let mut messages: Vec<_> = bytes.split(|byte| *byte == 0).collect();
    // The last message may be incomplete, but nothing may follow it.
    messages.pop();
    assert!(messages.len() > 100);
    for message in messages {
        serde_json::from_slice::<serde_json::Value>(message).unwrap();
    }
}

#[test]
fn a_disconnected_client_is_removed_from_the_store() {
    let (world, manager, _daemon) = started();
    let mut client = Raw::connect(&world);
    client.call("io.conduit.Registry.List", &json!({}));
    manager.wait_until_kept("idle");
    client.send(b"nonsense\0");
    assert_eq!(client.replies().len(), 1, "why, and then the end");
    wait_until("it to be forgotten", || !manager.kept().iter().any(|name| name.contains("idle")));
}

#[test]
fn unknown_descriptors_in_the_store_are_closed() {
    let (world, manager, daemon) = started();
    let (mut publisher, _subscriber) = pair(&world);
    let (one, other) = UnixStream::pair().unwrap();
    let directory = manager.wait_until_kept("directory");
    let elsewhere = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
    rustix::fs::inotify::add_watch(&elsewhere, "/", rustix::fs::inotify::WatchFlags::CREATE).unwrap();
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let strangers = [
        ("client 77 owner 1 2 scan", null()),
        ("client 78 dreams", OwnedFd::from(one)),
        ("client 79 watcher zz", null()),
        ("directory 1 2", elsewhere),
        ("", null()),
        ("client 7a idle", OwnedFd::from(UnixListener::bind(world.path().join("another.sock")).unwrap())),
        ("stored", null()),
    ];
    let names = strangers.each_ref().map(|(name, _)| (*name).to_owned());
    for (name, descriptor) in strangers {
        manager.put(name, descriptor);
    }
    let _daemon = restart(&world, &manager, daemon);
    publisher.order(Send(1, 10));
    let topics = world.list();
    assert_eq!(
        (topics.len(), topics[0].liveness.as_ref(), topics[0].subscribers.len()),
        (1, Some(&Liveness::Lease), 1)
    );
    wait_until("the strangers to be gone", || !manager.kept().iter().any(|name| names.contains(name)));
    assert!(manager.kept().contains(&directory));
    for name in names {
        world.wait_until_logged(&format!("named {name:?}"));
    }
    drop(other);
}

#[test]
fn the_listening_socket_is_found_by_its_name() {
    let world = World::new();
    let manager = Manager::new(&world);
    let other = UnixListener::bind(world.path().join("another.sock")).unwrap();
    let names = vec!["another".into(), "registry".into()];
    let _daemon = manager.spawn(&world, names, vec![other.into(), manager.listener()]);
    manager.hear("READY=1");
    assert_eq!(world.list(), []);
    world.wait_until_logged("named \"another\"");
    // Or by its kind, if it is the only one.
    let world = World::new();
    let manager = Manager::new(&world);
    let _daemon = manager.spawn(&world, vec!["mine.socket".into()], vec![manager.listener()]);
    manager.hear("READY=1");
    assert_eq!(world.list(), []);
}

#[test]
fn invalid_variables_do_not_prevent_the_start() {
    for variables in [
        [("LISTEN_FDS", "many"), ("WATCHDOG_USEC", "soon"), ("FDSTORE", "-1")],
        [("LISTEN_FDS", "4000000000"), ("WATCHDOG_USEC", "0"), ("FDSTORE", "")],
        [("LISTEN_FDNAMES", "a:b:c:d"), ("WATCHDOG_USEC", "1"), ("FDSTORE", "1e9")],
        [("LISTEN_FDS", "-1"), ("WATCHDOG_USEC", "99999999999999999999"), ("FDSTORE", "x")],
    ] {
        let world = World::new();
        let mut manager = Manager::new(&world);
        manager.environment = variables.map(|(name, value)| (name, value.to_owned())).to_vec();
        std::fs::remove_file(world.socket()).unwrap();
        manager.arguments = vec!["--socket".into(), world.socket().display().to_string()];
        let _daemon = manager.start(&world);
        manager.hear("READY=1");
        assert_eq!(world.list(), []);
        world.wait_until_logged("WATCHDOG_USEC=");
        world.wait_until_logged("is not between");
        world.wait_until_logged("ignoring invalid LISTEN_FDS");
    }
}

#[test]
fn a_socket_at_another_path_than_requested_is_refused() {
    let world = World::new();
    let mut manager = Manager::new(&world);
    manager.arguments = vec!["--socket".into(), "/run/elsewhere.sock".into()];
    let mut daemon = manager.start(&world);
    assert_eq!(daemon.wait(), Some(1));
    let log = world.log();
    let expected =
        format!("systemd passes the socket {}, but --socket is /run/elsewhere.sock", world.socket().display());
    assert!(log.contains(&expected), "{log}");
}

#[test]
fn status_reload_and_watchdog_are_notified() {
    let world = World::new();
    let mut manager = Manager::new(&world);
    manager.environment = vec![("WATCHDOG_USEC", "100000".into())];
    let mut daemon = manager.start(&world);
    manager.hear("READY=1");
    assert_eq!(manager.hear("STATUS="), "STATUS=0 topics, 0 clients, 0 reaped");
    let (publisher, _subscriber) = pair(&world);
    wait_until("the count", || manager.hear("STATUS=") == "STATUS=1 topics, 2 clients, 0 reaped");
    publisher.kill();
    wait_until("the death", || manager.hear("STATUS=").ends_with("1 reaped"));
    let status = world.client().status().unwrap();
    assert_eq!((status.pid, status.reaped, status.supervised), (daemon.pid(), 1, true));

    daemon.signal(Signal::SIGHUP);
    manager.hear("RELOADING=1");
    let time: u64 = manager.hear("MONOTONIC_USEC=")["MONOTONIC_USEC=".len()..].parse().unwrap();
    assert!(time > 0);
    manager.hear("READY=1");

    for _ in 0..5 {
        manager.hear("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGTERM);
    manager.hear("STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
    assert!(world.socket().exists(), "the socket is the service manager's");
}

#[test]
fn core_dumps_are_reported_on_a_socket_that_was_passed() {
    use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let Some(folder) = SlowFolder::new() else { skip!(Lack::CoreDumps, "a core dump that takes long") };
    let world = World::new();
    let manager = Manager::new(&world);
    // As systemd's ListenNetlink=connector 1.
    let flags = SocketFlags::CLOEXEC;
    let connector = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(CONNECTOR)).unwrap();
    bind(&connector, &SocketAddrNetlink::new(0, 1)).unwrap();
    let inode = rustix::fs::fstat(&connector).unwrap().st_ino;
    let names = ["registry", "core-dumps"].map(str::to_owned);
    let daemon = manager.spawn(&world, names.into(), vec![manager.listener(), connector]);
    manager.hear("READY=1");
    assert!(sockets(daemon.pid()).contains(&PathBuf::from(format!("socket:[{inode}]"))), "{}", world.log());
    let publisher = world.publisher("scan", 16, 100);
    let sleeper = world.sleeper("scan");
    let dump = folder.dump(publisher);
    sleeper.expect(Answer::Gone(End::Died));
    wait_until("the name to be free", || !world.exists("scan"));
    assert!(dump.is_in_progress());
}
