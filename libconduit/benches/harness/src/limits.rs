//! What the hardware and the kernel take without Conduit: what benchmarks compare with.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use conduit::ShmRegion;
use rustix::thread::futex;

/// Size of the raw region that [`PingPong`] and [`Stream`] play in.
pub const REGION_BYTES: usize = size_of::<Court>();
/// Messages of a [`Stream`] that are on their way at most.
pub const WINDOW: u64 = 256;
/// How many messages of a [`Stream`] are acknowledged at once.
const ACKNOWLEDGED_AT_ONCE: u64 = WINDOW / 4;
/// How often to look at the word before the caller is asked whether to go on.
const SPINS: u32 = 4096;
/// How long to sleep before the caller is asked whether to go on.
const NAP: futex::Timespec = futex::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// From a slot of a ring to its payload.
const SLOT_HEADER_BYTES: usize = 64;

/// The ball lies with nobody.
const IDLE: u32 = 0;
const PING: u32 = 1;
const PONG: u32 = 2;
const END: u32 = 3;

/// A message of 64 bytes: a cache line whose first word is written last.
#[repr(C, align(64))]
struct Line([AtomicU64; 8]);

/// An atomic with a cache line to itself.
#[repr(C, align(64))]
struct Alone<T>(T);

#[repr(C)]
struct Court {
    ball: Alone<AtomicU32>,
    acknowledged: Alone<AtomicU64>,
    lines: [Line; WINDOW as usize],
}

/// # Panics
///
/// If the region is smaller than [`REGION_BYTES`].
fn court(region: &ShmRegion) -> &Court {
    assert!(region.size() >= REGION_BYTES, "the region is too small for the limits");
    // SAFETY: the region is large enough, aligned to a page and mapped as long as it is borrowed. All bytes are valid
    // atomic integers, and nobody touches these bytes in another way than through them.
    unsafe { &*region.data().cast::<Court>() }
}

/// How a process waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It looks again and again.
    Spin,
    /// It sleeps on a futex, and has to be woken.
    Sleep,
}

/// One word that two processes hand each other: the least that any message between them takes.
///
/// The methods that wait ask `keep_waiting` now and then, and return `false` as soon as it does.
#[derive(Clone, Copy)]
pub struct PingPong<'a> {
    ball: &'a AtomicU32,
    wait: Wait,
}

impl<'a> PingPong<'a> {
    /// In a region of at least [`REGION_BYTES`] that both have open and that was zeroed at first.
    ///
    /// # Panics
    ///
    /// If the region is smaller.
    pub fn new(region: &'a ShmRegion, wait: Wait) -> Self {
        Self { ball: &court(region).ball.0, wait }
    }

    /// One round trip.
    #[inline]
    pub fn serve(&self, keep_waiting: impl FnMut() -> bool) -> bool {
        self.throw();
        self.catch(keep_waiting)
    }

    /// The first half of a round trip: hands the word over, and wakes the other process if it sleeps.
    #[inline]
    pub fn throw(&self) {
        self.hit(PING);
    }

    /// The second half: waits until the word comes back.
    #[inline]
    pub fn catch(&self, keep_waiting: impl FnMut() -> bool) -> bool {
        self.wait_while(PING, keep_waiting) == Some(PONG)
    }

    /// Ends the other process's [`answer`](Self::answer).
    pub fn end(&self, keep_waiting: impl FnMut() -> bool) -> bool {
        self.hit(END);
        self.wait_while(END, keep_waiting) == Some(IDLE)
    }

    /// Returns every ball until the other process ends it.
    pub fn answer(&self, keep_waiting: impl FnMut() -> bool) -> bool {
        self.answer_after(|| (), keep_waiting)
    }

    /// Returns every ball, each after some work, until the other process ends it.
    fn answer_after(&self, mut work: impl FnMut(), mut keep_waiting: impl FnMut() -> bool) -> bool {
        let mut mine = IDLE;
        loop {
            match self.wait_while(mine, &mut keep_waiting) {
                Some(PING) => {
                    work();
                    self.hit(PONG);
                    mine = PONG;
                }
                Some(END) => {
                    self.hit(IDLE);
                    return true;
                }
                _ => return false,
            }
        }
    }

    #[inline]
    fn hit(&self, ball: u32) {
        self.ball.store(ball, Release);
        if self.wait == Wait::Sleep {
            let _ = futex::wake(self.ball, futex::Flags::empty(), i32::MAX as u32);
        }
    }

