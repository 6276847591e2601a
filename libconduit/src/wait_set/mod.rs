//! Waiting for many topics, and for timers, in one thread.

mod event;
mod waker;

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};
use std::{fmt, ptr};

pub use event::{Event, Events, Token};
use waker::Control;
pub use waker::WaitSetWaker;

use crate::error::WaitSetError;
use crate::intervals::CHECK_INTERVAL;
use crate::mutation::{mutated, step};
use crate::parker::Ticket;
use crate::ring::sleeper::sleep_for_any;
use crate::shm::clock::{coarse_now, now_ns};
use crate::shm::stop_word::is_stop;
use crate::shm::{fork, futex};
use crate::stop::Stop;
use crate::watched::{Seat, Watched};
use crate::{PatternSubscriber, Subscriber};

/// Subscribers and timers that one thread waits for at once.
///
/// A set does not own its subscribers: [`add`](Self::add) registers one to wait for, and its owner
/// calls [`try_recv`](Subscriber::try_recv) when the set reports it as ready. One set takes
/// subscribers of any types.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// # let mut imu_publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("imu")?;
/// # let scan_publisher = conduit::Publisher::<[u8]>::builder().domain(&domain).create("scan")?;
/// use std::time::Duration;
///
/// use conduit::{Event, RecvError, Subscriber, WaitSet};
///
/// # /*
/// let mut imu = Subscriber::<u64>::open("imu")?;
/// let mut scan = Subscriber::<[u8]>::open("scan")?;
/// # */
/// # let mut imu = Subscriber::<u64>::builder().domain(&domain).open("imu")?;
/// # let mut scan = Subscriber::<[u8]>::builder().domain(&domain).open("scan")?;
/// # imu_publisher.send(&7)?;
/// # drop((imu_publisher, scan_publisher));
/// let mut set = WaitSet::new();
/// let imu_token = set.add(&imu)?;
/// let scan_token = set.add(&scan)?;
/// let tick = set.add_interval(Duration::from_millis(10));
/// let mut topics = 2;
/// while topics > 0 {
///     for event in set.wait()? {
///         match event {
///             Event::Ready(token) if token == imu_token => match imu.try_recv() {
///                 Ok(sample) => println!("imu: {sample:?}"),
///                 Err(RecvError::PublisherGone { .. }) => {
///                     topics -= usize::from(set.remove(token));
///                 }
///                 Err(error) => return Err(error.into()),
///             },
///             Event::Ready(token) if token == scan_token => match scan.try_recv() {
///                 Ok(sample) => println!("scan: {} bytes", sample.map_or(0, |it| it.len())),
///                 Err(RecvError::PublisherGone { .. }) => {
///                     topics -= usize::from(set.remove(token));
///                 }
///                 Err(error) => return Err(error.into()),
///             },
///             Event::Timer { token, missed } if token == tick => {
///                 println!("tick, {missed} missed");
///             }
///             _ => {}
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Level-triggered
///
/// A subscriber is ready for as long as it has something to receive: a message, or the end of its
/// topic. A program that receives one message per event and leaves the others gets the next event
/// at once, without a system call. A program that ignores a ready subscriber, or does not
/// [remove](Self::remove) one whose topic has ended, never sleeps. Rarely, a subscriber is ready
/// and `try_recv` finds nothing: the message has been overwritten.
///
/// One that [follows](crate::SubscriberBuilder::follow) its topic is ready also when a publisher
/// has come or gone, until the next call of `try_recv`. It stays in the set.
///
/// One that has a [deadline](crate::SubscriberBuilder::deadline) is ready also when no message has
/// come in time, until a call has reported it. The set sleeps no longer than until then.
///
/// # Fair
///
/// Every wait reports all ready subscribers, round-robin. A flooded topic cannot starve the others,
/// as long as its messages are received a few at a time instead of until none is left.
///
/// # What it costs
///
/// A set with up to 127 subscribers sleeps in one system call
/// ([`futex_waitv(2)`](https://docs.kernel.org/userspace-api/futex2.html)) that any of the topics,
/// a timer or a waker ends, and meanwhile checks each publisher's owner lock twice a second. For a
/// larger set, and for any set where the kernel (before Linux 5.16) or a sandbox lacks that call,
/// threads of the library sleep instead: one for every 127 topics, or one for every topic without
/// the call. They end with the set. The behaviour is the same, but a message wakes two threads
/// instead of one. A subscriber that may only read its region cannot ask to be woken; a set that
/// contains one polls every millisecond.
///
/// # Drop order, forks
///
/// Subscribers, set and wakers may be dropped in any order. A subscriber that is dropped leaves the
/// set by itself. If it is dropped during a wait, its record in the region is released within half
/// a second, or with the next wait. In a forked process every call returns
/// [`WaitSetError::Forked`].
#[must_use = "a wait set that is dropped waits for nothing"]
pub struct WaitSet {
    members: Vec<Member>,
    timers: Vec<Timer>,
    control: Arc<Control>,
    /// Shared with the wakers of the application; parkers, too, share the control for a moment.
    wakers: Arc<()>,
    /// The last value seen of [`Control::calls`].
    calls_seen: u32,
    /// Which member is reported first, modulo their number.
    first: usize,
    /// Up to this many subscribers are slept for in one call; above it, parkers do.
    most_at_once: usize,
    stop: Option<Stop>,
    generation: u32,
    /// Scratch space of a wait; empty in between.
    awaited: Vec<Arc<Watched>>,
    seen: Vec<u32>,
}

