//! Owns the open regions, and what the daemon knows of each besides its registry entry.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use conduit::inspect::Region;
use tokio::task::spawn_blocking;

use crate::policy::Refusal;
use crate::registry::{ConnectionId, Key};

/// A region that the registry knows.
struct TrackedTopic {
    region: Arc<Region>,
    /// The number under which the process is watched that the region names as its owner, if no
    /// lease answers for the region. The end of that process proves nothing, but is a reason to
    /// check the lock.
    claimant: Option<ConnectionId>,
    /// Why the policy does not allow it.
    refusal: Option<Refusal>,
    /// Who probably removed its name, if its owner lives.
    unlinked_by: Option<String>,
}

/// All regions that the registry knows.
#[derive(Default)]
pub(crate) struct Topics(RefCell<HashMap<Key, TrackedTopic>>);

impl Topics {
    /// Adds a region; if its name is back, the rest stays known.
    pub(crate) fn insert(&self, key: Key, region: Arc<Region>) {
        let mut topics = self.0.borrow_mut();
        match topics.get_mut(&key) {
            Some(topic) => topic.region = region,
            None => {
                topics.insert(key, TrackedTopic { region, claimant: None, refusal: None, unlinked_by: None });
            }
        }
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.0.borrow().keys().cloned().collect()
    }

    pub(crate) fn region(&self, key: &Key) -> Option<Arc<Region>> {
        self.0.borrow().get(key).map(|topic| Arc::clone(&topic.region))
    }

    pub(crate) fn claimant(&self, key: &Key) -> Option<ConnectionId> {
        self.0.borrow().get(key)?.claimant
    }

    /// The region whose claimed owner is watched under this number.
    pub(crate) fn claimed_by(&self, connection: ConnectionId) -> Option<Key> {
        let topics = self.0.borrow();
        let mut claimed = topics.iter().filter(|(_, topic)| topic.claimant == Some(connection));
        claimed.next().map(|(key, _)| key.clone())
    }

    /// Returns the previous claimant.
    pub(crate) fn set_claimant(&self, key: &Key, claimant: Option<ConnectionId>) -> Option<ConnectionId> {
        let mut topics = self.0.borrow_mut();
        topics.get_mut(key).and_then(|topic| std::mem::replace(&mut topic.claimant, claimant))
    }

    pub(crate) fn refusal(&self, key: &Key) -> Option<Refusal> {
        self.0.borrow().get(key)?.refusal.clone()
    }

    pub(crate) fn set_refusal(&self, key: &Key, refusal: Option<Refusal>) {
        if let Some(topic) = self.0.borrow_mut().get_mut(key) {
            topic.refusal = refusal;
        }
    }

    pub(crate) fn unlinked_by(&self, key: &Key) -> Option<String> {
        self.0.borrow().get(key)?.unlinked_by.clone()
    }

    pub(crate) fn set_unlinked_by(&self, key: &Key, reason: String) {
        if let Some(topic) = self.0.borrow_mut().get_mut(key) {
            topic.unlinked_by = Some(reason);
        }
    }

    /// Forgets a region and returns its claimant. Unmapping frees the region's memory, which can
    /// take long: not here.
    pub(crate) fn remove(&self, key: &Key) -> Option<ConnectionId> {
        let TrackedTopic { region, claimant, .. } = self.0.borrow_mut().remove(key)?;
        spawn_blocking(move || drop(region));
        claimant
    }
}
