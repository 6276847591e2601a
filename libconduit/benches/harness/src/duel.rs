//! Turns: the limit, Conduit, the peer, again and again for a few milliseconds each, so that all of them meet the
//! machine in the same states.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::processes::{self, PATIENCE, Second};
use super::statistics::{Distribution, Figures};
use super::transport::{Receive, Result};

/// How often to look for a message before asking whether to go on.
const SPINS: u32 = 4096;

/// Who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// A cache line, only to see how near the cores are.
    Line,
    Limit,
    Ours,
    /// Conduit at easier work, to compare with.
    Reference,
    Peer,
}

impl Column {
    const ALL: [Self; 5] = [Self::Line, Self::Limit, Self::Ours, Self::Reference, Self::Peer];
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        f.write_str(&name.to_lowercase())
    }
}

/// How a process waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    Poll,
    Sleep,
}

impl From<Wait> for crate::limits::Wait {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Poll => Self::Spin,
            Wait::Sleep => Self::Sleep,
        }
    }
}

/// How long a turn goes on.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    pub end: Instant,
    pub rounds: u64,
}

impl Until {
    #[inline]
    pub fn is_over(self, rounds: u64, now: Instant) -> bool {
        now >= self.end && rounds >= self.rounds
    }
}

/// Rounds that are timed together, to see what they take without a look at the clock in each.
const FEW: u64 = 8;

/// What one player has measured.
pub struct Record {
    pub times: Distribution,
    /// The same, of a few rounds together each.
    together: Distribution,
    /// For rates.
    pub messages: u64,
    pub ns: u64,
    /// What the second process has counted.
    pub answers: Answer,
}

impl Record {
    pub fn new(times: u64) -> Result<Self> {
        let (together, times) = (Distribution::new(times * FEW)?, Distribution::new(times)?);
        Ok(Self { times, together, messages: 0, ns: 0, answers: Answer::default() })
    }

    /// Times rounds: one by one and, if they are `short`, then as long again a few together.
    #[inline]
    pub fn time_rounds(&mut self, until: Until, short: bool, mut round: impl FnMut() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        let singly = if short { begun + until.end.saturating_duration_since(begun) / 2 } else { until.end };
        let until_singly = Until { end: singly, ..until };
        for rounds in 1.. {
            let begun = Instant::now();
            round()?;
            let ended = Instant::now();
            self.times.record((ended - begun).as_nanos() as u64);
            if until_singly.is_over(rounds, ended) {
                break;
            }
        }
        while short && Instant::now() < until.end {
            let begun = Instant::now();
            for _ in 0..FEW {
                round()?;
            }
            self.together.record(begun.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    fn figures(&self) -> Option<Figures> {
        let without_clock = self.together.figures().map(|figures| figures.p50);
        Some(Figures { without_clock, ..self.times.figures()? })
    }
}

/// The first process's part: it measures.
pub trait Player {
    /// How many times what is wanted a recorded duration is.
    fn times(&self) -> u64 {
        1
    }

    /// How long a turn is, compared with others.
    fn length(&self) -> f64 {
        1.0
    }

    fn turn(&mut self, second: &mut Second, until: Until, record: &mut Record) -> Result<()>;

    /// Looks at what the second process has counted in a turn.
    fn compare(&mut self, _answer: &Answer) -> Result<()> {
        Ok(())
    }
}

/// The second process's part: it answers.
pub trait Partner {
    /// `started` is to be called when the first process may begin.
    fn answer(&mut self, started: &mut dyn FnMut() -> Result<()>) -> Result<Answer>;
}

/// What the second process says after a turn.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    pub received: u64,
    pub lost: u64,
}

pub type Players = Vec<(Column, Box<dyn Player>)>;
pub type Partners = Vec<(Column, Box<dyn Partner>)>;

/// What came of a row in one repeat.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// One way of a cache line meanwhile.
    pub line_ns: Option<f64>,
    pub columns: BTreeMap<Column, Figures>,
    /// Messages per second, where that is what was measured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: BTreeMap<Column, Rate>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub footprints: BTreeMap<Column, Footprint>,
    /// What a message costs its subscriber's processor, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    pub per_second: f64,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
}

/// What a topic takes that has one publisher and one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    pub files: usize,
    pub bytes: u64,
    pub publisher_descriptors: usize,
    pub subscriber_descriptors: usize,
}

