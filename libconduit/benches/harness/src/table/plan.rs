//! What the two processes do for a row of the table.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::behind::fall_behind;
use super::costs;
use super::entrant::{Entrant, Entrants};
use super::peer::Peer;
use super::result::{MessageRate, RowResult};
use super::waiting::WaitPlan;
use super::works::RowWork;
use crate::partner::Partner;
use crate::site::BenchSite;
use crate::turns::{self, TurnTaker};
use crate::{BenchSide, Result};

/// What both processes do for a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Plan {
    /// Everybody does the same, in turns.
    Turns(RowWork),
    Wait(WaitPlan),
    /// From the start of a process to its first message.
    Start,
    /// Messages of so many bytes to a subscriber that receives them later.
    Behind {
        bytes: usize,
    },
    /// What a topic occupies: of messages of 64 bytes, or of slices with all defaults.
    Footprint {
        is_default: bool,
    },
}

impl Plan {
    /// The first process's part.
    pub(super) fn measure(
        &self,
        site: &BenchSite,
        partner: &mut Partner,
        time: Duration,
        peers: &[Peer],
    ) -> Result<RowResult> {
        match self {
            Self::Turns(work) => {
                let entrants = entrants(work, site, BenchSide::First, peers)?;
                compete(partner, entrants, time, work.turn())
            }
            Self::Wait(plan) => plan.measure(site, partner, time),
            Self::Footprint { is_default } => costs::footprints(site, partner, peers, *is_default),
            Self::Start => costs::time_to_first(site, time, peers),
            Self::Behind { bytes } => fall_behind(site, *bytes),
        }
    }

    /// The second process's part.
    pub(super) fn answer(&self, site: &BenchSite, peers: &[Peer]) -> Result<()> {
        match self {
            Self::Turns(work) => turns::answer_turns(entrants(work, site, BenchSide::Second, peers)?),
            Self::Wait(plan) => plan.answer(site),
            Self::Footprint { is_default } => costs::answer(site, peers, *is_default),
            Self::Start | Self::Behind { .. } => Ok(()),
        }
    }
}

/// The limits, Conduit and the peers, in the same order in both processes: each waits for the
/// other's topics.
fn entrants(work: &RowWork, site: &BenchSite, side: BenchSide, peers: &[Peer]) -> Result<Entrants> {
    let mut limits = if site.limits_first { work.limits(site, side)? } else { Entrants::new() };
    let mut entrants = work.ours(site, side)?;
    for peer in peers.iter().filter(|_| work.has_peers()) {
        let half = (peer.half)(work, site, side)?;
        entrants.extend(half.map(|half| (Entrant::Peer(peer.name), half)));
    }
    if !site.limits_first {
        limits = work.limits(site, side)?;
    }
    limits.extend(entrants);
    Ok(limits)
}

/// Lets the entrants of the first process take turns.
fn compete(
    partner: &mut Partner,
    mut entrants: Entrants,
    time: Duration,
    (turn, warm_up_rounds): (Duration, u64),
) -> Result<RowResult> {
    partner.wait_until_started()?;
    let mut takers = Vec::new();
    for (entrant, contestant) in &mut entrants {
        takers.push(TurnTaker::warmed_up(*entrant, contestant.as_mut(), partner, warm_up_rounds)?);
    }
    turns::take_turns(partner, &mut takers, turn, Instant::now() + time, || ())?;
    let mut result = RowResult::default();
    for TurnTaker { key, measured, .. } in &takers {
        result.columns.extend(measured.figures().map(|figures| (*key, figures)));
        if measured.ns > 0 {
            let (counts, sent) = (measured.counts, measured.messages);
            let (received, lost) = (counts.received, counts.lost);
            result.rates.insert(*key, MessageRate { per_second: measured.per_second(), sent, received, lost });
        }
    }
    result.line_ns = result.columns.get(&Entrant::Line).map(|figures| figures.median);
    Ok(result)
}
