//! What a topic costs before any message: the time of a process to its first one, and files, memory
//! and descriptors.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::entrant::Entrant;
use super::peer::Peer;
use super::result::RowResult;
use super::topic_costs::{TopicCosts, descriptors};
use crate::Result;
use crate::conduit_transport::Conduit;
use crate::machine::now_ns;
use crate::partner::{self, Partner};
use crate::site::BenchSite;
use crate::statistics::Timings;
use crate::transport::SmallMessage;

/// First of the hidden arguments of a process that only starts.
pub(super) const START: &str = "start";
/// The least number of starts.
const LEAST_STARTS: usize = 20;

/// Conduit's costs and those of the peers, of messages of 64 bytes; or only Conduit's of a topic of
/// slices with all its defaults.
fn all(peers: &[Peer], is_default: bool) -> Vec<(Entrant, TopicCosts)> {
    if is_default {
        return vec![(Entrant::Ours, TopicCosts::of::<Conduit, [u64]>())];
    }
    let ours = (Entrant::Ours, TopicCosts::of::<Conduit, SmallMessage>());
    let peers = peers.iter().filter_map(|peer| Some((Entrant::Peer(peer.name), peer.costs?)));
    [ours].into_iter().chain(peers).collect()
}

/// Starts processes in turn: one that does nothing, and for each library one that publishes.
pub(super) fn time_to_first(site: &BenchSite, time: Duration, peers: &[Peer]) -> Result<RowResult> {
    let publishers = all(peers, false).into_iter().map(|(entrant, _)| entrant);
    let mut times: Vec<_> =
        [Entrant::Limit].into_iter().chain(publishers).map(|entrant| (entrant, Timings::new(1))).collect();
    let end = Instant::now() + time;
    for round in 0.. {
        if round > LEAST_STARTS && Instant::now() > end {
            break;
        }
        for (entrant, times) in &mut times {
            let ns = start_process(*entrant, site)?;
            // The first start reads files that later ones find in memory.
            if round > 0 {
                times.record(ns);
            }
        }
    }
    let columns = times.into_iter().filter_map(|(entrant, times)| Some((entrant, times.figures()?))).collect();
    Ok(RowResult { columns, ..RowResult::default() })
}

fn start_process(entrant: Entrant, site: &BenchSite) -> Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([START, &entrant.to_string(), &serde_json::to_string(site)?]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let begun = now_ns();
    let mut process = command.spawn()?;
    let mut stamp = [0; 8];
    let read = process.stdout.take().map(|mut output| output.read_exact(&mut stamp));
    let status = process.wait()?;
    if !status.success() || read.is_none_or(|read| read.is_err()) {
        return Err(format!("a process that only starts has failed: {status}").into());
    }
    Ok(u64::from_le_bytes(stamp).saturating_sub(begun))
}

/// Such a process: it writes the time when it has published, or at once.
pub(super) fn start(entrant: &str, site: &str, peers: &[Peer]) -> Result<()> {
    let stamp = match all(peers, false).iter().find(|(whose, _)| whose.to_string() == entrant) {
        Some((_, costs)) => (costs.publish)(&serde_json::from_str(site)?)?,
        None => now_ns(),
    };
    Ok(std::io::stdout().write_all(&stamp.to_le_bytes())?)
}

/// What one topic occupies that has a publisher in this process and a subscriber in the other one.
pub(super) fn footprints(
    site: &BenchSite,
    partner: &mut Partner,
    peers: &[Peer],
    is_default: bool,
) -> Result<RowResult> {
    partner.wait_until_started()?;
    let mut result = RowResult::default();
    for (entrant, costs) in all(peers, is_default) {
        result.footprints.insert(entrant, (costs.footprint)(site, partner, &entrant.to_string())?);
    }
    Ok(result)
}

/// The second process's part: it subscribes in each turn, and says how many descriptors that took.
pub(super) fn answer(site: &BenchSite, peers: &[Peer], is_default: bool) -> Result<()> {
    let all = all(peers, is_default);
    let mut kept = Vec::new();
    partner::follow(|entrant| {
        let costs = all.iter().find(|(whose, _)| whose.to_string() == entrant);
        let (_, costs) = costs.ok_or_else(|| format!("there is no entrant {entrant:?}"))?;
        let before = descriptors()?;
        kept.push((costs.subscribe)(site)?);
        Ok(descriptors()?.saturating_sub(before).to_string())
    })
}
