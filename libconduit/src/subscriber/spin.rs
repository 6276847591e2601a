//! How long to poll before sleeping: a fixed time, or one that follows the messages.

use std::time::Duration;

/// How long the blocking calls of a subscriber poll for a message before they sleep. A
/// [`Duration`] converts into [`For`](Self::For).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spin {
    /// Not at all.
    #[default]
    Never,
    /// For this long in every wait; with `Duration::MAX` they never sleep.
    For(Duration),
    /// For as long as a wake-up takes, while messages come faster than that; otherwise not at all.
    ///
    /// The subscriber measures both as it waits: the median of the last five waits, and that of the
    /// last five wake-ups, which it takes to be between 5 and 100 us, and 25 us before the first. A
    /// change of the rate is followed after three messages. In no wait does it poll for longer than
    /// a wake-up takes, so that a stream that stops costs no more than one. Without time stamps the
    /// cost of a wake-up is estimated from the lengths of the sleeps.
    ///
    /// It does not poll where that would keep the publisher from running: if this thread and the
    /// publisher's process may only run on the same processor.
    Adaptive,
}

impl From<Duration> for Spin {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

/// How many times a subscriber polls between two reads of the clock: for about a microsecond.
pub(super) const TRIES_PER_CLOCK_READ: u32 = 64;
/// What a wake-up costs until the first has been measured.
const ASSUMED_WAKE_UP: Duration = Duration::from_micros(25);
/// Bounds of what a wake-up is taken to cost. A shorter sleep was none: the message came before it
/// began. A longer wake-up is due to a busy machine, where polling does not help.
const WAKE_UP_LEAST: Duration = Duration::from_micros(5);
const WAKE_UP_MOST: Duration = Duration::from_micros(100);
/// Waits between two that poll to find out whether polling would make the waits short.
const WAITS_PER_PROBE: u32 = 32;
/// A stream whose waits last this many wake-ups cannot gain from polling, and is not probed.
const PROBED_WAKE_UPS: u32 = 4;

/// The last values of a quantity.
#[derive(Clone, Copy, Debug)]
struct Recent {
    values: [Duration; 5],
    next: usize,
}

impl Recent {
    const fn new(value: Duration) -> Self {
        Self { values: [value; 5], next: 0 }
    }

    fn push(&mut self, value: Duration) {
        self.values[self.next] = value;
        self.next = (self.next + 1) % self.values.len();
    }

    /// A value that one or two outliers do not move.
    fn median(&self) -> Duration {
        let mut sorted = self.values;
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }
}

/// Decides from the waits of a subscriber how long it polls in the next one: at most as long as a
/// wake-up costs, so that a wrong decision costs no more than the right one would have.
///
/// What is compared with that cost is the time that a subscriber waits per message, and it is the
/// same whether it polls or sleeps: messages that arrive during a wake-up are received without a
/// wait, and share the wait before.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpinPolicy {
    waits: Recent,
    wake_ups: Recent,
    /// How long the wait that is going on, or was the last, has taken. One that was cut short by a
    /// timeout continues with the next call.
    waited: Duration,
    /// Messages received and lost before it.
    messages: u64,
    is_spinning: bool,
    /// Waits in a row that did not poll.
    unpolled: u32,
}

impl SpinPolicy {
    pub(super) const fn new() -> Self {
        Self {
            waits: Recent::new(Duration::MAX),
            wake_ups: Recent::new(ASSUMED_WAKE_UP),
            waited: Duration::ZERO,
            messages: 0,
            is_spinning: false,
            unpolled: 0,
        }
    }

    /// Begins a wait, or continues one, and returns how long to poll. `messages` is how many
    /// were received or lost until now; `can_spin` says whether the publisher can run meanwhile,
    /// and is asked when polling begins.
    pub(super) fn begin(&mut self, messages: u64, can_spin: impl FnOnce() -> bool) -> Duration {
        let wake_up = self.wake_up();
        if messages != self.messages {
            self.end_wait(messages.saturating_sub(self.messages), wake_up);
            self.messages = messages;
        }
        let is_wanted = self.waits.median() < wake_up || self.probes(wake_up);
        let was_spinning = std::mem::replace(&mut self.is_spinning, is_wanted);
        self.is_spinning = is_wanted && (was_spinning || can_spin());
        if self.is_spinning { wake_up.saturating_sub(self.waited) } else { Duration::ZERO }
    }

    /// The wait, which has just ended or timed out, took so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// A sleep ended with a message, after so long in all, and `wake_up` after it was published, if
    /// that is known.
    pub(super) fn slept(&mut self, time: Duration, wake_up: Option<Duration>) {
        if time >= WAKE_UP_LEAST {
            // A wake-up is a part of its sleep.
            self.wake_ups.push(wake_up.unwrap_or(ASSUMED_WAKE_UP).min(time));
        }
    }

    /// What a wake-up costs.
    fn wake_up(&self) -> Duration {
        self.wake_ups.median().clamp(WAKE_UP_LEAST, WAKE_UP_MOST)
    }

    /// Records the last wait, with which so many messages came.
    fn end_wait(&mut self, messages: u64, wake_up: Duration) {
        // If messages came faster than that, the wait took less than a wake-up before the first of
        // them, and a wake-up after. After a longer one they were a burst.
        let is_shared = self.waited < 2 * wake_up;
        let sharing = if is_shared { u32::try_from(messages).unwrap_or(u32::MAX) } else { 1 };
        let wait = self.waited / sharing;
        self.waits.push(wait);
        self.waited = Duration::ZERO;
        self.unpolled = match self.is_spinning {
            // A probe that has paid is followed by the next.
            true if wait < wake_up => WAITS_PER_PROBE,
            true => 0,
            false => self.unpolled.saturating_add(1),
        };
    }

    /// Whether to poll although the waits were not short: a publisher that waits for an answer
    /// looks as slow as the wake-ups of its subscriber make it.
    fn probes(&self, wake_up: Duration) -> bool {
        self.unpolled >= WAITS_PER_PROBE && self.waits.median() < PROBED_WAKE_UPS * wake_up
    }
}

/// How a subscriber waits: what was asked for, and what it has measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaitMode {
    /// It polls for this long.
    Fixed(Duration),
    Adaptive(SpinPolicy),
}

impl WaitMode {
    /// How often to try before the clock is read for the first time.
    pub(super) fn first_tries(self) -> u32 {
        if matches!(self, Self::Fixed(duration) if !duration.is_zero()) { TRIES_PER_CLOCK_READ } else { 1 }
    }
}

impl From<Spin> for WaitMode {
    fn from(spin: Spin) -> Self {
        match spin {
            Spin::Never => Self::Fixed(Duration::ZERO),
            Spin::For(duration) => Self::Fixed(duration),
            Spin::Adaptive => Self::Adaptive(SpinPolicy::new()),
        }
    }
}

#[cfg(test)]
mod tests;
