//! A private world for each test, and the processes in it.

mod daemon;
mod dispositions;
mod dump;
mod fake_registry;
mod output;
mod pattern;
mod peer;
mod raw;
pub mod skip;
mod wait;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, ShmDir};
use conduit::registry::{Client, TopicInfo};
use conduit::{Domain, TopicName};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::protocol::Order;
pub use daemon::{Daemon, Events};
pub use dump::SlowFolder;
pub use output::{all_stamps, stderr_of, stdout_of};
pub use pattern::{Random, fill_pattern, is_pattern};
pub use peer::{Peer, drained, sample};
pub use raw::Raw;
pub use wait::{DEADLINE, wait_for, wait_until};

/// Options of `unshare` for private pid and mount namespaces.
pub const CONTAINER: [&str; 5] = ["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"];

/// Skips a test that needs root.
macro_rules! need_root {
    ($what:expr) => {
        if !nix::unistd::geteuid().is_root() {
            $crate::harness::skip::skip!($crate::harness::skip::Lack::Root, $what);
        }
    };
}
pub(crate) use need_root;

/// The other user in tests that run as root.
pub const NOBODY: u32 = 65534;

/// A private shared-memory directory and registry socket.
pub struct World {
    directory: TempDir,
    daemon: Option<Daemon>,
    /// Additional arguments of the daemon.
    pub daemon_arguments: Vec<&'static str>,
}

impl World {
    /// A world without a daemon.
    pub fn new() -> Self {
        dispositions::default_dispositions();
        let directory = tempfile::Builder::new().prefix(".conduit-test-").tempdir_in("/dev/shm").unwrap();
        // Like /dev/shm itself: every user may create files, only owners may remove them.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        Self { directory, daemon: None, daemon_arguments: Vec::new() }
    }

    pub fn with_daemon() -> Self {
        let mut world = Self::new();
        world.start_daemon();
        world
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("registry.sock")
    }

    /// The file with the rules for names; most tests have none.
    pub fn config(&self) -> PathBuf {
        self.path().join("conduitd.toml")
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }

    /// Waits for a part of the log, which a thread of the daemon writes a little later.
    #[track_caller]
    pub fn wait_until_logged(&self, part: &str) {
        wait_until(&format!("{part:?} in the log"), || self.log().contains(part));
    }

    pub fn domain(&self) -> Domain {
        Domain::new(self.path()).with_socket(self.socket())
    }

    pub fn shm(&self) -> ShmDir {
        ShmDir::open(&self.domain()).unwrap()
    }

