//! Subscribers of mapped topics: their records' locks, their descriptors, and their children.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::*;
use crate::ring::layout::{CLOSED, ENDED};
use crate::ring::memory::Memory;
use crate::shm::lock::LockByte;
use crate::{Domain, Publisher, ReadyFd};

struct World {
    directory: tempfile::TempDir,
    domain: Domain,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        Self { directory, domain }
    }

    fn publisher(&self) -> Publisher<u64> {
        Publisher::builder().domain(&self.domain).create("ticks").unwrap()
    }

    fn subscriber(&self) -> Subscriber<u64> {
        Subscriber::builder().domain(&self.domain).open("ticks").unwrap()
    }

    /// The topic's file, opened anew.
    fn file(&self) -> File {
        let mut entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let path = entries.find(|path| path.to_string_lossy().contains("ticks")).unwrap();
        File::options().read(true).write(true).open(path).unwrap()
    }
}

type Receive = fn(&mut Subscriber<u64>) -> Result<Option<u64>, RecvError>;

/// Every way to receive a message.
const WAYS: [Receive; 5] = [
    |subscriber| Ok(subscriber.try_recv()?.map(|tick| *tick)),
    |subscriber| Ok(subscriber.try_recv_copy()?.map(|tick| *tick)),
    |subscriber| subscriber.try_recv_with(|tick| *tick),
    |subscriber| {
        let mut last = None;
        subscriber.try_recv_batch(10, |tick| last = Some(*tick))?;
        Ok(last)
    },
    |subscriber| match subscriber.try_recv_event()? {
        Some(TopicEvent::Sample(tick)) => Ok(Some(*tick)),
        _ => Ok(None),
    },
];

#[test]
fn a_subscriber_locks_both_bytes_of_a_record_of_its_own() {
    let world = World::new();
    let _publisher = world.publisher();
    let file = world.file();
    let is_locked = |byte: LockByte| byte.is_write_locked(&file).unwrap();
    let bytes = |record| [LockByte::record(record), LockByte::attached(record)].map(is_locked);
    let first = world.subscriber();
    assert_eq!((bytes(0), bytes(1)), ([true, true], [false, false]));
    let second = world.subscriber();
    assert_eq!(bytes(1), [true, true]);
    drop((first, second));
    assert_eq!((bytes(0), bytes(1)), ([false, false], [false, false]));
}

/// Somebody who may only read the file keeps a lock on the second byte.
#[test]
fn a_record_whose_second_byte_is_locked_is_left_alone() {
    let world = World::new();
    let _publisher = world.publisher();
    let file = world.file();
    assert!(LockByte::attached(0).try_read(&file).unwrap());
    let subscriber = world.subscriber();
    assert_eq!(subscriber.pins, Some(1));
    assert!(!LockByte::record(0).is_locked(&file).unwrap(), "the first byte is still locked");
}

fn is_readable(ready: &ReadyFd, timeout: impl Into<PollTimeout>) -> bool {
    poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

#[test]
fn a_descriptor_is_readable_while_there_is_something_to_receive() {
    for receive in WAYS {
        let world = World::new();
        let mut publisher = world.publisher();
        let mut subscriber = world.subscriber();
        let ready = subscriber.ready_fd().unwrap();
        for tick in 0..3 {
            assert!(!is_readable(&ready, PollTimeout::ZERO));
            publisher.send(&tick).unwrap();
            assert!(is_readable(&ready, 20_000u16));
            assert_eq!(receive(&mut subscriber).unwrap(), Some(tick));
        }
        drop(publisher);
        assert!(is_readable(&ready, 20_000u16));
        for _ in 0..2 {
            assert!(matches!(receive(&mut subscriber), Err(RecvError::PublisherGone { .. })));
            assert!(is_readable(&ready, PollTimeout::ZERO), "the end is still to be received");
        }
    }
}

/// Who waits for the descriptor of a subscriber that is dropped waits no longer.
#[test]
fn a_descriptor_is_readable_once_its_subscriber_is_dropped() {
    let world = World::new();
    let _publisher = world.publisher();
    let mut subscriber = world.subscriber();
    let ready = subscriber.ready_fd().unwrap();
    assert!(!is_readable(&ready, PollTimeout::ZERO));
    drop(subscriber);
    assert!(is_readable(&ready, PollTimeout::ZERO));
}

/// A child has the subscriber's memory no more. It must neither touch that nor end what its parent
/// has.
#[test]
fn a_forked_child_receives_nothing_and_leaves_its_parent_alone() {
    for receive in WAYS {
        let world = World::new();
        let mut publisher = world.publisher();
        let subscriber = Subscriber::builder().domain(&world.domain).deadline(Duration::from_secs(3600));
        let mut subscriber = subscriber.open("ticks").unwrap();
        publisher.send(&7).unwrap();
        // SAFETY: the child makes calls that return at once, and exits.
        #[allow(unsafe_code)]
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let is_refused = matches!(receive(&mut subscriber), Err(RecvError::Forked));
                drop(subscriber);
                // SAFETY: `_exit` is async-signal-safe.
                unsafe { nix::libc::_exit(i32::from(!is_refused)) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
        }
        assert_eq!(receive(&mut subscriber).unwrap(), Some(7));
        assert_eq!(publisher.subscribers().len(), 1);
    }
}

/// Its parent's regions are not mapped in a child: a slot that is released there is a crash.
#[test]
fn a_forked_child_drops_what_its_parent_holds() {
    let world = World::new();
    let mut publisher = world.publisher();
    let mut subscriber = world.subscriber();
    // SAFETY: the child makes calls that return at once, and exits.
    #[allow(unsafe_code)]
    let in_child = |drops: &mut dyn FnMut()| match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drops();
            // SAFETY: `_exit` is async-signal-safe.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    };
    publisher.send(&7).unwrap();
    let mut sample = subscriber.try_recv().unwrap();
    in_child(&mut || drop(sample.take()));
    assert_eq!(*sample.unwrap(), 7);
    publisher.send(&8).unwrap();
    // The child returns from the function, too, to where the message is released.
    let parent = std::process::id();
    let lent = subscriber.try_recv_with(|tick| {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => None,
            ForkResult::Parent { child } => Some((*tick, child)),
        }
    });
    if std::process::id() != parent {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::_exit(0)
        }
    }
    let (tick, child) = lent.unwrap().flatten().unwrap();
    assert_eq!((tick, waitpid(child, None).unwrap()), (8, WaitStatus::Exited(child, 0)));
}

