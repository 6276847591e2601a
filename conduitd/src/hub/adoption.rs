//! Adopts what a new daemon finds: the directory's contents, and the clients of the previous
//! daemon.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use conduit::TopicName;
use conduit::internal::shm::dir::DirEntry;
use conduit::registry::EventKind;
use rustix::fs::inotify::ReadFlags;
use tokio::net::UnixStream;

use super::Hub;
use crate::directory::NameChange;
use crate::event_log::event;
use crate::holding::{Holding, ReturningClient};
use crate::limits::Admission;
use crate::peer::PeerProcess;
use crate::registry::{ConnectionId, LeaseRole};
use crate::sockets::{has_hung_up, is_drained};
use crate::watchers::EventReceiver;

/// A client of the previous daemon, readmitted.
pub(crate) struct ResumedClient {
    pub(crate) id: ConnectionId,
    pub(crate) peer: PeerProcess,
    pub(crate) admission: Admission,
    pub(crate) holding: Holding,
    pub(crate) stream: UnixStream,
    /// Of a watcher.
    pub(crate) events: Option<EventReceiver>,
}

impl Hub {
    /// Adopts the directory's contents and the clients of the previous daemon.
    ///
    /// To the clients only real changes are reported. Hence the order: leases of files come before
    /// the names that stand for the files, so that they count as announced before; watchers come
    /// after all that they know of, and before the changes that the kernel recorded meanwhile.
    pub(crate) fn adopt(self: &Rc<Self>, clients: Vec<ReturningClient>) -> io::Result<Vec<ResumedClient>> {
        self.processes.reserve_up_to(clients.last().map_or(0, |client| client.id));
        let mut clients: Vec<ResumedClient> = clients.into_iter().filter_map(|client| self.readmit(client)).collect();
        for client in &clients {
            if let Holding::Lease { topic, file, role: LeaseRole::Owner, is_late: false } = &client.holding {
                self.resume(client.id, &client.peer, (topic.clone(), *file), LeaseRole::Owner);
            }
        }
        let mut changed: BTreeMap<TopicName, ReadFlags> = BTreeMap::new();
        for NameChange { entry, first, .. } in self.directory.missed_changes() {
            if let Some(DirEntry::Region(topic)) = entry {
                changed.insert(topic, first);
            }
        }
        self.scan(|topic| changed.contains_key(topic))?;
        for client in &mut clients {
            self.resume_client(client);
        }
        for (topic, first) in changed {
            if first.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                self.report_missed_end(&topic, &clients);
            }
            self.take_in_change(&topic, first);
        }
        // Some may have begun to while no daemon listened.
        self.processes.watch.look_for_dumps();
        Ok(clients)
    }

    /// Admits a client of the previous daemon; `None` if the limits are narrower now.
    fn readmit(&self, ReturningClient { id, holding, stream }: ReturningClient) -> Option<ResumedClient> {
        let peer = PeerProcess::of(&stream).ok()?;
        stream.set_nonblocking(true).ok()?;
        let stream = UnixStream::from_std(stream).ok()?;
        let uid = peer.process.uid;
        let admission = match self.accounts.admit(uid) {
            Ok(admission) => admission,
            Err(error) => {
                tracing::warn!(conduit.uid = uid, "a client of the previous daemon is disconnected: {error}");
                return None;
            }
        };
        let peer = match &holding {
            Holding::Lease { .. } => peer.with_pidfd(&stream, &self.descriptors).with_groups(&stream),
            Holding::Watch(_) | Holding::Nothing => peer,
        };
        Some(ResumedClient { id, peer, admission, holding, stream, events: None })
    }

    /// Resumes what a client holds, except the leases that were resumed before the scan.
    fn resume_client(&self, client: &mut ResumedClient) {
        match &client.holding {
            Holding::Lease { topic, file, role: role @ LeaseRole::Subscriber { .. }, .. } => {
                self.resume(client.id, &client.peer, (topic.clone(), *file), *role);
            }
            Holding::Lease { topic, file, role: LeaseRole::Owner, is_late: true } => {
                self.resume_late(client.id, &client.peer, topic.clone(), *file);
            }
            Holding::Watch(filter) => {
                let charge = client.admission.charge();
                client.events = Some(self.watchers.resume(client.id, filter.clone(), charge));
            }
            Holding::Lease { .. } | Holding::Nothing => {}
        }
    }

    /// A topic that the watchers know of has ended while no daemon ran: its owner's connection
    /// tells whether it died.
    fn report_missed_end(self: &Rc<Self>, topic: &TopicName, clients: &[ResumedClient]) {
        let is_owner = |client: &&ResumedClient| matches!(&client.holding, Holding::Lease { topic: of, role: LeaseRole::Owner, .. } if of == topic);
        let owner = clients.iter().find(is_owner);
        let process = owner.map(|owner| owner.peer.process.clone());
        // An owner that closed its topic has sent a Release, which is not read yet.
        match owner.filter(|owner| has_hung_up(&owner.stream) && is_drained(&owner.stream)) {
            None => self.publish(event(EventKind::Closed, topic, process)),
            Some(owner) => self.report_death(EventKind::Died, topic.clone(), process, owner.peer.pidfd.clone()),
        }
    }
}
