//! C++ programs and the daemon: the topic of a killed publisher is removed at once, its waiting
//! subscriber gets an exception, and both programs are listed.

use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use conduit::registry::EventKind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::{DEADLINE, World};

/// `peer.cpp`, compiled, beside the library that it loads.
struct Program {
    directory: TempDir,
}

impl Program {
    /// The one of a test that is running, or a new one.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Program>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let program = Arc::new(Self::compile());
            *shared = Arc::downgrade(&program);
            program
        })
    }

    fn compile() -> Self {
        let directory = TempDir::new().unwrap();
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../libconduit/c");
        let library = std::env::current_exe().unwrap().with_file_name("libconduit_c.so");
        assert!(library.exists(), "cargo has built {}", library.display());
        for name in ["libconduit.so", "libconduit.so.0"] {
            symlink(&library, directory.path().join(name)).unwrap();
        }
        let program = Self { directory };
        let mut command = Command::new("c++");
        command.arg("-std=c++17").arg("-I").arg(package.join("include")).arg(package.join("tests/peer.cpp"));
        command.arg("-o").arg(program.path()).arg("-L").arg(program.directory.path()).args(["-lconduit", "-pthread"]);
        assert!(command.status().unwrap().success(), "{command:?}");
        program
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("peer")
    }

    fn start(&self, world: &World, what: &str) -> Running {
        let mut command = world.command(self.path());
        command.arg(what).env("LD_LIBRARY_PATH", self.directory.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            std::io::BufRead::lines(output).map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Running { child, input, lines }
    }
}

struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    fn expect(&self, line: &str) {
        assert_eq!(self.lines.recv_timeout(DEADLINE).expect("it says something"), line);
    }

    fn signal_of_its_end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// However a C++ publisher dies, the daemon removes its topic, and its subscriber wakes with an
/// exception that reports the death.
fn is_reaped_and_told(die: impl FnOnce(&mut Running), signal: Signal) {
    let world = World::with_daemon();
    let program = Program::shared();
    let events = world.watch();
    let mut doomed = program.start(&world, "doomed");
    doomed.expect("ready");
    let mut mourner = program.start(&world, "mourner");
    mourner.expect("waiting");
    world.wait_until_asleep("doomed", 1);
    die(&mut doomed);
    assert_eq!(doomed.signal_of_its_end(), Some(signal as i32));
    mourner.expect("PublisherDied: the publisher of topic \"doomed\" died; open the topic again when it is back");
    assert!(mourner.child.wait().unwrap().success());
    let died = events.find("its death", |event| event.kind == EventKind::Died && event.topic == "doomed");
    assert_eq!(died.process.unwrap().pid, doomed.child.id());
    let death = died.death.unwrap();
    // Kernels before 6.15 do not report the signal.
    assert!(death.signal.is_none_or(|told| told == signal as i32), "{death:?}");
    assert_eq!(death.subscribers.iter().map(|one| one.pid).collect::<Vec<_>>(), [mourner.child.id()]);
    world.wait_until_empty();
}

#[test]
fn an_aborted_cpp_publisher_is_reaped_and_its_subscriber_notified() {
    is_reaped_and_told(|doomed| drop(doomed.input.take()), Signal::SIGABRT);
}

#[test]
fn a_killed_cpp_publisher_is_reaped_and_its_subscriber_notified() {
    let sigkill = |doomed: &mut Running| kill(Pid::from_raw(doomed.child.id() as i32), Signal::SIGKILL).unwrap();
    is_reaped_and_told(sigkill, Signal::SIGKILL);
}

#[test]
fn a_cpp_program_lists_topics_and_deaths() {
    let mut world = World::with_daemon();
    let program = Program::shared();
    let doomed = program.start(&world, "doomed");
    doomed.expect("ready");
    let mourner = program.start(&world, "mourner");
    mourner.expect("waiting");
    crate::harness::wait_until("the daemon to know the subscriber", || {
        world.list().iter().any(|topic| topic.subscribers.len() == 1)
    });
    let list = program.start(&world, "list");
    list.expect("registry");
    list.expect("doomed robot/Imu 1");
    world.kill_daemon();
    let list = program.start(&world, "list");
    list.expect("no registry");
    list.expect("doomed robot/Imu 1");
}
