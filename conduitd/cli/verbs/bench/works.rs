//! What `conduit bench` measures, and the limit of each work.

use conduit_bench::conduit_transport::Conduit;
use conduit_bench::contestants::DuplexChannel;
use conduit_bench::contestants::limits::{ClockLimit, LineLimit, MemoryLimit, PingPongLimit};
use conduit_bench::contestants::publishing::{Audience, PublishPace, publishing};
use conduit_bench::contestants::round_trips::RoundTrips;
use conduit_bench::contestants::stream::{MessageStream, StreamBatches, StreamWindow};
use conduit_bench::limits::{LimitsRegion, LineStream, PrivateBuffers, StreamReceipts};
use conduit_bench::pattern::Touch;
use conduit_bench::site::BenchSite;
use conduit_bench::statistics::Timings;
use conduit_bench::transport::TopicOptions;
use conduit_bench::turns::{Contestant, Contestants, Measurements};
use conduit_bench::{BenchError, BenchSide, Wait};

use super::report::{BenchPercentiles, CLOCK, LatencyRow, LimitRow, ThroughputRow};

/// Words of a small message: 64 bytes.
const SMALL_WORDS: usize = 8;
/// Words of a large one: 12 MB, a point cloud.
const LARGE_WORDS: usize = 1_500_000;
const SMALL_SLOTS: u64 = 256;
const LARGE_SLOTS: u64 = 4;

/// Names of limits; the contestants among them have the same keys.
const LINE: &str = "cache line";
const FUTEX: &str = "futex";
const FILL: &str = "fill 12 MB";
const READ: &str = "read 12 MB";
const FILL_AND_READ: &str = "fill and read";
const SLOWER_OF_BOTH: &str = "the slower of fill and read";
const LINES: &str = "cache lines in a row";

/// Something to measure. Both processes know its contestant by its name.
pub(super) struct Work {
    pub(super) name: &'static str,
    /// Its limit.
    limit: &'static str,
    /// Its share of the time.
    pub(super) weight: u32,
    /// Words of a message.
    words: usize,
    /// Words of a message that are written and read.
    touched_words: usize,
    /// Whether it needs two cores.
    pub(super) polls: bool,
    /// Whether it is a rate, not a latency.
    is_stream: bool,
}

#[rustfmt::skip]
pub(super) const WORKS: [Work; 8] = [
    latency("64 B polling", LINE, 15, SMALL_WORDS, SMALL_WORDS, true),
    latency("64 B blocking", FUTEX, 20, SMALL_WORDS, SMALL_WORDS, false),
    latency("12 MB polling", LINE, 10, LARGE_WORDS, SMALL_WORDS, true),
    latency("12 MB blocking", FUTEX, 10, LARGE_WORDS, SMALL_WORDS, false),
    latency("12 MB, all bytes", FILL_AND_READ, 20, LARGE_WORDS, LARGE_WORDS, true),
    latency("64 B to nobody", CLOCK, 5, SMALL_WORDS, SMALL_WORDS, false),
    Work { is_stream: true, ..latency("64 B in a row", LINES, 10, SMALL_WORDS, SMALL_WORDS, true) },
    Work { is_stream: true, ..latency("12 MB in a row, all bytes", SLOWER_OF_BOTH, 10, LARGE_WORDS, LARGE_WORDS, true) },
];

const fn latency(
    name: &'static str,
    limit: &'static str,
    weight: u32,
    words: usize,
    touched_words: usize,
    polls: bool,
) -> Work {
    Work { name, limit, weight, words, touched_words, polls, is_stream: false }
}

impl Work {
    pub(super) fn is_large(&self) -> bool {
        self.words == LARGE_WORDS
    }

    /// Slots of its topics.
    pub(super) fn slots(&self) -> u64 {
        if self.is_large() { LARGE_SLOTS } else { SMALL_SLOTS }
    }
}

fn bytes(words: usize) -> u64 {
    (words * size_of::<u64>()) as u64
}

/// What the topics of large messages occupy, of both processes.
pub(super) fn large_bytes() -> u64 {
    const HEADERS: u64 = 1 << 20;
    2 * (LARGE_SLOTS * bytes(LARGE_WORDS) + HEADERS)
}

