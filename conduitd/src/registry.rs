//! Who owns what: a pure state machine. It does no I/O; every input gives back the changes that the rest of the daemon
//! carries out.
//!
//! A *lease* is what a connection holds: ownership of a file, or a subscription. A *topic* is a name in the directory that
//! stands for a file of ours. The two meet by file, never by name: a lease is announced before its file has a name, and
//! a name may pass to another file while the old owner's lease still lives.
//!
//! ```text
//!   appeared, lease announced before ──> Leased ──ended──┐
//!   appeared, no lease ────────────────> Locked ──lock free──> dying ──reaped──> (gone)
//!   raw region let go cleanly ─────────> Kept                    └───survived──> Locked
//! ```

#[cfg(any(test, fuzzing))]
pub(crate) mod exercise;

use std::collections::{BTreeMap, BTreeSet};

use conduit::TopicName;
use conduit::internal::shm::dir::FileId;
use conduit::registry::{EventKind, Liveness, Process, RegistryError};

/// A file under a name: a file can have several (hard links), a name can pass to another file.
pub(crate) type Key = (TopicName, FileId);

/// A connection, numbered in the order of their coming.
pub(crate) type ConnectionId = u64;

/// What is to be done after an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Tell the watchers.
    Event { kind: EventKind, topic: TopicName, process: Option<Process> },
    /// Find out whether the owner is dead, and if so clean up; then `reaped` or `survived`.
    Reap { topic: TopicName, file: FileId, owner: Owner },
    /// Find out how a subscriber ended, and tell the watchers.
    SubscriberDied { topic: TopicName, process: Process, connection: ConnectionId },
}

/// What is known of a dead owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) process: Option<Process>,
    /// The connection that held the lease.
    pub(crate) connection: Option<ConnectionId>,
    /// It announced the file before the file had a name: then the death of its process is proof.
    pub(crate) is_proven: bool,
}

/// Who answers for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A connection that announced the file before its name appeared.
    Leased { connection: ConnectionId },
    /// Its lock alone, which is looked at now and then. A registration that comes late changes nothing of that.
    Locked,
    /// Nobody, on purpose.
    Kept,
}

#[derive(Clone, Debug)]
struct Topic {
    file: FileId,
    /// Owner of the file: nobody else's lease counts for it.
    uid: u32,
    standing: Standing,
    owner: Option<Process>,
}

#[derive(Clone, Debug)]
struct Lease {
    topic: TopicName,
    file: FileId,
    role: Role,
    process: Process,
}

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A file.
    Owner,
    /// A subscription, with the subscriber's record in the region; none if it may only read.
    Subscriber { record: Option<u32> },
}

/// Who a process is: as the kernel says, or, where the kernel has no number for it because it is in a pid namespace that
/// this one does not see, as its region says.
pub(crate) fn identify(process: &Process, claimed: Option<&Process>) -> Process {
    match claimed {
        Some(Process { pid, program, .. }) if process.pid == 0 => {
            Process { pid: *pid, uid: process.uid, program: program.clone() }
        }
        _ => process.clone(),
    }
}

/// What a look at a new file told.
#[derive(Clone, Debug)]
pub(crate) struct Appearance {
    pub(crate) file: FileId,
    /// Owner of the file.
    pub(crate) uid: u32,
    pub(crate) is_kept: bool,
    /// Whom the file names as its owner.
    pub(crate) claimed: Option<Process>,
}

/// What had become of a file when its name was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its owner has closed it, or it was a kept region.
    Closed,
    /// Its owner lives on, and it has no name left.
    Alive,
    /// Its owner lives on, and it has another name.
    Moved,
    /// Its owner is dead.
    Dead,
}

/// The registry.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    topics: BTreeMap<TopicName, Topic>,
    leases: BTreeMap<ConnectionId, Lease>,
    /// Who has a lease of a file, in the order of their coming.
    holders: BTreeMap<FileId, BTreeSet<ConnectionId>>,
    /// What only its lock answers for and no reaper is at work on, whether it still has its name or not.
    locked: BTreeSet<Key>,
    /// Living regions whose name was taken away: their owner's end still has to be told.
    nameless: BTreeMap<Key, Topic>,
    /// What a reaper is at work on, whether it still has its name or not.
    dying: BTreeSet<Key>,
}

