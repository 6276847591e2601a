//! The first process of `conduit bench`: it plays, and measures.

use std::path::Path;
use std::time::{Duration, Instant};

use conduit::{Publisher, ShmRegion};
use conduit_bench::limits::{self, Memory, PingPong, Stream};

use super::game::{self, Channel, Content, Game, PATIENCE, Side, Way};
use super::second::{LAST, News, Second};
use super::statistics::{Distribution, Tally};
use crate::failure::Failure;

/// How many messages of a stream are sent between two looks at the clock.
const STREAM_STEP: u64 = 64;
const ALONE_TOPIC: &str = "bench/alone";

/// What fills, reads or both took.
pub(super) struct MemoryTimes {
    pub(super) fill: Distribution,
    pub(super) read: Distribution,
    pub(super) both: Distribution,
}

impl MemoryTimes {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { fill: Distribution::new()?, read: Distribution::new()?, both: Distribution::new()? })
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.fill.add(&other.fill);
        self.read.add(&other.read);
        self.both.add(&other.both);
    }
}

/// Everything to measure with. The fields are dropped in this order: first the other process ends.
pub(super) struct First<'a> {
    pub(super) second: Second,
    region: &'a ShmRegion,
    lines: Stream<'a>,
    small: Channel,
    large: Option<Channel>,
    alone: Publisher<[u64]>,
    memory: Option<Memory>,
}

/// How long one stretch of measuring goes on: at least once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Time(Instant),
    Rounds(u64),
}

impl Until {
    #[inline]
    fn is_over(self, rounds: u64, now: Instant) -> bool {
        match self {
            Self::Time(end) => now >= end,
            Self::Rounds(enough) => rounds >= enough,
        }
    }
}

impl<'a> First<'a> {
    /// Makes the topics and starts the other process.
    pub(super) fn start(
        directory: &Path,
        region: &'a ShmRegion,
        core: usize,
        large: bool,
        news: (&std::sync::mpsc::Sender<News>, std::sync::mpsc::Receiver<News>),
    ) -> Result<Self, Failure> {
        let domain = game::domain(directory);
        let create = |large| game::create(&domain, Side::First, large);
        let small = create(false)?;
        let large_publisher = large.then(|| create(true)).transpose()?;
        let second = Second::start(directory, core, large, news)?;
        let open = |publisher, large| Channel::open(&domain, Side::First, publisher, large);
        // As much memory as both rings of large messages have.
        let memory = || Memory::new(Content::LargeAll.message_bytes() as usize, 2 * game::LARGE_SLOTS as usize);
        Ok(Self {
            second,
            region,
            lines: Stream::new(region),
            small: open(small, false)?,
            large: large_publisher.map(|publisher| open(publisher, true)).transpose()?,
            alone: Publisher::builder().domain(&domain).create(ALONE_TOPIC)?,
            memory: large.then(memory),
        })
    }

    /// Uses every slot of every ring in both processes, so that no measurement contains the mapping of pages.
    pub(super) fn warm_up(&mut self, way: Way) -> Result<(), Failure> {
        self.ping_pong(way, Content::Small, Until::Rounds(2 * self.small.window()), |_| ())?;
        if let Some(large) = &self.large {
            self.ping_pong(way, Content::LargeAll, Until::Rounds(2 * large.window()), |_| ())?;
        }
        self.publish_alone(Until::Rounds(2 * u64::from(self.alone.slots())), |_| ())
    }

    /// Hands a word over and back again; records round trips.
    pub(super) fn ball(&mut self, way: Way, until: Until, mut record: impl FnMut(u64)) -> Result<(), Failure> {
        let game = PingPong::new(self.region, way.into());
        let second = &mut self.second;
        second.play(Game::Ball(way))?;
        let mut failure = None;
        let deadline = Instant::now() + until.patience();
        let mut keep_waiting = || keep_waiting(second, deadline, &mut failure);
        // The other process may still have to wake up.
        let mut goes_on = game.serve(&mut keep_waiting);
        let mut rounds = 0;
        while goes_on {
            let begun = Instant::now();
            goes_on = game.serve(&mut keep_waiting);
            let ended = Instant::now();
            if goes_on {
                record((ended - begun).as_nanos() as u64);
            }
            rounds += 1;
            if until.is_over(rounds, ended) {
                break;
            }
        }
        if goes_on && game.end(&mut keep_waiting) { Ok(()) } else { Err(failure.unwrap_or_else(silent)) }
    }

    /// Sends cache lines in a row.
    pub(super) fn stream_lines(&mut self, until: Until, tally: &mut Tally) -> Result<(), Failure> {
        let Self { lines, second, .. } = self;
        second.play(Game::Lines)?;
        let mut failure = None;
        let deadline = Instant::now() + until.patience();
        let mut keep_waiting = || keep_waiting(second, deadline, &mut failure);
        // The window's first turn waits for the other process to wake up.
        let mut goes_on = (0..limits::WINDOW).all(|_| lines.send(false, &mut keep_waiting));
        goes_on = goes_on && lines.flush(&mut keep_waiting);
        let begun = Instant::now();
        let mut sent = 0;
        while goes_on {
            let is_last = until.is_over(sent, Instant::now());
            goes_on = (1..=STREAM_STEP).all(|at| lines.send(is_last && at == STREAM_STEP, &mut keep_waiting));
            sent += STREAM_STEP;
            if is_last {
                break;
            }
        }
        if !(goes_on && lines.flush(&mut keep_waiting)) {
            return Err(failure.unwrap_or_else(silent));
        }
        tally.add(sent, begun.elapsed().as_nanos() as u64);
        Ok(())
    }

