use std::future::poll_fn;
use std::os::fd::AsFd;
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;
use tokio::io::unix::AsyncFd;

use super::*;
use crate::ring::sleeper::Sleep;
use crate::{Domain, Gone, Publisher, ReadyFd};

fn topic() -> (TempDir, Publisher<u64>, Subscriber<u64>) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    let publisher = Publisher::builder().domain(&domain).create("ticks").unwrap();
    let subscriber = Subscriber::builder().domain(&domain).open("ticks").unwrap();
    (directory, publisher, subscriber)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn is_readable(ready: &ReadyFd) -> bool {
    poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
}

fn wait_readable(ready: &ReadyFd) {
    let mut descriptors = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut descriptors, PollTimeout::from(20_000_u16)).unwrap(), 1, "waited in vain");
}

/// An executor that is not tokio's: it parks its thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        thread::park();
    }
}

/// Sends when the subscriber is waited for, `count` times, and closes the topic when it is waited
/// for again.
fn send_to_sleepers(mut publisher: Publisher<u64>, count: u64) -> thread::JoinHandle<()> {
    let wait = |publisher: &Publisher<u64>, taken| {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_next = || publisher.subscribers().iter().any(|it| it.asleep && it.received == taken);
        while !is_next() {
            assert!(Instant::now() < deadline, "no task waits");
            thread::yield_now();
        }
    };
    thread::spawn(move || {
        for number in 0..count {
            wait(&publisher, number);
            publisher.send(&number).unwrap();
        }
        wait(&publisher, count);
    })
}

async fn receive_all(mut subscriber: AsyncSubscriber<u64>) -> u64 {
    let mut next = 0;
    loop {
        match subscriber.recv().await {
            Ok(sample) => {
                assert_eq!(*sample, next);
                next += 1;
            }
            Err(error) => {
                assert!(matches!(error, RecvError::PublisherGone { how: Gone::Closed, .. }));
                return next;
            }
        }
    }
}

#[test]
fn any_executor_works() {
    let (_directory, publisher, subscriber) = topic();
    let sender = send_to_sleepers(publisher, 100);
    assert_eq!(block_on(receive_all(subscriber.into_async().unwrap())), 100);
    sender.join().unwrap();

    let (_directory, publisher, subscriber) = topic();
    let sender = send_to_sleepers(publisher, 100);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let received = runtime.spawn(receive_all(subscriber.into_async().unwrap()));
    assert_eq!(runtime.block_on(received).unwrap(), 100);
    sender.join().unwrap();
}

#[test]
fn a_stream_ends_after_its_publisher() {
    let (_directory, publisher, subscriber) = topic();
    let mut stream = subscriber.into_async().unwrap();
    let sender = send_to_sleepers(publisher, 3);
    runtime().block_on(async {
        for number in 0..3 {
            let sample = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await.unwrap().unwrap();
            assert_eq!(*sample, number);
        }
        assert!(!stream.is_terminated());
        let end = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await.unwrap();
        assert!(matches!(end, Err(RecvError::PublisherGone { .. })));
        assert!(stream.is_terminated());
        for _ in 0..2 {
            assert!(poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await.is_none());
        }
    });
    sender.join().unwrap();
}

#[test]
fn the_descriptor_is_readable_while_a_message_waits() {
    let (_directory, mut publisher, mut subscriber) = topic();
    publisher.send(&0).unwrap();
    let ready = subscriber.ready_fd().unwrap();
    assert!(is_readable(&ready), "what was there before counts");
    for round in 0..50 {
        assert_eq!(**subscriber.try_recv().unwrap().as_ref().unwrap(), 3 * round);
        assert!(!is_readable(&ready), "with the last message the readiness goes, in round {round}");
        for number in 1..=3 {
            publisher.send(&(3 * round + number)).unwrap();
        }
        for _ in 0..2 {
            wait_readable(&ready);
            assert!(subscriber.try_recv().unwrap().is_some());
        }
        wait_readable(&ready);
    }
    assert_eq!(subscriber.ready_fd().unwrap().as_fd().try_clone_to_owned().map(|_| ()).ok(), Some(()));
    drop(publisher);
    assert!(subscriber.try_recv().unwrap().is_some());
    wait_readable(&ready);
    assert!(subscriber.try_recv().is_err());
    assert!(is_readable(&ready), "the end stays");
}