/// The contestants of one process: of each work and of each limit.
pub(super) fn contestants(
    site: &BenchSite,
    side: BenchSide,
    has_large: bool,
) -> Result<Contestants<&'static str>, BenchError> {
    let region = LimitsRegion::new(site, side, 0, 0)?;
    let ping_pong = |wait| PingPongLimit { region: region.clone(), wait, turn_share: 1.0, is_grouped: false };
    let options = TopicOptions { words: SMALL_WORDS, depth: Some(SMALL_SLOTS), ..TopicOptions::default() };
    let small = DuplexChannel::<Conduit, [u64; SMALL_WORDS]>::open(site, side, "small", options)?;
    let round_trips = |wait| RoundTrips { channel: small.clone(), wait, touch: Touch::Whole, is_grouped: false };
    // One slot of a ring is always the publisher's.
    let window = |stream: &str, slots| {
        let receipts = StreamReceipts::new(site, side, stream)?;
        Ok::<_, BenchError>(Some(StreamWindow { messages: slots - 1, receipts }))
    };
    let to_nobody = publishing::<Conduit>(site, side, "alone", (Audience::Nobody, PublishPace::Singly), options)?;
    let mut all: Contestants<&'static str> = vec![
        (LINE, Box::new(ping_pong(Wait::Poll))),
        (FUTEX, Box::new(ping_pong(Wait::Sleep))),
        (CLOCK, Box::new(ClockLimit(PublishPace::Singly))),
        (LINES, Box::new(LineLimit(LineStream::new(&region)))),
        ("64 B polling", Box::new(round_trips(Wait::Poll))),
        ("64 B blocking", Box::new(round_trips(Wait::Sleep))),
        ("64 B to nobody", to_nobody),
        (
            "64 B in a row",
            Box::new(MessageStream::new(small.clone(), window("small", SMALL_SLOTS)?, StreamBatches::default())),
        ),
    ];
    if has_large {
        let options = TopicOptions { words: LARGE_WORDS, depth: Some(LARGE_SLOTS), ..options };
        let large = DuplexChannel::<Conduit, [u64]>::open(site, side, "large", options)?;
        let round_trips = |wait, touch| RoundTrips { channel: large.clone(), wait, touch, is_grouped: false };
        // In the process that measures it: the next one is filled while the last one is read.
        let buffers = if side == BenchSide::First { 2 } else { 0 };
        let large: Contestants<&'static str> = vec![
            (FILL_AND_READ, Box::new(MemoryLimit(PrivateBuffers::new(LARGE_WORDS, buffers)))),
            ("12 MB polling", Box::new(round_trips(Wait::Poll, Touch::Header))),
            ("12 MB blocking", Box::new(round_trips(Wait::Sleep, Touch::Header))),
            ("12 MB, all bytes", Box::new(round_trips(Wait::Poll, Touch::Whole))),
            (
                "12 MB in a row, all bytes",
                Box::new(MessageStream::new(large.clone(), window("large", LARGE_SLOTS)?, StreamBatches::default())),
            ),
        ];
        all.extend(large);
    }
    Ok(all)
}

type Keyed = (&'static str, Box<dyn Contestant>);

/// The contestants of a work: its limit and itself.
pub(super) fn of<'a>(
    contestants: &'a mut Contestants<&'static str>,
    work: &Work,
) -> Result<[&'a mut Keyed; 2], BenchError> {
    let limit = if work.limit == SLOWER_OF_BOTH { FILL_AND_READ } else { work.limit };
    let at = |key| contestants.iter().position(|(whose, _)| *whose == key).ok_or("a work without a contestant");
    let [limit, ours] = [at(limit)?, at(work.name)?];
    contestants.get_disjoint_mut([limit, ours]).map_err(Into::into)
}

/// What was measured.
pub(super) struct Results {
    pub(super) latency: Vec<LatencyRow>,
    pub(super) throughput: Vec<ThroughputRow>,
    /// The limits over the whole run.
    limits: [(&'static str, Timings); 5],
}

impl Results {
    pub(super) fn new() -> Self {
        let limits = [LINE, FUTEX, FILL, READ, CLOCK].map(|name| (name, Timings::new(1)));
        Self { latency: Vec::new(), throughput: Vec::new(), limits }
    }

    /// The limits that were measured.
    pub(super) fn limits(&self) -> Vec<LimitRow> {
        let measured = self.limits.iter().filter(|(_, timings)| timings.count() > 0);
        measured.map(|(limit, timings)| LimitRow { limit, percentiles: BenchPercentiles::of(timings) }).collect()
    }

    /// Adds a work and its limit, both measured in the same turns.
    pub(super) fn add(&mut self, work: &Work, ours: &Measurements, limit: &Measurements) {
        let parts = [FILL, READ].into_iter().zip(&limit.parts);
        for (name, timings) in parts.chain([(work.limit, &limit.times)]) {
            if let Some((_, total)) = self.limits.iter_mut().find(|(limit, _)| *limit == name) {
                total.add(timings);
            }
        }
        let (message_bytes, touched_bytes) = (bytes(work.words), bytes(work.touched_words));
        if !work.is_stream {
            let sizes = [message_bytes, touched_bytes];
            self.latency.push(LatencyRow::new(work.name, sizes, &ours.times, work.limit, &limit.times));
            return;
        }
        // Filling and reading can overlap, one in each process.
        let slower = limit.parts.iter().map(|part| part.at(500)).fold(1.0, f64::max);
        let most = if limit.parts.is_empty() { limit.per_second() } else { 1e9 / slower };
        self.throughput.push(ThroughputRow::new(work.name, message_bytes, ours, work.limit, most));
    }
}
