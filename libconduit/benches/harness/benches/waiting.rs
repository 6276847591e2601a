//! The latency of ways to wait for a message: a plain `recv`, a wait set, a future, a descriptor.
//!
//! Two processes on two cores. One publishes a message of 64 bytes every 250 us, each on a topic
//! picked at random, while the other one sleeps. Measured is the time from just before the
//! publication to the message in hand. In each of five rounds every way has its turn; the table
//! shows the medians of the rounds. Run it on an idle machine:
//!
//!     cargo bench -p conduit-bench --bench waiting
#![allow(missing_docs, reason = "nobody uses this crate")]

use std::future::Future;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use conduit::{AsyncSubscriber, Event, Publisher, Subscriber, Token, WaitSet};
use conduit_bench::contestants::publishing::await_time;
use conduit_bench::directory::{handle_signals, with_site};
use conduit_bench::partner::{self, Partner};
use conduit_bench::site::BenchSite;
use conduit_bench::statistics::{Timings, median};
use conduit_bench::transport::SmallMessage;
use conduit_bench::{Result, cores};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const TOPICS: usize = 100;
const MESSAGES: usize = 1000;
const ROUNDS: usize = 5;
const PAUSE: Duration = Duration::from_micros(250);
/// First of the hidden arguments of the second process.
const SECOND: &str = "second";

/// A name, a number of topics, and a function that receives all messages.
type WayToWait = (&'static str, usize, fn(Vec<Subscriber<SmallMessage>>, &mut Arrivals));

const WAYS: [WayToWait; 9] = [
    ("`recv`", 1, plain),
    ("`WaitSet`", 1, set),
    ("`WaitSet`", 8, set),
    ("`WaitSet`", 100, set),
    ("`recv().await`, a minimal executor", 1, minimal),
    ("`recv().await`, tokio `current_thread`", 1, tokio_tasks),
    ("`recv().await`, tokio, a task per topic", 100, tokio_tasks),
    ("`ReadyFd` and `poll(2)`", 1, descriptor),
    ("`ReadyFd` and `poll(2)`", 100, descriptor),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [SECOND, parent, core, directory] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let site = BenchSite { directory: directory.into(), limits_first: false, second_core: 0 };
        return partner::run_second(parent.parse()?, core.parse()?, || publish(&site));
    }
    // The options of `cargo bench` do not matter, but `cargo test` is not to measure.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    handle_signals()?;
    let cores = cores::choose(None)?;
    cores::pin(cores.first)?;
    let results = with_site(false, cores.second, Vec::new(), |site| measure(site, cores.second))?;
    let mut out = std::io::stdout();
    writeln!(out, "| way to wait | topics | p50 us | p90 us | p99 us | p50 / `recv` |\n|---|--:|--:|--:|--:|--:|")?;
    let median_us =
        |column, rounds: &Vec<[f64; 3]>| median(rounds.iter().map(|round| round[column] / 1000.0)).unwrap_or_default();
    let base = median_us(0, &results[0]);
    for ((name, topics, _), rounds) in WAYS.iter().zip(&results) {
        let [p50, p90, p99] = [0, 1, 2].map(|column| median_us(column, rounds));
        writeln!(out, "| {name} | {topics} | {p50:.1} | {p90:.1} | {p99:.1} | {:.2} |", p50 / base)?;
    }
    Ok(())
}

/// The percentiles of each way in each round, in nanoseconds.
fn measure(site: &BenchSite, core: usize) -> Result<Vec<Vec<[f64; 3]>>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([SECOND, &std::process::id().to_string(), &core.to_string()]).arg(&site.directory);
    let mut partner = Partner::start(command, mpsc::channel())?;
    partner.wait_until_started()?;
    let mut results = vec![Vec::new(); WAYS.len()];
    for round in 0..=ROUNDS {
        for ((_, topics, way), results) in WAYS.iter().zip(&mut results) {
            let open = |topic| Subscriber::builder().domain(&site.domain()).open(name(topic));
            let subscribers = (0..*topics).map(open).collect::<std::result::Result<_, _>>()?;
            partner.begin(&topics.to_string())?;
            let mut arrivals = Arrivals { timings: Timings::new(1), left: MESSAGES };
            way(subscribers, &mut arrivals);
            partner.hear()?;
            // The first round warms up.
            if round > 0 {
                results.push([500, 900, 990].map(|per_mille| arrivals.timings.at(per_mille)));
            }
        }
    }
    Ok(results)
}

