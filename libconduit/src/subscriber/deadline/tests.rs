use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use crate::error::{OpenError, RecvError};
use crate::intervals::CHECK_INTERVAL;
use crate::{Domain, Event, Gone, Publisher, Spin, Subscriber, SubscriberBuilder, TopicEvent, WaitSet};

/// Short, so that nothing waits long.
const DEADLINE: Duration = Duration::from_millis(30);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// A sleep that does not know of the deadline takes as long as the interval of checks. One that
/// does may take long on a busy machine, but not every time.
const TRIALS: u32 = 40;

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

    fn publisher(&self, has_stamps: bool) -> Publisher<u64> {
        Publisher::builder().domain(&self.domain).time_stamps(has_stamps).create("ticks").unwrap()
    }

    fn builder(&self) -> SubscriberBuilder<u64> {
        Subscriber::builder().domain(&self.domain).deadline(DEADLINE)
    }
}

/// How long the silence was that a call has reported.
fn silence<T: std::fmt::Debug>(received: Result<T, RecvError>) -> Duration {
    match received {
        Err(RecvError::Overdue { topic, silence }) => {
            assert_eq!(topic.as_str(), "ticks");
            assert!(silence >= DEADLINE, "{silence:?}");
            silence
        }
        other => panic!("{other:?}"),
    }
}

/// Tries until a silence is reported before a sleep would have ended that does not know of it,
/// though it began somewhat before the silence.
fn is_reported_in_time(mut trial: impl FnMut() -> Duration) -> bool {
    (0..TRIALS).any(|_| trial() < CHECK_INTERVAL / 2)
}

/// Whether anything but silence was received.
type Receive = fn(&mut Subscriber<u64>) -> Result<bool, RecvError>;

const TRIES: [Receive; 6] = [
    |subscriber| Ok(subscriber.try_recv()?.is_some()),
    |subscriber| Ok(subscriber.try_recv_copy()?.is_some()),
    |subscriber| Ok(subscriber.try_recv_with(|_| ())?.is_some()),
    |subscriber| Ok(subscriber.try_recv_batch(10, |_| ())? > 0),
    |subscriber| Ok(subscriber.latest()?.is_some()),
    |subscriber| Ok(subscriber.latest_copy()?.is_some()),
];

const WAITS: [Receive; 6] = [
    |subscriber| subscriber.recv().map(|_| true),
    |subscriber| subscriber.recv_timeout(Duration::MAX).map(|_| true),
    |subscriber| subscriber.recv_copy().map(|_| true),
    |subscriber| subscriber.recv_with(|_| true),
    |subscriber| subscriber.recv_batch(10, |_| ()).map(|_| true),
    |subscriber| subscriber.recv_batch_timeout(10, PATIENCE, |_| ()).map(|_| true),
];

#[test]
fn every_way_to_look_for_a_message_reports_a_silence_once() {
    for (copies, has_stamps) in [(false, true), (true, true), (false, false)] {
        let world = World::new();
        let mut publisher = world.publisher(has_stamps);
        for receive in TRIES {
            let mut subscriber = world.builder().copy_samples(copies).open("ticks").unwrap();
            for _ in 0..2 {
                let deadline = Instant::now() + PATIENCE;
                let received = loop {
                    match receive(&mut subscriber) {
                        Ok(false) => assert!(Instant::now() < deadline, "no silence is reported"),
                        received => break received,
                    }
                };
                silence(received);
                thread::sleep(2 * DEADLINE);
                assert!(!receive(&mut subscriber).unwrap(), "reported twice");
                publisher.send(&7).unwrap();
                assert!(receive(&mut subscriber).unwrap());
            }
        }
    }
}

#[test]
fn every_call_that_waits_reports_a_silence_when_it_is_due_and_waits_on() {
    let world = World::new();
    let mut publisher = world.publisher(true);
    for spin in [Spin::Never, Spin::Adaptive, Spin::For(Duration::from_micros(100))] {
        for receive in WAITS {
            let mut subscriber = world.builder().spin(spin).open("ticks").unwrap();
            assert!(is_reported_in_time(|| {
                let reported = silence(receive(&mut subscriber));
                publisher.send(&7).unwrap();
                assert!(receive(&mut subscriber).unwrap());
                reported
            }));
        }
    }
    let mut restless = world.builder().spin(Duration::MAX).open("ticks").unwrap();
    silence(restless.recv());
    // It does not wake for another report.
    let timed_out = restless.recv_timeout(2 * DEADLINE);
    assert!(matches!(timed_out, Err(RecvError::TimedOut { .. })), "{timed_out:?}");
    let waiting = thread::spawn(move || *restless.recv().unwrap());
    while !waiting.is_finished() {
        publisher.send(&8).unwrap();
        thread::yield_now();
    }
    assert_eq!(waiting.join().unwrap(), 8);
}

