//! What one publication costs: without subscribers, and with one that polls, sleeps, or never
//! receives.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{MessageCounter, send_end, verify};
use crate::partner::{Partner, retry};
use crate::pattern;
use crate::site::BenchSite;
use crate::transport::{Carries, Publish as _, SmallMessage, TopicOptions};
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{BenchSide, Result, Wait};

/// Messages that are published between two reads of the clock in a row. Fewer than any of the
/// intervals at which the library checks something else.
const BATCH: u64 = 256;

/// When messages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishPace {
    /// Back to back, timed in batches.
    Batches,
    /// Back to back, timed one by one.
    Singly,
    /// One by one with this time between them.
    Every(Duration),
}

impl PublishPace {
    /// Messages between two reads of the clock.
    pub fn batch(self) -> u64 {
        if self == Self::Batches { BATCH } else { 1 }
    }

    /// Times something again and again until the turn is over; returns how often.
    #[inline]
    pub fn time(self, until: Until, into: &mut Measurements, mut act: impl FnMut(u64) -> Result<()>) -> Result<u64> {
        let mut acts = 0;
        let mut next = Instant::now();
        loop {
            if let Self::Every(period) = self {
                await_time(&mut next, period);
            }
            let begun = Instant::now();
            for _ in 0..self.batch() {
                act(acts)?;
                acts += 1;
            }
            let ended = Instant::now();
            into.times.record((ended - begun).as_nanos() as u64);
            // A period that was too short does not pile up.
            next = next.max(ended);
            if until.is_over(acts, ended) {
                return Ok(acts);
            }
        }
    }
}

/// Waits, busily, for the time of the next message.
#[inline]
pub fn await_time(next: &mut Instant, period: Duration) {
    *next += period;
    while Instant::now() < *next {
        std::hint::spin_loop();
    }
}

/// Who subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Nobody.
    Nobody,
    /// A subscriber that polls.
    Polling,
    /// A subscriber that sleeps.
    Sleeping,
    /// A subscriber that never receives.
    Absent,
}

/// The publisher's half (with a transport for each port, which is dropped after it).
struct PacedPublisher<T: Carries<SmallMessage>> {
    publisher: T::Publisher,
    pace: PublishPace,
    is_heard: bool,
    /// Messages of this turn.
    sent: u64,
    _transport: T,
}

/// The subscriber's half; without one that receives it only waits for the next turn.
struct CountingSubscriber<T: Carries<SmallMessage>> {
    subscriber: Option<(T::Subscriber, T)>,
    wait: Option<Wait>,
}

/// One process's half of publications to an audience.
pub fn publishing<T: Carries<SmallMessage>>(
    site: &BenchSite,
    side: BenchSide,
    topic: &str,
    (audience, pace): (Audience, PublishPace),
    options: TopicOptions,
) -> Result<Box<dyn Contestant>> {
    let transport = T::new(site)?;
    let wait = match audience {
        Audience::Nobody | Audience::Absent => None,
        Audience::Polling => Some(Wait::Poll),
        Audience::Sleeping => Some(Wait::Sleep),
    };
    if side == BenchSide::First {
        let publisher = transport.publisher(topic, options)?;
        let is_heard = wait.is_some();
        return Ok(Box::new(PacedPublisher { publisher, pace, is_heard, sent: 0, _transport: transport }));
    }
    let open = || retry(topic, || transport.subscriber(topic, options));
    let subscriber = if audience == Audience::Nobody { None } else { Some(open()?) };
    Ok(Box::new(CountingSubscriber { subscriber: subscriber.map(|subscriber| (subscriber, transport)), wait }))
}

impl<T: Carries<SmallMessage>> Contestant for PacedPublisher<T> {
    fn spans(&self) -> u64 {
        self.pace.batch()
    }

    fn measure(&mut self, _partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let publisher = &mut self.publisher;
        let publish = |index| publisher.publish(|message| pattern::write(index, message));
        self.sent = self.pace.time(until, into, publish)?;
        send_end(publisher, self.sent)
    }

    fn verify(&mut self, counts: Counts) -> Result<()> {
        verify(if self.is_heard { self.sent } else { 0 }, counts)
    }
}

impl<T: Carries<SmallMessage>> Contestant for CountingSubscriber<T> {
    fn answer(&mut self) -> Result<Counts> {
        match (&mut self.subscriber, self.wait) {
            (Some((subscriber, _)), Some(wait)) => MessageCounter::count_all(subscriber, wait),
            _ => Ok(Counts::default()),
        }
    }
}
