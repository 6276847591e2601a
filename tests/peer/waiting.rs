//! Wait sets, futures and descriptors.

use std::os::fd::AsFd;
use std::time::Duration;

use conduit::{Event, RecvError, WaitSet};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::protocol::{Answer, Drained, Way};
use crate::receiving::end_of;
use crate::{Outcome, State, answer};

impl State {
    /// Receives until the publisher is gone, and waits for each message by a wait set, a future or
    /// a descriptor.
    pub fn wait_by(&mut self, way: Way) -> Outcome {
        let subscriber = self.subscriber.take().ok_or("no subscriber")?;
        let end = match way {
            Way::Set => {
                let mut subscriber = subscriber;
                let mut set = WaitSet::new();
                let token = set.add(&subscriber)?;
                loop {
                    assert_eq!(set.wait()?.collect::<Vec<_>>(), [Event::Ready(token)]);
                    if let Err(error) = subscriber.try_recv() {
                        break (subscriber, error);
                    }
                }
            }
            Way::Future => runtime()?.block_on(async {
                let mut subscriber = subscriber.into_async()?;
                loop {
                    if let Err(error) = subscriber.recv().await {
                        return std::io::Result::Ok((subscriber.into_inner(), error));
                    }
                }
            })?,
            Way::Descriptor => {
                let mut subscriber = subscriber;
                let ready = subscriber.ready_fd()?;
                loop {
                    wait_readable(&ready)?;
                    if let Err(error) = subscriber.try_recv() {
                        assert!(is_readable(&ready)?, "the end stays");
                        break (subscriber, error);
                    }
                }
            }
        };
        let (subscriber, RecvError::PublisherGone { how, .. }) = end else { return Err(end.1.into()) };
        let (received, lost) = (subscriber.received(), subscriber.lost());
        Ok(Answer::Drained(Drained { received, lost, torn: 0, end: end_of(how) }))
    }

    pub fn leave_unread(&mut self) -> Outcome {
        let subscriber = self.subscriber.as_mut().ok_or("no subscriber")?;
        let ready = subscriber.ready_fd()?;
        answer(&Answer::Began);
        wait_readable(&ready)?;
        let switches = || parkers().iter().map(|it| it.switches).sum::<u64>();
        let first = switches();
        let mut before = first;
        for _ in 0..5 {
            before = switches();
            std::thread::sleep(Duration::from_millis(1100));
            if switches() == before {
                break;
            }
        }
        let is_at_rest = switches() == before;
        let runs = before - first;
        let sees = is_readable(&ready)?;
        let _message = subscriber.try_recv()?.ok_or("no message")?;
        let still_sees = is_readable(&ready)?;
        Ok(Answer::LeftUnread { was_readable: [sees, still_sees], is_at_rest: is_at_rest && runs <= 3 })
    }
}

pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub fn wait_readable(descriptor: impl AsFd) -> nix::Result<()> {
    poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).map(drop)
}

fn is_readable(descriptor: impl AsFd) -> nix::Result<bool> {
    Ok(poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? > 0)
}

/// A thread of the library that sleeps on behalf of others.
pub struct Parker {
    /// How often it has gone to sleep.
    switches: u64,
}

pub fn parkers() -> Vec<Parker> {
    let mut parkers = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        if value("Name:") == "conduit-parker" {
            let switches = value("voluntary_ctxt_switches:").parse().unwrap_or(0);
            parkers.push(Parker { switches });
        }
    }
    parkers
}