/// All that a batch receives is settled, not the first message alone.
#[test]
fn a_batch_reports_its_progress_and_settles_the_descriptor() {
    let world = World::new();
    let mut publisher = world.publisher();
    let mut subscriber = world.subscriber();
    let ready = subscriber.ready_fd().unwrap();
    for tick in 0..3 {
        publisher.send(&tick).unwrap();
    }
    assert!(is_readable(&ready, 20_000u16));
    assert_eq!(subscriber.try_recv_batch(10, |_| ()).unwrap(), 3);
    assert!(!is_readable(&ready, PollTimeout::ZERO));
    assert_eq!(publisher.subscribers()[0].received, 3);
}

/// The end is received before the thread that waits on the subscriber's behalf has found it, more
/// often than not.
#[test]
fn a_descriptor_is_readable_once_the_end_is_received() {
    for _ in 0..50 {
        let world = World::new();
        let publisher = world.publisher();
        let mut subscriber = world.subscriber();
        let ready = subscriber.ready_fd().unwrap();
        drop(publisher);
        assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
        assert!(is_readable(&ready, PollTimeout::ZERO));
    }
}

/// Its samples keep the record, but it receives nothing.
#[test]
fn a_dropped_subscriber_is_none_though_its_sample_is_held() {
    let world = World::new();
    let mut publisher = world.publisher();
    let mut subscriber = world.subscriber();
    publisher.send(&7).unwrap();
    let sample = subscriber.try_recv().unwrap().unwrap();
    drop(subscriber);
    assert!(publisher.subscribers().is_empty());
    assert!(LockByte::record(0).is_write_locked(world.file()).unwrap());
    assert_eq!(*sample, 7);
}

/// Drops the publisher of a number of messages and removes its marks, as if it had been killed and
/// nobody had noticed.
fn kill(publisher: Publisher<u64>, subscriber: &Subscriber<u64>, messages: u64) {
    let AttachedReader::Writable(reader) = &subscriber.reader else { panic!("it may write the region") };
    drop(publisher);
    reader.memory().consumers().wake.fetch_and(!CLOSED, Relaxed);
    reader.memory().entry(messages).position.fetch_and(!ENDED, Relaxed);
}

/// A subscriber that polls looks for the publisher's death once per tick of the coarse clock, but
/// not if a wait set has reported it.
#[test]
fn a_death_that_was_reported_is_received_at_once() {
    let world = World::new();
    let publisher = world.publisher();
    let mut subscriber = world.subscriber();
    kill(publisher, &subscriber, 0);
    assert!(subscriber.watched.check(coarse_now(), Duration::ZERO));
    assert!(subscriber.watched.is_ready());
    subscriber.tick = coarse_tick();
    assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
}

#[test]
fn a_death_is_looked_for_after_sleeping() {
    let world = World::new();
    let mut publisher = world.publisher();
    let mut subscriber = world.subscriber();
    publisher.send(&7).unwrap();
    kill(publisher, &subscriber, 1);
    assert!(subscriber.watched.check(coarse_now(), Duration::ZERO));
    subscriber.tick = coarse_tick();
    // Returns at once: there is a message.
    assert!(subscriber.sleep_until(None));
    assert!(subscriber.try_recv().unwrap().is_some());
    assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
}

/// A reaper that may not write to the region only wakes.
#[test]
fn a_death_is_looked_for_after_a_wake_up_without_a_message() {
    let world = World::new();
    let publisher = world.publisher();
    let mut subscriber = world.subscriber();
    // So that the next check is not due for a while.
    assert!(!subscriber.watched.check(coarse_now(), Duration::ZERO));
    kill(publisher, &subscriber, 0);
    let (sleeper, is_awake) = (subscriber.watched.sleeper().clone(), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !is_awake.load(Relaxed) {
                sleeper.rouse();
                std::thread::yield_now();
            }
        });
        subscriber.sleep_until(None);
        is_awake.store(true, Relaxed);
    });
    assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
}
