//! What a publish costs with many subscribers, each of which receives every message.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::duel::{Answer, Column, Partner, Partners, Player, Players, Record, Until, Wait, receive, watch};
use super::limit_players::{self, Ball};
use super::ours::Conduit;
use super::pattern::{self, END};
use super::processes::{Second, retry};
use super::publish::{count, listen};
use super::transport::{All, Carries, Place, Publish as _, Receive as _, Result, Shape};

type Message = [u64; 8];
type Receipt = [u64; 1];

/// Messages in a row before all subscribers have to have received them.
const BURST: u64 = 32;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FanOut {
    pub subscribers: usize,
    /// Polling, all in one thread; or sleeping, in a thread each.
    pub wait: Wait,
}

impl FanOut {
    pub fn turn(&self) -> Duration {
        match self.wait {
            Wait::Poll => Duration::from_millis(5),
            Wait::Sleep => 16 * self.period(),
        }
    }

    /// Long enough for all to have fallen asleep again.
    fn period(&self) -> Duration {
        Duration::from_micros(200 + 50 * self.subscribers as u64)
    }

    fn shape(&self) -> Shape {
        let depth = Some(2 * BURST);
        let subscribers = Some(self.subscribers.max(2));
        Shape { words: 8, depth, subscribers, sleepers: self.wait == Wait::Sleep, ..Shape::default() }
    }

    /// The same for one subscriber.
    fn one(self) -> Self {
        Self { subscribers: 1, ..self }
    }

    pub fn players<P: All>(&self, place: &Place) -> Result<Players> {
        let region = limit_players::create_region(place, 0)?;
        let mut players = Players::new();
        players.push((Column::Line, Box::new(Ball { region, wait: Wait::Poll, length: 0.2 })));
        players.push((Column::Reference, Box::new(Speaker::<Conduit>::new(self.one(), self.period(), place, "one")?)));
        players.push((Column::Ours, Box::new(Speaker::<Conduit>::new(*self, self.period(), place, "ours")?)));
        if P::PEER.is_some() {
            players.push((Column::Peer, Box::new(Speaker::<P>::new(*self, self.period(), place, "peer")?)));
        }
        Ok(players)
    }

    pub fn partners<P: All>(&self, place: &Place) -> Result<Partners> {
        let region = limit_players::open_region(place)?;
        let mut partners = Partners::new();
        partners.push((Column::Line, Box::new(Ball { region, wait: Wait::Poll, length: 0.2 })));
        partners.push((Column::Reference, crowd::<Conduit>(self.one(), place, "one")?));
        partners.push((Column::Ours, crowd::<Conduit>(*self, place, "ours")?));
        if P::PEER.is_some() {
            partners.push((Column::Peer, crowd::<P>(*self, place, "peer")?));
        }
        Ok(partners)
    }
}

fn crowd<T: Carries<Message> + Carries<Receipt>>(plan: FanOut, place: &Place, whose: &str) -> Result<Box<dyn Partner>> {
    Ok(match plan.wait {
        Wait::Poll => Box::new(Crowd::<T>::new(plan, place, whose)?),
        Wait::Sleep => Box::new(Sleepers::new::<T>(plan, place, whose)?),
    })
}

struct Speaker<T: Carries<Message> + Carries<Receipt>> {
    publisher: <T as Carries<Message>>::Publisher,
    receipts: Option<<T as Carries<Receipt>>::Subscriber>,
    plan: FanOut,
    period: Duration,
    sent: u64,
    _transport: T,
}

impl<T: Carries<Message> + Carries<Receipt>> Speaker<T> {
    fn new(plan: FanOut, period: Duration, place: &Place, whose: &str) -> Result<Self> {
        let transport = T::new(place)?;
        let publisher = Carries::<Message>::publisher(&transport, &format!("{whose}/there"), plan.shape())?;
        let back = format!("{whose}/back");
        let shape = Shape { words: 1, ..Shape::default() };
        let open = || retry(&back, || Carries::<Receipt>::subscriber(&transport, &back, shape));
        let receipts = (plan.wait == Wait::Poll).then(open).transpose()?;
        Ok(Self { publisher, receipts, plan, period, sent: 0, _transport: transport })
    }
}

