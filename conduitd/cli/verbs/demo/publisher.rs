//! The demo's publisher: publishes a message when all subscribers are done with the previous one.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::SubscriberInfo;
use conduit::{Domain, Publisher};

use super::child::DemoReport;
use super::payload::Payload;
use super::plan::{SLOTS, SUBSCRIBERS, TOPIC, patience};
use super::work::{WorkTimer, WorkTimes};
use crate::child::{self, ChildReport as _};
use crate::failure::Failure;

/// How often to check whether the subscribers are done.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// Publishes for `conduit demo`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Process id of the demo
    #[arg(long)]
    parent: i32,
    /// File with the messages' content
    #[arg(long)]
    payload: PathBuf,
    /// Index of the first message
    #[arg(long)]
    first: u64,
    /// How many messages to publish
    #[arg(long)]
    messages: u64,
    /// Whether to stay (1) until killed or to close the topic (0)
    #[arg(long)]
    stay: u8,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    child::run::<DemoReport>(args.parent, || {
        let payload = Payload::read(&args.payload)?;
        let mut publisher =
            Publisher::<[u8]>::builder().slots(SLOTS as u32).capacity(payload.message_len()).create(TOPIC)?;
        let (elapsed, written) = stream(args, &payload, &mut publisher)?;
        DemoReport::Streamed { elapsed_ns: elapsed.as_nanos() as u64, written }.send()?;
        if args.stay == 0 {
            return Ok(());
        }
        loop {
            thread::park();
        }
    })
}

fn stream(args: &Args, payload: &Payload, publisher: &mut Publisher<[u8]>) -> Result<(Duration, WorkTimes), Failure> {
    let domain = Domain::from_env();
    let directory = ShmDir::open(&domain).map_err(Failure::io("open", domain.shm_dir()))?;
    let region = Region::open_in(&directory, publisher.topic())?;
    let patience = patience(payload.message_len() as u64);
    let wait = |published, wanted| wait_for_subscribers(&region, published, wanted, patience);
    let mut private = vec![1; payload.message_len()];
    let mut timer = WorkTimer::new()?;
    wait(0, Wanted::Done)?;
    let started = Instant::now();
    for published in 0..args.messages {
        // Written while the subscribers compare the message before, but not while they wake up for
        // it: with few cores, that would measure how long they wait for one.
        wait(published, Wanted::Received)?;
        timer.in_private(published, || payload.write(args.first + published, &mut private));
        let mut loan = publisher.loan_slice(payload.message_len())?;
        timer.in_slot(|| payload.write(args.first + published, &mut loan));
        wait(published, Wanted::Done)?;
        loan.publish();
    }
    wait(args.messages, Wanted::Done)?;
    Ok((started.elapsed(), timer.medians()))
}

/// What the publisher waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Every subscriber has received all messages, or missed them.
    Received,
    /// And no longer holds any.
    Done,
}

fn wait_for_subscribers(region: &Region, published: u64, wanted: Wanted, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let subscribers = region.counters().map(|counters| counters.subscribers).unwrap_or_default();
        let is_ready = |one: &SubscriberInfo| {
            one.received + one.lost >= published && (wanted == Wanted::Received || one.held == 0)
        };
        let ready = subscribers.iter().filter(|(_, one)| is_ready(one)).count();
        if ready >= SUBSCRIBERS {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format_args!(
                "only {ready} of {SUBSCRIBERS} subscribers were done with {published} messages after {patience:?}"
            )));
        }
        thread::sleep(POLL_INTERVAL);
    }
}
