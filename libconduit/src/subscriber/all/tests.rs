use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use super::*;
use crate::{Domain, Event, Publisher, Start, WaitSet};

const PATIENCE: Duration = Duration::from_secs(60);

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

    fn builder(&self) -> SubscriberBuilder<u64> {
        Subscriber::builder().domain(&self.domain)
    }

    fn all(&self, pattern: &str) -> PatternSubscriber<u64> {
        self.builder().open_all(pattern).unwrap()
    }
}

/// Topic, epoch, sequence, value and loss of a message.
fn parts(message: &TopicSample<u64>) -> (&str, u32, u64, u64, u64) {
    (message.topic().as_str(), message.epoch(), message.sequence(), ***message, message.lost())
}

/// An event as text.
fn text(event: PatternEvent<u64>) -> String {
    match event {
        PatternEvent::Sample(message) => format!("{} {}", message.topic(), **message),
        PatternEvent::Connected { topic, publisher } => {
            assert_eq!(publisher.pid, std::process::id());
            format!("{topic} connected")
        }
        PatternEvent::Lost { topic, how, certificate: None } => format!("{topic} {how}"),
        PatternEvent::NotFollowed { topic, reason } => format!("{topic} not followed: {reason}"),
        other => panic!("{other:?}"),
    }
}

/// All events that are there.
fn events(subscriber: &mut PatternSubscriber<u64>) -> Vec<String> {
    std::iter::from_fn(|| subscriber.try_recv_event().unwrap().map(text)).collect()
}

/// So many messages.
fn values_of(subscriber: &mut PatternSubscriber<u64>, count: usize) -> Vec<u64> {
    (0..count).map(|_| **subscriber.try_recv().unwrap().expect("a message")).collect()
}

/// All messages that are there.
fn values(subscriber: &mut PatternSubscriber<u64>) -> Vec<u64> {
    std::iter::from_fn(|| subscriber.try_recv().unwrap().map(|message| **message)).collect()
}

