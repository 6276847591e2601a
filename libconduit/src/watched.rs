//! What a subscriber shares with wait sets and parkers, which wait on its behalf.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, mem};

use crate::intervals::CHECK_INTERVAL;
use crate::mutation::{mutated, order, step};
use crate::registry::Lease;
use crate::ring::attached::AttachedSleeper;
use crate::ring::sleeper::Sleep;
use crate::shm::cancellation::Uncancelled;
use crate::shm::clock::{coarse_now, now_ns};
use crate::shm::dying::RegionOwner;
use crate::shm::lock::OWNER;
use crate::silence::MessageDeadline;

/// How long to sleep for a subscriber that may only read the region and therefore cannot ask to be
/// woken.
const READ_ONLY_STEP: Duration = Duration::from_millis(1);

/// How long to sleep where nothing needs to be checked.
const UNDISTURBED: Duration = Duration::from_secs(24 * 60 * 60);

/// A subscriber's topic, as something to wait for.
#[derive(Debug)]
pub(crate) struct Watched {
    sleeper: AttachedSleeper,
    /// `None` for a ring that nobody publishes on: it neither lives nor dies.
    publisher: Option<RegionOwner>,
    /// `None` once the subscriber is dropped.
    lease: Mutex<Option<Lease>>,
    has_left: AtomicBool,
    /// The owner lock was found free, or its holder will never run again.
    publisher_is_dead: AtomicBool,
    /// [`is_ready`](Self::is_ready) has reported the end.
    is_over: AtomicBool,
    /// On the coarse clock, in nanoseconds.
    last_check_ns: AtomicU64,
    /// Of a subscriber with a deadline. Never locked in a forked process.
    silence: Option<Mutex<MessageDeadline>>,
}

impl Watched {
    pub(crate) fn new(sleeper: AttachedSleeper, publisher: RegionOwner, lease: Lease) -> Self {
        Self {
            sleeper,
            publisher: Some(publisher),
            lease: Mutex::new(Some(lease)),
            has_left: AtomicBool::new(false),
            publisher_is_dead: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            last_check_ns: AtomicU64::new(coarse_now().as_nanos() as u64),
            silence: None,
        }
    }

    /// Of a ring that nobody publishes on.
    pub(crate) fn vacant(sleeper: AttachedSleeper) -> Self {
        Self {
            sleeper,
            publisher: None,
            lease: Mutex::new(None),
            has_left: AtomicBool::new(false),
            publisher_is_dead: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            last_check_ns: AtomicU64::new(0),
            silence: None,
        }
    }

