//! `conduit demo`: the main job, with everything it needs started and ended here.

mod child;
mod payload;
pub(crate) mod publisher;
mod report;
pub(crate) mod subscriber;

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use conduit::inspect::{Counters, Region};
use conduit::internal::ReapRegion;
use conduit::internal::shm::clock::now_ns;
use conduit::internal::shm::dir::ShmDir;
use conduit::{Domain, TopicName};
use conduitd::{Config, Embedded, Limits, Options};
use indicatif::{ProgressBar, ProgressStyle};

use crate::child::{Child, News};
use crate::failure::Failure;
use crate::{output, stage};
use child::{Report, Role};
use report::{Stream, Summary};

const TOPIC: &str = "demo/scan";
const SLOTS: u64 = 4;
const SUBSCRIBERS: usize = 2;
/// Most messages after the restart.
const AGAIN: u64 = 100;
/// How often to look whether something has happened that takes microseconds.
const LOOK_INTERVAL: Duration = Duration::from_micros(100);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// How long the file of a dead publisher may stay, and a subscriber sleep on.
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
  0  every message arrived at both subscribers, intact, and the death was dealt with
  1  something was wrong, told on standard error")]
pub(crate) struct Args {
    /// What to stream; by default a synthetic point cloud of 12 MB
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// How many messages to stream
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u64).range(1..=1 << 40))]
    messages: u64,
    /// Size of the synthetic point cloud
    #[arg(long, value_name = "BYTES", default_value_t = 12 * payload::POINTS, conflicts_with = "file")]
    size: u64,
    /// Print the results as a JSON object and nothing else
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (news, hear) = mpsc::channel();
    let interrupt = news.clone();
    let stage = Stage::new()?;
    // Dropped when the children have ended and the files are gone.
    let clean = stage.directory.put_away_before_ending(move || drop(interrupt.send(News::Interrupted)))?;
    let summary = Demo::start(args, stage, news, hear).and_then(|demo| demo.run(args));
    drop(clean);
    let summary = summary?;

    let mut out = io::stdout().lock();
    let written = if args.json { output::json(&mut out, &summary) } else { summary.print(&mut out) };
    written.and_then(|()| out.flush()).map_err(Failure::Output)?;
    let problems = summary.problems();
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("; "))) }
}

/// How long anything may take that moves whole messages: a slow machine moves 100 MB in a second.
fn patience(message_bytes: u64) -> Duration {
    Duration::from_secs(10) + Duration::from_secs(message_bytes / 100_000_000)
}

/// The private directory: it holds the regions, the registry's socket and the content of the
/// messages.
#[derive(Debug)]
struct Stage {
    directory: stage::Stage,
    domain: Domain,
}

impl Stage {
    fn new() -> Result<Self, Failure> {
        let directory = stage::Stage::new(".conduit-demo-")?;
        let shm_dir = directory.path().join("shm");
        fs::create_dir(&shm_dir).map_err(Failure::io("make", &shm_dir))?;
        let domain = Domain::from_env().with_shm_dir(shm_dir).with_socket(directory.path().join("registry.sock"));
        Ok(Self { directory, domain })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("registry.sock")
    }

    fn payload(&self) -> PathBuf {
        self.directory.path().join("payload")
    }

    /// Puts the content where the children find it, so that all see the same even if the file
    /// changes; gives its size.
    fn write_payload(&self, args: &Args) -> Result<u64, Failure> {
        let path = self.payload();
        let limit_bytes = stage::free_bytes(self.domain.shm_dir())? / (SLOTS + 1);
        let too_large = |size: &str| {
            let (limit, directory) = (output::data_size(limit_bytes), self.domain.shm_dir().display());
            Failure::new(format_args!("{size} is too large: there is room for {SLOTS} slots of {limit} in {directory}"))
        };
        let mut to = fs::File::create(&path).map(BufWriter::new).map_err(Failure::io("create", &path))?;
        let size = if let Some(file) = &args.file {
            let from = fs::File::open(file).map_err(Failure::io("open", file))?;
            let size = io::copy(&mut from.take(limit_bytes), &mut to).map_err(Failure::io("copy", file))?;
            if size == limit_bytes {
                return Err(too_large(&file.display().to_string()));
            }
            size
        } else if args.size < limit_bytes {
            payload::write_point_cloud(args.size, &mut to).map_err(Failure::io("write", &path))?;
            args.size
        } else {
            return Err(too_large(&output::data_size(args.size)));
        };
        to.flush().map_err(Failure::io("write", &path))?;
        Ok(size)
    }
}

/// The demo as it runs. The fields are dropped in this order: first the children end, last the
/// directory goes.
struct Demo {
    children: Vec<Child<Role>>,
    hear: Receiver<News<Role, Report>>,
    news: Sender<News<Role, Report>>,
    _registry: Embedded,
    stage: Stage,
    topic: TopicName,
    patience: Duration,
    message_bytes: u64,
    messages: u64,
    again: u64,
    quiet: bool,
}

impl Demo {
    fn start(
        args: &Args,
        stage: Stage,
        news: Sender<News<Role, Report>>,
        hear: Receiver<News<Role, Report>>,
    ) -> Result<Self, Failure> {
        let message_bytes = stage.write_payload(args)? + 8;
        let options = Options {
            socket: Some(stage.socket()),
            shm_dir: stage.domain.shm_dir().into(),
            limits: Limits::default(),
            config: Config::None,
        };
        let registry = Embedded::start(&options).map_err(Failure::new)?;
        Ok(Self {
            children: Vec::new(),
            hear,
            news,
            _registry: registry,
            stage,
            topic: TopicName::new(TOPIC)?,
            patience: patience(message_bytes),
            message_bytes,
            messages: args.messages,
            again: args.messages.min(AGAIN),
            quiet: args.json,
        })
    }

