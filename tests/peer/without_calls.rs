//! Actions that must not make system calls.

use std::io::Write;
use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;
use conduit::{Publisher, Start, Subscriber};

use crate::protocol::{Answer, Deed};
use crate::{Outcome, seccomp};

const MESSAGES: u64 = 10_000;

/// Performs an action that may not make a system call, and ends this process.
pub fn run(deed: Deed) -> Outcome {
    let create = |topic| {
        Publisher::<[u64; 16]>::builder()
            .time_stamps(!matches!(deed, Deed::PublishUnstamped | Deed::ReceiveUnstamped))
            .create(topic)
    };
    let (mut lonely, mut publisher) = (create("lonely")?, create("scan")?);
    let mut subscriber = Subscriber::<[u64; 16]>::open("scan")?;
    let mut copier = Subscriber::<[u64; 16]>::builder().start(Start::Oldest).open("scan")?;
    // One-time set-up, such as finding the vDSO clock, happens here.
    lonely.send(&[0; 16])?;
    publisher.send(&[0; 16])?;
    assert_eq!((*subscriber.recv()?, *copier.recv_copy()?), ([0; 16], [0; 16]));
    assert!(subscriber.try_recv()?.is_none() && copier.try_recv_copy()?.is_none());
    let _ = (now_ns(), Instant::now());

    let mut topics = if deed == Deed::Latest { TenTopics::new()? } else { TenTopics::default() };
    if matches!(deed, Deed::Look | Deed::Latest) {
        // A subscriber probes its publisher twice a second: it does so now, and not again for a
        // while.
        std::thread::sleep(Duration::from_millis(600));
        assert!(subscriber.try_recv()?.is_none() && copier.try_recv_copy()?.is_none());
        topics.read(0, false)?;
    }
    // Allocated in advance, since allocation may make a system call.
    let done = serde_json::to_string(&Answer::Done)? + "\n";

    seccomp::deny_all_but_the_end()?;
    match deed {
        Deed::Sleep => std::thread::sleep(std::time::Duration::from_nanos(1)),
        Deed::ReadClocks => (0..MESSAGES).for_each(|_| _ = std::hint::black_box((now_ns(), Instant::now()))),
        // One without subscribers, and one whose subscribers are awake and behind.
        Deed::PublishStamped | Deed::PublishUnstamped => {
            for publisher in [&mut lonely, &mut publisher] {
                for number in 0..MESSAGES {
                    publisher.send(&[number; 16])?;
                    publisher.loan()?[0] = number;
                    let mut loan = publisher.loan()?;
                    loan.fill(number);
                    loan.publish();
                }
            }
        }
        Deed::ReceiveStamped | Deed::ReceiveUnstamped => {
            for number in 0..MESSAGES / 4 {
                for _ in 0..4 {
                    publisher.send(&[number; 16])?;
                }
                let held = [subscriber.recv()?, subscriber.try_recv()?.ok_or("nothing")?];
                let mut right = held.iter().all(|sample| **sample == [number; 16]);
                let mut count = 0;
                count += subscriber.recv_batch(1, |sample| right &= *sample == [number; 16])?;
                count += subscriber.try_recv_batch(9, |sample| right &= *sample == [number; 16])?;
                for _ in 0..4 {
                    right &= *copier.recv_copy()? == [number; 16];
                }
                if !right || count != 2 {
                    return Err("wrong".into());
                }
            }
        }
        Deed::Latest => {
            for number in 1..100 {
                topics.publish(number)?;
                topics.read(number, true)?;
                topics.read(number, false)?;
            }
        }
        Deed::Look => {
            for _ in 0..1000 {
                if subscriber.try_recv()?.is_some() || copier.try_recv_copy()?.is_some() {
                    return Err("wrong".into());
                }
            }
        }
    }
    let _ = std::io::stdout().write_all(done.as_bytes());
    seccomp::end(0)
}

/// What a control loop reads.
#[derive(Default)]
struct TenTopics(Vec<JointTopic>);

type JointTopic = (Publisher<[u64; 16]>, [Subscriber<[u64; 16]>; 2]);

impl TenTopics {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut topics = Vec::new();
        for number in 0..10 {
            let name = format!("joints/{number}");
            let publisher = Publisher::create(&name)?;
            topics.push((publisher, [Subscriber::open(&name)?, Subscriber::open(&name)?]));
        }
        Ok(Self(topics))
    }

    fn publish(&mut self, number: u64) -> Result<(), conduit::SendError> {
        for (publisher, _) in &mut self.0 {
            // More and fewer than the topic has slots.
            for _ in 0..number % 40 {
                publisher.send(&[0; 16])?;
            }
            publisher.send(&[number; 16])?;
        }
        Ok(())
    }

    fn read(&mut self, number: u64, is_new: bool) -> Result<(), Box<dyn std::error::Error>> {
        for (_, [subscriber, copier]) in &mut self.0 {
            let (held, copied) = (subscriber.latest()?, copier.latest_copy()?);
            if held.is_some() != is_new || held.is_some_and(|held| *held != [number; 16]) {
                return Err("wrong".into());
            }
            if copied.is_some() != is_new || copied.is_some_and(|copied| *copied != [number; 16]) {
                return Err("wrong".into());
            }
        }
        Ok(())
    }
}