struct Member {
    token: Token,
    watched: Weak<Watched>,
    /// Of a subscriber that follows: where it is now.
    seat: Option<Weak<Seat>>,
    /// `Some` if parkers sleep for this set.
    ticket: Option<Ticket>,
}

impl Member {
    /// Waits for the present topic of a subscriber that follows.
    fn move_on(&mut self) {
        let Some(seat) = self.seat.as_ref().filter(|_| !mutated!(member_stays)) else { return };
        let current = seat.upgrade().map(|seat| seat.current());
        let is_same = current.as_ref().is_some_and(|current| ptr::eq(Arc::as_ptr(current), self.watched.as_ptr()));
        if !is_same {
            self.ticket = None;
            self.watched = current.as_ref().map(Arc::downgrade).unwrap_or_default();
        }
    }
}

struct Timer {
    token: Token,
    /// On CLOCK_MONOTONIC.
    next_ns: u64,
    /// `None` for a timer that expires once.
    period_ns: Option<u64>,
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitSet {
    /// An empty set.
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            timers: Vec::new(),
            control: Arc::default(),
            wakers: Arc::default(),
            calls_seen: 0,
            first: 0,
            most_at_once: if futex::can_wait_for_any() { futex::MOST_WORDS - 1 } else { 0 },
            stop: None,
            generation: fork::watched_generation(),
            awaited: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Adds a subscriber, until it is dropped or [removed](Self::remove).
    ///
    /// # Errors
    ///
    /// [`Forked`](WaitSetError::Forked) in a process forked from the one that created the set or
    /// the subscriber.
    pub fn add<T: ?Sized>(&mut self, subscriber: &Subscriber<T>) -> Result<Token, WaitSetError> {
        self.add_member(subscriber.watched(), subscriber.seat())
    }

    /// Adds a subscriber to all topics that match a pattern, until it is dropped or
    /// [removed](Self::remove). It is one member of the set, however many topics there are, and
    /// ready until its `try_recv` or `try_recv_event` has found nothing.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn add_all<T: ?Sized>(&mut self, subscriber: &PatternSubscriber<T>) -> Result<Token, WaitSetError> {
        self.add_member(subscriber.watched(), None)
    }

    fn add_member(&mut self, watched: &Arc<Watched>, seat: Option<&Arc<Seat>>) -> Result<Token, WaitSetError> {
        if self.generation != fork::generation() || watched.sleeper().is_foreign() {
            return Err(WaitSetError::Forked);
        }
        let token = Token::new();
        let (watched, seat) = (Arc::downgrade(watched), seat.map(Arc::downgrade));
        self.members.push(Member { token, watched, seat, ticket: None });
        Ok(token)
    }

    /// Adds a timer that expires once, `after` from now, and then leaves the set.
    pub fn add_timer(&mut self, after: Duration) -> Token {
        self.add_timer_at(now_ns().saturating_add(ns(after)), None)
    }

    /// Adds a timer that expires every `period`, first a period from now.
    ///
    /// It does not drift: it expires at exact multiples of the period from now, however late its
    /// events are handled. Expirations that pass before the next wait are reported as one event,
    /// which counts them.
    ///
    /// # Panics
    ///
    /// If the period is zero.
    pub fn add_interval(&mut self, period: Duration) -> Token {
        assert!(!period.is_zero(), "a timer needs a period");
        self.add_timer_at(now_ns().saturating_add(ns(period)), Some(ns(period)))
    }

    fn add_timer_at(&mut self, next_ns: u64, period_ns: Option<u64>) -> Token {
        let token = Token::new();
        self.timers.push(Timer { token, next_ns, period_ns });
        token
    }

    /// Removes a subscriber or timer. Returns whether it was in the set. Events already reported
    /// remain valid.
    pub fn remove(&mut self, token: Token) -> bool {
        let before = self.members.len() + self.timers.len();
        self.members.retain(|member| member.token != token);
        self.timers.retain(|timer| timer.token != token);
        self.members.len() + self.timers.len() != before
    }

