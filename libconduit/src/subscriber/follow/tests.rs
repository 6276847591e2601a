use std::os::fd::AsFd;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use super::*;
use crate::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use crate::{Domain, Event, Publisher, ReadyFd, WaitSet};

const PATIENCE: Duration = Duration::from_secs(20);

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
        Publisher::builder().domain(&self.domain).create("ticks").unwrap()
    }

    fn follower(&self) -> Subscriber<u64> {
        self.builder().open("ticks").unwrap()
    }

    fn builder(&self) -> SubscriberBuilder<u64> {
        Subscriber::builder().domain(&self.domain).follow()
    }
}

/// Epoch, sequence, value and loss of a message.
fn parts(sample: &Sample<u64>) -> (u32, u64, u64, u64) {
    (sample.epoch(), sample.sequence(), **sample, sample.lost())
}

/// The next event as text.
fn event(subscriber: &mut Subscriber<u64>) -> String {
    match subscriber.recv_event_timeout(PATIENCE) {
        Ok(TopicEvent::Sample(sample)) => format!("{}", *sample),
        Ok(TopicEvent::Connected { publisher }) => {
            assert_eq!(publisher.pid, std::process::id());
            "connected".into()
        }
        Ok(TopicEvent::Lost { how, certificate: None }) => format!("{how}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn publishers_that_come_and_go_are_received_from_one_after_the_other() {
    for copies in [false, true] {
        let world = World::new();
        let mut follower = world.builder().copy_samples(copies).open("ticks").unwrap();
        assert!(!follower.is_connected() && follower.epoch() == 0);
        assert!(follower.try_recv().unwrap().is_none());
        let timeout = follower.recv_timeout(Duration::from_millis(1)).unwrap_err();
        assert!(matches!(timeout, RecvError::TimedOut { .. }));
        let mut held = Vec::new();
        for epoch in 1..=5 {
            let mut publisher = world.publisher();
            publisher.send_batch(&[10, 20]).unwrap();
            for (sequence, value) in [(0, 10), (1, 20)] {
                let sample = follower.recv_timeout(PATIENCE).unwrap();
                assert_eq!(parts(&sample), (epoch, sequence, value, 0));
                held.push(sample);
            }
            assert!(follower.is_connected() && follower.epoch() == epoch);
            assert_eq!(follower.is_zero_copy(), !copies);
        }
        assert!(held.chunks(2).zip(1..).all(|(both, epoch)| both.iter().all(|sample| sample.epoch() == epoch)));
        assert_eq!((follower.received(), follower.lost(), follower.skipped()), (10, 0, 0));
    }
}

#[test]
fn a_sleeper_is_woken_when_a_publisher_has_come() {
    let world = World::new();
    let mut follower = world.follower();
    let receiving = thread::spawn(move || parts(&follower.recv().unwrap()));
    thread::sleep(Duration::from_millis(50));
    let mut publisher = world.publisher();
    thread::sleep(Duration::from_millis(50));
    publisher.send(&7).unwrap();
    assert_eq!(receiving.join().unwrap(), (1, 0, 7, 0));
}

#[test]
fn changes_are_reported_between_the_messages() {
    let world = World::new();
    let mut publisher = world.publisher();
    publisher.send(&1).unwrap();
    let mut follower = world.follower();
    publisher.send(&2).unwrap();
    drop(publisher);
    let mut publisher = world.publisher();
    publisher.send(&3).unwrap();
    let events: Vec<_> = (0..5).map(|_| event(&mut follower)).collect();
    assert_eq!(events, ["connected", "2", "closed the topic", "connected", "3"]);
    assert!(follower.try_recv_event().unwrap().is_none());
    drop(publisher);
    assert_eq!(event(&mut follower), "closed the topic");
    assert!(follower.try_recv_event().unwrap().is_none() && !follower.is_connected());
    let _publisher = world.publisher();
    assert_eq!(event(&mut follower), "connected");
}

#[test]
fn the_first_publisher_is_received_from_the_start_and_later_ones_from_the_beginning() {
    let world = World::new();
    let mut publisher = world.publisher();
    publisher.send_batch(&[1, 2, 3]).unwrap();
    let mut late = world.builder().start(Start::Latest).open("ticks").unwrap();
    let mut next = world.follower();
    publisher.send(&4).unwrap();
    drop(publisher);
    let mut publisher = world.publisher();
    publisher.send_batch(&[5, 6]).unwrap();
    for (follower, values) in [(&mut late, &[3, 4, 5, 6][..]), (&mut next, &[4, 5, 6])] {
        for value in values {
            assert_eq!(*follower.recv_timeout(PATIENCE).unwrap(), *value);
        }
        assert_eq!(follower.lost(), 0);
    }
}

#[test]
fn what_was_overwritten_before_it_was_received_is_lost() {
    let world = World::new();
    let mut follower = world.follower();
    let mut publisher = world.publisher();
    (0..40).for_each(|value| publisher.send(&value).unwrap());
    let sample = follower.recv_timeout(PATIENCE).unwrap();
    assert_eq!(parts(&sample), (1, 25, 25, 25));
    // Also if none of them is left.
    assert_eq!(follower.iter().take(14).count(), 14);
    drop((publisher, sample));
    let mut publisher = world.publisher();
    (0..40).for_each(|value| publisher.send(&value).unwrap());
    assert_eq!(follower.latest().unwrap().map(|_| ()), None, "the call that connects");
    assert_eq!(parts(&follower.latest().unwrap().unwrap()), (2, 39, 39, 0));
    assert_eq!((follower.received(), follower.lost(), follower.skipped()), (16, 25, 39));
}

#[test]
fn every_way_to_receive_follows() {
    type Receive = fn(&mut Subscriber<u64>) -> u64;
    let ways: [Receive; 7] = [
        |it| *it.recv().unwrap(),
        |it| *it.recv_copy().unwrap(),
        |it| it.recv_with(|value| *value).unwrap(),
        |it| it.iter().flatten().map(|value| *value).next().unwrap(),
        |it| {
            let mut found = 0;
            assert_eq!(it.recv_batch(9, |value| found = *value).unwrap(), 1);
            found
        },
        |it| loop {
            if let Some(value) = it.latest_copy().unwrap() {
                break *value;
            }
        },
        |it| loop {
            if let TopicEvent::Sample(value) = it.recv_event().unwrap() {
                break *value;
            }
        },
    ];
    let world = World::new();
    let mut follower = world.follower();
    for (value, receive) in (0..).zip(ways) {
        let mut publisher = world.publisher();
        publisher.send(&value).unwrap();
        assert_eq!(receive(&mut follower), value);
    }
    assert_eq!((follower.epoch(), follower.lost()), (7, 0));
}

#[test]
fn a_wait_set_follows() {
    let world = World::new();
    let mut follower = world.follower();
    let mut set = WaitSet::new();
    let token = set.add(&follower).unwrap();
    assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty(), "there is no publisher");
    for epoch in 1..=5 {
        let publishing = {
            let domain = world.domain.clone();
            thread::spawn(move || {
                let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
                publisher.send(&7).unwrap();
                publisher
            })
        };
        let sample = loop {
            let events: Vec<_> = set.wait_timeout(PATIENCE).unwrap().collect();
            assert_eq!(events, [Event::Ready(token)]);
            if let Some(sample) = follower.try_recv().unwrap() {
                break sample;
            }
        };
        assert_eq!(parts(&sample), (epoch, 0, 7, 0));
        drop(publishing.join().unwrap());
    }
    while follower.is_connected() {
        let _ = follower.try_recv().unwrap();
    }
    assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty(), "nor is there one now");
    drop(follower);
    assert!(set.wait().is_err(), "nothing is left to wait for");
}

