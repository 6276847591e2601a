//! What one publish costs: with nobody there, and with a subscriber that polls, sleeps, or is attached and absent.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::limits::PingPong;
use conduit::ShmRegion;
use conduit::internal::shm::clock::now_ns;
use serde::{Deserialize, Serialize};

use super::duel::{Answer, Column, Partner, Partners, Patience, Player, Players, Record, Until, Wait, receive};
use super::limit_players::{self, Ball};
use super::ours::Conduit;
use super::pattern::{self, END};
use super::processes::{Second, retry};
use super::transport::{All, Carries, Place, Publish as _, Result, Shape};

/// Words of a message: 64 bytes.
type Message = [u64; 8];

/// Messages that are published between two looks at the clock when nothing comes between them. Fewer than any of the
/// intervals of the library at which it looks after something else.
const BATCH: u64 = 256;

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    Nobody,
    Polling,
    Sleeping,
    /// It has subscribed and does not receive.
    Absent,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Publishing {
    pub audience: Audience,
    /// Microseconds from one message to the next; back to back if there is none.
    pub period_us: Option<u64>,
    pub without_stamps: bool,
}

impl Publishing {
    pub fn turn(&self) -> Duration {
        Duration::from_millis(if self.period_us.is_some() { 15 } else { 4 })
    }

    fn period(&self) -> Option<Duration> {
        self.period_us.map(Duration::from_micros)
    }

    /// The period, if the subscriber has time to fall asleep between two messages.
    fn wakes_every(&self) -> Option<Duration> {
        self.period().filter(|&period| period >= Duration::from_micros(100))
    }

    fn shape(&self) -> Shape {
        let sleepers = self.audience == Audience::Sleeping;
        Shape { words: size_of::<Message>() / 8, sleepers, without_stamps: self.without_stamps, ..Shape::default() }
    }

    pub fn players<P: All>(&self, place: &Place) -> Result<Players> {
        let region = limit_players::create_region(place, 0)?;
        let mut players = Players::new();
        players.push((Column::Line, Box::new(Ball { region: region.clone(), wait: Wait::Poll, length: 0.2 })));
        match self.audience {
            Audience::Polling => {
                players.push((Column::Limit, Box::new(Ball { region, wait: Wait::Poll, length: 1.0 })));
            }
            Audience::Sleeping => {
                if let Some(period) = self.wakes_every() {
                    players.push((Column::Limit, Box::new(Bell { region, period })));
                }
            }
            Audience::Nobody | Audience::Absent if self.without_stamps => {}
            Audience::Nobody | Audience::Absent => {
                players.push((Column::Limit, Box::new(Clock { period: self.period() })));
            }
        }
        players.push((Column::Ours, Box::new(Publisher::<Conduit>::new(self, place, "ours")?)));
        if P::PEER.is_some() {
            players.push((Column::Peer, Box::new(Publisher::<P>::new(self, place, "peer")?)));
        }
        Ok(players)
    }

    pub fn partners<P: All>(&self, place: &Place) -> Result<Partners> {
        let region = limit_players::open_region(place)?;
        let mut partners = Partners::new();
        partners.push((Column::Line, Box::new(Ball { region: region.clone(), wait: Wait::Poll, length: 0.2 })));
        partners.push((
            Column::Limit,
            match self.audience {
                Audience::Polling => Box::new(Ball { region, wait: Wait::Poll, length: 1.0 }),
                Audience::Sleeping => Box::new(Ball { region, wait: Wait::Sleep, length: 1.0 }),
                Audience::Nobody | Audience::Absent => Box::new(Listener::<Conduit> { subscriber: None, wait: None }),
            },
        ));
        partners.push((Column::Ours, Box::new(Listener::<Conduit>::new(self, place, "ours")?)));
        if P::PEER.is_some() {
            partners.push((Column::Peer, Box::new(Listener::<P>::new(self, place, "peer")?)));
        }
        Ok(partners)
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

/// Measures something again and again: in batches back to back, or one by one with a period.
///
/// Returns how often.
#[inline]
fn measure(
    period: Option<Duration>,
    until: Until,
    record: &mut Record,
    mut act: impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let mut acts = 0;
    let mut next = Instant::now();
    loop {
        let begun = match period {
            Some(period) => {
                await_time(&mut next, period);
                let begun = Instant::now();
                act(acts)?;
                acts += 1;
                begun
            }
            None => {
                let begun = Instant::now();
                for _ in 0..BATCH {
                    act(acts)?;
                    acts += 1;
                }
                begun
            }
        };
        let ended = Instant::now();
        record.times.record((ended - begun).as_nanos() as u64);
        // A period that was too short does not pile up.
        next = next.max(ended);
        if until.is_over(acts, ended) {
            return Ok(acts);
        }
    }
}

/// One look at the clock that stamps messages; or none, between the two that measure.
struct Clock {
    period: Option<Duration>,
}

impl Player for Clock {
    fn times(&self) -> u64 {
        if self.period.is_some() { 1 } else { BATCH }
    }

    fn turn(&mut self, _second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let spaced = self.period.is_some();
        let look = |_| {
            if !spaced {
                black_box(now_ns());
            }
            Ok(())
        };
        measure(self.period, until, record, look)?;
        Ok(())
    }
}

/// The call that wakes a sleeper.
struct Bell {
    region: Rc<ShmRegion>,
    period: Duration,
}

impl Player for Bell {
    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let game = PingPong::new(&self.region, crate::limits::Wait::Sleep);
        let mut patience = Patience::new(second, until);
        let mut rounds = 0;
        let mut next = Instant::now();
        loop {
            await_time(&mut next, self.period);
            let begun = Instant::now();
            game.throw();
            let ended = Instant::now();
            record.times.record((ended - begun).as_nanos() as u64);
            rounds += 1;
            let goes_on = game.catch(|| patience.goes_on());
            next = next.max(Instant::now());
            if !goes_on {
                return patience.outcome(false);
            }
            if until.is_over(rounds, ended) {
                let ended = game.end(|| patience.goes_on());
                return patience.outcome(ended);
            }
        }
    }
}

struct Publisher<T: Carries<Message>> {
    publisher: T::Publisher,
    period: Option<Duration>,
    /// Messages of this turn, if somebody counts them.
    sent: u64,
    is_heard: bool,
    _transport: T,
}

impl<T: Carries<Message>> Publisher<T> {
    fn new(plan: &Publishing, place: &Place, whose: &str) -> Result<Self> {
        let transport = T::new(place)?;
        let publisher = transport.publisher(whose, plan.shape())?;
        let is_heard = matches!(plan.audience, Audience::Polling | Audience::Sleeping);
        Ok(Self { publisher, period: plan.period(), sent: 0, is_heard, _transport: transport })
    }
}

impl<T: Carries<Message>> Player for Publisher<T> {
    fn times(&self) -> u64 {
        if self.period.is_some() { 1 } else { BATCH }
    }

