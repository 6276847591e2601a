//! The daemon under load, a thousand topics with four subscribers each: `cargo bench -p conduitd`.
//!
//! With real processes: each publisher that is killed is a process, the others share one. Raw
//! percentiles, nothing trimmed; figures under attack are compared with those of an idle daemon in
//! the same run.
#![allow(missing_docs, reason = "a benchmark has no interface")]

mod report;
mod roles;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::internal::shm::clock::now_ns;
use conduit::registry::Client;
use conduit_bench::statistics::Timings;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use report::{ScaleReport, repeat_call};

const TOPICS: usize = 1000;
const SUBSCRIBERS: usize = 4;
const KILLED_ALONE: usize = 200;
const KILLED_TOGETHER: usize = 500;
const ALONE: usize = TOPICS - KILLED_ALONE - KILLED_TOGETHER;
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two calls: longer than replies are shared.
const PAUSE: Duration = Duration::from_millis(100);
const NOBODY: u32 = 65534;
const MAX_CONNECTIONS: usize = 6600;
/// A publisher and a subscriber take a connection each; the rest is for the attackers.
const MAX_CONNECTIONS_PER_UID: usize = 6100;

fn main() {
    raise_descriptor_limit();
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse::<usize>().unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("publish") => roles::publish(number(2), number(3)),
        Some("subscribe") => roles::subscribe(number(2), number(3), number(4)),
        Some("hostile") => roles::hostile(&arguments[2]),
        _ => measure(),
    }
}

fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