impl Registry {
    /// A process announces a file that it is about to name.
    ///
    /// Several may announce the same file: whose announcement counts is settled when the file appears, by its owner.
    pub(crate) fn register(
        &mut self,
        connection: ConnectionId,
        process: Process,
        topic: TopicName,
        file: FileId,
    ) -> Result<(), RegistryError> {
        if self.has_lease(connection, &topic, file, Role::Owner)? {
            return Ok(());
        }
        if let Some(entry) = self.topics.get_mut(&topic).filter(|entry| entry.file == file) {
            if let (Standing::Leased { .. }, Some(owner)) = (entry.standing, &entry.owner) {
                let Process { pid, program, .. } = owner.clone();
                return Err(RegistryError::AlreadyRegistered { topic: topic.to_string(), pid, program });
            }
            if entry.uid != process.uid {
                return Err(RegistryError::NotOwner { topic: topic.to_string(), uid: entry.uid });
            }
            entry.owner = Some(identify(&process, entry.owner.as_ref()));
        }
        self.grant(connection, Lease { topic, file, role: Role::Owner, process });
        Ok(())
    }

    /// A lease that this registry's predecessor granted goes on, without a word.
    pub(crate) fn resume(&mut self, connection: ConnectionId, process: Process, key: Key, role: Role) {
        let (topic, file) = key;
        self.grant(connection, Lease { topic, file, role, process });
    }

    /// A process subscribes.
    pub(crate) fn attach(
        &mut self,
        connection: ConnectionId,
        process: Process,
        topic: TopicName,
        file: FileId,
        record: Option<u32>,
    ) -> Result<Vec<Change>, RegistryError> {
        let role = Role::Subscriber { record };
        if self.has_lease(connection, &topic, file, role)? {
            return Ok(Vec::new());
        }
        if self.file_of(&topic) != Some(file) {
            return Err(RegistryError::TopicNotFound { topic: topic.to_string() });
        }
        self.grant(connection, Lease { topic: topic.clone(), file, role, process: process.clone() });
        Ok(vec![Change::Event { kind: EventKind::Subscribed, topic, process: Some(process) }])
    }

    /// Whether the connection has this very lease already: requests may be repeated. Another one is an error.
    fn has_lease(
        &self,
        connection: ConnectionId,
        topic: &TopicName,
        file: FileId,
        role: Role,
    ) -> Result<bool, RegistryError> {
        match self.leases.get(&connection) {
            None => Ok(false),
            Some(lease) if lease.file == file && lease.role == role && lease.topic == *topic => Ok(true),
            Some(lease) => Err(RegistryError::LeaseInUse { topic: lease.topic.to_string() }),
        }
    }

    fn grant(&mut self, connection: ConnectionId, lease: Lease) {
        self.holders.entry(lease.file).or_default().insert(connection);
        self.leases.insert(connection, lease);
    }

    fn revoke(&mut self, connection: ConnectionId) -> Option<Lease> {
        let lease = self.leases.remove(&connection)?;
        if let Some(holders) = self.holders.get_mut(&lease.file) {
            holders.remove(&connection);
            if holders.is_empty() {
                self.holders.remove(&lease.file);
            }
        }
        Some(lease)
    }

    fn leases_of(&self, file: FileId) -> impl Iterator<Item = (ConnectionId, &Lease)> {
        let holders = self.holders.get(&file).into_iter().flatten();
        holders.filter_map(|connection| Some((*connection, self.leases.get(connection)?)))
    }

