//! The daemon heals: its socket, its directory or its own file is removed or replaced.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use conduit::registry::Client;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::harness::skip::{Lack, skip};
use crate::harness::{Daemon, NOBODY, World, need_root, stderr_of, wait_until};
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
        wait_until("it to be told", || count(&world.log(), "the daemon listens again") == round);
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

/// A daemon of a directory below the world's, whose socket is outside of it.
struct Below<'a> {
    world: &'a World,
    directory: PathBuf,
}

impl<'a> Below<'a> {
    fn new(world: &'a World) -> Self {
        let directory = world.path().join("shm");
        fs::create_dir(&directory).unwrap();
        Self { world, directory }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.world.command(program);
        command.env("CONDUIT_SHM_DIR", &self.directory).stdin(Stdio::null());
        command
    }

    fn daemon(&self) -> Daemon {
        let log = fs::File::options().append(true).create(true).open(self.world.path().join("daemon.log")).unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_conduitd"));
        command.args(["--config", "/dev/null"]).stderr(log).spawn().unwrap().into()
    }

    /// The inode of the directory that the daemon serves.
    fn served(&self) -> Option<u64> {
        let client = Client::connect(&self.world.domain());
        client.and_then(|mut client| client.status()).ok().map(|status| status.inode)
    }

    fn wait_until_served(&self) {
        let inode = fs::metadata(&self.directory).unwrap().ino();
        wait_until("the daemon to serve the directory", || self.served() == Some(inode));
    }

    /// The daemon lists what is published in the directory, and reaps it.
    fn prove_served(&self) {
        self.wait_until_served();
        let mut command = self.command(env!("CARGO_BIN_EXE_conduit"));
        let publisher = Daemon::from(command.args(["pub", "scan", "--text", "x", "--keep"]).spawn().unwrap());
        let list = || Client::connect(&self.world.domain()).and_then(|mut client| client.list()).unwrap_or_default();
        wait_until("the topic to be listed", || list().len() == 1);
        publisher.kill();
        wait_until("the topic to be reaped", || !self.directory.join("conduit_scan").exists());
        // It is the only daemon of the directory.
        let mut second = self.command(env!("CARGO_BIN_EXE_conduitd"));
        let error = stderr_of(second.arg("--socket").arg(self.world.path().join("second")), 4);
        assert!(error.contains("another registry serves"), "{error}");
    }
}

#[test]
fn a_directory_that_is_replaced_is_served_anew() {
    let world = World::new();
    let below = Below::new(&world);
    let mut daemon = below.daemon();
    below.prove_served();
    fs::remove_dir_all(&below.directory).unwrap();
    fs::create_dir(&below.directory).unwrap();
    below.prove_served();
    fs::rename(&below.directory, world.path().join("moved")).unwrap();
    fs::create_dir(&below.directory).unwrap();
    below.prove_served();
    assert!(daemon.is_running());
    wait_until("it to be told", || count(&world.log(), "the daemon starts anew") == 2);
}

#[test]
fn a_directory_that_is_missing_for_a_while_is_waited_for() {
    let world = World::new();
    let below = Below::new(&world);
    let mut daemon = below.daemon();
    below.wait_until_served();
    fs::remove_dir_all(&below.directory).unwrap();
    wait_until("the daemon to notice", || world.log().contains("the daemon will try again"));
    assert!(!below.directory.exists(), "it may have been removed on purpose");
    fs::create_dir(&below.directory).unwrap();
    below.prove_served();
    // Meanwhile it can be ended.
    fs::remove_dir_all(&below.directory).unwrap();
    wait_until("the daemon to notice", || count(&world.log(), "the daemon will try again") == 2);
    daemon.signal(Signal::SIGTERM);
    wait_until("the daemon to end", || !daemon.is_running());
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_directory_that_is_mounted_over_is_served_anew() {
    need_root!("a mount");
    if !Command::new("unshare").args(["--mount", "true"]).status().unwrap().success() {
        skip!(Lack::Namespaces(&["--mount"]), "a mount over the directory");
    }
    let world = World::new();
    let below = Below::new(&world);
    let mut command = below.command("unshare");
    let script = "\"$0\" --config /dev/null & read -r line; mount -t tmpfs none \"$CONDUIT_SHM_DIR\"; wait";
    command.args(["--mount", "--pid", "--kill-child", "--fork", "sh", "-c", script, env!("CARGO_BIN_EXE_conduitd")]);
    let log = fs::File::create(world.path().join("daemon.log")).unwrap();
    let mut shell = command.stdin(Stdio::piped()).stderr(log).spawn().unwrap();
    below.wait_until_served();
    let before = below.served();
    shell.stdin.take().unwrap().write_all(b"mount\n").unwrap();
    wait_until("the daemon to serve what is mounted", || below.served().is_some_and(|now| Some(now) != before));
    world.wait_until_logged("the daemon starts anew");
    drop(Daemon::from(shell));
}

#[test]
fn under_a_service_manager_the_daemon_ends_when_its_directory_is_replaced() {
    let world = World::new();
    let mut manager = Manager::new(&world);
    let directory = world.path().join("shm");
    fs::create_dir(&directory).unwrap();
    manager.arguments = vec!["--shm-dir".into(), directory.to_str().unwrap().into()];
    let mut daemon = manager.start(&world);
    wait_until("the daemon to answer", || answers(&world));
    fs::remove_dir_all(&directory).unwrap();
    wait_until("the daemon to end", || !daemon.is_running());
    assert_eq!(daemon.wait(), Some(1));
    assert!(world.log().contains("was removed or replaced; the daemon ends"), "{}", world.log());
    fs::create_dir(&directory).unwrap();
    let _next = manager.start(&world);
    wait_until("the next daemon to answer", || answers(&world));
}

#[test]
fn a_daemon_whose_file_is_removed_has_another_one() {
    let mut world = World::with_daemon();
    let guards = || {
        let entries = fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_str().unwrap().contains("/.conduitd.")).collect::<Vec<_>>()
    };
    let first = guards();
    fs::remove_file(&first[0]).unwrap();
    wait_until("another file", || guards().len() == 1 && guards() != first);
    let mut second = world.command(env!("CARGO_BIN_EXE_conduitd"));
    let error = stderr_of(second.args(["--config", "/dev/null", "--socket"]).arg(world.path().join("second")), 4);
    assert!(error.contains("another registry serves"), "{error}");
    assert!(world.daemon().is_running());
}
