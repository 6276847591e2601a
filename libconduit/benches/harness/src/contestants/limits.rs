//! The limits of the machine as contestants, which no transport can beat.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::publishing::{PublishPace, await_time};
use crate::limits::{LimitsRegion, LineStream, PingPong, PrivateBuffers, Relay};
use crate::machine::now_ns;
use crate::partner::{Partner, Patience};
use crate::pattern::{self, ANSWER};
use crate::statistics::Timings;
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{Result, Wait};

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
        let mut round = || word.serve(|| patience.check());
        // The first round waits for the other process to wake up.
        round()?;
        into.time_rounds(until, self.is_grouped, round)?;
        word.end(|| patience.check())
    }

    fn answer(&mut self) -> Result<Counts> {
        PingPong::new(&self.region, self.wait).answer(|| Ok(()), || Ok(()))?;
        Ok(Counts::default())
    }
}

/// Buffers in shared memory that are filled and read: the bandwidth of memory and caches.
pub struct RelayLimit {
    /// Over the buffers of a region; several limits may use it in turn.
    pub relay: Rc<RefCell<Relay>>,
    /// How many buffers each process fills in turn.
    pub buffers: usize,
    /// Whether round trips are timed in groups, too.
    pub is_grouped: bool,
}

impl Contestant for RelayLimit {
    fn spans(&self) -> u64 {
        2
    }

    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let mut relay = self.relay.borrow_mut();
        relay.use_buffers(self.buffers);
        let mut patience = Patience::new(partner, until);
        let mut index = 0;
        let mut round = || {
            let fill = |words: &mut [u64]| pattern::write(index, words);
            let read = |words: &[u64]| pattern::check(index | ANSWER, words);
            relay.serve(fill, read, || patience.check())?;
            index += 1;
            Ok(())
        };
        round()?;
        into.time_rounds(until, self.is_grouped, round)?;
        relay.end(|| patience.check())
    }

    fn answer(&mut self) -> Result<Counts> {
        let mut received = 0;
        let answer = |words: &[u64], answer: &mut [u64]| {
            pattern::check(received, words)?;
            pattern::write(received | ANSWER, answer);
            received += 1;
            Ok(())
        };
        let mut relay = self.relay.borrow_mut();
        relay.use_buffers(self.buffers);
        relay.answer(answer, || Ok(()))?;
        Ok(Counts { received, lost: 0 })
    }
}

/// A cache line per message and nothing else.
pub struct LineLimit(pub LineStream);

impl Contestant for LineLimit {
    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let Self(lines) = self;
        let mut patience = Patience::new(partner, until);
        let begun = Instant::now();
        let (mut sent, mut is_last) = (0, false);
        while !is_last {
            is_last = until.is_over(sent, Instant::now());
            for at in 1..=LINE_STEP {
                lines.send(is_last && at == LINE_STEP, || patience.check())?;
            }
            sent += LINE_STEP;
        }
        lines.flush(|| patience.check())?;
        into.add_messages(sent, begun.elapsed().as_nanos() as u64);
        Ok(())
    }

    fn answer(&mut self) -> Result<Counts> {
        Ok(Counts { received: self.0.receive(|| Ok(()))?, lost: 0 })
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
            word.take_back(|| patience.check())?;
            next = next.max(Instant::now());
            if until.is_over(rounds, ended) {
                break;
            }
        }
        word.end(|| patience.check())
    }

    fn answer(&mut self) -> Result<Counts> {
        PingPong::new(&self.region, Wait::Sleep).answer(|| Ok(()), || Ok(()))?;
        Ok(Counts::default())
    }
}

/// Filling and reading private memory. The parts of a round are the two.
pub struct MemoryLimit(pub PrivateBuffers);

impl Contestant for MemoryLimit {
    fn measure(&mut self, _partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        into.parts.resize_with(2, || Timings::new(1));
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
