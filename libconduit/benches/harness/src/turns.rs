//! Turns: each contestant measures for a few milliseconds, again and again, so that all of them
//! meet the machine in the same states.

use std::fmt::Display;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::partner::{self, Partner};
use crate::statistics::{Figures, Timings, median};
use crate::until::Until;

/// What the second process has counted in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages received.
    pub received: u64,
    /// Messages that must have been sent before a received one, and were not received.
    pub lost: u64,
}

impl Counts {
    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self { received: self.received + other.received, lost: self.lost + other.lost }
    }
}

/// Rounds that are timed together, to see what they take without a read of the clock in each.
const GROUP: u64 = 8;

/// What one contestant has measured.
#[derive(Debug)]
pub struct Measurements {
    /// Of rounds, messages or whatever the contestant repeats.
    pub times: Timings,
    /// The same, of [`GROUP`] rounds each.
    groups: Timings,
    /// Parts of each round, where a contestant distinguishes them.
    pub parts: Vec<Timings>,
    /// For rates: messages sent.
    pub messages: u64,
    /// For rates: the time they took, in nanoseconds.
    pub ns: u64,
    /// For rates: messages per second of each turn.
    turn_rates: Vec<f64>,
    /// What the second process has counted.
    pub counts: Counts,
}

impl Measurements {
    /// Of durations that span so many of what is wanted.
    pub fn new(spans: u64) -> Self {
        let (times, groups) = (Timings::new(spans), Timings::new(spans * GROUP));
        Self { times, groups, parts: Vec::new(), messages: 0, ns: 0, turn_rates: Vec::new(), counts: Counts::default() }
    }

    /// Times rounds: one by one, the second half of the turn in groups if `is_grouped`.
    #[inline]
    pub fn time_rounds(&mut self, until: Until, is_grouped: bool, mut round: impl FnMut() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        let half = begun + until.end.saturating_duration_since(begun) / 2;
        let singly = Until { end: if is_grouped { half } else { until.end }, ..until };
        for rounds in 1.. {
            let begun = Instant::now();
            round()?;
            let ended = Instant::now();
            self.times.record((ended - begun).as_nanos() as u64);
            if singly.is_over(rounds, ended) {
                break;
            }
        }
        while is_grouped && Instant::now() < until.end {
            let begun = Instant::now();
            for _ in 0..GROUP {
                round()?;
            }
            self.groups.record(begun.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    /// What the table shows of the durations.
    pub fn figures(&self) -> Option<Figures> {
        let without_clock = self.groups.figures().map(|figures| figures.p50);
        Some(Figures { without_clock, ..self.times.figures()? })
    }

    /// Adds the messages of a turn, and the time that they took.
    pub fn add_messages(&mut self, messages: u64, ns: u64) {
        self.messages += messages;
        self.ns += ns;
        self.turn_rates.push(messages as f64 * 1e9 / ns.max(1) as f64);
    }

    /// Messages per second: the median over the turns, one of which may have lost its core.
    pub fn per_second(&self) -> f64 {
        median(self.turn_rates.iter().copied()).unwrap_or_default()
    }
}

/// Something that is measured. Each of the two processes has one half of it.
pub trait Contestant {
    /// How many of what is wanted a recorded duration spans: 2 for round trips, of which one way is
    /// wanted.
    fn spans(&self) -> u64 {
        1
    }

    /// The length of its turns, relative to those of others.
    fn turn_share(&self) -> f64 {
        1.0
    }

    /// The first process's part of a turn: measures.
    fn measure(&mut self, _partner: &mut Partner, _until: Until, _into: &mut Measurements) -> Result<()> {
        Err("the second process does not measure".into())
    }

    /// The second process's part of a turn: answers until the first process ends the turn.
    fn answer(&mut self) -> Result<Counts> {
        Ok(Counts::default())
    }

    /// The first process compares what was counted in a turn with what it sent.
    fn verify(&mut self, _counts: Counts) -> Result<()> {
        Ok(())
    }
}

/// The contestants of one process, each by a key that both processes know.
pub type Contestants<K> = Vec<(K, Box<dyn Contestant>)>;

/// A contestant of the first process with its measurements.
pub struct TurnTaker<'a, K> {
    /// What both processes call it.
    pub key: K,
    contestant: &'a mut dyn Contestant,
    /// What it has measured.
    pub measured: Measurements,
}

impl<'a, K: Display> TurnTaker<'a, K> {
    /// Before the first turn.
    pub fn new(key: K, contestant: &'a mut dyn Contestant) -> Self {
        let measured = Measurements::new(contestant.spans());
        Self { key, contestant, measured }
    }

    /// Warms a contestant up: so many rounds touch every page before anything counts.
    pub fn warmed_up(key: K, contestant: &'a mut dyn Contestant, partner: &mut Partner, rounds: u64) -> Result<Self> {
        let mut taker = Self::new(key, contestant);
        taker.take_turn(partner, Until { end: Instant::now(), rounds })?;
        Ok(Self::new(taker.key, taker.contestant))
    }

    /// One turn, outside of [`take_turns`].
    pub fn take_turn(&mut self, partner: &mut Partner, until: Until) -> Result<()> {
        partner.begin(&self.key.to_string())?;
        self.contestant.measure(partner, until, &mut self.measured)?;
        let counts: Counts = serde_json::from_str(&partner.hear()?)?;
        self.contestant.verify(counts)?;
        self.measured.counts = self.measured.counts.plus(counts);
        Ok(())
    }
}

/// The first process's part: all contestants take turns until the end, at least one each.
pub fn take_turns<K: Display>(
    partner: &mut Partner,
    takers: &mut [TurnTaker<'_, K>],
    turn: Duration,
    end: Instant,
    mut after_each_cycle: impl FnMut(),
) -> Result<()> {
    // A contestant finds the caches as the previous one has left them: the order rotates.
    for first in (0..takers.len()).cycle() {
        for at in (first..takers.len()).chain(0..first) {
            let end = Instant::now() + turn.mul_f64(takers[at].contestant.turn_share());
            takers[at].take_turn(partner, Until { end, rounds: 1 })?;
        }
        after_each_cycle();
        if Instant::now() >= end {
            break;
        }
    }
    Ok(())
}

/// The second process's part.
pub fn answer_turns<K: Display>(mut contestants: Contestants<K>) -> Result<()> {
    partner::follow(|line| {
        let contestant = contestants.iter_mut().find(|(key, _)| key.to_string() == line);
        let (_, contestant) = contestant.ok_or_else(|| format!("there is no contestant {line:?}"))?;
        Ok(serde_json::to_string(&contestant.answer()?)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_median_over_the_turns() {
        let mut measured = Measurements::new(1);
        assert_eq!(measured.per_second(), 0.0);
        for (messages, ns) in [(100, 1_000_000), (300, 1_000_000), (320, 80_000_000)] {
            measured.add_messages(messages, ns);
        }
        assert_eq!((measured.per_second(), measured.messages, measured.ns), (100_000.0, 720, 82_000_000));
    }
}
