//! The daemon dies, starts late, or meets another daemon, without any effect on publishers and
//! subscribers.

use nix::sys::signal::Signal;

use conduit::registry::{EventKind, RegionState};

use crate::harness::{NOBODY, World, need_root, stderr_of, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

#[test]
fn kill_and_restart_under_load_loses_nothing() {
    let mut world = World::with_daemon();
    let mut publisher = world.publisher("scan", 64, 256);
    let mut subscribers: Vec<_> = (0..3)
        .map(|_| {
            let mut subscriber = world.subscriber("scan");
            subscriber.tell(Drain);
            subscriber
        })
        .collect();
    publisher.begin(Stream(256));
    for round in 0..20 {
        world.kill_daemon();
        world.start_daemon();
        let topic = world.list().remove(0);
        assert_eq!((topic.name.as_str(), topic.state), ("scan", RegionState::Live), "round {round}");
        assert_eq!(topic.publisher.unwrap().pid, publisher.pid());
        assert_eq!(topic.subscribers.len(), 3);
    }
    publisher.tell(Stop);
    let published: u64 = publisher.answer().number();
    publisher.order(Unpublish);
    for subscriber in &mut subscribers {
        let drained = subscriber.answer().drained();
        assert_eq!((drained.received + drained.lost, drained.torn), (published, 0), "{drained:?}");
    }
}

#[test]
fn a_late_daemon_adopts_live_topics_and_reaps_orphans() {
    let mut world = World::new();
    let live = world.publisher("live", 16, 100);
    let mut subscriber = world.subscriber("live");
    let dead = world.publisher("dead", 16, 100);
    dead.kill();
    assert!(world.exists("dead"));
    world.start_daemon();
    wait_until("the orphan to be removed", || !world.exists("dead"));
    let topics = world.list();
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].publisher.as_ref().unwrap().pid, live.pid());
    assert_eq!(topics[0].subscribers[0].pid, subscriber.pid());
    // From now on the daemon also watches clients that never contacted it.
    subscriber.tell(Recv);
    world.wait_until_asleep("live", 1);
    live.kill();
    subscriber.expect(Answer::Gone(End::Died));
    world.wait_until_gone("live");
}

#[test]
fn a_publisher_that_died_without_a_daemon_is_reaped_at_its_start() {
    let mut world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    world.kill_daemon();
    publisher.kill();
    assert!(world.exists("scan"));
    world.start_daemon();
    world.wait_until_gone("scan");
}

#[test]
fn sigterm_ends_the_daemon_and_keeps_live_topics() {
    let mut world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let daemon = world.daemon();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    assert!(!world.socket().exists());
    assert!(world.exists("scan"));
    publisher.order(Send(3, 100));
}

#[test]
fn a_second_daemon_on_the_same_socket_fails_and_names_the_first() {
    let mut world = World::with_daemon();
    let pid = world.daemon().pid();
    let error = stderr_of(&mut world.command(env!("CARGO_BIN_EXE_conduitd")), 3);
    let first = format!("another registry (conduitd {}, pid {pid}) listens on", env!("CARGO_PKG_VERSION"));
    assert!(error.contains(&first), "{error}");
    assert!(world.daemon().is_running());
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let mut world = World::with_daemon();
    world.kill_daemon();
    assert!(world.socket().exists(), "SIGKILL leaves it");
    world.start_daemon();
    world.kill_daemon();
    std::fs::remove_file(world.socket()).unwrap();
    std::fs::write(world.socket(), "mine").unwrap();
    assert!(stderr_of(&mut world.command(env!("CARGO_BIN_EXE_conduitd")), 1).contains("is not a socket"));
    assert_eq!(std::fs::read_to_string(world.socket()).unwrap(), "mine");
}

#[test]
fn a_truncated_region_does_not_crash_the_daemon() {
    let mut world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    wait_until("it to be listed", || world.list().len() == 1);
    let file = std::fs::File::options().write(true).open(world.path_of("scan")).unwrap();
    file.set_len(0).unwrap();
    world.list();
    publisher.kill();
    world.wait_until_gone("scan");
    assert!(world.daemon().is_running());
    assert_eq!(world.list(), []);
}

#[test]
fn foreign_files_are_ignored() {
    let mut world = World::new();
    std::fs::write(world.path().join("conduit_foreign"), "not a region").unwrap();
    std::fs::write(world.path().join("conduit_.."), "no name").unwrap();
    std::fs::create_dir(world.path().join("conduit_directory")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.path().join("conduit_link")).unwrap();
    nix::unistd::mkfifo(&world.path().join("conduit_fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let before = world.leftovers().len();
    world.start_daemon();
    assert_eq!(world.list(), []);
    std::fs::write(world.path().join("conduit_later"), "not a region either").unwrap();
    assert_eq!(world.list(), []);
    assert_eq!(world.leftovers().len(), before + 1);
    assert!(world.daemon().is_running());
}

#[test]
fn removal_of_a_live_topics_file_is_reported() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    wait_until("it to be listed", || world.list().len() == 1);
    let mut events = world.client().watch().unwrap();
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Present);
    std::fs::remove_file(world.path_of("scan")).unwrap();
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Unlinked);
    // The end of the old publisher does not affect its successor.
    let _successor = world.publisher("scan", 16, 100);
    publisher.order(Unpublish);
    assert!(world.exists("scan"));
}

