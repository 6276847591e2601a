//! Owns the leases and the topics: a pure state machine. It does no I/O; each input returns the
//! changes that the rest of the daemon carries out.
//!
//! A *lease* is what a connection holds: ownership of a file, or a subscription. A *topic* is a
//! name in the directory that stands for a region's file. The two are matched by file, never by
//! name: a lease is announced before its file has a name, and a name may pass to another file while
//! the old owner's lease lives.
//!
//! ```text
//!   appeared, lease announced before ──> Leased ──ended──┐
//!   appeared, no lease ────────────────> Locked ──lock free──> dying ──reaped──> (gone)
//!   raw region released cleanly ───────> Kept                    └───survived──> Locked
//! ```

#[cfg(any(test, fuzzing))]
pub(crate) mod exercise;
mod leases;
#[cfg(test)]
mod tests;
mod topics;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use conduit::TopicName;
use conduit::internal::shm::dir::FileId;
use conduit::registry::{EventKind, Liveness, Process};

/// A file under a name: a file can have several names (hard links), a name can pass to another
/// file.
pub(crate) type Key = (TopicName, FileId);

/// A connection, numbered in the order of arrival.
pub(crate) type ConnectionId = u64;

/// What the daemon must do after an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Report the event to the watchers.
    Event { kind: EventKind, topic: TopicName, process: Option<Process> },
    /// Find out whether the owner is dead and, if so, reap the region; then call `reaped` or
    /// `survived`.
    Reap { key: Key, owner: Suspect },
    /// Find out how a subscriber died, and report it to the watchers.
    SubscriberDied { topic: TopicName, process: Process, connection: ConnectionId },
}

/// An owner that may be dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) process: Option<Process>,
    /// The connection that held the lease.
    pub(crate) connection: Option<ConnectionId>,
    /// The connection announced the file before the file had a name: the death of its process
    /// proves the owner's death.
    pub(crate) is_proven: bool,
}

/// What shows that a topic's owner lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The lease of a connection that announced the file before its name appeared.
    Leased { connection: ConnectionId },
    /// The owner lock alone, which is polled. A later registration does not change that.
    Locked,
    /// Nothing: a kept region has no owner.
    Kept,
}

#[derive(Clone, Debug)]
struct RegistryEntry {
    file: FileId,
    /// Owner of the file: leases of other users do not count for it.
    uid: u32,
    standing: Standing,
    owner: Option<Process>,
    /// The publisher has missed its own deadline.
    is_overdue: bool,
}

#[derive(Clone, Debug)]
struct LeaseRecord {
    topic: TopicName,
    file: FileId,
    role: LeaseRole,
    process: Process,
}

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseRole {
    /// Ownership of a file.
    Owner,
    /// A subscription, with the subscriber's record in the region; a read-only subscriber has none.
    Subscriber { record: Option<u32> },
}

/// Identifies a process: as the kernel reports it, or, if its pid namespace is not visible here and
/// the kernel reports pid 0, as its region claims.
pub(crate) fn identify(process: &Process, claimed: Option<&Process>) -> Process {
    match claimed {
        Some(Process { pid, program, .. }) if process.pid == 0 => Process::new(*pid, process.uid, program.clone()),
        _ => process.clone(),
    }
}

/// What inspecting a new file found.
#[derive(Clone, Debug)]
pub(crate) struct Appearance {
    pub(crate) file: FileId,
    /// Owner of the file.
    pub(crate) uid: u32,
    pub(crate) is_kept: bool,
    /// The process that the file names as its owner.
    pub(crate) claimed: Option<Process>,
}

/// The state of a file whose name has vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its owner has closed it, or it was a kept region.
    Closed,
    /// Its owner lives, and it has no name left.
    Alive,
    /// Its owner lives, and it has another name.
    Moved,
    /// Its owner is dead.
    Dead,
}

/// A topic as the registry knows it.
#[derive(Clone, Debug)]
pub(crate) struct TopicView<'a> {
    pub(crate) name: &'a TopicName,
    pub(crate) file: FileId,
    pub(crate) owner: Option<&'a Process>,
    pub(crate) liveness: Liveness,
    pub(crate) is_overdue: bool,
}

