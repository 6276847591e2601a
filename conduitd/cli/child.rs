//! Child processes of a verb. They report to it, and none outlives it.

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::signals;

/// A report of a child to its parent, as a line of JSON on its standard output.
pub(crate) trait ChildReport: Serialize + DeserializeOwned + Send + 'static {
    /// The child gives up.
    fn failed(message: String) -> Self;

    fn send(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let line = serde_json::to_string(self).map_err(Failure::new)?;
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::Output)
    }
}

/// Runs a child's part. The child dies with its parent, and reports why it fails.
pub(crate) fn run<R: ChildReport>(parent: i32, part: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    signals::unblock();
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::new)?;
    if getppid() != Pid::from_raw(parent) {
        return Err(Failure::new("the process that started this one is gone"));
    }
    match part() {
        Err(Failure::Error { message, .. }) => R::failed(message).send(),
        done => done,
    }
}

/// What the parent receives.
#[derive(Debug)]
pub(crate) enum ChildEvent<L, R> {
    Report(L, R),
    /// A child's standard output has ended.
    Ended(L),
    /// A signal asks to end.
    Interrupted,
}

/// This program again with a hidden verb, whose first option is the parent's pid. Nothing is on its
/// standard input.
pub(crate) fn command(verb: &str) -> Result<Command, Failure> {
    let program = env::current_exe()
        .map_err(|error| Failure::new(format_args!("cannot find this program to start it again: {error}")))?;
    let mut command = Command::new(program);
    command.arg(verb).args(["--parent", &std::process::id().to_string()]).stdin(Stdio::null());
    Ok(command)
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Child<L> {
    pub(crate) role: L,
    process: std::process::Child,
    killed: bool,
    /// It has ended, and well.
    pub(crate) has_ended: bool,
}

impl<L: Copy + Display + Send + 'static> Child<L> {
    /// Starts a [`command`]; its reports arrive at `events`.
    pub(crate) fn start<R: ChildReport>(
        role: L,
        mut command: Command,
        events: &Sender<ChildEvent<L, R>>,
    ) -> Result<Self, Failure> {
        // Ctrl-C is for the parent, which then ends its children.
        let spawned = command.stdout(Stdio::piped()).process_group(0).spawn();
        let mut process = spawned.map_err(Failure::io("start", command.get_program().as_ref()))?;
        let output = process.stdout.take();
        let child = Self { role, process, killed: false, has_ended: false };
        let events = events.clone();
        let listen = move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok);
            for line in lines {
                let report = serde_json::from_str(&line)
                    .unwrap_or_else(|error| R::failed(format!("sent an invalid report {line:?}: {error}")));
                let _ = events.send(ChildEvent::Report(role, report));
            }
            let _ = events.send(ChildEvent::Ended(role));
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

    /// Waits for a process that is about to exit; an unexpected exit status is an error.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        match self.process.wait() {
            Ok(status) if status.success() || self.killed => {
                self.has_ended = true;
                Ok(())
            }
            Ok(status) => Err(Failure::new(format_args!("{} ended unexpectedly: {status}", self.role))),
            Err(error) => Err(Failure::new(format_args!("cannot wait for {}: {error}", self.role))),
        }
    }
}

impl<L> Drop for Child<L> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
