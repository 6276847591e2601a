//! Leases: granted, resumed, released, ended.

use std::rc::Rc;

use conduit::TopicName;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::FileId;
use conduit::registry::RegistryError;

use super::Hub;
use crate::holding::Holding;
use crate::peer::PeerProcess;
use crate::policy::FileFacts;
use crate::registry::{ConnectionId, Key, LeaseRole};

impl Hub {
    /// `Register`: a process is about to name a file.
    pub(crate) fn register(
        self: &Rc<Self>,
        connection: ConnectionId,
        peer: &PeerProcess,
        topic: TopicName,
        file: FileId,
        announced: FileFacts,
    ) -> Result<Holding, RegistryError> {
        self.settle(&topic);
        self.authorise(&topic, peer, announced)?;
        self.processes.set_groups(connection, &peer.gids);
        self.invalidate_answers();
        let is_late = self.registry.borrow().file_of(&topic) == Some(file);
        self.registry.borrow_mut().register(connection, peer.process.clone(), topic.clone(), file)?;
        self.processes.watch_peer(connection, peer);
        Ok(Holding::Lease { topic, file, role: LeaseRole::Owner, is_late })
    }

    /// `Attach`: a process subscribes.
    pub(crate) fn attach(
        self: &Rc<Self>,
        connection: ConnectionId,
        peer: &PeerProcess,
        topic: TopicName,
        file: FileId,
        record: Option<u32>,
    ) -> Result<Holding, RegistryError> {
        self.settle(&topic);
        let key = (topic.clone(), file);
        // A call that is repeated may come after the name is gone.
        if self.registry.borrow().lease_of(connection).is_none() {
            self.check_subscriber(peer, &key, record)?;
        }
        let process = self.identify_subscriber(&peer.process, &key, record);
        let changes = self.registry.borrow_mut().attach(connection, process, topic.clone(), file, record)?;
        self.processes.watch_peer(connection, peer);
        self.carry_out(changes);
        Ok(Holding::Lease { topic, file, role: LeaseRole::Subscriber { record }, is_late: false })
    }

    /// Continues a lease that the previous daemon granted. Reports nothing.
    pub(super) fn resume(&self, connection: ConnectionId, peer: &PeerProcess, key: Key, role: LeaseRole) {
        if role == LeaseRole::Owner {
            self.processes.set_groups(connection, &peer.gids);
        }
        self.registry.borrow_mut().resume(connection, peer.process.clone(), key, role);
        self.processes.watch_peer(connection, peer);
    }

    /// Continues the lease of a file that had its name before it was announced.
    pub(super) fn resume_late(&self, connection: ConnectionId, peer: &PeerProcess, topic: TopicName, file: FileId) {
        self.processes.set_groups(connection, &peer.gids);
        let resumed = self.registry.borrow_mut().register(connection, peer.process.clone(), topic, file);
        if resumed.is_ok() {
            self.processes.watch_peer(connection, peer);
        }
    }

    /// `Release`: the client's lease ends cleanly.
    pub(crate) fn release(self: &Rc<Self>, connection: ConnectionId) {
        let Some(key) = self.settle_lease(connection) else { return };
        self.invalidate_answers();
        let changes = self.registry.borrow_mut().release(connection);
        self.processes.forget(connection);
        self.carry_out(changes);
        // A raw region is kept from now on.
        self.poll_lock(&key);
        self.forget_unless_known(&key);
    }

    /// A watched process has ended: a client, or the claimed owner of a region.
    pub(super) fn exited(self: &Rc<Self>, connection: ConnectionId) {
        let Some(key) = self.topics.claimed_by(connection) else { return self.ended(connection) };
        self.poll_lock(&key);
        let region = self.topics.file(&key);
        if region.is_some_and(|region| region.owner_lives().unwrap_or(true)) {
            // The process had the claimed pid but is not the owner: it must not be on the owner's
            // certificate.
            self.topics.set_claimant(&key, None);
            self.processes.forget(connection);
        }
    }

    /// Takes in what has become of the name of a connection's lease, before the lease ends.
    fn settle_lease(self: &Rc<Self>, connection: ConnectionId) -> Option<Key> {
        let key = self.registry.borrow().lease_of(connection)?;
        self.settle(&key.0);
        Some(key)
    }

    /// A watched process begins to dump core: it will never run again, though its lock, its pid and
    /// its connection last until the dump is complete.
    pub(super) fn begins_to_dump(self: &Rc<Self>, connection: ConnectionId) {
        match self.topics.claimed_by(connection) {
            None => self.ended(connection),
            // The reaper finds out whether the process is the owner.
            Some(key) => {
                let changes = self.registry.borrow_mut().lock_is_free(&key);
                self.carry_out(changes);
            }
        }
    }

    /// Whether the owner of a region will never run again, although its lock may be held.
    pub(super) fn owner_is_dying(&self, key: &Key, region: &Region) -> bool {
        let announcer = self.registry.borrow().announcer_of(&key.0);
        announcer.is_some_and(|announcer| self.processes.is_dying(announcer)) || region.dying_owner().is_some()
    }

    /// A connection or its process has ended.
    pub(crate) fn ended(self: &Rc<Self>, connection: ConnectionId) {
        self.settle_lease(connection);
        self.watchers.remove(connection);
        let changes = self.registry.borrow_mut().ended(connection);
        if !changes.is_empty() {
            self.invalidate_answers();
        }
        self.carry_out(changes);
        self.processes.forget(connection);
    }
}
