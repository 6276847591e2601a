//! `conduit bench`: what Conduit takes on this machine, next to what the machine itself takes.

mod cores;
mod first;
mod game;
mod pattern;
mod plot;
mod report;
pub(crate) mod second;
mod statistics;

use std::fs;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::arguments::duration;
use crate::failure::Failure;
use crate::{output, stage};
use cores::Cores;
use first::{First, MemoryTimes, Until};
use game::{Content, Way};
use report::{Latency, LeftOut, Limit, Machine, Summary, Throughput};
use second::News;
use statistics::{Distribution, Tally};

const SHORTEST: Duration = Duration::from_secs(1);
/// How long a limit is measured before and after each stretch of what is compared with it: the host of a virtual machine
/// moves its cores, and with them all latencies, from moment to moment.
const SHORTEST_TURN: Duration = Duration::from_millis(2);
const LONGEST_TURN: Duration = Duration::from_millis(25);
/// Turns of a part at least, if there is time.
const TURNS: u32 = 9;

/// Names of limits.
const LINE: &str = "cache line";
const FUTEX: &str = "futex";
const FILL: &str = "fill 12 MB";
const READ: &str = "read 12 MB";
const FILL_AND_READ: &str = "fill and read";
const SLOWER_OF_BOTH: &str = "the slower of fill and read";
const LINES: &str = "cache lines in a row";
const CLOCK: &str = "clock read";

/// Measure latency and throughput on this machine, next to what the machine itself takes.
///
/// Two processes on two cores send each other messages of 64 B and of 12 MB, in a private directory that is removed at the
/// end. In turns with that they hand each other a bare cache line or a bare futex, or one of them fills and reads memory:
/// the limits. Of large messages the first 64 bytes are written and read, or all: then every byte is compared. Needs no
/// root, no registry and nothing installed.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit bench
  conduit bench --time 60s --cores 2,3
  conduit bench --json | jq '.latency[] | {work, p50_ns, ratio}'

Exit codes:
  0  measured, and every message arrived intact
  1  something was wrong, told on standard error")]
pub(crate) struct Args {
    /// How long to measure, at least a second: 30, 30s, 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    time: Duration,
    /// On which two cores to run the processes; by default on two physical cores, if there are
    #[arg(long, value_name = "A,B", value_parser = cores::parse)]
    cores: Option<(usize, usize)>,
    /// Print the results as a JSON object and nothing else
    ///
    /// duration_s: seconds of the whole run.
    /// machine: cpu, kernel (its release), cores (their numbers) and placement (two_cores, two_sockets,
    /// two_threads_of_one_core, one_core, unknown).
    /// latency: for each work its message_bytes, touched_bytes (of them written and read), count (of round trips, or of
    /// messages for nobody), p50_ns, p90_ns, p99_ns, p99_9_ns and max_ns one way; limit (its name), limit_p50_ns (measured
    /// in turns with this) and ratio (of the medians, 1 is the limit).
    /// throughput: for each work its message_bytes, messages (sent, and all received), messages_per_second,
    /// bytes_per_second, limit, limit_messages_per_second and ratio (the limit divided by this).
    /// limits: for each limit the same count and percentiles, of the whole run.
    /// left_out: each work that could not be measured, and the reason.
    #[arg(long, verbatim_doc_comment)]
    json: bool,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < SHORTEST { Err(format!("{SHORTEST:?} at least")) } else { Ok(time) }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let begun = Instant::now();
    let cores = cores::choose(args.cores)?;
    let (news, hear) = mpsc::channel();
    let interrupt = news.clone();
    let stage = stage::Stage::new(".conduit-bench-")?;
    // Dropped when the other process has ended and the files are gone.
    let clean = stage.put_away_before_ending(move || drop(interrupt.send(News::Interrupted)))?;
    let summary = measure(args, begun, &cores, stage, (news, hear));
    drop(clean);
    let summary = summary?;

    let mut out = output::stdout();
    let written = if args.json { output::json(&mut out, &summary) } else { summary.print(&mut out) };
    written.and_then(|()| out.flush()).map_err(Failure::Output)
}

/// What is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    PingPong(Way, Content),
    Alone,
    Stream(Content),
}