    /// The subscriber is ready also when nothing has come for so long.
    pub(crate) fn with_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.silence =
            deadline.map(|deadline| Mutex::new(MessageDeadline::new(deadline, self.sleeper.cursor(), now_ns())));
        self
    }

    pub(crate) fn sleeper(&self) -> &AttachedSleeper {
        &self.sleeper
    }

    /// The end of a ring that nobody publishes on was taken back.
    pub(crate) fn begin_again(&self) {
        self.is_over.store(false, Relaxed);
    }

    /// Whether the subscriber has something to receive: a message, the end, or a silence to report.
    pub(crate) fn is_ready(&self) -> bool {
        if self.sleeper.has_news() && !mutated!(ready_without_news) {
            return true;
        }
        let is_dead = self.is_dead() && !mutated!(ready_without_death);
        let is_over = is_dead || self.sleeper.has_ended().is_some() && !mutated!(ready_without_end);
        if is_over {
            step!(ready_is_over, self.is_over.store(true, Relaxed));
        }
        is_over || self.is_overdue() && !mutated!(ready_without_silence)
    }

    /// Whether [`is_ready`](Self::is_ready) has reported the end: then the subscriber must report
    /// it too.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Looks at the silence of a subscriber that has a deadline, and finds no message.
    fn with_silence<R>(&self, action: impl FnOnce(&mut MessageDeadline, u64) -> R) -> Option<R> {
        let mut silence = self.silence.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: nobody may note an older cursor than was noted before.
        let (cursor, now_ns) = (self.sleeper.cursor(), now_ns());
        silence.look(cursor, || self.sleeper.stamp_ns(cursor.checked_sub(1)?), now_ns);
        Some(action(&mut silence, now_ns))
    }

    /// Whether there is a silence to report.
    fn is_overdue(&self) -> bool {
        self.with_silence(|silence, now_ns| silence.is_due(now_ns)).unwrap_or(false)
    }

    /// There is no message: reports a silence once, when it has lasted for as long as the deadline.
    pub(crate) fn take_overdue(&self) -> Option<Duration> {
        self.with_silence(MessageDeadline::take_overdue)?
    }

    /// If there is a message: how long the silence before it was, if that was reported.
    pub(crate) fn take_resumed(&self) -> Option<Duration> {
        let mut silence = self.silence.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.sleeper.has_news() {
            return None;
        }
        let cursor = self.sleeper.cursor();
        silence.take_resumed(cursor, self.sleeper.stamp_ns(cursor), now_ns())
    }

    /// When a silence is to be reported, on CLOCK_MONOTONIC in nanoseconds; `u64::MAX`: never. If
    /// there is a message, the one after it, as far as it is known.
    pub(crate) fn due_ns(&self) -> u64 {
        let due = self.with_silence(|silence, _| {
            if !self.sleeper.has_news() {
                return silence.due_ns();
            }
            let stamp_ns = self.sleeper.stamp_ns(self.sleeper.cursor());
            stamp_ns.map_or(u64::MAX, |stamp_ns| silence.due_after_ns(stamp_ns))
        });
        due.unwrap_or(u64::MAX)
    }

    /// The silence of another ring, from which the subscriber comes, continues.
    pub(crate) fn continue_silence_of(&self, other: &Self) {
        if let Some(mine) = &self.silence
            && let Some(silence) = other.with_silence(|silence, _| *silence)
        {
            let silence = silence.continued_at(self.sleeper.cursor());
            *mine.lock().unwrap_or_else(PoisonError::into_inner) = silence;
        }
    }

    /// Whether it is known that nothing will follow.
    pub(crate) fn is_known_over(&self) -> bool {
        self.is_over() || self.is_dead()
    }

    /// Checks whether the publisher lives and renews a lost lease, if the last check is at least
    /// `interval` old. Returns whether the publisher is dead. `now` is the coarse clock's.
    #[inline]
    pub(crate) fn check(&self, now: Duration, interval: Duration) -> bool {
        let now_ns = now.as_nanos() as u64;
        if now_ns.saturating_sub(self.last_check_ns.load(Relaxed)) >= interval.as_nanos() as u64 {
            self.last_check_ns.store(now_ns, Relaxed);
            step!(check_now, self.check_now(now));
        }
        self.is_dead()
    }

    fn note_death(&self) {
        // survives death_relaxed: it takes a processor that reorders stores, and models have no
        // processes that die.
        self.publisher_is_dead.store(true, order!(death, Release));
    }

    /// Whether the publisher is known to be dead: then its last messages are visible.
    #[inline]
    fn is_dead(&self) -> bool {
        // survives is_dead_relaxed: as above, with loads.
        self.publisher_is_dead.load(order!(is_dead, Acquire))
    }

    #[cold]
    fn check_now(&self, now: Duration) {
        let Some(publisher) = &self.publisher else { return };
        let _uncancelled = Uncancelled::new();
        match self.sleeper.file().with(|file| OWNER.is_write_locked(file)) {
            Ok(true) => {}
            Ok(false) => step!(check_owner_lock, self.note_death()),
            // The program has closed the descriptor, and the topic has lost its name: nothing would
            // tell that its publisher dies.
            Err(error) if error.kind() == io::ErrorKind::NotFound => step!(check_lost_name, self.note_death()),
            // Another error proves no death.
            Err(_) => {}
        }
        if publisher.dying().is_some() {
            step!(check_dying, self.note_death());
        }
        // A thread that holds the mutex is doing the same.
        if let Ok(mut lease) = self.lease.try_lock()
            && let Some(lease) = &mut *lease
        {
            step!(check_lease, lease.renew_if_due(now));
        }
    }

    /// Checks after a wake-up without a message: a reaper that may not write to the region only
    /// wakes.
    pub(crate) fn check_after_waking(&self) {
        step!(
            check_after_waking,
            self.check(coarse_now(), if self.sleeper.can_be_woken() { Duration::ZERO } else { CHECK_INTERVAL })
        );
    }

    /// The publisher's process, by the id that it has in its own namespace.
    pub(crate) fn publisher_pid(&self) -> u32 {
        self.publisher.as_ref().map_or(0, |publisher| publisher.pid)
    }

    /// The longest sleep after which a waiter must check for itself.
    pub(crate) fn longest_sleep(&self) -> Duration {
        if self.publisher.is_none() {
            return UNDISTURBED;
        }
        if self.sleeper.can_be_woken() || mutated!(sleep_unwoken) { CHECK_INTERVAL } else { READ_ONLY_STEP }
    }

    /// Whether the subscriber was dropped.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Relaxed)
    }

    /// The subscriber is dropped; what waits on its behalf may still hold this.
    pub(crate) fn leave(&self) {
        step!(has_left, self.has_left.store(true, Relaxed));
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut lease) = lease {
            step!(release_lease, lease.release());
        }
    }
}

/// Where to find what a subscriber waits for that goes from publisher to publisher.
#[derive(Debug)]
pub(crate) struct Seat(Mutex<Arc<Watched>>);

impl Seat {
    pub(crate) fn new(watched: Arc<Watched>) -> Self {
        Self(Mutex::new(watched))
    }

    pub(crate) fn current(&self) -> Arc<Watched> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, watched: &Arc<Watched>) {
        let old = mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), Arc::clone(watched));
        // Not under the lock: it may unmap a region.
        drop(old);
    }
}
