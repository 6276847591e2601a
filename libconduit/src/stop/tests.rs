use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tempfile::TempDir;

use super::*;
use crate::{
    Domain, Publisher, RecvError, ShmRegion, Spin, Subscriber, SubscriberBuilder, WaitError, WaitSet, WaitSetError,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

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

    fn publisher(&self) -> Publisher<u64> {
        Publisher::builder().domain(&self.domain).slots(64).create("ticks").unwrap()
    }

    fn subscriber(&self, stop: &Stop) -> SubscriberBuilder<u64> {
        Subscriber::builder().domain(&self.domain).stop(stop)
    }
}

type Call = fn(&mut Subscriber<u64>) -> Result<(), RecvError>;

/// Each call of a subscriber that waits.
const CALLS: [(&str, Call); 10] = [
    ("recv", |it| it.recv().map(drop)),
    ("recv_timeout", |it| it.recv_timeout(LONG).map(drop)),
    ("recv_with", |it| it.recv_with(|_| ())),
    ("recv_with_timeout", |it| it.recv_with_timeout(LONG, |_| ())),
    ("recv_batch", |it| it.recv_batch(7, |_| ()).map(drop)),
    ("recv_batch_timeout", |it| it.recv_batch_timeout(7, LONG, |_| ()).map(drop)),
    ("recv_copy", |it| it.recv_copy().map(|_| ())),
    ("recv_copy_timeout", |it| it.recv_copy_timeout(LONG).map(|_| ())),
    ("recv_event", |it| it.recv_event().map(drop)),
    ("recv_event_timeout", |it| it.recv_event_timeout(LONG).map(drop)),
];

fn is_stopped<T>(result: &Result<T, RecvError>) -> bool {
    matches!(result, Err(RecvError::Stopped { topic }) if topic.as_str() == "ticks")
}

/// Stops once a thread sleeps for the subscriber, or polls, whichever it does.
fn stop_during(subscriber: &Subscriber<u64>, stop: &Stop) -> thread::JoinHandle<()> {
    let (watched, stop) = (Arc::clone(subscriber.watched()), stop.clone());
    thread::spawn(move || {
        let patience = Instant::now() + Duration::from_millis(20);
        while watched.sleeper().waiting() == 0 && Instant::now() < patience {
            thread::yield_now();
        }
        stop.stop();
    })
}

#[test]
fn each_call_that_waits_is_stopped_before_and_during_its_wait() {
    let world = World::new();
    let _publisher = world.publisher();
    let modes: [(Spin, bool); 4] =
        [(Spin::Never, false), (Spin::Never, true), (Spin::For(Duration::MAX), false), (Spin::Adaptive, false)];
    for (name, call) in CALLS {
        for (spin, follows) in modes {
            let stop = Stop::new();
            let builder = world.subscriber(&stop).spin(spin);
            let builder = if follows { builder.follow() } else { builder };
            let mut subscriber = builder.open("ticks").unwrap();
            if follows {
                // The connection is the first event.
                assert!(subscriber.try_recv_event().unwrap().is_some());
            }
            let begun = Instant::now();
            let stopping = stop_during(&subscriber, &stop);
            assert!(is_stopped(&call(&mut subscriber)), "{name} {spin:?}, during");
            assert!(is_stopped(&call(&mut subscriber)), "{name} {spin:?}, before");
            assert!(begun.elapsed() < LONG / 2, "{name} {spin:?}");
            stopping.join().unwrap();
            assert!(subscriber.try_recv().unwrap().is_none());
        }
    }
}

#[test]
fn one_that_waits_for_its_first_publisher_is_stopped() {
    let world = World::new();
    let stop = Stop::new();
    let mut subscriber = world.subscriber(&stop).follow().open("ticks").unwrap();
    let stopping = stop_during(&subscriber, &stop);
    assert!(is_stopped(&subscriber.recv()));
    stopping.join().unwrap();
    // It still follows.
    let mut publisher = world.publisher();
    publisher.send(&7).unwrap();
    let deadline = Instant::now() + LONG;
    let found = loop {
        if let Some(found) = subscriber.try_recv().unwrap() {
            break *found;
        }
        assert!(Instant::now() < deadline);
        thread::yield_now();
    };
    assert_eq!(found, 7);
}

#[test]
fn one_that_waits_for_topics_of_a_pattern_is_stopped() {
    let world = World::new();
    let mut publisher = world.publisher();
    for during in [false, true] {
        let stop = Stop::new();
        let mut topics = world.subscriber(&stop).open_all("ti*").unwrap();
        let stopping = during.then(|| stop_soon(&stop));
        if !during {
            stop.stop();
        }
        assert!(matches!(topics.recv(), Err(RecvError::Stopped { .. })));
        assert!(matches!(topics.recv_timeout(LONG), Err(RecvError::Stopped { .. })));
        assert!(matches!(topics.recv_event(), Err(RecvError::Stopped { .. })));
        assert!(topics.iter().next().is_none());
        if let Some(stopping) = stopping {
            stopping.join().unwrap();
        }
    }
    let stop = Stop::new();
    let mut topics = world.subscriber(&stop).open_all("ti*").unwrap();
    let stopping = stop_soon(&stop);
    assert!(topics.iter().next().is_none());
    stopping.join().unwrap();
    publisher.send(&7).unwrap();
}

