//! What the two processes do for a row of the table: the contestants of each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::costs;
use super::entrant::{Entrant, Entrants, line};
use super::fan_out::FanOutPlan;
use super::result::{MessageRate, RowResult};
use super::spin::SpinPlan;
use crate::conduit_transport::Conduit;
use crate::contestants::DuplexChannel;
use crate::contestants::limits::{ClockLimit, LineLimit, PingPongLimit, RelayLimit, WakeLimit};
use crate::contestants::publishing::{Audience, PublishPace, publishing};
use crate::contestants::round_trips::RoundTrips;
use crate::contestants::stream::MessageStream;
use crate::limits::{LimitsRegion, LineStream, Relay, WINDOW};
use crate::partner::Partner;
use crate::pattern::Touch;
use crate::site::BenchSite;
use crate::transport::{Carries, CarriesAll, TopicOptions, WordMessage};
use crate::turns::{self, Contestant, TurnTaker};
use crate::{BenchSide, Result, Wait};

/// What both processes do for a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Plan {
    Latency(LatencyPlan),
    Publishing(PublishingPlan),
    Throughput(ThroughputPlan),
    FanOut(FanOutPlan),
    Spin(SpinPlan),
    /// From the start of a process to its first message.
    Start,
    Footprint,
}

/// Rounds of a warm-up that has to touch no more than a ring of the default size.
const WARM_UP_ROUNDS: u64 = 64;

impl Plan {
    /// The first process's part.
    pub(super) fn measure<P: CarriesAll>(
        &self,
        site: &BenchSite,
        partner: &mut Partner,
        time: Duration,
    ) -> Result<RowResult> {
        let (turn, warm_up_rounds) = match self {
            Self::Latency(plan) => (plan.turn(), 2 * plan.depth()),
            Self::Publishing(plan) => (plan.turn(), WARM_UP_ROUNDS),
            Self::Throughput(_) => (Duration::from_millis(10), 4 * WINDOW),
            Self::FanOut(plan) => (plan.turn(), WARM_UP_ROUNDS),
            Self::Spin(plan) => return plan.measure(site, partner, time),
            Self::Footprint => return costs::footprints::<P>(site, partner),
            Self::Start => return costs::time_to_first::<P>(site, time),
        };
        compete(partner, self.entrants::<P>(site, BenchSide::First)?, time, turn, warm_up_rounds)
    }

    /// The second process's part.
    pub(super) fn answer<P: CarriesAll>(&self, site: &BenchSite) -> Result<()> {
        match self {
            Self::Spin(plan) => plan.answer(site),
            Self::Footprint => costs::answer::<P>(site),
            _ => turns::answer_turns(self.entrants::<P>(site, BenchSide::Second)?),
        }
    }

    fn entrants<P: CarriesAll>(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        match self {
            Self::Latency(plan) => plan.entrants::<P>(site, side),
            Self::Publishing(plan) => plan.entrants::<P>(site, side),
            Self::Throughput(plan) => plan.entrants::<P>(site, side),
            Self::FanOut(plan) => plan.entrants::<P>(site, side),
            Self::Spin(_) | Self::Start | Self::Footprint => Ok(Vec::new()),
        }
    }
}

/// Lets the entrants of the first process take turns.
fn compete(
    partner: &mut Partner,
    mut entrants: Entrants,
    time: Duration,
    turn: Duration,
    warm_up_rounds: u64,
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

/// A word handed over and back, as a limit.
fn ping_pong(region: Rc<LimitsRegion>, wait: Wait) -> Box<dyn Contestant> {
    Box::new(PingPongLimit { region, wait, turn_share: 1.0, is_grouped: wait == Wait::Poll })
}

/// Round trips of messages, and how.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LatencyPlan {
    pub(super) bytes: usize,
    /// Every byte is written and read, not just the first cache line.
    pub(super) is_whole: bool,
    pub(super) wait: Wait,
    /// Messages are copied out instead of read in place.
    pub(super) is_copied: bool,
    /// Slots of a topic; by default as many as a topic has by default.
    pub(super) depth: Option<u64>,
    /// Whether messages of 64 bytes are measured as a reference.
    pub(super) has_reference: bool,
}

