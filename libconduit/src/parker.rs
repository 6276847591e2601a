//! Threads that sleep on behalf of others: of futures, of descriptors, and of wait sets that can
//! not do it themselves.
//!
//! A *ticket* is one subscriber that is waited for. Armed with a waker, it calls that once, when
//! the subscriber has something to receive. Who arms it announces the reader as a sleeper of its
//! topic (S2 of the ring's [protocol](crate::ring)) and looks for news after that, all without a
//! system call: a parker already sleeps on the topic's wake word.
//!
//! A *parker* is a thread that serves up to [`futex::MOST_WORDS`] - 1 tickets with one
//! `futex_waitv`; the first ticket starts the first parker, and every parker ends with its last
//! ticket. Its rounds are a sleeper's: announce every armed ticket (S1, S2), look, sleep. Arming
//! and a round's look at a ticket exclude each other, so a ticket that is armed after the look was
//! armed after S1, and the wake-up that it asks for changes the word from what the parker sleeps
//! on.
//!
//! A ticket that has fired stays among the words for half a second, for it will probably be armed
//! again. After that, or if others' wake-ups of its topic end a sleep before, it is left out until
//! it is armed, which then costs a system call to tell its parker. So is a ticket whose reader can
//! not be woken: its parker must know when to look every millisecond.
//!
//! Where the kernel lacks `futex_waitv`, a parker serves one ticket, asleep on the topic's word or,
//! if there is nothing to wait for, on its own. To be told something while it is on the topic's
//! word, that word is changed and all sleepers are woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use std::{io, mem, thread};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::intervals::CHECK_INTERVAL;
use crate::ring::sleeper::Sleep;
use crate::shm::clock::{coarse_now, now_ns};
use crate::shm::{fork, futex};
use crate::watched::Watched;

/// It calls wakers, which may be anybody's, but deep recursion would be a fault of theirs.
const STACK_BYTES: usize = 256 << 10;

/// All parkers of this process. Locked only by who keeps it from forking: a child never finds it
/// locked.
static PARKERS: Mutex<Parkers> = Mutex::new(Parkers { generation: 0, list: Vec::new() });

struct Parkers {
    /// The process, in forks: a child has its parent's list, but not the threads.
    generation: u32,
    list: Vec<Arc<Parker>>,
}

