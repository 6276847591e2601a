//! Owns the deadlines that publishers have promised to keep, and when to look at their topics: a
//! pure state machine.
//!
//! A topic is looked at when its next message is due: once per deadline while its publisher keeps
//! it. Nothing is due while nobody has promised anything. All times are on CLOCK_MONOTONIC in
//! nanoseconds.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::registry::Key;

/// How soon a topic is looked at again, whatever its publisher has promised.
const SHORTEST_INTERVAL_NS: u64 = 10_000_000;
/// How soon a silence is reported after the end of the one before, and how often a topic is looked
/// at that has been silent for long.
const LONGEST_INTERVAL_NS: u64 = 1_000_000_000;
/// Which part of a silence may pass until its end is noticed.
const RESUMPTION_PART: u64 = 8;

/// A message may come so much later than its time stamp says. A stamp from before that, or from the
/// future, is of another clock, as in another time namespace, or of no meaning.
const STAMP_LAG_NS: u64 = 10_000_000;

/// What a look at a topic has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublisherProgress {
    /// Messages published.
    pub(crate) published: u64,
    /// When the last of them was, if it has a time stamp.
    pub(crate) last_stamp_ns: Option<u64>,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Punctuality {
    Overdue,
    Resumed,
}

#[derive(Debug)]
struct Promise {
    deadline_ns: u64,
    published: u64,
    /// When the last message was published or, before the first one, when the topic was found.
    since_ns: u64,
    looked_ns: u64,
    /// When the last silence that was reported has ended.
    resumed_ns: Option<u64>,
    is_overdue: bool,
    /// When to look again.
    next_ns: u64,
}

impl Promise {
    fn look(&mut self, found: PublisherProgress, now_ns: u64) -> Option<Punctuality> {
        if found.published != self.published {
            let since_ns = self.looked_ns.saturating_sub(STAMP_LAG_NS);
            let came_ns = found.last_stamp_ns.filter(|stamp_ns| (since_ns..now_ns).contains(stamp_ns));
            self.published = found.published;
            self.since_ns = came_ns.unwrap_or(now_ns).max(self.looked_ns);
        }
        self.looked_ns = now_ns;
        let due_ns = self.since_ns.saturating_add(self.deadline_ns);
        let is_overdue = now_ns >= due_ns && due_ns != u64::MAX;
        let soonest_ns = now_ns.saturating_add(SHORTEST_INTERVAL_NS);
        self.next_ns = if is_overdue {
            let pause_ns = (now_ns - self.since_ns) / RESUMPTION_PART;
            now_ns.saturating_add(pause_ns.clamp(SHORTEST_INTERVAL_NS, LONGEST_INTERVAL_NS))
        } else {
            due_ns.max(soonest_ns)
        };
        let was_overdue = std::mem::replace(&mut self.is_overdue, is_overdue);
        if was_overdue && !is_overdue {
            self.resumed_ns = Some(now_ns);
        }
        if let Some(resumed_ns) = self.resumed_ns.filter(|_| !is_overdue) {
            self.next_ns = self.next_ns.max(resumed_ns.saturating_add(LONGEST_INTERVAL_NS));
        }
        match (was_overdue, is_overdue) {
            (false, true) => Some(Punctuality::Overdue),
            (true, false) => Some(Punctuality::Resumed),
            _ => None,
        }
    }
}

/// The deadlines of all topics that have one.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    promises: HashMap<Key, Promise>,
    /// When to look at which.
    due: BTreeSet<(u64, Key)>,
}

impl Deadlines {
    /// A topic was found, whose publisher has promised to keep this deadline. A silence that is too
    /// long already is reported by the first look, which is due at once.
    pub(crate) fn insert(&mut self, key: &Key, deadline: Duration, found: PublisherProgress, now_ns: u64) {
        self.remove(key);
        let deadline_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        let since_ns = found.last_stamp_ns.unwrap_or(now_ns).min(now_ns);
        let (published, looked_ns, resumed_ns) = (found.published, now_ns, None);
        let next_ns = since_ns.saturating_add(deadline_ns);
        let promise = Promise { deadline_ns, published, since_ns, looked_ns, resumed_ns, is_overdue: false, next_ns };
        self.due.insert((next_ns, key.clone()));
        self.promises.insert(key.clone(), promise);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(promise) = self.promises.remove(key) {
            self.due.remove(&(promise.next_ns, key.clone()));
        }
    }

