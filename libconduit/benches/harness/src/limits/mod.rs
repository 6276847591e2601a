//! What the hardware and the kernel take without Conduit: the limits that the benchmarks compare
//! with.
//!
//! Two processes share a [`LimitsRegion`]. Over it they hand over a word ([`PingPong`]), stream
//! cache lines ([`LineStream`]) or fill and read buffers in turn ([`Relay`]). All methods that wait
//! call `check` now and then; its error ends the waiting.
//!
//! The protocol of a word: the first process stores PING (it *serves*) or END and waits for the
//! second one to store PONG or IDLE in return. Whoever stored last waits. Each store releases
//! (label: word), each load acquires.
#![allow(unsafe_code)]

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use conduit::ShmRegion;
use rustix::thread::futex;

use crate::conduit_transport::if_found;
use crate::partner::retry;
use crate::site::BenchSite;
use crate::{BenchError, BenchSide, Result, Wait};

/// Messages of a [`LineStream`] that are in flight at most.
pub const WINDOW: u64 = 256;
/// Messages of a [`LineStream`] that are acknowledged at once.
const ACKNOWLEDGED_AT_ONCE: u64 = WINDOW / 4;
/// Loads of a word between two calls of `check`.
const SPINS: u32 = 4096;
/// How long to sleep between two calls of `check`.
const NAP: futex::Timespec = futex::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Offset of the payload in a slot of a ring: buffers lie like payloads, because caches depend on
/// addresses.
const SLOT_HEADER_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const NAME: &str = "limits";

const IDLE: u32 = 0;
const PING: u32 = 1;
const PONG: u32 = 2;
const END: u32 = 3;

/// An atomic with a cache line of its own.
#[repr(C, align(64))]
struct OwnLine<T>(T);

/// A message of 64 bytes: a cache line whose first word is written last.
#[repr(C, align(64))]
struct MessageLine([AtomicU64; 8]);

/// The start of the region. Buffers follow from the next page on.
#[repr(C)]
struct LimitsHeader {
    ping_pong: OwnLine<AtomicU32>,
    relay: OwnLine<AtomicU32>,
    acknowledged: OwnLine<AtomicU64>,
    lines: [MessageLine; WINDOW as usize],
    /// Not 0 when a second process has opened the region.
    has_second: AtomicU32,
}

const BUFFERS_AT: usize = size_of::<LimitsHeader>().next_multiple_of(PAGE_BYTES);

/// The memory that the limits are measured in: of one first and one second process, each with one
/// of these.
#[derive(Debug)]
pub struct LimitsRegion {
    region: ShmRegion,
    side: BenchSide,
    buffer_words: usize,
    buffers: usize,
    has_relay: Cell<bool>,
}

impl LimitsRegion {
    /// Creates the region (the first process), or waits for it and opens it (the second one). Each
    /// process has as many `buffers` of so many words; both pass the same sizes.
    pub fn new(site: &BenchSite, side: BenchSide, buffer_words: usize, buffers: usize) -> Result<Rc<Self>> {
        Self::named(NAME, site, side, buffer_words, buffers)
    }

    fn named(name: &str, site: &BenchSite, side: BenchSide, buffer_words: usize, buffers: usize) -> Result<Rc<Self>> {
        let domain = site.domain();
        let bytes = BUFFERS_AT + 2 * buffers * stride(buffer_words);
        let region = match side {
            BenchSide::First => ShmRegion::builder().domain(&domain).create(name, bytes)?,
            BenchSide::Second => retry("the region of the limits", || if_found(ShmRegion::open_in(&domain, name)))?,
        };
        if region.size() < bytes {
            return Err("the region of the limits is too small for its buffers".into());
        }
        let region = Self { region, side, buffer_words, buffers, has_relay: Cell::new(false) };
        if side == BenchSide::Second && region.header().has_second.swap(1, Relaxed) != 0 {
            return Err("a second process has already opened the region of the limits".into());
        }
        Ok(Rc::new(region))
    }