    fn run(mut self, args: &Args) -> Result<Summary, Failure> {
        let what = args.file.as_deref().map_or_else(|| "a synthetic point cloud".into(), Path::to_string_lossy);
        let (messages, size) = (self.messages, output::data_size(self.message_bytes));
        self.say(format_args!(
            "{messages} messages of {size} ({what}) to {SUBSCRIBERS} processes, every bit compared"
        ))?;
        for index in 0..SUBSCRIBERS {
            self.start_child(Role::Subscriber(index), &[("messages", self.messages), ("again", self.again)])?;
        }
        let pid = self.start_child(Role::Publisher, &[("first", 0), ("messages", self.messages), ("stay", 1)])?;
        let stream = self.stream(self.messages)?;
        let mut summary = Summary::new(self.message_bytes, self.messages, &stream)?;

        self.say(format_args!("kill -9 {pid}: the publisher dies while both subscribers sleep"))?;
        self.kill_publisher(&mut summary)?;

        self.say(format_args!("the publisher starts again, the subscribers open the topic again"))?;
        let restarted_at_ns = now_ns();
        self.start_child(Role::Restarted, &[("first", self.messages), ("messages", self.again), ("stay", 0)])?;
        let stream = self.stream(self.again)?;
        summary.add_restart(restarted_at_ns, self.again, &stream);
        self.wait_for_children()?;
        Ok(summary)
    }

    fn say(&self, line: std::fmt::Arguments) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        writeln!(io::stdout().lock(), "{line}").map_err(Failure::Output)
    }

    fn start_child(&mut self, role: Role, args: &[(&str, u64)]) -> Result<u32, Failure> {
        let child = child::start(&self.stage, role, args, &self.news)?;
        let pid = child.pid();
        self.children.push(child);
        Ok(pid)
    }

    /// Waits for a report; none by the deadline is `None`. A child that fails ends the demo.
    fn hear_until(&mut self, deadline: Instant) -> Result<Option<(Role, Report)>, Failure> {
        loop {
            match self.hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(News::Report(role, Report::Failed { message })) => {
                    return Err(Failure::new(format_args!("{role}: {message}")));
                }
                Ok(News::Report(role, report)) => return Ok(Some((role, report))),
                Ok(News::Ended(role)) => {
                    self.children.iter_mut().filter(|child| child.role == role).try_for_each(Child::end)?;
                }
                Ok(News::Interrupted) => return Err(Failure::Interrupted),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Waits until all children have ended, as they do when they have done their parts.
    fn wait_for_children(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.patience;
        while let Some(role) = self.children.iter().find(|child| !child.has_ended).map(|child| child.role) {
            self.hear_until(Instant::now() + PROGRESS_INTERVAL)?;
            if Instant::now() >= deadline {
                return Err(Failure::new(format_args!("{role} does not end")));
            }
        }
        Ok(())
    }

    /// Waits until both subscribers have received everything.
    fn stream(&mut self, messages: u64) -> Result<Stream, Failure> {
        let bar = self.progress_bar(messages);
        let mut stream = Stream::default();
        let mut published = 0;
        let mut deadline = Instant::now() + self.patience;
        while stream.elapsed_ns == 0 || stream.tallies.len() < SUBSCRIBERS {
            match self.hear_until(Instant::now() + PROGRESS_INTERVAL)? {
                Some((_, Report::Streamed { elapsed_ns })) => stream.elapsed_ns = elapsed_ns.max(1),
                Some((_, Report::Received(tally))) => stream.tallies.push(tally),
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
        if self.quiet {
            return ProgressBar::hidden();
        }
        let template = "{bar:40} {human_pos} of {human_len} messages, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // It draws to standard error, and only to a terminal.
        ProgressBar::new(messages).with_style(style)
    }

    /// The topic's counters, if it is there.
    fn counters(&self) -> Option<Counters> {
        let directory = ShmDir::open(&self.stage.domain).ok()?;
        Region::open_in(&directory, &self.topic).ok()?.counters()
    }

    /// Kills the publisher in front of sleeping subscribers, and measures how long the consequences
    /// take.
    fn kill_publisher(&mut self, summary: &mut Summary) -> Result<(), Failure> {
        self.wait_until_subscribers_sleep()?;
        let path = self.stage.domain.shm_dir().join(self.topic.file_name());
        let Some(publisher) = self.children.iter_mut().find(|child| child.role == Role::Publisher) else {
            return Ok(());
        };
        let killed_at_ns = now_ns();
        publisher.kill().map_err(|error| Failure::new(format_args!("can not kill the publisher: {error}")))?;
        let deadline = Instant::now() + DEATH_PATIENCE;
        while summary.unlinked_ns.is_none() && Instant::now() < deadline {
            if path.try_exists().is_ok_and(|exists| !exists) {
                summary.unlinked_ns = Some(now_ns() - killed_at_ns);
            }
            publisher.reap();
            thread::sleep(LOOK_INTERVAL);
        }
        // What happened in time has been reported meanwhile.
        while summary.woken_ns.len() < SUBSCRIBERS {
            match self.hear_until(deadline.max(Instant::now() + PROGRESS_INTERVAL))? {
                Some((_, Report::Gone { at_ns })) => {
                    summary.woken_ns.push(at_ns.saturating_sub(killed_at_ns));
                }
                Some((role, report)) => return Err(Failure::new(format_args!("{role}: unexpected {report:?}"))),
                None => {
                    return Err(Failure::new(format_args!("a subscriber sleeps on {DEATH_PATIENCE:?} after the kill")));
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
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}
