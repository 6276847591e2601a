//! The daemon heals: its socket's file is removed or replaced.

use std::fs;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use conduit::registry::Client;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::harness::{Daemon, NOBODY, World, wait_until};
use crate::manager::Manager;
use crate::protocol::Order::Send;

fn answers(world: &World) -> bool {
    Client::connect(&world.domain()).is_ok_and(|mut client| client.list().is_ok())
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_removed_socket_is_made_again() {
    let mut world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    for round in 1..=3 {
        if round == 2 {
            fs::rename(world.socket(), world.path().join("moved")).unwrap();
        } else {
            fs::remove_file(world.socket()).unwrap();
        }
        wait_until("the daemon to listen again", || answers(&world));
        assert_eq!(count(&world.log(), "the daemon listens again"), round);
    }
    publisher.order(Send(3, 100));
    assert_eq!(world.list()[0].liveness, Some(conduit::registry::Liveness::Lease), "no lease was lost");
    world.daemon().signal(Signal::SIGTERM);
    assert_eq!(world.daemon().wait(), Some(0));
    assert!(!world.socket().exists(), "its own socket is removed at the end");
}

#[test]
fn what_has_taken_the_sockets_name_is_left_alone() {
    let mut world = World::with_daemon();
    fs::remove_file(world.socket()).unwrap();
    // At once, in most runs before the daemon looks.
    let taker = UnixListener::bind(world.socket());
    let taker = taker.unwrap_or_else(|_| {
        fs::remove_file(world.socket()).unwrap();
        UnixListener::bind(world.socket()).unwrap()
    });
    wait_until("the daemon to tell", || world.log().contains("clients cannot reach the daemon"));
    taker.set_nonblocking(true).unwrap();
    wait_until("the daemon to look who listens", || taker.accept().is_ok());
    drop(taker);
    fs::remove_file(world.socket()).unwrap();
    wait_until("the daemon to listen again", || answers(&world));
    // Another kind of file.
    fs::write(world.path().join("mine"), "mine").unwrap();
    fs::rename(world.path().join("mine"), world.socket()).unwrap();
    wait_until("the daemon to tell", || world.log().contains("is not a socket"));
    assert_eq!(fs::read_to_string(world.socket()).unwrap(), "mine");
    world.daemon().signal(Signal::SIGTERM);
    assert_eq!(world.daemon().wait(), Some(0));
    assert_eq!(fs::read_to_string(world.socket()).unwrap(), "mine", "it removes its own socket only");
    assert!(count(&world.log(), "clients cannot reach the daemon") < 5, "{}", world.log());
}

#[test]
fn a_removed_directory_of_the_socket_is_made_again_if_it_is_the_default() {
    // The default of an ordinary user, who may not make the directory above it.
    let world = World::new();
    let runtime = world.path().join("run");
    let make = || {
        // The daemon may be faster.
        let _ = fs::create_dir(&runtime);
        let owner = if geteuid().is_root() { Some(NOBODY) } else { None };
        std::os::unix::fs::chown(&runtime, owner, owner).unwrap();
    };
    make();
    let socket = runtime.join("conduit/registry.sock");
    let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
    command.args(["--config", "/dev/null"]).env_remove("CONDUIT_SOCKET").env("XDG_RUNTIME_DIR", &runtime);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let daemon = Daemon::from(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let domain = world.domain().with_socket(&socket);
    let answers = || Client::connect(&domain).is_ok_and(|mut client| client.list().is_ok());
    wait_until("the daemon to answer", answers);
    fs::remove_dir_all(runtime.join("conduit")).unwrap();
    wait_until("the daemon to answer again", answers);
    // As at logout, and at the next login.
    fs::remove_dir_all(&runtime).unwrap();
    make();
    wait_until("the daemon to answer after the next login", answers);
    drop(daemon);
}

#[test]
fn a_removed_directory_that_was_chosen_is_waited_for() {
    let world = World::new();
    let directory = world.path().join("chosen");
    let socket = directory.join("sock");
    let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
    command.args(["--config", "/dev/null", "--socket"]).arg(&socket);
    let daemon = Daemon::from(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let domain = world.domain().with_socket(&socket);
    let answers = || Client::connect(&domain).is_ok_and(|mut client| client.list().is_ok());
    wait_until("the daemon to answer", answers);
    let old = world.path().join("old");
    fs::rename(&directory, &old).unwrap();
    fs::remove_dir_all(&old).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!directory.exists(), "it may have been removed on purpose");
    fs::create_dir(&directory).unwrap();
    wait_until("the daemon to answer again", answers);
    drop(daemon);
}

#[test]
fn the_loss_of_a_passed_socket_is_told_with_the_remedy() {
    let world = World::new();
    let manager = Manager::new(&world);
    let mut daemon = manager.start(&world);
    wait_until("the daemon to answer", || answers(&world));
    fs::remove_file(world.socket()).unwrap();
    wait_until("the daemon to tell", || world.log().contains("restart conduitd.socket`"));
    assert!(!world.socket().exists(), "only the service manager can listen there again");
    assert!(daemon.is_running());
}
