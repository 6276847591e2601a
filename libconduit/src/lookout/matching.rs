//! Looking out for all topics that match a pattern.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mutation::{mutated, step};
use crate::{TopicName, TopicPattern};

/// How many names are kept for a subscriber that does not ask for them. Beyond that, it reads the
/// directory.
const MOST_NAMES: usize = 4096;

/// For how many looks a directory counts as changed: it may change twice while its time stamp stays
/// the same, which is for less than two looks.
const LOOKS_AFTER_CHANGE: u8 = 2;

/// The topics that match a pattern, from the thread to the subscriber.
pub(super) struct Matching {
    pattern: TopicPattern,
    found: Mutex<FoundTopics>,
    /// Whether something was found since the subscriber has asked. Set before its ring is ended.
    has_found: AtomicBool,
    /// For how many further looks a blind thread takes the directory for changed.
    looks: Mutex<u8>,
}

/// Topics that have appeared.
#[derive(Debug, Default)]
pub(crate) struct FoundTopics {
    pub(crate) names: BTreeSet<TopicName>,
    /// There may be others.
    pub(crate) are_unknown: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Matching {
    pub(super) fn new(pattern: TopicPattern) -> Self {
        Self { pattern, found: Mutex::default(), has_found: AtomicBool::new(false), looks: Mutex::new(0) }
    }

    /// Notes which topics have appeared, among files with these names or, if `are_unknown`, others.
    /// Returns whether there are any.
    pub(super) fn note(&self, names: &[OsString], are_unknown: bool) -> bool {
        if are_unknown && !mutated!(matching_knows_all) {
            self.note_unknown();
            return true;
        }
        let topics = names.iter().filter_map(|name| TopicName::from_file_name(name.to_str()?));
        let matching: Vec<_> = topics.filter(|topic| self.pattern.matches(topic)).collect();
        if matching.is_empty() {
            return false;
        }
        let mut found = lock(&self.found);
        found.names.extend(matching);
        if found.names.len() > MOST_NAMES {
            step!(matching_bounded, *found = FoundTopics { names: BTreeSet::new(), are_unknown: true });
        }
        self.has_found.store(true, Release);
        true
    }

    /// Notes that any topics may have appeared.
    pub(super) fn note_unknown(&self) {
        lock(&self.found).are_unknown = true;
        self.has_found.store(true, Release);
    }

    /// Notes that a blind thread has looked at the directory, whose time stamp is another one or
    /// not. Returns whether topics may have appeared.
    pub(super) fn note_look(&self, has_changed: bool) -> bool {
        let mut looks = lock(&self.looks);
        let may_have_found = has_changed || (*looks > 0 && !mutated!(matching_one_look));
        *looks = if has_changed { LOOKS_AFTER_CHANGE } else { looks.saturating_sub(1) };
        if may_have_found {
            self.note_unknown();
        }
        may_have_found
    }

    #[inline]
    pub(super) fn has_found(&self) -> bool {
        self.has_found.load(Acquire)
    }

    pub(super) fn take(&self) -> FoundTopics {
        self.has_found.store(false, Release);
        std::mem::take(&mut *lock(&self.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(matching: &Matching, names: &[&str]) -> bool {
        matching.note(&names.iter().map(OsString::from).collect::<Vec<_>>(), false)
    }

    fn matching() -> Matching {
        Matching::new("tf/**".parse().unwrap())
    }

    #[test]
    fn only_topics_that_match_are_kept_and_each_once() {
        let matching = matching();
        let others = ["conduit_tf", "conduit_map", "tf.a", "conduit_tf.", ".conduit_tf.a~1"];
        assert!(!note(&matching, &others) && !matching.has_found());
        for _ in 0..2 {
            assert!(note(&matching, &["conduit_tf.b", "conduit_map", "conduit_tf.a.c"]));
        }
        assert!(matching.has_found());
        let found = matching.take();
        let names: Vec<_> = found.names.iter().map(TopicName::as_str).collect();
        assert_eq!((names, found.are_unknown), (vec!["tf/a/c", "tf/b"], false));
        assert!(!matching.has_found() && matching.take().names.is_empty());
    }

    #[test]
    fn more_names_than_are_kept_are_read_from_the_directory() {
        let matching = matching();
        for name in 0..=MOST_NAMES {
            assert!(note(&matching, &[&format!("conduit_tf.{name}")]));
        }
        let found = matching.take();
        assert!(found.are_unknown && found.names.is_empty());
        assert!(matching.note(&[], true));
        assert!(matching.has_found() && matching.take().are_unknown);
    }

    #[test]
    fn a_directory_that_has_changed_is_read_once_more() {
        let matching = matching();
        let looks = [true, false, false, false, true, false].map(|has_changed| matching.note_look(has_changed));
        assert_eq!(looks, [true, true, true, false, true, true]);
        assert!(matching.take().are_unknown);
    }
}