/// Waits until as many topics are known and connected.
fn wait_for_topics(subscriber: &mut PatternSubscriber<u64>, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while subscriber.sources().iter().filter(|topic| topic.is_connected).count() != count {
        assert!(Instant::now() < deadline, "{:?}", subscriber.sources());
        assert!(subscriber.try_recv().unwrap().is_none());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn messages_of_all_topics_are_received_in_the_order_of_their_stamps() {
    let world = World::new();
    let mut publishers: Vec<_> = (0..5).map(|topic| world.publisher(&format!("tf/{topic}"))).collect();
    let _other = world.publisher("map").send(&99);
    for copies in [false, true] {
        let mut all = world.builder().copy_samples(copies).open_all("tf/**").unwrap();
        let mut expected = Vec::new();
        for value in 0..30 {
            publishers[(value * value % 5) as usize].send(&value).unwrap();
            expected.push(value);
        }
        assert_eq!(values(&mut all), expected);
        // Also those that come while others are left.
        publishers[1].send(&1).unwrap();
        publishers[2].send(&2).unwrap();
        assert_eq!(***all.try_recv().unwrap().as_ref().unwrap(), 1);
        publishers[0].send(&3).unwrap();
        publishers[2].send(&4).unwrap();
        publishers[1].send(&5).unwrap();
        assert_eq!(values(&mut all), [2, 3, 4, 5]);
        assert_eq!(all.received(), 35);
    }
}

#[test]
fn topics_come_and_go() {
    let world = World::new();
    let mut arm = world.publisher("tf/arm");
    let mut all = world.all("tf/*");
    arm.send(&1).unwrap();
    assert_eq!(events(&mut all), ["tf/arm connected", "tf/arm 1"]);
    let mut base = world.publisher("tf/base");
    let _other = (world.publisher("tf/a/b"), world.publisher("map"));
    wait_for_topics(&mut all, 2);
    base.send(&2).unwrap();
    arm.send(&3).unwrap();
    drop(base);
    arm.send(&4).unwrap();
    assert_eq!(events(&mut all), ["tf/base 2", "tf/arm 3", "tf/arm 4", "tf/base closed the topic"]);
    drop(arm);
    let mut arm = world.publisher("tf/arm");
    arm.send(&5).unwrap();
    assert_eq!(text(all.recv_event_timeout(PATIENCE).unwrap()), "tf/arm closed the topic");
    assert_eq!(text(all.recv_event_timeout(PATIENCE).unwrap()), "tf/arm connected");
    assert_eq!(parts(&all.recv_timeout(PATIENCE).unwrap()), ("tf/arm", 2, 0, 5, 0));
    let counts = all.sources().into_iter().map(|it| (it.topic.to_string(), it.is_connected, it.epoch, it.received));
    assert_eq!(counts.collect::<Vec<_>>(), [("tf/arm".into(), true, 2, 4), ("tf/base".into(), false, 1, 1)]);
    assert_eq!(format!("{all:?}"), "PatternSubscriber { pattern: \"tf/*\", topics: 1, received: 5 }");
}

#[test]
fn a_pattern_that_matches_nothing_waits_and_one_that_is_wrong_does_not() {
    let world = World::new();
    let mut all = world.all("tf/**");
    assert!(all.try_recv().unwrap().is_none() && all.sources().is_empty());
    let timed_out = all.recv_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(timed_out.to_string(), "no message on topic \"tf/**\" within 1ms");
    assert!(matches!(all.recv_event_timeout(Duration::ZERO), Err(RecvError::TimedOut { .. })));
    let receiving = thread::spawn(move || parts(&all.recv().unwrap()).3);
    thread::sleep(Duration::from_millis(50));
    let mut publisher = world.publisher("tf/arm");
    thread::sleep(Duration::from_millis(50));
    publisher.send(&7).unwrap();
    assert_eq!(receiving.join().unwrap(), 7);
    let error = world.builder().open_all("tf//x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "pattern \"tf//x\" is invalid at byte 3: empty segment; write `a/b`, without leading, trailing or double `/`"
    );
    assert!(matches!(world.builder().max_held(0).open_all("**"), Err(OpenError::NoneHeld)));
    let nowhere = Domain::new("/dev/shm/there/is/no/such").without_registry();
    let error = Subscriber::<u64>::builder().domain(&nowhere).open_all("**").unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn the_first_messages_are_those_of_the_start_and_of_new_topics_all() {
    let world = World::new();
    let mut old = world.publisher("a");
    old.send_batch(&[1, 2, 3]).unwrap();
    let mut next = world.all("*");
    let mut latest = world.builder().start(Start::Latest).open_all("*").unwrap();
    let mut new = world.publisher("b");
    (0..40).for_each(|value| new.send(&value).unwrap());
    wait_for_topics_by_events(&mut next, &["a connected", "b connected"]);
    wait_for_topics_by_events(&mut latest, &["a connected"]);
    assert_eq!(parts(&latest.recv_timeout(PATIENCE).unwrap()), ("a", 1, 2, 3, 0));
    for all in [&mut next, &mut latest] {
        assert_eq!(parts(&all.recv_timeout(PATIENCE).unwrap()), ("b", 1, 25, 25, 25));
        assert_eq!(values(all), (26..40).collect::<Vec<_>>());
        assert_eq!(all.sources().iter().map(|topic| topic.lost).collect::<Vec<_>>(), [0, 25]);
    }
    drop((old, new));
    for all in [&mut next, &mut latest] {
        wait_for_topics(all, 0);
        assert_eq!(all.sources().iter().map(|topic| topic.lost).collect::<Vec<_>>(), [0, 25], "as before");
    }
}

fn wait_for_topics_by_events(all: &mut PatternSubscriber<u64>, expected: &[&str]) {
    for event in expected {
        assert_eq!(text(all.recv_event_timeout(PATIENCE).unwrap()), *event);
    }
}

#[test]
fn topics_of_another_type_are_reported_once_and_do_no_harm() {
    let world = World::new();
    let _text = Publisher::<[u8]>::builder().domain(&world.domain).create("text").unwrap();
    let _raw = crate::ShmRegion::builder().domain(&world.domain).create("raw", 64).unwrap();
    let mut number = world.publisher("number");
    let mut all = world.all("**");
    number.send(&1).unwrap();
    let mut found = events(&mut all);
    found.sort();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[..2], ["number 1", "number connected"]);
    assert!(found[2].starts_with("text not followed: topic \"text\" has messages of type [u8]"), "{found:?}");
    let other = Publisher::<u32>::builder().domain(&world.domain).create("other").unwrap();
    let event = text(all.recv_event_timeout(PATIENCE).unwrap());
    assert!(event.starts_with("other not followed"), "{event}");
    number.send(&2).unwrap();
    assert_eq!(events(&mut all), ["number 2"]);
    let refused = all.sources().into_iter().filter(|topic| topic.refusal.is_some());
    assert_eq!(refused.map(|topic| topic.topic.to_string()).collect::<Vec<_>>(), ["other", "text"]);
    // The next publisher may be followed.
    drop(other);
    let _other = world.publisher("other");
    assert_eq!(text(all.recv_event_timeout(PATIENCE).unwrap()), "other connected");
    // Bytes of any type are.
    let mut any = Subscriber::<[u8]>::builder().domain(&world.domain).any_type(true).open_all("**").unwrap();
    number.send(&3).unwrap();
    let message = any.recv_timeout(PATIENCE).unwrap();
    assert_eq!((message.topic().as_str(), &message[..]), ("number", &3_u64.to_ne_bytes()[..]));
    assert_eq!(any.sources().len(), 3);
}

#[test]
fn what_cannot_be_opened_yet_is_tried_again() {
    let world = World::new();
    let mut publisher = Publisher::<u64>::builder().domain(&world.domain).max_subscribers(1).create("tf/arm").unwrap();
    let only = world.builder().open("tf/arm").unwrap();
    let mut all = world.all("tf/*");
    let event = text(all.recv_event_timeout(PATIENCE).unwrap());
    assert!(event.contains("not followed"), "{event}");
    let timed_out = all.recv_event_timeout(Duration::from_millis(1100)).unwrap_err();
    assert!(matches!(timed_out, RecvError::TimedOut { .. }), "not again");
    drop(only);
    let begun = Instant::now();
    assert_eq!(text(all.recv_event_timeout(PATIENCE).unwrap()), "tf/arm connected");
    assert!(begun.elapsed() < PATIENCE / 2, "not before the time was up");
    publisher.send(&7).unwrap();
    assert_eq!(**all.recv_timeout(PATIENCE).unwrap(), 7);
}

#[test]
fn each_topic_has_the_deadline() {
    let world = World::new();
    let (mut regular, mut silent) = (world.publisher("a"), world.publisher("b"));
    let deadline = Duration::from_millis(200);
    let mut all = world.builder().deadline(deadline).open_all("*").unwrap();
    wait_for_topics_by_events(&mut all, &["a connected", "b connected"]);
    let (mut overdue, mut messages) = (Vec::new(), 0);
    // Also while another one sends.
    while overdue.len() < 2 {
        if overdue.is_empty() {
            regular.send(&messages).unwrap();
        }
        match all.recv_event_timeout(PATIENCE).unwrap() {
            PatternEvent::Sample(_) => messages += 1,
            PatternEvent::Overdue { topic, silence } if silence >= deadline => overdue.push(topic.to_string()),
            PatternEvent::Resumed { topic, .. } if topic.as_str() == "a" => {}
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(messages > 0 && overdue.contains(&"b".to_owned()), "{overdue:?}");
    assert!(all.try_recv_event().unwrap().is_none(), "not again");
    silent.send(&7).unwrap();
    let resumed = all.recv_event_timeout(PATIENCE).unwrap();
    assert!(matches!(&resumed, PatternEvent::Resumed { topic, .. } if topic.as_str() == "b"), "{resumed:?}");
    assert_eq!(text(all.recv_event_timeout(PATIENCE).unwrap()), "b 7");
    let error = all.recv_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, RecvError::Overdue { .. }), "{error}");
    let zero = world.builder().deadline(Duration::ZERO).open_all("*").unwrap_err();
    assert!(matches!(zero, OpenError::ZeroDeadline));
}

#[test]
fn a_wait_set_waits_for_all_topics() {
    let world = World::new();
    let mut all = world.all("tf/**");
    let mut set = WaitSet::new();
    let token = set.add_all(&all).unwrap();
    let wait = |set: &mut WaitSet, timeout| set.wait_timeout(timeout).unwrap().collect::<Vec<_>>();
    assert_eq!(wait(&mut set, Duration::ZERO), [Event::Ready(token)], "nobody has looked yet");
    assert!(all.try_recv().unwrap().is_none());
    for value in 0..10 {
        assert!(wait(&mut set, Duration::ZERO).is_empty());
        let topic = format!("tf/{}", value % 3);
        let domain = world.domain.clone();
        let publishing = thread::spawn(move || {
            let mut publisher = Publisher::<u64>::builder().domain(&domain).create(&topic).unwrap();
            thread::sleep(Duration::from_millis(5));
            publisher.send(&value).unwrap();
            publisher
        });
        let mut received = Vec::new();
        while received.is_empty() {
            assert_eq!(wait(&mut set, PATIENCE), [Event::Ready(token)]);
            received.extend(values(&mut all));
        }
        assert_eq!(received, [value]);
        drop(publishing.join().unwrap());
        while events(&mut all).is_empty() {
            assert_eq!(wait(&mut set, PATIENCE), [Event::Ready(token)]);
        }
    }
    // As long as there are messages.
    let mut publisher = world.publisher("tf/x");
    publisher.send_batch(&[1, 2, 3]).unwrap();
    for value in 1..=3 {
        let message = loop {
            assert_eq!(wait(&mut set, PATIENCE), [Event::Ready(token)]);
            if let Some(message) = all.try_recv().unwrap() {
                break message;
            }
        };
        assert_eq!(**message, value);
    }
    drop(all);
    assert!(set.wait().is_err(), "nothing is left to wait for");
}

#[test]
fn a_descriptor_is_readable_while_any_topic_has_messages() {
    let world = World::new();
    let (mut arm, mut base) = (world.publisher("tf/arm"), world.publisher("tf/base"));
    let mut all = world.all("tf/**");
    let ready = all.ready_fd().unwrap();
    let is_readable =
        |timeout: PollTimeout| poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1;
    for round in 0..5 {
        assert!(values(&mut all).is_empty());
        assert!(!is_readable(PollTimeout::ZERO));
        arm.send(&round).unwrap();
        assert!(is_readable(PollTimeout::from(60_000_u16)), "waited in vain");
        base.send(&(round + 1)).unwrap();
        assert_eq!(values(&mut all), [round, round + 1]);
    }
    assert!(!is_readable(PollTimeout::ZERO));
    let _new = world.publisher("tf/new");
    assert!(is_readable(PollTimeout::from(60_000_u16)), "waited in vain for a topic");
    wait_for_topics(&mut all, 3);
    assert!(!is_readable(PollTimeout::ZERO));
}

#[cfg(feature = "async")]
#[test]
fn a_future_waits_for_all_topics() {
    let world = World::new();
    let mut all = world.all("tf/**").into_async().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for value in 0..5 {
            let domain = world.domain.clone();
            let publishing = thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                let topic = format!("tf/{value}");
                let mut publisher = Publisher::<u64>::builder().domain(&domain).create(&topic).unwrap();
                thread::sleep(Duration::from_millis(5));
                publisher.send(&value).unwrap();
                publisher
            });
            let connected = all.recv_event().await.unwrap();
            assert!(matches!(connected, PatternEvent::Connected { .. }), "{connected:?}");
            assert_eq!(**all.recv().await.unwrap(), value);
            drop(publishing.join().unwrap());
            assert!(matches!(all.recv_event().await.unwrap(), PatternEvent::Lost { how: crate::Gone::Closed, .. }));
        }
    });
    assert_eq!(all.get_ref().received(), 5);
}

