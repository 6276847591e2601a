//! What it gains and costs that a subscriber looks for a message for a while before it sleeps.

use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;
use conduit::{Domain, OpenError, Publisher, Subscriber};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::duel::{Answer, Column, Measured, Partner as _, Player as _, Record, Until, Wait};
use super::limit_players::{self, Ball};
use super::pattern::END;
use super::processes::{self, Second, retry};
use super::publish::{await_time, compare, note};
use super::statistics::{Distribution, Figures};
use super::transport::{Place, Result};

type Message = [u64; 8];

const TOPIC: &str = "spin";

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spin {
    pub spin_us: u64,
    pub period_us: u64,
}

/// What the second process has seen.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    answer: Answer,
    figures: Figures,
    cpu_ns: f64,
}

fn domain(place: &Place) -> Domain {
    Domain::new(&place.directory).without_registry()
}

impl Spin {
    pub fn measure(&self, place: &Place, second: &mut Second, time: Duration) -> Result<Measured> {
        let mut line = Ball { region: limit_players::create_region(place, 0)?, wait: Wait::Poll, length: 1.0 };
        let mut publisher = Publisher::<Message>::builder().domain(&domain(place)).create(TOPIC)?;
        second.started()?;
        second.begin(&Column::Line.to_string())?;
        let mut near = Record::new(line.times())?;
        line.turn(second, Until { end: Instant::now() + Duration::from_millis(2), rounds: 1 }, &mut near)?;
        second.hear()?;
        second.begin(&Column::Ours.to_string())?;
        let period = Duration::from_micros(self.period_us);
        let (mut next, mut sent) = (Instant::now(), 0_u64);
        let end = next + time;
        while Instant::now() < end {
            await_time(&mut next, period);
            let mut message = Message::default();
            message[..2].copy_from_slice(&[sent, now_ns()]);
            publisher.send(&message)?;
            sent += 1;
        }
        publisher.send(&[END, sent, 0, 0, 0, 0, 0, 0])?;
        let Seen { answer, figures, cpu_ns } = serde_json::from_str(&second.hear()?)?;
        compare(sent, &answer)?;
        let line_ns = near.times.figures().map(|figures| figures.median);
        Ok(Measured { line_ns, columns: [(Column::Ours, figures)].into(), cpu_ns: Some(cpu_ns), ..Measured::default() })
    }

    pub fn follow(&self, place: &Place) -> Result<()> {
        let mut line = Ball { region: limit_players::open_region(place)?, wait: Wait::Poll, length: 1.0 };
        let spin = Duration::from_micros(self.spin_us);
        let builder = || Subscriber::<Message>::builder().domain(&domain(place)).spin(spin);
        let mut subscriber = retry(TOPIC, || match builder().open(TOPIC) {
            Ok(subscriber) => Ok(Some(subscriber)),
            Err(OpenError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        processes::follow(|whose, started| {
            if whose == Column::Line.to_string() {
                return Ok(serde_json::to_string(&line.answer(started)?)?);
            }
            let mut times = Distribution::new(1)?;
            let (mut expected, mut answer) = (0, Answer::default());
            started()?;
            let begun = cpu_time();
            loop {
                let sample = subscriber.recv()?;
                let now = now_ns();
                let [index, stamp, ..] = *sample;
                if note(index, stamp, &mut expected, &mut answer)? {
                    break;
                }
                times.record(now.saturating_sub(stamp));
            }
            let cpu_ns = (cpu_time() - begun).as_nanos() as f64 / answer.received.max(1) as f64;
            let figures = times.figures().ok_or("no message came")?;
            Ok(serde_json::to_string(&Seen { answer, figures, cpu_ns })?)
        })
    }
}

/// What this thread has taken of its processor.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
