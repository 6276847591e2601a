//! Owns the changes of the directory that are not taken in yet, by the users whose files they
//! concern: each user's wait for one another only.
//!
//! Any number of changes of one name are one here: only what the name stands for in the end is
//! looked at.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use conduit::TopicName;
use rustix::fs::inotify::ReadFlags;

use crate::pace::WorkPace;

/// Changed names of one user that are remembered; of more, the directory is read anew.
const MAX_NAMES: usize = 16_384;
/// How much time a user's changes may take at once; and how many times that time other work has
/// afterwards.
const CREDIT: Duration = Duration::from_millis(50);
const PAUSE_FACTOR: u32 = 5;
/// Users without changes whose pace is remembered.
const IDLE_USERS: usize = 64;

/// The changes by user.
#[derive(Default)]
pub(crate) struct PendingChanges {
    names: HashMap<TopicName, (u32, ReadFlags)>,
    users: HashMap<u32, UserChanges>,
    /// Users with changes, each once.
    turns: VecDeque<u32>,
}

#[derive(Default)]
struct UserChanges {
    /// In the order of their first changes. Names that were taken in out of turn are still in it.
    queue: VecDeque<TopicName>,
    pace: WorkPace,
}

/// Whose changes to take in next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangesTurn {
    User(u32),
    /// All that are left are those of users who have caused too much work.
    Wait(Duration),
    Nothing,
}

impl PendingChanges {
    /// Adds a change to one of the same name; `false` if there is none.
    pub(crate) fn merge(&mut self, topic: &TopicName, how: ReadFlags) -> bool {
        self.names.get_mut(topic).map(|(_, known)| *known |= how).is_some()
    }

    /// Adds the first change of a name; `false` if its user has too many.
    pub(crate) fn add(&mut self, topic: TopicName, uid: u32, how: ReadFlags) -> bool {
        let user = self.users.entry(uid).or_default();
        if user.queue.len() >= MAX_NAMES {
            return false;
        }
        if user.queue.is_empty() {
            self.turns.push_back(uid);
        }
        user.queue.push_back(topic.clone());
        self.names.insert(topic, (uid, how));
        true
    }

    /// Takes the changes of one name, out of turn.
    pub(crate) fn take(&mut self, topic: &TopicName) -> Option<ReadFlags> {
        self.names.remove(topic).map(|(_, how)| how)
    }

    /// Takes the next changes of a user's.
    pub(crate) fn next_of(&mut self, uid: u32) -> Option<(TopicName, ReadFlags)> {
        let user = self.users.get_mut(&uid)?;
        while let Some(topic) = user.queue.pop_front() {
            if let Some((_, how)) = self.names.remove(&topic) {
                return Some((topic, how));
            }
        }
        None
    }

    /// Names of a user's that are queued.
    pub(crate) fn len_of(&self, uid: u32) -> usize {
        self.users.get(&uid).map_or(0, |user| user.queue.len())
    }

    /// The users with changes who have not caused too much work.
    pub(crate) fn users_in_time(&self, now: Instant) -> Vec<u32> {
        self.turns.iter().copied().filter(|uid| self.wait_of(*uid, now).is_none()).collect()
    }

    /// Charges a user with the time that its changes took.
    pub(crate) fn spend(&mut self, uid: u32, now: Instant, time: Duration) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.pace.spend(now, time * PAUSE_FACTOR);
        }
    }

    /// The next user's turn.
    pub(crate) fn next_turn(&mut self, now: Instant) -> ChangesTurn {
        self.turns.retain(|uid| self.users.get(uid).is_some_and(|user| !user.queue.is_empty()));
        if self.users.len() > IDLE_USERS {
            self.users.retain(|_, user| !user.queue.is_empty() || !user.pace.is_idle(now));
        }
        let mut shortest: Option<Duration> = None;
        for _ in 0..self.turns.len() {
            self.turns.rotate_left(1);
            let Some(uid) = self.turns.back().copied() else { break };
            match self.wait_of(uid, now) {
                None => return ChangesTurn::User(uid),
                Some(wait) => shortest = Some(shortest.map_or(wait, |other| other.min(wait))),
            }
        }
        shortest.map_or(ChangesTurn::Nothing, ChangesTurn::Wait)
    }

    fn wait_of(&self, uid: u32, now: Instant) -> Option<Duration> {
        self.users.get(&uid)?.pace.wait(now, CREDIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        name.parse().unwrap()
    }

    #[test]
    fn changes_of_one_name_are_one() {
        let mut changes = PendingChanges::default();
        assert!(!changes.merge(&topic("a"), ReadFlags::DELETE));
        assert!(changes.add(topic("a"), 1, ReadFlags::CREATE));
        assert!(changes.merge(&topic("a"), ReadFlags::DELETE));
        assert_eq!(changes.next_of(1), Some((topic("a"), ReadFlags::CREATE | ReadFlags::DELETE)));
        assert_eq!((changes.next_of(1), changes.next_of(2)), (None, None));
    }

    #[test]
    fn a_name_taken_out_of_turn_is_not_taken_again() {
        let mut changes = PendingChanges::default();
        for name in ["a", "b"] {
            changes.add(topic(name), 1, ReadFlags::CREATE);
        }
        assert_eq!(changes.take(&topic("a")), Some(ReadFlags::CREATE));
        assert_eq!(changes.take(&topic("a")), None);
        assert_eq!(changes.next_of(1), Some((topic("b"), ReadFlags::CREATE)));
        assert_eq!(changes.next_turn(Instant::now()), ChangesTurn::Nothing);
    }

    #[test]
    fn users_take_turns_and_those_who_cause_too_much_wait() {
        let (mut changes, now) = (PendingChanges::default(), Instant::now());
        for (uid, name) in [(1, "a"), (1, "b"), (2, "c"), (2, "d")] {
            changes.add(topic(name), uid, ReadFlags::CREATE);
        }
        assert_eq!([changes.next_turn(now), changes.next_turn(now)], [ChangesTurn::User(1), ChangesTurn::User(2)]);
        changes.spend(1, now, CREDIT / PAUSE_FACTOR);
        assert_eq!(changes.users_in_time(now).len(), 2);
        changes.spend(1, now, Duration::from_millis(1));
        assert_eq!(changes.users_in_time(now), [2]);
        assert_eq!([changes.next_turn(now), changes.next_turn(now)], [ChangesTurn::User(2); 2]);
        while changes.next_of(2).is_some() {}
        assert_eq!(changes.next_turn(now), ChangesTurn::Wait(Duration::from_millis(5)));
        assert_eq!(changes.next_turn(now + Duration::from_millis(5)), ChangesTurn::User(1));
    }

    #[test]
    fn the_names_of_one_user_are_limited() {
        let mut changes = PendingChanges::default();
        for number in 0..MAX_NAMES {
            assert!(changes.add(topic(&format!("a/{number}")), 1, ReadFlags::CREATE));
        }
        assert!(!changes.add(topic("b"), 1, ReadFlags::CREATE));
        assert!(changes.add(topic("b"), 2, ReadFlags::CREATE));
    }
}
