//! How long a subscriber has received nothing, for one that has a deadline.

use std::time::Duration;

use crate::mutation::{mutated, step};

/// A message may come so much later than its time stamp says. A stamp from before that, or from the
/// future, is of another clock, as in another time namespace, or of no meaning.
const STAMP_LAG_NS: u64 = 10_000_000;

/// A deadline, and how long nothing has come.
///
/// Nothing is noted when a message comes, since that would cost every message something. Whoever
/// looks for a message and finds none notes the time and the cursor. Another cursor than at the
/// look before tells that a message came in between, and its time stamp tells when.
///
/// All times are on CLOCK_MONOTONIC in nanoseconds, which stands still while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageDeadline {
    deadline_ns: u64,
    /// The position of the next message, as of the last look.
    cursor: u64,
    /// When the last message came or, before the first one, when the subscriber began to wait.
    since_ns: u64,
    looked_ns: u64,
    progress: Progress,
}

/// What was reported of a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    Overdue,
    Resumed,
}

impl MessageDeadline {
    /// A subscriber begins to wait.
    pub(crate) fn new(deadline: Duration, cursor: u64, now_ns: u64) -> Self {
        // More than the clock has never passes.
        let deadline_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        Self { deadline_ns, cursor, since_ns: now_ns, looked_ns: now_ns, progress: Progress::Nothing }
    }

    /// There is no message at the cursor. `stamp_ns` returns the time stamp of the one before it,
    /// if it has one.
    pub(crate) fn look(&mut self, cursor: u64, stamp_ns: impl FnOnce() -> Option<u64>, now_ns: u64) {
        if cursor != self.cursor {
            let since_ns = self.looked_ns.saturating_sub(STAMP_LAG_NS);
            let came_ns = stamp_ns().filter(|stamp_ns| (since_ns..now_ns).contains(stamp_ns) || mutated!(any_stamp));
            let came_ns = came_ns.unwrap_or(now_ns).max(self.looked_ns);
            step!(silence_since, self.since_ns = came_ns);
            step!(silence_begins, self.progress = Progress::Nothing);
            self.cursor = cursor;
        }
        step!(silence_looked, self.looked_ns = now_ns.max(self.looked_ns));
    }

    /// The same silence, in another ring.
    pub(crate) fn continued_at(self, cursor: u64) -> Self {
        Self { cursor, ..self }
    }

    /// When it is to be reported; never, if it was.
    pub(crate) fn due_ns(&self) -> u64 {
        match self.progress {
            Progress::Nothing => self.since_ns.saturating_add(self.deadline_ns),
            _ => u64::MAX,
        }
    }

    /// When the silence is due that a message ends which came at this time.
    pub(crate) fn due_after_ns(&self, came_ns: u64) -> u64 {
        came_ns.saturating_add(self.deadline_ns)
    }

