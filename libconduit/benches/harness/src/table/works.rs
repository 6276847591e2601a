//! What is compared in turns: the limits of the machine and any transport, each doing the same
//! work.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entrant::{Entrant, Entrants, line};
use super::fan_out::FanOutPlan;
use crate::conduit_transport::{Conduit, CopiedOut, Lent};
use crate::contestants::DuplexChannel;
use crate::contestants::limits::{ClockLimit, LineLimit, PingPongLimit, RelayLimit, WakeLimit};
use crate::contestants::publishing::{Audience, PublishPace, publishing};
use crate::contestants::round_trips::RoundTrips;
use crate::contestants::stream::{MessageStream, StreamBatches, StreamWindow};
use crate::limits::{LimitsRegion, LineStream, Relay, StreamReceipts, WINDOW};
use crate::pattern::Touch;
use crate::site::BenchSite;
use crate::transport::{Carries, CarriesAll, SmallMessage, TopicOptions, WordMessage};
use crate::turns::Contestant;
use crate::{BenchSide, Result, Wait};

/// One process's half of a work; `None` if the transport cannot do it.
pub(super) type Half = Result<Option<Box<dyn Contestant>>>;

/// What everybody in a row does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum RowWork {
    Latency(LatencyPlan),
    Publishing(PublishingPlan),
    Throughput(ThroughputPlan),
    FanOut(FanOutPlan),
    /// Only limits: messages of so many bytes, written and read whole in more or fewer buffers.
    Buffers {
        bytes: usize,
    },
}

/// How Conduit's subscribers receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReceivingWay {
    /// Messages are read in their slots, held by samples.
    InPlace,
    /// Messages are read in their slots, lent to a function.
    Lent,
    /// Messages are copied out of their slots.
    CopiedOut,
}

impl ReceivingWay {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::InPlace => "in place",
            Self::Lent => "in place, lent",
            Self::CopiedOut => "copied out",
        }
    }
}

/// Buffers that are compared.
const BUFFERS: [usize; 5] = [1, 2, 4, 8, 16];

/// Rounds of a warm-up that has to touch no more than a ring of the default size.
const WARM_UP_ROUNDS: u64 = 64;

impl RowWork {
    /// The length of a turn, and the rounds of a warm-up.
    pub(super) fn turn(&self) -> (Duration, u64) {
        match self {
            Self::Latency(plan) => (plan.turn(), 2 * plan.depth()),
            Self::Publishing(plan) => (plan.turn(), plan.depth.unwrap_or(WARM_UP_ROUNDS)),
            Self::Throughput(_) => (Duration::from_millis(10), 4 * WINDOW),
            Self::FanOut(plan) => (plan.turn(), WARM_UP_ROUNDS),
            Self::Buffers { bytes } => (LatencyPlan::filled(*bytes).turn(), WARM_UP_ROUNDS),
        }
    }

    /// The limits of the machine.
    pub(super) fn limits(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        match self {
            Self::Latency(plan) => plan.limits(site, side),
            Self::Publishing(plan) => plan.limits(site, side),
            Self::Throughput(_) => {
                let region = LimitsRegion::new(site, side, 0, 0)?;
                Ok(vec![line(&region), (Entrant::Limit, Box::new(LineLimit(LineStream::new(&region))))])
            }
            Self::FanOut(_) => Ok(vec![line(&LimitsRegion::new(site, side, 0, 0)?)]),
            Self::Buffers { bytes } => {
                let compared = BUFFERS.map(|buffers| (Entrant::Buffers(buffers), buffers));
                LatencyPlan::filled(*bytes).relays(site, side, &compared)
            }
        }
    }

    /// Conduit, and what it is compared with of itself.
    pub(super) fn ours(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        match self {
            Self::Latency(plan) => plan.ours(site, side),
            Self::Publishing(plan) => Ok(vec![(Entrant::Ours, plan.half::<Conduit>(site, side, "ours")?)]),
            Self::Throughput(plan) => {
                let half = match plan.way {
                    ReceivingWay::InPlace => plan.half::<Conduit>(site, side, "ours"),
                    ReceivingWay::Lent => plan.half::<Conduit<Lent>>(site, side, "ours"),
                    ReceivingWay::CopiedOut => plan.half::<Conduit<CopiedOut>>(site, side, "ours"),
                };
                Ok(vec![(Entrant::Ours, half?)])
            }
            Self::FanOut(plan) => Ok(vec![
                (Entrant::Reference, plan.to_one().half::<Conduit>(site, side, "one")?),
                (Entrant::Ours, plan.half::<Conduit>(site, side, "ours")?),
            ]),
            Self::Buffers { .. } => Ok(Entrants::new()),
        }
    }

    /// The half of a transport that carries messages of all sizes.
    pub(super) fn half<T: CarriesAll>(&self, site: &BenchSite, side: BenchSide, name: &str) -> Half {
        match self {
            Self::Latency(plan) => plan.half::<T>(site, side, name).map(Some),
            _ => self.small_half::<T>(site, side, name),
        }
    }

