//! Clients or the daemon in pid and mount namespaces of their own, which needs root.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use conduit::registry::{EventKind, Liveness, Process, RegionState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::skip::{Lack, skip};
use crate::harness::{CONTAINER, Peer, World, sample, wait_for, wait_until};
use crate::protocol::Order::{Drain, Publish, Recv, Send, Subscribe, Unpublish};
use crate::protocol::{Answer, End, Order};

/// Skips a test where no container can be created.
macro_rules! need_containers {
    () => {
        let tried = Command::new("unshare").args(CONTAINER).args(["--", "true"]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            skip!(Lack::Namespaces(&CONTAINER), "a container");
        }
    };
}

/// A peer in a container of its own, where it is process 2.
struct Contained {
    peer: Peer,
    /// Its pid outside the container.
    pid: u32,
}

impl Contained {
    fn start(world: &World) -> Self {
        Self::start_as(world, 2)
    }

    /// A peer with this pid inside its container; no other process there may have it.
    fn start_as(world: &World, inner: u32) -> Self {
        let mut command = world.contained_command("sh");
        // The shell stays process 1, because `exit` keeps it from replacing itself with the peer.
        let script = format!(r#"echo {} > /proc/sys/kernel/ns_last_pid; "$0" "$@"; exit $?"#, inner - 1);
        command.args(["-c", &script]).arg(Peer::PROGRAM);
        // The shell reports on standard error how its child ended.
        command.stderr(Stdio::null());
        let mut peer = Peer::run(command, None);
        assert_eq!(peer.ask(Order::Pid).number(), u64::from(inner));
        let shell = only_child(peer.pid());
        let pid = only_child(shell);
        Self { peer, pid }
    }

    fn kill(&self) {
        kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL).unwrap();
    }
}

fn only_child(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("children of {pid}: {children}"))
}

/// The process that the daemon reports as the topic's publisher.
fn publisher(world: &World, topic: &str) -> Option<Process> {
    world.list().into_iter().find(|it| it.name == topic)?.publisher
}

fn subscriber_pids(world: &World, topic: &str) -> Vec<u32> {
    let topic = world.list().into_iter().find(|it| it.name == topic).unwrap();
    topic.subscribers.iter().map(|subscriber| subscriber.pid).collect()
}

#[test]
fn clients_in_containers_communicate_and_are_listed_with_the_daemons_pids() {
    need_containers!();
    let world = World::with_daemon();
    let (mut first, mut second) = (Contained::start(&world), Contained::start(&world));
    first.peer.order(Publish("scan", 16, 100));
    second.peer.order(Subscribe("scan"));
    let owner = publisher(&world, "scan").unwrap();
    assert_eq!(owner.pid, first.pid);
    assert!(owner.program.starts_with("conduit-test"), "{owner:?}");
    assert_eq!(subscriber_pids(&world, "scan"), [second.pid]);
    assert_eq!(world.list()[0].liveness, Some(Liveness::Lease));
    for number in 0..20 {
        first.peer.order(Send(1, 100));
        assert_eq!(second.peer.ask(Recv), sample(number));
    }
    let answer = second.peer.ask(Publish("scan", 16, 100));
    assert!(answer.failure().contains("is already published by pid"), "{answer:?}");
    first.peer.order(Send(1, 100));
    assert_eq!(second.peer.ask(Recv), sample(20));
    first.peer.order(Unpublish);
    assert_eq!(second.peer.ask(Recv), Answer::Gone(End::Closed));
}

#[test]
fn a_publisher_killed_in_a_container_is_reaped_with_a_certificate() {
    need_containers!();
    let world = World::with_daemon();
    let (mut first, mut second) = (Contained::start(&world), Contained::start(&world));
    first.peer.order(Publish("scan", 16, 100));
    second.peer.order(Subscribe("scan"));
    second.peer.tell(Recv);
    world.wait_until_asleep("scan", 1);
    let events = world.watch();
    first.kill();
    second.peer.expect(Answer::Gone(End::Died));
    world.wait_until_gone("scan");
    let died = events.find("its death", |event| event.kind == EventKind::Died);
    assert_eq!(died.process.unwrap().pid, first.pid);
    let death = died.death.unwrap();
    // Kernels before 6.15 do not report the signal.
    assert!(matches!(death.signal, Some(9) | None), "{death:?}");
    assert_eq!(death.subscribers.iter().map(|one| one.pid).collect::<Vec<_>>(), [second.pid]);
    second.kill();
    let died = events.find("the subscriber's", |event| event.kind == EventKind::SubscriberDied);
    assert_eq!(died.process.unwrap().pid, second.pid);
}

