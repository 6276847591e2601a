//! `conduit delay`: the delay from publication until a sleeping subscriber has the message.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, OpenError, RecvError, Start, Subscriber, TopicName};
use serde::Serialize;

use crate::arguments::{duration, topic_names};
use crate::closed_output;
use crate::completion::topics;
use crate::failure::Failure;
use crate::output;
use crate::reports::Reports;
use crate::sampler::Spread;
use crate::signals;

/// How often to check for a signal, and for a topic that does not exist yet.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Show the delay from a message's publication until a sleeping subscriber has it.
///
/// Unlike hz and bw this subscribes, to be woken by each message. It reads only the time stamp and
/// releases the message at once, so large messages cost no more than small ones. Messages that were
/// overwritten before it could read them are reported as lost: their delay would have been longer.
/// Needs the publisher's time stamps.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit delay imu
  conduit delay imu camera/front --count 3
  conduit delay imu --json --count 1 | jq .delay_s.max
  conduit delay imu --timeout 10s

Exit codes:
  0  --count reports were printed, or with --timeout alone at least one
  1  error, or --timeout ended before that")]
pub(crate) struct Args {
    /// Names of topics, which need not exist yet
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// Evaluate the last N messages of each topic
    #[arg(short, long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..))]
    window: u32,
    /// End after N reports; one is printed each second that has new messages
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, with a report of what was received until then
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print a JSON object per line: topic, window, lost, and delay_s (mean, min, max, std_dev)
    #[arg(long)]
    json: bool,
}

/// The last delays of one topic, measured by a thread.
#[derive(Debug, Default)]
struct Delays {
    seconds: VecDeque<f64>,
    /// Messages lost since the start.
    lost: u64,
    is_fresh: bool,
    failure: Option<String>,
}

type SharedDelays = Arc<Mutex<Delays>>;

fn lock(delays: &SharedDelays) -> std::sync::MutexGuard<'_, Delays> {
    delays.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topics = topic_names(&args.topics)?;
    // Each thread drops its clone of the sender after its subscriber.
    let (is_over, subscribed) = signals::set_before_ending().map_err(Failure::new)?;
    let (domain, window) = (Domain::from_env(), args.window as usize);
    let start = |topic: &TopicName| {
        let delays = SharedDelays::default();
        let (shared, is_over, topic) = (Arc::clone(&delays), Arc::clone(&is_over), topic.clone());
        let (domain, subscribed) = (domain.clone(), subscribed.clone());
        let thread = thread::spawn(move || {
            if let Err(error) = measure(&domain, &topic, window, &shared, &is_over) {
                lock(&shared).failure = Some(error.to_string());
            }
            drop(subscribed);
        });
        (delays, thread)
    };
    let (delays, threads): (Vec<_>, Vec<_>) = topics.iter().map(start).unzip();
    drop(subscribed);
    let is_closed = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&is_closed);
    closed_output::when_closed(move || noted.store(true, Ordering::Relaxed))?;
    let reported = report_all(args, &topics, &delays, [&is_over, &is_closed]);
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        let _ = thread.join();
    }
    reported
}

/// Why delays cannot be measured.
#[derive(Debug, thiserror::Error)]
enum MeasureError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Receive(#[from] RecvError),
    #[error("the publisher of topic \"{0}\" has time stamps off; the delay cannot be known without them")]
    NoStamps(TopicName),
}

