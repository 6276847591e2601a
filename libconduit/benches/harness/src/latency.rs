//! One way of a message: half of a round trip over two topics.

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::Relay;
use conduit::ShmRegion;
use serde::{Deserialize, Serialize};

use super::duel::{Answer, Column, Partner, Partners, Player, Players, Record, Until, Wait, receive, watch};
use super::limit_players::{self, Ball, Buffers};
use super::ours::{Conduit, Copied};
use super::pattern::{self, ANSWER, END, Header, Touch, Whole};
use super::processes::{Second, retry};
use super::transport::{All, Carries, Place, Publish, Result, Shape, Words};

/// What is sent, and how.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub bytes: usize,
    /// Every byte is written and read, not just the first cache line.
    pub whole: bool,
    pub wait: Wait,
    /// Messages are copied out instead of read in place.
    pub copied: bool,
    /// Slots of a topic; by default as many as a topic has by default.
    pub depth: Option<u64>,
    /// Measure messages of 64 bytes beside.
    pub with_small: bool,
}

/// Slots of a topic by default.
const DEFAULT_DEPTH: u64 = 16;

impl Latency {
    fn words(&self) -> usize {
        self.bytes / size_of::<u64>()
    }

    fn depth(&self) -> u64 {
        self.depth.unwrap_or(DEFAULT_DEPTH)
    }

    /// Whether filling and reading takes longer than handing over.
    fn is_filled(&self) -> bool {
        self.whole && self.bytes > 64
    }

    pub fn turn(&self) -> Duration {
        Duration::from_millis(match (self.wait, self.is_filled()) {
            (Wait::Poll, true) if self.bytes > 1 << 20 => 30,
            (Wait::Poll, _) => 5,
            (Wait::Sleep, _) => 25,
        })
    }

    /// Rounds in which every slot of every ring is used twice.
    pub fn warm_up_rounds(&self) -> u64 {
        2 * self.depth()
    }

    pub fn players<P: All>(&self, place: &Place) -> Result<Players> {
        let mut players = Players::new();
        let mut ends = Players::new();
        if !place.limits_first {
            self.ends::<P>(place, true, &mut |column, end| ends.push((column, end.player())))?;
        }
        let (line, limit) = self.limits(limit_players::create_region(place, self.limit_bytes())?, true);
        players.extend([(Column::Line, line.player()), (Column::Limit, limit.player())]);
        if place.limits_first {
            self.ends::<P>(place, true, &mut |column, end| ends.push((column, end.player())))?;
        }
        players.extend(ends);
        Ok(players)
    }

    pub fn partners<P: All>(&self, place: &Place) -> Result<Partners> {
        let mut partners = Partners::new();
        if !place.limits_first {
            self.ends::<P>(place, false, &mut |column, end| partners.push((column, end.partner())))?;
        }
        let (line, limit) = self.limits(limit_players::open_region(place)?, false);
        partners.extend([(Column::Line, line.partner()), (Column::Limit, limit.partner())]);
        if place.limits_first {
            self.ends::<P>(place, false, &mut |column, end| partners.push((column, end.partner())))?;
        }
        Ok(partners)
    }

    fn limit_bytes(&self) -> usize {
        if self.is_filled() { Relay::region_bytes(self.words(), self.depth() as usize) } else { 0 }
    }

    fn limits(&self, region: Rc<ShmRegion>, is_first: bool) -> (Box<dyn Both>, Box<dyn Both>) {
        let line = Ball { region: region.clone(), wait: Wait::Poll, length: 0.2 };
        let limit: Box<dyn Both> = if self.is_filled() {
            Box::new(Buffers::new(region, self.wait, is_first, self.words(), self.depth() as usize))
        } else {
            Box::new(Ball { region, wait: self.wait, length: 1.0 })
        };
        (Box::new(line), limit)
    }

    /// Both processes make their ends in the same order: each waits for the other's topics.
    fn ends<P: All>(&self, place: &Place, is_first: bool, add: &mut dyn FnMut(Column, Box<dyn Both>)) -> Result<()> {
        match (self.copied, self.bytes) {
            (false, 8) => self.ends_of::<Conduit, P, [u64; 1]>(place, is_first, add)?,
            (true, 8) => self.ends_of::<Copied, P, [u64; 1]>(place, is_first, add)?,
            (false, 64) => self.ends_of::<Conduit, P, [u64; 8]>(place, is_first, add)?,
            (true, 64) => self.ends_of::<Copied, P, [u64; 8]>(place, is_first, add)?,
            (false, 1024) => self.ends_of::<Conduit, P, [u64; 128]>(place, is_first, add)?,
            (true, 1024) => self.ends_of::<Copied, P, [u64; 128]>(place, is_first, add)?,
            (false, _) => self.ends_of::<Conduit, P, [u64]>(place, is_first, add)?,
            (true, bytes) => return Err(format!("messages of {bytes} bytes are not copied out").into()),
        }
        if self.with_small {
            let small = Self { bytes: 64, whole: true, depth: None, ..*self };
            add(Column::Reference, small.end::<Conduit, [u64; 8]>(place, is_first, "reference")?);
        }
        Ok(())
    }

