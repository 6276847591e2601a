//! Threads that sleep on behalf of others: of futures, of descriptors, and of wait sets that cannot
//! sleep themselves.
//!
//! A *ticket* is a subscriber that is waited for. Armed with a waker, it calls the waker once, as
//! soon as the subscriber has something to receive. Arming announces the reader as a sleeper of its
//! topic (S2 of the ring's [protocol](crate::ring)) and then checks for news, both without a system
//! call: a parker already sleeps on the topic's wake word.
//!
//! A *parker* is a thread that serves up to [`futex::MOST_WORDS`] - 1 tickets with one
//! `futex_waitv`. The first ticket starts the first parker; a parker ends with its last ticket. In
//! every round it announces each armed ticket (S1, S2), checks it for news, and then sleeps. Arming
//! a ticket and checking it exclude each other: a ticket that is armed after its check was armed
//! after S1, so the wake-up that it asks for changes the word that the parker is about to sleep on.
//!
//! A ticket that has fired stays among the parker's words for half a second, since it will probably
//! be armed again. After that, or as soon as wake-ups of the topic's other subscribers end a sleep,
//! the parker leaves it out until it is armed, which then costs a system call to notify the parker.
//! A ticket whose reader cannot be woken is also left out: its parker must know when to check it
//! every millisecond.
//!
//! Where the kernel lacks `futex_waitv`, a parker serves one ticket and sleeps on the topic's word
//! or, with nothing to wait for, on its own. A parker that sleeps on the topic's word is notified
//! by changing that word, which wakes all sleepers of the topic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use std::{io, mem, thread};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::intervals::CHECK_INTERVAL;
use crate::mutation::{mutated, order, step};
use crate::ring::sleeper::Sleep;
use crate::shm::clock::{coarse_now, now_ns};
use crate::shm::{fork, futex};
use crate::watched::Watched;

/// Parkers call wakers of the application, which are expected not to recurse deeply.
const STACK_BYTES: usize = 256 << 10;

/// All parkers of this process. Only locked under a `ForkGuard`, so that a forked child never finds
/// it locked.
static PARKERS: Mutex<Parkers> = Mutex::new(Parkers { generation: 0, list: Vec::new() });

struct Parkers {
    /// The [`fork::generation`] of the list: a child has its parent's list, but not the threads.
    generation: u32,
    list: Vec<Arc<Parker>>,
}

struct Parker {
    /// Counts notifications: the tickets have changed, or one was armed that the parker does not
    /// sleep on.
    notified: AtomicU32,
    capacity: usize,
    tickets: Mutex<Vec<Arc<Entry>>>,
}

struct Entry {
    watched: Arc<Watched>,
    parker: Arc<Parker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Called once. While there is one, the reader is announced as a sleeper.
    waker: Option<Waker>,
    /// Whether the parker sleeps on the topic's word, or will at the end of its round.
    is_slept_on: bool,
    /// The value of the word that the parker last slept on.
    seen: u32,
    /// When the waker was last called, on the coarse clock.
    fired: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscriber that a parker waits for, until the ticket is dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Entry>);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Ticket {
    /// Fails if a thread is needed and cannot be started.
    pub(crate) fn new(watched: Arc<Watched>) -> io::Result<Self> {
        let capacity = if futex::can_wait_for_any() { futex::MOST_WORDS - 1 } else { 1 };
        Self::with_capacity(watched, capacity)
    }

    fn with_capacity(watched: Arc<Watched>, capacity: usize) -> io::Result<Self> {
        let _no_fork = fork::ForkGuard::new();
        let mut parkers = lock(&PARKERS);
        if parkers.generation != fork::generation() {
            parkers.generation = fork::generation();
            // Their threads belong to the parent, and their locks are in an unknown state.
            mem::forget(mem::take(&mut parkers.list));
        }
        let is_free = |it: &&Arc<Parker>| it.capacity == capacity && lock(&it.tickets).len() < capacity;
        let found = parkers.list.iter().find(is_free).cloned();
        let parker = match &found {
            Some(parker) => Arc::clone(parker),
            None => Arc::new(Parker { notified: AtomicU32::new(0), capacity, tickets: Mutex::default() }),
        };
        let entry = Arc::new(Entry { watched, parker: Arc::clone(&parker), state: Mutex::default() });
        lock(&parker.tickets).push(Arc::clone(&entry));
        if found.is_some() {
            step!(ticket_notify, parker.notify());
        } else if let Err(error) = start(&parker) {
            lock(&parker.tickets).clear();
            return Err(error);
        } else {
            parkers.list.push(parker);
        }
        Ok(Self(entry))
    }

    /// Has the waker called once, as soon as the subscriber has something to receive. If it has
    /// something already, returns `true` instead.
    ///
    /// Arming a ticket again replaces its waker. Must not be called in a forked process, which does
    /// not have the memory.
    pub(crate) fn arm(&self, waker: &Waker) -> bool {
        let Entry { watched, state, parker } = &*self.0;
        // Cloning and dropping wakers runs code of the application: not under the lock.
        let new = waker.clone();
        let mut state = lock(state);
        let old = state.waker.replace(new);
        if old.is_none() {
            watched.sleeper().enter();
        }
        step!(arm_announce, watched.sleeper().announce());
        let is_ready = watched.is_ready() && !mutated!(arm_without_check);
        let unused = is_ready.then(|| {
            step!(arm_leave, watched.sleeper().leave());
            state.waker.take()
        });
        let is_slept_on = state.is_slept_on;
        drop(state);
        if unused.is_none() && !is_slept_on {
            step!(arm_notify, parker.notify());
        }
        unused.is_some()
    }

    /// Removes the waker. A call of it that has already started is not awaited.
    pub(crate) fn disarm(&self) {
        if self.0.watched.sleeper().is_foreign() {
            return;
        }
        let mut state = lock(&self.0.state);
        let waker = state.waker.take();
        if waker.is_some() {
            step!(disarm_leave, self.0.watched.sleeper().leave());
        }
        drop(state);
        drop(waker);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.watched.sleeper().is_foreign() {
            return;
        }
        step!(ticket_disarm, self.disarm());
        let Entry { parker, watched, state } = &*self.0;
        {
            let _no_fork = fork::ForkGuard::new();
            step!(ticket_remove, lock(&parker.tickets).retain(|entry| !Arc::ptr_eq(entry, &self.0)));
        }
        step!(ticket_end_notify, parker.notify());
        let is_slept_on = lock(state).is_slept_on;
        if parker.capacity == 1 && is_slept_on {
            step!(ticket_rouse, watched.sleeper().rouse());
        }
    }
}

