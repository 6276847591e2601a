//! `conduit demo`: streams messages between processes and kills one, with a registry of its own.

mod child;
mod directory;
mod payload;
mod plan;
pub(crate) mod publisher;
mod report;
pub(crate) mod subscriber;
mod work;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use conduit::TopicName;
use conduit::inspect::{Counters, Region};
use conduit::internal::ReapRegion;
use conduit::internal::shm::clock::now_ns;
use conduit::internal::shm::dir::ShmDir;
use conduitd::{Config, DaemonOptions, Embedded, Limits};
use indicatif::{ProgressBar, ProgressStyle};

use crate::child::{Child, ChildEvent};
use crate::failure::Failure;
use crate::output;
use child::{DemoReport, DemoRole};
use directory::DemoDirectory;
use plan::{SUBSCRIBERS, TOPIC, patience};
use report::{DemoSummary, StreamResult};

const INTRODUCTION: &str = "\
A publisher streams messages to two subscribers through shared memory; then it is killed and
started again. Everything happens in a private directory that is removed at the end.
";
/// Most messages after the restart.
const AGAIN: u64 = 100;
/// How often to check for something that takes microseconds.
const POLL_INTERVAL: Duration = Duration::from_micros(100);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// How long the file of a dead publisher may remain, and a subscriber remain asleep.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);

/// See it work: stream large messages between processes, kill the publisher, start it again.
///
/// Starts a registry, a publisher and two subscribers of its own, in a private directory that is
/// removed at the end. Each message differs from the others, and both subscribers compare every
/// bit. Then the publisher is killed while both subscribers sleep, and started again. Needs no root
/// and nothing installed.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit demo
  conduit demo --file room.pcd --messages 2000
  conduit demo --size 4096 --messages 100000 --json

Exit codes:
  0  every message arrived intact at both subscribers, and the death was handled
  1  something went wrong, reported on standard error")]
pub(crate) struct Args {
    /// File to stream; by default a synthetic point cloud of 12 MB
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Number of messages to stream
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u64).range(1..=1 << 40))]
    messages: u64,
    /// Size of the synthetic point cloud
    #[arg(long, value_name = "BYTES", default_value_t = 12 * payload::POINTS, conflicts_with = "file")]
    size: u64,
    /// Print only the results, as a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (events, receiver) = mpsc::channel();
    let interrupt = events.clone();
    let directory = DemoDirectory::new()?;
    // Dropped when the children have ended and the files are gone.
    let clean_up = directory.directory.put_away_before_ending(move || drop(interrupt.send(ChildEvent::Interrupted)))?;
    let summary = Demo::start(args, directory, events, receiver).and_then(Demo::run);
    drop(clean_up);
    let summary = summary?;

    output::print(|out| if args.json { output::json(out, &summary) } else { summary.print(out) })?;
    let problems = summary.problems();
    if !problems.is_empty() {
        return Err(Failure::new(problems.join("; ")));
    }
    if args.json { Ok(()) } else { output::print(|out| write!(out, "\n{}", next_steps(&program()))) }
}

/// This program as it was called, to be pasted into a shell.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    let is_plain = called.chars().all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char));
    if is_plain && called.contains('/') { called } else { "conduit".into() }
}

fn next_steps(program: &str) -> String {
    format!(
        "\
Try next:
  {program} pub chatter --text hello --rate 10 --count 600 &
  {program} echo chatter    # print what it publishes; `top` shows all topics
  {program} bench           # latency and throughput beside what this machine can do
"
    )
}

/// The running demo. Fields are dropped in this order: the children end first, the directory is
/// removed last.
struct Demo<'a> {
    args: &'a Args,
    children: Vec<Child<DemoRole>>,
    receiver: Receiver<ChildEvent<DemoRole, DemoReport>>,
    events: Sender<ChildEvent<DemoRole, DemoReport>>,
    _registry: Embedded,
    directory: DemoDirectory,
    topic: TopicName,
    patience: Duration,
    message_bytes: u64,
    again: u64,
}