    /// A lease ends cleanly. The owner of a topic has removed its name before; a raw region stays.
    pub(crate) fn release(&mut self, connection: ConnectionId) -> Vec<Change> {
        let Some(lease) = self.revoke(connection) else { return Vec::new() };
        let Lease { topic, file, role, process } = lease;
        match role {
            Role::Subscriber { .. } => {
                vec![Change::Event { kind: EventKind::Unsubscribed, topic, process: Some(process) }]
            }
            Role::Owner => {
                let key = (topic, file);
                if let Some(entry) = self.entry(&key)
                    && entry.standing == (Standing::Leased { connection })
                {
                    // Whether it is kept is the file's word, not the client's: a look at the lock will tell.
                    entry.standing = Standing::Locked;
                    self.settle(&key);
                }
                Vec::new()
            }
        }
    }

    /// A connection has ended without a word, or its process has.
    pub(crate) fn ended(&mut self, connection: ConnectionId) -> Vec<Change> {
        let Some(lease) = self.revoke(connection) else { return Vec::new() };
        let Lease { topic, file, role, process } = lease;
        match role {
            Role::Subscriber { .. } => vec![Change::SubscriberDied { topic, process, connection }],
            Role::Owner => self.owner_ended(connection, &(topic, file), process.uid).into_iter().collect(),
        }
    }

    fn owner_ended(&mut self, connection: ConnectionId, key: &Key, uid: u32) -> Option<Change> {
        let entry = self.entry(key)?;
        match entry.standing {
            Standing::Leased { connection: owner } if owner == connection => self.suspect(key, None),
            // It came late and proves nothing, but is a reason to look.
            Standing::Locked if entry.uid == uid => self.suspect(key, Some(connection)),
            _ => None,
        }
    }

    /// The owner lock of a topic without a lease was found free.
    pub(crate) fn lock_is_free(&mut self, topic: &TopicName, file: FileId) -> Vec<Change> {
        let key = (topic.clone(), file);
        let uid = self.entry(&key).map(|entry| entry.uid);
        let late = uid.and_then(|uid| self.owner_lease(topic, file, uid)).map(|(connection, _)| connection);
        self.suspect(&key, late).into_iter().collect()
    }

    fn entry(&mut self, key: &Key) -> Option<&mut Topic> {
        let (topic, file) = key;
        match self.topics.get_mut(topic) {
            Some(entry) if entry.file == *file => Some(entry),
            _ => self.nameless.get_mut(key),
        }
    }

    /// `late`: the connection that registered the file when it had its name already.
    fn suspect(&mut self, key: &Key, late: Option<ConnectionId>) -> Option<Change> {
        let entry = self.entry(key)?;
        let proof = match entry.standing {
            Standing::Kept => return None,
            Standing::Leased { connection } => Some(connection),
            Standing::Locked => None,
        };
        // From now on no lease answers for it, whatever the reaper finds.
        entry.standing = Standing::Locked;
        let owner = Owner { process: entry.owner.clone(), connection: proof.or(late), is_proven: proof.is_some() };
        let (topic, file) = key.clone();
        let is_new = self.dying.insert(key.clone());
        self.settle(key);
        is_new.then_some(Change::Reap { topic, file, owner })
    }

