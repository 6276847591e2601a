//! Waiting for many topics, and for timers, in one thread.

use std::iter::FusedIterator;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};
use std::{fmt, vec};

use crate::Subscriber;
use crate::error::WaitSetError;
use crate::intervals::CHECK_INTERVAL;
use crate::parker::Ticket;
use crate::ring::sleeper::sleep_for_any;
use crate::shm::clock::{coarse_now, now_ns};
use crate::shm::{fork, futex};
use crate::watched::Watched;

/// Subscribers and timers that one thread waits for, all at once and asleep.
///
/// A set keeps no subscriber: [`add`](Self::add) notes whom to wait for, and the subscriber stays with its owner, who calls
/// [`try_recv`](Subscriber::try_recv) when the set says that there is something to receive. Subscribers of any types go into
/// one set.
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
///                 Err(RecvError::PublisherGone { .. }) => topics -= usize::from(set.remove(token)),
///                 Err(error) => return Err(error.into()),
///             },
///             Event::Ready(token) if token == scan_token => match scan.try_recv() {
///                 Ok(sample) => println!("scan: {} bytes", sample.map_or(0, |sample| sample.len())),
///                 Err(RecvError::PublisherGone { .. }) => topics -= usize::from(set.remove(token)),
///                 Err(error) => return Err(error.into()),
///             },
///             Event::Timer { token, missed } if token == tick => println!("tick, {missed} missed"),
///             _ => {}
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Level-triggered
///
/// A subscriber is ready for as long as it has something to receive: a message, or the end of its topic. Whoever takes one
/// message per event and leaves the others is told of them again at once, without a system call; whoever does not take the
/// token of an ended topic out of the set, or ignores a subscriber, never sleeps. Rarely a subscriber is ready and
/// `try_recv` still finds nothing: what was there has been overwritten.
///
/// # Fair
///
/// Every wait reports all that is ready, beginning each time with another one. A topic that is flooded can not hide the others
/// behind it, as long as its messages are taken a few at a time and not until there are none.
///
/// # What it costs
///
/// A set with up to 127 subscribers sleeps in one system call ([`futex_waitv(2)`](https://docs.kernel.org/userspace-api/futex2.html))
/// that any of the topics, a timer or a waker ends, and costs nothing meanwhile but a look at each publisher's life twice a second. A set with
/// more, and any set where the kernel (before Linux 5.16) or a sandbox does not have that call, has threads of the library's
/// sleep for it, which end with it: one for every 127 topics, or without that call one for every topic. Everything works the
/// same then, but a message wakes two threads instead of one. Subscribers that may only read their region can not ask to be woken; while
/// there is one in the set, it looks every millisecond.
///
/// # Drop order, forks
///
/// Subscribers, set, wakers may be dropped in any order. A subscriber that is dropped leaves the set by itself. If it is dropped
/// while another thread waits, or others sleep for the set, its record in the region is given back half a second later at
/// most, or with the next wait. In a forked process every call returns [`WaitSetError::Forked`].
pub struct WaitSet {
    members: Vec<Member>,
    timers: Vec<Timer>,
    control: Arc<Control>,
    /// What was last seen of [`Control::calls`].
    calls_seen: u32,
    /// Which member is reported first, modulo their number.
    first: usize,
    /// The largest number of subscribers to sleep for in one call, and not by way of the parkers.
    most_at_once: usize,
    generation: u32,
    /// Used in every wait; empty in between.
    awaited: Vec<Arc<Watched>>,
    seen: Vec<u32>,
}

struct Member {
    token: Token,
    watched: Weak<Watched>,
    /// If parkers sleep for this set.
    ticket: Option<Ticket>,
}

struct Timer {
    token: Token,
    /// On CLOCK_MONOTONIC.
    next_ns: u64,
    /// `None`: once.
    period_ns: Option<u64>,
}

