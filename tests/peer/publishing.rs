//! Orders that publish.

use std::time::{Duration, Instant};

use conduit::{CreateError, Publisher};

use crate::pattern::fill_pattern;
use crate::protocol::Answer;
use crate::{Outcome, State, answer};

impl State {
    pub fn publish(&mut self, topic: &str, slots: u32, capacity: usize) -> Outcome {
        self.publisher = Some(Publisher::builder().slots(slots).capacity(capacity).create(topic)?);
        Ok(Answer::Done)
    }

    pub fn publish_often(&mut self, topic: &str, deadline: Duration) -> Outcome {
        self.publisher = Some(Publisher::builder().deadline(deadline).create(topic)?);
        Ok(Answer::Done)
    }

    pub fn race(&mut self, topic: &str, timeout: Duration) -> Outcome {
        match Publisher::builder().takeover_timeout(timeout).create(topic) {
            Ok(publisher) => {
                self.publisher = Some(publisher);
                Ok(Answer::Won)
            }
            Err(error @ CreateError::AlreadyPublished { .. }) => Ok(Answer::Lost(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    pub fn send(&mut self, count: u64, len: usize) -> Outcome {
        let publisher = self.publisher.as_mut().ok_or("no publisher")?;
        for _ in 0..count {
            let number = publisher.published();
            let mut loan = publisher.loan_slice(len)?;
            fill_pattern(number, &mut loan);
            loan.publish();
        }
        Ok(Answer::Done)
    }

    /// Sends until the next order.
    pub fn stream(&mut self, len: usize) -> Outcome {
        let publisher = self.publisher.as_mut().ok_or("no publisher")?;
        answer(&Answer::Began);
        while self.orders.try_recv().is_err() {
            let started = Instant::now();
            let number = publisher.published();
            let mut loan = publisher.loan_slice(len)?;
            fill_pattern(number, &mut loan);
            loan.publish();
            // At most 2,000 messages a second, to leave processor time to the other processes.
            std::thread::sleep((10 * started.elapsed()).max(Duration::from_micros(500)));
        }
        Ok(Answer::Number(publisher.published()))
    }

    /// Fills a loan and drops it unpublished.
    pub fn loan(&mut self, len: usize) -> Outcome {
        self.publisher()?.loan_slice(len)?.fill(0xEE);
        Ok(Answer::Done)
    }

    /// Sends until the next order and ignores errors.
    pub fn endure_sending(&mut self, len: usize) -> Outcome {
        let publisher = self.publisher.as_mut().ok_or("no publisher")?;
        let (mut sent, mut refused, mut longest) = (0, 0, Duration::ZERO);
        answer(&Answer::Began);
        while self.orders.try_recv().is_err() {
            // The delay is read within the measured time: what is subtracted lies in it.
            let (started, delay) = (Instant::now(), run_delay());
            match publisher.loan_slice(len) {
                Ok(mut loan) => {
                    loan.fill(0xAB);
                    loan.publish();
                    sent += 1;
                }
                Err(_) => refused += 1,
            }
            let delay = run_delay().saturating_sub(delay);
            longest = longest.max(started.elapsed().saturating_sub(delay));
            std::thread::yield_now();
        }
        Ok(Answer::Endured { sent, refused, longest_ms: longest.as_millis() as u64 })
    }
}

/// How long this thread has been ready to run while the processors ran others, as the kernel counts
/// it when the thread runs again: exactly what a busy machine adds to the time of a call. A thread
/// that waits or spins is not delayed. Zero if the kernel does not count it.
fn run_delay() -> Duration {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(counts.split(' ').nth(1).and_then(|delay| delay.parse().ok()).unwrap_or(0))
}

/// Creates and drops the topic repeatedly, and does something with every second publisher.
pub fn churn(topic: &str, count: u64, with_every_second: fn(&Publisher<[u8]>)) -> Outcome {
    for number in 0..count {
        let mut publisher = Publisher::<[u8]>::create(topic)?;
        publisher.send(&number.to_le_bytes())?;
        if number % 2 == 0 {
            with_every_second(&publisher);
        }
    }
    Ok(Answer::Done)
}

/// Waits until another process has opened the topic, at most 5 ms.
pub fn await_subscriber(publisher: &Publisher<[u8]>) {
    let patience = Instant::now() + Duration::from_millis(5);
    while publisher.subscribers().is_empty() && Instant::now() < patience {
        std::thread::yield_now();
    }
}