#[test]
fn an_interrupted_removal_is_completed() {
    let mut world = World::new();
    let dead = world.publisher("scan", 16, 100);
    dead.kill();
    std::fs::rename(world.path_of("scan"), world.path().join(".conduit_scan~1-2-3")).unwrap();
    assert_eq!(world.leftovers().len(), 1);
    world.start_daemon();
    wait_until("the leftover to be removed", || world.leftovers().is_empty());
    // An orphan left while no daemon ran is removed as well.
    let dead = world.publisher("scan", 16, 100);
    world.kill_daemon();
    dead.kill();
    world.start_daemon();
    wait_until("the orphan to be removed", || world.leftovers().is_empty());
}

#[test]
fn a_client_reconnects_to_a_restarted_daemon() {
    let mut world = World::with_daemon();
    let mut client = world.client();
    assert_eq!(client.list().unwrap(), []);
    world.kill_daemon();
    world.start_daemon();
    let _publisher = world.publisher("scan", 16, 100);
    assert_eq!(client.list().unwrap().len(), 1);
}

#[test]
fn a_second_daemon_of_the_same_directory_fails_and_names_the_first() {
    let mut world = World::with_daemon();
    let pid = world.daemon().pid();
    let other_socket = world.path().join("other.sock");
    let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
    let error = stderr_of(command.args(["--socket", other_socket.to_str().unwrap()]), 4);
    let first = format!("(pid {pid}, at {})", world.socket().display());
    assert!(error.contains("another registry serves") && error.contains(&first), "{error}");
    assert!(!other_socket.exists());
    // A daemon that was killed does not block its successor.
    world.kill_daemon();
    world.start_daemon();
}

#[test]
fn a_user_daemon_does_not_disturb_the_system_daemon() {
    need_root!("a user's daemon beside the system's");
    let world = World::with_daemon();
    let other_socket = world.path().join("other/registry.sock");
    let user = format!("--reuid={NOBODY}");
    let mut command = world.command("setpriv");
    command.args([&user, "--clear-groups", env!("CARGO_BIN_EXE_conduitd"), "--config", "/dev/null"]);
    let mut other = command.args(["--socket", other_socket.to_str().unwrap()]).spawn().unwrap();
    wait_until("the other to listen", || other_socket.exists());
    for uid in [0, NOBODY].repeat(10) {
        let mut publisher = world.peer_of(uid);
        publisher.order(Publish("scan", 16, 100));
        publisher.kill();
        let mut successor = world.peer_of(uid);
        successor.order(Publish("scan", 16, 100));
        assert!(world.exists("scan"));
        successor.order(Send(1, 10));
        successor.order(Unpublish);
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn another_program_on_the_socket_is_not_called_a_registry() {
    let world = World::new();
    let listener = std::os::unix::net::UnixListener::bind(world.socket()).unwrap();
    let other = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let error = stderr_of(&mut world.command(env!("CARGO_BIN_EXE_conduitd")), 3);
    assert!(error.contains("another program") && error.contains(&std::process::id().to_string()), "{error}");
    other.join().unwrap();
}

#[test]
fn a_hard_link_is_listed_and_removed_with_its_topic() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    let link = world.path_of("link");
    std::fs::hard_link(world.path_of("scan"), &link).unwrap();
    assert_eq!(world.list().iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["link", "scan"]);
    std::fs::remove_file(&link).unwrap();
    assert_eq!(world.list().iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["scan"]);
    std::fs::hard_link(world.path_of("scan"), &link).unwrap();
    publisher.kill();
    world.wait_until_gone("scan");
    world.wait_until_gone("link");
}

#[test]
fn the_death_of_an_unlinked_topics_owner_is_reported() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    let subscriber = world.sleeper("scan");
    let mut events = world.client().watch().unwrap();
    let mut next = || events.next().unwrap().unwrap().kind;
    assert_eq!(next(), EventKind::Present);
    assert_eq!(next(), EventKind::SubscriberPresent);
    std::fs::remove_file(world.path_of("scan")).unwrap();
    assert_eq!(next(), EventKind::Unlinked);
    publisher.kill();
    subscriber.expect(Answer::Gone(End::Died));
    assert_eq!(next(), EventKind::Died);
}

#[test]
fn a_stopped_daemon_does_not_block_publishers() {
    let mut world = World::with_daemon();
    world.daemon().signal(Signal::SIGSTOP);
    let mut publisher = world.publisher("scan", 16, 100);
    publisher.order(Send(1, 10));
    world.daemon().signal(Signal::SIGCONT);
    wait_until("the topic to be listed", || world.list().len() == 1);
}