#[test]
fn descriptor_and_subscriber_drop_in_any_order() {
    let (_directory, mut publisher, mut subscriber) = topic();
    drop(subscriber.ready_fd().unwrap());
    publisher.send(&1).unwrap();
    assert!(subscriber.try_recv().unwrap().is_some());
    assert!(subscriber.try_recv().unwrap().is_none());
    assert!(!publisher.subscribers()[0].asleep, "no handle is left");
    let ready = subscriber.ready_fd().unwrap();
    let same = ready.clone();
    drop(ready);
    assert!(!is_readable(&same));
    drop(subscriber);
    assert!(is_readable(&same), "nothing will follow: that is an end too");
}

#[test]
fn the_descriptor_works_with_tokio() {
    let (_directory, publisher, mut subscriber) = topic();
    let ready = subscriber.ready_fd().unwrap();
    let sender = send_to_sleepers(publisher, 100);
    let next = runtime().block_on(async {
        // SAFETY: the descriptor lives as long as the handle, which is moved in.
        #[allow(unsafe_code)]
        let ready = unsafe { AsyncFd::register(ready) }.unwrap();
        let mut next = 0;
        loop {
            let mut guard = ready.readable().await.unwrap();
            loop {
                match subscriber.try_recv() {
                    Ok(Some(sample)) => {
                        assert_eq!(*sample, next);
                        next += 1;
                    }
                    Ok(None) => break guard.clear_ready(),
                    Err(_) => return next,
                }
            }
        }
    });
    assert_eq!(next, 100);
    sender.join().unwrap();
}

/// The publisher sends the moment the message before is taken, just when its reader is about to
/// sleep.
fn race(receive: impl FnOnce(Subscriber<u64>, &mut dyn FnMut(crate::Sample<u64>))) {
    const MESSAGES: u64 = 20_000;
    let (_directory, mut publisher, subscriber) = topic();
    let watched = Arc::clone(subscriber.watched());
    let sender = thread::spawn(move || {
        for number in 0..MESSAGES {
            while watched.sleeper().has_news() {
                std::hint::spin_loop();
            }
            // From right now to when it surely sleeps.
            for _ in 0..number % 512 {
                std::hint::spin_loop();
            }
            publisher.send(&number).unwrap();
        }
    });
    let (mut next, mut late) = (0, 0);
    receive(subscriber, &mut |sample| {
        assert_eq!((*sample, sample.lost()), (next, 0));
        next += 1;
        // Whoever is not woken looks after half a second; nothing else takes that long, or not
        // often.
        late += u32::from(sample.age().unwrap() > Duration::from_millis(400));
    });
    sender.join().unwrap();
    assert_eq!(next, MESSAGES);
    assert!(late < 3, "{late} messages woke no task");
}

#[test]
fn no_task_sleeps_through_a_message() {
    race(|subscriber, take| {
        block_on(async {
            let mut subscriber = subscriber.into_async().unwrap();
            while let Ok(sample) = subscriber.recv().await {
                take(sample);
            }
        });
    });
    race(|mut subscriber, take| {
        let mut set = crate::WaitSet::new();
        set.add(&subscriber).unwrap();
        loop {
            assert!(set.wait().unwrap().count() == 1);
            match subscriber.try_recv() {
                Ok(sample) => take(sample.unwrap()),
                Err(_) => break,
            }
        }
    });
    race(|mut subscriber, take| {
        let ready = subscriber.ready_fd().unwrap();
        for turn in 0_u64.. {
            // Often the message is taken before the parker sees it, which then must ask to be woken
            // by the next.
            if turn % 64 == 0 {
                wait_readable(&ready);
            }
            match subscriber.try_recv() {
                Ok(sample) => sample.into_iter().for_each(&mut *take),
                Err(_) => break,
            }
        }
    });
}