/// Plays all turns of the first process.
pub fn play(
    second: &mut Second,
    mut players: Players,
    time: Duration,
    turn: Duration,
    warm_up_rounds: u64,
) -> Result<Measured> {
    second.started()?;
    let mut records = Vec::new();
    for (column, player) in &mut players {
        // Every page has been touched before anything counts.
        let until = Until { end: Instant::now(), rounds: warm_up_rounds };
        play_turn(second, *column, player.as_mut(), until, &mut Record::new(1)?)?;
        records.push(Record::new(player.times())?);
    }
    let end = Instant::now() + time;
    // Whoever plays after somebody else finds the caches as that one has left them: the order changes all the time.
    for first in (0..players.len()).cycle() {
        if Instant::now() >= end {
            break;
        }
        for at in (first..players.len()).chain(0..first) {
            let ((column, player), record) = (&mut players[at], &mut records[at]);
            let until = Until { end: Instant::now() + turn.mul_f64(player.length()), rounds: 1 };
            play_turn(second, *column, player.as_mut(), until, record)?;
        }
    }
    let columns = players.iter().map(|(column, _)| *column);
    let records: BTreeMap<_, _> = columns.zip(records).collect();
    let figures: BTreeMap<_, _> =
        records.iter().filter_map(|(column, record)| Some((*column, record.figures()?))).collect();
    let rate = |(column, record): (&Column, &Record)| {
        let Answer { received, lost } = record.answers;
        let per_second = record.messages as f64 * 1e9 / record.ns as f64;
        (record.ns > 0).then_some((*column, Rate { per_second, sent: record.messages, received, lost }))
    };
    let line_ns = figures.get(&Column::Line).map(|figures| figures.median);
    let rates = records.iter().filter_map(rate).collect();
    Ok(Measured { line_ns, columns: figures, rates, ..Measured::default() })
}

fn play_turn(
    second: &mut Second,
    column: Column,
    player: &mut dyn Player,
    until: Until,
    record: &mut Record,
) -> Result<()> {
    second.begin(&column.to_string())?;
    player.turn(second, until, record)?;
    let answer: Answer = serde_json::from_str(&second.hear()?)?;
    player.compare(&answer)?;
    record.answers.received += answer.received;
    record.answers.lost += answer.lost;
    Ok(())
}

/// Plays all turns of the second process.
pub fn follow(mut partners: Partners) -> Result<()> {
    processes::follow(|line, started| {
        let column = Column::ALL.into_iter().find(|column| column.to_string() == line);
        let partner = partners.iter_mut().find(|(whose, _)| Some(*whose) == column);
        let (_, partner) = partner.ok_or_else(|| format!("there is no {line:?} to play"))?;
        Ok(serde_json::to_string(&partner.answer(started)?)?)
    })
}

/// Waits for the next message. `look` is asked now and then, and its error ends the waiting.
#[inline]
pub fn receive<P: ?Sized, R>(
    subscriber: &mut impl Receive<P>,
    wait: Wait,
    mut look: impl FnMut() -> Result<()>,
    mut read: impl FnMut(&P) -> R,
) -> Result<R> {
    loop {
        match wait {
            Wait::Poll => {
                for _ in 0..SPINS {
                    if let Some(read) = subscriber.poll(&mut read)? {
                        return Ok(read);
                    }
                }
            }
            Wait::Sleep => {
                if let Some(read) = subscriber.sleep(&mut read)? {
                    return Ok(read);
                }
            }
        }
        look()?;
    }
}

/// What the first process asks while it waits: whether the second one lives, and whether it takes too long.
pub fn watch(second: &mut Second, until: Until) -> impl FnMut() -> Result<()> {
    let deadline = until.end + PATIENCE;
    move || {
        second.look()?;
        if Instant::now() > deadline { Err("the second process does not answer".into()) } else { Ok(()) }
    }
}

/// The same for the games of [`crate::limits`], which only know whether to go on.
pub struct Patience<'a> {
    second: &'a mut Second,
    deadline: Instant,
    failure: Option<super::transport::Failure>,
}

impl<'a> Patience<'a> {
    pub fn new(second: &'a mut Second, until: Until) -> Self {
        Self { second, deadline: until.end + PATIENCE, failure: None }
    }

    pub fn goes_on(&mut self) -> bool {
        self.failure = self.second.look().err();
        self.failure.is_none() && Instant::now() < self.deadline
    }

    /// Why a game ended, if it did.
    pub fn outcome(self, went_on: bool) -> Result<()> {
        match self.failure {
            _ if went_on => Ok(()),
            Some(failure) => Err(failure),
            None => Err("the second process does not answer".into()),
        }
    }
}
