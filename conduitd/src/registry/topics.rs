//! Inputs about topics: names appear and vanish, locks are found free, reapers finish.

use conduit::TopicName;
use conduit::registry::EventKind;

use super::{Appearance, Change, Fate, Key, RegistryEntry, RegistryState, Standing, identify};

impl RegistryState {
    /// A name has appeared, or stands for another file than before.
    pub(crate) fn appeared(&mut self, topic: &TopicName, appearance: Appearance) -> Vec<Change> {
        let Appearance { file, uid, is_kept, claimed } = appearance;
        let (standing, owner) = match self.owner_lease(topic, file, uid) {
            _ if is_kept => (Standing::Kept, None),
            Some((connection, lease)) => {
                (Standing::Leased { connection }, Some(identify(&lease.process, claimed.as_ref())))
            }
            None => (Standing::Locked, claimed),
        };
        let key = (topic.clone(), file);
        self.remove_topic(topic);
        // An unlinked region may get its name back.
        self.nameless.remove(&key);
        self.topics
            .insert(topic.clone(), RegistryEntry { file, uid, standing, owner: owner.clone(), is_overdue: false });
        self.settle(&key);
        vec![Change::Event { kind: EventKind::Published, topic: topic.clone(), process: owner }]
    }

    /// A name has appeared and vanished before the daemon could inspect it: reported if it was
    /// announced.
    pub(crate) fn came_and_went(&mut self, topic: &TopicName) -> Vec<Change> {
        let announced = self.announced.get(topic).and_then(|connections| self.leases.get(connections.last()?));
        let Some(process) = announced.map(|lease| lease.process.clone()) else { return Vec::new() };
        let event = |kind| Change::Event { kind, topic: topic.clone(), process: Some(process.clone()) };
        vec![event(EventKind::Published), event(EventKind::Closed)]
    }

    /// The name that stood for a file has vanished.
    pub(crate) fn vanished(&mut self, key: &Key, fate: Fate) -> Vec<Change> {
        let (topic, file) = key;
        if self.file_of(topic) != Some(*file) {
            return Vec::new();
        }
        if self.dying.contains(key) {
            // Its reaper reports it.
            self.remove_topic(topic);
            return Vec::new();
        }
        if fate == Fate::Dead {
            let reap = self.lock_is_free(key);
            self.remove_topic(topic);
            return reap;
        }
        let Some(entry) = self.remove_topic(topic) else { return Vec::new() };
        let process = entry.owner.clone();
        let kind = if fate == Fate::Closed { EventKind::Closed } else { EventKind::Unlinked };
        // A moved region without a lease is tracked under its other name, by its lock.
        let is_leased = matches!(entry.standing, Standing::Leased { .. });
        if fate == Fate::Alive || (fate == Fate::Moved && is_leased) {
            self.nameless.insert(key.clone(), entry);
            self.settle(key);
        }
        vec![Change::Event { kind, topic: topic.clone(), process }]
    }

    /// The owner lock of a topic without a lease was found free.
    pub(crate) fn lock_is_free(&mut self, key: &Key) -> Vec<Change> {
        let uid = self.entry(key).map(|entry| entry.uid);
        let late = uid.and_then(|uid| self.owner_lease(&key.0, key.1, uid)).map(|(connection, _)| connection);
        self.suspect(key, late).into_iter().collect()
    }

    /// The creator of a raw region has released it; the region is kept.
    pub(crate) fn kept(&mut self, key: &Key) -> Vec<Change> {
        if self.nameless.remove(key).is_some() {
            // Unlinked and without an owner: nothing more can be reported of it.
            self.locked.remove(key);
        }
        let (topic, file) = key;
        match self.topics.get_mut(topic).filter(|entry| entry.file == *file) {
            Some(entry) if entry.standing != Standing::Kept => {
                entry.standing = Standing::Kept;
                let process = entry.owner.take();
                self.settle(key);
                vec![Change::Event { kind: EventKind::Kept, topic: topic.clone(), process }]
            }
            _ => Vec::new(),
        }
    }

    /// The publisher of a topic has missed its own deadline, or sends again.
    pub(crate) fn set_overdue(&mut self, key: &Key, is_overdue: bool) -> Vec<Change> {
        if self.dying.contains(key) {
            // Its end is about to be reported.
            return Vec::new();
        }
        let Some(entry) = self.entry(key) else { return Vec::new() };
        if std::mem::replace(&mut entry.is_overdue, is_overdue) == is_overdue {
            return Vec::new();
        }
        let kind = if is_overdue { EventKind::Overdue } else { EventKind::Resumed };
        vec![Change::Event { kind, topic: key.0.clone(), process: entry.owner.clone() }]
    }

    /// A reaper found the owner alive, or failed: from now on the lock is polled.
    pub(crate) fn survived(&mut self, key: &Key) {
        self.dying.remove(key);
        self.settle(key);
    }

    /// A reaper has reaped a region.
    pub(crate) fn reaped(&mut self, key: &Key) {
        self.dying.remove(key);
        self.nameless.remove(key);
        if self.file_of(&key.0) == Some(key.1) {
            self.remove_topic(&key.0);
        }
    }
}
