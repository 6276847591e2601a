//! The limits of the machine as contestants, which no transport can beat.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::publishing::{PublishPace, await_time};
use crate::limits::{LimitsRegion, LineStream, PingPong, PrivateBuffers, Relay};
use crate::machine::now_ns;
use crate::partner::{Partner, Patience};
use crate::pattern::{self, ANSWER};
use crate::turns::{Contestant, Counts, Measurements, Started, Until};
use crate::{BenchError, Result, Wait};

/// Messages up to this size are written and read in a few steps of the clock: 64 KiB.
pub const SHORT_WORDS: usize = (64 << 10) / size_of::<u64>();
/// Cache lines that are sent between two reads of the clock.
const LINE_STEP: u64 = 64;

/// A word that is handed over and back: a cache line that moves, or a futex that wakes.
pub struct PingPongLimit {
    /// The word's.
    pub region: Rc<LimitsRegion>,
    /// How both processes wait for it.
    pub wait: Wait,
    /// See [`Contestant::turn_share`].
    pub turn_share: f64,
    /// Whether round trips are timed in groups, too.
    pub is_grouped: bool,
}

impl Contestant for PingPongLimit {
    fn spans(&self) -> u64 {
        2
    }

    fn turn_share(&self) -> f64 {
        self.turn_share
    }

    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let word = PingPong::new(&self.region, self.wait);
        let mut patience = Patience::new(partner, until);
        let mut round = || if word.serve(|| patience.lasts()) { Ok(()) } else { Err("no answer".into()) };
        // The first round waits for the other process to wake up.
        let timed = round().and_then(|()| into.time_rounds(until, self.is_grouped, round));
        let is_done = timed.is_ok() && word.end(|| patience.lasts());
        patience.outcome(is_done)
    }

    fn answer(&mut self, started: Started<'_>) -> Result<Counts> {
        started()?;
        PingPong::new(&self.region, self.wait).answer(|| (), || true);
        Ok(Counts::default())
    }
}

/// Buffers in shared memory that are filled and read: the bandwidth of memory and caches.
pub struct RelayLimit {
    relay: Relay,
    is_grouped: bool,
}

impl RelayLimit {
    /// Over the buffers of a region.
    pub fn new(region: &Rc<LimitsRegion>, wait: Wait) -> Result<Self> {
        let relay = Relay::new(region, wait)?;
        let is_grouped = wait == Wait::Poll && relay.words() <= SHORT_WORDS;
        Ok(Self { relay, is_grouped })
    }
}

impl Contestant for RelayLimit {
    fn spans(&self) -> u64 {
        2
    }

    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let Self { relay, is_grouped } = self;
        let mut patience = Patience::new(partner, until);
        let mut damage: Option<BenchError> = None;
        let mut index = 0;
        let mut round = || {
            let fill = |words: &mut [u64]| pattern::write(index, words);
            let read = |words: &[u64]| damage = pattern::check(index | ANSWER, words).err();
            let is_done = relay.serve(fill, read, || patience.lasts()) && damage.is_none();
            index += 1;
            if is_done { Ok(()) } else { Err("no answer".into()) }
        };
        let timed = round().and_then(|()| into.time_rounds(until, *is_grouped, round));
        if let Some(damage) = damage {
            return Err(damage);
        }
        let is_done = timed.is_ok() && relay.end(|| patience.lasts());
        patience.outcome(is_done)
    }

    fn answer(&mut self, started: Started<'_>) -> Result<Counts> {
        started()?;
        let (index, damage) = (Cell::new(0), Cell::new(None));
        let read = |words: &[u64]| {
            if let Err(error) = pattern::check(index.get(), words) {
                damage.set(Some(error));
            }
        };
        let fill = |words: &mut [u64]| {
            pattern::write(index.get() | ANSWER, words);
            index.set(index.get() + 1);
        };
        self.relay.answer(read, fill, || true);
        damage.into_inner().map_or(Ok(Counts { received: index.get(), lost: 0 }), Err)
    }
}

/// A cache line per message and nothing else.
pub struct LineLimit {
    /// The lines'.
    pub region: Rc<LimitsRegion>,
    /// Number of the next line.
    pub next: u64,
}

impl Contestant for LineLimit {
    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let mut lines = LineStream::resume(&self.region, self.next);
        let mut patience = Patience::new(partner, until);
        let begun = Instant::now();
        let mut sent = 0;
        let is_done = loop {
            let is_last = until.is_over(sent, Instant::now());
            if !(1..=LINE_STEP).all(|at| lines.send(is_last && at == LINE_STEP, || patience.lasts())) {
                break false;
            }
            sent += LINE_STEP;
            if is_last {
                break lines.flush(|| patience.lasts());
            }
        };
        into.messages += sent;
        into.ns += begun.elapsed().as_nanos() as u64;
        self.next = lines.next();
        patience.outcome(is_done)
    }

    fn answer(&mut self, started: Started<'_>) -> Result<Counts> {
        started()?;
        let mut lines = LineStream::resume(&self.region, self.next);
        let received = lines.receive(|| true).unwrap_or_default();
        self.next = lines.next();
        Ok(Counts { received, lost: 0 })
    }
}

/// The read of the clock that stamps a message; of single messages none but the two that measure.
pub struct ClockLimit(pub PublishPace);

impl Contestant for ClockLimit {
    fn spans(&self) -> u64 {
        self.0.batch()
    }

    fn measure(&mut self, _partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let is_single = self.0.batch() == 1;
        let read = |_| {
            if !is_single {
                black_box(now_ns());
            }
            Ok(())
        };
        self.0.time(until, into, read).map(drop)
    }
}

/// The system call that wakes a sleeper.
pub struct WakeLimit {
    /// The word's.
    pub region: Rc<LimitsRegion>,
    /// From one call to the next.
    pub period: Duration,
}

impl Contestant for WakeLimit {
    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let word = PingPong::new(&self.region, Wait::Sleep);
        let mut patience = Patience::new(partner, until);
        let mut next = Instant::now();
        for rounds in 1.. {
            await_time(&mut next, self.period);
            let begun = Instant::now();
            word.hand_over();
            let ended = Instant::now();
            into.times.record((ended - begun).as_nanos() as u64);
            if !word.take_back(|| patience.lasts()) {
                return patience.outcome(false);
            }
            next = next.max(Instant::now());
            if until.is_over(rounds, ended) {
                break;
            }
        }
        let is_done = word.end(|| patience.lasts());
        patience.outcome(is_done)
    }

    fn answer(&mut self, started: Started<'_>) -> Result<Counts> {
        started()?;
        PingPong::new(&self.region, Wait::Sleep).answer(|| (), || true);
        Ok(Counts::default())
    }
}

/// Filling and reading private memory. The parts of a round are the two.
pub struct MemoryLimit(pub PrivateBuffers);

impl Contestant for MemoryLimit {
    fn measure(&mut self, _partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        into.parts.resize_with(2, || crate::statistics::Timings::new(1));
        for rounds in 1.. {
            let begun = Instant::now();
            self.0.fill();
            let filled = Instant::now();
            self.0.read();
            let ended = Instant::now();
            into.times.record((ended - begun).as_nanos() as u64);
            into.parts[0].record((filled - begun).as_nanos() as u64);
            into.parts[1].record((ended - filled).as_nanos() as u64);
            if until.is_over(rounds, ended) {
                break;
            }
        }
        Ok(())
    }
}

/// The second process's half of what the first one does alone.
pub struct Bystander;

impl Contestant for Bystander {}