#[test]
fn copies_of_bytes_are_stopped_too() {
    let world = World::new();
    let stop = Stop::new();
    let _publisher = Publisher::<[u8]>::builder().domain(&world.domain).create("ticks").unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&world.domain).stop(&stop).open("ticks").unwrap();
    stop.stop();
    let mut buffer = [0; 8];
    assert!(is_stopped(&subscriber.recv_into(&mut buffer)));
    assert!(is_stopped(&subscriber.recv_into_timeout(&mut buffer, LONG)));
    assert!(subscriber.try_recv_into(&mut buffer).unwrap().is_none());
}

/// A message that is there is not received by a call that waits, and is not lost.
#[test]
fn a_stop_loses_no_message_and_ends_what_never_sleeps() {
    let world = World::new();
    let mut publisher = world.publisher();
    let stop = Stop::new();
    let mut subscriber = world.subscriber(&stop).open("ticks").unwrap();
    publisher.send_batch(&[1, 2]).unwrap();
    assert_eq!(*subscriber.recv().unwrap(), 1);
    stop.stop();
    assert!(stop.is_stopped());
    for (name, call) in CALLS {
        assert!(is_stopped(&call(&mut subscriber)), "{name}");
    }
    assert!(subscriber.iter().next().is_none());
    assert_eq!(*subscriber.try_recv().unwrap().unwrap(), 2);
    assert_eq!(subscriber.lost(), 0);
}

#[test]
fn a_timeout_is_one_though_there_is_a_stop() {
    let world = World::new();
    let _publisher = world.publisher();
    let mut subscriber = world.subscriber(&Stop::new()).open("ticks").unwrap();
    let begun = Instant::now();
    let timeout = Duration::from_millis(20);
    assert!(matches!(subscriber.recv_timeout(timeout), Err(RecvError::TimedOut { .. })));
    assert!(begun.elapsed() >= timeout);
}

/// Whatever the schedule, each message is received once, before the stop or after it.
#[test]
fn a_thousand_stops_race_with_messages() {
    let world = World::new();
    let mut publisher = world.publisher();
    for round in 0..1000 {
        let stop = Stop::new();
        let mut subscriber = world.subscriber(&stop).open("ticks").unwrap();
        let receiving = thread::spawn(move || {
            let mut received: Vec<u64> = subscriber.iter().map(|tick| *tick.unwrap()).collect();
            while let Some(tick) = subscriber.try_recv().unwrap() {
                received.push(*tick);
            }
            (received, subscriber)
        });
        let stopping = stop.clone();
        let stopping = thread::spawn(move || {
            (0..round % 64).for_each(|_| std::hint::spin_loop());
            stopping.stop();
        });
        for tick in 0..10 {
            publisher.send(&tick).unwrap();
        }
        stopping.join().unwrap();
        let (mut received, mut subscriber) = receiving.join().unwrap();
        while let Some(tick) = subscriber.try_recv().unwrap() {
            received.push(*tick);
        }
        assert_eq!(received, Vec::from_iter(0..10), "round {round}");
        assert_eq!(subscriber.lost(), 0);
    }
}

/// A stop that comes while a flood of messages keeps the calls from sleeping.
#[test]
fn a_flood_is_stopped() {
    let world = World::new();
    let mut publisher = world.publisher();
    let (stop, is_over) = (Stop::new(), &AtomicBool::new(false));
    let mut subscriber = world.subscriber(&stop).open("ticks").unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            while !is_over.load(Relaxed) {
                publisher.send(&7).unwrap();
            }
        });
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(20));
            stop.stop();
        });
        assert!(subscriber.iter().all(|tick| tick.is_ok()));
        is_over.store(true, Relaxed);
    });
}

#[test]
fn wait_sets_are_stopped_before_and_during_their_waits() {
    let world = World::new();
    let _publisher = world.publisher();
    // The last are too many for one call.
    for members in [0, 1, 126, 127] {
        for timeout in [None, Some(LONG)] {
            let stop = Stop::new();
            let subscriber = Subscriber::<u64>::builder().domain(&world.domain).open("ticks").unwrap();
            let mut set = WaitSet::new();
            set.stop(&stop);
            for _ in 0..members {
                set.add(&subscriber).unwrap();
            }
            let mut wait = || match timeout {
                Some(timeout) => set.wait_timeout(timeout),
                None => set.wait(),
            };
            let stopping = stop.clone();
            let stopping = thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                stopping.stop();
            });
            let begun = Instant::now();
            for _ in 0..2 {
                assert!(matches!(wait(), Err(WaitSetError::Stopped)), "{members} {timeout:?}");
            }
            assert!(begun.elapsed() < LONG / 2);
            stopping.join().unwrap();
        }
    }
}