    /// A handle that ends a wait from another thread.
    pub fn waker(&self) -> WaitSetWaker {
        WaitSetWaker { control: Arc::clone(&self.control), _counted: Arc::clone(&self.wakers) }
    }

    /// Lets `stop` end the waits of this set, from another thread or on a signal: see [`Stop`].
    /// Replaces the one that it had before.
    ///
    /// Once it is stopped, they return [`WaitSetError::Stopped`] at once. What is ready can still
    /// be received.
    ///
    /// ```
    /// use conduit::{Stop, WaitSet, WaitSetError};
    ///
    /// let (mut set, stop) = (WaitSet::new(), Stop::new());
    /// set.stop(&stop);
    /// let waiting = std::thread::spawn(move || set.wait().map(drop));
    /// stop.stop();
    /// assert!(matches!(waiting.join().unwrap(), Err(WaitSetError::Stopped)));
    /// ```
    pub fn stop(&mut self, stop: &Stop) {
        self.stop = Some(stop.clone());
    }

    /// Sleeps until there is an event.
    ///
    /// # Errors
    ///
    /// [`Empty`](WaitSetError::Empty) if nothing can ever end the wait, or if that becomes true
    /// during it; [`Stopped`](WaitSetError::Stopped) if it was [stopped](Self::stop);
    /// [`Thread`](WaitSetError::Thread) if a thread is needed and cannot be started;
    /// [`Forked`](WaitSetError::Forked) in a forked process.
    pub fn wait(&mut self) -> Result<Events, WaitSetError> {
        self.wait_until(u64::MAX)
    }