fn topic(number: usize) -> String {
    format!("scale/topic_{number}")
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// What is going on, on standard error.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A process of this program.
struct HelperProcess {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
    ready: String,
}

impl HelperProcess {
    fn start(world: &ScaleWorld, arguments: &str, uid: Option<u32>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        world.enter(&mut command);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child =
            command.args(arguments.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines: Some(lines), ready: String::new() }
    }

    fn wait_until_ready(mut self) -> Self {
        self.lines.as_mut().unwrap().read_line(&mut self.ready).unwrap();
        assert!(self.ready.starts_with("ready"), "a helper failed: {}", self.ready);
        self
    }

    fn kill(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL).unwrap();
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory and a daemon of this benchmark's own.
struct ScaleWorld {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
}

impl ScaleWorld {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix(".conduit-bench-").tempdir_in("/dev/shm").unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let mut world = Self { directory, daemon: None };
        let mut command = Command::new(env!("CARGO_BIN_EXE_conduitd"));
        world.enter(&mut command);
        let limit = MAX_CONNECTIONS.to_string();
        command.args(["--config", "/dev/null", "--max-connections", &limit]);
        command.args(["--max-connections-per-uid", &MAX_CONNECTIONS_PER_UID.to_string()]);
        world.daemon =
            Some(command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or("error".into())).spawn().unwrap());
        let started = Instant::now();
        while Client::connect(&world.domain()).is_err() {
            assert!(started.elapsed() < PATIENCE, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        world
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("registry.sock")
    }

    fn domain(&self) -> Domain {
        Domain::new(self.directory.path()).with_socket(self.socket())
    }

    fn enter(&self, command: &mut Command) {
        command.env("CONDUIT_SHM_DIR", self.directory.path()).env("CONDUIT_SOCKET", self.socket());
    }

    fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    fn memory(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
        format!("{:.1} MiB", kib / 1024.0)
    }

    /// Waits until the threads for blocking work have ended: two threads stay.
    fn wait_until_settled(&self) {
        // For the work that follows the start.
        std::thread::sleep(Duration::from_secs(2));
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count() > 2 {
            assert!(Instant::now() < deadline, "the daemon's threads do not end");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How often the daemon's threads were woken so far.
    fn wake_ups(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let count = |path: &Path| -> u64 {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.map_or(0, |count| count.trim().parse().unwrap())
        };
        tasks.map(|task| count(&task.unwrap().path())).sum()
    }
}

impl Drop for ScaleWorld {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A topic whose subscriber was woken, or whose name was removed; and when.
type TopicEnd = (usize, u64);

/// The publishers and subscribers of all topics.
struct ScaleFleet {
    /// Publishes the topics that are not killed.
    _together: HelperProcess,
    publishers: Vec<HelperProcess>,
    _subscribers: Vec<HelperProcess>,
    woken: Receiver<TopicEnd>,
}

fn measure() {
    let world = ScaleWorld::start();
    let mut report = ScaleReport::default();
    note(&format!("{TOPICS} topics x {SUBSCRIBERS} subscribers ..."));
    let together = publish_together(&world, &mut report);
    register(&world, &mut report);
    let mut fleet = start_fleet(&world, together);
    report.figure("memory with all of it (RSS)", world.memory("VmRSS"));
    idle(&world, &mut report);
    query(&world, &mut report);
    let directory = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    directory.add_watch(world.directory.path(), AddWatchFlags::IN_MOVED_FROM).unwrap();
    let removed = watch_names(directory);
    kill_alone(&mut fleet, &removed, &mut report);
    kill_together(&fleet, &removed, &mut report);
    report.figure("memory after that (peak)", world.memory("VmHWM"));
    drop((fleet, world));
    attack(&mut report);
    say(&format!("| {TOPICS} topics, {SUBSCRIBERS} subscribers each | p50 | p90 | p99 | max |"));
    say(&format!("|---|---|---|---|---|\n{}", report.0));
}

/// Publishes the topics that are not killed, one after the other, each on a connection of its own.
fn publish_together(world: &ScaleWorld, report: &mut ScaleReport) -> HelperProcess {
    let together =
        HelperProcess::start(world, &format!("publish {} {TOPICS}", TOPICS - ALONE), None).wait_until_ready();
    let ns: f64 = together.ready.trim().strip_prefix("ready ").unwrap().parse().unwrap();
    report.figure("Publisher::create, registered, per second", format_args!("{:.0}", ALONE as f64 / ns * 1e9));
    together
}

/// Connects and registers without publishing.
fn register(world: &ScaleWorld, report: &mut ScaleReport) {
    let mut claims = Vec::new();
    let started = Instant::now();
    for inode in 0..1000 {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        let parameters = format!("{{\"topic\":\"none\",\"dev\":1,\"inode\":{inode}}}");
        let call = format!("{{\"method\":\"io.conduit.Registry.Register\",\"parameters\":{parameters}}}\0");
        stream.write_all(call.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 18]).unwrap();
        claims.push(stream);
    }
    let per_second = 1000.0 / started.elapsed().as_secs_f64();
    report.figure("connect and Register, per second", format_args!("{per_second:.0}"));
}

/// Starts the publishers that are killed, and the subscribers of all topics.
fn start_fleet(world: &ScaleWorld, together: HelperProcess) -> ScaleFleet {
    let killed = TOPICS - ALONE;
    let publish = |number: usize| HelperProcess::start(world, &format!("publish {number} {}", number + 1), None);
    let publishers: Vec<HelperProcess> = (0..killed).map(publish).collect();
    let publishers = publishers.into_iter().map(HelperProcess::wait_until_ready).collect();
    let (sender, woken) = mpsc::channel();
    // Each topic whose publisher is killed has one waiter.
    let subscribers = (0..SUBSCRIBERS).map(|process| {
        let waiters = if process == 0 { killed } else { 0 };
        let arguments = format!("subscribe 0 {waiters} {TOPICS}");
        let mut subscriber = HelperProcess::start(world, &arguments, None).wait_until_ready();
        let (lines, sender) = (subscriber.lines.take().unwrap(), sender.clone());
        std::thread::spawn(move || forward_wake_ups(lines, &sender));
        subscriber
    });
    ScaleFleet { _together: together, publishers, _subscribers: subscribers.collect(), woken }
}

fn forward_wake_ups(lines: BufReader<ChildStdout>, sender: &Sender<TopicEnd>) {
    for text in lines.lines().map_while(Result::ok) {
        let words: Vec<u64> = text.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        let _ = sender.send((words[0] as usize, words[1]));
    }
}

fn idle(world: &ScaleWorld, report: &mut ScaleReport) {
    world.wait_until_settled();
    let wake_ups = world.wake_ups();
    std::thread::sleep(Duration::from_secs(5));
    report.figure("wake-ups in 5 s of idleness", world.wake_ups() - wake_ups);
}

fn query(world: &ScaleWorld, report: &mut ScaleReport) {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let (list, bytes) = repeat_call(&mut stream, "List", "{}", 50);
    report.times(&format!("List, {} kB, ms", bytes / 1000), &list);
    let parameters = format!("{{\"topic\":\"{}\"}}", topic(TOPICS / 2));
    report.times("Describe, ms", &repeat_call(&mut stream, "Describe", &parameters, 50).0);
}

/// Kills one publisher after the other.
fn kill_alone(fleet: &mut ScaleFleet, removed: &Receiver<TopicEnd>, report: &mut ScaleReport) {
    let mut alone = [Timings::new(1), Timings::new(1)];
    for (number, publisher) in fleet.publishers.drain(..KILLED_ALONE).enumerate() {
        let killed = now_ns();
        publisher.kill();
        for (times, events) in alone.iter_mut().zip([&fleet.woken, removed]) {
            let (of, at) = events.recv_timeout(PATIENCE).expect("the end of the topic");
            assert_eq!(of, number);
            times.record(at - killed);
        }
    }
    let [woken, removed] = alone;
    report.times("one publisher killed: sleeper awake, ms", &woken);
    report.times("one publisher killed: file gone, ms", &removed);
}

/// Kills the other publishers at once.
fn kill_together(fleet: &ScaleFleet, removed: &Receiver<TopicEnd>, report: &mut ScaleReport) {
    let killed = now_ns();
    for publisher in &fleet.publishers {
        publisher.kill();
    }
    let all = now_ns();
    for (what, events) in [("sleepers awake", &fleet.woken), ("files gone", removed)] {
        let ends = (0..KILLED_TOGETHER).map(|_| events.recv_timeout(PATIENCE).expect("the end of a topic"));
        let ends: HashMap<usize, u64> = ends.collect();
        assert_eq!(ends.len(), KILLED_TOGETHER);
        let mut times = Timings::new(1);
        ends.values().for_each(|at| times.record(at.saturating_sub(killed)));
        report.times(&format!("{KILLED_TOGETHER} publishers killed at once: {what}, ms"), &times);
    }
    let kills_ms = (all - killed) as f64 / 1e6;
    report.figure("(of which the kills themselves took, ms)", format_args!("{kills_ms:.2}"));
}

/// How long `List` takes for one client while another one attacks, as another user if this is root.
fn attack(report: &mut ScaleReport) {
    let world = ScaleWorld::start();
    let _publishers = HelperProcess::start(&world, &format!("publish 0 {TOPICS}"), None).wait_until_ready();
    let subscribe = || HelperProcess::start(&world, &format!("subscribe 0 0 {TOPICS}"), None).wait_until_ready();
    let _subscribers: Vec<HelperProcess> = (0..SUBSCRIBERS).map(|_| subscribe()).collect();
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let (list, _) = repeat_call(&mut stream, "List", "{}", 50);
    let idle = list.at(500);
    report.times("List, no other client, ms", &list);
    for how in ["half-open", "slow", "never-reads", "watches", "floods"] {
        let uid = is_root().then_some(NOBODY);
        let attacker = HelperProcess::start(&world, &format!("hostile {how}"), uid).wait_until_ready();
        note(&format!("beside a client that {how} ..."));
        let (list, _) = repeat_call(&mut stream, "List", "{}", 50);
        let ratio = list.at(500) / idle;
        report.times(&format!("List beside a client that {how}, ms ({ratio:.2} x idle)"), &list);
        drop(attacker);
    }
    report.figure("memory after all that (peak)", world.memory("VmHWM"));
}

/// Reports the topics whose names are removed, and when.
fn watch_names(directory: Inotify) -> Receiver<(usize, u64)> {
    let (sender, names) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let Ok(events) = directory.read_events() else { return };
            let at = now_ns();
            for event in events {
                let name = event.name.and_then(|name| name.into_string().ok()).unwrap_or_default();
                let number = name.rsplit_once("topic_").and_then(|(_, number)| number.parse().ok());
                if number.is_some_and(|number| sender.send((number, at)).is_err()) {
                    return;
                }
            }
        }
    });
    names
}
