//! The second process of a measurement: this program again, with hidden arguments.
//!
//! The first process writes on the second's standard input whose turn it is. The second writes on
//! its standard output when its part of the turn begins, and what it counted. The second dies
//! with the first, and the first notices the second's death while it waits.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::until::Until;
use crate::{BenchError, Result, cores};

/// How long the other process may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the second process may take to end.
const END: Duration = Duration::from_secs(5);
/// How long the news of a death may take.
const DEATH_NEWS: Duration = Duration::from_millis(1500);
/// What the second process says when its part begins, and before the reason if it gives up.
const STARTED: &str = "started";
const FAILED: &str = "failed ";

/// A signal asks to end the measurement.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Runs the second process's part, which fails on the first process's screen.
pub fn run_second(parent: i32, core: usize, part: impl FnOnce() -> Result<()>) -> Result<()> {
    SigSet::all().thread_unblock()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw() != parent {
        return Err("the process that started this one is gone".into());
    }
    cores::pin(core).and_then(|()| part()).or_else(|error| say(&format!("{FAILED}{error}").replace('\n', " ")))
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Answers turns, given whose each is, until the first process ends.
pub fn follow(mut answer: impl FnMut(&str) -> Result<String>) -> Result<()> {
    say(STARTED)?;
    for line in BufReader::new(io::stdin().lock()).lines() {
        say(STARTED)?;
        say(&answer(&line?)?)?;
    }
    Ok(())
}

/// What the first process learns while it measures.
#[derive(Debug)]
pub enum Notice {
    /// The second process says something.
    Line(String),
    /// The second process's standard output has ended.
    Ended,
    /// A signal asks to end the measurement.
    Interrupted,
}

/// The second process as the first one sees it. Dropping it ends the process.
#[derive(Debug)]
pub struct Partner {
    process: Child,
    commands: Option<ChildStdin>,
    notices: Receiver<Notice>,
    /// What it said before it was asked.
    early: Option<String>,
}

impl Partner {
    /// Starts it; it gets its part ready while this process does.
    pub fn start(mut command: Command, (sender, notices): (Sender<Notice>, Receiver<Notice>)) -> Result<Self> {
        // Ctrl-C is for the first process, which then ends this one.
        let mut process = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (commands, output) = (process.stdin.take(), process.stdout.take());
        let partner = Self { process, commands, notices, early: None };
        let listen = move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(io::Result::ok);
            for line in lines {
                let _ = sender.send(Notice::Line(line));
            }
            let _ = sender.send(Notice::Ended);
        };
        thread::Builder::new().name("listen".into()).spawn(listen)?;
        Ok(partner)
    }

    /// Starts a turn, and waits until the second process's part has begun.
    pub fn begin(&mut self, whose: &str) -> Result<()> {
        let commands = self.commands.as_mut().ok_or("the second process has no standard input")?;
        writeln!(commands, "{whose}")?;
        commands.flush()?;
        self.wait_until_started()
    }

    /// Waits until the second process is ready.
    pub fn wait_until_started(&mut self) -> Result<()> {
        match self.hear()? {
            line if line == STARTED => Ok(()),
            line => Err(format!("the second process said {line:?} too early").into()),
        }
    }

    /// What the second process says next.
    pub fn hear(&mut self) -> Result<String> {
        if let Some(line) = self.early.take() {
            return Ok(line);
        }
        match self.notices.recv_timeout(PATIENCE) {
            Ok(notice) => self.line(notice),
            Err(_) => Err(format!("the second process said nothing for {PATIENCE:?}").into()),
        }
    }

    /// Fails if the second process has ended or given up, or a signal asks to end.
    pub fn check(&mut self) -> Result<()> {
        match self.notices.try_recv() {
            Ok(notice) => self.line(notice).map(|line| self.early = Some(line)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(()),
        }
    }

    /// Why a measurement failed: what the second process says, if its failure is the reason. Kills
    /// the second process, which may wait for the rest of a turn.
    pub fn reason(&mut self, error: BenchError) -> BenchError {
        let deadline = Instant::now() + DEATH_NEWS;
        while !error.is::<Interrupted>() {
            match self.notices.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Notice::Line(line)) => {
                    if let Some(reason) = line.strip_prefix(FAILED) {
                        return format!("{error} (the second process: {reason})").into();
                    }
                }
                Ok(notice) => return self.line(notice).err().unwrap_or(error),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = self.process.kill();
        error
    }

    fn line(&mut self, notice: Notice) -> Result<String> {
        match notice {
            Notice::Line(line) => match line.strip_prefix(FAILED) {
                Some(reason) => Err(format!("the second process: {reason}").into()),
                None => Ok(line),
            },
            Notice::Ended => match self.process.wait() {
                Ok(status) => Err(format!("the second process ended too early: {status}").into()),
                Err(error) => Err(error.into()),
            },
            Notice::Interrupted => Err(Interrupted.into()),
        }
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // It ends with its input.
        self.commands = None;
        let deadline = Instant::now() + END;
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How long the first process waits for the second one in a turn.
pub struct Patience<'a> {
    partner: &'a mut Partner,
    deadline: Instant,
}

impl<'a> Patience<'a> {
    /// For one turn.
    pub fn new(partner: &'a mut Partner, until: Until) -> Self {
        Self { partner, deadline: until.end.max(Instant::now()) + PATIENCE }
    }

    /// Fails if waiting is pointless.
    pub fn check(&mut self) -> Result<()> {
        self.partner.check()?;
        if Instant::now() < self.deadline { Ok(()) } else { Err("the second process does not answer".into()) }
    }
}

/// Asks until there is an answer.
pub fn retry<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what} did not appear within {PATIENCE:?}").into());
        }
        thread::sleep(Duration::from_micros(500));
    }
}