/// Starts a parker's thread, on which no signal of the process is handled.
fn start(parker: &Arc<Parker>) -> io::Result<()> {
    let parker = Arc::clone(parker);
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started =
        thread::Builder::new().name("conduit-parker".into()).stack_size(STACK_BYTES).spawn(move || parker.run());
    before.thread_set_mask()?;
    started.map(drop)
}

impl Parker {
    fn notify(&self) {
        step!(notify_change, self.notified.fetch_add(1, order!(notify_change, AcqRel)));
        step!(notify_wake, futex::wake_all_private(&self.notified));
    }

    fn run(self: Arc<Self>) {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut known = None;
        let mut woken: Option<usize> = None;
        loop {
            let notified = self.notified.load(order!(notified, Acquire));
            if known != Some(notified) {
                known = Some(notified);
                woken = None;
                // Dropping the old entries may unmap regions: not under the lock.
                let now = lock(&self.tickets).clone();
                drop(mem::replace(&mut entries, now));
                if entries.is_empty() {
                    if self.ends() {
                        return;
                    }
                    continue;
                }
            }
            // The ticket whose word was woken is the most likely to have news.
            if let Some(entry) = woken.map(|index| &entries[index])
                && entry.check()
            {
                step!(parker_check_after_waking, entry.watched.check_after_waking());
            }
            woken = self.sleep(&entries, notified);
        }
    }

    /// One round. Returns the index of the ticket whose word was woken, if that is known.
    fn sleep(&self, entries: &[Arc<Entry>], notified: u32) -> Option<usize> {
        let mut words = futex::Words::with_private(&self.notified, notified);
        // The ticket that each word belongs to.
        let mut indices = [0; futex::MOST_WORDS];
        let mut len = 1;
        let mut longest: Option<Duration> = None;
        let mut last_seen = None;
        for (index, entry) in entries.iter().enumerate() {
            step!(parker_check, entry.check());
            let state = lock(&entry.state);
            if state.is_slept_on {
                // Also for a ticket that is not armed: arming it now does not notify the parker.
                let step = entry.watched.longest_sleep();
                longest = Some(longest.map_or(step, |longest| longest.min(step)));
                words.push(entry.watched.sleeper().wake_word(), state.seen);
                indices[len] = index;
                len += 1;
                last_seen = Some(state.seen);
            }
        }
        if self.capacity > 1 {
            let deadline = longest.map(|longest| now_ns() + longest.as_nanos() as u64);
            return words.wait(deadline).filter(|&word| word > 0).map(|word| indices[word]);
        }
        match last_seen {
            // A notification after this check changes the topic's word too.
            Some(seen)
                if self.notified.load(order!(notified_again, Acquire)) == notified || mutated!(notified_once) =>
            {
                futex::wait(entries[0].watched.sleeper().wake_word(), seen, longest.unwrap_or(CHECK_INTERVAL));
                Some(0)
            }
            Some(_) => None,
            None => {
                futex::wait_private(&self.notified, notified, longest);
                None
            }
        }
    }

    /// Whether no tickets are left. Then the parker is also removed from the list.
    fn ends(self: &Arc<Self>) -> bool {
        let _no_fork = fork::ForkGuard::new();
        let mut parkers = lock(&PARKERS);
        let is_empty = lock(&self.tickets).is_empty();
        if is_empty {
            parkers.list.retain(|parker| !Arc::ptr_eq(parker, self));
        }
        is_empty
    }
}

impl Entry {
    /// A parker's round for one ticket: calls the waker if there is news. Returns whether the
    /// ticket is armed and there is none.
    fn check(&self) -> bool {
        let now = coarse_now();
        self.watched.check(now, CHECK_INTERVAL);
        let mut state = lock(&self.state);
        let seen = if state.waker.is_some() && !mutated!(parker_announce_left_out) {
            self.watched.sleeper().announce()
        } else {
            let seen = self.watched.sleeper().wake();
            // If the word has changed, the topic wakes another sleeper, perhaps again and again.
            let is_quiet = seen == state.seen || mutated!(parker_always_quiet);
            state.is_slept_on &= is_quiet && now.saturating_sub(state.fired) < CHECK_INTERVAL;
            state.seen = seen;
            return false;
        };
        state.seen = seen;
        step!(parker_sleeps_on, state.is_slept_on = true);
        if !self.watched.is_ready() || mutated!(parker_without_check) {
            return true;
        }
        let waker = state.waker.take();
        step!(parker_leave, self.watched.sleeper().leave());
        state.is_slept_on = self.watched.sleeper().can_be_woken();
        step!(parker_fired, state.fired = now);
        drop(state);
        if let Some(waker) = waker {
            // A panic in it must not affect the other tickets.
            step!(parker_wake, drop(catch_unwind(AssertUnwindSafe(|| waker.wake()))));
        }
        false
    }
}