    /// Sleeps until there is an event or the timeout expires; then there are no events. A timeout
    /// of zero polls.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), but an empty set sleeps for the whole timeout.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Events, WaitSetError> {
        self.wait_until(now_ns().saturating_add(ns(timeout)))
    }

    /// Like [`wait_timeout`](Self::wait_timeout), until a point in time. One in the past is a
    /// timeout of zero.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<Events, WaitSetError> {
        self.wait_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    fn wait_until(&mut self, deadline_ns: u64) -> Result<Events, WaitSetError> {
        if self.generation != fork::generation() {
            return Err(WaitSetError::Forked);
        }
        loop {
            // Loaded before the check: a later change keeps this round from sleeping.
            let seen_word = self.control.word.count();
            if self.stop.as_ref().is_some_and(Stop::is_stopped) {
                return Err(WaitSetError::Stopped);
            }
            self.collect_awaited();
            let events = self.ready();
            let now_ns = if self.needs_clock(deadline_ns) { now_ns() } else { 0 };
            let events = self.expire_timers(events, now_ns);
            if !events.is_empty() || now_ns >= deadline_ns {
                self.awaited.clear();
                return Ok(Events(events.into_iter()));
            }
            let is_empty = self.members.is_empty() && self.timers.is_empty() && self.stop.is_none();
            if is_empty && deadline_ns == u64::MAX && Arc::strong_count(&self.wakers) == 1 {
                return Err(WaitSetError::Empty);
            }
            let timers_ns = self.timers.iter().map(|timer| timer.next_ns);
            let silences_ns = self.awaited.iter().map(|watched| watched.due_ns());
            let silences_ns = silences_ns.filter(|_| !mutated!(set_sleeps_past_silence));
            let until_ns = timers_ns.chain(silences_ns).fold(deadline_ns, u64::min);
            let words = self.members.len() + usize::from(self.stop.is_some());
            let slept = if words <= self.most_at_once || self.members.is_empty() {
                self.sleep(seen_word, until_ns);
                Ok(())
            } else {
                self.sleep_by_parkers(seen_word, until_ns)
            };
            // A region is kept mapped for no longer than one round.
            step!(awaited_clear, self.awaited.clear());
            slept?;
        }
    }

    /// A set for which parkers sleep, as for one with many subscribers.
    #[cfg(test)]
    pub(crate) fn sleeping_by_parkers(self) -> Self {
        Self { most_at_once: 0, ..self }
    }

    fn needs_clock(&self, deadline_ns: u64) -> bool {
        !self.timers.is_empty() || deadline_ns != u64::MAX
    }

    /// Keeps the subscribers' regions mapped for this round, and removes subscribers that were
    /// dropped.
    fn collect_awaited(&mut self) {
        let awaited = &mut self.awaited;
        self.members.retain_mut(|member| {
            member.move_on();
            let watched =
                member.watched.upgrade().filter(|watched| !watched.has_left() || mutated!(set_keeps_the_left));
            let is_alive = watched.is_some();
            awaited.extend(watched);
            is_alive
        });
    }

    /// The ready subscribers, round-robin.
    fn ready(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let calls = self.control.calls();
        if calls != self.calls_seen {
            step!(set_calls_seen, self.calls_seen = calls);
            events.push(Event::Woken);
        }
        let count = self.members.len();
        let now = coarse_now();
        for index in 0..count {
            let index = (self.first + index) % count;
            let watched = &self.awaited[index];
            step!(set_check, watched.check(now, CHECK_INTERVAL));
            if watched.is_ready() {
                events.push(Event::Ready(self.members[index].token));
            }
        }
        if !events.is_empty() {
            step!(set_turn, self.first = (self.first + 1) % count.max(1));
        }
        events
    }

    fn expire_timers(&mut self, mut events: Vec<Event>, now_ns: u64) -> Vec<Event> {
        self.timers.retain_mut(|timer| {
            let Some(late_ns) = now_ns.checked_sub(timer.next_ns) else { return true };
            let missed = timer.period_ns.map_or(0, |period_ns| late_ns / period_ns);
            events.push(Event::Timer { token: timer.token, missed });
            let Some(period_ns) = timer.period_ns else { return false };
            timer.next_ns = timer.next_ns.saturating_add((missed + 1).saturating_mul(period_ns));
            true
        });
        events
    }

    /// Sleeps on all wake words at once, until a point in time or until a publisher's life must be
    /// checked.
    fn sleep(&mut self, seen_word: u32, until_ns: u64) {
        let longest = self.awaited.iter().map(|watched| watched.longest_sleep()).min();
        let until_ns = longest.map_or(until_ns, |longest| until_ns.min(now_ns().saturating_add(ns(longest))));
        let (awaited, control) = (&self.awaited, &self.control);
        let stop = self.stop.as_ref().map(Stop::word);
        let mut woken = None;
        sleep_for_any(awaited.iter().map(|watched| watched.sleeper()), &mut self.seen, |seen| {
            let deadline_ns = (until_ns != u64::MAX).then_some(until_ns);
            if !futex::can_wait_for_any() {
                // Without futex_waitv this is called for a set without members only.
                let timeout = deadline_ns.map(|it| Duration::from_nanos(it.saturating_sub(now_ns())));
                futex::wait_private(&control.word.0, seen_word, timeout, stop);
                return;
            }
            let mut words = futex::Words::with_private(&control.word.0, seen_word);
            for (watched, seen) in awaited.iter().zip(seen) {
                words.push(watched.sleeper().wake_word(), *seen);
            }
            if let Some(stop) = stop {
                let seen = stop.seen();
                if is_stop(seen) {
                    return;
                }
                step!(set_push_stop, words.push_stop(stop, seen));
            }
            woken = words.wait(deadline_ns);
        });
        // The first word is the control's.
        if let Some(watched) = woken.and_then(|index| awaited.get(index.wrapping_sub(1)))
            && !watched.is_ready()
        {
            // survives set_check_after_waking_left_out: the next check, within half a second,
            // finds it, too.
            step!(set_check_after_waking, watched.check_after_waking());
        }
    }

    /// Lets parkers sleep on the wake words, where one call cannot.
    fn sleep_by_parkers(&mut self, seen_word: u32, until_ns: u64) -> Result<(), WaitSetError> {
        let waker = Waker::from(Arc::clone(&self.control));
        let mut may_sleep = true;
        let mut outcome = Ok(());
        for (member, watched) in self.members.iter_mut().zip(&self.awaited) {
            if member.ticket.is_none() {
                match Ticket::new(Arc::clone(watched)) {
                    Ok(ticket) => member.ticket = Some(ticket),
                    Err(source) => {
                        outcome = Err(WaitSetError::Thread { source });
                        break;
                    }
                }
            }
            if member.ticket.as_ref().is_some_and(|ticket| ticket.arm(&waker)) {
                step!(set_armed_ready, may_sleep = false);
                break;
            }
        }
        if may_sleep && outcome.is_ok() {
            // Not for long: a subscriber that is dropped does not wake the set.
            let longest = if mutated!(set_sleeps_long) { Duration::MAX } else { CHECK_INTERVAL };
            let timeout = Duration::from_nanos(until_ns.saturating_sub(now_ns())).min(longest);
            futex::wait_private(&self.control.word.0, seen_word, Some(timeout), self.stop.as_ref().map(Stop::word));
        }
        for ticket in self.members.iter().filter_map(|member| member.ticket.as_ref()) {
            step!(set_disarm, ticket.disarm());
        }
        outcome
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.iter().map(|member| member.token).collect();
        let timers: Vec<_> = self.timers.iter().map(|timer| timer.token).collect();
        f.debug_struct("WaitSet").field("subscribers", &members).field("timers", &timers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