    fn header(&self) -> &LimitsHeader {
        // SAFETY: the region is at least as large as the header (`new` checks it), page-aligned and
        // mapped while it is borrowed. The header consists of atomics, for which all bytes are
        // valid and through which alone this module accesses it.
        unsafe { &*self.region.data().cast::<LimitsHeader>() }
    }

    /// The buffer of a process whose turn it is.
    fn buffer(&self, side: BenchSide, turn: usize) -> *mut u64 {
        let at = turn % self.buffers + if side == BenchSide::First { 0 } else { self.buffers };
        // SAFETY: there are twice as many buffers as `buffers`, and the region has room for all of
        // them.
        unsafe { self.region.data().add(BUFFERS_AT + at * stride(self.buffer_words) + SLOT_HEADER_BYTES).cast() }
    }
}

/// From one buffer to the next: as far as from one slot of a ring to the next.
const fn stride(words: usize) -> usize {
    (words * size_of::<u64>() + SLOT_HEADER_BYTES).next_multiple_of(PAGE_BYTES)
}

/// One word that two processes hand over and back: the least that any message between them takes.
#[derive(Clone, Copy)]
pub struct PingPong<'a> {
    word: &'a AtomicU32,
    wait: Wait,
}

impl<'a> PingPong<'a> {
    /// The word of a region; both processes wait in the same way.
    pub fn new(region: &'a LimitsRegion, wait: Wait) -> Self {
        Self { word: &region.header().ping_pong.0, wait }
    }

    /// One round trip.
    #[inline]
    pub fn serve(&self, check: impl FnMut() -> Result<()>) -> Result<()> {
        self.hand_over();
        self.take_back(check)
    }

    /// The first half of a round trip: hands the word over, and wakes the other process if it
    /// sleeps.
    #[inline]
    pub fn hand_over(&self) {
        self.store(PING);
    }

    /// The second half: waits until the word comes back.
    #[inline]
    pub fn take_back(&self, check: impl FnMut() -> Result<()>) -> Result<()> {
        if self.wait_while(PING, check)? == PONG { Ok(()) } else { Err(unexpected()) }
    }

    /// Ends the other process's [`answer`](Self::answer).
    pub fn end(&self, check: impl FnMut() -> Result<()>) -> Result<()> {
        self.store(END);
        if self.wait_while(END, check)? == IDLE { Ok(()) } else { Err(unexpected()) }
    }

    /// Hands the word back, each time after calling `work`, until the other process ends it.
    pub fn answer(&self, mut work: impl FnMut() -> Result<()>, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let mut mine = IDLE;
        loop {
            match self.wait_while(mine, &mut check)? {
                PING => {
                    work()?;
                    self.store(PONG);
                    mine = PONG;
                }
                END => {
                    self.store(IDLE);
                    return Ok(());
                }
                _ => return Err(unexpected()),
            }
        }
    }

    #[inline]
    fn store(&self, value: u32) {
        self.word.store(value, Release); // label: word
        if self.wait == Wait::Sleep {
            let _ = futex::wake(self.word, futex::Flags::empty(), i32::MAX as u32);
        }
    }

    /// The word as soon as it differs from `seen`.
    #[inline]
    fn wait_while(&self, seen: u32, mut check: impl FnMut() -> Result<()>) -> Result<u32> {
        loop {
            let mut loads = SPINS;
            if self.wait == Wait::Sleep {
                // All errors (the word has changed, a signal, the time is over) call for another
                // look at the word.
                let _ = futex::wait(self.word, futex::Flags::empty(), seen, Some(&NAP));
                loads = 1;
            }
            for _ in 0..loads {
                let value = self.word.load(Acquire); // label: word
                if value != seen {
                    return Ok(value);
                }
            }
            check()?;
        }
    }
}

#[cold]
fn unexpected() -> BenchError {
    "the other process answers wrongly".into()
}

