//! The blocking calls: poll, then sleep.

use std::time::{Duration, Instant};

use super::spin::{SpinPolicy, TRIES_PER_CLOCK_READ, WaitMode};
use super::{NEVER, Sample, Subscriber};
use crate::error::RecvError;
use crate::message::Message;
use crate::mutation::{mutated, step};
use crate::shm::clock::now_ns;
use crate::shm::process::can_run_beside;
use crate::stop::Stop;

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives the next message, sleeping until there is one.
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<T>, RecvError> {
        self.wait(Self::try_recv, Sample::stamp_ns)
    }

    /// Receives the next message, sleeping until there is one or the timeout expires.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Sample<T>, RecvError> {
        self.wait_for(timeout, Self::try_recv, Sample::stamp_ns)
    }

    /// Tries until there is a result. `stamp_ns` tells when its message was published, if it can.
    #[inline]
    pub(super) fn wait<R>(
        &mut self,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
        stamp_ns: impl Fn(&R) -> Option<u64> + Copy,
    ) -> Result<R, RecvError> {
        for _ in 0..self.first_tries {
            if let Some(received) = try_recv(self)? {
                return Ok(received);
            }
        }
        loop {
            if let Some(received) = self.wait_until(None, &mut try_recv, stamp_ns)? {
                return Ok(received);
            }
        }
    }

    /// Tries until there is a result, or the timeout expires.
    pub(super) fn wait_for<R>(
        &mut self,
        timeout: Duration,
        try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
        stamp_ns: impl Fn(&R) -> Option<u64>,
    ) -> Result<R, RecvError> {
        // A timeout beyond the range of the clock never expires.
        let deadline = Instant::now().checked_add(timeout);
        self.wait_until(deadline, try_recv, stamp_ns)?
            .ok_or_else(|| RecvError::TimedOut { topic: self.topic.clone(), timeout })
    }

    fn wait_until<R>(
        &mut self,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
        stamp_ns: impl Fn(&R) -> Option<u64>,
    ) -> Result<Option<R>, RecvError> {
        let WaitMode::Fixed(duration) = self.mode else {
            return self.wait_adaptively(deadline, try_recv, stamp_ns);
        };
        loop {
            self.check_stop()?;
            let received = try_recv(self)?;
            if received.is_some() {
                return Ok(received);
            }
            if !duration.is_zero()
                && let Some(received) = self.spin(&mut Instant::now(), duration, deadline, &mut try_recv)?
            {
                return Ok(Some(received));
            }
            if !self.sleep_until(deadline) {
                return Ok(None);
            }
        }
    }

    /// Polls for as long as the [`SpinPolicy`] says, then sleeps, and tells it how the wait went.
    fn wait_adaptively<R>(
        &mut self,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
        stamp_ns: impl Fn(&R) -> Option<u64>,
    ) -> Result<Option<R>, RecvError> {
        self.check_stop()?;
        let received = try_recv(self)?;
        if received.is_some() {
            return Ok(received);
        }
        let begun = Instant::now();
        let (messages, publisher) = (self.received() + self.lost(), self.watched.publisher_pid());
        let mut budget = Duration::ZERO;
        self.note(|policy| budget = policy.begin(messages, || can_run_beside(publisher)));
        if !budget.is_zero() {
            let mut now = begun;
            let received = self.spin(&mut now, budget, deadline, &mut try_recv)?;
            if received.is_some() {
                // As of the last look at the clock: another would delay the message.
                self.note(|policy| policy.waited(now - begun));
                return Ok(received);
            }
        }
        loop {
            let asleep = Instant::now();
            let is_expired = !self.sleep_until(deadline);
            let (now, woken_ns) = (Instant::now(), now_ns());
            let received = if is_expired { None } else { try_recv(self)? };
            if let Some(message) = &received {
                // One from before the sleep, or of another clock, says nothing.
                let wake_up = stamp_ns(message).and_then(|stamp_ns| woken_ns.checked_sub(stamp_ns));
                let wake_up = wake_up.map(Duration::from_nanos).filter(|&wake_up| wake_up <= now - asleep);
                self.note(|policy| policy.slept(now - asleep, wake_up));
            }
            if is_expired || received.is_some() {
                self.note(|policy| policy.waited(now - begun));
                return Ok(received);
            }
            self.check_stop()?;
        }
    }

    /// Fails if this subscriber was to stop.
    fn check_stop(&self) -> Result<(), RecvError> {
        match &self.stop {
            Some(stop) if stop.is_stopped() && !mutated!(recv_past_stop) => {
                Err(RecvError::Stopped { topic: self.topic.clone() })
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, note: impl FnOnce(&mut SpinPolicy)) {
        if let WaitMode::Adaptive(policy) = &mut self.mode {
            note(policy);
        }
    }

    /// Sleeps until there may be something to receive. Returns false, at once, if the time is over.
    pub(super) fn sleep_until(&mut self, deadline: Option<Instant>) -> bool {
        let mut step = self.watched.longest_sleep();
        if self.has_deadline && !mutated!(recv_sleeps_past_silence) {
            let left_ns = self.watched.due_ns().saturating_sub(now_ns());
            step = step.min(Duration::from_nanos(left_ns));
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            step = step.min(left);
        }
        let has_news = self.reader.sleep(step, self.stop.as_ref().map(Stop::word));
        step!(tick_after_sleep, self.tick = NEVER);
        if !has_news {
            step!(recv_check_after_waking, self.watched.check_after_waking());
        }
        true
    }

    /// Tries for so long from `now` on, which is then the time of the last look at the clock.
    #[inline]
    fn spin<R>(
        &mut self,
        now: &mut Instant,
        duration: Duration,
        deadline: Option<Instant>,
        mut try_recv: impl FnMut(&mut Self) -> Result<Option<R>, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let end = now.checked_add(duration).into_iter().chain(deadline).min();
        loop {
            for _ in 0..TRIES_PER_CLOCK_READ {
                if let Some(received) = try_recv(self)? {
                    return Ok(Some(received));
                }
            }
            self.check_stop()?;
            *now = Instant::now();
            if end.is_some_and(|end| *now >= end) {
                return Ok(None);
            }
        }
    }
}