#[test]
fn a_message_that_waits_is_received_before_any_silence() {
    let world = World::new();
    let mut publisher = world.publisher(true);
    let mut subscriber = world.builder().open("ticks").unwrap();
    publisher.send_batch(&[1, 2]).unwrap();
    thread::sleep(2 * DEADLINE);
    let mut next = || subscriber.try_recv().map(|sample| sample.map(|tick| *tick));
    assert_eq!((next().unwrap(), next().unwrap()), (Some(1), Some(2)));
    // They are as old as their stamps.
    assert!(silence(next()) >= 2 * DEADLINE);
    drop(publisher);
    assert!(matches!(next(), Err(RecvError::PublisherGone { how: Gone::Closed, .. })));
}

#[test]
fn an_iterator_continues_after_a_silence() {
    let world = World::new();
    let mut publisher = world.publisher(true);
    let mut subscriber = world.builder().open("ticks").unwrap();
    let mut ticks = subscriber.iter();
    silence(ticks.next().unwrap());
    publisher.send(&7).unwrap();
    assert_eq!(*ticks.next().unwrap().unwrap(), 7);
    silence(ticks.next().unwrap());
    drop(publisher);
    assert!(matches!(ticks.next(), Some(Err(RecvError::PublisherGone { .. }))));
    assert!(ticks.next().is_none());
}

/// The next event as text.
fn event(subscriber: &mut Subscriber<u64>) -> String {
    match subscriber.recv_event_timeout(PATIENCE).unwrap() {
        TopicEvent::Sample(sample) => format!("{}", *sample),
        TopicEvent::Connected { .. } => "connected".into(),
        TopicEvent::Lost { how, .. } => format!("{how}"),
        TopicEvent::Overdue { silence } => {
            assert!(silence >= DEADLINE);
            "overdue".into()
        }
        TopicEvent::Resumed { after } => {
            assert!(after >= DEADLINE);
            "resumed".into()
        }
    }
}

#[test]
fn events_tell_of_a_silence_and_of_its_end() {
    for has_stamps in [true, false] {
        let world = World::new();
        let mut publisher = world.publisher(has_stamps);
        let mut subscriber = world.builder().open("ticks").unwrap();
        for _ in 0..2 {
            assert_eq!(event(&mut subscriber), "overdue");
            thread::sleep(2 * DEADLINE);
            assert!(subscriber.try_recv_event().unwrap().is_none());
            publisher.send_batch(&[1, 2]).unwrap();
            assert_eq!([(); 3].map(|()| event(&mut subscriber)), ["resumed", "1", "2"]);
        }
        // A message that another call receives is not reported as the end of a silence.
        assert_eq!(event(&mut subscriber), "overdue");
        publisher.send_batch(&[3, 4]).unwrap();
        assert_eq!(*subscriber.recv().unwrap(), 3);
        assert_eq!([(); 2].map(|()| event(&mut subscriber)), ["4", "overdue"]);
    }
}

#[test]
fn a_silence_outlasts_publishers() {
    let world = World::new();
    let mut subscriber = world.builder().follow().open("ticks").unwrap();
    let next = |subscriber: &mut _, count| (0..count).map(|_| event(subscriber)).collect::<Vec<_>>();
    assert_eq!(next(&mut subscriber, 1), ["overdue"]);
    for round in 0..3 {
        let mut publisher = world.publisher(round != 1);
        assert_eq!(next(&mut subscriber, 1), ["connected"]);
        thread::sleep(2 * DEADLINE);
        assert!(subscriber.try_recv_event().unwrap().is_none(), "reported twice");
        publisher.send(&7).unwrap();
        assert_eq!(next(&mut subscriber, 2), ["resumed", "7"]);
        if round == 2 {
            assert_eq!(next(&mut subscriber, 1), ["overdue"]);
        }
        drop(publisher);
        let after = ["closed the topic", "overdue"];
        assert_eq!(next(&mut subscriber, if round == 2 { 1 } else { 2 }), after[..if round == 2 { 1 } else { 2 }]);
        thread::sleep(2 * DEADLINE);
        assert!(subscriber.try_recv_event().unwrap().is_none(), "reported twice");
    }
}

