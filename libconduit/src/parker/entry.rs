//! What a ticket and its parker share: the protocol between the two, which models run too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::intervals::CHECK_INTERVAL;
use crate::mutation::{mutated, order, step};
use crate::ring::sleeper::Sleep;
use crate::shm::atomics::Atomic;
use crate::shm::clock::now_ns;

/// A subscriber, as a ticket waits for it.
pub(crate) trait Awaited {
    type Sleeper: Sleep;
    /// Guards what ticket and parker share.
    type State: Guard<State>;

    fn sleeper(&self) -> &Self::Sleeper;
    /// The wake word.
    fn wake(&self) -> u32;
    /// Whether a publisher can wake a thread that sleeps.
    fn can_be_woken(&self) -> bool;
    /// Whether the subscriber has something to receive: a message, the end, or a silence to report.
    fn is_ready(&self) -> bool;
    /// When it will be ready without being woken, on CLOCK_MONOTONIC in nanoseconds. While a
    /// message is there that is yet to be received, when it will be after that, if that is known.
    fn due_ns(&self) -> u64 {
        u64::MAX
    }
}

/// A mutex.
pub(crate) trait Guard<T>: Default {
    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R;
}

impl<T: Default> Guard<T> for Mutex<T> {
    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        action(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts the notifications of a thread of this process that may be asleep.
#[derive(Debug, Default)]
pub(crate) struct Notifications<C>(pub(crate) C);

impl<C: Atomic<u32>> Notifications<C> {
    /// Wake the thread after this.
    pub(crate) fn add(&self) {
        step!(notification, self.0.fetch_add(1, order!(notification, Release)));
    }

    /// Loaded before what the notifications are about. Sleep only while this is the number.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(order!(notifications, Acquire))
    }
}

/// A ticket's subscriber and state.
#[derive(Debug)]
pub(crate) struct Entry<W: Awaited> {
    pub(crate) watched: Arc<W>,
    state: W::State,
}

/// Guarded by a mutex.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Called once. While there is one, the reader is announced as a sleeper.
    waker: Option<Waker>,
    /// Whether the parker sleeps on the topic's word, or will at the end of its round.
    is_slept_on: bool,
    /// The value of the word that the parker last slept on.
    seen: u32,
    /// If the parker sleeps there, it wakes by this time.
    due_ns: u64,
    /// When the waker was last called, on the coarse clock.
    fired: Duration,
}

impl<W: Awaited> Entry<W> {
    pub(crate) fn new(watched: Arc<W>) -> Self {
        Self { watched, state: W::State::default() }
    }

    /// Has the waker called once, as soon as the subscriber has something to receive. If it has
    /// something already, returns `true` instead. `notify` notifies the parker.
    pub(crate) fn arm(&self, waker: &Waker, notify: impl FnOnce()) -> bool {
        let sleeper = self.watched.sleeper();
        // Cloning and dropping wakers runs code of the application: not under the lock.
        let new = waker.clone();
        let (_old, unused, is_slept_on) = self.state.with(|state| {
            let old = state.waker.replace(new);
            if old.is_none() {
                sleeper.enter();
            }
            step!(arm_announce, sleeper.announce());
            let is_ready = self.watched.is_ready() && !mutated!(arm_without_check);
            let unused = is_ready.then(|| {
                step!(arm_leave, sleeper.leave());
                state.waker.take()
            });
            // A subscriber that has received a message may be overdue before the parker wakes.
            let is_in_time = mutated!(arm_past_silence) || self.watched.due_ns() >= state.due_ns;
            (old, unused, state.is_slept_on && is_in_time)
        });
        if unused.is_none() && !is_slept_on {
            step!(arm_notify, notify());
        }
        unused.is_some()
    }

    /// Removes the waker. A call of it that has already started is not awaited.
    pub(crate) fn disarm(&self) {
        let _waker = self.state.with(|state| {
            let waker = state.waker.take();
            if waker.is_some() {
                step!(disarm_leave, self.watched.sleeper().leave());
            }
            waker
        });
    }

    /// What the parker must sleep on after a [`check`](Self::check): the value that it has seen of
    /// the topic's word. Also for a ticket that is not armed: arming it now does not notify the
    /// parker.
    pub(crate) fn slept_on(&self) -> Option<u32> {
        self.state.with(|state| state.is_slept_on.then_some(state.seen))
    }

    /// When the parker must wake at the latest.
    pub(crate) fn due_ns(&self) -> u64 {
        self.state.with(|state| state.due_ns)
    }

    /// When the parker must wake for a ticket that is not armed, and may be by then.
    fn later_due_ns(&self) -> u64 {
        match self.watched.due_ns() {
            due_ns if due_ns != u64::MAX && due_ns > now_ns() => due_ns,
            // It would be ready when it is armed.
            _ => u64::MAX,
        }
    }

    /// A parker's round for one ticket: calls the waker if there is news. Returns whether the
    /// ticket is armed and there is none. `now` is the coarse clock's.
    pub(crate) fn check(&self, now: Duration) -> bool {
        let sleeper = self.watched.sleeper();
        let (is_quiet, waker) = self.state.with(|state| {
            if state.waker.is_none() || mutated!(parker_announce_left_out) {
                let seen = self.watched.wake();
                // If the word has changed, the topic wakes another sleeper, perhaps again and
                // again.
                let is_quiet = seen == state.seen || mutated!(parker_always_quiet);
                state.is_slept_on &= is_quiet && now.saturating_sub(state.fired) < CHECK_INTERVAL;
                state.seen = seen;
                state.due_ns = self.later_due_ns();
                return (false, None);
            }
            state.seen = sleeper.announce();
            step!(parker_sleeps_on, state.is_slept_on = true);
            if !self.watched.is_ready() || mutated!(parker_without_check) {
                state.due_ns = self.watched.due_ns();
                return (true, None);
            }
            let waker = state.waker.take();
            step!(parker_leave, sleeper.leave());
            state.is_slept_on = self.watched.can_be_woken();
            step!(parker_fired, state.fired = now);
            state.due_ns = self.later_due_ns();
            (false, waker)
        });
        if let Some(waker) = waker {
            // A panic in it must not affect the other tickets.
            step!(parker_wake, drop(catch_unwind(AssertUnwindSafe(|| waker.wake()))));
        }
        is_quiet
    }
}