impl<T: Carries<Message> + Carries<Receipt>> Player for Speaker<T> {
    fn times(&self) -> u64 {
        if self.receipts.is_some() { BURST } else { 1 }
    }

    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let Self { publisher, receipts, .. } = self;
        let mut look = watch(second, until);
        let mut sent = 0;
        let mut next = Instant::now();
        loop {
            if receipts.is_none() {
                next = next.max(Instant::now()) + self.period;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            let begun = Instant::now();
            for _ in 0..if receipts.is_some() { BURST } else { 1 } {
                publisher.publish(|message| pattern::write(sent, message))?;
                sent += 1;
            }
            let ended = Instant::now();
            record.times.record((ended - begun).as_nanos() as u64);
            if let Some(receipts) = receipts {
                let received = receive(receipts, Wait::Poll, &mut look, |receipt: &Receipt| receipt[0])?;
                if received != sent {
                    return Err(format!("{received} of {sent} messages were received").into());
                }
            }
            if until.is_over(sent, ended) {
                break;
            }
        }
        self.sent = sent;
        publisher.publish(|message| message[..2].copy_from_slice(&[END, sent]))
    }

    fn compare(&mut self, answer: &Answer) -> Result<()> {
        let expected = self.sent * self.plan.subscribers as u64;
        if answer.received == expected && answer.lost == 0 {
            return Ok(());
        }
        Err(format!("{} of {expected} messages were received, {} lost", answer.received, answer.lost).into())
    }
}

/// Subscribers that one thread polls in turn.
struct Crowd<T: Carries<Message> + Carries<Receipt>> {
    subscribers: Vec<<T as Carries<Message>>::Subscriber>,
    receipts: <T as Carries<Receipt>>::Publisher,
    _transport: T,
}

impl<T: Carries<Message> + Carries<Receipt>> Crowd<T> {
    fn new(plan: FanOut, place: &Place, whose: &str) -> Result<Self> {
        let transport = T::new(place)?;
        let shape = Shape { words: 1, ..Shape::default() };
        let receipts = Carries::<Receipt>::publisher(&transport, &format!("{whose}/back"), shape)?;
        let there = format!("{whose}/there");
        let open = |_| retry(&there, || Carries::<Message>::subscriber(&transport, &there, plan.shape()));
        let subscribers = (0..plan.subscribers).map(open).collect::<Result<_>>()?;
        Ok(Self { subscribers, receipts, _transport: transport })
    }
}

impl<T: Carries<Message> + Carries<Receipt>> Partner for Crowd<T> {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        let mut states = vec![(0, Answer::default()); self.subscribers.len()];
        let (mut ended, mut acknowledged) = (0, 0);
        while ended < states.len() {
            for (subscriber, (expected, answer)) in self.subscribers.iter_mut().zip(&mut states) {
                if let Some(is_last) = subscriber.poll(|message: &Message| count(message, expected, answer))? {
                    ended += usize::from(is_last?);
                }
            }
            // All have received a burst.
            let least = states.iter().map(|(expected, _)| *expected).min().unwrap_or_default();
            if least >= acknowledged + BURST {
                acknowledged = least;
                self.receipts.publish(|receipt| receipt[0] = least)?;
            }
        }
        Ok(sum(states.into_iter().map(|(_, answer)| answer)))
    }
}

fn sum(answers: impl Iterator<Item = Answer>) -> Answer {
    let add = |all: Answer, one: Answer| Answer { received: all.received + one.received, lost: all.lost + one.lost };
    answers.fold(Answer::default(), add)
}

/// Subscribers that sleep, in a thread each.
struct Sleepers {
    threads: Vec<(Sender<()>, Receiver<Result<Answer>>)>,
}

impl Sleepers {
    fn new<T: Carries<Message>>(plan: FanOut, place: &Place, whose: &str) -> Result<Self> {
        let start = |_| {
            let (go, going) = mpsc::channel();
            let (answers, answer) = mpsc::channel();
            let (place, topic) = (place.clone(), format!("{whose}/there"));
            // A peer's ports may stay in the thread that has made them.
            let sleep = move || {
                let opened = T::new(&place).and_then(|transport| {
                    Ok((retry(&topic, || transport.subscriber(&topic, plan.shape()))?, transport))
                });
                let _ =
                    answers.send(opened.as_ref().map(|_| Answer::default()).map_err(|error| error.to_string().into()));
                let Ok((mut subscriber, _transport)) = opened else { return };
                while going.recv().is_ok() && answers.send(listen(&mut subscriber, Wait::Sleep)).is_ok() {}
            };
            thread::Builder::new().spawn(sleep)?;
            answer.recv()??;
            Ok((go, answer))
        };
        Ok(Self { threads: (0..plan.subscribers).map(start).collect::<Result<_>>()? })
    }
}

impl Partner for Sleepers {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        for (go, _) in &self.threads {
            go.send(())?;
        }
        started()?;
        let answers = self.threads.iter().map(|(_, answer)| answer.recv()?).collect::<Result<Vec<_>>>()?;
        Ok(sum(answers.into_iter()))
    }
}
