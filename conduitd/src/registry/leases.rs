//! Inputs about leases: announced, granted, released, ended.

use conduit::TopicName;
use conduit::internal::shm::dir::FileId;
use conduit::registry::{EventKind, Process, RegistryError};

use super::{Change, ConnectionId, Key, LeaseRecord, LeaseRole, RegistryState, Standing, identify};

impl RegistryState {
    /// A process announces a file that it is about to name.
    ///
    /// Several processes may announce the same file: the owner of the file, known when it appears,
    /// decides which counts.
    pub(crate) fn register(
        &mut self,
        connection: ConnectionId,
        process: Process,
        topic: TopicName,
        file: FileId,
    ) -> Result<(), RegistryError> {
        if self.has_lease(connection, &topic, file, LeaseRole::Owner)? {
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
        self.grant(connection, LeaseRecord { topic, file, role: LeaseRole::Owner, process });
        Ok(())
    }

    /// A lease that the previous daemon granted continues; nothing is reported.
    pub(crate) fn resume(&mut self, connection: ConnectionId, process: Process, key: Key, role: LeaseRole) {
        let (topic, file) = key;
        self.grant(connection, LeaseRecord { topic, file, role, process });
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
        let role = LeaseRole::Subscriber { record };
        if self.has_lease(connection, &topic, file, role)? {
            return Ok(Vec::new());
        }
        if self.file_of(&topic) != Some(file) {
            return Err(RegistryError::TopicNotFound { topic: topic.to_string() });
        }
        self.grant(connection, LeaseRecord { topic: topic.clone(), file, role, process: process.clone() });
        Ok(vec![Change::Event { kind: EventKind::Subscribed, topic, process: Some(process) }])
    }

    /// Whether the connection has this very lease already: a client may repeat its call. Another
    /// lease is an error.
    fn has_lease(
        &self,
        connection: ConnectionId,
        topic: &TopicName,
        file: FileId,
        role: LeaseRole,
    ) -> Result<bool, RegistryError> {
        match self.leases.get(&connection) {
            None => Ok(false),
            Some(lease) if lease.file == file && lease.role == role && lease.topic == *topic => Ok(true),
            Some(lease) => Err(RegistryError::LeaseInUse { topic: lease.topic.to_string() }),
        }
    }

    /// A client releases its lease. The owner of a topic has removed the name before; a raw region
    /// is kept.
    pub(crate) fn release(&mut self, connection: ConnectionId) -> Vec<Change> {
        let Some(lease) = self.revoke(connection) else { return Vec::new() };
        let LeaseRecord { topic, file, role, process } = lease;
        match role {
            LeaseRole::Subscriber { .. } => {
                vec![Change::Event { kind: EventKind::Unsubscribed, topic, process: Some(process) }]
            }
            LeaseRole::Owner => {
                let key = (topic, file);
                if let Some(entry) = self.entry(&key)
                    && entry.standing == (Standing::Leased { connection })
                {
                    // Only the file says whether it is kept; the next poll of its lock reads that.
                    entry.standing = Standing::Locked;
                    self.settle(&key);
                }
                Vec::new()
            }
        }
    }

    /// A connection has ended without a release, or its process has.
    pub(crate) fn ended(&mut self, connection: ConnectionId) -> Vec<Change> {
        let Some(lease) = self.revoke(connection) else { return Vec::new() };
        let LeaseRecord { topic, file, role, process } = lease;
        match role {
            LeaseRole::Subscriber { .. } => vec![Change::SubscriberDied { topic, process, connection }],
            LeaseRole::Owner => self.owner_ended(connection, &(topic, file), process.uid).into_iter().collect(),
        }
    }

    fn owner_ended(&mut self, connection: ConnectionId, key: &Key, uid: u32) -> Option<Change> {
        let entry = self.entry(key)?;
        match entry.standing {
            Standing::Leased { connection: owner } if owner == connection => self.suspect(key, None),
            // A late registration proves nothing, but its end is a reason to check the lock.
            Standing::Locked if entry.uid == uid => self.suspect(key, Some(connection)),
            _ => None,
        }
    }
}