/// Slots of a topic by default.
const DEFAULT_DEPTH: u64 = 16;
/// Messages up to this size are written and read in a few steps of the clock.
const SHORT_BYTES: usize = 64 << 10;

impl LatencyPlan {
    fn words(&self) -> usize {
        self.bytes / size_of::<u64>()
    }

    fn depth(&self) -> u64 {
        self.depth.unwrap_or(DEFAULT_DEPTH)
    }

    /// Whether filling and reading dominates.
    fn is_filled(&self) -> bool {
        self.is_whole && self.bytes > 64
    }

    /// Whether round trips are timed in groups, too.
    fn is_grouped(&self) -> bool {
        self.wait == Wait::Poll && (!self.is_whole || self.bytes <= SHORT_BYTES)
    }

    fn turn(&self) -> Duration {
        Duration::from_millis(match (self.wait, self.is_filled()) {
            (Wait::Poll, true) if self.bytes > 1 << 20 => 30,
            (Wait::Poll, _) => 5,
            (Wait::Sleep, _) => 25,
        })
    }

    fn entrants<P: CarriesAll>(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        let mut entrants = Entrants::new();
        if site.limits_first {
            self.add_limits(&mut entrants, site, side)?;
        }
        let to = &mut entrants;
        match (self.is_copied, self.bytes) {
            (false, 8) => self.add_transports::<Conduit, P, [u64; 1]>(to, site, side)?,
            (true, 8) => self.add_transports::<Conduit<true>, P, [u64; 1]>(to, site, side)?,
            (false, 64) => self.add_transports::<Conduit, P, [u64; 8]>(to, site, side)?,
            (true, 64) => self.add_transports::<Conduit<true>, P, [u64; 8]>(to, site, side)?,
            (false, 1024) => self.add_transports::<Conduit, P, [u64; 128]>(to, site, side)?,
            (false, _) => self.add_transports::<Conduit, P, [u64]>(to, site, side)?,
            (true, bytes) => return Err(format!("no row copies messages of {bytes} bytes out").into()),
        }
        if self.has_reference {
            let small = Self { bytes: 64, is_whole: true, depth: None, ..*self };
            entrants.push((Entrant::Reference, small.round_trips::<Conduit, [u64; 8]>(site, side, "reference")?));
        }
        if !site.limits_first {
            self.add_limits(&mut entrants, site, side)?;
        }
        Ok(entrants)
    }

    fn add_limits(&self, entrants: &mut Entrants, site: &BenchSite, side: BenchSide) -> Result<()> {
        let buffers = if self.is_filled() { self.depth() as usize } else { 0 };
        let region = LimitsRegion::new(site, side, self.words(), buffers)?;
        entrants.push(line(&region));
        let limit: Box<dyn Contestant> = if self.is_filled() {
            Box::new(RelayLimit { relay: Relay::new(&region, self.wait)?, is_grouped: self.is_grouped() })
        } else {
            ping_pong(region, self.wait)
        };
        entrants.push((Entrant::Limit, limit));
        Ok(())
    }

    /// Conduit's and the peer's channels, in the same order in both processes: each waits for the
    /// other's topics.
    fn add_transports<O: Carries<M>, P: Carries<M>, M: WordMessage + ?Sized>(
        &self,
        entrants: &mut Entrants,
        site: &BenchSite,
        side: BenchSide,
    ) -> Result<()> {
        entrants.push((Entrant::Ours, self.round_trips::<O, M>(site, side, "ours")?));
        if P::PEER.is_some() {
            entrants.push((Entrant::Peer, self.round_trips::<P, M>(site, side, "peer")?));
        }
        Ok(())
    }

