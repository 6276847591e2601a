//! Queries.

use conduit::TopicName;
use conduit::internal::shm::dir::FileId;
use conduit::registry::{Liveness, Process};

use super::{ConnectionId, Key, LeaseRole, RegistryEntry, RegistryState, Standing, TopicView};

impl RegistryState {
    /// The file that a topic stands for.
    pub(crate) fn file_of(&self, topic: &TopicName) -> Option<FileId> {
        self.topics.get(topic).map(|entry| entry.file)
    }

    /// The user who owns the file that a topic stands for.
    pub(crate) fn uid_of(&self, topic: &TopicName) -> Option<u32> {
        self.topics.get(topic).map(|entry| entry.uid)
    }

    /// Whether a process of the file's owner has announced the file under this name.
    pub(crate) fn is_announced(&self, topic: &TopicName, file: FileId, uid: u32) -> bool {
        self.owner_lease(topic, file, uid).is_some()
    }

    /// Whether anything more can be reported of the file under this name.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.file_of(&key.0) == Some(key.1) || self.nameless.contains_key(key) || self.dying.contains(key)
    }

    /// Whether the file is being reaped.
    pub(crate) fn is_dying(&self, key: &Key) -> bool {
        self.dying.contains(key)
    }

    /// The topic and file of the connection's lease.
    pub(crate) fn lease_of(&self, connection: ConnectionId) -> Option<Key> {
        self.leases.get(&connection).map(|lease| (lease.topic.clone(), lease.file))
    }

    /// All topics, sorted by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicView<'_>> {
        self.topics.iter().map(|(topic, entry)| TopicView::new(topic, entry))
    }

    /// Unlinked regions of live owners, sorted by the names they had.
    pub(crate) fn unlinked(&self) -> impl Iterator<Item = TopicView<'_>> {
        self.nameless.iter().map(|((topic, _), entry)| TopicView::new(topic, entry))
    }

    /// One unlinked region.
    pub(crate) fn unlinked_topic(&self, key: &Key) -> Option<TopicView<'_>> {
        self.nameless.get_key_value(key).map(|((topic, _), entry)| TopicView::new(topic, entry))
    }

    /// One topic.
    pub(crate) fn topic(&self, topic: &TopicName) -> Option<TopicView<'_>> {
        self.topics.get_key_value(topic).map(|(topic, entry)| TopicView::new(topic, entry))
    }

    /// The regions whose locks are polled.
    pub(crate) fn watched_by_lock(&self) -> Vec<Key> {
        self.locked.iter().cloned().collect()
    }

    /// Whether any lock is polled.
    pub(crate) fn watches_locks(&self) -> bool {
        !self.locked.is_empty()
    }

    /// Subscribers of a file that hold a lease, with their records.
    pub(crate) fn subscribers_of(&self, file: FileId) -> impl Iterator<Item = (Option<u32>, &Process)> {
        let connections = self.subscribers.get(&file).into_iter().flatten();
        let leases = connections.filter_map(|connection| self.leases.get(connection));
        leases.filter_map(|lease| match lease.role {
            LeaseRole::Subscriber { record } => Some((record, &lease.process)),
            LeaseRole::Owner => None,
        })
    }

    /// All subscribers that hold a lease, in the order of arrival.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = (&TopicName, &Process)> {
        let subscribers = self.leases.values().filter(|lease| lease.role != LeaseRole::Owner);
        subscribers.map(|lease| (&lease.topic, &lease.process))
    }

    /// The connection that announced the topic's file before the file had its name.
    pub(crate) fn announcer_of(&self, topic: &TopicName) -> Option<ConnectionId> {
        match self.topics.get(topic)?.standing {
            Standing::Leased { connection } => Some(connection),
            Standing::Locked | Standing::Kept => None,
        }
    }
}

impl<'a> TopicView<'a> {
    fn new(name: &'a TopicName, topic: &'a RegistryEntry) -> Self {
        let liveness = match topic.standing {
            Standing::Leased { .. } => Liveness::Lease,
            Standing::Locked => Liveness::Lock,
            Standing::Kept => Liveness::None,
        };
        Self { name, file: topic.file, owner: topic.owner.as_ref(), liveness, is_overdue: topic.is_overdue }
    }
}