    /// Brings the list of what only its lock answers for up to date.
    fn settle(&mut self, key: &Key) {
        let is_locked = self.entry(key).is_some_and(|entry| entry.standing == Standing::Locked);
        if is_locked && !self.dying.contains(key) {
            self.locked.insert(key.clone());
        } else {
            self.locked.remove(key);
        }
    }

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
        // It may have its name back.
        self.nameless.remove(&key);
        self.topics.insert(topic.clone(), Topic { file, uid, standing, owner: owner.clone() });
        self.settle(&key);
        vec![Change::Event { kind: EventKind::Published, topic: topic.clone(), process: owner }]
    }

    /// The first announcement of the file by a process of its owner.
    fn owner_lease(&self, topic: &TopicName, file: FileId, uid: u32) -> Option<(ConnectionId, &Lease)> {
        let mut leases = self.leases_of(file);
        leases.find(|(_, lease)| lease.role == Role::Owner && lease.process.uid == uid && lease.topic == *topic)
    }

    /// A name has come and gone before anybody could look at it: if it was announced, its short life can be told.
    pub(crate) fn came_and_went(&mut self, topic: &TopicName) -> Vec<Change> {
        let mut leases = self.leases.values().rev();
        let announced = leases.find(|lease| lease.role == Role::Owner && lease.topic == *topic);
        let Some(process) = announced.map(|lease| lease.process.clone()) else { return Vec::new() };
        let event = |kind| Change::Event { kind, topic: topic.clone(), process: Some(process.clone()) };
        vec![event(EventKind::Published), event(EventKind::Closed)]
    }

    /// The name that stood for `file` is gone.
    pub(crate) fn vanished(&mut self, topic: &TopicName, file: FileId, fate: Fate) -> Vec<Change> {
        if self.file_of(topic) != Some(file) {
            return Vec::new();
        }
        let key = (topic.clone(), file);
        if self.dying.contains(&key) {
            // The reaper reports it.
            self.remove_topic(topic);
            return Vec::new();
        }
        if fate == Fate::Dead {
            let reap = self.lock_is_free(topic, file);
            self.remove_topic(topic);
            return reap;
        }
        let Some(entry) = self.remove_topic(topic) else { return Vec::new() };
        let process = entry.owner.clone();
        let kind = if fate == Fate::Closed { EventKind::Closed } else { EventKind::Unlinked };
        // Under its other name only the lock answers for it.
        let is_leased = matches!(entry.standing, Standing::Leased { .. });
        if fate == Fate::Alive || (fate == Fate::Moved && is_leased) {
            self.nameless.insert(key.clone(), entry);
            self.settle(&key);
        }
        vec![Change::Event { kind, topic: topic.clone(), process }]
    }

    fn remove_topic(&mut self, topic: &TopicName) -> Option<Topic> {
        let entry = self.topics.remove(topic)?;
        self.locked.remove(&(topic.clone(), entry.file));
        Some(entry)
    }

    /// A raw region has been let go by its creator.
    pub(crate) fn kept(&mut self, topic: &TopicName, file: FileId) -> Vec<Change> {
        let key = (topic.clone(), file);
        if self.nameless.remove(&key).is_some() {
            // Nobody can find it, and nobody's end is to be told.
            self.locked.remove(&key);
        }
        match self.topics.get_mut(topic).filter(|entry| entry.file == file) {
            Some(entry) if entry.standing != Standing::Kept => {
                entry.standing = Standing::Kept;
                let process = entry.owner.take();
                self.settle(&key);
                vec![Change::Event { kind: EventKind::Kept, topic: topic.clone(), process }]
            }
            _ => Vec::new(),
        }
    }

    /// A reaper found the owner alive after all: from now on its lock decides.
    pub(crate) fn survived(&mut self, topic: &TopicName, file: FileId) {
        let key = (topic.clone(), file);
        self.dying.remove(&key);
        self.settle(&key);
    }

    /// A reaper is done with a file.
    pub(crate) fn reaped(&mut self, topic: &TopicName, file: FileId) {
        let key = (topic.clone(), file);
        self.dying.remove(&key);
        self.nameless.remove(&key);
        if self.file_of(topic) == Some(file) {
            self.remove_topic(topic);
        }
    }

    /// The file that a topic stands for, as far as the registry knows.
    pub(crate) fn file_of(&self, topic: &TopicName) -> Option<FileId> {
        self.topics.get(topic).map(|entry| entry.file)
    }

    /// Whether anything more can happen to the file under this name.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.file_of(&key.0) == Some(key.1) || self.nameless.contains_key(key) || self.dying.contains(key)
    }

    /// Whether a reaper is at work on the file.
    pub(crate) fn is_dying(&self, topic: &TopicName, file: FileId) -> bool {
        self.dying.contains(&(topic.clone(), file))
    }

    /// What the connection's lease is for.
    pub(crate) fn lease_of(&self, connection: ConnectionId) -> Option<Key> {
        self.leases.get(&connection).map(|lease| (lease.topic.clone(), lease.file))
    }

    /// All topics, sorted by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = Listed<'_>> {
        self.topics.iter().map(|(topic, entry)| Listed::new(topic, entry))
    }

    /// Living regions without a name, sorted by the names they had.
    pub(crate) fn unlinked(&self) -> impl Iterator<Item = Listed<'_>> {
        self.nameless.iter().map(|((topic, _), entry)| Listed::new(topic, entry))
    }

    /// One topic.
    pub(crate) fn topic(&self, topic: &TopicName) -> Option<Listed<'_>> {
        self.topics.get_key_value(topic).map(|(topic, entry)| Listed::new(topic, entry))
    }

    /// What only its lock answers for.
    pub(crate) fn watched_by_lock(&self) -> Vec<Key> {
        self.locked.iter().cloned().collect()
    }

    /// Whether there are any.
    pub(crate) fn watches_locks(&self) -> bool {
        !self.locked.is_empty()
    }

    /// Subscribers of a file that hold a lease, with their records.
    pub(crate) fn subscribers_of(&self, file: FileId) -> impl Iterator<Item = (Option<u32>, &Process)> {
        self.leases_of(file).filter_map(move |(_, lease)| match lease.role {
            Role::Subscriber { record } => Some((record, &lease.process)),
            Role::Owner => None,
        })
    }

    /// All subscribers that hold a lease, in the order of their coming.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = (&TopicName, &Process)> {
        let subscribers = self.leases.values().filter(|lease| lease.role != Role::Owner);
        subscribers.map(|lease| (&lease.topic, &lease.process))
    }

    /// The connection that announced the topic's file before it had its name.
    pub(crate) fn announcer_of(&self, topic: &TopicName) -> Option<ConnectionId> {
        match self.topics.get(topic)?.standing {
            Standing::Leased { connection } => Some(connection),
            Standing::Locked | Standing::Kept => None,
        }
    }
}

