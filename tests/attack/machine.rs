//! A directory, a daemon, an honest user's topics, and an attacker.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use conduit::registry::Client;
use nix::sys::signal::Signal;

use crate::attacks::{Attack, Restart};
use crate::figures::{Figures, Recovery};
use crate::harness::{Daemon, World, wait_until};
use crate::{HONEST, HOSTILE};

/// How long the honest client measures.
const SPELL: &str = "5";
/// The daemon is back where it was if it keeps no more than this.
const SPARE_DESCRIPTORS: usize = 4;
const SPARE_KIB: usize = 8 << 10;
const RECOVERY: Duration = Duration::from_secs(60);
/// How long a daemon may take to start in the middle of an attack.
const START: Duration = Duration::from_secs(10);

pub struct Machine {
    attack: Attack,
    attacker: Option<Role>,
    _population: Role,
    daemon: Daemon,
    /// Of a daemon whose log nobody reads.
    _log: Option<ChildStderr>,
    /// Descriptors, and memory in KiB, before the attack.
    before: (usize, usize),
    world: World,
}

impl Machine {
    pub fn start(attack: Attack) -> Self {
        let world = World::new();
        let (daemon, log) = start_daemon(&world, attack.is_log_silent);
        wait_until("the daemon to listen", || is_answered(&world));
        let population = Role::start(&world, &["role-populate"], HONEST).wait_until_ready();
        let mut machine =
            Self { attack, attacker: None, _population: population, daemon, _log: log, before: (0, 0), world };
        // What each daemon needs once is not charged to the attack.
        machine.measure_for("1");
        machine.before = machine.kept();
        machine
    }

    pub fn begin_attack(&mut self) {
        let attacker = Role::start(&self.world, &["role-attack", self.attack.name], HOSTILE);
        self.attacker = Some(attacker.wait_until_ready());
    }

    pub fn measure(&self) -> Figures {
        self.measure_for(SPELL)
    }

    fn measure_for(&self, seconds: &str) -> Figures {
        let mut client = Role::start(&self.world, &["role-measure", seconds], HONEST);
        let mut answer = String::new();
        client.lines.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("the honest client failed ({error}): {answer}"))
    }

    /// Replaces the daemon; the attack goes on.
    pub fn restart_daemon(&mut self, restart: Restart) -> Result<(), String> {
        self.daemon.signal(if restart == Restart::Stopped { Signal::SIGTERM } else { Signal::SIGKILL });
        self.daemon.wait();
        if restart == Restart::Stopped {
            std::thread::sleep(Duration::from_millis(200));
        }
        (self.daemon, self._log) = start_daemon(&self.world, self.attack.is_log_silent);
        let started = Instant::now();
        while !is_answered(&self.world) {
            if !self.daemon.is_running() {
                return Err(format!("the daemon did not start again: {}", last_line(&self.world.log())));
            }
            if started.elapsed() > START {
                return Err(format!("the daemon did not answer within {} s of its start", START.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Kills the attacker, and removes its files as its user would.
    pub fn end_attack(&mut self) {
        self.attacker = None;
        for entry in std::fs::read_dir(self.world.path()).unwrap().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.uid() == HOSTILE {
                let _ = if metadata.is_dir() {
                    std::fs::remove_dir_all(entry.path())
                } else {
                    std::fs::remove_file(entry.path())
                };
            }
        }
    }

    /// Waits until the daemon keeps no more than before the attack.
    pub fn recovery(&self) -> Recovery {
        let ended = Instant::now();
        let (descriptors, memory_kib) = self.before;
        loop {
            let now = self.kept();
            let is_back = now.0 <= descriptors + SPARE_DESCRIPTORS && now.1 <= memory_kib + SPARE_KIB;
            if is_back || ended.elapsed() > RECOVERY {
                let took = is_back.then(|| ended.elapsed());
                return Recovery { descriptors: [descriptors, now.0], memory_kib: [memory_kib, now.1], took };
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn kept(&self) -> (usize, usize) {
        let process = std::path::PathBuf::from(format!("/proc/{}", self.daemon.pid()));
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory_kib = memory.trim().trim_end_matches(" kB").parse().unwrap();
        (std::fs::read_dir(process.join("fd")).unwrap().count(), memory_kib)
    }
}

fn start_daemon(world: &World, is_log_silent: bool) -> (Daemon, Option<ChildStderr>) {
    let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
    command.args(["--config", "/dev/null"]).stdin(Stdio::null());
    if is_log_silent {
        command.stderr(Stdio::piped());
    } else {
        let log = std::fs::File::options().append(true).create(true).open(world.path().join("daemon.log")).unwrap();
        command.stderr(log);
    }
    let mut child = command.spawn().unwrap();
    let log = child.stderr.take();
    (Daemon::from(child), log)
}

fn is_answered(world: &World) -> bool {
    Client::connect(&world.domain()).is_ok_and(|mut client| client.status().is_ok())
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}

/// A process of this program.
pub struct Role {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Role {
    fn start(world: &World, arguments: &[&str], uid: u32) -> Self {
        let mut command = world.command(std::env::current_exe().unwrap());
        command.args(arguments).uid(uid).gid(uid);
        Self::spawn(command)
    }

    /// Starts a process of the same user in the same world.
    pub fn of_this_user(arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub fn wait_until_ready(mut self) -> Self {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "a process of this test failed");
        self
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// Tells the process that has started this role that it is at work.
pub fn say_ready() {
    println!("ready");
}

/// Returns when the process that has started this role ends.
pub fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
