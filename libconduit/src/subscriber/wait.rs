//! The blocking calls: poll, then sleep.

use std::time::{Duration, Instant};

use super::{NEVER, Sample, Subscriber};
use crate::error::RecvError;
use crate::message::Message;

/// How many times a subscriber polls between two reads of the clock: for about a microsecond.
const TRIES_PER_CLOCK_READ: u32 = 64;

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives the next message, sleeping until there is one.
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<T>, RecvError> {
        self.wait(Self::try_recv)
    }

    /// Receives the next message, sleeping until there is one or the timeout expires.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Sample<T>, RecvError> {
        self.wait_for(timeout, Self::try_recv)
    }

    /// Tries until there is a result.
    #[inline]
    pub(super) fn wait<R>(
        &mut self,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<R, RecvError> {
        let tries = if self.spin.is_zero() { 1 } else { TRIES_PER_CLOCK_READ };
        for _ in 0..tries {
            if let Some(received) = try_recv(self)? {
                return Ok(received);
            }
        }
        loop {
            if let Some(received) = self.wait_until(None, &mut try_recv)? {
                return Ok(received);
            }
        }
    }

    /// Tries until there is a result, or the timeout expires.
    pub(super) fn wait_for<R>(
        &mut self,
        timeout: Duration,
        try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<R, RecvError> {
        // A timeout beyond the range of the clock never expires.
        let deadline = Instant::now().checked_add(timeout);
        self.wait_until(deadline, try_recv)?.ok_or_else(|| RecvError::TimedOut { topic: self.topic.clone(), timeout })
    }

    fn wait_until<R>(
        &mut self,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        loop {
            if let Some(received) = self.spin(deadline, &mut try_recv)? {
                return Ok(Some(received));
            }
            let mut step = self.watched.longest_sleep();
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(None);
                }
                step = step.min(left);
            }
            let has_news = self.reader.sleep(step);
            self.tick = NEVER;
            if !has_news {
                self.watched.check_after_waking();
            }
        }
    }

    /// Tries once, and then for the time that [`spin`](super::SubscriberBuilder::spin) set.
    #[inline]
    fn spin<R>(
        &mut self,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let received = try_recv(self)?;
        if received.is_some() || self.spin.is_zero() {
            return Ok(received);
        }
        let end = Instant::now().checked_add(self.spin).into_iter().chain(deadline).min();
        loop {
            for _ in 0..TRIES_PER_CLOCK_READ {
                if let Some(received) = try_recv(self)? {
                    return Ok(Some(received));
                }
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(None);
            }
        }
    }
}