#[test]
fn a_restarted_daemon_adopts_containers_whose_pids_coincide() {
    need_containers!();
    let mut world = World::with_daemon();
    let mut publishers = [(); 2].map(|()| Contained::start(&world));
    let mut subscriber = Contained::start(&world);
    publishers[0].peer.order(Publish("first", 16, 100));
    publishers[1].peer.order(Publish("second", 16, 100));
    subscriber.peer.order(Subscribe("first"));
    subscriber.peer.tell(Drain);
    world.wait_until_asleep("first", 1);
    world.kill_daemon();
    world.start_daemon();
    // Until a client contacts the daemon, the daemon only knows the pid that the client wrote into
    // the region: 2 for all of them.
    assert_eq!(publisher(&world, "second").unwrap().pid, 2);
    assert!(world.list().iter().all(|topic| topic.liveness == Some(Liveness::Lock)));
    let events = world.watch();
    wait_until("clients that make system calls to register again", || {
        publishers[0].peer.order(Send(1, 100));
        publisher(&world, "first").unwrap().pid == publishers[0].pid
            && subscriber_pids(&world, "first") == [subscriber.pid]
    });
    assert_eq!(publisher(&world, "second").unwrap().pid, 2);
    // Process 2 of the host and of the other container keep running.
    publishers[1].kill();
    world.wait_until_gone("second");
    let died = events.find("the death of the second", |event| event.kind == EventKind::Died);
    assert_eq!((died.topic.as_str(), died.process.unwrap().pid), ("second", 2));
    assert_eq!((world.list().len(), &world.list()[0].state), (1, &RegionState::Live));
    publishers[0].peer.order(Send(1, 100));
    publishers[0].kill();
    let drained = subscriber.peer.answer().drained();
    assert_eq!((drained.lost, drained.torn, drained.end), (0, 0, End::Died));
    let died = events.find("the death of the first", |event| event.kind == EventKind::Died);
    assert_eq!((died.topic.as_str(), died.process.unwrap().pid), ("first", publishers[0].pid));
    assert!(matches!(died.death.unwrap().signal, Some(9) | None));
    world.wait_until_empty();
}

#[test]
fn a_publisher_killed_in_a_container_without_a_daemon_is_reaped_at_its_start() {
    need_containers!();
    let mut world = World::with_daemon();
    let mut publishers = [(); 2].map(|()| Contained::start(&world));
    publishers[0].peer.order(Publish("first", 16, 100));
    publishers[1].peer.order(Publish("second", 16, 100));
    world.kill_daemon();
    publishers[0].kill();
    world.start_daemon();
    world.wait_until_gone("first");
    publishers[1].peer.order(Send(1, 100));
    assert!(world.exists("second"));
}

#[test]
fn the_end_of_an_outside_process_with_the_same_pid_is_ignored() {
    need_containers!();
    let mut world = World::new();
    let mut namesake = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut publisher = Contained::start_as(&world, namesake.id());
    publisher.peer.order(Publish("scan", 16, 100));
    // That pid is all the daemon knows about the publisher.
    world.start_daemon();
    let events = world.watch();
    kill(Pid::from_raw(namesake.id() as i32), Signal::SIGTERM).unwrap();
    namesake.wait().unwrap();
    let watches_a_process = |daemon: u32| {
        let links = std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap();
        let mut links = links.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.any(|link| link.to_str().unwrap().contains("pidfd"))
    };
    let daemon = world.daemon().pid();
    wait_until("the daemon to see that it was another", || !watches_a_process(daemon));
    publisher.peer.order(Send(1, 100));
    assert_eq!(world.list()[0].state, RegionState::Live);
    publisher.kill();
    let died = events.find("its death", |event| event.kind == EventKind::Died);
    assert_eq!(died.process.unwrap().pid, namesake.id());
    assert_ne!(died.death.unwrap().signal, Some(15));
}

#[test]
fn a_daemon_in_a_container_serves_clients_outside() {
    need_containers!();
    let mut world = World::new();
    world.start_daemon_in_container();
    let first = world.publisher("scan", 16, 100);
    let mut second = world.sleeper("scan");
    let owner = publisher(&world, "scan").unwrap();
    // The kernel has no pid for these clients in the daemon's namespace, but the region does.
    assert_eq!(owner.pid, first.pid(), "{owner:?}");
    assert!(owner.program.starts_with("conduit-test"), "{owner:?}");
    assert_eq!(subscriber_pids(&world, "scan"), [second.pid()]);
    let events = world.watch();
    let pid = first.pid();
    first.kill();
    second.expect(Answer::Gone(End::Died));
    world.wait_until_gone("scan");
    let died = events.find("its death", |event| event.kind == EventKind::Died);
    assert_eq!(died.process.unwrap().pid, pid);

    let mut first = world.publisher("scan", 16, 100);
    second.order(Subscribe("scan"));
    let daemon = only_child(world.daemon().pid());
    world.kill_daemon();
    wait_until("the daemon to be dead", || {
        !std::path::Path::new(&format!("/proc/{daemon}")).exists() && UnixStream::connect(world.socket()).is_err()
    });
    world.start_daemon_in_container();
    let events = world.watch();
    assert_eq!(publisher(&world, "scan").unwrap().pid, first.pid());
    // The same holds after they have registered their leases again.
    second.tell(Drain);
    events.find("the subscriber to attach", |event| {
        let is_its = event.process.as_ref().is_some_and(|process| process.pid == second.pid());
        is_its && matches!(event.kind, EventKind::Subscribed | EventKind::SubscriberPresent)
    });
    assert_eq!(subscriber_pids(&world, "scan"), [second.pid()]);
    // Twice the interval at which the publisher checks its lease.
    for _ in 0..100 {
        first.order(Send(1, 10));
        assert_eq!(publisher(&world, "scan").unwrap().pid, first.pid());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    first.kill();
    assert_eq!(second.answer().drained().end, End::Died);
    world.wait_until_gone("scan");
    wait_for("the list to be empty", || world.list().is_empty().then_some(()));
}