    fn round_trips<T: Carries<M>, M: WordMessage + ?Sized>(
        &self,
        site: &BenchSite,
        side: BenchSide,
        name: &str,
    ) -> Result<Box<dyn Contestant>> {
        let (wait, has_sleepers) = (self.wait, self.wait == Wait::Sleep);
        let options = TopicOptions { words: self.words(), depth: self.depth, has_sleepers, ..TopicOptions::default() };
        let channel = DuplexChannel::<T, M>::open(site, side, name, options)?;
        let touch = if self.is_whole { Touch::Whole } else { Touch::Header };
        Ok(Box::new(RoundTrips { channel, wait, touch, is_grouped: self.is_grouped() }))
    }
}

/// Publications to an audience.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PublishingPlan {
    pub(super) audience: Audience,
    /// Microseconds from one message to the next; back to back if there is none.
    pub(super) period_us: Option<u64>,
    pub(super) is_unstamped: bool,
}

impl PublishingPlan {
    fn turn(&self) -> Duration {
        Duration::from_millis(if self.period_us.is_some() { 15 } else { 4 })
    }

    fn entrants<P: CarriesAll>(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        let pace = self
            .period_us
            .map_or(PublishPace::Batches, |period_us| PublishPace::Every(Duration::from_micros(period_us)));
        let region = LimitsRegion::new(site, side, 0, 0)?;
        let mut entrants = vec![line(&region)];
        let limit: Option<Box<dyn Contestant>> = match (self.audience, pace) {
            (Audience::Polling, _) => Some(ping_pong(region, Wait::Poll)),
            // The subscriber falls asleep between two messages if it has the time.
            (Audience::Sleeping, PublishPace::Every(period)) if period >= Duration::from_micros(100) => {
                Some(Box::new(WakeLimit { region, period }))
            }
            (Audience::Sleeping, _) => None,
            (Audience::Nobody | Audience::Absent, _) if self.is_unstamped => None,
            (Audience::Nobody | Audience::Absent, pace) => Some(Box::new(ClockLimit(pace))),
        };
        entrants.extend(limit.map(|limit| (Entrant::Limit, limit)));
        let (has_sleepers, is_unstamped) = (self.audience == Audience::Sleeping, self.is_unstamped);
        let options = TopicOptions { words: 8, has_sleepers, is_unstamped, ..TopicOptions::default() };
        let how = (self.audience, pace);
        entrants.push((Entrant::Ours, publishing::<Conduit>(site, side, "ours", how, options)?));
        if P::PEER.is_some() {
            entrants.push((Entrant::Peer, publishing::<P>(site, side, "peer", how, options)?));
        }
        Ok(entrants)
    }
}

/// Messages of 64 bytes in a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ThroughputPlan {
    /// The publisher waits until enough messages have been received: none is lost.
    pub(super) is_lossless: bool,
    /// As many messages are received at once as have arrived.
    pub(super) is_batched: bool,
    /// Messages are copied out instead of read in place.
    pub(super) is_copied: bool,
}

impl ThroughputPlan {
    fn entrants<P: CarriesAll>(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        let region = LimitsRegion::new(site, side, 0, 0)?;
        let mut entrants = vec![line(&region), (Entrant::Limit, Box::new(LineLimit(LineStream::new(&region))))];
        let ours = if self.is_copied { Self::stream::<Conduit<true>> } else { Self::stream::<Conduit> };
        entrants.push((Entrant::Ours, ours(self, site, side, "ours")?));
        if P::PEER.is_some() {
            entrants.push((Entrant::Peer, self.stream::<P>(site, side, "peer")?));
        }
        Ok(entrants)
    }

    fn stream<T: Carries<[u64; 8]>>(
        &self,
        site: &BenchSite,
        side: BenchSide,
        name: &str,
    ) -> Result<Box<dyn Contestant>> {
        let options = TopicOptions { words: 8, depth: Some(WINDOW), ..TopicOptions::default() };
        let channel = DuplexChannel::<T, [u64; 8]>::open(site, side, name, options)?;
        // A slot of the ring may be the publisher's.
        let window = self.is_lossless.then_some(WINDOW - 1);
        Ok(Box::new(MessageStream::new(channel, window, self.is_batched)))
    }
}
