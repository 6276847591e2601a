//! Sleeping until a reader has news: the reader itself, or another thread that waits for several
//! readers. Labels refer to the [protocol](super).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use super::end::Gone;
use super::layout::{NUMBER, ONE_WAKE};
use super::memory::{Memory, ReaderMemory, SHARED_WAITING_BIT, WritableMemory, waiting_bit};
use crate::fault::{self, Step};
use crate::mutation::{mutated, order, step};
use crate::shm::atomics::{Atomic, AtomicLoad, Atomics};
use crate::shm::stop_word::StopWord;

/// What a thread does to sleep until a reader has news.
///
/// [`enter`](Self::enter) once, then in every round [`announce`](Self::announce), check for news
/// and the end, and sleep if there are none; at last [`leave`](Self::leave).
pub(crate) trait Sleep {
    /// Registers a thread that is about to sleep.
    fn enter(&self);
    /// Asks the writer for a wake-up. Returns the wake word of this round: sleep only while it has
    /// that value.
    fn announce(&self) -> u32;
    /// Ends [`enter`](Self::enter).
    fn leave(&self);
    /// Whether the reader has something to receive.
    fn has_news(&self) -> bool;
}

/// Sleeps for a reader. Clones sleep for the same reader, concurrently if need be.
pub(crate) struct Sleeper<M: Memory> {
    memory: Arc<M>,
    /// The reader's record, without which no writer can wake it.
    record: Option<usize>,
    state: Arc<SleepState<M::Atomics>>,
}

impl<M: Memory> Clone for Sleeper<M> {
    fn clone(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), record: self.record, state: Arc::clone(&self.state) }
    }
}

/// What a reader and its sleepers share in this process.
struct SleepState<A: Atomics> {
    /// The reader's cursor. If another thread reads an old value, it finds news that are not there,
    /// which is harmless.
    cursor: AtomicU64,
    /// Threads between `enter` and `leave`: they share the reader's bit.
    sleepers: A::Counter,
}

impl<M: Memory> fmt::Debug for Sleeper<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeper").field("record", &self.record).finish_non_exhaustive()
    }
}

impl<M: ReaderMemory> Sleeper<M> {
    pub(super) fn new(memory: Arc<M>, record: Option<usize>) -> Self {
        let sleepers = <M::Atomics as Atomics>::Counter::default();
        Self { memory, record, state: Arc::new(SleepState { cursor: AtomicU64::new(0), sleepers }) }
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Whether a publisher can wake a thread that sleeps. If not, sleep in short steps.
    pub(crate) fn can_be_woken(&self) -> bool {
        self.record.is_some()
    }

    #[inline]
    pub(super) fn note_cursor(&self, cursor: u64) {
        step!(cursor_for_sleepers, self.state.cursor.store(cursor, Relaxed));
    }

    /// The position of the next message.
    pub(crate) fn cursor(&self) -> u64 {
        self.state.cursor.load(Relaxed)
    }

    /// When the message of a position was published, if it is still there and has a time stamp.
    pub(crate) fn stamp_ns(&self, position: u64) -> Option<u64> {
        let entry = self.memory.entry(position);
        // As R1, after which the stamp is that of this message or, if a newer one is being written
        // there, of that one.
        let found = entry.position.load(Acquire);
        Some(entry.stamp_ns.load(Relaxed)).filter(|&stamp_ns| stamp_ns != 0 && found & NUMBER == position + 1)
    }

    /// How the topic ended, if it did; there may be messages left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        // E2
        Gone::from_wake_word(self.memory.consumers().wake.load(order!(e2, Acquire)))
    }

    /// The memory and the reader's bit in it, if it has a record.
    fn bit(&self) -> Option<(&M::Writable, u64)> {
        Some((self.memory.writable()?, waiting_bit(self.record?)))
    }

    /// Spuriously wakes all waiters of the topic. Does nothing for a reader without a record, which
    /// could not write the word.
    pub(crate) fn rouse(&self) {
        if let Some((memory, _)) = self.bit() {
            step!(rouse_change, memory.consumers().wake.fetch_add(ONE_WAKE, Relaxed));
            step!(rouse_wake, memory.wake_all());
        }
    }

    /// Sleeps until there is news, the topic has ended, the time is up, or it is to stop; may
    /// return early. Returns whether there is news.
    pub(crate) fn sleep(&self, timeout: Duration, stop: Option<&StopWord>) -> bool {
        self.enter();
        let seen = self.announce();
        let has_news = !mutated!(sleep_without_check_for_news) && self.has_news();
        let has_ended = !mutated!(sleep_without_check_for_end) && Gone::from_wake_word(seen).is_some();
        if !has_news && !has_ended {
            self.memory.sleep(seen, timeout, stop);
        }
        step!(leave, self.leave());
        has_news || self.has_news()
    }
}

impl<M: ReaderMemory> Sleep for Sleeper<M> {
    fn enter(&self) {
        // Relaxed: S2, which follows, releases it.
        self.state.sleepers.fetch_add(1, Relaxed);
    }

    fn announce(&self) -> u32 {
        // S1
        let mut seen = self.memory.consumers().wake.load(Relaxed);
        if let Some((memory, bit)) = self.bit() {
            // S2: in every round, since the wake-up has cleared it.
            step!(s2, memory.consumers().waiting.fetch_or(bit, order!(s2, Release)));
            // S3
            step!(s3, M::Atomics::fence(order!(s3, SeqCst fence)));
            fault::point(Step::SleepAnnounced);
        }
        if mutated!(s1_after_s2) {
            seen = self.memory.consumers().wake.load(Relaxed);
        }
        seen
    }

    fn leave(&self) {
        let is_last =
            self.state.sleepers.fetch_add(u32::MAX, order!(leave, Acquire)) == 1 || mutated!(leave_as_if_last);
        let Some((memory, bit)) = self.bit() else { return };
        let waiting = &memory.consumers().waiting;
        // A bit that stays set would cost the next publish a system call. One that is shared stays.
        if is_last && bit != 1 << SHARED_WAITING_BIT && waiting.load(Relaxed) & bit != 0 {
            step!(leave_clear, waiting.fetch_and(!bit, order!(leave_clear, Acquire)));
            // A thread that has announced itself since may have lost its bit by this, and must
            // announce itself again.
            if self.state.sleepers.load(Relaxed) != 0 {
                step!(leave_rouse, self.rouse());
            }
        }
    }

    fn has_news(&self) -> bool {
        let cursor = self.state.cursor.load(Relaxed);
        // R1: also if the message was overwritten meanwhile. Relaxed: whoever receives after this
        // finds no earlier position there.
        self.memory.entry(cursor).position.load(Relaxed) & NUMBER > cursor
    }
}

/// Sleeps for several readers: calls `sleep` with their wake words, in order, unless one of them
/// has news or its topic has ended.
pub(crate) fn sleep_for_any<'a, S: Sleep + 'a>(
    sleepers: impl Iterator<Item = &'a S> + Clone,
    seen: &mut Vec<u32>,
    sleep: impl FnOnce(&[u32]),
) {
    seen.clear();
    let mut may_sleep = true;
    for sleeper in sleepers.clone() {
        sleeper.enter();
        let word = sleeper.announce();
        may_sleep &= mutated!(sleep_for_any_without_check_for_news) || !sleeper.has_news();
        may_sleep &= mutated!(sleep_for_any_without_check_for_end) || Gone::from_wake_word(word).is_none();
        seen.push(word);
    }
    if may_sleep {
        sleep(seen);
    }
    for sleeper in sleepers {
        step!(leave_any, sleeper.leave());
    }
}