    /// Whether it is to be reported.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        let due_ns = self.due_ns();
        now_ns >= due_ns && due_ns != u64::MAX
    }

    /// Reports it once: how long it has lasted.
    pub(crate) fn take_overdue(&mut self, now_ns: u64) -> Option<Duration> {
        if !self.is_due(now_ns) {
            return None;
        }
        step!(silence_reported, self.progress = Progress::Overdue);
        Some(Duration::from_nanos(now_ns - self.since_ns))
    }

    /// There is a message at the cursor: how long the silence before it was, if that was reported
    /// and its end was not.
    pub(crate) fn take_resumed(&mut self, cursor: u64, stamp_ns: Option<u64>, now_ns: u64) -> Option<Duration> {
        let is_first = cursor == self.cursor || mutated!(resumed_later);
        if self.progress != Progress::Overdue && !mutated!(resumed_without_overdue) || !is_first {
            return None;
        }
        step!(silence_resumed, self.progress = Progress::Resumed);
        let came_ns = stamp_ns.unwrap_or(now_ns).min(now_ns);
        Some(Duration::from_nanos(came_ns.saturating_sub(self.since_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(deadline_ns: u64) -> MessageDeadline {
        MessageDeadline::new(Duration::from_nanos(deadline_ns), 5, 1000)
    }

    fn overdue(silence: &mut MessageDeadline, now_ns: u64) -> Option<u64> {
        silence.take_overdue(now_ns).map(|silence| silence.as_nanos() as u64)
    }

    fn resumed(silence: &mut MessageDeadline, stamp_ns: Option<u64>, now_ns: u64) -> Option<u64> {
        silence.take_resumed(silence.cursor, stamp_ns, now_ns).map(|silence| silence.as_nanos() as u64)
    }

    fn no_stamp() -> Option<u64> {
        None
    }

    #[test]
    fn a_silence_is_reported_once() {
        let mut silence = silence(100);
        for now_ns in [1000, 1099] {
            silence.look(5, || unreachable!("no message came"), now_ns);
            assert_eq!((silence.due_ns(), overdue(&mut silence, now_ns)), (1100, None));
        }
        assert!(!silence.is_due(1099) && silence.is_due(1100));
        assert_eq!(overdue(&mut silence, 1130), Some(130));
        assert_eq!((silence.due_ns(), silence.is_due(u64::MAX)), (u64::MAX, false));
        assert_eq!(overdue(&mut silence, 9000), None);
    }

    #[test]
    fn a_message_begins_a_new_silence_when_it_was_stamped() {
        let mut silence = silence(100);
        assert_eq!(overdue(&mut silence, 1100), Some(100));
        silence.look(6, || Some(1150), 1200);
        assert_eq!(silence.due_ns(), 1250);
        assert_eq!(overdue(&mut silence, 1260), Some(110));
        // A look without a message changes nothing.
        silence.look(6, || Some(1150), 1270);
        assert_eq!(overdue(&mut silence, 1270), None);
        // Any number of messages.
        silence.look(60, || Some(1290), 1300);
        assert_eq!(silence.due_ns(), 1390);
    }

    #[test]
    fn a_stamp_is_believed_only_within_the_time_of_the_message() {
        let (looked_ns, now_ns) = (1_000_000_000, 1_000_000_500);
        for (stamp_ns, since_ns) in
            [(0, now_ns), (looked_ns - STAMP_LAG_NS - 1, now_ns), (looked_ns - STAMP_LAG_NS, looked_ns)]
        {
            let mut silence = silence(100);
            silence.look(5, no_stamp, looked_ns);
            silence.look(6, || Some(stamp_ns), now_ns);
            assert_eq!(silence.due_ns(), since_ns + 100, "stamp {stamp_ns}");
        }
        let mut silence = silence(100);
        silence.look(5, no_stamp, 1050);
        silence.look(6, no_stamp, 1080);
        assert_eq!(silence.due_ns(), 1180, "without a stamp, when it was found");
        for (cursor, stamp_ns, since_ns) in [(7, u64::MAX, 1090), (8, 0, 1090), (9, 1091, 1091)] {
            silence.look(cursor, || Some(stamp_ns), 1083 + cursor);
            assert_eq!(silence.due_ns(), since_ns + 100, "stamp {stamp_ns}");
        }
        // Two threads that look read the clock in any order.
        silence.look(10, no_stamp, 1000);
        assert_eq!(silence.due_ns(), 1192);
    }

    #[test]
    fn the_end_of_a_reported_silence_is_reported_once() {
        let mut silence = silence(100);
        assert_eq!(resumed(&mut silence, Some(1050), 1060), None, "nobody was told of a silence");
        assert!(overdue(&mut silence, 1100).is_some());
        assert_eq!(silence.take_resumed(6, Some(1145), 1150), None, "the message that ended it was received");
        assert_eq!(resumed(&mut silence, Some(1140), 1150), Some(140));
        assert_eq!(resumed(&mut silence, Some(1140), 1160), None);
        assert_eq!(overdue(&mut silence, 9000), None, "the message was not received yet");
        silence.look(6, || Some(1140), 1170);
        assert_eq!(overdue(&mut silence, 1240), Some(100));
        // Without a stamp, or with one of no meaning.
        assert_eq!(resumed(&mut silence, None, 1250), Some(110));
        silence.look(7, no_stamp, 1250);
        assert!(overdue(&mut silence, 1400).is_some());
        assert_eq!(resumed(&mut silence, Some(u64::MAX), 1450), Some(200));
        silence.look(8, no_stamp, 1450);
        assert!(overdue(&mut silence, 1600).is_some());
        assert_eq!(resumed(&mut silence, Some(0), 1650), Some(0));
    }

    #[test]
    fn another_ring_continues_the_silence() {
        let mut silence = silence(100).continued_at(0);
        silence.look(0, || unreachable!("no message came"), 1050);
        assert_eq!(overdue(&mut silence, 1100), Some(100));
        let mut silence = silence.continued_at(3);
        silence.look(3, || unreachable!("no message came"), 1500);
        assert_eq!(overdue(&mut silence, 1500), None);
        assert_eq!(resumed(&mut silence, None, 1500), Some(500));
    }

    #[test]
    fn a_deadline_beyond_the_clock_never_passes() {
        let mut silence = MessageDeadline::new(Duration::MAX, 0, 1000);
        assert!(!silence.is_due(u64::MAX));
        assert_eq!(overdue(&mut silence, u64::MAX), None);
        assert_eq!(silence.due_after_ns(1000), u64::MAX);
    }
}
