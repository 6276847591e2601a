//! A private world for a test, and the processes in it.

pub mod skip;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, ShmDir};
use conduit::registry::Client;
use conduit::registry::{RegistryEvent, TopicInfo};
use conduit::{Domain, TopicName};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Options of `unshare` for pids and mounts of one's own.
pub const CONTAINER: [&str; 5] = ["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"];

/// Longer than anything here takes, even on a busy machine: a test that waits for so long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The user that a test becomes when it is run by root and needs another one.
pub const NOBODY: u32 = 65534;

/// Looks again and again until `look` gives something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// A shared-memory directory and a registry's socket of a test's own.
pub struct World {
    directory: TempDir,
    daemon: Option<Daemon>,
    /// What the daemon is started with.
    pub daemon_arguments: Vec<&'static str>,
}

impl World {
    /// A world without a daemon.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix(".conduit-test-").tempdir_in("/dev/shm").unwrap();
        // Like /dev/shm itself: everybody may create, only owners may remove.
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

    /// The rules for names, if a test writes any.
    pub fn config(&self) -> PathBuf {
        self.path().join("conduitd.toml")
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }

    pub fn domain(&self) -> Domain {
        Domain::new(self.path()).with_socket(self.socket())
    }

    pub fn shm(&self) -> ShmDir {
        ShmDir::open(&self.domain()).unwrap()
    }

    /// A program that lives in this world.
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

    /// A daemon that kills itself at a step; it may not live to listen.
    pub fn daemon_that_dies(&self, fault: &str) -> Daemon {
        Daemon::spawn(self, Some(fault))
    }

    /// A daemon of another user whose only right is to remove others' files. For root.
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