    /// What the word is when it is no longer `seen`; `None` if the caller waits no more.
    #[inline]
    fn wait_while(&self, seen: u32, mut keep_waiting: impl FnMut() -> bool) -> Option<u32> {
        loop {
            match self.wait {
                Wait::Spin => {
                    for _ in 0..SPINS {
                        let ball = self.ball.load(Acquire);
                        if ball != seen {
                            return Some(ball);
                        }
                    }
                }
                Wait::Sleep => {
                    let _ = futex::wait(self.ball, futex::Flags::empty(), seen, Some(&NAP));
                    let ball = self.ball.load(Acquire);
                    if ball != seen {
                        return Some(ball);
                    }
                }
            }
            if !keep_waiting() {
                return None;
            }
        }
    }
}

/// Buffers in shared memory that two processes fill and read in turn, as they would the slots of two rings: what filling
/// and reading take when nothing but [`PingPong`] tells the other process that a buffer is ready.
#[derive(Debug)]
pub struct Relay {
    wait: Wait,
    is_first: bool,
    words: usize,
    buffers: usize,
    turn: usize,
}

impl Relay {
    /// One process is the first: it serves. Both have the same number of `buffers` of so many `words` each.
    ///
    /// # Panics
    ///
    /// If there are no buffers.
    pub fn new(wait: Wait, is_first: bool, words: usize, buffers: usize) -> Self {
        assert!(buffers > 0, "a relay needs a buffer");
        Self { wait, is_first, words, buffers, turn: 0 }
    }

    /// Size of the raw region that a relay plays in.
    pub fn region_bytes(words: usize, buffers: usize) -> usize {
        Self::OFFSET + 2 * buffers * Self::stride(words)
    }

    /// Where the buffers begin, after the court.
    const OFFSET: usize = REGION_BYTES.next_multiple_of(4096);

    /// From one buffer to the next: as far as from one slot of a ring to the next, lest addresses differ in how well
    /// caches like them.
    const fn stride(words: usize) -> usize {
        (words * size_of::<u64>() + SLOT_HEADER_BYTES).next_multiple_of(4096)
    }

    /// One round trip: fills a buffer of this process and reads the one that the other process has filled.
    ///
    /// # Panics
    ///
    /// If the region is smaller than [`region_bytes`](Self::region_bytes).
    #[inline]
    pub fn serve(
        &mut self,
        region: &ShmRegion,
        fill: impl FnOnce(&mut [u64]),
        read: impl FnOnce(&[u64]),
        keep_waiting: impl FnMut() -> bool,
    ) -> bool {
        let game = PingPong::new(region, self.wait);
        fill(self.buffer(region, self.is_first));
        if !game.serve(keep_waiting) {
            return false;
        }
        read(self.buffer(region, !self.is_first));
        self.turn += 1;
        true
    }

    /// Ends the other process's [`answer`](Self::answer).
    pub fn end(&self, region: &ShmRegion, keep_waiting: impl FnMut() -> bool) -> bool {
        PingPong::new(region, self.wait).end(keep_waiting)
    }

    /// Reads every buffer that the other process has filled, and fills one for it, until the other process ends it.
    ///
    /// # Panics
    ///
    /// If the region is smaller than [`region_bytes`](Self::region_bytes).
    pub fn answer(
        &mut self,
        region: &ShmRegion,
        mut read: impl FnMut(&[u64]),
        mut fill: impl FnMut(&mut [u64]),
        keep_waiting: impl FnMut() -> bool,
    ) -> bool {
        let game = PingPong::new(region, self.wait);
        let work = || {
            read(self.buffer(region, !self.is_first));
            fill(self.buffer(region, self.is_first));
            self.turn += 1;
        };
        game.answer_after(work, keep_waiting)
    }

    /// The buffer whose turn it is, of the first or of the second process.
    #[expect(clippy::mut_from_ref, reason = "whoever has the ball has all the buffers")]
    fn buffer<'a>(&self, region: &'a ShmRegion, of_first: bool) -> &'a mut [u64] {
        assert!(region.size() >= Self::region_bytes(self.words, self.buffers), "the region is too small for the relay");
        let at = self.turn % self.buffers + if of_first { 0 } else { self.buffers };
        // SAFETY: the region is large enough, page-aligned and zeroed at first, and any bytes are valid words. The other
        // process touches the buffers only between a PING and its answer, when this one has just given the ball away and
        // waits for it; in this process nobody keeps what is returned beyond one call of `fill` or `read`.
        unsafe {
            let start = region.data().add(Self::OFFSET + at * Self::stride(self.words) + SLOT_HEADER_BYTES);
            std::slice::from_raw_parts_mut(start.cast(), self.words)
        }
    }
}

