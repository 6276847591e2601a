//! Messages of 64 bytes in a row: with a window, so that none is lost, and as fast as the publisher can.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::limits::{Stream, WINDOW};
use conduit::ShmRegion;
use serde::{Deserialize, Serialize};

use super::duel::{Answer, Column, Partner, Partners, Patience, Player, Players, Record, Until, Wait, receive, watch};
use super::limit_players::{self, Ball};
use super::ours::{Conduit, Copied};
use super::pattern::{self, END};
use super::processes::{Second, retry};
use super::publish::{compare, count, listen};
use super::transport::{All, Carries, Place, Publish as _, Receive as _, Result, Shape};

type Message = [u64; 8];
type Receipt = [u64; 1];

/// Messages that are sent between two looks at the clock.
const STEP: u64 = 64;
/// Messages on their way at most: a slot of the ring may be the publisher's.
const IN_FLIGHT: u64 = WINDOW - 1;
/// Messages that are acknowledged at once.
const AT_ONCE: u64 = WINDOW / 4;
/// Messages that are received at once, at most.
const BATCH: usize = 64;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// No message is lost: the publisher waits until enough have been received.
    pub lossless: bool,
    /// Messages are received as many at once as there are.
    pub batched: bool,
    /// Messages are copied out instead of read in place.
    pub copied: bool,
}

impl Throughput {
    pub const TURN: Duration = Duration::from_millis(10);

    pub fn players<P: All>(&self, place: &Place) -> Result<Players> {
        let region = limit_players::create_region(place, 0)?;
        let mut players = Players::new();
        players.push((Column::Line, Box::new(Ball { region: region.clone(), wait: Wait::Poll, length: 0.1 })));
        players.push((Column::Limit, Box::new(Lines { region, next: 0 })));
        players.push((Column::Ours, Box::new(Source::<Conduit>::new(self, place, "ours")?)));
        if P::PEER.is_some() {
            players.push((Column::Peer, Box::new(Source::<P>::new(self, place, "peer")?)));
        }
        Ok(players)
    }

    pub fn partners<P: All>(&self, place: &Place) -> Result<Partners> {
        let region = limit_players::open_region(place)?;
        let mut partners = Partners::new();
        partners.push((Column::Line, Box::new(Ball { region: region.clone(), wait: Wait::Poll, length: 0.1 })));
        partners.push((Column::Limit, Box::new(Lines { region, next: 0 })));
        if self.copied {
            partners.push((Column::Ours, Box::new(Sink::<Copied>::new(self, place, "ours")?)));
        } else {
            partners.push((Column::Ours, Box::new(Sink::<Conduit>::new(self, place, "ours")?)));
        }
        if P::PEER.is_some() {
            partners.push((Column::Peer, Box::new(Sink::<P>::new(self, place, "peer")?)));
        }
        Ok(partners)
    }

    fn shape() -> Shape {
        Shape { words: 8, depth: Some(WINDOW), ..Shape::default() }
    }
}

/// A cache line per message, and nothing else.
struct Lines {
    region: Rc<ShmRegion>,
    next: u64,
}

impl Player for Lines {
    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let mut lines = Stream::resume(&self.region, self.next);
        let mut patience = Patience::new(second, until);
        let begun = Instant::now();
        let mut sent = 0;
        let goes_on = loop {
            let is_last = until.is_over(sent, Instant::now());
            if !(1..=STEP).all(|at| lines.send(is_last && at == STEP, || patience.goes_on())) {
                break false;
            }
            sent += STEP;
            if is_last {
                break lines.flush(|| patience.goes_on());
            }
        };
        record.messages += sent;
        record.ns += begun.elapsed().as_nanos() as u64;
        self.next = lines.next();
        patience.outcome(goes_on)
    }
}

impl Partner for Lines {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        let mut lines = Stream::resume(&self.region, self.next);
        let received = lines.receive(|| true).unwrap_or_default();
        self.next = lines.next();
        Ok(Answer { received, lost: 0 })
    }
}