fn name(topic: usize) -> String {
    format!("bench/{topic}")
}

/// The second process: in each turn it publishes on the first topics, as many as it is asked for.
fn publish(site: &BenchSite) -> Result<()> {
    let create = |topic| Publisher::<SmallMessage>::builder().domain(&site.domain()).create(name(topic));
    let mut publishers: Vec<_> = (0..TOPICS).map(create).collect::<std::result::Result<_, _>>()?;
    let mut random = 1_u64;
    partner::follow(|topics| {
        let topics: u64 = topics.parse()?;
        // The subscribers are about to wait.
        thread::sleep(Duration::from_millis(20));
        for _ in 0..MESSAGES {
            // This core stays awake; the other one sleeps.
            await_time(&mut Instant::now(), PAUSE);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            publishers[((random >> 33) % topics) as usize].send(&[0; 8])?;
        }
        Ok("sent".into())
    })
}

/// What has arrived, and how many messages have not.
struct Arrivals {
    timings: Timings,
    left: usize,
}

impl Arrivals {
    fn take(&mut self, sample: &conduit::Sample<SmallMessage>) {
        self.timings.record(sample.age().unwrap().as_nanos() as u64);
        self.left -= 1 + sample.lost() as usize;
    }
}

fn plain(mut subscribers: Vec<Subscriber<SmallMessage>>, arrivals: &mut Arrivals) {
    while arrivals.left > 0 {
        arrivals.take(&subscribers[0].recv().unwrap());
    }
}

fn set(mut subscribers: Vec<Subscriber<SmallMessage>>, arrivals: &mut Arrivals) {
    let mut set = WaitSet::new();
    let tokens: Vec<Token> = subscribers.iter().map(|subscriber| set.add(subscriber).unwrap()).collect();
    while arrivals.left > 0 {
        for event in set.wait().unwrap() {
            let Event::Ready(token) = event else { unreachable!() };
            // Tokens ascend.
            let position = tokens.binary_search(&token).unwrap();
            arrivals.take(&subscribers[position].try_recv().unwrap().unwrap());
        }
    }
}

fn descriptor(mut subscribers: Vec<Subscriber<SmallMessage>>, arrivals: &mut Arrivals) {
    let ready: Vec<_> = subscribers.iter_mut().map(|subscriber| subscriber.ready_fd().unwrap()).collect();
    let mut polled: Vec<_> = ready.iter().map(|ready| PollFd::new(ready.as_fd(), PollFlags::POLLIN)).collect();
    while arrivals.left > 0 {
        poll(&mut polled, PollTimeout::NONE).unwrap();
        for (polled, subscriber) in polled.iter().zip(&mut subscribers) {
            if polled.any() == Some(true)
                && let Some(sample) = subscriber.try_recv().unwrap()
            {
                arrivals.take(&sample);
            }
        }
    }
}

async fn receive(subscriber: &mut AsyncSubscriber<SmallMessage>, arrivals: &mut Arrivals) {
    while arrivals.left > 0 {
        arrivals.take(&subscriber.recv().await.unwrap());
    }
}

/// An executor that parks its thread.
fn minimal(mut subscribers: Vec<Subscriber<SmallMessage>>, arrivals: &mut Arrivals) {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut subscriber = subscribers.remove(0).into_async().unwrap();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(receive(&mut subscriber, arrivals));
    while future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
        thread::park();
    }
}

fn tokio_tasks(mut subscribers: Vec<Subscriber<SmallMessage>>, arrivals: &mut Arrivals) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        if subscribers.len() == 1 {
            let mut subscriber = subscribers.remove(0).into_async().unwrap();
            return receive(&mut subscriber, arrivals).await;
        }
        let (sender, mut samples) = tokio::sync::mpsc::unbounded_channel();
        for subscriber in subscribers {
            let (mut subscriber, sender) = (subscriber.into_async().unwrap(), sender.clone());
            tokio::spawn(async move {
                loop {
                    let sample = subscriber.recv().await.unwrap();
                    let age_ns = sample.age().unwrap().as_nanos() as u64;
                    sender.send((age_ns, 1 + sample.lost() as usize)).unwrap();
                }
            });
        }
        while arrivals.left > 0 {
            let (age_ns, count) = samples.recv().await.unwrap();
            arrivals.timings.record(age_ns);
            arrivals.left -= count;
        }
    });
}
