//! What a topic costs before any message: the time of a process to its first one, and files, memory
//! and descriptors.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::entrant::Entrant;
use super::result::{Footprint, RowResult};
use crate::conduit_transport::Conduit;
use crate::machine::now_ns;
use crate::partner::{self, Partner, retry};
use crate::site::BenchSite;
use crate::statistics::Timings;
use crate::transport::{Carries, CarriesAll, Publish as _, SmallMessage, TopicOptions};
use crate::{Result, pattern};

/// First of the hidden arguments of a process that only starts.
pub(super) const START: &str = "start";
const TOPIC: &str = "first";
/// The least number of starts.
const LEAST_STARTS: usize = 20;

fn options() -> TopicOptions {
    TopicOptions { words: 8, ..TopicOptions::default() }
}

/// Starts processes in turn: one that does nothing, one that publishes with Conduit, one that
/// publishes with the peer.
pub(super) fn time_to_first<P: CarriesAll>(site: &BenchSite, time: Duration) -> Result<RowResult> {
    let entrants = [Some(Entrant::Limit), Some(Entrant::Ours), P::PEER.map(|_| Entrant::Peer)];
    let mut times: Vec<_> = entrants.into_iter().flatten().map(|entrant| (entrant, Timings::new(1))).collect();
    let end = Instant::now() + time;
    let site = serde_json::to_string(site)?;
    for round in 0.. {
        if round > LEAST_STARTS && Instant::now() > end {
            break;
        }
        for (entrant, times) in &mut times {
            let mut command = Command::new(std::env::current_exe()?);
            command.args([START, &entrant.to_string(), &site]).stdin(Stdio::null()).stdout(Stdio::piped());
            let begun = now_ns();
            let mut process = command.spawn()?;
            let mut stamp = [0; 8];
            let read = process.stdout.take().map(|mut output| output.read_exact(&mut stamp));
            let status = process.wait()?;
            if !status.success() || read.is_none_or(|read| read.is_err()) {
                return Err(format!("a process that only starts has failed: {status}").into());
            }
            // The first start reads files that later ones find in memory.
            if round > 0 {
                times.record(u64::from_le_bytes(stamp).saturating_sub(begun));
            }
        }
    }
    let columns = times.into_iter().filter_map(|(entrant, times)| Some((entrant, times.figures()?))).collect();
    Ok(RowResult { columns, ..RowResult::default() })
}

/// Such a process: it writes the time when it has published, or at once.
pub(super) fn start<P: CarriesAll>(entrant: &str, site: &str) -> Result<()> {
    fn publish<T: Carries<SmallMessage>>(site: &BenchSite) -> Result<()> {
        let transport = T::new(site)?;
        let mut publisher = transport.publisher(TOPIC, options())?;
        publisher.publish(|message| pattern::write(1, message))?;
        say(now_ns())
    }
    fn say(stamp: u64) -> Result<()> {
        Ok(std::io::stdout().write_all(&stamp.to_le_bytes())?)
    }
    match entrant {
        "ours" => publish::<Conduit>(&serde_json::from_str(site)?),
        "peer" => publish::<P>(&serde_json::from_str(site)?),
        _ => say(now_ns()),
    }
}

/// What one topic occupies that has a publisher in this process and a subscriber in the other one.
pub(super) fn footprints<P: CarriesAll>(site: &BenchSite, partner: &mut Partner) -> Result<RowResult> {
    partner.wait_until_started()?;
    let mut result = RowResult::default();
    result.footprints.insert(Entrant::Ours, footprint::<Conduit>(site, partner, Entrant::Ours)?);
    if P::PEER.is_some() {
        result.footprints.insert(Entrant::Peer, footprint::<P>(site, partner, Entrant::Peer)?);
    }
    Ok(result)
}

fn footprint<T: Carries<SmallMessage>>(site: &BenchSite, partner: &mut Partner, entrant: Entrant) -> Result<Footprint> {
    let before = descriptors()?;
    let files_before = T::files(site)?;
    let transport = T::new(site)?;
    let mut publisher = transport.publisher(TOPIC, options())?;
    publisher.publish(|message| pattern::write(1, message))?;
    partner.begin(&entrant.to_string())?;
    let subscriber_descriptors = partner.hear()?.parse()?;
    // The peer opens what belongs to a subscriber when it publishes next.
    publisher.publish(|message| pattern::write(2, message))?;
    let files = T::files(site)?;
    Ok(Footprint {
        files: files.len() - files_before.len(),
        bytes: files.iter().sum::<u64>() - files_before.iter().sum::<u64>(),
        publisher_descriptors: descriptors()?.saturating_sub(before),
        subscriber_descriptors,
    })
}

/// The second process's part: it subscribes in each turn, and says how many descriptors that took.
pub(super) fn answer<P: CarriesAll>(site: &BenchSite) -> Result<()> {
    let (mut ours, mut peer) = (None, None);
    partner::follow(|entrant| {
        let before = descriptors()?;
        if entrant == "ours" {
            ours = Some(subscribe::<Conduit>(site)?);
        } else {
            peer = Some(subscribe::<P>(site)?);
        }
        Ok(descriptors()?.saturating_sub(before).to_string())
    })?;
    drop((ours, peer));
    Ok(())
}

fn subscribe<T: Carries<SmallMessage>>(site: &BenchSite) -> Result<(T::Subscriber, T)> {
    let transport = T::new(site)?;
    let subscriber = retry(TOPIC, || transport.subscriber(TOPIC, options()))?;
    Ok((subscriber, transport))
}

/// How many descriptors this process has open.
fn descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