    /// A daemon that sees itself as process 1, and nobody outside.
    pub fn start_daemon_in_container(&mut self) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let command = self.contained_command(env!("CARGO_BIN_EXE_conduitd"));
        self.daemon = Some(Daemon::wait_until_up(self, Daemon::run(self, command)));
    }

    /// SIGKILL.
    pub fn kill_daemon(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// Starts a process that does what it is told.
    pub fn peer(&self) -> Peer {
        Peer::start(self, None)
    }

    /// A peer that is another user, if this test may do that.
    pub fn peer_of(&self, uid: u32) -> Peer {
        Peer::start(self, Some(uid))
    }

    /// A program with pids and mounts of its own. It ends with the process that is started here.
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

    /// Everything in the directory that is named like a region, or like one in the middle of its removal.
    pub fn leftovers(&self) -> Vec<DirEntry> {
        self.shm().entries().unwrap()
    }

    pub fn wait_until_gone(&self, topic: &str) {
        wait_until(&format!("topic {topic} to be removed"), || !self.exists(topic));
    }

    /// Waits until nothing is left of any region, not even the private name of a removal that is just being done.
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

/// A running `conduitd`.
pub struct Daemon {
    child: Child,
}

impl From<Child> for Daemon {
    fn from(child: Child) -> Self {
        Self { child }
    }
}

impl Daemon {
    pub fn start(world: &World) -> Self {
        Self::wait_until_up(world, Self::spawn(world, None))
    }

    fn wait_until_up(world: &World, daemon: Self) -> Self {
        wait_until("the daemon to listen", || Client::connect(&world.domain()).is_ok_and(|mut it| it.list().is_ok()));
        daemon
    }

    fn spawn(world: &World, fault: Option<&str>) -> Self {
        let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
        command.envs(fault.map(|fault| ("CONDUIT_FAULT", fault)));
        Self::run(world, command)
    }

    fn run(world: &World, mut command: Command) -> Self {
        // Whatever rules this machine has do not matter.
        let config = world.config();
        command.arg("--config").arg(if config.exists() { &config } else { Path::new("/dev/null") });
        command.args(&world.daemon_arguments);
        let log = std::fs::File::options().append(true).create(true).open(world.path().join("daemon.log")).unwrap();
        Self { child: command.stdin(Stdio::null()).stderr(log).spawn().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has killed itself.
    pub fn wait_until_killed(mut self) {
        let status = wait_for("the daemon to kill itself", || self.child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9));
    }

    /// Waits for its end after a signal; returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a watcher is told.
pub struct Events(Receiver<RegistryEvent>);

impl Events {
    /// The first event from here on that is wanted.
    pub fn find(&self, what: &str, mut is_wanted: impl FnMut(&RegistryEvent) -> bool) -> RegistryEvent {
        let deadline = Instant::now() + DEADLINE;
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(event) if is_wanted(&event) => return event,
                Ok(event) => others.push(event),
                Err(error) => panic!("waited in vain for {what} ({error}), saw {others:?}"),
            }
        }
    }

    /// What has been told and nobody has asked for.
    pub fn so_far(&self) -> Vec<RegistryEvent> {
        self.0.try_iter().collect()
    }
}

/// A process of this very test program that does what it is told, line by line (see the module `peer`).
pub struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Peer {
    fn start(world: &World, uid: Option<u32>) -> Self {
        Self::run(world.command(std::env::current_exe().unwrap()), uid)
    }

    /// Starts this program by a command that may be a wrapper around it.
    pub fn run(mut command: Command, uid: Option<u32>) -> Self {
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        // The "test" `peer::peer` becomes the peer when this variable is set.
        command.args(["peer::peer", "--exact", "--nocapture", "--test-threads=1"]).env("CONDUIT_TEST_PEER", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test runner's own lines lie in between.
                let Some(answer) = line.strip_prefix("@ ") else { continue };
                if sender.send(answer.to_owned()).is_err() {
                    break;
                }
            }
        });
        let peer = Self { child, commands, answers };
        peer.expect("ready");
        peer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    pub fn answer(&self) -> String {
        self.answers.recv_timeout(DEADLINE).expect("the peer answers")
    }

    /// What it has said and nobody has heard.
    pub fn answers_so_far(&self) -> Vec<String> {
        self.answers.try_iter().collect()
    }

    pub fn expect(&self, answer: &str) {
        assert_eq!(self.answer(), answer);
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Asks for something that must work.
    pub fn order(&mut self, command: &str) {
        assert_eq!(self.ask(command), "ok", "{command}");
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// SIGKILL; returns when the process is reaped.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks for something that ends it; returns what it said last, if anything, and how it ended.
    pub fn end_by(mut self, command: &str) -> (Option<String>, ExitStatus) {
        self.tell(command);
        let answer = self.answers.recv_timeout(DEADLINE);
        assert_ne!(answer, Err(mpsc::RecvTimeoutError::Timeout), "{command} hangs");
        assert!(!answer.as_ref().is_ok_and(|answer| answer.starts_with("error ")), "{command}: {answer:?}");
        (answer.ok(), wait_for("the peer to end", || self.child.try_wait().unwrap()))
    }

    /// Asks for something that kills it at a step (see `conduit::fault`); returns when the process is reaped.
    pub fn die_at(mut self, fault: &str, command: &str) {
        self.order(&format!("die-at {fault}"));
        self.tell(command);
        match self.answers.recv_timeout(DEADLINE) {
            Ok(answer) => panic!("{command} did not reach {fault} and answered: {answer}"),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{command} did not reach {fault} and hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
        }
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection without the library's help.
pub struct Raw(pub UnixStream);

impl Raw {
    pub fn connect(world: &World) -> Self {
        let stream = UnixStream::connect(world.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn reply(&mut self) -> Value {
        let mut message = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).unwrap() == 1 && byte != [0] {
            message.push(byte[0]);
        }
        serde_json::from_slice(&message).unwrap()
    }

    /// `None` if the other side has hung up already.
    pub fn try_call(&mut self, method: &str, parameters: &Value) -> Option<Value> {
        let call = json!({"method": method, "parameters": parameters}).to_string() + "\0";
        self.0.write_all(call.as_bytes()).ok().map(|()| self.reply())
    }

    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.send(&[json!({"method": method, "parameters": parameters}).to_string().as_bytes(), b"\0"].concat());
        self.reply()
    }

    /// Everything that can be read until the other side hangs up.
    pub fn replies(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
            .split(|byte| *byte == 0)
            .filter(|it| !it.is_empty())
            .map(|it| serde_json::from_slice(it).unwrap())
            .collect()
    }

    pub fn is_hung_up(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 16]), Ok(0) | Err(_))
    }
}

/// What a message of the tests contains, given its number: so that a byte of another message is noticed.
fn pattern(number: u64, word: usize) -> [u8; 8] {
    (number ^ word as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()
}

pub fn is_pattern(number: u64, message: &[u8]) -> bool {
    let mut words = message.chunks(8).enumerate();
    words.all(|(at, word)| *word == pattern(number, at)[..word.len()])
}

pub fn fill_pattern(number: u64, message: &mut [u8]) {
    for (at, word) in message.chunks_mut(8).enumerate() {
        word.copy_from_slice(&pattern(number, at)[..word.len()]);
    }
}

/// SplitMix64: the same seed, the same numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len() as u64) as usize]
    }
}
