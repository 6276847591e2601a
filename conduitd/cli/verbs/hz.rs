//! `conduit hz` and `conduit bw`: rate and bandwidth.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::internal::shm::dir::ShmDir;
use conduit::{Domain, TopicName};
use serde::Serialize;

use crate::arguments::{duration, topic_names};
use crate::closed_output;
use crate::completion::topics;
use crate::failure::Failure;
use crate::output;
use crate::output::topics::or_dash;
use crate::reports::Reports;
use crate::sampler::{RateSummary, Sampler};
use crate::source::open_directory;

/// Show the rate at which topics are published.
///
/// Reads the headers of the messages without subscribing: large messages cost nothing, and the
/// publisher is not affected. Messages that are overwritten before they are read, because they come
/// in bursts that are longer than the topic's slots, count for the rate, and are reported as missed
/// together with the longest time between two messages around them. Without time stamps the rate is
/// measured by this command's clock, and there are no intervals.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit hz imu
  conduit hz imu camera/front --count 3
  conduit hz imu --json --count 1 | jq .rate_hz
  conduit hz imu --count 1 --timeout 5s || echo 'imu is silent'

Exit codes:
  0  --count reports were printed, or with --timeout alone at least one
  1  error, or --timeout ended before that")]
pub(crate) struct HzArgs {
    #[command(flatten)]
    pub(crate) args: Args,
}

/// Show the bandwidth of topics.
///
/// Reads the headers of the messages without subscribing: large messages cost nothing, and the
/// publisher is not affected. Messages that are overwritten before they are read, because they come
/// in bursts that are longer than the topic's slots, count for the rate, and are reported as missed
/// together with the longest time between two messages around them. Without time stamps the rate is
/// measured by this command's clock, and there are no intervals.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit bw camera/front
  conduit bw camera/front lidar --count 3
  conduit bw lidar --timeout 10s

Exit codes:
  0  --count reports were printed, or with --timeout alone at least one
  1  error, or --timeout ended before that")]
pub(crate) struct BwArgs {
    #[command(flatten)]
    pub(crate) args: Args,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Names of topics, which need not exist yet
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// Evaluate the last N messages of each topic
    #[arg(short, long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(2..))]
    window: u32,
    /// End after N reports; one is printed each second that has new messages
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, with a report of what was seen until then
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print a JSON object per line: topic, rate_hz, bytes_per_second, window, missed, gap_s (null
    /// if none was missed), stamped, interval_s and length_bytes (each with mean, min, max,
    /// std_dev; interval_s may be null)
    #[arg(long)]
    json: bool,
}

/// What is reported.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Quantity {
    Rate,
    Bandwidth,
}

pub(crate) fn run(args: &Args, quantity: Quantity) -> Result<(), Failure> {
    let topics = topic_names(&args.topics)?;
    let directory = open_directory(&Domain::from_env())?;
    let mut samplers: Vec<Sampler> =
        topics.into_iter().map(|topic| Sampler::new(topic, args.window as usize)).collect();
    closed_output::end_when_closed()?;
    let mut reports = Reports::new(args.count, args.timeout);
    let mut is_waiting = false;
    let mut unstamped = BTreeSet::new();
    while !reports.are_over() {
        let has_publisher = sample(&mut samplers, &directory, reports.next())?;
        // Not `any`: each sampler has to start a new count.
        let has_news = samplers.iter_mut().filter_map(|sampler| sampler.take_news().then_some(())).count() > 0;
        for sampler in samplers.iter().filter(|sampler| !sampler.is_stamped()) {
            if unstamped.insert(sampler.topic.clone()) {
                output::notice(format_args!(
                    "the publisher of \"{}\" has time stamps off: its rate is measured by this command's clock, \
                     and its intervals cannot be known",
                    sampler.topic
                ));
            }
        }
        let summaries: Vec<_> = samplers.iter().map(|sampler| (&sampler.topic, sampler.summary())).collect();
        if has_news && summaries.iter().any(|(_, summary)| summary.is_some()) {
            output::print(|out| report(out, args.json, quantity, &summaries))?;
            reports.count();
            is_waiting = false;
        } else if !is_waiting && !reports.are_over() {
            output::notice(if has_publisher { "no new messages" } else { "no publisher, waiting for one" });
            is_waiting = true;
        }
    }
    reports.result()
}