/// The registry's state.
#[derive(Debug, Default)]
pub(crate) struct RegistryState {
    topics: BTreeMap<TopicName, RegistryEntry>,
    leases: BTreeMap<ConnectionId, LeaseRecord>,
    /// The connections that have announced a name, in the order of arrival.
    announced: BTreeMap<TopicName, BTreeSet<ConnectionId>>,
    /// The connections whose process, of this user, has announced a file under a name, in the order
    /// of arrival.
    owners: BTreeMap<(Key, u32), BTreeSet<ConnectionId>>,
    /// The connections that subscribe to a file, in the order of arrival. Apart from its owners:
    /// the leases of one file may be very many, and those of one kind are not looked through for
    /// another.
    subscribers: BTreeMap<FileId, BTreeSet<ConnectionId>>,
    /// Regions whose lock is polled: named or unlinked, and not being reaped.
    locked: BTreeSet<Key>,
    /// Unlinked regions of live owners: the death of the owner is still to be reported.
    nameless: BTreeMap<Key, RegistryEntry>,
    /// Regions that are being reaped, named or unlinked.
    dying: BTreeSet<Key>,
}

/// What several inputs share.
impl RegistryState {
    fn grant(&mut self, connection: ConnectionId, lease: LeaseRecord) {
        let added = match lease.role {
            LeaseRole::Owner => {
                self.announced.entry(lease.topic.clone()).or_default().insert(connection);
                self.owners.entry(owner_key(&lease)).or_default().insert(connection)
            }
            LeaseRole::Subscriber { .. } => self.subscribers.entry(lease.file).or_default().insert(connection),
        };
        debug_assert!(added, "a connection has one lease");
        self.leases.insert(connection, lease);
    }

    fn revoke(&mut self, connection: ConnectionId) -> Option<LeaseRecord> {
        let lease = self.leases.remove(&connection)?;
        match lease.role {
            LeaseRole::Owner => {
                remove_from(&mut self.announced, &lease.topic, connection);
                remove_from(&mut self.owners, &owner_key(&lease), connection);
            }
            LeaseRole::Subscriber { .. } => remove_from(&mut self.subscribers, &lease.file, connection),
        }
        Some(lease)
    }

    /// The first announcement of the file by a process of its owner.
    fn owner_lease(&self, topic: &TopicName, file: FileId, uid: u32) -> Option<(ConnectionId, &LeaseRecord)> {
        let connection = *self.owners.get(&((topic.clone(), file), uid))?.first()?;
        Some((connection, self.leases.get(&connection)?))
    }

    fn entry(&mut self, key: &Key) -> Option<&mut RegistryEntry> {
        let (topic, file) = key;
        match self.topics.get_mut(topic) {
            Some(entry) if entry.file == *file => Some(entry),
            _ => self.nameless.get_mut(key),
        }
    }

    fn remove_topic(&mut self, topic: &TopicName) -> Option<RegistryEntry> {
        let entry = self.topics.remove(topic)?;
        self.locked.remove(&(topic.clone(), entry.file));
        Some(entry)
    }

    /// Has a region reaped if its owner is dead. `late`: the connection that registered the file
    /// after it had its name.
    fn suspect(&mut self, key: &Key, late: Option<ConnectionId>) -> Option<Change> {
        let entry = self.entry(key)?;
        let proof = match entry.standing {
            Standing::Kept => return None,
            Standing::Leased { connection } => Some(connection),
            Standing::Locked => None,
        };
        // The lease has ended: if the owner survives, only its lock counts.
        entry.standing = Standing::Locked;
        let owner = Suspect { process: entry.owner.clone(), connection: proof.or(late), is_proven: proof.is_some() };
        let is_new = self.dying.insert(key.clone());
        self.settle(key);
        is_new.then(|| Change::Reap { key: key.clone(), owner })
    }

    /// Updates the set of polled locks.
    fn settle(&mut self, key: &Key) {
        let is_locked = self.entry(key).is_some_and(|entry| entry.standing == Standing::Locked);
        if is_locked && !self.dying.contains(key) {
            self.locked.insert(key.clone());
        } else {
            self.locked.remove(key);
        }
    }
}

fn owner_key(lease: &LeaseRecord) -> (Key, u32) {
    ((lease.topic.clone(), lease.file), lease.process.uid)
}

/// Removes a connection from the set under a key, and the set with the last.
fn remove_from<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<ConnectionId>>, key: &K, connection: ConnectionId) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&connection);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
