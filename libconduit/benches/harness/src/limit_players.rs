//! What the hardware and the kernel take: the players that no transport can beat.

use std::rc::Rc;

use crate::limits::{self, PingPong, Relay};
use conduit::{Domain, OpenError, ShmRegion};

use super::duel::{Answer, Partner, Patience, Player, Record, Until, Wait};
use super::pattern::{self, ANSWER};
use super::processes::{Second, retry};
use super::transport::{Failure, Place, Result};

const NAME: &str = "limits";
/// Messages that are filled and read in some steps of the clock: 64 KiB.
pub const SHORT_WORDS: usize = (64 << 10) / size_of::<u64>();

/// The memory that the limits are measured in, in the first process.
pub fn create_region(place: &Place, bytes: usize) -> Result<Rc<ShmRegion>> {
    let domain = Domain::new(&place.directory).without_registry();
    Ok(Rc::new(ShmRegion::builder().domain(&domain).create(NAME, bytes.max(limits::REGION_BYTES))?))
}

/// The same memory in the second process.
pub fn open_region(place: &Place) -> Result<Rc<ShmRegion>> {
    let domain = Domain::new(&place.directory).without_registry();
    retry("the memory of the limits", || match ShmRegion::builder().domain(&domain).open(NAME) {
        Ok(region) => Ok(Some(Rc::new(region))),
        Err(OpenError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// A word that is handed over and back: a cache line that moves, or a futex that wakes.
pub struct Ball {
    pub region: Rc<ShmRegion>,
    pub wait: Wait,
    /// Of a turn.
    pub length: f64,
}

impl Player for Ball {
    fn times(&self) -> u64 {
        2
    }

    fn length(&self) -> f64 {
        self.length
    }

    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let game = PingPong::new(&self.region, self.wait.into());
        let mut patience = Patience::new(second, until);
        let mut round = || if game.serve(|| patience.goes_on()) { Ok(()) } else { Err("the ball is lost".into()) };
        // The other process may still have to wake up.
        let played = round().and_then(|()| record.time_rounds(until, self.wait == Wait::Poll, round));
        let goes_on = played.is_ok() && game.end(|| patience.goes_on());
        patience.outcome(goes_on)
    }
}

impl Partner for Ball {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        PingPong::new(&self.region, self.wait.into()).answer(|| true);
        Ok(Answer::default())
    }
}

/// Filling and reading buffers in shared memory: the bandwidth of memory and caches.
pub struct Buffers {
    region: Rc<ShmRegion>,
    relay: Relay,
    is_short: bool,
}

impl Buffers {
    pub fn new(region: Rc<ShmRegion>, wait: Wait, is_first: bool, words: usize, buffers: usize) -> Self {
        let is_short = wait == Wait::Poll && words <= SHORT_WORDS;
        Self { region, relay: Relay::new(wait.into(), is_first, words, buffers), is_short }
    }
}

impl Player for Buffers {
    fn times(&self) -> u64 {
        2
    }

    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()> {
        let Self { region, relay, .. } = self;
        let mut patience = Patience::new(second, until);
        let mut damage: Option<Failure> = None;
        let mut index = 0;
        let mut round = || {
            let fill = |words: &mut [u64]| pattern::write(index, words);
            let read = |words: &[u64]| damage = pattern::check(index | ANSWER, words).err();
            let goes_on = relay.serve(region, fill, read, || patience.goes_on()) && damage.is_none();
            index += 1;
            if goes_on { Ok(()) } else { Err("the ball is lost".into()) }
        };
        let played = round().and_then(|()| record.time_rounds(until, self.is_short, round));
        if let Some(damage) = damage {
            return Err(damage);
        }
        let goes_on = played.is_ok() && relay.end(region, || patience.goes_on());
        patience.outcome(goes_on)
    }
}

impl Partner for Buffers {
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer> {
        started()?;
        let Self { region, relay, .. } = self;
        let (index, damage) = (std::cell::Cell::new(0), std::cell::Cell::new(None));
        let read = |words: &[u64]| {
            if let Err(failure) = pattern::check(index.get(), words) {
                damage.set(Some(failure));
            }
        };
        let fill = |words: &mut [u64]| {
            pattern::write(index.get() | ANSWER, words);
            index.set(index.get() + 1);
        };
        relay.answer(region, read, fill, || true);
        match damage.into_inner() {
            Some(damage) => Err(damage),
            None => Ok(Answer { received: index.get(), lost: 0 }),
        }
    }
}