/// Samples until a report is due. Returns whether any topic has a publisher.
fn sample(samplers: &mut [Sampler], directory: &ShmDir, until: Instant) -> Result<bool, Failure> {
    loop {
        let mut has_publisher = false;
        for sampler in samplers.iter_mut() {
            has_publisher |= sampler.sample(directory)?;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(has_publisher);
        }
        let pause = samplers.iter().map(Sampler::pause).min().unwrap_or(left);
        std::thread::sleep(pause.min(left));
    }
}

#[derive(Serialize)]
struct RateReport<'a> {
    topic: &'a str,
    #[serde(flatten)]
    summary: &'a RateSummary,
}

fn report(
    out: &mut impl Write,
    json: bool,
    quantity: Quantity,
    summaries: &[(&TopicName, Option<RateSummary>)],
) -> io::Result<()> {
    match summaries {
        _ if json => {
            for (topic, summary) in summaries {
                let Some(summary) = summary else { continue };
                output::json_line(out, &RateReport { topic: topic.as_str(), summary })?;
            }
            Ok(())
        }
        [(_, Some(summary))] => one(out, quantity, summary),
        _ => table(out, quantity, summaries),
    }
}

/// In the format of `ros2 topic hz` and `ros2 topic bw`, and what was missed.
fn one(out: &mut impl Write, quantity: Quantity, summary: &RateSummary) -> io::Result<()> {
    let RateSummary { count, rate_hz, bytes_per_second, missed, longest_gap, interval, length, .. } = summary;
    match quantity {
        Quantity::Rate => {
            writeln!(out, "average rate: {rate_hz:.3}")?;
            match interval {
                Some(interval) => writeln!(
                    out,
                    "\tmin: {:.6}s max: {:.6}s std dev: {:.6}s window: {count}",
                    interval.min, interval.max, interval.std_dev
                )?,
                None => writeln!(out, "\twindow: {count}")?,
            }
        }
        Quantity::Bandwidth => {
            let [mean, min, max] = [length.mean, length.min, length.max].map(size);
            writeln!(out, "{}/s from {count} messages", size(*bytes_per_second))?;
            writeln!(out, "\tMessage size mean: {mean} min: {min} max: {max}")?;
        }
    }
    if *missed > 0 {
        let gap =
            longest_gap.map_or_else(String::new, |gap| format!(", in up to {gap:.6}s between two that were read"));
        writeln!(out, "\tmissed: {} overwritten before they were read{gap}", output::count(*missed, "message"))?;
    }
    Ok(())
}

fn size(bytes: f64) -> String {
    output::data_size(bytes.round() as u64)
}

fn table(out: &mut impl Write, quantity: Quantity, summaries: &[(&TopicName, Option<RateSummary>)]) -> io::Result<()> {
    let columns = match quantity {
        Quantity::Rate => ["<TOPIC", ">RATE_HZ", ">MIN_S", ">MAX_S", ">STD_DEV_S", ">MISSED", ">GAP_S", ">WINDOW"],
        Quantity::Bandwidth => ["<TOPIC", ">BANDWIDTH", ">MEAN", ">MIN", ">MAX", ">MISSED", ">GAP_S", ">WINDOW"],
    };
    let rows: Vec<_> = summaries.iter().map(|(topic, summary)| row(quantity, topic, summary.as_ref())).collect();
    output::table(out, &columns, &rows)?;
    writeln!(out)
}

fn row(quantity: Quantity, topic: &TopicName, summary: Option<&RateSummary>) -> Vec<String> {
    let Some(summary) = summary else {
        return [topic.as_str(), "-", "-", "-", "-", "-", "-", "0"].map(str::to_owned).into();
    };
    let RateSummary { count, rate_hz, bytes_per_second, missed, longest_gap, interval, length, .. } = summary;
    let numbers = match (quantity, interval) {
        (Quantity::Rate, Some(interval)) => {
            let [min, max, std_dev] = [interval.min, interval.max, interval.std_dev].map(|it| format!("{it:.6}"));
            [format!("{rate_hz:.3}"), min, max, std_dev]
        }
        (Quantity::Rate, None) => [format!("{rate_hz:.3}"), "-".into(), "-".into(), "-".into()],
        (Quantity::Bandwidth, _) => {
            let [mean, min, max] = [length.mean, length.min, length.max].map(size);
            [size(*bytes_per_second) + "/s", mean, min, max]
        }
    };
    let gap = or_dash(longest_gap.map(|gap| format!("{gap:.6}")));
    [&[topic.to_string()], numbers.as_slice(), &[missed.to_string(), gap, count.to_string()]].concat()
}