/// What others wake a set by.
#[derive(Default)]
struct Control {
    /// Slept on. Changes with every wake-up, a parker's too.
    word: AtomicU32,
    /// How often a [`WaitSetWaker`] was used.
    calls: AtomicU32,
}

impl Control {
    fn rouse(&self) {
        self.word.fetch_add(1, AcqRel);
        futex::wake_all_private(&self.word);
    }
}

impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.rouse();
    }
}

/// A subscriber or timer of a [`WaitSet`]. No two of a process are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// What a [`WaitSet`] has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A subscriber has something to receive: a message, or the end of its topic.
    Ready(Token),
    /// A timer's time has come.
    Timer {
        /// The timer.
        token: Token,
        /// How many of its times have passed since the one reported before, beside this one.
        missed: u64,
    },
    /// A [`WaitSetWaker`] was used, once or several times.
    Woken,
}

/// What a wait came to: events, in the order in which to see to them. None if its time was up.
#[derive(Clone, Debug)]
pub struct Events(vec::IntoIter<Event>);

impl Events {
    /// Whether there are none left.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Events {}
impl FusedIterator for Events {}

/// Ends a [`WaitSet`]'s wait from another thread.
///
/// ```
/// use conduit::{Event, WaitSet};
///
/// let mut set = WaitSet::new();
/// let waker = set.waker();
/// let waiting = std::thread::spawn(move || set.wait().map(|events| events.collect::<Vec<_>>()));
/// waker.wake();
/// assert_eq!(waiting.join().unwrap()?, [Event::Woken]);
/// # Ok::<(), conduit::WaitSetError>(())
/// ```
#[derive(Clone)]
pub struct WaitSetWaker {
    control: Arc<Control>,
    generation: u32,
}

impl WaitSetWaker {
    /// Has the wait that is going on, or else the next one, report [`Event::Woken`]. Never blocks. Does nothing in a forked process.
    pub fn wake(&self) {
        if self.generation == fork::generation() {
            self.control.calls.fetch_add(1, AcqRel);
            self.control.rouse();
        }
    }
}

impl fmt::Debug for WaitSetWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSetWaker").finish_non_exhaustive()
    }
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
            calls_seen: 0,
            first: 0,
            most_at_once: if futex::can_wait_for_any() { futex::MOST_WORDS - 1 } else { 0 },
            generation: fork::watched_generation(),
            awaited: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Waits for a subscriber too, until it is dropped or [removed](Self::remove).
    ///
    /// # Errors
    ///
    /// [`Forked`](WaitSetError::Forked) in a process forked from the one that made the set or the subscriber.
    pub fn add<T: ?Sized>(&mut self, subscriber: &Subscriber<T>) -> Result<Token, WaitSetError> {
        let watched = subscriber.watched();
        if self.generation != fork::generation() || watched.ring().is_foreign() {
            return Err(WaitSetError::Forked);
        }
        let token = Token::new();
        self.members.push(Member { token, watched: Arc::downgrade(watched), ticket: None });
        Ok(token)
    }

    /// Adds a timer that goes off once, `after` from now, and then is no longer in the set.
    pub fn add_timer(&mut self, after: Duration) -> Token {
        self.add_timer_at(now_ns().saturating_add(ns(after)), None)
    }

    /// Adds a timer that goes off every `period`, the first time a period from now.
    ///
    /// Its times are exact multiples of the period from now, however late the events are taken: it does not drift. Times that have passed before
    /// the next wait are reported as one event, which counts them.
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

    /// Takes a subscriber or timer out. Returns whether it was there; an event of it that was reported already stays one.
    pub fn remove(&mut self, token: Token) -> bool {
        let before = self.members.len() + self.timers.len();
        self.members.retain(|member| member.token != token);
        self.timers.retain(|timer| timer.token != token);
        self.members.len() + self.timers.len() != before
    }

    /// What ends a wait from another thread.
    pub fn waker(&self) -> WaitSetWaker {
        WaitSetWaker { control: Arc::clone(&self.control), generation: self.generation }
    }

    /// Sleeps until there is something to report.
    ///
    /// # Errors
    ///
    /// [`Empty`](WaitSetError::Empty) if nothing could ever end the wait, also when that comes true while it goes on;
    /// [`Thread`](WaitSetError::Thread) if a thread is needed and can not be started; [`Forked`](WaitSetError::Forked) in a
    /// forked process.
    pub fn wait(&mut self) -> Result<Events, WaitSetError> {
        self.wait_until(u64::MAX)
    }

    /// Sleeps until there is something to report or the time is up: then there are no events. With a timeout of zero it only
    /// looks.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), but a set with nothing in it sleeps for the whole time.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Events, WaitSetError> {
        self.wait_until(now_ns().saturating_add(ns(timeout)))
    }

    /// The same until a point in time; one that has passed is a timeout of zero.
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
            // Before the look: who changes it later than that keeps this round from sleeping.
            let told = self.control.word.load(Acquire);
            self.note_awaited();
            let events = self.look();
            let now_ns = if self.needs_clock(deadline_ns) { now_ns() } else { 0 };
            let events = self.look_at_timers(events, now_ns);
            if !events.is_empty() || now_ns >= deadline_ns {
                self.awaited.clear();
                return Ok(Events(events.into_iter()));
            }
            let is_empty = self.members.is_empty() && self.timers.is_empty();
            if is_empty && deadline_ns == u64::MAX && Arc::strong_count(&self.control) == 1 {
                return Err(WaitSetError::Empty);
            }
            let until_ns = self.timers.iter().map(|timer| timer.next_ns).fold(deadline_ns, u64::min);
            let slept = if self.members.len() <= self.most_at_once {
                self.sleep(told, until_ns);
                Ok(())
            } else {
                self.have_parkers_sleep(told, until_ns)
            };
            // Nobody's region is kept longer than for one round.
            self.awaited.clear();
            slept?;
        }
    }

    fn needs_clock(&self, deadline_ns: u64) -> bool {
        !self.timers.is_empty() || deadline_ns != u64::MAX
    }

    /// Keeps the subscribers' regions for this round, and forgets subscribers that were dropped.
    fn note_awaited(&mut self) {
        let awaited = &mut self.awaited;
        self.members.retain(|member| {
            let watched = member.watched.upgrade().filter(|watched| !watched.has_left());
            let is_there = watched.is_some();
            awaited.extend(watched);
            is_there
        });
    }

    /// Who is ready, beginning each time with another one.
    fn look(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let calls = self.control.calls.load(Acquire);
        if calls != self.calls_seen {
            self.calls_seen = calls;
            events.push(Event::Woken);
        }
        let count = self.members.len();
        let now = coarse_now();
        for index in 0..count {
            let index = (self.first + index) % count;
            let watched = &self.awaited[index];
            watched.look(now, CHECK_INTERVAL);
            if watched.is_ready() {
                events.push(Event::Ready(self.members[index].token));
            }
        }
        if !events.is_empty() {
            self.first = (self.first + 1) % count.max(1);
        }
        events
    }

    fn look_at_timers(&mut self, mut events: Vec<Event>, now_ns: u64) -> Vec<Event> {
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

    /// Sleeps on all wake words at once, until a point in time or until somebody should be looked at.
    fn sleep(&mut self, told: u32, until_ns: u64) {
        let longest = self.awaited.iter().map(|watched| watched.longest_sleep()).min();
        let until_ns = longest.map_or(until_ns, |longest| until_ns.min(now_ns().saturating_add(ns(longest))));
        let (awaited, control) = (&self.awaited, &self.control);
        let mut woken = None;
        sleep_for_any(awaited.iter().map(|watched| watched.sleeper()), &mut self.seen, |seen| {
            let deadline_ns = (until_ns != u64::MAX).then_some(until_ns);
            if !futex::can_wait_for_any() {
                // Then there are no members.
                let timeout = deadline_ns.map(|it| Duration::from_nanos(it.saturating_sub(now_ns())));
                futex::wait_private(&control.word, told, timeout);
                return;
            }
            let mut words = futex::Words::with_private(&control.word, told);
            for (watched, seen) in awaited.iter().zip(seen) {
                words.push(&watched.consumers().wake, *seen);
            }
            woken = words.wait(deadline_ns);
        });
        // The first word is the control's.
        if let Some(watched) = woken.and_then(|index| awaited.get(index.wrapping_sub(1)))
            && !watched.is_ready()
        {
            watched.look_after_waking();
        }
    }

    /// The same, where that is not possible.
    fn have_parkers_sleep(&mut self, told: u32, until_ns: u64) -> Result<(), WaitSetError> {
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
                may_sleep = false;
                break;
            }
        }
        if may_sleep && outcome.is_ok() {
            // Not for long: nobody tells of a subscriber that is dropped.
            let timeout = Duration::from_nanos(until_ns.saturating_sub(now_ns())).min(CHECK_INTERVAL);
            futex::wait_private(&self.control.word, told, Some(timeout));
        }
        for ticket in self.members.iter().filter_map(|member| member.ticket.as_ref()) {
            ticket.disarm();
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
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use tempfile::TempDir;

    use super::*;
    use crate::{Domain, Publisher, RecvError};

    /// Longer than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(20);

    struct World {
        _directory: TempDir,
        domain: Domain,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir_in("/dev/shm").unwrap();
            let domain = Domain::new(directory.path()).without_registry();
            Self { _directory: directory, domain }
        }

        fn publisher(&self, topic: &str) -> Publisher<u64> {
            Publisher::builder().domain(&self.domain).create(topic).unwrap()
        }

        fn subscriber(&self, topic: &str) -> Subscriber<u64> {
            Subscriber::builder().domain(&self.domain).open(topic).unwrap()
        }

        fn topics(&self, count: usize) -> (Vec<Publisher<u64>>, Vec<Subscriber<u64>>) {
            let names: Vec<_> = (0..count).map(|number| format!("topic/{number}")).collect();
            let publishers = names.iter().map(|name| self.publisher(name)).collect();
            (publishers, names.iter().map(|name| self.subscriber(name)).collect())
        }
    }

    /// A set, and one whose parkers sleep for it, as with too many topics or an old kernel.
    fn both_kinds() -> [WaitSet; 2] {
        [WaitSet::new(), WaitSet { most_at_once: 0, ..WaitSet::new() }]
    }

    fn wait(set: &mut WaitSet) -> Vec<Event> {
        let events: Vec<_> = set.wait_timeout(DEADLINE).unwrap().collect();
        assert!(!events.is_empty(), "waited in vain");
        events
    }

    /// Waits until somebody sleeps for the subscriber.
    fn wait_until_announced(watched: &Watched) {
        let deadline = Instant::now() + DEADLINE;
        while watched.consumers().waiting.load(Acquire) == 0 {
            assert!(Instant::now() < deadline, "nobody sleeps");
            thread::yield_now();
        }
    }

    #[test]
    fn a_message_wakes_the_set_and_stays_an_event_until_it_is_taken() {
        let world = World::new();
        for mut set in both_kinds() {
            let (mut publishers, mut subscribers) = world.topics(2);
            let tokens: Vec<_> = subscribers.iter().map(|subscriber| set.add(subscriber).unwrap()).collect();
            assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty());
            let watched = Arc::clone(subscribers[1].watched());
            let sender = thread::spawn(move || {
                wait_until_announced(&watched);
                publishers[1].send(&7).unwrap();
                publishers
            });
            assert_eq!(wait(&mut set), [Event::Ready(tokens[1])]);
            assert_eq!(wait(&mut set), [Event::Ready(tokens[1])], "it is still there");
            assert_eq!(*subscribers[1].try_recv().unwrap().unwrap(), 7);
            assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty());
            drop(sender.join().unwrap());
            let mut ends = wait(&mut set);
            ends.sort_by_key(|event| *event != Event::Ready(tokens[0]));
            assert_eq!(ends, tokens.iter().map(|token| Event::Ready(*token)).collect::<Vec<_>>());
            for (subscriber, token) in subscribers.iter_mut().zip(tokens) {
                assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
                assert!(set.remove(token) && !set.remove(token));
            }
            assert!(matches!(set.wait(), Err(WaitSetError::Empty)));
        }
    }

    #[test]
    fn nobody_is_left_announced_after_a_wait() {
        let world = World::new();
        for mut set in both_kinds() {
            let (mut publishers, mut subscribers) = world.topics(3);
            for subscriber in &subscribers {
                set.add(subscriber).unwrap();
            }
            for round in 0..3 {
                let watched = Arc::clone(subscribers[2].watched());
                let publisher = &mut publishers[2];
                thread::scope(|scope| {
                    scope.spawn(move || {
                        wait_until_announced(&watched);
                        publisher.send(&round).unwrap();
                    });
                    assert_eq!(wait(&mut set).len(), 1);
                });
                assert!(subscribers[2].try_recv().unwrap().is_some());
                assert!(set.wait_timeout(Duration::from_millis(5)).unwrap().is_empty());
                for subscriber in &subscribers {
                    assert_eq!(subscriber.watched().consumers().waiting.load(Relaxed), 0);
                }
            }
        }
    }

    /// One set with 300 topics (more than the kernel takes at once), each of which wakes it alone.
    #[test]
    fn many_topics_wake_the_set_one_by_one() {
        let world = World::new();
        for (mut set, count) in [(WaitSet::new(), 100), (WaitSet::new(), 300)] {
            let (mut publishers, mut subscribers) = world.topics(count);
            let mut places = HashMap::new();
            for (place, subscriber) in subscribers.iter().enumerate() {
                places.insert(set.add(subscriber).unwrap(), place);
            }
            let watched: Vec<_> = subscribers.iter().map(|it| Arc::clone(it.watched())).collect();
            let sender = thread::spawn(move || {
                for place in (0..count).step_by(7).chain([count - 1, 0]) {
                    wait_until_announced(&watched[place]);
                    // The last that is announced: now it sleeps, or will not.
                    wait_until_announced(&watched[count - 1]);
                    publishers[place].send(&(place as u64)).unwrap();
                    while watched[place].sleeper().has_news() {
                        thread::yield_now();
                    }
                }
                publishers
            });
            for expected in (0..count).step_by(7).chain([count - 1, 0]) {
                let events = wait(&mut set);
                let [Event::Ready(token)] = events[..] else { panic!("{events:?}") };
                assert_eq!(places[&token], expected);
                assert_eq!(*subscribers[expected].try_recv().unwrap().unwrap(), expected as u64);
            }
            drop(sender.join().unwrap());
        }
    }

    #[test]
    fn a_flooded_topic_does_not_hide_the_others() {
        let world = World::new();
        for mut set in both_kinds() {
            let (mut publishers, mut subscribers) = world.topics(3);
            let tokens: Vec<_> = subscribers.iter().map(|subscriber| set.add(subscriber).unwrap()).collect();
            // All the time there is something on every topic, and one event is seen to per wait.
            let mut served = [0; 3];
            for _ in 0..300 {
                for publisher in &mut publishers {
                    publisher.send(&0).unwrap();
                }
                let Some(Event::Ready(token)) = set.wait().unwrap().next() else { panic!("no event") };
                let place = tokens.iter().position(|it| *it == token).unwrap();
                assert!(subscribers[place].try_recv().unwrap().is_some());
                served[place] += 1;
            }
            assert_eq!(served, [100; 3]);
            // And a message of a quiet topic is in the very next events.
            let mut flood = publishers.remove(0);
            while subscribers[1..].iter_mut().any(|subscriber| subscriber.try_recv().unwrap().is_some()) {}
            let stop = Arc::new(AtomicBool::new(false));
            let flooder = thread::spawn({
                let stop = Arc::clone(&stop);
                move || {
                    while !stop.load(Relaxed) {
                        flood.send(&1).unwrap();
                    }
                    flood
                }
            });
            for _ in 0..100 {
                publishers[1].send(&2).unwrap();
                assert!(wait(&mut set).contains(&Event::Ready(tokens[2])));
                assert!(subscribers[2].try_recv().unwrap().is_some());
                let _ = subscribers[0].try_recv().unwrap();
            }
            stop.store(true, Relaxed);
            drop(flooder.join().unwrap());
        }
    }

    #[test]
    fn timers_do_not_drift_and_count_what_they_miss() {
        for mut set in both_kinds() {
            let world = World::new();
            let (_publishers, subscribers) = world.topics(1);
            set.add(&subscribers[0]).unwrap();
            let started = Instant::now();
            let period = Duration::from_millis(5);
            let before_ns = now_ns();
            let tick = set.add_interval(period);
            let after_ns = now_ns();
            let once = set.add_timer(Duration::from_millis(12));
            let (mut ticks, mut alarms) = (0, 0);
            while ticks < 20 {
                for event in wait(&mut set) {
                    match event {
                        Event::Timer { token, missed } if token == tick => {
                            ticks += 1 + missed;
                            assert!(started.elapsed() >= period * ticks as u32, "too early");
                        }
                        Event::Timer { token, missed: 0 } if token == once => {
                            alarms += 1;
                            assert!(started.elapsed() >= Duration::from_millis(12));
                        }
                        other => panic!("{other:?}"),
                    }
                }
                if ticks == 10 {
                    thread::sleep(period * 3);
                }
            }
            // However late each one was taken, the next is due at its multiple of the period.
            let due_ns = set.timers[0].next_ns;
            assert!((before_ns..=after_ns).contains(&(due_ns - (ticks + 1) * ns(period))), "it drifts");
            assert_eq!(alarms, 1);
            assert!(!set.remove(once) && set.remove(tick));
        }
    }

    #[test]
    fn missed_times_are_one_event() {
        let mut set = WaitSet::new();
        let tick = set.add_interval(Duration::from_millis(2));
        thread::sleep(Duration::from_millis(21));
        let events = wait(&mut set);
        let [Event::Timer { token, missed }] = events[..] else { panic!("{events:?}") };
        assert!(token == tick && missed >= 9, "{missed}");
    }

    #[test]
    fn timeouts_end_a_wait() {
        let world = World::new();
        for mut set in both_kinds() {
            let (_publishers, subscribers) = world.topics(1);
            set.add(&subscribers[0]).unwrap();
            for timeout in [Duration::ZERO, Duration::from_millis(20), CHECK_INTERVAL + Duration::from_millis(50)] {
                let started = Instant::now();
                assert!(set.wait_timeout(timeout).unwrap().is_empty());
                assert!(started.elapsed() >= timeout);
                assert!(started.elapsed() < timeout + DEADLINE / 4);
            }
            assert!(set.wait_deadline(Instant::now()).unwrap().is_empty());
        }
        // Nothing in it, and somebody waits for just that long.
        assert!(WaitSet::new().wait_timeout(Duration::from_millis(1)).unwrap().is_empty());
    }

    #[test]
    fn a_waker_ends_a_wait_and_is_remembered() {
        let world = World::new();
        for mut set in both_kinds() {
            let (_publishers, subscribers) = world.topics(1);
            set.add(&subscribers[0]).unwrap();
            let waker = set.waker();
            waker.wake();
            waker.wake();
            assert_eq!(wait(&mut set), [Event::Woken]);
            assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty(), "once is enough");
            let watched = Arc::clone(subscribers[0].watched());
            let other = thread::spawn(move || {
                wait_until_announced(&watched);
                waker.wake();
            });
            assert_eq!(wait(&mut set), [Event::Woken]);
            other.join().unwrap();
        }
    }

    #[test]
    fn a_dropped_subscriber_leaves_the_set() {
        let world = World::new();
        for mut set in both_kinds() {
            let (mut publishers, mut subscribers) = world.topics(2);
            for subscriber in &subscribers {
                set.add(subscriber).unwrap();
            }
            assert!(set.wait_timeout(Duration::from_millis(1)).unwrap().is_empty());
            let left = subscribers.remove(0);
            let watched = Arc::downgrade(left.watched());
            drop(left);
            publishers[0].send(&1).unwrap();
            assert!(set.wait_timeout(Duration::from_millis(1)).unwrap().is_empty());
            // A parker may still be about to notice.
            let deadline = Instant::now() + DEADLINE;
            while watched.strong_count() != 0 {
                assert!(Instant::now() < deadline, "its region is kept");
                thread::yield_now();
            }
            assert!(publishers[0].subscribers().is_empty());
            // Also while the set waits, which then is for nothing.
            let last = subscribers.remove(0);
            let other = thread::spawn(move || {
                wait_until_announced(last.watched());
                drop(last);
            });
            assert!(matches!(set.wait(), Err(WaitSetError::Empty)));
            other.join().unwrap();
        }
    }

    #[test]
    fn a_set_and_its_subscriber_may_sleep_at_once() {
        let world = World::new();
        for mut set in both_kinds() {
            let mut publisher = world.publisher("scan");
            let mut subscriber = world.subscriber("scan");
            set.add(&subscriber).unwrap();
            let watched = Arc::clone(subscriber.watched());
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                // It comes and goes all the time: its good-byes must not take the set off the list.
                let sleeper = scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        watched.sleeper().sleep(Duration::from_micros(20));
                    }
                });
                let sender = scope.spawn(|| {
                    for number in 0..500 {
                        while watched.sleeper().has_news() {
                            thread::yield_now();
                        }
                        thread::sleep(Duration::from_micros(200));
                        publisher.send(&number).unwrap();
                    }
                });
                let mut longest = Duration::ZERO;
                for number in 0..500 {
                    assert_eq!(wait(&mut set).len(), 1);
                    let sample = subscriber.try_recv().unwrap().unwrap();
                    assert_eq!(*sample, number);
                    longest = longest.max(sample.age().unwrap());
                }
                sender.join().unwrap();
                stop.store(true, Relaxed);
                sleeper.join().unwrap();
                assert!(longest < CHECK_INTERVAL / 2, "nobody woke it for {longest:?}");
            });
        }
    }

    #[test]
    fn a_forked_child_can_not_use_it() {
        use nix::sys::wait::{WaitStatus, waitpid};
        use nix::unistd::{ForkResult, fork};
        let world = World::new();
        for mut set in both_kinds() {
            let (mut publishers, mut subscribers) = world.topics(1);
            set.add(&subscribers[0]).unwrap();
            assert!(set.wait_timeout(Duration::from_millis(1)).unwrap().is_empty());
            let waker = set.waker();
            // SAFETY: the child makes calls that return at once, and exits.
            #[allow(unsafe_code)]
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    waker.wake();
                    let refused = [
                        matches!(set.wait(), Err(WaitSetError::Forked)),
                        matches!(set.add(&subscribers[0]), Err(WaitSetError::Forked)),
                        matches!(WaitSet::new().add(&subscribers[0]), Err(WaitSetError::Forked)),
                    ];
                    drop(set);
                    drop(subscribers);
                    // SAFETY: `_exit` is async-signal-safe.
                    unsafe { nix::libc::_exit(i32::from(refused != [true; 3])) }
                }
                ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
            }
            publishers[0].send(&1).unwrap();
            assert_eq!(wait(&mut set).len(), 1, "the parent's is what it was");
            assert!(subscribers[0].try_recv().unwrap().is_some());
        }
    }
}