/// A set, and one for which parkers sleep.
fn sets() -> [WaitSet; 2] {
    [WaitSet::new(), WaitSet::new().sleeping_by_parkers()]
}

#[test]
fn a_wait_set_wakes_for_a_silence() {
    let world = World::new();
    let mut publisher = world.publisher(true);
    for mut set in sets() {
        let mut subscriber = world.builder().open("ticks").unwrap();
        let token = set.add(&subscriber).unwrap();
        let mut wait = |timeout| set.wait_timeout(timeout).unwrap().collect::<Vec<_>>();
        assert!(is_reported_in_time(|| {
            assert_eq!(wait(PATIENCE), [Event::Ready(token)]);
            // Until the subscriber has reported it.
            assert_eq!(wait(PATIENCE), [Event::Ready(token)]);
            let reported = silence(subscriber.try_recv());
            assert_eq!(wait(2 * DEADLINE), []);
            // Nothing is awaited but messages.
            publisher.send(&7).unwrap();
            assert_eq!(wait(PATIENCE), [Event::Ready(token)]);
            assert!(subscriber.try_recv().unwrap().is_some());
            reported
        }));
    }
}

fn wait_readable(ready: &impl AsFd, timeout: Duration) -> bool {
    let mut descriptors = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, PollTimeout::try_from(timeout).unwrap()).unwrap() > 0
}

#[test]
fn a_descriptor_is_readable_while_there_is_a_silence_to_report() {
    let world = World::new();
    for has_stamps in [true, false] {
        let mut publisher = world.publisher(has_stamps);
        let mut subscriber = world.builder().open("ticks").unwrap();
        let ready = subscriber.ready_fd().unwrap();
        assert!(is_reported_in_time(|| {
            assert!(wait_readable(&ready, PATIENCE), "waited in vain");
            let reported = silence(subscriber.try_recv());
            assert!(!wait_readable(&ready, 2 * DEADLINE));
            publisher.send(&7).unwrap();
            assert!(wait_readable(&ready, PATIENCE), "waited in vain");
            assert!(subscriber.try_recv().unwrap().is_some());
            reported
        }));
    }
}

#[cfg(feature = "async")]
#[test]
fn a_future_wakes_for_a_silence() {
    let world = World::new();
    for has_stamps in [true, false] {
        let mut publisher = world.publisher(has_stamps);
        let mut subscriber = world.builder().open("ticks").unwrap().into_async().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // First with a parker that does not know of the ticket yet.
            let mut reported = silence(subscriber.recv().await);
            for _ in 0..TRIALS {
                // While the task is asleep: its parker sleeps on after the message.
                let mut receiving = Box::pin(subscriber.recv());
                let early = tokio::time::timeout(Duration::from_millis(1), &mut receiving).await;
                assert!(early.is_err());
                publisher.send(&7).unwrap();
                // Until the parker sleeps again, which does not know when the next silence is due.
                tokio::time::sleep(DEADLINE / 2).await;
                assert_eq!(*receiving.await.unwrap(), 7);
                reported = silence(subscriber.recv().await);
                if reported < CHECK_INTERVAL / 2 {
                    break;
                }
            }
            assert!(reported < CHECK_INTERVAL / 2, "{reported:?}");
        });
    }
}

#[test]
fn impossible_deadlines_are_refused_and_others_never_pass() {
    let world = World::new();
    let _publisher = world.publisher(true);
    for follows in [false, true] {
        let builder = world.builder().deadline(Duration::ZERO);
        let builder = if follows { builder.follow() } else { builder };
        let error = builder.open("ticks").unwrap_err();
        assert!(matches!(error, OpenError::ZeroDeadline), "{error}");
        assert!(error.to_string().starts_with("deadline(0) "));
    }
    let mut patient = world.builder().deadline(Duration::MAX).open("ticks").unwrap();
    assert!(matches!(patient.recv_timeout(DEADLINE), Err(RecvError::TimedOut { .. })));
    let mut impatient = world.builder().deadline(Duration::from_nanos(1)).open("ticks").unwrap();
    assert!(matches!(impatient.recv(), Err(RecvError::Overdue { .. })));
    assert!(matches!(impatient.recv_timeout(Duration::ZERO), Err(RecvError::TimedOut { .. })));
}