    /// A program that uses this world.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("CONDUIT_SHM_DIR", self.path()).env("CONDUIT_SOCKET", self.socket());
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        command
    }

    /// The `conduit` command.
    pub fn conduit(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_conduit"));
        command.args(arguments);
        command
    }

    pub fn start_daemon(&mut self) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        self.daemon = Some(Daemon::start(self));
    }

    /// A daemon that kills itself at a step, possibly before it listens.
    pub fn daemon_that_dies(&self, fault: &str) -> Daemon {
        Daemon::spawn(self, Some(fault))
    }

    /// A daemon of another user whose only capability is CAP_FOWNER. Needs root.
    pub fn daemon_with_one_right(&self) -> Child {
        let only = ["--inh-caps=-all,+fowner", "--ambient-caps=-all,+fowner", "--bounding-set=-all,+fowner"];
        let mut command = self.command("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()]).args(only);
        command.args([env!("CARGO_BIN_EXE_conduitd"), "--config", "/dev/null"]);
        let daemon = command.stderr(Stdio::null()).spawn().unwrap();
        wait_until("the daemon to listen", || Client::connect(&self.domain()).is_ok_and(|mut it| it.list().is_ok()));
        daemon
    }

    pub fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    /// A daemon that may not listen yet.
    pub fn daemon_that_starts(&self) -> Daemon {
        Daemon::spawn(self, None)
    }

    /// A daemon that is process 1 of its own pid namespace and sees no process outside.
    pub fn start_daemon_in_container(&mut self) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let command = self.contained_command(env!("CARGO_BIN_EXE_conduitd"));
        self.daemon = Some(Daemon::wait_until_up(self, Daemon::run(self, command)));
    }

    /// A daemon that may have so many descriptors.
    pub fn start_daemon_with_descriptors(&mut self, limit: u32) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let mut command = self.command("sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_conduitd")]);
        self.daemon = Some(Daemon::wait_until_up(self, Daemon::run(self, command)));
    }

    /// A daemon in its own network namespace, to which the kernel reports no core dumps. Needs
    /// root.
    pub fn start_daemon_without_network(&mut self) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let mut command = self.command("unshare");
        command.args(["--net", "--", env!("CARGO_BIN_EXE_conduitd")]);
        self.daemon = Some(Daemon::wait_until_up(self, Daemon::run(self, command)));
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill_daemon(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// Starts a process that executes orders.
    pub fn peer(&self) -> Peer {
        Peer::start(self, None)
    }

    /// A peer that publishes a topic with this many slots for messages of this length.
    #[track_caller]
    pub fn publisher(&self, topic: &str, slots: u32, capacity: usize) -> Peer {
        let mut peer = self.peer();
        peer.order(Order::Publish(topic, slots, capacity));
        peer
    }

    /// A peer that subscribes to a topic.
    #[track_caller]
    pub fn subscriber(&self, topic: &str) -> Peer {
        let mut peer = self.peer();
        peer.order(Order::Subscribe(topic));
        peer
    }

    /// A topic's only subscriber, asleep in `recv`.
    #[track_caller]
    pub fn sleeper(&self, topic: &str) -> Peer {
        let mut peer = self.subscriber(topic);
        peer.tell(Order::Recv);
        self.wait_until_asleep(topic, 1);
        peer
    }

    /// A peer that runs as another user. Needs root.
    pub fn peer_of(&self, uid: u32) -> Peer {
        Peer::start(self, Some(uid))
    }

    /// A program in private pid and mount namespaces, which ends together with the `unshare`
    /// process.
    pub fn contained_command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("unshare");
        command.args(CONTAINER).arg("--").arg(program.as_ref());
        command
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.domain()).unwrap()
    }

    /// Watches the daemon until it ends.
    pub fn watch(&self) -> Events {
        let watch = self.client().watch().unwrap();
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || watch.map_while(Result::ok).all(|event| sender.send(event).is_ok()));
        Events(events)
    }

    pub fn list(&self) -> Vec<TopicInfo> {
        self.client().list().unwrap()
    }

    pub fn region(&self, topic: &str) -> Region {
        Region::open_in(&self.shm(), &topic.parse().unwrap()).unwrap()
    }

    pub fn path_of(&self, topic: &str) -> PathBuf {
        self.shm().path_of(&topic.parse().unwrap())
    }

    pub fn exists(&self, topic: &str) -> bool {
        self.shm().id_of(&topic.parse::<TopicName>().unwrap()).unwrap().is_some()
    }

    /// All files that are named like a region, or like one that is being removed.
    pub fn leftovers(&self) -> Vec<DirEntry> {
        self.shm().entries().unwrap()
    }

    pub fn wait_until_gone(&self, topic: &str) {
        wait_until(&format!("topic {topic} to be removed"), || !self.exists(topic));
    }

    /// Waits until no file of a region is left, not even under the private name of a removal.
    pub fn wait_until_empty(&self) {
        wait_until("the directory to be empty", || self.leftovers().is_empty());
    }

    /// Waits until `count` subscribers of the topic sleep.
    pub fn wait_until_asleep(&self, topic: &str, count: usize) {
        let region = self.region(topic);
        wait_until("subscribers to sleep", || {
            let counters = region.counters().unwrap();
            counters.subscribers.iter().filter(|(_, subscriber)| subscriber.asleep).count() == count
        });
    }
}

impl Drop for World {
    /// Kills every process of this world, including those that its processes have started: a failed
    /// test leaves nothing behind.
    fn drop(&mut self) {
        let mark = [b"CONDUIT_SHM_DIR=", self.path().as_os_str().as_encoded_bytes(), b"\0"].concat();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            if environment.windows(mark.len()).any(|window| window == mark) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}