impl<'a> Demo<'a> {
    fn start(
        args: &'a Args,
        directory: DemoDirectory,
        events: Sender<ChildEvent<DemoRole, DemoReport>>,
        receiver: Receiver<ChildEvent<DemoRole, DemoReport>>,
    ) -> Result<Self, Failure> {
        let message_bytes = directory.write_payload(args.file.as_deref(), args.size)? + 8;
        let options = DaemonOptions {
            socket: Some(directory.socket()),
            shm_dir: directory.domain.shm_dir().into(),
            limits: Limits::default(),
            config: Config::None,
        };
        let registry = Embedded::start(&options).map_err(Failure::new)?;
        Ok(Self {
            args,
            children: Vec::new(),
            receiver,
            events,
            _registry: registry,
            directory,
            topic: TopicName::new(TOPIC)?,
            patience: patience(message_bytes),
            message_bytes,
            again: args.messages.min(AGAIN),
        })
    }

    fn run(mut self) -> Result<DemoSummary, Failure> {
        let what = self.args.file.as_deref().map_or_else(|| "a synthetic point cloud".into(), Path::to_string_lossy);
        let (messages, size) = (self.args.messages, output::data_size(self.message_bytes));
        self.say(format_args!("{INTRODUCTION}"))?;
        self.say(format_args!(
            "{messages} messages of {size} ({what}) to {SUBSCRIBERS} processes, every bit compared"
        ))?;
        for index in 0..SUBSCRIBERS {
            self.start_child(DemoRole::Subscriber(index), &[("messages", messages), ("again", self.again)])?;
        }
        let pid = self.start_child(DemoRole::Publisher, &[("first", 0), ("messages", messages), ("stay", 1)])?;
        let stream = self.stream(messages)?;
        let mut summary = DemoSummary::new(self.message_bytes, messages, &stream)?;

        self.say(format_args!("kill -9 {pid}: the publisher dies while both subscribers sleep"))?;
        self.kill_publisher(&mut summary)?;

        self.say(format_args!("the publisher starts again, the subscribers open the topic again"))?;
        let restarted_at_ns = now_ns();
        self.start_child(DemoRole::Restarted, &[("first", messages), ("messages", self.again), ("stay", 0)])?;
        let stream = self.stream(self.again)?;
        summary.add_restart(restarted_at_ns, self.again, &stream);
        self.wait_for_children()?;
        Ok(summary)
    }

    fn say(&self, line: std::fmt::Arguments) -> Result<(), Failure> {
        if self.args.json {
            return Ok(());
        }
        output::print(|out| writeln!(out, "{line}"))
    }