/// Buffers in shared memory that two processes fill and read in turn, as they would the slots of
/// two rings: what filling and reading take when a word handed over is all that announces a buffer.
///
/// The process that holds the word may access all buffers, the other one none. That makes the
/// slices of [`serve`] and [`answer`] exclusive: there is one relay per process
/// (`LimitsRegion::has_relay`, and `has_second` for a second process), its methods borrow it
/// mutably, only a relay stores its word, and a first process that stops waiting for the word never
/// accesses a buffer again.
///
/// [`serve`]: Self::serve
/// [`answer`]: Self::answer
#[derive(Debug)]
pub struct Relay {
    region: Rc<LimitsRegion>,
    wait: Wait,
    /// How many of each process's buffers are used.
    buffers: usize,
    turn: usize,
    is_lost: bool,
}

impl Relay {
    /// The relay of a region; an error if the region has no buffers or this process already has its
    /// relay.
    pub fn new(region: &Rc<LimitsRegion>, wait: Wait) -> Result<Self> {
        if region.buffers == 0 || region.has_relay.replace(true) {
            return Err("the region of the limits has no buffers left for a relay".into());
        }
        Ok(Self { region: region.clone(), wait, buffers: region.buffers, turn: 0, is_lost: false })
    }

    /// Uses only so many of each process's buffers from now on, at least one and at most all. Both
    /// processes do so between two turns.
    pub fn use_buffers(&mut self, buffers: usize) {
        self.buffers = buffers.clamp(1, self.region.buffers);
    }

    /// One round trip of the first process: fills a buffer and reads the one that the other process
    /// fills in return.
    #[inline]
    pub fn serve(
        &mut self,
        fill: impl FnOnce(&mut [u64]),
        read: impl FnOnce(&[u64]) -> Result<()>,
        check: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        self.hold(BenchSide::First)?;
        let (words, turn) = (self.region.buffer_words, self.turn % self.buffers);
        // SAFETY: see the type: this process holds the word until it hands it over below. The
        // buffer is valid for so many words, aligned to a cache line, zeroed at first, and any
        // bytes are valid words.
        fill(unsafe { std::slice::from_raw_parts_mut(self.region.buffer(BenchSide::First, turn), words) });
        let served = self.word().serve(check);
        self.is_lost = served.is_err();
        served?;
        self.turn += 1;
        // SAFETY: as above: the word has come back.
        read(unsafe { std::slice::from_raw_parts(self.region.buffer(BenchSide::Second, turn), words) })
    }

    /// Ends the other process's [`answer`](Self::answer).
    pub fn end(&mut self, check: impl FnMut() -> Result<()>) -> Result<()> {
        self.hold(BenchSide::First)?;
        let ended = self.word().end(check);
        self.is_lost = ended.is_err();
        ended
    }

    /// The part of the second process, until the first one ends it: `work` reads each buffer and
    /// fills one in return.
    pub fn answer(
        &mut self,
        mut work: impl FnMut(&[u64], &mut [u64]) -> Result<()>,
        check: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        self.hold(BenchSide::Second)?;
        let (region, words, turn) = (&self.region, self.region.buffer_words, Cell::new(self.turn));
        let work = || {
            let at = turn.get() % self.buffers;
            // SAFETY: see the type: this process holds the word during `work`. The buffer is valid
            // for so many words, aligned to a cache line, zeroed at first, and any bytes are valid
            // words.
            let received = unsafe { std::slice::from_raw_parts(region.buffer(BenchSide::First, at), words) };
            // SAFETY: as above; the buffers of the two processes do not overlap.
            let answer = unsafe { std::slice::from_raw_parts_mut(region.buffer(BenchSide::Second, at), words) };
            turn.set(turn.get() + 1);
            work(received, answer)
        };
        let answered = self.word().answer(work, check);
        self.turn = turn.get();
        answered
    }

    /// Fails unless this is the process of that side and has the word, or will get it.
    fn hold(&self, side: BenchSide) -> Result<()> {
        if self.is_lost || self.region.side != side {
            return Err("this process has no part in the relay".into());
        }
        Ok(())
    }

    fn word(&self) -> PingPong<'_> {
        PingPong { word: &self.region.header().relay.0, wait: self.wait }
    }
}

/// Messages of 64 bytes in a row from the first process to the second, each a single cache line:
/// the highest rate without loss.
pub struct LineStream {
    region: Rc<LimitsRegion>,
    /// Number of the next message.
    next: u64,
}