/// A topic as the registry knows it.
#[derive(Clone, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a TopicName,
    pub(crate) file: FileId,
    pub(crate) owner: Option<&'a Process>,
    pub(crate) liveness: Liveness,
}

impl<'a> Listed<'a> {
    fn new(name: &'a TopicName, topic: &'a Topic) -> Self {
        let liveness = match topic.standing {
            Standing::Leased { .. } => Liveness::Lease,
            Standing::Locked => Liveness::Lock,
            Standing::Kept => Liveness::None,
        };
        Self { name, file: topic.file, owner: topic.owner.as_ref(), liveness }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn process(pid: u32) -> Process {
        Process { pid, uid: 1000, program: "node".into() }
    }

    fn file(ino: u64) -> FileId {
        FileId { dev: 1, ino }
    }

    fn topic(name: &str) -> TopicName {
        name.parse().unwrap()
    }

    fn plain(ino: u64) -> Appearance {
        Appearance { file: file(ino), uid: 1000, is_kept: false, claimed: Some(process(99)) }
    }

    fn published() -> Registry {
        let mut registry = Registry::default();
        registry.register(1, process(10), topic("a"), file(5)).unwrap();
        let changes = registry.appeared(&topic("a"), plain(5));
        let event = Change::Event { kind: EventKind::Published, topic: topic("a"), process: Some(process(10)) };
        assert_eq!(changes, [event], "the lease's process, not the claimed one");
        registry
    }

    #[test]
    fn the_death_of_an_announced_owner_is_proof() {
        let mut registry = published();
        let owner = Owner { process: Some(process(10)), connection: Some(1), is_proven: true };
        assert_eq!(registry.ended(1), [Change::Reap { topic: topic("a"), file: file(5), owner }]);
        assert_eq!(registry.ended(1), [], "only once");
        assert_eq!(registry.lock_is_free(&topic("a"), file(5)), [], "a reaper is at work already");
        registry.reaped(&topic("a"), file(5));
        assert_eq!(registry.topics().count(), 0);
    }

    #[test]
    fn a_late_registration_proves_nothing() {
        let mut registry = Registry::default();
        registry.appeared(&topic("a"), plain(5));
        assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))]);
        registry.register(1, process(10), topic("a"), file(5)).unwrap();
        assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))], "its lock decides all the same");
        let changes = registry.ended(1);
        assert!(matches!(&changes[..], [Change::Reap { owner: Owner { is_proven: false, .. }, .. }]));
        registry.survived(&topic("a"), file(5));
        assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))]);
    }

    #[test]
    fn who_has_no_pid_here_goes_by_the_one_it_claims() {
        let mut registry = Registry::default();
        let unseen = Process { pid: 0, uid: 1000, program: String::new() };
        registry.register(1, unseen.clone(), topic("a"), file(5)).unwrap();
        registry.appeared(&topic("a"), plain(5));
        assert_eq!(registry.topic(&topic("a")).unwrap().owner, Some(&process(99)));
        // Nor does who registers late.
        registry.appeared(&topic("b"), plain(6));
        registry.register(2, unseen, topic("b"), file(6)).unwrap();
        assert_eq!(registry.topic(&topic("b")).unwrap().owner, Some(&process(99)));
    }

    #[test]
    fn what_another_user_says_of_a_file_does_not_count() {
        let stranger = Process { uid: 65534, ..process(66) };
        let mut registry = Registry::default();
        // First come, but not the file's owner.
        registry.register(6, stranger.clone(), topic("a"), file(5)).unwrap();
        registry.register(7, process(10), topic("a"), file(5)).unwrap();
        registry.appeared(&topic("a"), plain(5));
        assert_eq!(registry.topics().next().unwrap().owner, Some(&process(10)));
        assert_eq!(registry.ended(6), [], "its end means nothing");
        assert!(matches!(&registry.ended(7)[..], [Change::Reap { owner: Owner { is_proven: true, .. }, .. }]));

        let mut registry = Registry::default();
        registry.appeared(&topic("a"), plain(5));
        let error = registry.register(6, stranger, topic("a"), file(5)).unwrap_err();
        assert_eq!(error, RegistryError::NotOwner { topic: "a".into(), uid: 1000 });
    }

    #[test]
    fn two_names_of_one_file_are_two_topics() {
        let mut registry = published();
        registry.appeared(&topic("link"), plain(5));
        assert_eq!(registry.watched_by_lock(), [(topic("link"), file(5))]);
        registry.vanished(&topic("link"), file(5), Fate::Moved);
        assert_eq!(registry.file_of(&topic("a")), Some(file(5)));
        assert!(registry.knows(&(topic("a"), file(5))) && !registry.knows(&(topic("link"), file(5))));
        assert!(matches!(&registry.ended(1)[..], [Change::Reap { .. }]));
    }

    #[test]
    fn an_owner_whose_name_was_taken_away_is_still_seen_to_die() {
        let mut registry = published();
        registry.vanished(&topic("a"), file(5), Fate::Alive);
        registry.appeared(&topic("a"), plain(6));
        assert!(registry.knows(&(topic("a"), file(5))));
        let changes = registry.ended(1);
        assert!(matches!(&changes[..], [Change::Reap { owner: Owner { is_proven: true, .. }, .. }]), "{changes:?}");
        registry.reaped(&topic("a"), file(5));
        assert!(!registry.knows(&(topic("a"), file(5))) && registry.knows(&(topic("a"), file(6))));
    }

    #[test]
    fn a_living_region_without_name_and_lease_is_watched_by_its_lock() {
        let mut registry = Registry::default();
        registry.appeared(&topic("a"), plain(5));
        registry.vanished(&topic("a"), file(5), Fate::Alive);
        assert_eq!(registry.topics().count(), 0);
        assert_eq!(
            registry.unlinked().map(|it| (it.name.clone(), it.file)).collect::<Vec<_>>(),
            [(topic("a"), file(5))]
        );
        assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))]);
        assert!(matches!(&registry.lock_is_free(&topic("a"), file(5))[..], [Change::Reap { .. }]));
        registry.reaped(&topic("a"), file(5));
        assert_eq!(registry.unlinked().count(), 0);
    }

    #[test]
    fn a_name_that_is_given_back_is_watched_once() {
        let mut registry = published();
        registry.vanished(&topic("a"), file(5), Fate::Alive);
        registry.appeared(&topic("a"), plain(5));
        registry.kept(&topic("a"), file(5));
        registry.ended(1);
        assert!(registry.nameless.is_empty(), "found by fuzzing: a region that nothing would free");
    }

    #[test]
    fn one_file_has_one_registrant_and_one_connection_one_lease() {
        let mut registry = published();
        let error = registry.register(2, process(11), topic("a"), file(5)).unwrap_err();
        assert_eq!(error, RegistryError::AlreadyRegistered { topic: "a".into(), pid: 10, program: "node".into() });
        assert_eq!(registry.register(1, process(10), topic("a"), file(5)), Ok(()), "repeated");
        let error = registry.register(1, process(10), topic("b"), file(6)).unwrap_err();
        assert_eq!(error, RegistryError::LeaseInUse { topic: "a".into() });
    }

    #[test]
    fn a_name_that_passes_to_another_file_leaves_the_old_owner_to_its_reaper() {
        let mut registry = published();
        let changes = registry.vanished(&topic("a"), file(5), Fate::Dead);
        assert!(matches!(&changes[..], [Change::Reap { owner: Owner { is_proven: true, .. }, .. }]));
        registry.appeared(&topic("a"), plain(6));
        registry.reaped(&topic("a"), file(5));
        assert_eq!(registry.file_of(&topic("a")), Some(file(6)), "the successor stays");
        assert_eq!(registry.ended(1), [], "the dead owner's connection has nothing left");
    }

    #[test]
    fn the_end_of_a_topic_says_how() {
        for (fate, kind) in [(Fate::Closed, EventKind::Closed), (Fate::Alive, EventKind::Unlinked)] {
            let mut registry = published();
            let changes = registry.vanished(&topic("a"), file(5), fate);
            assert_eq!(changes, [Change::Event { kind, topic: topic("a"), process: Some(process(10)) }]);
        }
    }

    #[test]
    fn a_short_life_is_told_if_it_was_announced() {
        let mut registry = Registry::default();
        assert_eq!(registry.came_and_went(&topic("a")), []);
        registry.register(1, process(10), topic("a"), file(5)).unwrap();
        let event = |kind| Change::Event { kind, topic: topic("a"), process: Some(process(10)) };
        assert_eq!(registry.came_and_went(&topic("a")), [EventKind::Published, EventKind::Closed].map(event));
        assert_eq!(registry.topics().count(), 0);
    }

    #[test]
    fn subscribers_come_and_go() {
        let mut registry = published();
        let event = |kind| Change::Event { kind, topic: topic("a"), process: Some(process(20)) };
        assert_eq!(
            registry.attach(2, process(20), topic("a"), file(5), Some(3)),
            Ok(vec![event(EventKind::Subscribed)])
        );
        assert_eq!(registry.subscribers_of(file(5)).collect::<Vec<_>>(), [(Some(3), &process(20))]);
        assert_eq!(registry.release(2), [event(EventKind::Unsubscribed)]);
        registry.attach(3, process(20), topic("a"), file(5), None).unwrap();
        let died = Change::SubscriberDied { topic: topic("a"), process: process(20), connection: 3 };
        assert_eq!(registry.ended(3), [died]);
        assert_eq!(registry.subscribers_of(file(5)).count(), 0);
    }

    #[test]
    fn a_kept_region_is_never_reaped() {
        let mut registry = published();
        registry.release(1);
        let kept = Change::Event { kind: EventKind::Kept, topic: topic("a"), process: Some(process(10)) };
        assert_eq!(registry.kept(&topic("a"), file(5)), [kept]);
        assert_eq!(registry.lock_is_free(&topic("a"), file(5)), []);
        assert_eq!(registry.kept(&topic("a"), file(5)), []);
    }

    proptest! {
        #[test]
        fn no_interleaving_leaves_anything_behind(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            exercise::run(&bytes);
        }
    }
}
