//! How the daemon bears a thousand topics with four subscribers each: `cargo bench -p conduitd`.
//!
//! Real processes: the publishers that are killed have one each, the others share some. Raw percentiles, nothing trimmed;
//! the figures of a run stand beside an idle daemon's of the same run.
#![allow(missing_docs, reason = "nobody uses this crate")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;
use conduit::registry::Client;
use conduit::{Domain, Publisher, RecvError, Subscriber};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TOPICS: usize = 1000;
const SUBSCRIBERS: usize = 4;
const KILLED_ALONE: usize = 200;
const KILLED_TOGETHER: usize = 500;
const ALONE: usize = TOPICS - KILLED_ALONE - KILLED_TOGETHER;
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions: answers are not shared for so long.
const PAUSE: Duration = Duration::from_millis(100);
const NOBODY: u32 = 65534;
const MAX_CONNECTIONS: usize = 6600;
/// A topic and a subscriber take a connection each; what is left is for others.
const MAX_CONNECTIONS_PER_UID: usize = 6100;

fn main() {
    raise_descriptor_limit();
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse::<usize>().unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("publish") => publish(number(2), number(3)),
        Some("subscribe") => subscribe(number(2), number(3), number(4)),
        Some("hostile") => hostile(&arguments[2]),
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
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Publishes topics until standard input ends.
fn publish(first: usize, end: usize) {
    let started = Instant::now();
    let _publishers: Vec<_> = (first..end).map(|number| Publisher::<[u8]>::create(&topic(number)).unwrap()).collect();
    say(&format!("ready {}", started.elapsed().as_nanos()));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Subscribes to all topics; sleeps on those from `first` to `end`, in a thread each, and says when it learns of their ends.
fn subscribe(first: usize, end: usize, all: usize) {
    let mut idle = Vec::new();
    for number in 0..all {
        let mut subscriber = Subscriber::<[u8]>::open(&topic(number)).unwrap();
        if !(first..end).contains(&number) {
            idle.push(subscriber);
            continue;
        }
        let sleep = move || {
            let Err(RecvError::PublisherGone { .. }) = subscriber.recv() else { panic!("a message of nobody") };
            let woken = now_ns();
            say(&format!("woken {number} {woken}"));
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(sleep).unwrap();
    }
    say("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Does what a hostile client does until standard input ends.
fn hostile(how: &str) {
    let socket = std::env::var("CONDUIT_SOCKET").unwrap();
    let list = b"{\"method\":\"io.conduit.Registry.List\"}\0";
    let watch = b"{\"method\":\"io.conduit.Registry.Watch\",\"more\":true}\0";
    let mut crowd = Vec::new();
    let connect = |crowd: &mut Vec<UnixStream>| {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_nonblocking(true).unwrap();
        crowd.push(stream);
    };
    let count = if how == "half-open" { 10_000 } else { 1000 };
    for _ in 0..count {
        connect(&mut crowd);
    }
    if how == "half-open" {
        // Most have been refused.
        crowd.retain(|stream| (&*stream).read(&mut [0; 512]).is_err());
    }
    say("ready");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        for stream in &mut crowd {
            // Errors are what it is there for.
            let _ = match how {
                "slow" => stream.write(b"{"),
                "floods" => stream.write(list).and_then(|_| stream.read(&mut [0; 65536])),
                "never-reads" => stream.write(list),
                "watches" => stream.write(watch),
                _ => Ok(0),
            };
        }
        // Not so often that it is the processors that everybody waits for.
        let pause = match how {
            "slow" => 1000,
            "floods" => 1,
            _ => 50,
        };
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// A process of this program.
struct Role {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
    ready: String,
}

impl Role {
    fn start(world: &World, arguments: &[String], uid: Option<u32>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        world.enter(&mut command);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
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

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory and a daemon of this benchmark's own.
struct World {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
}

impl World {
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

    /// Waits until threads that were needed for a while have ended: two stay.
    fn wait_until_settled(&self) {
        // What was left of its start, if anything.
        std::thread::sleep(Duration::from_secs(2));
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count() > 2 {
            assert!(Instant::now() < deadline, "the daemon's threads do not end");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How often the daemon's threads have been woken.
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

impl Drop for World {
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

/// Figures of one kind, and how they are told.
struct Times(Vec<f64>);

impl Times {
    fn at(&mut self, percent: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let index = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0[index.clamp(1, self.0.len()) - 1]
    }

    fn told(&mut self) -> String {
        let [p50, p90, p99, max] = [50.0, 90.0, 99.0, 100.0].map(|percent| self.at(percent));
        format!("{p50:.2} | {p90:.2} | {p99:.2} | {max:.2}")
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A question asked again and again on one connection; the time to the reply's last byte.
fn ask(stream: &mut UnixStream, method: &str, parameters: &str, times: usize) -> (Times, usize) {
    let call = format!("{{\"method\":\"io.conduit.Registry.{method}\",\"parameters\":{parameters}}}\0");
    let mut buffer = vec![0; 1 << 20];
    let mut found = Vec::new();
    let mut bytes = 0;
    for _ in 0..times {
        std::thread::sleep(PAUSE);
        let started = Instant::now();
        stream.write_all(call.as_bytes()).unwrap();
        bytes = 0;
        loop {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "the daemon hung up");
            bytes += len;
            if buffer[len - 1] == 0 {
                break;
            }
        }
        found.push(started.elapsed().as_secs_f64() * 1e3);
    }
    (Times(found), bytes)
}

fn measure() {
    let world = World::start();
    let mut report = String::new();
    let mut line = |what: &str, figures: String| writeln!(report, "| {what} | {figures} |").unwrap();
    eprintln!("{TOPICS} topics x {SUBSCRIBERS} subscribers ...");

    // Registrations: one after the other, each on a connection of its own.
    let first = TOPICS - ALONE;
    let together = Role::start(&world, &["publish".into(), first.to_string(), TOPICS.to_string()], None);
    let together = together.wait_until_ready();
    let ns: f64 = together.ready.trim().strip_prefix("ready ").unwrap().parse().unwrap();
    line("Publisher::create, registered, per second", format!("{:.0} | | |", ALONE as f64 / ns * 1e9));
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
    line("connect and Register, per second", format!("{per_second:.0} | | |"));
    drop(claims);

    let mut publishers: Vec<Role> = Vec::new();
    for number in 0..first {
        publishers.push(Role::start(&world, &["publish".into(), number.to_string(), (number + 1).to_string()], None));
    }
    let mut publishers: Vec<Role> = publishers.into_iter().map(Role::wait_until_ready).collect();
    let (sender, woken) = mpsc::channel();
    let mut subscribers = Vec::new();
    for process in 0..SUBSCRIBERS {
        // Each topic whose publisher is killed has a sleeper.
        let sleepers = if process == 0 { (0, first) } else { (0, 0) };
        let arguments = ["subscribe".into(), sleepers.0.to_string(), sleepers.1.to_string(), TOPICS.to_string()];
        let mut role = Role::start(&world, &arguments, None).wait_until_ready();
        let lines = role.lines.take().unwrap();
        let sender = sender.clone();
        std::thread::spawn(move || {
            for text in lines.lines().map_while(Result::ok) {
                let words: Vec<u64> = text.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
                let _ = sender.send((words[0] as usize, words[1]));
            }
        });
        subscribers.push(role);
    }
    line("memory with all of it (RSS)", format!("{} | | |", world.memory("VmRSS")));

    world.wait_until_settled();
    let wake_ups = world.wake_ups();
    std::thread::sleep(Duration::from_secs(5));
    line("wake-ups in 5 s of idleness", format!("{} | | |", world.wake_ups() - wake_ups));

    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let (mut list, bytes) = ask(&mut stream, "List", "{}", 50);
    line(&format!("List, {} kB, ms", bytes / 1000), list.told());
    let parameters = format!("{{\"topic\":\"{}\"}}", topic(TOPICS / 2));
    line("Describe, ms", ask(&mut stream, "Describe", &parameters, 50).0.told());

    let directory = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    directory.add_watch(world.directory.path(), AddWatchFlags::IN_MOVED_FROM).unwrap();
    let gone = watch_names(directory);
    let mut alone = [Vec::new(), Vec::new()];
    for (number, publisher) in publishers.drain(..KILLED_ALONE).enumerate() {
        let killed = now_ns();
        publisher.kill();
        for (times, events) in alone.iter_mut().zip([&woken, &gone]) {
            let (of, at) = events.recv_timeout(PATIENCE).expect("an end that is noticed");
            assert_eq!(of, number);
            times.push(ms(at - killed));
        }
    }
    let [awake, removed] = alone;
    line("one publisher killed: sleeper awake, ms", Times(awake).told());
    line("one publisher killed: file gone, ms", Times(removed).told());

    let killed = now_ns();
    for publisher in &publishers {
        publisher.kill();
    }
    let all = now_ns();
    for (what, events) in [("sleepers awake", &woken), ("files gone", &gone)] {
        let found: HashMap<usize, u64> =
            (0..KILLED_TOGETHER).map(|_| events.recv_timeout(PATIENCE).expect("an end that is noticed")).collect();
        assert_eq!(found.len(), KILLED_TOGETHER);
        let times = found.values().map(|at| ms(at.saturating_sub(killed))).collect();
        line(&format!("{KILLED_TOGETHER} publishers killed at once: {what}, ms"), Times(times).told());
    }
    line("(of which the kills themselves took, ms)", format!("{:.2} | | |", ms(all - killed)));
    line("memory after that (peak)", format!("{} | | |", world.memory("VmHWM")));
    drop((together, subscribers, stream, world));
    attack(&mut report);
    println!(
        "| {TOPICS} topics, {SUBSCRIBERS} subscribers each | p50 | p90 | p99 | max |\n|---|---|---|---|---|\n{report}"
    );
}

/// What one client has of the daemon while another one, of another user if this is root, means no good.
fn attack(report: &mut String) {
    let world = World::start();
    let _publishers = Role::start(&world, &["publish".into(), "0".into(), TOPICS.to_string()], None).wait_until_ready();
    let subscribe = || {
        Role::start(&world, &["subscribe".into(), "0".into(), "0".into(), TOPICS.to_string()], None).wait_until_ready()
    };
    let _subscribers: Vec<Role> = (0..SUBSCRIBERS).map(|_| subscribe()).collect();
    let mut line = |what: &str, figures: String| writeln!(report, "| {what} | {figures} |").unwrap();
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let (mut list, _) = ask(&mut stream, "List", "{}", 50);
    line("List, nobody else there, ms", list.told());
    let idle = list.at(50.0);
    for how in ["half-open", "slow", "never-reads", "watches", "floods"] {
        let uid = is_root().then_some(NOBODY);
        let attacker = Role::start(&world, &["hostile".into(), how.into()], uid).wait_until_ready();
        eprintln!("beside a client that {how} ...");
        let (mut list, _) = ask(&mut stream, "List", "{}", 50);
        let ratio = list.at(50.0) / idle;
        line(&format!("List beside a client that {how}, ms ({ratio:.2} x idle)"), list.told());
        drop(attacker);
    }
    line("memory after all that (peak)", format!("{} | | |", world.memory("VmHWM")));
}

/// Reports when names go, and which topics' they were.
fn watch_names(directory: Inotify) -> Receiver<(usize, u64)> {
    let (sender, names) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let _ = directory.as_fd();
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
