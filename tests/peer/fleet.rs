//! Many topics in one process.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use conduit::{Event, Publisher, Subscriber, WaitSet};

use crate::accounts::{Ledger, seed_of};
use crate::pattern::fill_pattern;
use crate::protocol::{Account, Answer, Way};
use crate::wait::wait_until;
use crate::waiting::{parkers, runtime};
use crate::{Outcome, State, answer};

impl State {
    pub fn publish_fleet(&mut self, slots: u32, capacity: usize, topics: &[&str]) -> Outcome {
        for topic in topics {
            self.publishers.push(Publisher::builder().slots(slots).capacity(capacity).create(*topic)?);
        }
        Ok(Answer::Done)
    }

    pub fn subscribe_fleet(&mut self, topics: &[&str]) -> Outcome {
        for topic in topics {
            self.subscribers.push(Subscriber::open(*topic)?);
        }
        Ok(Answer::Done)
    }

    /// Sends a message on every topic once per interval, until the next order.
    pub fn stream_fleet(&mut self, interval: Duration, len: usize) -> Outcome {
        answer(&Answer::Began);
        while matches!(self.orders.recv_timeout(interval), Err(mpsc::RecvTimeoutError::Timeout)) {
            for publisher in &mut self.publishers {
                let number = publisher.published();
                let seed = seed_of(publisher.topic(), number);
                let mut loan = publisher.loan_slice(len)?;
                fill_pattern(seed, &mut loan);
                loan.publish();
            }
        }
        let published = self.publishers.iter().map(|it| (it.topic().to_string(), it.published()));
        Ok(Answer::Published(published.collect()))
    }

    /// Receives on every topic until its publisher is gone, asleep in between.
    pub fn drain_fleet(&mut self) -> Outcome {
        let drain = |mut subscriber: Subscriber<[u8]>| {
            let mut ledger = Ledger::new(subscriber.topic());
            loop {
                match subscriber.recv() {
                    Ok(sample) => ledger.note(&sample),
                    Err(error) => return ledger.end(&error, subscriber.lost()),
                }
            }
        };
        let threads: Vec<_> = self.subscribers.drain(..).map(|one| std::thread::spawn(move || drain(one))).collect();
        answer(&Answer::Began);
        let ends = threads.into_iter().map(|thread| thread.join().map_err(|_| "a subscriber panicked"));
        Ok(Answer::Fleet(ends.collect::<Result<_, _>>()?))
    }

    /// Receives on every topic until its publisher is gone, in one thread with this number of
    /// parkers.
    pub fn drain_fleet_by(&mut self, way: Way, threads: usize) -> Outcome {
        let ends = match way {
            Way::Set => self.drain_set(threads)?,
            Way::Future => self.drain_tasks(threads)?,
            Way::Descriptor => return Err("no fleet waits by descriptors".into()),
        };
        self.subscribers.clear();
        Ok(Answer::Fleet(ends))
    }

    fn drain_set(&mut self, threads: usize) -> Result<Vec<(String, Account)>, Box<dyn std::error::Error>> {
        let mut ledgers: Vec<_> = self.subscribers.iter().map(|it| Some(Ledger::new(it.topic()))).collect();
        let mut set = WaitSet::new();
        let tokens: Vec<_> = self.subscribers.iter().map(|it| set.add(it)).collect::<Result<_, _>>()?;
        let places: HashMap<_, _> = tokens.into_iter().enumerate().map(|(place, token)| (token, place)).collect();
        // No messages yet, but one wait starts the parkers, if it lasts longer than looking at all
        // topics.
        assert!(set.wait_timeout(Duration::from_millis(500))?.is_empty());
        wait_until("the parkers", || parkers().len() == threads);
        answer(&Answer::Began);
        let mut ends = Vec::new();
        while ends.len() < ledgers.len() {
            for event in set.wait()? {
                let Event::Ready(token) = event else { return Err("not ready".into()) };
                let place = places[&token];
                match self.subscribers[place].try_recv() {
                    Ok(Some(sample)) => ledgers[place].as_mut().ok_or("ready after its end")?.note(&sample),
                    Ok(None) => return Err("there was nothing".into()),
                    Err(error) => {
                        let ledger = ledgers[place].take().ok_or("ready after its end")?;
                        ends.push(ledger.end(&error, self.subscribers[place].lost()));
                        set.remove(token);
                    }
                }
            }
        }
        Ok(ends)
    }

    fn drain_tasks(&mut self, threads: usize) -> std::io::Result<Vec<(String, Account)>> {
        let subscribers: Vec<_> = self.subscribers.drain(..).collect();
        runtime()?.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for subscriber in subscribers {
                let mut ledger = Ledger::new(subscriber.topic());
                let mut subscriber = subscriber.into_async()?;
                tasks.spawn(async move {
                    loop {
                        match subscriber.recv().await {
                            Ok(sample) => ledger.note(&sample),
                            Err(error) => return ledger.end(&error, subscriber.get_ref().lost()),
                        }
                    }
                });
            }
            // A thread gets its name after it has started.
            wait_until("the parkers", || parkers().len() == threads);
            answer(&Answer::Began);
            Ok(tasks.join_all().await)
        })
    }
}
