//! Latency and processor time of a subscriber by how it waits: it sleeps, or polls for a while
//! before.

use std::time::{Duration, Instant};

use conduit::{Publisher, Spin, Subscriber, SubscriberBuilder};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use super::entrant::{Entrant, line};
use super::result::RowResult;
use crate::conduit_transport::if_found;
use crate::contestants::publishing::await_time;
use crate::contestants::{MessageCounter, verify};
use crate::limits::LimitsRegion;
use crate::machine::{clock_ns, now_ns};
use crate::partner::{self, Partner, retry};
use crate::pattern::END;
use crate::site::BenchSite;
use crate::statistics::{Figures, Timings};
use crate::transport::SmallMessage;
use crate::turns::{Counts, TurnTaker};
use crate::until::Until;
use crate::{BenchSide, Result};

const TOPIC: &str = "wait";

/// How a subscriber waits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Waiting {
    /// It sleeps.
    Block,
    /// It polls for so many microseconds before it sleeps.
    Spin { us: u64 },
    /// It polls while messages come faster than a wake-up costs.
    Adaptive,
}

impl Waiting {
    fn of(self, builder: SubscriberBuilder<SmallMessage>) -> SubscriberBuilder<SmallMessage> {
        match self {
            Self::Block => builder,
            Self::Spin { us } => builder.spin(Duration::from_micros(us)),
            Self::Adaptive => builder.spin(Spin::Adaptive),
        }
    }
}

/// A message now and then to a subscriber that waits for it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WaitPlan {
    pub(super) waiting: Waiting,
    pub(super) period_us: u64,
}

/// What the second process has measured.
#[derive(Debug, Serialize, Deserialize)]
struct Reception {
    counts: Counts,
    figures: Figures,
    /// Processor time per message.
    cpu_ns: f64,
}

impl WaitPlan {
    pub(super) fn measure(&self, site: &BenchSite, partner: &mut Partner, time: Duration) -> Result<RowResult> {
        let (key, mut line) = line(&LimitsRegion::new(site, BenchSide::First, 0, 0)?);
        let mut publisher = Publisher::<SmallMessage>::builder().domain(&site.domain()).create(TOPIC)?;
        partner.wait_until_started()?;
        let mut near = TurnTaker::warmed_up(key, line.as_mut(), partner, 1)?;
        near.take_turn(partner, Until { end: Instant::now() + Duration::from_millis(2), rounds: 1 })?;
        partner.begin(TOPIC)?;
        let period = Duration::from_micros(self.period_us);
        let (mut next, mut sent) = (Instant::now(), 0_u64);
        let end = next + time;
        while Instant::now() < end {
            await_time(&mut next, period);
            publisher.send(&[sent, now_ns(), 0, 0, 0, 0, 0, 0])?;
            sent += 1;
        }
        publisher.send(&[END, sent, 0, 0, 0, 0, 0, 0])?;
        let Reception { counts, figures, cpu_ns } = serde_json::from_str(&partner.hear()?)?;
        verify(sent, counts)?;
        let line_ns = near.measured.figures().map(|figures| figures.median);
        let columns = [(Entrant::Ours, figures)].into();
        Ok(RowResult { line_ns, columns, cpu_ns: Some(cpu_ns), ..RowResult::default() })
    }

    pub(super) fn answer(&self, site: &BenchSite) -> Result<()> {
        let (_, mut line) = line(&LimitsRegion::new(site, BenchSide::Second, 0, 0)?);
        let builder = || self.waiting.of(Subscriber::builder().domain(&site.domain()));
        let mut subscriber = retry(TOPIC, || if_found(builder().open(TOPIC)))?;
        let (mut times, mut counter) = (Timings::new(1), MessageCounter::default());
        partner::follow(|whose| {
            if whose != TOPIC {
                return Ok(serde_json::to_string(&line.answer()?)?);
            }
            // The processor time of this thread.
            let begun = clock_ns(ClockId::ThreadCPUTime);
            loop {
                let sample = subscriber.recv()?;
                let now = now_ns();
                let [index, stamp, ..] = *sample;
                if counter.count_index(index, stamp)? {
                    break;
                }
                times.record(now.saturating_sub(stamp));
            }
            let counts = counter.counts;
            let cpu_ns = (clock_ns(ClockId::ThreadCPUTime) - begun) as f64 / counts.received.max(1) as f64;
            let figures = times.figures().ok_or("no message arrived")?;
            Ok(serde_json::to_string(&Reception { counts, figures, cpu_ns })?)
        })
    }
}