    fn ends_of<O: Carries<M>, P: Carries<M>, M: Words + ?Sized>(
        &self,
        place: &Place,
        is_first: bool,
        add: &mut dyn FnMut(Column, Box<dyn Both>),
    ) -> Result<()> {
        add(Column::Ours, self.end::<O, M>(place, is_first, "ours")?);
        if P::PEER.is_some() {
            add(Column::Peer, self.end::<P, M>(place, is_first, "peer")?);
        }
        Ok(())
    }

    fn end<T: Carries<M>, M: Words + ?Sized>(
        &self,
        place: &Place,
        is_first: bool,
        whose: &str,
    ) -> Result<Box<dyn Both>> {
        if self.whole {
            return Ok(Box::new(End::<T, M, Whole>::new(self, place, is_first, whose)?));
        }
        Ok(Box::new(End::<T, M, Header>::new(self, place, is_first, whose)?))
    }
}

/// What can play either part.
trait Both {
    fn player(self: Box<Self>) -> Box<dyn Player>;
    fn partner(self: Box<Self>) -> Box<dyn Partner>;
}

impl<T: Player + Partner + 'static> Both for T {
    fn player(self: Box<Self>) -> Box<dyn Player> {
        self
    }

    fn partner(self: Box<Self>) -> Box<dyn Partner> {
        self
    }
}

/// One process's end of two topics. The ports are dropped before what they were made with.
struct End<T: Carries<M>, M: ?Sized, U> {
    publisher: T::Publisher,
    subscriber: T::Subscriber,
    wait: Wait,
    is_short: bool,
    _touch: PhantomData<U>,
    _transport: T,
}

impl<T: Carries<M>, M: Words + ?Sized, U: Touch> End<T, M, U> {
    fn new(latency: &Latency, place: &Place, is_first: bool, whose: &str) -> Result<Self> {
        let transport = T::new(place)?;
        let (sleepers, words) = (latency.wait == Wait::Sleep, latency.words());
        let shape = Shape { words, depth: latency.depth, sleepers, ..Shape::default() };
        let (there, back) = (format!("{whose}/there"), format!("{whose}/back"));
        let (sends, receives) = if is_first { (there, back) } else { (back, there) };
        let publisher = transport.publisher(&sends, shape)?;
        let subscriber = retry(&receives, || transport.subscriber(&receives, shape))?;
        let wait = latency.wait;
        let is_short = wait == Wait::Poll && (!latency.whole || words <= limit_players::SHORT_WORDS);
        Ok(Self { publisher, subscriber, wait, is_short, _touch: PhantomData, _transport: transport })
    }

    #[inline]
    fn send(&mut self, index: u64) -> Result<()> {
        self.publisher.publish(|message| pattern::write(index, U::of_mut(message.as_mut())))
    }
}

impl<T: Carries<M>, M: Words + ?Sized, U: Touch> Player for End<T, M, U> {
    fn times(&self) -> u64 {
        2
    }

    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let mut look = watch(second, until);
        let is_short = self.is_short;
        let mut index = 0;
        let mut round = || {
            self.send(index)?;
            let read = |message: &M| pattern::check(index | ANSWER, U::of(message.as_ref()));
            receive(&mut self.subscriber, self.wait, &mut look, read)??;
            index += 1;
            Ok(())
        };
        // The other process may still have to wake up.
        round()?;
        record.time_rounds(until, is_short, round)?;
        self.publisher.publish(|message| message.as_mut()[0] = END)
    }
}

impl<T: Carries<M>, M: Words + ?Sized, U: Touch> Partner for End<T, M, U> {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        let mut index = 0;
        loop {
            let read = |message: &M| match message.as_ref() {
                [END, ..] => Ok(false),
                words => pattern::check(index, U::of(words)).map(|()| true),
            };
            if !receive(&mut self.subscriber, self.wait, || Ok(()), read)?? {
                return Ok(Answer { received: index, lost: 0 });
            }
            self.send(index | ANSWER)?;
            index += 1;
        }
    }
}