    fn start_child(&mut self, role: DemoRole, args: &[(&str, u64)]) -> Result<u32, Failure> {
        let verb = if matches!(role, DemoRole::Subscriber(_)) { "demo-subscriber" } else { "demo-publisher" };
        let mut command = crate::child::command(verb)?;
        command
            .arg("--payload")
            .arg(self.directory.payload())
            .args(args.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]))
            .env("CONDUIT_SHM_DIR", self.directory.domain.shm_dir())
            .env("CONDUIT_SOCKET", self.directory.socket());
        let child = Child::start(role, command, &self.events)?;
        let pid = child.pid();
        self.children.push(child);
        Ok(pid)
    }

    /// Waits for a report; `None` if there is none by the deadline. A child's failure ends the
    /// demo.
    fn report_until(&mut self, deadline: Instant) -> Result<Option<(DemoRole, DemoReport)>, Failure> {
        loop {
            match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ChildEvent::Report(role, DemoReport::Failed { message })) => {
                    return Err(Failure::new(format_args!("{role}: {message}")));
                }
                Ok(ChildEvent::Report(role, report)) => return Ok(Some((role, report))),
                Ok(ChildEvent::Ended(role)) => {
                    self.children.iter_mut().filter(|child| child.role == role).try_for_each(Child::end)?;
                }
                Ok(ChildEvent::Interrupted) => return Err(Failure::Interrupted),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Waits until all children have ended.
    fn wait_for_children(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.patience;
        while let Some(role) = self.children.iter().find(|child| !child.has_ended).map(|child| child.role) {
            self.report_until(Instant::now() + PROGRESS_INTERVAL)?;
            if Instant::now() >= deadline {
                return Err(Failure::new(format_args!("{role} does not exit")));
            }
        }
        Ok(())
    }

    /// Waits until both subscribers have received everything.
    fn stream(&mut self, messages: u64) -> Result<StreamResult, Failure> {
        let bar = self.progress_bar(messages);
        let mut stream = StreamResult::default();
        let mut published = 0;
        let mut deadline = Instant::now() + self.patience;
        while stream.elapsed_ns == 0 || stream.tallies.len() < SUBSCRIBERS {
            match self.report_until(Instant::now() + PROGRESS_INTERVAL)? {
                Some((_, DemoReport::Streamed { elapsed_ns, written })) => {
                    (stream.elapsed_ns, stream.written) = (elapsed_ns.max(1), written);
                }
                Some((_, DemoReport::Received(tally))) => stream.tallies.push(tally),
                Some((role, report)) => return Err(Failure::new(format_args!("{role}: unexpected {report:?}"))),
                None => {}
            }
            let now_published = self.counters().map_or(0, |counters| counters.published);
            if now_published > published {
                published = now_published;
                deadline = Instant::now() + self.patience;
                bar.set_position(published);
            }
            if Instant::now() >= deadline {
                let patience = self.patience;
                return Err(Failure::new(format_args!("nothing moved for {patience:?} after {published} messages")));
            }
        }
        bar.finish_and_clear();
        Ok(stream)
    }

    fn progress_bar(&self, messages: u64) -> ProgressBar {
        if self.args.json {
            return ProgressBar::hidden();
        }
        let template = "{bar:40} {human_pos} of {human_len} messages, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // It draws to standard error, and only to a terminal.
        ProgressBar::new(messages).with_style(style)
    }

    /// The topic's counters, if it exists.
    fn counters(&self) -> Option<Counters> {
        let directory = ShmDir::open(&self.directory.domain).ok()?;
        Region::open_in(&directory, &self.topic).ok()?.counters()
    }

    /// Kills the publisher while the subscribers sleep, and measures how long the consequences
    /// take.
    fn kill_publisher(&mut self, summary: &mut DemoSummary) -> Result<(), Failure> {
        self.wait_until_subscribers_sleep()?;
        let path = self.directory.domain.shm_dir().join(self.topic.file_name());
        let Some(publisher) = self.children.iter_mut().find(|child| child.role == DemoRole::Publisher) else {
            return Ok(());
        };
        let killed_at_ns = now_ns();
        publisher.kill().map_err(|error| Failure::new(format_args!("cannot kill the publisher: {error}")))?;
        let deadline = Instant::now() + DEATH_PATIENCE;
        while summary.unlinked_ns.is_none() && Instant::now() < deadline {
            if path.try_exists().is_ok_and(|exists| !exists) {
                summary.unlinked_ns = Some(now_ns() - killed_at_ns);
            }
            publisher.reap();
            thread::sleep(POLL_INTERVAL);
        }
        // Reports that were sent in time have arrived by now.
        while summary.woken_ns.len() < SUBSCRIBERS {
            match self.report_until(deadline.max(Instant::now() + PROGRESS_INTERVAL))? {
                Some((_, DemoReport::Gone { at_ns })) => {
                    summary.woken_ns.push(at_ns.saturating_sub(killed_at_ns));
                }
                Some((role, report)) => return Err(Failure::new(format_args!("{role}: unexpected {report:?}"))),
                None => {
                    return Err(Failure::new(format_args!(
                        "a subscriber still sleeps {DEATH_PATIENCE:?} after the kill"
                    )));
                }
            }
        }
        summary.woken_ns.sort_unstable();
        Ok(())
    }

    fn wait_until_subscribers_sleep(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + DEATH_PATIENCE;
        let asleep = |counters: Counters| counters.subscribers.iter().filter(|(_, one)| one.asleep).count();
        while self.counters().map_or(0, asleep) < SUBSCRIBERS {
            if Instant::now() >= deadline {
                return Err(Failure::new("the subscribers do not go to sleep"));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}