#[test]
fn one_whose_samples_are_held_leaves_the_others_their_turns() {
    let world = World::new();
    let (mut greedy, mut other) = (world.publisher("a"), world.publisher("b"));
    let mut all = world.builder().max_held(2).open_all("*").unwrap();
    (0..4).for_each(|value| greedy.send(&value).unwrap());
    (10..13).for_each(|value| other.send(&value).unwrap());
    let mut held = vec![all.recv().unwrap(), all.recv().unwrap()];
    assert!(matches!(all.try_recv(), Err(RecvError::TooManyHeld { max_held: 2, .. })));
    for value in 10..13 {
        assert_eq!(**all.recv().unwrap(), value);
    }
    for _ in 0..2 {
        assert!(matches!(all.try_recv(), Err(RecvError::TooManyHeld { .. })));
    }
    held.clear();
    assert_eq!(values(&mut all), [2, 3]);
}

/// Publishers that claim wrong times.
mod liars {
    use super::*;
    use crate::shm::clock::now_ns;

    #[test]
    fn one_that_claims_old_times_does_not_starve_the_others() {
        let world = World::new();
        let (mut liar, mut honest) = (world.publisher("a"), world.publisher("b"));
        let mut all = world.all("*");
        honest.send(&1000).unwrap();
        // More than a ring of them, so that it never runs out.
        let mut before = 0;
        loop {
            liar.send_stamped(&before, 1).unwrap();
            let value = **all.recv().unwrap();
            if value == 1000 {
                break;
            }
            before += 1;
            assert!(before < 2000, "the honest one starves");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(before >= 1);
    }

    #[test]
    fn one_that_claims_times_to_come_delays_itself_alone() {
        let world = World::new();
        let (mut liar, mut honest) = (world.publisher("a"), world.publisher("b"));
        let mut all = world.all("*");
        liar.send_stamped(&1, u64::MAX >> 1).unwrap();
        honest.send_batch(&[10, 11, 12]).unwrap();
        assert_eq!(values(&mut all), [10, 11, 12, 1]);
        liar.send_stamped(&2, now_ns() + 1_000_000_000).unwrap();
        assert_eq!(values(&mut all), [2]);
    }

    #[test]
    fn messages_without_stamps_are_ordered_by_when_they_were_found() {
        let world = World::new();
        let mut unstamped = Publisher::<u64>::builder().domain(&world.domain).time_stamps(false).create("a").unwrap();
        let mut stamped = world.publisher("b");
        let mut all = world.all("*");
        stamped.send(&1).unwrap();
        unstamped.send(&2).unwrap();
        stamped.send(&3).unwrap();
        assert_eq!(**all.recv().unwrap(), 1);
        assert_eq!(**all.recv().unwrap(), 3);
        stamped.send(&4).unwrap();
        assert_eq!(values(&mut all), [2, 4]);
    }
}

/// A message that was looked at can be overwritten before it is received.
#[test]
fn what_comes_in_the_place_of_a_message_that_was_overwritten_is_in_order() {
    let world = World::new();
    let mut fast = Publisher::<u64>::builder().domain(&world.domain).slots(4).create("a").unwrap();
    let mut slow = world.publisher("b");
    let mut all = world.all("*");
    fast.send(&1).unwrap();
    slow.send(&2).unwrap();
    fast.send(&3).unwrap();
    slow.send(&4).unwrap();
    assert_eq!(values_of(&mut all, 2), [1, 2], "now it is known when 3 and 4 were sent");
    (5..10).for_each(|value| fast.send(&value).unwrap());
    assert_eq!(values(&mut all), [4, 7, 8, 9], "the slots keep three");
    assert_eq!(all.sources()[0].lost, 3);
}

#[test]
fn many_topics_share_few_threads_and_leave_nothing() {
    let world = World::new();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let _ = (threads(), descriptors());
    let mut publishers: Vec<_> = (0..150).map(|number| world.publisher(&format!("t/{number}"))).collect();
    let mut all = world.all("t/*");
    for (value, publisher) in (0..).zip(&mut publishers) {
        publisher.send(&value).unwrap();
    }
    assert_eq!(values(&mut all), (0..150).collect::<Vec<_>>());
    let receiving = thread::spawn(move || {
        let value = **all.recv().unwrap();
        (value, all)
    });
    thread::sleep(Duration::from_millis(50));
    publishers[140].send(&7).unwrap();
    let (value, mut all) = receiving.join().unwrap();
    assert_eq!(value, 7);
    drop(publishers);
    wait_for_topics(&mut all, 0);
    assert_eq!(all.sources().len(), 150);
}
