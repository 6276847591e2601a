//! What a subscriber shares with whoever waits on its behalf: a wait set, the parker.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::intervals::CHECK_INTERVAL;
use crate::registry::Lease;
use crate::ring::attached::AttachedSleeper;
use crate::ring::sleeper::Sleep;
use crate::shm::clock::coarse_now;
use crate::shm::lock::OWNER;

/// How long to sleep for a subscriber that may only read the region and so cannot ask to be woken.
const READ_ONLY_STEP: Duration = Duration::from_millis(1);

/// A subscriber's topic, as something to wait for.
#[derive(Debug)]
pub(crate) struct Watched {
    sleeper: AttachedSleeper,
    /// `None` once the subscriber has left.
    lease: Mutex<Option<Lease>>,
    has_left: AtomicBool,
    /// The owner lock was found free.
    publisher_is_dead: AtomicBool,
    /// Somebody has seen the end.
    is_over: AtomicBool,
    /// On the coarse clock, in nanoseconds.
    last_look_ns: AtomicU64,
}

impl Watched {
    pub(crate) fn new(sleeper: AttachedSleeper, lease: Lease) -> Self {
        Self {
            sleeper,
            lease: Mutex::new(Some(lease)),
            has_left: AtomicBool::new(false),
            publisher_is_dead: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            last_look_ns: AtomicU64::new(coarse_now().as_nanos() as u64),
        }
    }

    pub(crate) fn sleeper(&self) -> &AttachedSleeper {
        &self.sleeper
    }

    /// Whether the subscriber has something to receive: a message, or the end.
    pub(crate) fn is_ready(&self) -> bool {
        if self.sleeper.has_news() {
            return true;
        }
        let is_over = self.publisher_is_dead.load(Acquire) || self.sleeper.has_ended().is_some();
        if is_over {
            self.is_over.store(true, Relaxed);
        }
        is_over
    }

    /// Whether somebody was told of the end, by [`is_ready`](Self::is_ready): then the subscriber must not say otherwise.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Asks whether the publisher lives and takes a lost lease again, if the last look is as old as `interval`. Returns whether the
    /// publisher is dead. `now` is the coarse clock's.
    #[inline]
    pub(crate) fn look(&self, now: Duration, interval: Duration) -> bool {
        let now_ns = now.as_nanos() as u64;
        if now_ns.saturating_sub(self.last_look_ns.load(Relaxed)) >= interval.as_nanos() as u64 {
            self.last_look_ns.store(now_ns, Relaxed);
            self.look_now(now);
        }
        self.publisher_is_dead.load(Acquire)
    }

    #[cold]
    fn look_now(&self, now: Duration) {
        // On an error the answer is unknown, which is not dead.
        if !OWNER.is_write_locked(self.sleeper.file()).unwrap_or(true) {
            self.publisher_is_dead.store(true, Release);
        }
        // Whoever has it locked does the same.
        if let Ok(mut lease) = self.lease.try_lock()
            && let Some(lease) = &mut *lease
        {
            lease.look(now);
        }
    }

    /// A look for whoever was woken and found nothing: by a reaper that may not write to the region, perhaps.
    pub(crate) fn look_after_waking(&self) {
        self.look(coarse_now(), if self.sleeper.can_be_woken() { Duration::ZERO } else { CHECK_INTERVAL });
    }

    /// How long a sleeper may go without looking for itself.
    pub(crate) fn longest_sleep(&self) -> Duration {
        if self.sleeper.can_be_woken() { CHECK_INTERVAL } else { READ_ONLY_STEP }
    }

    /// Whether the subscriber was dropped.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Relaxed)
    }

    /// The subscriber leaves, whoever still waits for it.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Relaxed);
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut lease) = lease {
            lease.release();
        }
    }
}