    /// The half of a transport that carries messages of 64 bytes.
    pub(super) fn small_half<T: Carries<SmallMessage>>(&self, site: &BenchSite, side: BenchSide, name: &str) -> Half {
        match self {
            Self::Latency(plan) if plan.bytes == 64 => plan.round_trips::<T, SmallMessage>(site, side, name).map(Some),
            Self::Publishing(plan) => plan.half::<T>(site, side, name).map(Some),
            Self::Throughput(plan) => plan.half::<T>(site, side, name).map(Some),
            Self::FanOut(plan) => plan.half::<T>(site, side, name).map(Some),
            Self::Latency(_) | Self::Buffers { .. } => Ok(None),
        }
    }

    /// Whether others are measured at the same, and not only Conduit under other circumstances.
    pub(super) fn has_peers(&self) -> bool {
        !matches!(self, Self::Latency(LatencyPlan { reference: Some(LatencyReference::FirstPair { .. }), .. }))
    }

    /// How subscribers wait.
    pub(super) fn wait(&self) -> Wait {
        match self {
            Self::Latency(plan) => plan.wait,
            Self::FanOut(plan) => plan.wait,
            Self::Publishing(PublishingPlan { audience: Audience::Sleeping, .. }) => Wait::Sleep,
            _ => Wait::Poll,
        }
    }

    /// Whether threads of one process are worth a comparison: their rings need no processes.
    pub(super) fn fits_threads(&self) -> bool {
        match self {
            Self::Latency(plan) => plan.bytes == 64 && plan.wait == Wait::Poll,
            Self::Publishing(plan) => plan.audience == Audience::Nobody,
            _ => false,
        }
    }
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
    pub(super) way: ReceivingWay,
    /// Slots of a topic; by default as many as a topic has by default.
    pub(super) depth: Option<u64>,
    /// Messages that are kept for subscribers that join later; by default as many as a topic keeps.
    pub(super) retain: Option<u16>,
    pub(super) reference: Option<LatencyReference>,
}

/// What Conduit does as a reference beside the row's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LatencyReference {
    /// Messages of 64 bytes.
    Small,
    /// The same with the first of so many pairs of topics; the row measures the last one.
    FirstPair { pairs: u32 },
}

/// Slots of a topic by default.
const DEFAULT_DEPTH: u64 = 16;
/// Buffers that the limit fills in turn: the fewest with which the next message can be written
/// while the last one is read.
const LEAST_BUFFERS: usize = 2;
/// Messages up to this size are written and read in a few steps of the clock.
const SHORT_BYTES: usize = 64 << 10;

impl LatencyPlan {
    /// One way by polling, of all bytes, in place, with as many slots as a topic has by default.
    pub(super) const fn filled(bytes: usize) -> Self {
        let (wait, way) = (Wait::Poll, ReceivingWay::InPlace);
        Self { bytes, is_whole: true, wait, way, depth: None, retain: None, reference: None }
    }

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

    fn limits(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        if self.is_filled() {
            let limits = [(Entrant::Limit, LEAST_BUFFERS), (Entrant::RingLimit, self.depth() as usize)];
            return self.relays(site, side, &limits);
        }
        let region = LimitsRegion::new(site, side, 0, 0)?;
        Ok(vec![line(&region), (Entrant::Limit, ping_pong(region, self.wait))])
    }

    /// Buffers that are filled and read, so many of them by each entrant.
    fn relays(&self, site: &BenchSite, side: BenchSide, entrants: &[(Entrant, usize)]) -> Result<Entrants> {
        let most = entrants.iter().map(|(_, buffers)| *buffers).max().unwrap_or_default();
        let region = LimitsRegion::new(site, side, self.words(), most)?;
        let relay = Rc::new(RefCell::new(Relay::new(&region, self.wait)?));
        let mut limits = vec![line(&region)];
        for &(entrant, buffers) in entrants {
            let is_grouped = self.is_grouped();
            limits.push((entrant, Box::new(RelayLimit { relay: relay.clone(), buffers, is_grouped })));
        }
        Ok(limits)
    }

    fn ours(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        let half = |plan: &Self, name: &str| match plan.way {
            ReceivingWay::InPlace => plan.half::<Conduit>(site, side, name),
            ReceivingWay::Lent => plan.small_half::<Conduit<Lent>>(site, side, name),
            ReceivingWay::CopiedOut => plan.small_half::<Conduit<CopiedOut>>(site, side, name),
        };
        Ok(match self.reference {
            None => vec![(Entrant::Ours, half(self, "ours")?)],
            Some(LatencyReference::Small) => {
                let small = Self { bytes: 64, is_whole: true, depth: None, ..*self };
                vec![(Entrant::Ours, half(self, "ours")?), (Entrant::Reference, half(&small, "reference")?)]
            }
            Some(LatencyReference::FirstPair { pairs }) => {
                let halves = (0..pairs).map(|pair| half(self, &format!("pair/{pair}"))).collect::<Result<Vec<_>>>()?;
                let keys = (0..pairs).map(|pair| match pair {
                    0 => Entrant::Reference,
                    _ if pair + 1 == pairs => Entrant::Ours,
                    _ => Entrant::Between,
                });
                keys.zip(halves).collect()
            }
        })
    }