/// What is ready is not reported once the set is stopped, and can be received.
#[test]
fn a_stopped_wait_set_loses_nothing() {
    let world = World::new();
    let mut publisher = world.publisher();
    let mut subscriber = Subscriber::<u64>::builder().domain(&world.domain).open("ticks").unwrap();
    let (mut set, stop) = (WaitSet::new(), Stop::new());
    set.add(&subscriber).unwrap();
    set.stop(&stop);
    publisher.send(&7).unwrap();
    assert_eq!(set.wait().unwrap().len(), 1);
    stop.stop();
    assert!(matches!(set.wait_timeout(Duration::ZERO), Err(WaitSetError::Stopped)));
    assert_eq!(*subscriber.try_recv().unwrap().unwrap(), 7);
}

/// As the kernel sends one to a process: to any of its threads.
#[test]
fn a_signal_ends_a_wait() {
    const SIGNAL: i32 = 60;
    let world = World::new();
    let _publisher = world.publisher();
    for _ in 0..20 {
        let stop = Stop::on_signals([SIGNAL]).unwrap();
        let mut subscriber = world.subscriber(&stop).open("ticks").unwrap();
        let watched = Arc::clone(subscriber.watched());
        let signalling = thread::spawn(move || {
            while watched.sleeper().waiting() == 0 {
                thread::yield_now();
            }
            // SAFETY: the signal is handled.
            #[allow(unsafe_code)]
            unsafe {
                nix::libc::kill(nix::libc::getpid(), SIGNAL)
            }
        });
        assert!(is_stopped(&subscriber.recv()));
        assert_eq!(signalling.join().unwrap(), 0);
    }
}

fn stop_soon(stop: &Stop) -> thread::JoinHandle<()> {
    let stop = stop.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        stop.stop();
    })
}

#[test]
fn a_wait_for_a_name_is_stopped() {
    let world = World::new();
    let wait = |stop: &Stop, timeout| ShmRegion::wait_until_exists_or_stopped(&world.domain, "ticks", stop, timeout);
    for timeout in [None, Some(LONG)] {
        let stop = Stop::new();
        let begun = Instant::now();
        let stopping = stop_soon(&stop);
        for _ in 0..2 {
            let error = wait(&stop, timeout).unwrap_err();
            assert!(matches!(&error, WaitError::Stopped { topic } if topic.as_str() == "ticks"), "{error}");
        }
        assert!(begun.elapsed() < LONG / 2);
        stopping.join().unwrap();
    }
    let stop = Stop::new();
    let begun = Instant::now();
    let timeout = Duration::from_millis(20);
    assert!(!wait(&stop, Some(timeout)).unwrap());
    assert!(begun.elapsed() >= timeout && begun.elapsed() < LONG / 2);
    let publishing = thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&stop, None));
        thread::sleep(Duration::from_millis(5));
        let publisher = world.publisher();
        assert!(waiting.join().unwrap().unwrap());
        publisher
    });
    assert!(wait(&stop, None).unwrap());
    drop(publishing);
}

/// The bell that the program has closed, or that a child of fork has not, is not waited for.
#[test]
fn a_wait_without_a_bell_is_stopped() {
    let world = World::new();
    let wait = |stop: &Stop| ShmRegion::wait_until_exists_or_stopped(&world.domain, "ticks", stop, None);
    let stop = Stop::new();
    // Makes the bell.
    let short = Some(Duration::from_millis(1));
    assert!(!ShmRegion::wait_until_exists_or_stopped(&world.domain, "ticks", &stop, short).unwrap());
    // SAFETY: the child makes calls that use memory of its own, and exits.
    #[allow(unsafe_code)]
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let stopping = stop_soon(&stop);
            let is_stopped = matches!(wait(&stop), Err(WaitError::Stopped { .. }));
            let _ = stopping.join();
            // SAFETY: `_exit` is async-signal-safe.
            unsafe { nix::libc::_exit(i32::from(!is_stopped)) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    }
    assert!(!stop.is_stopped());
    let stopping = stop_soon(&stop);
    assert!(matches!(wait(&stop), Err(WaitError::Stopped { .. })));
    stopping.join().unwrap();
}

#[test]
fn a_forked_child_has_a_stop_of_its_own() {
    let (parents, childs) = (Stop::new(), Stop::new());
    // SAFETY: the child makes calls that return at once, and exits.
    #[allow(unsafe_code)]
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            childs.stop();
            // SAFETY: `_exit` is async-signal-safe.
            unsafe { nix::libc::_exit(i32::from(!childs.is_stopped() || parents.is_stopped())) }
        }
        ForkResult::Parent { child } => {
            parents.stop();
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            assert!(parents.is_stopped() && !childs.is_stopped());
        }
    }
}