fn measure(
    domain: &Domain,
    topic: &TopicName,
    window: usize,
    delays: &SharedDelays,
    is_over: &AtomicBool,
) -> Result<(), MeasureError> {
    while !is_over.load(Ordering::Relaxed) {
        let builder = Subscriber::<[u8]>::builder().any_type(true).start(Start::Next).domain(domain);
        let mut subscriber = match builder.open(topic.clone()) {
            Ok(subscriber) => subscriber,
            Err(OpenError::NotFound { .. } | OpenError::Orphaned { .. }) => {
                thread::sleep(POLL_INTERVAL);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        while !is_over.load(Ordering::Relaxed) {
            // The sample is dropped before anything else is done, to free its slot.
            let (age, lost) = match subscriber.recv_timeout(POLL_INTERVAL).map(|sample| (sample.age(), sample.lost())) {
                Ok((age, lost)) => (age.ok_or_else(|| MeasureError::NoStamps(topic.clone()))?, lost),
                Err(RecvError::TimedOut { .. }) => continue,
                Err(RecvError::PublisherGone { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            let mut delays = lock(delays);
            delays.seconds.push_back(age.as_secs_f64());
            delays.lost = delays.lost.saturating_add(lost);
            let surplus = delays.seconds.len().saturating_sub(window);
            delays.seconds.drain(..surplus);
            delays.is_fresh = true;
        }
        // What has ended may still have its name.
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// A topic, how many messages were evaluated, how many lost, and the delays.
type DelayRow<'a> = (&'a TopicName, usize, u64, Option<Spread>);

fn report_all(
    args: &Args,
    topics: &[TopicName],
    delays: &[SharedDelays],
    [is_over, is_closed]: [&AtomicBool; 2],
) -> Result<(), Failure> {
    let mut reports = Reports::new(args.count, args.timeout);
    let mut is_waiting = false;
    while !reports.are_over() {
        let next = reports.next();
        while Instant::now() < next {
            if is_over.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            if is_closed.load(Ordering::Relaxed) {
                return Err(Failure::Output(io::ErrorKind::BrokenPipe.into()));
            }
            thread::sleep(POLL_INTERVAL.min(next.saturating_duration_since(Instant::now())));
        }
        let mut has_news = false;
        let mut rows = Vec::new();
        for (topic, delays) in topics.iter().zip(delays) {
            let mut delays = lock(delays);
            if let Some(failure) = delays.failure.take() {
                return Err(Failure::new(failure));
            }
            has_news |= std::mem::take(&mut delays.is_fresh);
            rows.push((topic, delays.seconds.len(), delays.lost, Spread::of(delays.seconds.make_contiguous())));
        }
        if has_news {
            output::print(|out| report(out, args.json, &rows))?;
            reports.count();
            is_waiting = false;
        } else if !is_waiting && !reports.are_over() {
            output::notice("no new messages");
            is_waiting = true;
        }
    }
    reports.result()
}

#[derive(Serialize)]
struct DelayReport<'a> {
    topic: &'a str,
    window: usize,
    lost: u64,
    delay_s: Spread,
}

fn report(out: &mut impl Write, json: bool, rows: &[DelayRow]) -> io::Result<()> {
    match rows {
        _ if json => {
            for &(topic, window, lost, spread) in rows {
                let Some(delay_s) = spread else { continue };
                output::json_line(out, &DelayReport { topic: topic.as_str(), window, lost, delay_s })?;
            }
            Ok(())
        }
        // In the format of `ros2 topic delay`, with more digits.
        &[(_, window, lost, Some(Spread { mean, min, max, std_dev }))] => {
            writeln!(out, "average delay: {mean:.6}")?;
            writeln!(out, "\tmin: {min:.6}s max: {max:.6}s std dev: {std_dev:.6}s window: {window}")?;
            match lost {
                0 => Ok(()),
                lost => writeln!(out, "\tlost: {}, whose delays are unknown", output::count(lost, "message")),
            }
        }
        rows => {
            let columns = ["<TOPIC", ">MEAN_S", ">MIN_S", ">MAX_S", ">STD_DEV_S", ">LOST", ">WINDOW"];
            output::table(out, &columns, &rows.iter().map(cells).collect::<Vec<_>>())?;
            writeln!(out)
        }
    }
}

fn cells(&(topic, window, lost, spread): &DelayRow) -> [String; 7] {
    let numbers = spread.map(|spread| [spread.mean, spread.min, spread.max, spread.std_dev]);
    let [a, b, c, d] =
        numbers.map_or_else(|| ["-"; 4].map(String::from), |numbers| numbers.map(|it| format!("{it:.6}")));
    [topic.to_string(), a, b, c, d, lost.to_string(), window.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: bool, rows: &[DelayRow]) -> String {
        let mut out = Vec::new();
        report(&mut out, json, rows).unwrap();
        output::plain(&out)
    }

    #[test]
    fn one_topic_is_formatted_as_by_ros2_and_several_are_a_table() {
        let (imu, scan): (TopicName, TopicName) = ("imu".parse().unwrap(), "scan".parse().unwrap());
        let spread = Spread::of(&[0.00003, 0.00005]);
        let expected = "average delay: 0.000040\n\tmin: 0.000030s max: 0.000050s std dev: 0.000010s window: 2\n";
        assert_eq!(printed(false, &[(&imu, 2, 0, spread)]), expected);
        let expected = "\
TOPIC    MEAN_S     MIN_S     MAX_S  STD_DEV_S  LOST  WINDOW
imu    0.000040  0.000030  0.000050   0.000010     0       2
scan          -         -         -          -     0       0

";
        assert_eq!(printed(false, &[(&imu, 2, 0, spread), (&scan, 0, 0, None)]), expected);
        assert!(printed(false, &[(&imu, 2, 7, spread)]).ends_with("\tlost: 7 messages, whose delays are unknown\n"));
        let json: serde_json::Value =
            serde_json::from_str(&printed(true, &[(&imu, 2, 0, spread), (&scan, 0, 0, None)])).unwrap();
        assert_eq!((&json["topic"], &json["window"]), (&"imu".into(), &2.into()));
        assert!((json["delay_s"]["max"].as_f64().unwrap() - 0.00005).abs() < 1e-12);
    }
}
