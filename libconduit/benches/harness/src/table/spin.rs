//! What a subscriber gains, and costs, that polls for a while before it sleeps.

use std::time::{Duration, Instant};

use conduit::{OpenError, Publisher, Subscriber};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::RowResult;
use super::plan::{Entrant, line};
use crate::contestants::publishing::await_time;
use crate::contestants::{MessageCounter, verify};
use crate::directory::BenchSite;
use crate::limits::LimitsRegion;
use crate::machine::now_ns;
use crate::partner::{self, Partner, retry};
use crate::pattern::END;
use crate::statistics::{Figures, Timings};
use crate::transport::SmallMessage;
use crate::turns::{Counts, TurnTaker, Until};
use crate::{BenchSide, Result};

const TOPIC: &str = "spin";

/// A message now and then to a subscriber that spins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct SpinPlan {
    pub(super) spin_us: u64,
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

impl SpinPlan {
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
        let spin = Duration::from_micros(self.spin_us);
        let builder = || Subscriber::<SmallMessage>::builder().domain(&site.domain()).spin(spin);
        let mut subscriber = retry(TOPIC, || match builder().open(TOPIC) {
            Ok(subscriber) => Ok(Some(subscriber)),
            Err(OpenError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        partner::follow(|whose, started| {
            if whose != TOPIC {
                return Ok(serde_json::to_string(&line.answer(started)?)?);
            }
            let (mut times, mut counter) = (Timings::new(1), MessageCounter::default());
            started()?;
            let begun = cpu_time();
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
            let cpu_ns = (cpu_time() - begun).as_nanos() as f64 / counts.received.max(1) as f64;
            let figures = times.figures().ok_or("no message arrived")?;
            Ok(serde_json::to_string(&Reception { counts, figures, cpu_ns })?)
        })
    }
}

/// The processor time that this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
