//! `conduit delay`: how long messages take to a subscriber that sleeps.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, value_parser};
use clap_complete::engine::ArgValueCompleter;
use conduit::{Domain, OpenError, RecvError, Start, Subscriber, TopicName};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Align};
use crate::sampler::Spread;
use crate::signals;
use crate::verbs::completions::topics;

/// How often there is a report.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often to look whether the end is wanted, and whether a topic is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a signal waits for the subscribers to be given back.
const PATIENCE: Duration = Duration::from_secs(1);

/// Show how long messages take from their publication to a subscriber that sleeps.
///
/// Unlike hz and bw this subscribes, to be woken by each message; it looks at the time stamp and lets the message go at once,
/// so that large ones cost no more than small ones. Needs the publisher's time stamps.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conduit delay imu
  conduit delay imu camera/front --count 3
  conduit delay imu --json --count 1 | jq .delay_s.max")]
pub(crate) struct Args {
    /// Names of topics; they may come later
    #[arg(required = true, add = ArgValueCompleter::new(topics))]
    topics: Vec<String>,
    /// How many messages of each topic count, the last ones
    #[arg(short, long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..))]
    window: u32,
    /// End after this many reports with news, one a second
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print a JSON object per line: topic, window, and delay_s (mean, min, max, std_dev)
    #[arg(long)]
    json: bool,
}

/// The last delays of one topic, in seconds, and whether some are new.
#[derive(Debug, Default)]
struct Delays {
    last: VecDeque<f64>,
    is_fresh: bool,
    failure: Option<String>,
}

type Shared = Arc<Mutex<Delays>>;

fn lock(delays: &Shared) -> std::sync::MutexGuard<'_, Delays> {
    delays.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topics: Result<Vec<TopicName>, _> = args.topics.iter().map(|topic| topic.parse()).collect();
    let topics = topics?;
    let over = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&over);
    let (subscribed, all_given_back) = mpsc::channel::<()>();
    let all_given_back = Mutex::new(all_given_back);
    signals::before_ending(move || {
        on_signal.store(true, Ordering::Relaxed);
        let _ = all_given_back.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
    })
    .map_err(Failure::new)?;
    let (domain, window) = (Domain::from_env(), args.window as usize);
    let threads: Vec<_> = topics
        .iter()
        .map(|topic| {
            let delays = Shared::default();
            let (shared, over, topic) = (Arc::clone(&delays), Arc::clone(&over), topic.clone());
            let (domain, subscribed) = (domain.clone(), subscribed.clone());
            let thread = thread::spawn(move || {
                if let Err(error) = measure(&domain, &topic, window, &shared, &over) {
                    lock(&shared).failure = Some(error.to_string());
                }
                drop(subscribed);
            });
            (delays, thread)
        })
        .collect();
    drop(subscribed);
    let shared: Vec<&Shared> = threads.iter().map(|(delays, _)| delays).collect();
    let reported = report_all(args, &topics, &shared, &over);
    over.store(true, Ordering::Relaxed);
    for (_, thread) in threads {
        let _ = thread.join();
    }
    reported
}

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
enum MeasureError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Receive(#[from] RecvError),
    #[error("the publisher of topic \"{0}\" has time stamps off; without them nobody knows the delay")]
    NoStamps(TopicName),
}

