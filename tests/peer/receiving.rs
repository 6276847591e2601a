//! Orders that receive.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::clock::now_ns;
use conduit::internal::shm::dir::ShmDir;
use conduit::{Domain, Gone, OpenError, RecvError, Sample, Spin, Start, Subscriber, TopicName};

use crate::pattern::is_pattern;
use crate::protocol::{Answer, Drained, End, Session};
use crate::{Outcome, State, answer};

impl State {
    pub fn subscribe(&mut self, topic: &str, start: Start) -> Outcome {
        // How many samples it holds is for the test to say.
        self.subscriber = Some(Subscriber::builder().start(start).max_held(u32::MAX).open(topic)?);
        Ok(Answer::Done)
    }

    pub fn subscribe_adaptive(&mut self, topic: &str) -> Outcome {
        self.subscriber = Some(Subscriber::builder().spin(Spin::Adaptive).open(topic)?);
        Ok(Answer::Done)
    }

    pub fn recv(&mut self, timeout: Option<Duration>) -> Outcome {
        let subscriber = self.subscriber.as_mut().ok_or("no subscriber")?;
        let received = match timeout {
            None => subscriber.recv(),
            Some(timeout) => subscriber.recv_timeout(timeout),
        };
        Ok(match received {
            Ok(sample) => Answer::Sample {
                sequence: sample.sequence(),
                lost: sample.lost(),
                is_whole: is_pattern(sample.sequence(), &sample),
            },
            Err(RecvError::PublisherGone { how, .. }) => Answer::Gone(end_of(how)),
            Err(RecvError::TimedOut { .. }) => Answer::Nothing,
            Err(error) => return Err(error.into()),
        })
    }

    pub fn hold(&mut self, count: u64) -> Outcome {
        for _ in 0..count {
            self.held.push_back(self.subscriber.as_mut().ok_or("no subscriber")?.recv()?);
        }
        Ok(Answer::Done)
    }

    /// Receives until the publisher is gone.
    pub fn drain(&mut self) -> Outcome {
        let subscriber = self.subscriber.as_mut().ok_or("no subscriber")?;
        let mut torn = 0;
        loop {
            match subscriber.recv() {
                Ok(sample) => torn += u64::from(!is_pattern(sample.sequence(), &sample)),
                Err(RecvError::PublisherGone { how, .. }) => {
                    let (received, lost) = (subscriber.received(), subscriber.lost());
                    return Ok(Answer::Drained(Drained { received, lost, torn, end: end_of(how) }));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens the topic and receives repeatedly, until the next order.
    pub fn endure_receiving(&mut self, topic: &str) -> Outcome {
        let (mut opened, mut received, mut bytes) = (0, 0, 0);
        answer(&Answer::Began);
        while self.orders.try_recv().is_err() {
            let start = [Start::Next, Start::Latest, Start::Oldest][opened % 3];
            let Ok(mut subscriber) = Subscriber::<[u8]>::builder().start(start).open(topic) else { continue };
            opened += 1;
            for _ in 0..20 {
                let Ok(sample) = subscriber.recv_timeout(Duration::from_millis(1)) else { continue };
                received += 1;
                bytes += sample.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
        }
        std::hint::black_box(bytes);
        Ok(Answer::Received { opened: opened as u64, received })
    }

    /// Subscribes whenever there is a publisher, until the next order.
    pub fn sessions(&mut self, topic: &str, len: usize) -> Outcome {
        let domain = Domain::from_env();
        let directory = ShmDir::open(&domain)?;
        let name: TopicName = topic.parse()?;
        answer(&Answer::Began);
        loop {
            if self.orders.try_recv().is_ok() {
                return Ok(Answer::Done);
            }
            let before = Region::open_in(&directory, &name);
            let opened = Subscriber::<[u8]>::open(topic);
            let region = Region::open_in(&directory, &name);
            let (Ok(before), Ok(mut subscriber), Ok(region)) = (before, opened, region) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if before.id() != region.id() {
                continue;
            }
            let (mut wrong, mut first, mut next) = (0, None, 0);
            let mut held: VecDeque<Sample<[u8]>> = VecDeque::new();
            let end = loop {
                // Longer than any sleeper may take to notice an end by itself.
                match subscriber.recv_timeout(Duration::from_secs(3)) {
                    Ok(sample) => {
                        let number = sample.sequence();
                        first.get_or_insert(number - sample.lost());
                        let is_right = number >= next && sample.len() == len && is_pattern(number, &sample);
                        wrong += u64::from(!is_right);
                        next = number + 1;
                        // Up to three samples are held for a while and must not change.
                        held.push_back(sample);
                        while held.len() as u64 > number % 4 {
                            let sample = held.pop_front().unwrap();
                            wrong += u64::from(!is_pattern(sample.sequence(), &sample));
                        }
                    }
                    Err(RecvError::TimedOut { .. }) => {
                        held.clear();
                        if self.orders.try_recv().is_ok() {
                            return Ok(Answer::Done);
                        }
                    }
                    Err(RecvError::PublisherGone { how: Gone::Died, .. }) => break End::Died,
                    Err(RecvError::PublisherGone { how: Gone::Closed, .. }) => break End::Closed,
                    Err(error) => return Err(error.into()),
                }
            };
            let (received, lost) = (subscriber.received(), subscriber.lost());
            // A publisher killed between W6 and W7 has not counted its last message.
            let published = region.counters().ok_or("no counters")?.published.max(next);
            answer(&Answer::Session(Session {
                file: region.id().ino,
                end,
                seen_ns: now_ns(),
                first: first.unwrap_or(published - lost),
                received,
                lost,
                wrong,
                published,
            }));
        }
    }
}

pub fn end_of(how: Gone) -> End {
    if how == Gone::Died { End::Died } else { End::Closed }
}

/// Repeatedly opens a topic that is created and removed, until the next order: it is complete or
/// absent, never incomplete.
pub fn open_in_a_loop(topic: &str, orders: &Receiver<String>) -> Outcome {
    answer(&Answer::Began);
    let mut opened = 0;
    while orders.try_recv().is_err() {
        match Subscriber::<[u8]>::builder().start(Start::Oldest).open(topic) {
            Ok(mut subscriber) => {
                opened += 1;
                match subscriber.try_recv() {
                    Ok(Some(sample)) if sample.len() != 8 || sample.sequence() != 0 => {
                        return Err("a strange message".into());
                    }
                    Ok(_) | Err(RecvError::PublisherGone { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // The publisher may release the owner lock between the open and the probe.
            Err(OpenError::NotFound { .. } | OpenError::Orphaned { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Answer::Number(opened))
}
