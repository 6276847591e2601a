//! Clients in other pid and mount namespaces, which share the shared-memory directory and the socket.

use std::process::{Child, Command, Stdio};

use conduit::protocol::{EventKind, Liveness};
use conduit::registry::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Peer, World, wait_for, wait_until};

const WRAPPER: [&str; 6] = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"];

/// Whether this test may make namespaces.
fn may_contain() -> bool {
    let tried = Command::new(WRAPPER[0]).args(&WRAPPER[1..]).arg("true").stderr(Stdio::null()).status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!(
            "**** NOT TRIED: namespaces need root and unshare(1); clients in containers are not tested here ****"
        );
    }
    may
}

/// A program in namespaces of its own.
fn contained(world: &World, program: &std::path::Path) -> Command {
    let mut command = world.command(WRAPPER[0]);
    command.args(&WRAPPER[1..]).arg(program);
    command
}

fn contained_peer(world: &World) -> Peer {
    let mut command = contained(world, &std::env::current_exe().unwrap());
    // The wrapper has something to say about how its child ends.
    command.stderr(Stdio::null());
    Peer::run(command, None)
}

/// The only child of a process: the one that a wrapper runs.
fn child_of(pid: u32) -> u32 {
    wait_for("the wrapped process", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().ok()
    })
}

/// SIGKILL for what runs in the container, not for the wrapper.
fn kill_inside(peer: &Peer) {
    kill(Pid::from_raw(child_of(peer.pid()) as i32), Signal::SIGKILL).unwrap();
}

#[test]
fn clients_in_containers_are_identified_listed_and_reaped() {
    if !may_contain() {
        return;
    }
    let mut world = World::with_daemon();
    let (mut publisher, mut reader, mut rival) =
        (contained_peer(&world), contained_peer(&world), contained_peer(&world));
    publisher.order("publish scan 16 100");
    reader.order("subscribe scan");
    reader.tell("recv");
    world.wait_until_asleep("scan", 1);
    // All of them have the same pid, each in its own container.
    let listed = &world.list()[0];
    assert_eq!(listed.publisher.as_ref().unwrap().pid, child_of(publisher.pid()));
    assert_eq!(listed.subscribers[0].pid, child_of(reader.pid()));
    assert!(listed.publisher.as_ref().unwrap().program.starts_with("e2e"));
    assert!(rival.ask("publish scan 16 100").starts_with("error topic \"scan\" is already published by"));
    publisher.order("send 1 10");
    reader.expect("sample 0 0 whole");

    let mut events = world.client().watch().unwrap().map(|event| event.unwrap());
    assert_eq!(events.next().unwrap().kind, EventKind::Present);
    reader.tell("recv");
    world.wait_until_asleep("scan", 1);
    let pid = child_of(publisher.pid());
    kill_inside(&publisher);
    reader.expect("gone died");
    world.wait_until_gone("scan");
    let died = events.find(|event| event.kind == EventKind::Died).unwrap();
    assert_eq!(died.process.unwrap().pid, pid);
    let death = died.death.unwrap();
    // Kernels before 6.15 do not tell how it ended.
    assert!(death.signal.is_none_or(|signal| signal == 9));
    assert_eq!(death.subscribers[0].pid, child_of(reader.pid()));

    // A daemon that starts later has the lock alone to go by.
    world.kill_daemon();
    rival.order("publish scan 16 100");
    world.start_daemon();
    assert_eq!(world.list()[0].liveness, Some(Liveness::Lock));
    kill_inside(&rival);
    world.wait_until_gone("scan");
}

#[test]
fn a_daemon_in_a_container_serves_clients_outside() {
    if !may_contain() {
        return;
    }
    let world = World::new();
    let daemon = std::path::Path::new(env!("CARGO_BIN_EXE_conduitd"));
    let mut daemon: Child =
        contained(&world, daemon).args(["--config", "/dev/null"]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the daemon to listen", || {
        Client::connect(&world.domain()).is_ok_and(|mut client| client.list().is_ok())
    });
    let (mut publisher, mut reader) = (world.peer(), world.peer());
    publisher.order("publish scan 16 100");
    reader.order("subscribe scan");
    reader.tell("recv");
    world.wait_until_asleep("scan", 1);
    let listed = &world.list()[0];
    // The kernel has no number for them there; the region has their own.
    assert_eq!(listed.publisher.as_ref().unwrap().pid, publisher.pid());
    assert_eq!(listed.subscribers[0].pid, reader.pid());
    publisher.kill();
    reader.expect("gone died");
    world.wait_until_gone("scan");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