#[test]
fn a_descriptor_follows() {
    let world = World::new();
    let mut follower = world.follower();
    let ready = follower.ready_fd().unwrap();
    let is_readable = |ready: &ReadyFd, timeout: PollTimeout| {
        poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
    };
    assert!(!is_readable(&ready, PollTimeout::ZERO));
    for epoch in 1..=5 {
        let mut publisher = world.publisher();
        publisher.send(&7).unwrap();
        let sample = loop {
            assert!(is_readable(&ready, PollTimeout::from(20_000_u16)), "waited in vain");
            if let Some(sample) = follower.try_recv().unwrap() {
                break sample;
            }
        };
        assert_eq!(parts(&sample), (epoch, 0, 7, 0));
        assert!(!is_readable(&ready, PollTimeout::ZERO));
    }
}

#[cfg(feature = "async")]
#[test]
fn a_future_follows() {
    let world = World::new();
    let mut follower = world.follower().into_async().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for epoch in 1..=5 {
            let domain = world.domain.clone();
            let publishing = thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
                publisher.send(&7).unwrap();
                publisher
            });
            assert_eq!(parts(&follower.recv().await.unwrap()), (epoch, 0, 7, 0));
            drop(publishing.join().unwrap());
        }
    });
}

#[derive(Debug, crate::Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "test/Pose")]
#[repr(C)]
struct Pose {
    x: f64,
    y: f64,
}