impl Work {
    const ALL: [Self; 8] = [
        Self::PingPong(Way::Poll, Content::Small),
        Self::PingPong(Way::Block, Content::Small),
        Self::PingPong(Way::Poll, Content::LargeHeader),
        Self::PingPong(Way::Block, Content::LargeHeader),
        Self::PingPong(Way::Poll, Content::LargeAll),
        Self::Alone,
        Self::Stream(Content::Small),
        Self::Stream(Content::LargeAll),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::PingPong(Way::Poll, Content::Small) => "64 B polling",
            Self::PingPong(Way::Block, Content::Small) => "64 B blocking",
            Self::PingPong(Way::Poll, Content::LargeHeader) => "12 MB polling",
            Self::PingPong(Way::Block, Content::LargeHeader) => "12 MB blocking",
            Self::PingPong(_, Content::LargeAll) => "12 MB, all bytes",
            Self::Alone => "64 B to nobody",
            Self::Stream(Content::Small) => "64 B in a row",
            Self::Stream(_) => "12 MB in a row, all bytes",
        }
    }

    /// Its share of the time.
    fn weight(self) -> u32 {
        match self {
            Self::PingPong(Way::Block, Content::Small) | Self::PingPong(_, Content::LargeAll) => 20,
            Self::PingPong(Way::Poll, Content::Small) => 15,
            Self::PingPong(..) | Self::Stream(_) => 10,
            Self::Alone => 5,
        }
    }

    fn content(self) -> Content {
        match self {
            Self::PingPong(_, content) | Self::Stream(content) => content,
            Self::Alone => Content::Small,
        }
    }

    /// Why it can not be measured, if it can not.
    fn obstacle(self, cores: &Cores, room: &Room) -> Option<String> {
        let polls = matches!(self, Self::PingPong(Way::Poll, _) | Self::Stream(_));
        if polls && cores.is_one() {
            return Some("on a single core it would show how long the kernel lets the other process wait".into());
        }
        if self.content().is_large() { room.obstacle() } else { None }
    }
}

/// Whether there is room for large messages.
struct Room {
    free_bytes: u64,
    directory: String,
}

impl Room {
    fn obstacle(&self) -> Option<String> {
        let needed_bytes = game::large_bytes();
        let Self { free_bytes, directory } = self;
        let [needed, free] = [needed_bytes, *free_bytes].map(output::memory_size);
        (*free_bytes < needed_bytes).then(|| format!("{directory} has {free} free, {needed} are needed"))
    }
}

fn measure(
    args: &Args,
    begun: Instant,
    cores: &Cores,
    stage: stage::Stage,
    (news, hear): (mpsc::Sender<News>, mpsc::Receiver<News>),
) -> Result<Summary, Failure> {
    let outside = conduit::Domain::from_env();
    let room =
        Room { free_bytes: stage::free_bytes(stage.path())?, directory: outside.shm_dir().display().to_string() };
    let mut plan = Vec::new();
    let mut left_out = Vec::new();
    for work in Work::ALL {
        match work.obstacle(cores, &room) {
            None => plan.push(work),
            Some(reason) => left_out.push(LeftOut { work: work.name(), reason }),
        }
    }
    let region = game::create_limits_region(&game::domain(stage.path()))?;
    let large = room.obstacle().is_none();
    let first = First::start(stage.path(), &region, cores.second, large, (&news, hear))?;
    cores::pin(cores.first)?;
    let mut bench = Bench { first, limits: Limits::new()?, latency: Vec::new(), throughput: Vec::new() };
    let done = bench.run(&plan, begun, args, if cores.is_one() { Way::Block } else { Way::Poll });
    done.map_err(|failure| bench.first.second.reason(failure))?;
    let Bench { first, limits, latency, throughput } = bench;
    // The other process ends before its files go.
    drop(first);
    drop(region);
    drop(stage);
    Ok(Summary {
        duration_s: begun.elapsed().as_secs_f64(),
        machine: machine(cores),
        latency,
        throughput,
        limits: limits.rows(),
        left_out,
    })
}

fn machine(cores: &Cores) -> Machine {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == "model name");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        // Not all architectures name it.
        cpu: model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned(),
        kernel: kernel.trim().to_owned(),
        cores: cores.numbers(),
        placement: cores.placement,
        words: cores.words(),
    }
}

/// What the machine took, over the whole run.
struct Limits {
    line: Distribution,
    futex: Distribution,
    memory: MemoryTimes,
    clock: Distribution,
}

impl Limits {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            line: Distribution::of_round_trips()?,
            futex: Distribution::of_round_trips()?,
            memory: MemoryTimes::new()?,
            clock: Distribution::new()?,
        })
    }

    /// Those that were measured.
    fn rows(&self) -> Vec<Limit> {
        let Self { line, futex, memory, clock } = self;
        [(LINE, line), (FUTEX, futex), (FILL, &memory.fill), (READ, &memory.read), (CLOCK, clock)]
            .into_iter()
            .filter(|(_, measured)| measured.count() > 0)
            .map(|(name, measured)| Limit::new(name, measured))
            .collect()
    }
}

struct Bench<'a> {
    first: First<'a>,
    limits: Limits,
    latency: Vec<Latency>,
    throughput: Vec<Throughput>,
}

/// The time of one part.
struct Part<'a> {
    end: Instant,
    bar: &'a ProgressBar,
    begun: Instant,
}

impl Part<'_> {
    /// Measures the limit and what is compared with it in turns, the limit first and last.
    fn take_turns(
        &self,
        first: &mut First,
        mut limit: impl FnMut(&mut First, Until) -> Result<(), Failure>,
        mut ours: impl FnMut(&mut First, Until) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let left = self.end.saturating_duration_since(Instant::now());
        let turn = (left / TURNS).clamp(SHORTEST_TURN, LONGEST_TURN);
        let until = |turns| Until::Time(Instant::now() + turns * turn);
        limit(first, until(1))?;
        while {
            ours(first, until(2))?;
            limit(first, until(1))?;
            first.second.look()?;
            self.bar.set_position(self.begun.elapsed().as_millis() as u64);
            Instant::now() + 2 * turn < self.end
        } {}
        Ok(())
    }
}

