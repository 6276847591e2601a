//! The demo's subscriber: compares every bit, notices its publisher's death, and reopens the topic.

use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use conduit::internal::shm::clock::now_ns;
use conduit::{Gone, OpenError, RecvError, ShmRegion, Start, Subscriber};
use hdrhistogram::Histogram;

use super::child::{DemoReport, SubscriberTally};
use super::payload::Payload;
use super::plan::{TOPIC, patience};
use super::work::WorkTimer;
use crate::child::{self, ChildReport as _};
use crate::failure::Failure;

/// How often to try to open an orphaned topic.
const REOPEN_INTERVAL: Duration = Duration::from_millis(1);

/// Subscribes for `conduit demo`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Process id of the demo
    #[arg(long)]
    parent: i32,
    /// File with the messages' content
    #[arg(long)]
    payload: PathBuf,
    /// How many messages to receive before the publisher dies
    #[arg(long)]
    messages: u64,
    /// How many messages to receive after it is back
    #[arg(long)]
    again: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    child::run::<DemoReport>(args.parent, || {
        let payload = Payload::read(&args.payload)?;
        let patience = patience(payload.message_len() as u64);
        let mut subscriber = open(patience)?;
        DemoReport::Received(receive(&mut subscriber, &payload, 0, args.messages)?).send()?;
        DemoReport::Gone { at_ns: wait_for_end(&mut subscriber, Gone::Died)? }.send()?;
        drop(subscriber);

        let mut subscriber = open(patience)?;
        DemoReport::Received(receive(&mut subscriber, &payload, args.messages, args.again)?).send()?;
        // The publisher waits for its subscribers: they stay until it closes the topic.
        wait_for_end(&mut subscriber, Gone::Closed)?;
        Ok(())
    })
}

/// Opens the topic as soon as it exists.
fn open(patience: Duration) -> Result<Subscriber<[u8]>, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        ShmRegion::wait_until_exists_for(TOPIC, deadline.saturating_duration_since(Instant::now()))?;
        // From the oldest: the publisher may have published already.
        match Subscriber::builder().start(Start::Oldest).open(TOPIC) {
            Err(OpenError::NotFound { .. } | OpenError::Orphaned { .. }) if Instant::now() < deadline => {
                thread::sleep(REOPEN_INTERVAL);
            }
            done => return Ok(done?),
        }
    }
}

/// Receives `messages` messages, the first of which has the index `first`.
fn receive(
    subscriber: &mut Subscriber<[u8]>,
    payload: &Payload,
    first: u64,
    messages: u64,
) -> Result<SubscriberTally, Failure> {
    let mut latencies = Histogram::<u64>::new(3).map_err(Failure::new)?;
    let mut tally = SubscriberTally::default();
    let mut timer = WorkTimer::new()?;
    let mut private = vec![0; payload.message_len()];
    payload.write(first, &mut private);
    while subscriber.received() + subscriber.lost() < messages {
        let sample = subscriber.recv()?;
        let now_ns = now_ns();
        if tally.received == 0 {
            tally.first_at_ns = now_ns;
        }
        tally.received += 1;
        latencies.record(now_ns.saturating_sub(sample.stamp_ns().unwrap_or(now_ns))).map_err(Failure::new)?;
        // While the sample is held: the publisher waits for that.
        timer.in_private(sample.sequence(), || {
            black_box(payload.check(first, black_box(&private)).is_ok());
        });
        if let Err(wrong_at) = timer.in_slot(|| payload.check(first + sample.sequence(), &sample)) {
            tally.corrupt += 1;
            let damage = || format!("message {} from byte {} on", sample.sequence(), wrong_at);
            tally.first_corrupt.get_or_insert_with(damage);
        }
    }
    tally.lost = subscriber.lost();
    tally.compared = timer.medians();
    tally.latencies_ns =
        latencies.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    Ok(tally)
}

/// Sleeps until the publisher is gone; returns the time of the wake-up.
fn wait_for_end(subscriber: &mut Subscriber<[u8]>, expected: Gone) -> Result<u64, Failure> {
    match subscriber.recv() {
        Err(RecvError::PublisherGone { how, .. }) if how == expected => Ok(now_ns()),
        Err(error) => Err(error.into()),
        Ok(sample) => Err(Failure::new(format_args!("received an unexpected message {}", sample.sequence()))),
    }
}