struct Parker {
    /// Counts what the parker is told: that its tickets changed, or that one was armed that it does
    /// not sleep on.
    told: AtomicU32,
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
    /// Whom to wake. With it, the reader is announced as a sleeper.
    waker: Option<Waker>,
    /// The parker sleeps on the topic's word, or will at the end of its round.
    is_slept_on: bool,
    /// What the word was when it last did.
    seen: u32,
    /// When the waker was last called, on the coarse clock.
    fired: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscriber that is waited for, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Entry>);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Ticket {
    /// Fails if a thread is needed and can not be started.
    pub(crate) fn new(watched: Arc<Watched>) -> io::Result<Self> {
        let capacity = if futex::can_wait_for_any() { futex::MOST_WORDS - 1 } else { 1 };
        Self::with_capacity(watched, capacity)
    }

    fn with_capacity(watched: Arc<Watched>, capacity: usize) -> io::Result<Self> {
        let _no_fork = fork::ForkGuard::new();
        let mut parkers = lock(&PARKERS);
        if parkers.generation != fork::generation() {
            parkers.generation = fork::generation();
            // Their threads are the parent's, and so are the locks in them, in whatever state.
            mem::forget(mem::take(&mut parkers.list));
        }
        let is_free = |it: &&Arc<Parker>| it.capacity == capacity && lock(&it.tickets).len() < capacity;
        let found = parkers.list.iter().find(is_free).cloned();
        let parker = match &found {
            Some(parker) => Arc::clone(parker),
            None => Arc::new(Parker { told: AtomicU32::new(0), capacity, tickets: Mutex::default() }),
        };
        let entry = Arc::new(Entry { watched, parker: Arc::clone(&parker), state: Mutex::default() });
        lock(&parker.tickets).push(Arc::clone(&entry));
        if found.is_some() {
            parker.tell();
        } else if let Err(error) = start(&parker) {
            lock(&parker.tickets).clear();
            return Err(error);
        } else {
            parkers.list.push(parker);
        }
        Ok(Self(entry))
    }

    /// Has the waker called once, when the subscriber has something to receive. Returns `true`
    /// instead if it has already.
    ///
    /// Arming it again replaces the waker. Not in a forked process: the memory is not there.
    pub(crate) fn arm(&self, waker: &Waker) -> bool {
        let Entry { watched, state, parker } = &*self.0;
        // Cloning and dropping wakers runs foreign code: not under the lock.
        let new = waker.clone();
        let mut state = lock(state);
        let old = state.waker.replace(new);
        if old.is_none() {
            watched.sleeper().enter();
        }
        watched.sleeper().announce();
        let unused = watched.is_ready().then(|| {
            watched.sleeper().leave();
            state.waker.take()
        });
        let is_slept_on = state.is_slept_on;
        drop(state);
        if unused.is_none() && !is_slept_on {
            parker.tell();
        }
        unused.is_some()
    }

    /// Has no waker called, unless that is being done just now.
    pub(crate) fn disarm(&self) {
        if self.0.watched.sleeper().is_foreign() {
            return;
        }
        let mut state = lock(&self.0.state);
        let waker = state.waker.take();
        if waker.is_some() {
            self.0.watched.sleeper().leave();
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
        self.disarm();
        let Entry { parker, watched, state } = &*self.0;
        {
            let _no_fork = fork::ForkGuard::new();
            lock(&parker.tickets).retain(|entry| !Arc::ptr_eq(entry, &self.0));
        }
        parker.tell();
        let is_slept_on = lock(state).is_slept_on;
        if parker.capacity == 1 && is_slept_on {
            watched.sleeper().rouse();
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
    fn tell(&self) {
        self.told.fetch_add(1, AcqRel);
        futex::wake_all_private(&self.told);
    }

    fn run(self: Arc<Self>) {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut known = None;
        let mut woken: Option<usize> = None;
        loop {
            let told = self.told.load(Acquire);
            if known != Some(told) {
                known = Some(told);
                woken = None;
                // What is let go of may be the last of a region: not under the lock.
                let now = lock(&self.tickets).clone();
                drop(mem::replace(&mut entries, now));
                if entries.is_empty() {
                    if self.ends() {
                        return;
                    }
                    continue;
                }
            }
            // Whose word was woken comes first: it is the likeliest to have news.
            if let Some(index) = woken {
                let entry: &Arc<Entry> = &entries[index];
                if entry.look() == Look::Nothing {
                    entry.watched.look_after_waking();
                }
            }
            woken = self.sleep(&entries, told);
        }
    }

    /// One round. Returns the index of the ticket whose word was woken, if that is known.
    fn sleep(&self, entries: &[Arc<Entry>], told: u32) -> Option<usize> {
        let mut words = futex::Words::with_private(&self.told, told);
        // Which ticket a word belongs to.
        let mut indices = [0; futex::MOST_WORDS];
        let mut len = 1;
        let mut longest: Option<Duration> = None;
        let mut last_seen = None;
        for (index, entry) in entries.iter().enumerate() {
            entry.look();
            let state = lock(&entry.state);
            if state.is_slept_on {
                // Also for who is not armed yet: nobody would tell.
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
            // What it is told from here on changes the topic's word too. What it was told before is
            // seen here.
            Some(seen) if self.told.load(Acquire) == told => {
                futex::wait(entries[0].watched.sleeper().wake_word(), seen, longest.unwrap_or(CHECK_INTERVAL));
                Some(0)
            }
            Some(_) => None,
            None => {
                futex::wait_private(&self.told, told, longest);
                None
            }
        }
    }

    /// Whether there are no tickets left, and nobody will find this parker any more.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Disarmed,
    Nothing,
    Fired,
}

impl Entry {
    /// A parker's round for one ticket, up to its sleep.
    fn look(&self) -> Look {
        let now = coarse_now();
        self.watched.look(now, CHECK_INTERVAL);
        let mut state = lock(&self.state);
        let seen = if state.waker.is_some() {
            self.watched.sleeper().announce()
        } else {
            let seen = self.watched.sleeper().wake();
            // Otherwise somebody else is woken by this topic, again and again perhaps.
            let is_quiet = seen == state.seen;
            state.is_slept_on &= is_quiet && now.saturating_sub(state.fired) < CHECK_INTERVAL;
            state.seen = seen;
            return Look::Disarmed;
        };
        state.seen = seen;
        state.is_slept_on = true;
        if !self.watched.is_ready() {
            return Look::Nothing;
        }
        let waker = state.waker.take();
        self.watched.sleeper().leave();
        state.is_slept_on = self.watched.sleeper().can_be_woken();
        state.fired = now;
        drop(state);
        if let Some(waker) = waker {
            // Whoever's it is: the other tickets must not suffer.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        Look::Fired
    }
}