/// Messages of 64 bytes in a row from one process to another, each a single cache line: the highest rate there can be
/// without loss. Each process keeps its end of a region for as long as it uses the region.
pub struct Stream<'a> {
    court: &'a Court,
    /// Number of the next message.
    next: u64,
}

impl<'a> Stream<'a> {
    /// In a region of at least [`REGION_BYTES`] that both have open and that was zeroed at first.
    ///
    /// # Panics
    ///
    /// If the region is smaller.
    pub fn new(region: &'a ShmRegion) -> Self {
        Self::resume(region, 0)
    }

    /// Goes on where an end that is no longer used has stopped.
    ///
    /// # Panics
    ///
    /// If the region is smaller than [`REGION_BYTES`].
    pub fn resume(region: &'a ShmRegion, next: u64) -> Self {
        Self { court: court(region), next }
    }

    /// Number of the next message.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sends a message, which is the `last` one or not, and waits if too many are on their way. Returns `false` if
    /// `keep_waiting` does, which is asked now and then.
    #[inline]
    pub fn send(&mut self, last: bool, keep_waiting: impl FnMut() -> bool) -> bool {
        if self.next >= WINDOW && !self.wait_for(self.next - WINDOW + 1, keep_waiting) {
            return false;
        }
        let [number, is_last, rest @ ..] = &self.court.lines[(self.next % WINDOW) as usize].0;
        is_last.store(last.into(), Relaxed);
        for word in rest {
            word.store(self.next, Relaxed);
        }
        self.next += 1;
        number.store(self.next, Release);
        true
    }

    /// Waits until everything sent has been received. Returns `false` if `keep_waiting` does.
    pub fn flush(&self, keep_waiting: impl FnMut() -> bool) -> bool {
        self.wait_for(self.next, keep_waiting)
    }

    /// Waits until that many messages have been acknowledged.
    #[inline]
    fn wait_for(&self, received: u64, mut keep_waiting: impl FnMut() -> bool) -> bool {
        loop {
            for _ in 0..SPINS {
                if self.court.acknowledged.0.load(Acquire) >= received {
                    return true;
                }
            }
            if !keep_waiting() {
                return false;
            }
        }
    }

    /// Receives until the last message; returns how many that were, or `None` if `keep_waiting` becomes false.
    pub fn receive(&mut self, mut keep_waiting: impl FnMut() -> bool) -> Option<u64> {
        let begun = self.next;
        loop {
            let [number, is_last, rest @ ..] = &self.court.lines[(self.next % WINDOW) as usize].0;
            while (0..SPINS).all(|_| number.load(Acquire) != self.next + 1) {
                if !keep_waiting() {
                    return None;
                }
            }
            for word in rest {
                black_box(word.load(Relaxed));
            }
            let is_last = is_last.load(Relaxed) != 0;
            self.next += 1;
            if is_last || self.next.is_multiple_of(ACKNOWLEDGED_AT_ONCE) {
                self.court.acknowledged.0.store(self.next, Release);
            }
            if is_last {
                return Some(self.next - begun);
            }
        }
    }
}

/// Private memory in buffers of the size of a large message, used in turn as the slots of a ring are.
#[derive(Debug)]
pub struct Memory {
    buffers: Vec<Vec<u64>>,
    turn: usize,
}

impl Memory {
    /// Takes the memory and touches it all. There is at least one buffer.
    pub fn new(buffer_bytes: usize, buffers: usize) -> Self {
        let buffer = || vec![1; buffer_bytes.div_ceil(size_of::<u64>())];
        Self { buffers: std::iter::repeat_with(buffer).take(buffers.max(1)).collect(), turn: 0 }
    }

    /// Fills the next buffer.
    pub fn fill(&mut self) {
        self.turn = (self.turn + 1) % self.buffers.len();
        // A byte that differs from turn to turn, in every place.
        let byte = self.turn as u64 * 0x0101_0101_0101_0101;
        let buffer = &mut self.buffers[self.turn];
        buffer.fill(byte);
        black_box(&buffer[..]);
    }

