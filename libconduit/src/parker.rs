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

pub(crate) mod entry;

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use std::{io, mem, thread};

use nix::sys::signal::{SigSet, SigmaskHow};

use entry::{Awaited, Entry, Notifications, State};

use crate::intervals::CHECK_INTERVAL;
use crate::mutation::{mutated, step};
use crate::ring::attached::AttachedSleeper;
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

#[derive(Debug)]
struct Parker {
    /// Its tickets have changed, or one was armed that it does not sleep on.
    notified: Notifications<AtomicU32>,
    capacity: usize,
    tickets: Mutex<Vec<Arc<Entry<Watched>>>>,
}

impl Awaited for Watched {
    type Sleeper = AttachedSleeper;
    type State = Mutex<State>;

    fn sleeper(&self) -> &AttachedSleeper {
        self.sleeper()
    }

    fn wake(&self) -> u32 {
        self.sleeper().wake()
    }

    fn can_be_woken(&self) -> bool {
        self.sleeper().can_be_woken()
    }

    fn is_ready(&self) -> bool {
        self.is_ready()
    }

    fn due_ns(&self) -> u64 {
        self.due_ns()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscriber that a parker waits for, until the ticket is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    entry: Arc<Entry<Watched>>,
    parker: Arc<Parker>,
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
            None => Arc::new(Parker { notified: Notifications::default(), capacity, tickets: Mutex::default() }),
        };
        let entry = Arc::new(Entry::new(watched));
        lock(&parker.tickets).push(Arc::clone(&entry));
        // A parker that runs already learns of the ticket when it is armed.
        if found.is_none() {
            if let Err(error) = start(&parker) {
                lock(&parker.tickets).clear();
                return Err(error);
            }
            parkers.list.push(Arc::clone(&parker));
        }
        Ok(Self { entry, parker })
    }

    /// Has the waker called once, as soon as the subscriber has something to receive. If it has
    /// something already, returns `true` instead.
    ///
    /// Arming a ticket again replaces its waker. Must not be called in a forked process, which does
    /// not have the memory.
    pub(crate) fn arm(&self, waker: &Waker) -> bool {
        self.entry.arm(waker, || self.parker.notify())
    }

    /// Waits for another topic from now on, unless it does already. Must not be called in a forked
    /// process.
    pub(crate) fn move_to(&mut self, watched: &Arc<Watched>) {
        if Arc::ptr_eq(&self.entry.watched, watched) || mutated!(ticket_stays) {
            return;
        }
        let old = mem::replace(&mut self.entry, Arc::new(Entry::new(Arc::clone(watched))));
        old.disarm();
        {
            let _no_fork = fork::ForkGuard::new();
            for entry in lock(&self.parker.tickets).iter_mut().filter(|entry| Arc::ptr_eq(entry, &old)) {
                *entry = Arc::clone(&self.entry);
            }
        }
        self.parker.release(&old);
    }

    /// Removes the waker. A call of it that has already started is not awaited.
    pub(crate) fn disarm(&self) {
        if !self.entry.watched.sleeper().is_foreign() {
            self.entry.disarm();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Self { entry, parker } = self;
        if entry.watched.sleeper().is_foreign() {
            return;
        }
        step!(ticket_disarm, entry.disarm());
        {
            let _no_fork = fork::ForkGuard::new();
            step!(ticket_remove, lock(&parker.tickets).retain(|it| !Arc::ptr_eq(it, entry)));
        }
        parker.release(entry);
    }
}

/// Starts a parker's thread.
fn start(parker: &Arc<Parker>) -> io::Result<()> {
    let parker = Arc::clone(parker);
    start_thread("conduit-parker", move || parker.run())
}

/// Starts a thread of the library, on which no signal of the process is handled.
pub(crate) fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(run);
    before.thread_set_mask()?;
    started.map(drop)
}

impl Parker {
    /// Makes it forget an entry that is no longer among its tickets.
    fn release(&self, entry: &Entry<Watched>) {
        step!(ticket_end_notify, self.notify());
        if self.capacity == 1 && entry.slept_on().is_some() {
            step!(ticket_rouse, entry.watched.sleeper().rouse());
        }
    }

    fn notify(&self) {
        self.notified.add();
        step!(notify_wake, futex::wake_all_private(&self.notified.0));
    }

    fn run(self: Arc<Self>) {
        let mut entries: Vec<Arc<Entry<Watched>>> = Vec::new();
        let mut known = None;
        let mut woken: Option<usize> = None;
        loop {
            let notified = self.notified.count();
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
                && check(entry)
            {
                // survives parker_check_after_waking_left_out: the round of half a second later
                // finds it, too.
                step!(parker_check_after_waking, entry.watched.check_after_waking());
            }
            woken = self.sleep(&entries, notified);
        }
    }

    /// One round. Returns the index of the ticket whose word was woken, if that is known.
    fn sleep(&self, entries: &[Arc<Entry<Watched>>], notified: u32) -> Option<usize> {
        let mut words = futex::Words::with_private(&self.notified.0, notified);
        // The ticket that each word belongs to.
        let mut indices = [0; futex::MOST_WORDS];
        let mut len = 1;
        let mut longest: Option<Duration> = None;
        let mut last_seen = None;
        for (index, entry) in entries.iter().enumerate() {
            step!(parker_check, check(entry));
            if let Some(seen) = entry.slept_on() {
                let step = entry.watched.longest_sleep().min(time_until(entry.due_ns()));
                longest = Some(longest.map_or(step, |longest| longest.min(step)));
                words.push(entry.watched.sleeper().wake_word(), seen);
                indices[len] = index;
                len += 1;
                last_seen = Some(seen);
            }
        }
        if self.capacity > 1 {
            let deadline = longest.map(|longest| now_ns() + longest.as_nanos() as u64);
            return words.wait(deadline).filter(|&word| word > 0).map(|word| indices[word]);
        }
        match last_seen {
            // A notification after this check changes the topic's word too.
            // survives notified_once: so does one before it, if the parker is to sleep there.
            Some(seen) if mutated!(notified_once) || self.notified.count() == notified => {
                futex::wait(entries[0].watched.sleeper().wake_word(), seen, longest.unwrap_or(CHECK_INTERVAL), None);
                Some(0)
            }
            Some(_) => None,
            None => {
                futex::wait_private(&self.notified.0, notified, longest, None);
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

fn time_until(due_ns: u64) -> Duration {
    if due_ns == u64::MAX || mutated!(parker_sleeps_past_silence) {
        return Duration::MAX;
    }
    Duration::from_nanos(due_ns.saturating_sub(now_ns()))
}

/// A round for one ticket.
fn check(entry: &Entry<Watched>) -> bool {
    let now = coarse_now();
    entry.watched.check(now, CHECK_INTERVAL);
    entry.check(now)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{Domain, Publisher, Subscriber};

    /// A parker of one ticket sleeps on the topic's word: dropping the ticket changes that.
    #[test]
    fn a_dropped_ticket_wakes_its_parker_on_the_topics_word() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let _publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
        let subscriber = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        let watched = subscriber.watched();
        let ticket = Ticket::with_capacity(Arc::clone(watched), 1).unwrap();
        assert!(!ticket.arm(Waker::noop()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while ticket.entry.slept_on().is_none() {
            assert!(Instant::now() < deadline, "no parker sleeps");
            thread::yield_now();
        }
        let before = watched.sleeper().wake();
        drop(ticket);
        assert_ne!(watched.sleeper().wake(), before);
    }
}