    /// The half of a transport that carries messages of all sizes.
    fn half<T: CarriesAll>(&self, site: &BenchSite, side: BenchSide, name: &str) -> Result<Box<dyn Contestant>> {
        match self.bytes {
            8 => self.round_trips::<T, [u64; 1]>(site, side, name),
            64 => self.round_trips::<T, SmallMessage>(site, side, name),
            1024 => self.round_trips::<T, [u64; 128]>(site, side, name),
            _ => self.round_trips::<T, [u64]>(site, side, name),
        }
    }

    /// The half of a transport that carries small messages.
    fn small_half<T>(&self, site: &BenchSite, side: BenchSide, name: &str) -> Result<Box<dyn Contestant>>
    where
        T: Carries<[u64; 1]> + Carries<SmallMessage>,
    {
        match self.bytes {
            8 => self.round_trips::<T, [u64; 1]>(site, side, name),
            64 => self.round_trips::<T, SmallMessage>(site, side, name),
            bytes => Err(format!("no row receives messages of {bytes} bytes like this").into()),
        }
    }

    fn round_trips<T: Carries<M>, M: WordMessage + ?Sized>(
        &self,
        site: &BenchSite,
        side: BenchSide,
        name: &str,
    ) -> Result<Box<dyn Contestant>> {
        let (wait, has_sleepers) = (self.wait, self.wait == Wait::Sleep);
        let Self { depth, retain, .. } = *self;
        let options = TopicOptions { words: self.words(), depth, retain, has_sleepers, ..TopicOptions::default() };
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
    /// Slots of a topic; by default as many as a topic has by default.
    pub(super) depth: Option<u64>,
}

impl PublishingPlan {
    fn turn(&self) -> Duration {
        Duration::from_millis(if self.period_us.is_some() { 15 } else { 4 })
    }

    fn pace(&self) -> PublishPace {
        self.period_us.map_or(PublishPace::Batches, |period_us| PublishPace::Every(Duration::from_micros(period_us)))
    }

    fn limits(&self, site: &BenchSite, side: BenchSide) -> Result<Entrants> {
        let region = LimitsRegion::new(site, side, 0, 0)?;
        let mut limits = vec![line(&region)];
        let limit: Option<Box<dyn Contestant>> = match (self.audience, self.pace()) {
            (Audience::Polling, _) => Some(ping_pong(region, Wait::Poll)),
            // The subscriber falls asleep between two messages if it has the time.
            (Audience::Sleeping, PublishPace::Every(period)) if period >= Duration::from_micros(100) => {
                Some(Box::new(WakeLimit { region, period }))
            }
            (Audience::Sleeping, _) => None,
            (Audience::Nobody | Audience::Absent, _) if self.is_unstamped => None,
            (Audience::Nobody | Audience::Absent, pace) => Some(Box::new(ClockLimit(pace))),
        };
        limits.extend(limit.map(|limit| (Entrant::Limit, limit)));
        Ok(limits)
    }

    fn half<T: Carries<SmallMessage>>(
        &self,
        site: &BenchSite,
        side: BenchSide,
        name: &str,
    ) -> Result<Box<dyn Contestant>> {
        let has_sleepers = self.audience == Audience::Sleeping;
        let (depth, is_unstamped) = (self.depth, self.is_unstamped);
        let options = TopicOptions { words: 8, depth, has_sleepers, is_unstamped, ..TopicOptions::default() };
        publishing::<T>(site, side, name, (self.audience, self.pace()), options)
    }
}

/// Messages of 64 bytes in a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ThroughputPlan {
    /// The publisher waits until enough messages have been received: none is lost.
    pub(super) is_lossless: bool,
    pub(super) batches: StreamBatches,
    pub(super) way: ReceivingWay,
}

impl ThroughputPlan {
    fn half<T: Carries<SmallMessage>>(
        &self,
        site: &BenchSite,
        side: BenchSide,
        name: &str,
    ) -> Result<Box<dyn Contestant>> {
        let copies_batches = self.batches.received && self.way == ReceivingWay::CopiedOut;
        let options = TopicOptions { words: 8, depth: Some(WINDOW), copies_batches, ..TopicOptions::default() };
        let channel = DuplexChannel::<T, SmallMessage>::open(site, side, name, options)?;
        // A slot of the ring may be the publisher's.
        let window = |receipts| StreamWindow { messages: WINDOW - 1, receipts };
        let receipts = self.is_lossless.then(|| StreamReceipts::new(site, side, name)).transpose()?;
        Ok(Box::new(MessageStream::new(channel, receipts.map(window), self.batches)))
    }
}
