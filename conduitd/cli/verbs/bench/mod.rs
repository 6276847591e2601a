//! `conduit bench`: what Conduit takes on this machine, beside what the machine itself takes.
//!
//! The measuring is that of [`conduit_bench`]. Here is what to measure, and how to show it.

mod plot;
mod report;
pub(crate) mod second;
mod works;

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use conduit_bench::cores::{self, CorePair};
use conduit_bench::partner::{Interrupted, Notice, Partner};
use conduit_bench::turns::{self, Contestants, TurnTaker};
use conduit_bench::{BenchError, BenchSide, directory, machine};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::arguments::duration;
use crate::failure::Failure;
use crate::{child, output, private_directory};
use report::{BenchMachine, BenchReport, LeftOut};
use works::{Results, WORKS, Work};

const SHORTEST: Duration = Duration::from_secs(1);
/// The host of a virtual machine moves its cores, and latencies with them, at any moment: turns are
/// short.
const SHORTEST_TURN: Duration = Duration::from_millis(2);
const LONGEST_TURN: Duration = Duration::from_millis(25);
/// Turns of a work and of its limit, at least, if there is time.
const LEAST_TURNS: u32 = 18;
const DIRECTORY_PREFIX: &str = ".conduit-bench-";

/// Measure latency and throughput, beside the limits of this machine.
///
/// Two processes on two cores exchange messages of 64 B and of 12 MB in a private directory, which
/// is removed at the end. In turn with that they hand over a bare cache line or a bare futex, or
/// one of them fills and reads memory: the limits. Of large messages the first 64 bytes are written
/// and read, or all of them; all bytes are then compared. Needs neither root nor a registry.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit bench
  conduit bench --time 60s --cores 2,3
  conduit bench --json | jq '.latency[] | {work, p50_ns, ratio}'

Exit codes:
  0  measured, and every message arrived intact
  1  a measurement failed or a message was damaged; the reason is on standard error")]
pub(crate) struct Args {
    /// How long to measure, at least one second: 30, 30s, 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    time: Duration,
    /// Cores of the two processes; by default two physical cores that share a cache
    #[arg(long, value_name = "A,B", value_parser = conduit_bench::cores::parse)]
    cores: Option<(usize, usize)>,
    /// Print the results as a JSON object and nothing else
    ///
    /// duration_s: seconds of the whole run.
    /// machine: cpu, kernel (its release), cores (their numbers) and placement (near_cores,
    /// which share a cache, two_cores, two_sockets, two_threads_of_one_core, one_core, unknown).
    /// latency: for each work its message_bytes, touched_bytes (of them written and read), count
    /// (of round trips, or of messages without subscribers), p50_ns, p90_ns, p99_ns, p99_9_ns and
    /// max_ns of one way; limit (its name), limit_p50_ns (measured in turn with this) and ratio (of
    /// the medians; 1 is the limit).
    /// throughput: for each work its message_bytes, messages (all of them received),
    /// messages_per_second, bytes_per_second, limit, limit_messages_per_second and ratio (the limit
    /// divided by this).
    /// limits: for each limit the same count and percentiles, over the whole run.
    /// left_out: each work that was not measured, and the reason.
    #[arg(long, verbatim_doc_comment)]
    json: bool,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < SHORTEST { Err(format!("{SHORTEST:?} at least")) } else { Ok(time) }
}