    /// When to look next; `None`: never.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.due.first().map(|(next_ns, _)| *next_ns).filter(|&next_ns| next_ns != u64::MAX)
    }

    /// The topics to look at, the most urgent first.
    pub(crate) fn due(&self, now_ns: u64) -> Vec<Key> {
        let due = self.due.iter().take_while(|(next_ns, _)| *next_ns <= now_ns && *next_ns != u64::MAX);
        due.map(|(_, key)| key.clone()).collect()
    }

    /// Takes in what a look has found; `None`: the topic could not be looked at, and the next time
    /// is a second later.
    pub(crate) fn looked(&mut self, key: &Key, found: Option<PublisherProgress>, now_ns: u64) -> Option<Punctuality> {
        let promise = self.promises.get_mut(key)?;
        self.due.remove(&(promise.next_ns, key.clone()));
        let change = match found {
            Some(found) => promise.look(found, now_ns),
            None => {
                promise.next_ns = now_ns.saturating_add(LONGEST_INTERVAL_NS);
                None
            }
        };
        self.due.insert((promise.next_ns, key.clone()));
        change
    }
}

#[cfg(test)]
mod tests {
    use conduit::internal::shm::dir::FileId;

    use super::*;

    const MS: u64 = 1_000_000;

    fn key(name: &str) -> Key {
        (name.parse().unwrap(), FileId { dev: 1, ino: 2 })
    }

    fn found(published: u64, last_stamp_ns: Option<u64>) -> PublisherProgress {
        PublisherProgress { published, last_stamp_ns }
    }

    /// One topic that was found at 1000 ms, before its first message.
    fn deadlines(deadline_ms: u64) -> Deadlines {
        let mut deadlines = Deadlines::default();
        deadlines.insert(&key("a"), Duration::from_millis(deadline_ms), found(0, None), 1000 * MS);
        deadlines
    }

    /// A look at that topic when it is due, which must be at this time.
    fn look(deadlines: &mut Deadlines, at_ms: u64, published: u64, stamp_ms: Option<u64>) -> Option<Punctuality> {
        assert_eq!(deadlines.next_ns(), Some(at_ms * MS));
        assert_eq!(deadlines.due(at_ms * MS - 1), []);
        assert_eq!(deadlines.due(at_ms * MS), [key("a")]);
        deadlines.looked(&key("a"), Some(found(published, stamp_ms.map(|ms| ms * MS))), at_ms * MS)
    }

    #[test]
    fn nothing_is_due_while_nobody_has_promised_anything() {
        let mut deadlines = deadlines(100);
        deadlines.remove(&key("a"));
        assert_eq!((deadlines.next_ns(), deadlines.due(u64::MAX)), (None, vec![]));
        assert_eq!(deadlines.looked(&key("a"), None, 7), None);
        deadlines.insert(&key("a"), Duration::MAX, found(0, None), 1000);
        assert_eq!((deadlines.next_ns(), deadlines.due(u64::MAX)), (None, vec![]));
    }

    #[test]
    fn a_punctual_topic_is_looked_at_once_per_deadline() {
        let mut deadlines = deadlines(100);
        assert_eq!(look(&mut deadlines, 1100, 3, Some(1090)), None);
        assert_eq!(look(&mut deadlines, 1190, 4, Some(1150)), None);
        // Without a stamp, when it was found.
        assert_eq!(look(&mut deadlines, 1250, 5, None), None);
        assert_eq!(look(&mut deadlines, 1350, 5, None), Some(Punctuality::Overdue));
    }