    /// Reads the buffer that was filled last; returns something that depends on every byte.
    pub fn read(&self) -> u64 {
        let buffer = black_box(&self.buffers[self.turn][..]);
        black_box(buffer.iter().fold(0, |all, word| all ^ word))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use conduit::Domain;

    use super::*;

    fn region(directory: &tempfile::TempDir) -> ShmRegion {
        let domain = Domain::new(directory.path()).without_registry();
        ShmRegion::builder().domain(&domain).create("court", REGION_BYTES).unwrap()
    }

    #[test]
    fn the_ball_comes_back_until_the_end() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let region = region(&directory);
        for wait in [Wait::Spin, Wait::Sleep] {
            let game = PingPong::new(&region, wait);
            thread::scope(|scope| {
                let other = scope.spawn(move || game.answer(|| true));
                assert!((0..1000).all(|_| game.serve(|| true)), "{wait:?}");
                assert!(game.end(|| true));
                assert!(other.join().unwrap());
            });
            assert_eq!(game.ball.load(Relaxed), IDLE);
        }
    }

    #[test]
    fn nobody_waits_for_a_process_that_is_gone() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let region = region(&directory);
        for wait in [Wait::Spin, Wait::Sleep] {
            assert!(!PingPong::new(&region, wait).serve(|| false), "{wait:?}");
        }
        let mut stream = Stream::new(&region);
        assert!((0..WINDOW).all(|_| stream.send(false, || false)));
        assert!(!stream.send(false, || false), "the window is full");
        assert!(!stream.flush(|| false));
        assert_eq!(Stream::resume(&region, WINDOW).receive(|| false), None);
    }

    #[test]
    fn a_stream_loses_nothing() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let region = region(&directory);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut stream = Stream::new(&region);
                [10_000, 1, WINDOW].map(|expected| (expected, stream.receive(|| true)))
            });
            let mut stream = Stream::new(&region);
            for count in [10_000, 1, WINDOW] {
                assert!((1..=count).all(|message| stream.send(message == count, || true)));
                assert!(stream.flush(|| true));
            }
            for (expected, received) in other.join().unwrap() {
                assert_eq!(received, Some(expected));
            }
        });
    }

    #[test]
    fn a_relay_hands_every_buffer_over_whole() {
        const WORDS: usize = 100;
        const BUFFERS: usize = 3;
        // A thread that fails ends the other's waiting.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let goes_on = move || std::time::Instant::now() < deadline;
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let bytes = Relay::region_bytes(WORDS, BUFFERS);
        let region = ShmRegion::builder().domain(&domain).create("relay", bytes).unwrap();
        for wait in [Wait::Spin, Wait::Sleep] {
            let (mut first, mut second) =
                (Relay::new(wait, true, WORDS, BUFFERS), Relay::new(wait, false, WORDS, BUFFERS));
            thread::scope(|scope| {
                let region = &region;
                let other = scope.spawn(move || {
                    let seen = std::cell::Cell::new(0);
                    let read = |words: &[u64]| {
                        assert!(words.iter().all(|&word| word == words[0]), "{words:?}");
                        seen.set(words[0]);
                    };
                    second.answer(region, read, |words| words.fill(!seen.get()), goes_on) && second.turn == 1000
                });
                for round in 0..1000 {
                    let read = |words: &[u64]| assert_eq!(words, [!round; WORDS]);
                    assert!(first.serve(region, |words| words.fill(round), read, goes_on));
                }
                assert!(first.end(region, goes_on));
                assert!(other.join().unwrap());
            });
        }
        // Both have used all of their buffers, each its own.
        let relay = |of_first, turn| {
            Relay { turn, ..Relay::new(Wait::Spin, of_first, WORDS, BUFFERS) }.buffer(&region, of_first)
        };
        let mut starts: Vec<_> =
            (0..BUFFERS).flat_map(|turn| [relay(true, turn).as_ptr(), relay(false, turn).as_ptr()]).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 2 * BUFFERS);
    }

    #[test]
    fn every_buffer_is_filled_in_turn() {
        let mut memory = Memory::new(24, 3);
        let mut turns = || {
            memory.fill();
            (memory.turn, memory.buffers[memory.turn][2], memory.read())
        };
        let byte = 0x0101_0101_0101_0101;
        assert_eq!([turns(), turns(), turns()], [(1, byte, byte), (2, 2 * byte, 2 * byte), (0, 0, 0)]);
    }
}