struct Source<T: Carries<Message> + Carries<Receipt>> {
    publisher: <T as Carries<Message>>::Publisher,
    receipts: <T as Carries<Receipt>>::Subscriber,
    lossless: bool,
    sent: u64,
    _transport: T,
}

impl<T: Carries<Message> + Carries<Receipt>> Source<T> {
    fn new(plan: &Throughput, place: &Place, whose: &str) -> Result<Self> {
        let transport = T::new(place)?;
        let publisher = Carries::<Message>::publisher(&transport, &format!("{whose}/there"), Throughput::shape())?;
        let back = format!("{whose}/back");
        let receipts =
            retry(&back, || Carries::<Receipt>::subscriber(&transport, &back, Shape { words: 1, ..Shape::default() }))?;
        Ok(Self { publisher, receipts, lossless: plan.lossless, sent: 0, _transport: transport })
    }
}

impl<T: Carries<Message> + Carries<Receipt>> Player for Source<T> {
    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let Self { publisher, receipts, lossless, .. } = self;
        let mut look = watch(second, until);
        let (mut sent, mut received) = (0, 0);
        let begun = Instant::now();
        loop {
            for _ in 0..STEP {
                while *lossless && sent - received >= IN_FLIGHT {
                    received = receive(receipts, Wait::Poll, &mut look, |receipt: &Receipt| receipt[0])?;
                }
                publisher.publish(|message| pattern::write(sent, message))?;
                sent += 1;
            }
            if until.is_over(sent, Instant::now()) {
                break;
            }
        }
        // The last message needs a slot, too.
        while *lossless && received < sent {
            received = receive(receipts, Wait::Poll, &mut look, |receipt: &Receipt| receipt[0])?;
        }
        record.messages += sent;
        record.ns += begun.elapsed().as_nanos() as u64;
        self.sent = sent;
        publisher.publish(|message| message[..2].copy_from_slice(&[END, sent]))
    }

    fn compare(&mut self, answer: &Answer) -> Result<()> {
        compare(self.sent, answer)
    }
}

struct Sink<T: Carries<Message> + Carries<Receipt>> {
    subscriber: <T as Carries<Message>>::Subscriber,
    receipts: <T as Carries<Receipt>>::Publisher,
    plan: Throughput,
    _transport: T,
}

impl<T: Carries<Message> + Carries<Receipt>> Sink<T> {
    fn new(plan: &Throughput, place: &Place, whose: &str) -> Result<Self> {
        let transport = T::new(place)?;
        let shape = Shape { words: 1, ..Shape::default() };
        let receipts = Carries::<Receipt>::publisher(&transport, &format!("{whose}/back"), shape)?;
        let there = format!("{whose}/there");
        let subscriber = retry(&there, || Carries::<Message>::subscriber(&transport, &there, Throughput::shape()))?;
        Ok(Self { subscriber, receipts, plan: *plan, _transport: transport })
    }
}

impl<T: Carries<Message> + Carries<Receipt>> Partner for Sink<T> {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        let Self { subscriber, receipts, plan, .. } = self;
        if !plan.lossless && !plan.batched {
            return listen(subscriber, Wait::Poll);
        }
        let (mut expected, mut answer, mut acknowledged) = (0, Answer::default(), 0);
        loop {
            let mut outcome = Ok(false);
            let take = |message: &Message| {
                if let Ok(false) = outcome {
                    outcome = count(message, &mut expected, &mut answer);
                }
            };
            if plan.batched {
                subscriber.batch(BATCH, take)?;
            } else {
                subscriber.poll(take)?;
            }
            if outcome? {
                return Ok(answer);
            }
            if plan.lossless && answer.lost > 0 {
                return Err(format!("{} messages were lost in spite of the window", answer.lost).into());
            }
            // Whole batches, and all there is at the end: the publisher sends by so many.
            let whole = answer.received / AT_ONCE * AT_ONCE;
            if plan.lossless && whole > acknowledged {
                acknowledged = whole;
                receipts.publish(|receipt| receipt[0] = whole)?;
            }
        }
    }
}

const _: () = assert!(STEP.is_multiple_of(AT_ONCE), "what was sent last is acknowledged");