impl Bench<'_> {
    fn run(&mut self, plan: &[Work], begun: Instant, args: &Args, way: Way) -> Result<(), Failure> {
        let bar = progress_bar(args);
        bar.set_message("getting ready");
        self.first.warm_up(way)?;
        let ready = Instant::now();
        let left = (begun + args.time).saturating_duration_since(ready);
        let all: u32 = plan.iter().map(|work| work.weight()).sum();
        let mut done = 0;
        for &work in plan {
            bar.set_message(work.name());
            done += work.weight();
            let part = Part { end: ready + left * done / all, bar: &bar, begun };
            self.measure(work, &part)?;
        }
        Ok(())
    }

    fn measure(&mut self, work: Work, part: &Part) -> Result<(), Failure> {
        match work {
            Work::PingPong(way, Content::LargeAll) => self.all_bytes(way, part),
            Work::PingPong(way, content) => self.ping_pong(way, content, part),
            Work::Alone => self.alone(part),
            Work::Stream(Content::Small) => self.stream_small(part),
            Work::Stream(content) => self.stream_large(content, part),
        }
    }

    fn ping_pong(&mut self, way: Way, content: Content, part: &Part) -> Result<(), Failure> {
        let (mut ours, mut limit) = (Distribution::of_round_trips()?, Distribution::of_round_trips()?);
        part.take_turns(
            &mut self.first,
            |first, until| first.ball(way, until, |ns| limit.record(ns)),
            |first, until| first.ping_pong(way, content, until, |ns| ours.record(ns)),
        )?;
        let (name, all) = match way {
            Way::Poll => (LINE, &mut self.limits.line),
            Way::Block => (FUTEX, &mut self.limits.futex),
        };
        all.add(&limit);
        self.add_latency(Work::PingPong(way, content), &ours, name, &limit);
        Ok(())
    }

    fn all_bytes(&mut self, way: Way, part: &Part) -> Result<(), Failure> {
        let mut ours = Distribution::of_round_trips()?;
        let mut limit = MemoryTimes::new()?;
        part.take_turns(
            &mut self.first,
            |first, until| first.move_memory(until, &mut limit),
            |first, until| first.ping_pong(way, Content::LargeAll, until, |ns| ours.record(ns)),
        )?;
        self.limits.memory.add(&limit);
        self.add_latency(Work::PingPong(way, Content::LargeAll), &ours, FILL_AND_READ, &limit.both);
        Ok(())
    }

    fn alone(&mut self, part: &Part) -> Result<(), Failure> {
        let (mut ours, mut limit) = (Distribution::new()?, Distribution::new()?);
        part.take_turns(
            &mut self.first,
            |_, until| {
                first::read_clock(until, |ns| limit.record(ns));
                Ok(())
            },
            |first, until| first.publish_alone(until, |ns| ours.record(ns)),
        )?;
        self.limits.clock.add(&limit);
        self.add_latency(Work::Alone, &ours, CLOCK, &limit);
        Ok(())
    }

    fn add_latency(&mut self, work: Work, ours: &Distribution, name: &'static str, limit: &Distribution) {
        let content = work.content();
        let sizes = [content.words(), content.touched_words()].map(game::bytes);
        self.latency.push(Latency::new(work.name(), sizes, ours, name, limit));
    }

    fn stream_small(&mut self, part: &Part) -> Result<(), Failure> {
        let (mut ours, mut limit) = (Tally::default(), Tally::default());
        part.take_turns(
            &mut self.first,
            |first, until| first.stream_lines(until, &mut limit),
            |first, until| first.stream(Content::Small, until, &mut ours),
        )?;
        self.add_throughput(Content::Small, ours, LINES, limit.messages_per_second());
        Ok(())
    }

    fn stream_large(&mut self, content: Content, part: &Part) -> Result<(), Failure> {
        let mut ours = Tally::default();
        let mut limit = MemoryTimes::new()?;
        part.take_turns(
            &mut self.first,
            |first, until| first.move_memory(until, &mut limit),
            |first, until| first.stream(content, until, &mut ours),
        )?;
        self.limits.memory.add(&limit);
        let slower = limit.fill.median().max(limit.read.median()).max(1.0);
        self.add_throughput(content, ours, SLOWER_OF_BOTH, 1e9 / slower);
        Ok(())
    }

    fn add_throughput(&mut self, content: Content, ours: Tally, limit: &'static str, limit_per_second: f64) {
        let name = Work::Stream(content).name();
        self.throughput.push(Throughput::new(name, content.message_bytes(), ours, limit, limit_per_second));
    }
}

fn progress_bar(args: &Args) -> ProgressBar {
    if args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {msg}");
    // It draws to standard error, and only to a terminal.
    ProgressBar::new(args.time.as_millis() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_finish(ProgressFinish::AndClear)
}
