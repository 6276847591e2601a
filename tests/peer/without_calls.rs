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

    if deed == Deed::Look {
        // A subscriber probes its publisher twice a second: it does so now, and not again for a
        // while.
        std::thread::sleep(Duration::from_millis(600));
        assert!(subscriber.try_recv()?.is_none() && copier.try_recv_copy()?.is_none());
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
