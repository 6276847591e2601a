//! The two processes of a measurement: this program, and this program again with hidden arguments.
//!
//! The first says on the second's standard input whose turn it is; the second says on its standard output when it has
//! begun, and what came of it. The second dies with the first, and the first notices the second's death.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use super::cores;
use super::transport::{Failure, Place, Result, Transport};

/// How long the other process may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long the second process may take to end.
const END: Duration = Duration::from_secs(5);
/// How long a death takes to be heard of.
const HEARING: Duration = Duration::from_millis(1500);
/// What the second process says when its part has begun, or if it gives up.
const STARTED: &str = "started";
const FAILED: &str = "failed ";
/// First of the hidden arguments.
pub const SECOND: &str = "second";

/// This program again, with hidden arguments.
pub fn this_program() -> Result<Command> {
    Ok(Command::new(env::current_exe()?))
}

/// A private directory in shared memory, removed with everything in it, and with what a peer left beside it.
#[derive(Clone)]
struct Home {
    place: Place,
    clean: fn(&Place),
}

/// The directory that a signal has to remove.
static PRESENT: Mutex<Option<Home>> = Mutex::new(None);

impl Home {
    fn remove(&self) {
        (self.clean)(&self.place);
        if let Err(error) = fs::remove_dir_all(&self.place.directory) {
            eprintln!("can not remove {}: {error}", self.place.directory.display());
        }
    }
}

/// Makes such a directory for as long as `act` takes.
pub fn at_home<P: Transport, R>(limits_first: bool, act: impl FnOnce(&Place) -> Result<R>) -> Result<R> {
    /// Removes the directory even if `act` panics.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            if let Ok(mut present) = PRESENT.lock()
                && let Some(home) = present.take()
            {
                home.remove();
            }
        }
    }
    let mut present = PRESENT.lock().map_err(|_| "a thread has panicked")?;
    let directory = tempfile::Builder::new().prefix("conduit-speed.").tempdir_in("/dev/shm")?.keep();
    let home = present.insert(Home { place: Place { directory, limits_first }, clean: P::clean }).clone();
    drop(present);
    let _leave = Leave;
    act(&home.place)
}

/// The pid of the second process, for the handler of signals.
static CHILD: Mutex<Option<nix::unistd::Pid>> = Mutex::new(None);

/// From now on a signal that ends this program lets nothing behind. To be called before there are other threads.
pub fn handle_signals() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        // Whoever holds a lock is about to make or remove something: it is taken for good.
        let child = CHILD.lock();
        if let Some(pid) = child.as_ref().ok().and_then(|child| **child) {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
        let present = PRESENT.lock();
        if let Some(home) = present.as_ref().ok().and_then(|present| present.as_ref()) {
            home.remove();
        }
        eprintln!("ended by {signal}");
        process::exit(128 + signal as i32);
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Plays the second process's part.
pub fn run_second(parent: i32, core: usize, part: impl FnOnce() -> Result<()>) -> Result<()> {
    SigSet::all().thread_unblock()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw() != parent {
        return Err("the process that started this one is gone".into());
    }
    cores::pin(core)?;
    part().or_else(|error| say(&format!("{FAILED}{}", error.to_string().replace('\n', " "))))
}

/// Tells the first process something, on a line.
fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Plays a turn whenever the first process says whose it is, until it ends.
pub fn follow(mut turn: impl FnMut(&str, &mut dyn FnMut() -> Result<()>) -> Result<String>) -> Result<()> {
    say(STARTED)?;
    for line in BufReader::new(io::stdin().lock()).lines() {
        let answer = turn(&line?, &mut || say(STARTED))?;
        say(&answer)?;
    }
    Ok(())
}

enum News {
    Line(String),
    Ended,
}

/// The second process as the first one sees it; it is ended when dropped.
pub struct Second {
    process: Child,
    commands: Option<ChildStdin>,
    hear: Receiver<News>,
    /// What it said before it was asked.
    early: Option<String>,
}

impl Second {
    /// Starts it. It prepares its part while this process does.
    pub fn start(place: &Place, core: usize, plan: &str) -> Result<Self> {
        let mut command = this_program()?;
        let (parent, core) = (process::id().to_string(), core.to_string());
        command.args([SECOND, &parent, &core]).args([&serde_json::to_string(place)?, plan]);
        // Ctrl-C is for the first process, which then ends this one.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut registered = CHILD.lock().map_err(|_| "a thread has panicked")?;
        let mut process = command.spawn()?;
        *registered = Some(nix::unistd::Pid::from_raw(process.id().cast_signed()));
        drop(registered);
        let (commands, output) = (process.stdin.take(), process.stdout.take());
        let (news, hear) = mpsc::channel();
        let second = Self { process, commands, hear, early: None };
        let listen = move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(io::Result::ok);
            for line in lines {
                let _ = news.send(News::Line(line));
            }
            let _ = news.send(News::Ended);
        };
        thread::Builder::new().name("listen".into()).spawn(listen)?;
        Ok(second)
    }

    /// Tells it whose turn it is, and waits until it plays its part.
    pub fn begin(&mut self, whose: &str) -> Result<()> {
        let commands = self.commands.as_mut().ok_or("the second process has no standard input")?;
        writeln!(commands, "{whose}")?;
        commands.flush()?;
        self.started()
    }

    /// Waits until it says that it has started.
    pub fn started(&mut self) -> Result<()> {
        match self.hear()? {
            line if line == STARTED => Ok(()),
            line => Err(format!("the second process said {line:?} too early").into()),
        }
    }

    /// What it says next.
    pub fn hear(&mut self) -> Result<String> {
        if let Some(line) = self.early.take() {
            return Ok(line);
        }
        match self.hear.recv_timeout(PATIENCE) {
            Ok(news) => self.line(news),
            Err(_) => Err(format!("the second process said nothing for {PATIENCE:?}").into()),
        }
    }

    /// Whether it lives and is content.
    pub fn look(&mut self) -> Result<()> {
        match self.hear.try_recv() {
            Ok(news) => {
                self.early = Some(self.line(news)?);
                Ok(())
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(()),
        }
    }

    /// What failed, and what the second process says of it, which may be the reason or follow from it.
    pub fn reason(&mut self, failure: Failure) -> Failure {
        let deadline = Instant::now() + HEARING;
        loop {
            match self.hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(news) => match self.line(news) {
                    Ok(_) => {}
                    Err(reason) if reason.to_string() == failure.to_string() => return failure,
                    Err(reason) => return format!("{failure} ({reason})").into(),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return failure,
            }
        }
    }

    fn line(&mut self, news: News) -> Result<String> {
        match news {
            News::Line(line) => match line.strip_prefix(FAILED) {
                Some(reason) => Err(format!("the second process: {reason}").into()),
                None => Ok(line),
            },
            News::Ended => match self.process.wait() {
                Ok(status) => Err(format!("the second process ended too early: {status}").into()),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // The end of its input is its end.
        self.commands = None;
        let deadline = Instant::now() + END;
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(1));
        }
        if let Ok(mut registered) = CHILD.lock() {
            *registered = None;
        }
    }
}

/// Asks again and again until there is something.
pub fn retry<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what} was not there after {PATIENCE:?}").into());
        }
        thread::sleep(Duration::from_micros(500));
    }
}
