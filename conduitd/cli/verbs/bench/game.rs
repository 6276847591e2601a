//! What the two processes do together, and the topics they do it over.

use std::time::Duration;

use conduit::{Domain, Publisher, Sample, ShmRegion, Subscriber};
use conduit_bench::limits::{self, Wait};
use serde::{Deserialize, Serialize};

use super::pattern;
use crate::failure::Failure;
use crate::output;

/// Words of a small message: 64 bytes.
pub(super) const SMALL_WORDS: usize = 8;
/// Words of a large one: 12 MB, a point cloud.
pub(super) const LARGE_WORDS: usize = 1_500_000;
const SMALL_SLOTS: u64 = 256;
pub(super) const LARGE_SLOTS: u64 = 4;
/// How often to look for a message before the caller is asked whether to go on.
const SPINS: u32 = 4096;
/// How long the other process may take for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// First word of the message that ends a game.
const END: u64 = u64::MAX;

/// How a process waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    Poll,
    Block,
}

impl From<Way> for Wait {
    fn from(way: Way) -> Self {
        match way {
            Way::Poll => Self::Spin,
            Way::Block => Self::Sleep,
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Small,
    /// A large message of which only the first cache line is written and read.
    LargeHeader,
    LargeAll,
}

impl Content {
    pub(super) fn words(self) -> usize {
        match self {
            Self::Small => SMALL_WORDS,
            Self::LargeHeader | Self::LargeAll => LARGE_WORDS,
        }
    }

    /// How many words are written and read.
    pub(super) fn touched_words(self) -> usize {
        match self {
            Self::Small | Self::LargeHeader => SMALL_WORDS,
            Self::LargeAll => LARGE_WORDS,
        }
    }

    pub(super) fn is_large(self) -> bool {
        self != Self::Small
    }

    pub(super) fn message_bytes(self) -> u64 {
        bytes(self.words())
    }
}

pub(super) fn bytes(words: usize) -> u64 {
    (words * size_of::<u64>()) as u64
}

/// What the second process is told to do, as a line of JSON, until the first one ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Game {
    /// Return a word in shared memory.
    Ball(Way),
    /// Receive cache lines in a row.
    Lines,
    /// Answer every message by one like it.
    PingPong(Way, Content),
    /// Receive messages in a row, by polling, and say how many.
    Stream(Content),
}

/// Which of the two processes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// The topic this side publishes.
    fn topic(self, large: bool) -> &'static str {
        match (self, large) {
            (Self::First, false) => "bench/small/ping",
            (Self::First, true) => "bench/large/ping",
            (Self::Second, false) => "bench/small/pong",
            (Self::Second, true) => "bench/large/pong",
        }
    }
}

const LIMITS_REGION: &str = "bench/limits";

/// The regions live in a directory of the bench's own, which no registry knows.
pub(super) fn domain(directory: &std::path::Path) -> Domain {
    Domain::new(directory).without_registry()
}

pub(super) fn create_limits_region(domain: &Domain) -> Result<ShmRegion, Failure> {
    Ok(ShmRegion::builder().domain(domain).create(LIMITS_REGION, limits::REGION_BYTES)?)
}

pub(super) fn open_limits_region(domain: &Domain) -> Result<ShmRegion, Failure> {
    Ok(ShmRegion::builder().domain(domain).open(LIMITS_REGION)?)
}

/// What the topics of large messages take, of both processes.
pub(super) fn large_bytes() -> u64 {
    const HEADERS: u64 = 1 << 20;
    2 * (LARGE_SLOTS * bytes(LARGE_WORDS) + HEADERS)
}

pub(super) fn create(domain: &Domain, side: Side, large: bool) -> Result<Publisher<[u64]>, Failure> {
    let (words, slots) = if large { (LARGE_WORDS, LARGE_SLOTS) } else { (SMALL_WORDS, SMALL_SLOTS) };
    let builder = Publisher::builder().domain(domain).slots(slots as u32).capacity(bytes(words) as usize);
    Ok(builder.create(side.topic(large))?)
}

/// One side of a topic there and a topic back.
pub(super) struct Channel {
    pub(super) publisher: Publisher<[u64]>,
    pub(super) subscriber: Subscriber<[u64]>,
}

impl Channel {
    /// The other side has created its topic.
    pub(super) fn open(domain: &Domain, side: Side, publisher: Publisher<[u64]>, large: bool) -> Result<Self, Failure> {
        let subscriber = Subscriber::builder().domain(domain).open(side.other().topic(large))?;
        Ok(Self { publisher, subscriber })
    }

    /// How many messages may be on their way: one slot is always the publisher's.
    pub(super) fn window(&self) -> u64 {
        u64::from(self.publisher.slots()) - 1
    }

    #[inline]
    pub(super) fn send(&mut self, content: Content, index: u64) -> Result<(), Failure> {
        send(&mut self.publisher, content, index)
    }

    /// Ends the other side's game.
    pub(super) fn send_end(&mut self) -> Result<(), Failure> {
        self.send_words([END, 0])
    }

    /// A short message that is no content.
    pub(super) fn send_words(&mut self, words: [u64; 2]) -> Result<(), Failure> {
        let mut loan = self.publisher.loan_slice(words.len())?;
        loan.copy_from_slice(&words);
        loan.publish();
        Ok(())
    }

    /// Waits for a message. When polling, `look` is asked now and then, and its error ends the waiting.
    #[inline]
    pub(super) fn receive(
        &mut self,
        way: Way,
        mut look: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Sample<[u64]>, Failure> {
        if way == Way::Block {
            return Ok(self.subscriber.recv()?);
        }
        loop {
            for _ in 0..SPINS {
                if let Some(sample) = self.subscriber.try_recv()? {
                    return Ok(sample);
                }
            }
            look()?;
        }
    }
}

#[inline]
pub(super) fn send(publisher: &mut Publisher<[u64]>, content: Content, index: u64) -> Result<(), Failure> {
    let mut loan = publisher.loan_slice(content.words())?;
    if let Some(words) = loan.get_mut(..content.touched_words()) {
        pattern::write(index, words);
    }
    loan.publish();
    Ok(())
}

pub(super) fn is_end(message: &[u64]) -> bool {
    message.len() == 2 && message[0] == END
}

/// Compares all that was written of a message; what is wrong with it is an error.
#[inline]
pub(super) fn check(content: Content, index: u64, sample: &Sample<[u64]>) -> Result<(), Failure> {
    let whole = sample.len() == content.words() && sample.lost() == 0;
    match sample.get(..content.touched_words()) {
        Some(words) if whole => pattern::check(index, words).map_err(|at| damaged(content, sample, at)),
        _ => Err(damaged(content, sample, 0)),
    }
}

#[cold]
fn damaged(content: Content, sample: &Sample<[u64]>, at: usize) -> Failure {
    let (number, size) = (sample.sequence(), output::data_size(content.message_bytes()));
    let what = match sample.lost() {
        0 if sample.len() == content.words() => format!("is damaged from byte {at} on"),
        0 => format!("has {} bytes", bytes(sample.len())),
        lost => format!("comes after {} were lost", output::count(lost, "message")),
    };
    Failure::new(format_args!("message {number} of {size} {what}: this must not happen, please report it"))
}