    /// Sends a message there and another one back; records round trips.
    pub(super) fn ping_pong(
        &mut self,
        way: Way,
        content: Content,
        until: Until,
        mut record: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let Self { second, small, large, .. } = self;
        let channel = if content.is_large() { large.as_mut().ok_or_else(no_room)? } else { small };
        second.play(Game::PingPong(way, content))?;
        let deadline = Instant::now() + until.patience();
        let mut look = || look(second, deadline);
        let mut round = |index| {
            channel.send(content, index)?;
            let sample = channel.receive(way, &mut look)?;
            game::check(content, !index, &sample)
        };
        round(0)?;
        let mut index = 1;
        loop {
            let begun = Instant::now();
            round(index)?;
            let ended = Instant::now();
            record((ended - begun).as_nanos() as u64);
            if until.is_over(index, ended) {
                return channel.send_end();
            }
            index += 1;
        }
    }

    /// Sends messages in a row, as many as can not be lost.
    pub(super) fn stream(&mut self, content: Content, until: Until, tally: &mut Tally) -> Result<(), Failure> {
        let Self { second, small, large, .. } = self;
        let channel = if content.is_large() { large.as_mut().ok_or_else(no_room)? } else { small };
        second.play(Game::Stream(content))?;
        let deadline = Instant::now() + until.patience();
        let mut look = || look(second, deadline);
        channel.send(content, 0)?;
        let mut received = channel.receive(Way::Poll, &mut look)?[0];
        let window = channel.window();
        let step = if content.is_large() { 1 } else { STREAM_STEP };
        let begun = Instant::now();
        let mut sent = 1;
        loop {
            for _ in 0..step {
                while sent - received >= window {
                    received = channel.receive(Way::Poll, &mut look)?[0];
                }
                channel.send(content, sent)?;
                sent += 1;
            }
            if until.is_over(sent, Instant::now()) {
                break;
            }
        }
        // The greeting does not count. Nor does the end, whose slot must be free all the same.
        while sent - received >= window {
            received = channel.receive(Way::Poll, &mut look)?[0];
        }
        channel.send_end()?;
        loop {
            let sample = channel.receive(Way::Poll, &mut look)?;
            if sample[1] == LAST {
                received = sample[0];
                break;
            }
        }
        tally.add(sent - 1, begun.elapsed().as_nanos() as u64);
        if received == sent {
            return Ok(());
        }
        Err(Failure::new(format_args!("{received} of {sent} messages arrived: this must not happen, please report it")))
    }

    /// Publishes to nobody; records each message's cost.
    pub(super) fn publish_alone(&mut self, until: Until, mut record: impl FnMut(u64)) -> Result<(), Failure> {
        let mut index = 1;
        loop {
            let begun = Instant::now();
            game::send(&mut self.alone, Content::Small, index)?;
            let ended = Instant::now();
            record((ended - begun).as_nanos() as u64);
            if until.is_over(index, ended) {
                return Ok(());
            }
            index += 1;
        }
    }

    /// Fills and reads memory of the size of a large message.
    pub(super) fn move_memory(&mut self, until: Until, times: &mut MemoryTimes) -> Result<(), Failure> {
        let memory = self.memory.as_mut().ok_or_else(no_room)?;
        let mut rounds = 0;
        loop {
            let begun = Instant::now();
            memory.fill();
            let filled = Instant::now();
            memory.read();
            let ended = Instant::now();
            let [fill, read, both] =
                [filled - begun, ended - filled, ended - begun].map(|duration| duration.as_nanos() as u64);
            times.fill.record(fill);
            times.read.record(read);
            times.both.record(both);
            rounds += 1;
            if until.is_over(rounds, ended) {
                return Ok(());
            }
        }
    }
}

/// Reads the clock.
pub(super) fn read_clock(until: Until, mut record: impl FnMut(u64)) {
    let mut rounds = 0;
    loop {
        let begun = Instant::now();
        let ended = Instant::now();
        record((ended - begun).as_nanos() as u64);
        rounds += 1;
        if until.is_over(rounds, ended) {
            return;
        }
    }
}

impl Until {
    fn patience(self) -> Duration {
        match self {
            Self::Time(end) => end.saturating_duration_since(Instant::now()) + PATIENCE,
            Self::Rounds(_) => PATIENCE,
        }
    }
}

fn keep_waiting(second: &mut Second, deadline: Instant, failure: &mut Option<Failure>) -> bool {
    *failure = look(second, deadline).err();
    failure.is_none()
}

fn look(second: &mut Second, deadline: Instant) -> Result<(), Failure> {
    second.look()?;
    if Instant::now() < deadline { Ok(()) } else { Err(silent()) }
}

#[cold]
fn silent() -> Failure {
    Failure::new(format_args!("the second process does not answer for {PATIENCE:?}"))
}

fn no_room() -> Failure {
    Failure::new("there is no room for large messages")
}
