//! The demo's child processes: how they are started, what they report, and that none outlives the demo.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use serde::{Deserialize, Serialize};

use super::Stage;
use crate::failure::Failure;
use crate::signals;

/// What a child tells the demo, as a line of JSON on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum Report {
    /// A publisher has published everything, and every subscriber is done with it.
    Streamed { elapsed_ns: u64 },
    /// A subscriber has received everything.
    Received(Tally),
    /// A subscriber knows that its publisher died.
    Gone { at_ns: u64 },
    /// The child gives up.
    Failed { message: String },
}

/// What a subscriber received.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) corrupt: u64,
    /// The first corrupt message, in words.
    pub(crate) first_corrupt: Option<String>,
    /// When the first message was received.
    pub(crate) first_at_ns: u64,
    /// One-way latencies in nanoseconds, each with how often it occurred.
    pub(crate) latencies_ns: Vec<(u64, u64)>,
}

impl Report {
    pub(crate) fn send(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let line = serde_json::to_string(self).map_err(Failure::new)?;
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::Output)
    }
}

/// Runs a child's part: it dies with the demo, and tells it why it fails.
pub(crate) fn run(parent: i32, part: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    signals::unblock();
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::new)?;
    if getppid() != Pid::from_raw(parent) {
        return Err(Failure::new("the demo is gone"));
    }
    match part() {
        Err(Failure::Error { message, .. }) => Report::Failed { message }.send(),
        done => done,
    }
}

/// What the demo hears.
#[derive(Debug)]
pub(crate) enum News {
    Report(Role, Report),
    /// A child's standard output has ended.
    Ended(Role),
    /// A signal asks to end.
    Interrupted,
}

/// Which child it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publisher,
    Restarted,
    Subscriber(usize),
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Publisher => write!(f, "the publisher"),
            Self::Restarted => write!(f, "the restarted publisher"),
            Self::Subscriber(index) => write!(f, "subscriber {}", index + 1),
        }
    }
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) role: Role,
    process: std::process::Child,
    killed: bool,
    /// It has ended, and well.
    pub(crate) has_ended: bool,
}

impl Child {
    /// Starts this program again in another role; its reports arrive at `news`.
    pub(crate) fn start(stage: &Stage, role: Role, args: &[(&str, u64)], news: &Sender<News>) -> Result<Self, Failure> {
        let program = env::current_exe()
            .map_err(|error| Failure::new(format_args!("can not find this program to start it again: {error}")))?;
        let verb = if matches!(role, Role::Subscriber(_)) { "demo-subscriber" } else { "demo-publisher" };
        let mut process = Command::new(&program)
            .arg(verb)
            .args(["--parent", &std::process::id().to_string()])
            .arg("--payload")
            .arg(stage.payload())
            .args(args.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]))
            .env("CONDUIT_SHM_DIR", stage.domain.shm_dir())
            .env("CONDUIT_SOCKET", stage.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C is for the demo, which then ends its children.
            .process_group(0)
            .spawn()
            .map_err(Failure::io("start", &program))?;
        let output = process.stdout.take();
        let child = Self { role, process, killed: false, has_ended: false };
        let news = news.clone();
        let listen = move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok);
            for line in lines {
                let report = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Report::Failed { message: format!("said {line:?}: {error}") });
                let _ = news.send(News::Report(role, report));
            }
            let _ = news.send(News::Ended(role));
        };
        thread::Builder::new().name("listen".into()).spawn(listen).map_err(Failure::new)?;
        Ok(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.killed = true;
        self.process.kill()
    }

    /// Collects its exit status if it has ended, so that it is no zombie.
    pub(crate) fn reap(&mut self) {
        let _ = self.process.try_wait();
    }

    /// Waits for its end, which has begun, and says how it ended if that is not as it should be.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        match self.process.wait() {
            Ok(status) if status.success() || self.killed => {
                self.has_ended = true;
                Ok(())
            }
            Ok(status) => Err(Failure::new(format_args!("{} ended too early: {status}", self.role))),
            Err(error) => Err(Failure::new(format_args!("can not wait for {}: {error}", self.role))),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