    fn turn(&mut self, _second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let publisher = &mut self.publisher;
        let act = |index| publisher.publish(|message| pattern::write(index, message));
        self.sent = measure(self.period, until, record, act)?;
        let sent = self.sent;
        publisher.publish(|message| message[..2].copy_from_slice(&[END, sent]))
    }

    fn compare(&mut self, answer: &Answer) -> Result<()> {
        compare(if self.is_heard { self.sent } else { 0 }, answer)
    }
}

/// What was received and what was lost is what was sent.
pub fn compare(sent: u64, answer: &Answer) -> Result<()> {
    let Answer { received, lost } = *answer;
    if received + lost == sent {
        return Ok(());
    }
    Err(format!("of {sent} messages {received} arrived and {lost} were lost: this must not happen, please report it")
        .into())
}

struct Listener<T: Carries<Message>> {
    subscriber: Option<(T::Subscriber, T)>,
    wait: Option<Wait>,
}

impl<T: Carries<Message>> Listener<T> {
    fn new(plan: &Publishing, place: &Place, whose: &str) -> Result<Self> {
        let wait = match plan.audience {
            Audience::Nobody => return Ok(Self { subscriber: None, wait: None }),
            Audience::Polling => Some(Wait::Poll),
            Audience::Sleeping => Some(Wait::Sleep),
            Audience::Absent => None,
        };
        let transport = T::new(place)?;
        let subscriber = retry(whose, || transport.subscriber(whose, plan.shape()))?;
        Ok(Self { subscriber: Some((subscriber, transport)), wait })
    }
}

impl<T: Carries<Message>> Partner for Listener<T> {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        match (&mut self.subscriber, self.wait) {
            (Some((subscriber, _)), Some(wait)) => listen(subscriber, wait),
            _ => Ok(Answer::default()),
        }
    }
}

/// Receives until the end; counts what is missing.
pub fn listen(subscriber: &mut impl super::transport::Receive<Message>, wait: Wait) -> Result<Answer> {
    let mut expected = 0;
    let mut answer = Answer::default();
    loop {
        if receive(subscriber, wait, || Ok(()), |message| count(message, &mut expected, &mut answer))?? {
            return Ok(answer);
        }
    }
}

/// Takes a message into account; returns whether it is the last one.
#[inline]
pub fn count(message: &Message, expected: &mut u64, answer: &mut Answer) -> Result<bool> {
    let is_last = note(message[0], message[1], expected, answer)?;
    if !is_last {
        pattern::check(message[0], message)?;
    }
    Ok(is_last)
}

/// Takes the index of a message into account; returns whether the message is the last one, which says how many were sent.
#[inline]
pub fn note(index: u64, sent: u64, expected: &mut u64, answer: &mut Answer) -> Result<bool> {
    let is_last = index == END;
    let index = if is_last { sent } else { index };
    if index < *expected {
        return Err(format!("message {index} comes after message {}", *expected - 1).into());
    }
    answer.lost += index - *expected;
    *expected = index;
    if !is_last {
        answer.received += 1;
        *expected += 1;
    }
    Ok(is_last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_and_what_is_out_of_order_refused() {
        let message = |index| {
            let mut words = [0; 8];
            pattern::write(index, &mut words);
            words
        };
        let (mut expected, mut answer) = (0, Answer::default());
        for index in [0, 1, 4] {
            assert!(!count(&message(index), &mut expected, &mut answer).unwrap());
        }
        assert!(count(&message(4), &mut expected, &mut answer).is_err());
        assert!(count(&[END, 7, 0, 0, 0, 0, 0, 0], &mut expected, &mut answer).unwrap());
        assert_eq!((answer.received, answer.lost), (3, 4));
        compare(7, &answer).unwrap();
        assert!(compare(8, &answer).is_err());
    }
}
