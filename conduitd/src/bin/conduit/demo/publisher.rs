//! The demo's publisher: one message at a time, each only when all subscribers are done with the one before.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use conduit::inspect::Region;
use conduit::shm::dir::ShmDir;
use conduit::{Domain, Publisher};

use super::child::{self, Report};
use super::payload::Payload;
use super::{SLOTS, SUBSCRIBERS, TOPIC, patience};
use crate::failure::Failure;

/// How often to look whether the subscribers are done.
const LOOK_INTERVAL: Duration = Duration::from_micros(50);

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
    child::run(args.parent, || {
        let payload = Payload::read(&args.payload)?;
        let mut publisher =
            Publisher::<[u8]>::builder().slots(SLOTS).capacity(payload.message_len() as u64).create(TOPIC)?;
        let elapsed = stream(args, &payload, &mut publisher)?;
        Report::Streamed { elapsed_ns: elapsed.as_nanos() as u64 }.send()?;
        if args.stay == 0 {
            return Ok(());
        }
        loop {
            thread::park();
        }
    })
}

fn stream(args: &Args, payload: &Payload, publisher: &mut Publisher<[u8]>) -> Result<Duration, Failure> {
    let domain = Domain::from_env();
    let directory = ShmDir::open(&domain).map_err(Failure::io("open", domain.shm_dir()))?;
    let region = Region::open(&directory, publisher.topic())?;
    let patience = patience(payload.message_len() as u64);
    wait_until_done(&region, 0, patience)?;
    let started = Instant::now();
    for published in 0..args.messages {
        // Written while the subscribers still compare the message before.
        let mut loan = publisher.loan_slice(payload.message_len())?;
        payload.write(args.first + published, &mut loan);
        wait_until_done(&region, published, patience)?;
        loan.publish();
    }
    wait_until_done(&region, args.messages, patience)?;
    Ok(started.elapsed())
}

/// Waits until every subscriber is there, has received or missed all messages and holds none.
fn wait_until_done(region: &Region, published: u64, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let subscribers = region.counters().map(|counters| counters.subscribers).unwrap_or_default();
        let done = subscribers.iter().filter(|(_, one)| one.received + one.lost >= published && one.held == 0).count();
        if done >= SUBSCRIBERS {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format_args!(
                "only {done} of {SUBSCRIBERS} subscribers were done with {published} messages after {patience:?}"
            )));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}
