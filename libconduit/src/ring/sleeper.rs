//! Sleeping until a reader has news: the reader itself, or somebody who waits for many of them. Labels refer to the
//! [protocol](super).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use super::end::Gone;
use super::layout::ONE_WAKE;
use super::memory::{Memory, head};
use crate::fault::{self, Step};
use crate::shm::atomics::{Atomic, Atomics};

/// Sleeps for a reader. Clones sleep for the same one, at the same time if they like.
pub(crate) struct Sleeper<M: Memory> {
    memory: M,
    /// The reader's record; without one nobody can be asked to wake it.
    record: Option<usize>,
    shared: Arc<Shared<M::Atomics>>,
}

impl<M: Memory + Clone> Clone for Sleeper<M> {
    fn clone(&self) -> Self {
        Self { memory: self.memory.clone(), record: self.record, shared: Arc::clone(&self.shared) }
    }
}

/// What a reader and those who sleep for it have in common, in this process.
struct Shared<A: Atomics> {
    /// Where the reader is. Behind that, in the eyes of another thread, is harmless: it finds news that are none.
    cursor: AtomicU64,
    /// How many are about to sleep, or do: they share the reader's bit.
    sleepers: A::U32,
}

impl<M: Memory> fmt::Debug for Sleeper<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeper").field("record", &self.record).finish_non_exhaustive()
    }
}

impl<M: Memory> Sleeper<M> {
    pub(super) fn new(memory: M, record: Option<usize>) -> Self {
        let shared = Shared { cursor: AtomicU64::new(0), sleepers: <M::Atomics as Atomics>::U32::default() };
        Self { memory, record, shared: Arc::new(shared) }
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Whether a publisher can be asked to wake whoever sleeps. If not, sleep in short steps.
    pub(crate) fn can_be_woken(&self) -> bool {
        self.record.is_some()
    }

    #[inline]
    pub(super) fn note_cursor(&self, cursor: u64) {
        self.shared.cursor.store(cursor, Relaxed);
    }

    /// Whether the reader has something to look at.
    pub(crate) fn has_news(&self) -> bool {
        // Head, not the slot: at a hole nothing will ever appear. Acquire (H1): who has news finds it.
        head(&self.memory, Acquire) > self.shared.cursor.load(Relaxed)
    }

    /// How the topic ended, if it did; messages may be left.
    pub(crate) fn has_ended(&self) -> Option<Gone> {
        // E2
        Gone::from_wake_word(self.memory.consumers().wake.load(Acquire))
    }

    fn bit(&self) -> u64 {
        self.record.map_or(0, |record| 1 << record)
    }

    /// Begins to sleep; [`leave`](Self::leave) ends it. In between, every round is an [`announce`](Self::announce), a look
    /// for news and the end, and if there are none, sleep.
    pub(crate) fn enter(&self) {
        self.shared.sleepers.fetch_add(1, AcqRel);
    }

    /// What the wake word must still be for this round's sleep.
    pub(crate) fn announce(&self) -> u32 {
        let consumers = self.memory.consumers();
        // S1
        let seen = consumers.wake.load(Relaxed);
        let bit = self.bit();
        if bit != 0 {
            // S2: in every round, since whoever woke us has cleared it.
            consumers.waiting.fetch_or(bit, AcqRel);
            fault::point(Step::SleepAnnounced);
        }
        seen
    }

    pub(crate) fn leave(&self) {
        let is_last = self.shared.sleepers.fetch_add(u32::MAX, AcqRel) == 1;
        let (consumers, bit) = (self.memory.consumers(), self.bit());
        // A bit that stays set would cost the next publish a system call.
        if is_last && bit != 0 && consumers.waiting.load(Relaxed) & bit != 0 {
            consumers.waiting.fetch_and(!bit, AcqRel);
            // Who has announced itself since may have lost its bit by this, and must announce itself again.
            if self.shared.sleepers.load(Acquire) != 0 {
                self.rouse();
            }
        }
    }

    /// Wakes all who sleep on the topic, for nothing. Does nothing for a reader without a record, who could not write the word.
    pub(crate) fn rouse(&self) {
        if self.record.is_some() {
            self.memory.consumers().wake.fetch_add(ONE_WAKE, Relaxed);
            self.memory.wake_all();
        }
    }

    /// Sleeps until there is news, the end, or the time is up; may return early.
    ///
    /// Returns whether there is news.
    pub(crate) fn sleep(&self, timeout: Duration) -> bool {
        self.enter();
        let seen = self.announce();
        let news = self.has_news();
        if !news && Gone::from_wake_word(seen).is_none() {
            self.memory.sleep(seen, timeout);
        }
        self.leave();
        news || self.has_news()
    }
}

/// The same for several readers: `sleep` gets what their wake words must still be, in the same order, and is not called if
/// one of the readers has news or its topic has ended.
pub(crate) fn sleep_for_any<'a, M: Memory + 'a>(
    sleepers: impl Iterator<Item = &'a Sleeper<M>> + Clone,
    seen: &mut Vec<u32>,
    sleep: impl FnOnce(&[u32]),
) {
    seen.clear();
    let mut may_sleep = true;
    for sleeper in sleepers.clone() {
        sleeper.enter();
        let word = sleeper.announce();
        may_sleep &= !sleeper.has_news() && Gone::from_wake_word(word).is_none();
        seen.push(word);
    }
    if may_sleep {
        sleep(seen);
    }
    for sleeper in sleepers {
        sleeper.leave();
    }
}