fn measure(
    domain: &Domain,
    topic: &TopicName,
    window: usize,
    delays: &Shared,
    over: &AtomicBool,
) -> Result<(), MeasureError> {
    while !over.load(Ordering::Relaxed) {
        let builder = Subscriber::<[u8]>::builder().any_type().start(Start::Next).domain(domain);
        let mut subscriber = match builder.open(topic.clone()) {
            Ok(subscriber) => subscriber,
            Err(OpenError::NotFound { .. } | OpenError::Orphaned { .. }) => {
                thread::sleep(LOOK_INTERVAL);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        while !over.load(Ordering::Relaxed) {
            // The message itself is let go before anything else is done.
            let age = match subscriber.recv_timeout(LOOK_INTERVAL).map(|sample| sample.age()) {
                Ok(age) => age.ok_or_else(|| MeasureError::NoStamps(topic.clone()))?,
                Err(RecvError::TimedOut { .. }) => continue,
                Err(RecvError::PublisherGone { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            let mut delays = lock(delays);
            delays.last.push_back(age.as_secs_f64());
            let surplus = delays.last.len().saturating_sub(window);
            delays.last.drain(..surplus);
            delays.is_fresh = true;
        }
    }
    Ok(())
}

fn report_all(args: &Args, topics: &[TopicName], delays: &[&Shared], over: &AtomicBool) -> Result<(), Failure> {
    let mut reports = 0;
    let mut waiting = false;
    while args.count.is_none_or(|count| reports < count) {
        let deadline = Instant::now() + REPORT_INTERVAL;
        while Instant::now() < deadline {
            if over.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            thread::sleep(LOOK_INTERVAL.min(deadline.saturating_duration_since(Instant::now())));
        }
        let mut news = false;
        let mut rows = Vec::new();
        for (topic, delays) in topics.iter().zip(delays) {
            let mut delays = lock(delays);
            if let Some(failure) = delays.failure.take() {
                return Err(Failure::new(failure));
            }
            news |= std::mem::take(&mut delays.is_fresh);
            rows.push((topic, delays.last.len(), Spread::of(delays.last.make_contiguous())));
        }
        if news {
            let mut out = output::stdout();
            report(&mut out, args.json, &rows).and_then(|()| out.flush()).map_err(Failure::Output)?;
            reports += 1;
            waiting = false;
        } else if !waiting {
            eprintln!("conduit: no new messages");
            waiting = true;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    topic: &'a str,
    window: usize,
    delay_s: Spread,
}

fn report(out: &mut impl Write, json: bool, rows: &[(&TopicName, usize, Option<Spread>)]) -> io::Result<()> {
    match rows {
        _ if json => {
            for &(topic, window, spread) in rows {
                let Some(delay_s) = spread else { continue };
                serde_json::to_writer(&mut *out, &Report { topic: topic.as_str(), window, delay_s })?;
                writeln!(out)?;
            }
            Ok(())
        }
        // As `ros2 topic delay` says it, with more digits.
        [(_, window, Some(Spread { mean, min, max, std_dev }))] => {
            writeln!(out, "average delay: {mean:.6}")?;
            writeln!(out, "\tmin: {min:.6}s max: {max:.6}s std dev: {std_dev:.6}s window: {window}")
        }
        rows => {
            let columns = ["MEAN_S", "MIN_S", "MAX_S", "STD_DEV_S", "WINDOW"].map(|title| (title, Align::Right));
            let [a, b, c, d, e] = columns;
            let cells = |&(topic, window, spread): &(&TopicName, usize, Option<Spread>)| {
                let numbers = spread.map(|spread| [spread.mean, spread.min, spread.max, spread.std_dev]);
                let [a, b, c, d] =
                    numbers.map_or_else(|| ["-"; 4].map(String::from), |numbers| numbers.map(|it| format!("{it:.6}")));
                [topic.to_string(), a, b, c, d, window.to_string()]
            };
            let rows: Vec<_> = rows.iter().map(cells).collect();
            output::table(out, [("TOPIC", Align::Left), a, b, c, d, e], &rows)?;
            writeln!(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: bool, rows: &[(&TopicName, usize, Option<Spread>)]) -> String {
        let mut out = Vec::new();
        report(&mut out, json, rows).unwrap();
        output::plain(&out)
    }

    #[test]
    fn one_topic_is_as_ros2_says_it_and_several_are_a_table() {
        let (imu, scan): (TopicName, TopicName) = ("imu".parse().unwrap(), "scan".parse().unwrap());
        let spread = Spread::of(&[0.00003, 0.00005]);
        let expected = "average delay: 0.000040\n\tmin: 0.000030s max: 0.000050s std dev: 0.000010s window: 2\n";
        assert_eq!(said(false, &[(&imu, 2, spread)]), expected);
        let expected = "\
TOPIC    MEAN_S     MIN_S     MAX_S  STD_DEV_S  WINDOW
imu    0.000040  0.000030  0.000050   0.000010       2
scan          -         -         -          -       0

";
        assert_eq!(said(false, &[(&imu, 2, spread), (&scan, 0, None)]), expected);
        let json: serde_json::Value =
            serde_json::from_str(&said(true, &[(&imu, 2, spread), (&scan, 0, None)])).unwrap();
        assert_eq!((&json["topic"], &json["window"]), (&"imu".into(), &2.into()));
        assert!((json["delay_s"]["max"].as_f64().unwrap() - 0.00005).abs() < 1e-12);
    }
}