impl LineStream {
    /// One end of the stream of a region.
    pub fn new(region: &Rc<LimitsRegion>) -> Self {
        Self { region: region.clone(), next: 0 }
    }

    /// Sends a message, after waiting while [`WINDOW`] messages are in flight. The receiver stops
    /// after the last one.
    #[inline]
    pub fn send(&mut self, is_last: bool, check: impl FnMut() -> Result<()>) -> Result<()> {
        if self.next >= WINDOW {
            self.wait_for(self.next - WINDOW + 1, check)?;
        }
        let [number, last, rest @ ..] = &self.region.header().lines[(self.next % WINDOW) as usize].0;
        last.store(is_last.into(), Relaxed);
        for word in rest {
            word.store(self.next, Relaxed);
        }
        self.next += 1;
        number.store(self.next, Release); // label: line
        Ok(())
    }

    /// Waits until everything sent has been received.
    pub fn flush(&self, check: impl FnMut() -> Result<()>) -> Result<()> {
        self.wait_for(self.next, check)
    }

    #[inline]
    fn wait_for(&self, received: u64, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let acknowledged = &self.region.header().acknowledged.0;
        while (0..SPINS).all(|_| acknowledged.load(Acquire) < received) {
            // label: acknowledged
            check()?;
        }
        Ok(())
    }

    /// Receives until the last message; returns how many messages that were.
    pub fn receive(&mut self, mut check: impl FnMut() -> Result<()>) -> Result<u64> {
        let (begun, header) = (self.next, self.region.header());
        loop {
            let [number, last, rest @ ..] = &header.lines[(self.next % WINDOW) as usize].0;
            while (0..SPINS).all(|_| number.load(Acquire) != self.next + 1) {
                // label: line
                check()?;
            }
            for word in rest {
                black_box(word.load(Relaxed));
            }
            let is_last = last.load(Relaxed) != 0;
            self.next += 1;
            if is_last || self.next.is_multiple_of(ACKNOWLEDGED_AT_ONCE) {
                header.acknowledged.0.store(self.next, Release); // label: acknowledged
            }
            if is_last {
                return Ok(self.next - begun);
            }
        }
    }
}

/// How many messages of a stream the second process has received, in a word beside the transport
/// that carries them.
pub struct StreamReceipts {
    region: Rc<LimitsRegion>,
}

impl StreamReceipts {
    /// One end of the receipts of this stream.
    pub fn new(site: &BenchSite, side: BenchSide, stream: &str) -> Result<Self> {
        Ok(Self { region: LimitsRegion::named(&format!("{stream}/receipts"), site, side, 0, 0)? })
    }

    /// The second process has received so many messages in all, and read them.
    #[inline]
    pub fn acknowledge(&self, received: u64) {
        self.region.header().acknowledged.0.store(received, Release); // label: acknowledged
    }

    /// How many it has acknowledged.
    #[inline]
    pub fn received(&self) -> u64 {
        self.region.header().acknowledged.0.load(Acquire) // label: acknowledged
    }
}

/// Memory of this process alone: buffers of the size of a large message, used in turn as the slots
/// of a ring are.
#[derive(Debug)]
pub struct PrivateBuffers {
    buffers: Vec<Vec<u64>>,
    turn: usize,
}

impl PrivateBuffers {
    /// Allocates and touches the memory; a process that only answers needs no buffers.
    pub fn new(words: usize, buffers: usize) -> Self {
        Self { buffers: vec![vec![1; words]; buffers], turn: 0 }
    }

    /// Fills the next buffer.
    pub fn fill(&mut self) {
        self.turn = (self.turn + 1) % self.buffers.len();
        // A byte that differs from turn to turn, everywhere.
        let byte = self.turn as u64 * 0x0101_0101_0101_0101;
        let buffer = &mut self.buffers[self.turn];
        buffer.fill(byte);
        black_box(&buffer[..]);
    }

    /// Reads the buffer that was filled last; returns a value that depends on every byte.
    pub fn read(&self) -> u64 {
        let buffer = black_box(&self.buffers[self.turn][..]);
        black_box(buffer.iter().fold(0, |all, word| all ^ word))
    }
}