mod later {
    use super::*;

    #[derive(Debug, crate::Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
    #[message(name = "test/Pose")]
    #[repr(C)]
    pub(super) struct Pose {
        pub(super) angle: f64,
        pub(super) distance: f64,
    }
}

#[test]
fn a_publisher_of_another_type_is_reported_once_and_the_next_one_is_followed() {
    let world = World::new();
    let mut follower = Subscriber::<Pose>::builder().domain(&world.domain).follow().open("ticks").unwrap();
    let right = |world: &World| Publisher::<Pose>::builder().domain(&world.domain).create("ticks").unwrap();
    let check_right = |follower: &mut Subscriber<Pose>, world: &World, epoch| {
        let mut publisher = right(world);
        publisher.send(&Pose { x: 1.0, y: 2.0 }).unwrap();
        let sample = follower.recv_timeout(PATIENCE).unwrap();
        assert_eq!((sample.x, sample.epoch()), (1.0, epoch));
    };
    let check_refusal = |follower: &mut Subscriber<Pose>, expected: &str| {
        let error = follower.recv_timeout(PATIENCE).unwrap_err();
        assert!(matches!(error, RecvError::TypeChanged { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        // Not again.
        let error = follower.recv_timeout(Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
    };
    for _ in 0..2 {
        let _other_size = world.publisher();
        check_refusal(&mut follower, "has messages of type u64");
    }
    check_right(&mut follower, &world, 1);
    let other_fields = Publisher::<later::Pose>::builder().domain(&world.domain).create("ticks").unwrap();
    check_refusal(&mut follower, "have other fields");
    drop(other_fields);
    check_right(&mut follower, &world, 2);
    // It is there when the topic is opened.
    let other_size = world.publisher();
    let mut follower = Subscriber::<Pose>::builder().domain(&world.domain).follow().open("ticks").unwrap();
    check_refusal(&mut follower, "has messages of type u64");
    drop(other_size);
    check_right(&mut follower, &world, 1);
}

#[test]
fn a_publisher_without_room_is_tried_again() {
    let world = World::new();
    let builder = Publisher::<u64>::builder().domain(&world.domain).max_subscribers(1);
    let mut publisher = builder.create("ticks").unwrap();
    let only = Subscriber::<u64>::builder().domain(&world.domain).open("ticks").unwrap();
    let mut follower = world.follower();
    let error = follower.recv_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, RecvError::NotFollowed { .. }), "{error}");
    drop(only);
    publisher.send(&7).unwrap();
    assert_eq!(parts(&follower.recv_timeout(PATIENCE).unwrap()).2, 7);
}