#[test]
fn a_runtime_may_be_dropped_while_its_tasks_wait() {
    let (_directory, mut publisher, subscriber) = topic();
    let runtime = runtime();
    let mut subscriber = subscriber.into_async().unwrap();
    let task = runtime.spawn(async move { subscriber.recv().await.is_ok() });
    runtime.block_on(tokio::task::yield_now());
    assert!(publisher.subscribers()[0].asleep);
    drop(runtime);
    assert!(block_on(task).unwrap_err().is_cancelled());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !publisher.subscribers().is_empty() {
        assert!(Instant::now() < deadline, "the parker keeps the record");
        thread::yield_now();
    }
    publisher.send(&1).unwrap();
}

#[test]
fn a_panicking_waker_does_not_affect_others() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("a bad waker, on purpose");
        }
    }
    let (_directory, mut publisher, subscriber) = topic();
    let mut bad = subscriber.into_async().unwrap();
    let waker = Waker::from(Arc::new(Bad));
    assert!(bad.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    publisher.send(&1).unwrap();
    for _ in 0..10 {
        let (_directory, publisher, subscriber) = topic();
        let sender = send_to_sleepers(publisher, 3);
        assert_eq!(block_on(receive_all(subscriber.into_async().unwrap())), 3);
        sender.join().unwrap();
    }
    assert_eq!(*block_on(bad.recv()).unwrap(), 1);
}

#[test]
fn after_readiness_batches_and_copies_can_be_received() {
    let (_directory, publisher, subscriber) = topic();
    let sender = send_to_sleepers(publisher, 50);
    let mut subscriber = subscriber.into_async().unwrap();
    let mut count = 0;
    block_on(async {
        loop {
            subscriber.ready().await;
            match subscriber.get_mut().try_recv_batch(100, |_| ()) {
                Ok(batch) => count += batch,
                Err(error) => break assert!(matches!(error, RecvError::PublisherGone { .. })),
            }
        }
    });
    assert_eq!(count, 50);
    sender.join().unwrap();
}

#[test]
fn one_subscriber_is_waited_for_in_every_way_at_once() {
    let (_directory, mut publisher, mut subscriber) = topic();
    let ready = subscriber.ready_fd().unwrap();
    let mut set = crate::WaitSet::new();
    let token = set.add(&subscriber).unwrap();
    let mut subscriber = subscriber.into_async().unwrap();
    for number in 0..200 {
        thread::scope(|scope| {
            let future = scope.spawn(|| block_on(subscriber.recv()).map(|sample| *sample).unwrap());
            let sender = scope.spawn(|| {
                while !publisher.subscribers()[0].asleep {
                    thread::yield_now();
                }
                publisher.send(&number).unwrap();
                publisher.subscribers().len()
            });
            assert_eq!(future.join().unwrap(), number);
            assert_eq!(sender.join().unwrap(), 1);
        });
    }
    publisher.send(&7).unwrap();
    wait_readable(&ready);
    assert_eq!(set.wait().unwrap().collect::<Vec<_>>(), [crate::Event::Ready(token)]);
    drop(set);
    let mut subscriber = subscriber.into_inner();
    assert_eq!(*subscriber.recv().unwrap(), 7);
    drop((ready, publisher));
    assert!(subscriber.recv().is_err());
}

/// Messages and changes in order, though each is waited for; a future that is dropped loses none.
#[test]
fn events_are_awaited() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    let follower = Subscriber::<u64>::builder().domain(&domain).follow().open("ticks").unwrap();
    let mut follower = follower.into_async().unwrap();
    for epoch in 1..=2 {
        {
            let mut dropped = std::pin::pin!(follower.recv_event());
            assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let domain = domain.clone();
        let publishing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
            publisher.send(&epoch).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while publisher.subscribers().iter().all(|it| it.received == 0) {
                assert!(Instant::now() < deadline, "nobody receives");
                thread::yield_now();
            }
        });
        assert!(matches!(block_on(follower.recv_event()).unwrap(), TopicEvent::Connected { .. }));
        let sample = block_on(follower.recv_event()).unwrap();
        assert!(matches!(sample, TopicEvent::Sample(sample) if *sample == epoch));
        let lost = block_on(follower.recv_event()).unwrap();
        assert!(matches!(lost, TopicEvent::Lost { how: Gone::Closed, .. }));
        publishing.join().unwrap();
    }
}