    #[test]
    fn a_silence_and_its_end_are_reported_once() {
        let mut deadlines = deadlines(100);
        assert_eq!(look(&mut deadlines, 1100, 0, None), Some(Punctuality::Overdue), "the first message is late");
        assert_eq!(deadlines.next_ns(), Some(1112 * MS + MS / 2), "after an eighth of it");
        deadlines.looked(&key("a"), Some(found(0, None)), 1800 * MS);
        assert_eq!(look(&mut deadlines, 1900, 1, Some(1850)), Some(Punctuality::Resumed));
        // One silence a second.
        assert_eq!(look(&mut deadlines, 2900, 2, Some(2890)), None);
        assert_eq!(look(&mut deadlines, 2990, 2, Some(2890)), Some(Punctuality::Overdue));
        // One that has lasted for long is looked at every second.
        deadlines.looked(&key("a"), Some(found(2, Some(2890 * MS))), 100_000 * MS);
        assert_eq!(look(&mut deadlines, 101_000, 2, Some(2890)), None);
    }

    #[test]
    fn a_message_that_is_overdue_when_it_is_found_ends_no_silence() {
        let mut deadlines = deadlines(100);
        assert_eq!(look(&mut deadlines, 1100, 0, None), Some(Punctuality::Overdue));
        assert_eq!(deadlines.looked(&key("a"), Some(found(1, Some(1110 * MS))), 1250 * MS), None);
        let resumed = deadlines.looked(&key("a"), Some(found(2, Some(1260 * MS))), 1270 * MS);
        assert_eq!(resumed, Some(Punctuality::Resumed));
    }

    #[test]
    fn a_topic_is_looked_at_every_10_ms_at_most() {
        let mut deadlines = deadlines(1);
        assert_eq!(look(&mut deadlines, 1001, 9, Some(1001)), None);
        assert_eq!(look(&mut deadlines, 1011, 19, Some(1011)), None);
        assert_eq!(look(&mut deadlines, 1021, 29, Some(1015)), Some(Punctuality::Overdue));
        assert_eq!(look(&mut deadlines, 1031, 39, Some(1031)), Some(Punctuality::Resumed));
    }

    #[test]
    fn a_stamp_is_believed_only_between_two_looks() {
        for (stamp_ns, since_ms) in
            [(0, 1100), (u64::MAX, 1100), (1039 * MS, 1100), (1040 * MS, 1050), (1051 * MS, 1051)]
        {
            let mut deadlines = deadlines(100);
            deadlines.looked(&key("a"), Some(found(0, None)), 1050 * MS);
            deadlines.looked(&key("a"), Some(found(1, Some(stamp_ns))), 1100 * MS);
            assert_eq!(deadlines.next_ns(), Some((since_ms + 100) * MS));
        }
        // Nor can any number of messages and any deadline do harm.
        let mut deadlines = deadlines(u64::MAX);
        deadlines.insert(&key("b"), Duration::from_nanos(1), found(u64::MAX, Some(u64::MAX)), u64::MAX - 1);
        assert_eq!(deadlines.looked(&key("b"), Some(found(0, Some(0))), u64::MAX), None);
        assert_eq!(deadlines.next_ns(), None);
    }

    #[test]
    fn a_topic_that_was_silent_when_it_was_found_is_overdue_at_once() {
        let mut deadlines = Deadlines::default();
        deadlines.insert(&key("a"), Duration::from_millis(100), found(5, Some(300 * MS)), 1000 * MS);
        assert_eq!(deadlines.due(1000 * MS), [key("a")]);
        let reported = deadlines.looked(&key("a"), Some(found(5, Some(300 * MS))), 1000 * MS);
        assert_eq!(reported, Some(Punctuality::Overdue));
    }

    #[test]
    fn a_topic_that_cannot_be_looked_at_is_tried_a_second_later() {
        let mut deadlines = deadlines(100);
        assert_eq!(deadlines.looked(&key("a"), None, 1100 * MS), None);
        assert_eq!(look(&mut deadlines, 2100, 0, None), Some(Punctuality::Overdue));
    }
}