/// What the harness says, as this command fails.
fn failure(error: BenchError) -> Failure {
    if error.is::<Interrupted>() { Failure::Interrupted } else { Failure::new(error) }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let begun = Instant::now();
    let cores = cores::choose(args.cores).map_err(failure)?;
    let (notices, hear) = mpsc::channel();
    let interrupt = notices.clone();
    directory::remove_leftovers(conduit::Domain::from_env().shm_dir(), DIRECTORY_PREFIX);
    let stage = private_directory::PrivateDirectory::new(DIRECTORY_PREFIX)?;
    // Dropped when the other process has ended and the files are gone.
    let clean = stage.put_away_before_ending(move || drop(interrupt.send(Notice::Interrupted)))?;
    let report = measure(args, begun, &cores, stage, (notices, hear));
    drop(clean);
    let report = report?;

    let mut out = output::stdout();
    let written = if args.json { output::json(&mut out, &report) } else { report.print(&mut out) };
    written.and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Why large messages cannot be measured, if there is no room for them.
fn lack_of_room(stage: &private_directory::PrivateDirectory) -> Result<Option<String>, Failure> {
    let (free_bytes, needed_bytes) = (private_directory::free_bytes(stage.path())?, works::large_bytes());
    let [needed, free] = [needed_bytes, free_bytes].map(output::memory_size);
    let domain = conduit::Domain::from_env();
    let directory = domain.shm_dir().display();
    Ok((free_bytes < needed_bytes).then(|| format!("{directory} has {free} free, {needed} are needed")))
}

/// Separates what can be measured from what cannot.
fn plan(cores: &CorePair, lack_of_room: Option<&str>) -> (Vec<&'static Work>, Vec<LeftOut>) {
    let (mut plan, mut left_out) = (Vec::new(), Vec::new());
    for work in &WORKS {
        let obstacle = if work.polls && cores.is_one() {
            Some("on a single core it would show how long the kernel lets the other process wait")
        } else {
            lack_of_room.filter(|_| work.is_large())
        };
        match obstacle {
            None => plan.push(work),
            Some(reason) => left_out.push(LeftOut { work: work.name, reason: reason.into() }),
        }
    }
    (plan, left_out)
}

fn measure(
    args: &Args,
    begun: Instant,
    cores: &CorePair,
    stage: private_directory::PrivateDirectory,
    notices: (mpsc::Sender<Notice>, mpsc::Receiver<Notice>),
) -> Result<BenchReport, Failure> {
    let _lock = directory::lock(stage.path()).map_err(Failure::io("lock", stage.path()))?;
    let lack_of_room = lack_of_room(&stage)?;
    let (plan, left_out) = plan(cores, lack_of_room.as_deref());
    let has_large = lack_of_room.is_none();
    let mut command = child::command("bench-second")?;
    command.arg("--directory").arg(stage.path()).args(["--core", &cores.second.to_string()]);
    command.args(has_large.then_some("--large"));
    let mut partner = Partner::start(command, notices).map_err(failure)?;
    let results = cores::pin(cores.first)
        .and_then(|()| works::contestants(&second::site(stage.path(), cores.second), BenchSide::First, has_large))
        .and_then(|mut contestants| measure_all(&plan, &mut contestants, &mut partner, begun, args))
        .map_err(|error| failure(partner.reason(error)))?;
    // The other process ends before its files go.
    drop(partner);
    drop(stage);
    Ok(BenchReport {
        duration_s: begun.elapsed().as_secs_f64(),
        machine: BenchMachine {
            cpu: machine::cpu_field("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            kernel: machine::kernel_release(),
            cores: cores.numbers(),
            placement: cores.placement,
            words: cores.words(),
        },
        limits: results.limits(),
        latency: results.latency,
        throughput: results.throughput,
        left_out,
    })
}

/// Measures each work in turn with its limit, for its share of the time.
fn measure_all(
    plan: &[&Work],
    contestants: &mut Contestants<&'static str>,
    partner: &mut Partner,
    begun: Instant,
    args: &Args,
) -> Result<Results, BenchError> {
    let bar = progress_bar(args);
    bar.set_message("getting ready");
    partner.wait_until_started()?;
    // Every page is touched before anything counts.
    for work in plan {
        for (name, contestant) in works::of(contestants, work)? {
            TurnTaker::warmed_up(*name, contestant.as_mut(), partner, 2 * work.slots())?;
        }
    }
    let ready = Instant::now();
    let left = (begun + args.time).saturating_duration_since(ready);
    let all: u32 = plan.iter().map(|work| work.weight).sum();
    let mut done = 0;
    let mut results = Results::new();
    for work in plan {
        bar.set_message(work.name);
        done += work.weight;
        let end = ready + left * done / all;
        let turn = end.saturating_duration_since(Instant::now()) / LEAST_TURNS;
        let mut takers = works::of(contestants, work)?.map(|(name, it)| TurnTaker::new(*name, it.as_mut()));
        turns::take_turns(partner, &mut takers, turn.clamp(SHORTEST_TURN, LONGEST_TURN), end, || {
            bar.set_position(begun.elapsed().as_millis() as u64);
        })?;
        let [limit, ours] = takers;
        results.add(work, &ours.measured, &limit.measured);
    }
    Ok(results)
}

fn progress_bar(args: &Args) -> ProgressBar {
    if args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {msg}");
    // It draws on standard error, and only on a terminal.
    ProgressBar::new(args.time.as_millis() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_finish(ProgressFinish::AndClear)
}
