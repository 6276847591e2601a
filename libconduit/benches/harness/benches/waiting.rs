//! What it costs to be woken by a message: by a plain `recv`, a wait set, a future, a descriptor.
//!
//! Two processes on two cores. One publishes a message of 64 bytes every 250 us, each on a topic picked at random, while the other sleeps;
//! measured is the time from just before the publication to the message in hand. Five rounds, in each of which every way has its
//! turn: the table shows the medians of the rounds. Run it alone on the machine:
//!
//!     cargo bench -p libconduit --features async --bench waiting

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use conduit::{AsyncSubscriber, Domain, Event, Publisher, Subscriber, Token, WaitSet};
use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::thread::{CpuSet, sched_setaffinity};

const TOPICS: usize = 100;
const MESSAGES: usize = 1000;
const ROUNDS: usize = 5;
const PAUSE: Duration = Duration::from_micros(250);

type Message = [u64; 8];
/// A name, on how many topics, and what does it.
type Way = (&'static str, usize, fn(Vec<Subscriber<Message>>, &mut Tally));

fn main() {
    if let Ok(directory) = std::env::var("CONDUIT_BENCH_DIRECTORY") {
        return publish(&Domain::new(directory).without_registry());
    }
    // Options of `cargo bench` do not matter, but a run as a test is none.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let directory = tempfile::Builder::new().prefix(".conduit-bench-").tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    let mut publisher = Command::new(std::env::current_exe().unwrap())
        .env("CONDUIT_BENCH_DIRECTORY", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut commands = publisher.stdin.take().unwrap();
    let mut answers = BufReader::new(publisher.stdout.take().unwrap()).lines();
    assert_eq!(answers.next().unwrap().unwrap(), "ready");
    pin(0);

    let ways: [Way; 9] = [
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
    let mut results = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for ((_, topics, way), results) in ways.iter().zip(&mut results) {
            let open = |topic| Subscriber::builder().domain(&domain).open(&name(topic)).unwrap();
            let subscribers = (0..*topics).map(open).collect();
            writeln!(commands, "{topics}").unwrap();
            let mut tally = Tally { histogram: Histogram::new(3).unwrap(), left: MESSAGES };
            way(subscribers, &mut tally);
            // The first round warms up.
            if round > 0 {
                let histogram = &tally.histogram;
                results.push([0.5, 0.9, 0.99].map(|quantile| histogram.value_at_quantile(quantile)));
            }
            assert_eq!(answers.next().unwrap().unwrap(), "sent");
        }
    }
    drop(commands);
    publisher.wait().unwrap();

    println!("| way to wait | topics | p50 us | p90 us | p99 us | p50 / `recv` |\n|---|--:|--:|--:|--:|--:|");
    let base = median(&results[0], 0);
    for ((name, topics, _), results) in ways.iter().zip(&results) {
        let [p50, p90, p99] = [0, 1, 2].map(|column| median(results, column));
        println!("| {name} | {topics} | {p50:.1} | {p90:.1} | {p99:.1} | {:.2} |", p50 / base);
    }
}

/// Of one quantile over the rounds, in microseconds.
fn median(rounds: &[[u64; 3]], column: usize) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(|round| round[column]).collect();
    values.sort_unstable();
    values[values.len() / 2] as f64 / 1000.0
}

fn name(topic: usize) -> String {
    format!("bench/{topic}")
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

/// The other process: on every line from its input it publishes on as many topics.
fn publish(domain: &Domain) {
    pin(1);
    let create = |topic| Publisher::<Message>::builder().domain(domain).create(&name(topic)).unwrap();
    let mut publishers: Vec<_> = (0..TOPICS).map(create).collect();
    println!("ready");
    let mut random = 1_u64;
    for line in std::io::stdin().lines() {
        let topics: u64 = line.unwrap().parse().unwrap();
        // Everybody is about to wait.
        thread::sleep(Duration::from_millis(20));
        for _ in 0..MESSAGES {
            let next = Instant::now() + PAUSE;
            // This core stays awake; the other one sleeps.
            while Instant::now() < next {
                std::hint::spin_loop();
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            publishers[((random >> 33) % topics) as usize].send(&[0; 8]).unwrap();
        }
        println!("sent");
    }
}

struct Tally {
    histogram: Histogram<u64>,
    left: usize,
}

impl Tally {
    fn take(&mut self, sample: &conduit::Sample<Message>) {
        self.histogram.record(sample.age().unwrap().as_nanos() as u64).unwrap();
        self.left -= 1 + sample.lost() as usize;
    }
}

fn plain(mut subscribers: Vec<Subscriber<Message>>, tally: &mut Tally) {
    while tally.left > 0 {
        tally.take(&subscribers[0].recv().unwrap());
    }
}

fn set(mut subscribers: Vec<Subscriber<Message>>, tally: &mut Tally) {
    let mut set = WaitSet::new();
    let tokens: Vec<Token> = subscribers.iter().map(|subscriber| set.add(subscriber).unwrap()).collect();
    while tally.left > 0 {
        for event in set.wait().unwrap() {
            let Event::Ready(token) = event else { unreachable!() };
            // In order, as tokens are.
            let place = tokens.binary_search(&token).unwrap();
            tally.take(&subscribers[place].try_recv().unwrap().unwrap());
        }
    }
}

fn descriptor(mut subscribers: Vec<Subscriber<Message>>, tally: &mut Tally) {
    let ready: Vec<_> = subscribers.iter_mut().map(|subscriber| subscriber.ready_fd().unwrap()).collect();
    let mut polled: Vec<_> = ready.iter().map(|ready| PollFd::new(ready.as_fd(), PollFlags::POLLIN)).collect();
    while tally.left > 0 {
        poll(&mut polled, PollTimeout::NONE).unwrap();
        for (polled, subscriber) in polled.iter().zip(&mut subscribers) {
            if polled.any() == Some(true)
                && let Some(sample) = subscriber.try_recv().unwrap()
            {
                tally.take(&sample);
            }
        }
    }
}

async fn receive(subscriber: &mut AsyncSubscriber<Message>, tally: &mut Tally) {
    while tally.left > 0 {
        tally.take(&subscriber.recv().await.unwrap());
    }
}

/// An executor that parks its thread.
fn minimal(mut subscribers: Vec<Subscriber<Message>>, tally: &mut Tally) {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut subscriber = subscribers.remove(0).into_async().unwrap();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(receive(&mut subscriber, tally));
    while future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
        thread::park();
    }
}

fn tokio_tasks(mut subscribers: Vec<Subscriber<Message>>, tally: &mut Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        if subscribers.len() == 1 {
            let mut subscriber = subscribers.remove(0).into_async().unwrap();
            return receive(&mut subscriber, tally).await;
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
        while tally.left > 0 {
            let (age_ns, count) = samples.recv().await.unwrap();
            tally.histogram.record(age_ns).unwrap();
            tally.left -= count;
        }
    });
}
