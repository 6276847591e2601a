//! The cost of a publication with many subscribers, each of which receives every message.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::contestants::{MessageCounter, receive, send_end};
use crate::partner::{Partner, Patience, retry};
use crate::pattern::{self, Touch};
use crate::site::BenchSite;
use crate::transport::{Carries, Publish as _, Receive as _, SmallMessage, TopicOptions};
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{BenchSide, Result, Wait};

/// Messages in a row before all polling subscribers have to have received them.
const BURST: u64 = 32;

/// Publications to several subscribers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FanOutPlan {
    pub(super) subscribers: usize,
    /// Polling, all in one thread; or sleeping, in a thread each.
    pub(super) wait: Wait,
    /// Microseconds from one publication to sleepers to the next; by default long enough for all of
    /// them to fall asleep again.
    pub(super) period_us: Option<u64>,
}

impl FanOutPlan {
    pub(super) fn turn(&self) -> Duration {
        match self.wait {
            Wait::Poll => Duration::from_millis(5),
            Wait::Sleep => 16 * self.period(),
        }
    }

    fn period_us(&self) -> u64 {
        self.period_us.unwrap_or(200 + 50 * self.subscribers as u64)
    }

    fn period(&self) -> Duration {
        Duration::from_micros(self.period_us())
    }

    fn options(&self) -> TopicOptions {
        let (depth, subscribers) = (Some(2 * BURST), Some(self.subscribers.max(2)));
        TopicOptions { words: 8, depth, subscribers, has_sleepers: self.wait == Wait::Sleep, ..TopicOptions::default() }
    }

    /// The same publications to a single subscriber, as rarely.
    pub(super) fn to_one(self) -> Self {
        Self { subscribers: 1, period_us: Some(self.period_us()), ..self }
    }

    pub(super) fn half<T: Carries<SmallMessage>>(
        &self,
        site: &BenchSite,
        side: BenchSide,
        name: &str,
    ) -> Result<Box<dyn Contestant>> {
        let (plan, options, transport) = (*self, self.options(), T::new(site)?);
        let (there, back) = (format!("{name}/there"), format!("{name}/back"));
        let back_options = TopicOptions { words: 8, ..TopicOptions::default() };
        match (side, plan.wait) {
            (BenchSide::First, _) => {
                let publisher = transport.publisher(&there, options)?;
                let open = || retry(&back, || transport.subscriber(&back, back_options));
                let receipts = (plan.wait == Wait::Poll).then(open).transpose()?;
                Ok(Box::new(FanOut { publisher, receipts, plan, sent: 0, _transport: transport }))
            }
            (BenchSide::Second, Wait::Poll) => {
                let receipts = transport.publisher(&back, back_options)?;
                let open = |_| retry(&there, || transport.subscriber(&there, options));
                let subscribers = (0..plan.subscribers).map(open).collect::<Result<_>>()?;
                Ok(Box::new(PollingCrowd { subscribers, receipts, _transport: transport }))
            }
            (BenchSide::Second, Wait::Sleep) => Ok(Box::new(SleepingCrowd::new::<T>(plan, site, &there)?)),
        }
    }
}

/// The first process's half.
struct FanOut<T: Carries<SmallMessage>> {
    publisher: T::Publisher,
    /// Of subscribers that poll.
    receipts: Option<T::Subscriber>,
    plan: FanOutPlan,
    sent: u64,
    _transport: T,
}

impl<T: Carries<SmallMessage>> Contestant for FanOut<T> {
    fn spans(&self) -> u64 {
        if self.receipts.is_some() { BURST } else { 1 }
    }

    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let burst = self.spans();
        let Self { publisher, receipts, .. } = self;
        let mut patience = Patience::new(partner, until);
        let mut sent = 0;
        let mut next = Instant::now();
        loop {
            if receipts.is_none() {
                next = next.max(Instant::now()) + self.plan.period();
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            let begun = Instant::now();
            for _ in 0..burst {
                publisher.publish(|message| pattern::write(sent, message))?;
                sent += 1;
            }
            let ended = Instant::now();
            into.times.record((ended - begun).as_nanos() as u64);
            if let Some(receipts) = receipts {
                let received = receive(receipts, Wait::Poll, || patience.check(), |receipt: &SmallMessage| receipt[0])?;
                if received != sent {
                    return Err(format!("{received} of {sent} messages were received").into());
                }
            }
            if until.is_over(sent, ended) {
                break;
            }
        }
        self.sent = sent;
        send_end(publisher, sent)
    }

    fn verify(&mut self, counts: Counts) -> Result<()> {
        let expected = self.sent * self.plan.subscribers as u64;
        if counts == (Counts { received: expected, lost: 0 }) {
            return Ok(());
        }
        Err(format!("{} of {expected} messages were received, {} lost", counts.received, counts.lost).into())
    }
}

/// Subscribers that one thread polls in turn.
struct PollingCrowd<T: Carries<SmallMessage>> {
    subscribers: Vec<T::Subscriber>,
    receipts: T::Publisher,
    _transport: T,
}

impl<T: Carries<SmallMessage>> Contestant for PollingCrowd<T> {
    fn answer(&mut self) -> Result<Counts> {
        let mut counters = vec![MessageCounter::default(); self.subscribers.len()];
        let (mut ended, mut acknowledged) = (0, 0);
        while ended < counters.len() {
            for (subscriber, counter) in self.subscribers.iter_mut().zip(&mut counters) {
                if let Some(is_last) = subscriber.poll(|message: &SmallMessage| counter.count(message, Touch::Whole))? {
                    ended += usize::from(is_last?);
                }
            }
            let received_by_all = counters.iter().map(|counter| counter.expected).min().unwrap_or_default();
            if received_by_all >= acknowledged + BURST {
                acknowledged = received_by_all;
                self.receipts.publish(|receipt| receipt[0] = received_by_all)?;
            }
        }
        Ok(counters.into_iter().fold(Counts::default(), |all, counter| all.plus(counter.counts)))
    }
}

/// Subscribers that sleep, in a thread each.
struct SleepingCrowd {
    threads: Vec<(Sender<()>, Receiver<Result<Counts>>)>,
}

impl SleepingCrowd {
    fn new<T: Carries<SmallMessage>>(plan: FanOutPlan, site: &BenchSite, topic: &str) -> Result<Self> {
        let start = |_| {
            let (turn, turns) = mpsc::channel();
            let (counts, counted) = mpsc::channel();
            let (site, topic) = (site.clone(), topic.to_owned());
            // A peer's ports may not be sent to another thread: this one makes them.
            let receive = move || {
                let opened = T::new(&site).and_then(|transport| {
                    Ok((retry(&topic, || transport.subscriber(&topic, plan.options()))?, transport))
                });
                let (mut subscriber, _transport) = match opened {
                    Ok(opened) => opened,
                    Err(error) => return drop(counts.send(Err(error))),
                };
                let mut answer = Ok(Counts::default());
                while counts.send(answer).is_ok() && turns.recv().is_ok() {
                    answer = MessageCounter::count_all(&mut subscriber, Wait::Sleep);
                }
            };
            thread::Builder::new().spawn(receive)?;
            counted.recv()??;
            Ok((turn, counted))
        };
        Ok(Self { threads: (0..plan.subscribers).map(start).collect::<Result<_>>()? })
    }
}

impl Contestant for SleepingCrowd {
    fn answer(&mut self) -> Result<Counts> {
        for (turn, _) in &self.threads {
            turn.send(())?;
        }
        let mut all = Counts::default();
        for (_, counted) in &self.threads {
            all = all.plus(counted.recv()??);
        }
        Ok(all)
    }
}
