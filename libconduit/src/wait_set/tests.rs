use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::parker::entry::Entry;
use crate::ring::sleeper::Sleep;
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
    [WaitSet::new(), WaitSet::new().sleeping_by_parkers()]
}

fn wait(set: &mut WaitSet) -> Vec<Event> {
    let events: Vec<_> = set.wait_timeout(DEADLINE).unwrap().collect();
    assert!(!events.is_empty(), "waited in vain");
    events
}

/// Waits until a thread sleeps for the subscriber.
fn wait_until_announced(watched: &Watched) {
    let deadline = Instant::now() + DEADLINE;
    while watched.sleeper().waiting() == 0 {
        assert!(Instant::now() < deadline, "no thread sleeps");
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
fn no_sleeper_stays_announced_after_a_wait() {
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
                assert_eq!(subscriber.watched().sleeper().waiting(), 0);
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
fn timers_do_not_drift_and_count_missed_expirations() {
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
fn missed_expirations_are_one_event() {
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
    // An empty set waits for the whole timeout.
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
        // Also while the set waits, which then nothing can end.
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
                    watched.sleeper().sleep(Duration::from_micros(20), None);
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
            assert!(longest < CHECK_INTERVAL / 2, "it was not woken for {longest:?}");
        });
    }
}

/// Not even if its place among the topics was before theirs.
#[test]
fn a_subscriber_dropped_during_a_wait_hides_no_others() {
    let world = World::new();
    for mut set in both_kinds() {
        let (mut publishers, mut subscribers) = world.topics(2);
        for subscriber in &subscribers {
            set.add(subscriber).unwrap();
        }
        let first = subscribers.remove(0);
        let other = thread::spawn(move || {
            wait_until_announced(first.watched());
            drop(first);
            // For a round without it.
            thread::sleep(CHECK_INTERVAL);
            publishers[1].send(&7).unwrap();
            publishers
        });
        let begun = Instant::now();
        assert_eq!(wait(&mut set).len(), 1);
        assert!(begun.elapsed() < DEADLINE / 2, "it was found by a later wait alone");
        assert_eq!(*subscribers[0].try_recv().unwrap().unwrap(), 7);
        drop(other.join().unwrap());
    }
}

#[test]
fn a_round_of_parkers_does_not_sleep_on_a_message() {
    let world = World::new();
    let mut set = WaitSet { most_at_once: 0, ..WaitSet::new() };
    let (mut publishers, subscribers) = world.topics(1);
    set.add(&subscribers[0]).unwrap();
    // As if it came after the round's check.
    publishers[0].send(&7).unwrap();
    set.collect_awaited();
    let seen = set.control.word.count();
    let mut round = || {
        let begun = Instant::now();
        set.sleep_by_parkers(seen, u64::MAX).unwrap();
        begun.elapsed()
    };
    // A busy machine may delay one.
    assert!((0..10).any(|_| round() < CHECK_INTERVAL / 2));
}

#[test]
fn a_forked_child_cannot_use_the_set() {
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

/// A ticket that is dropped asks for no wake-up any more, which would cost the next message a
/// system call.
#[test]
fn a_dropped_ticket_leaves_nothing_announced() {
    let world = World::new();
    let (_publishers, subscribers) = world.topics(1);
    let watched = subscribers[0].watched();
    let ticket = Ticket::new(Arc::clone(watched)).unwrap();
    assert!(!ticket.arm(Waker::noop()));
    assert_ne!(watched.sleeper().waiting(), 0);
    drop(ticket);
    assert_eq!(watched.sleeper().waiting(), 0);
}

/// A ticket that is armed while its parker sleeps, for others or for none, wakes it.
#[test]
fn a_ticket_armed_late_is_slept_for() {
    struct Unpark(thread::Thread, AtomicBool);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Relaxed);
            self.0.unpark();
        }
    }
    let world = World::new();
    let (mut publishers, subscribers) = world.topics(1);
    let ticket = Ticket::new(Arc::clone(subscribers[0].watched())).unwrap();
    // The parker falls asleep. If it has not yet, the test shows less, and passes.
    thread::sleep(Duration::from_millis(200));
    let woken = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    assert!(!ticket.arm(&Waker::from(Arc::clone(&woken))));
    publishers[0].send(&1).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !woken.1.load(Relaxed) {
        assert!(Instant::now() < deadline, "not woken");
        thread::park_timeout(DEADLINE);
    }
}

/// A topic can also be ended while its publisher lives.
#[test]
fn a_topic_ended_by_others_is_ready() {
    let world = World::new();
    let (_publishers, subscribers) = world.topics(1);
    let watched = subscribers[0].watched();
    assert!(!watched.is_ready());
    watched.sleeper().file().with(|file| crate::ring::end::mark_closed(file)).unwrap();
    assert!(watched.is_ready());
}

/// A ticket that has fired stays among the parker's words for a while, unless the topic wakes
/// others meanwhile.
#[test]
fn a_ticket_that_has_fired_is_slept_on_for_a_while() {
    let now = Duration::from_secs(1000);
    let fired = || {
        let world = World::new();
        let (mut publishers, subscribers) = world.topics(1);
        let entry = Entry::new(Arc::clone(subscribers[0].watched()));
        assert!(!entry.arm(Waker::noop(), || ()));
        assert!(entry.check(now));
        publishers[0].send(&1).unwrap();
        assert!(!entry.check(now));
        assert!(entry.slept_on().is_some());
        assert!(!entry.check(now));
        assert!(entry.slept_on().is_some(), "it may be armed again");
        (world, publishers, subscribers, entry)
    };
    let (_world, _publishers, _subscribers, entry) = fired();
    assert!(!entry.check(now + CHECK_INTERVAL));
    assert_eq!(entry.slept_on(), None, "it was not armed again");

    let (_world, _publishers, _subscribers, entry) = fired();
    entry.watched.sleeper().rouse();
    assert!(!entry.check(now));
    assert_eq!(entry.slept_on(), None, "the topic wakes others");
}
