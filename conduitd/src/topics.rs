//! Owns the open regions, and what the daemon knows of each besides its registry entry.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use conduit::inspect::Region;
use tokio::task::spawn_blocking;

use crate::policy::Refusal;
use crate::registry::{ConnectionId, Key};

/// A region that the registry knows.
pub(crate) struct TrackedTopic {
    region: Arc<Region>,
    /// The number under which the process is watched that the region names as its owner, if no
    /// lease answers for the region. The end of that process proves nothing, but is a reason to
    /// check the lock.
    pub(crate) claimant: Option<ConnectionId>,
    /// Why the policy does not allow it.
    pub(crate) refusal: Option<Refusal>,
    /// Who probably removed its name, if its owner lives.
    pub(crate) unlinked_by: Option<String>,
}

/// All regions that the registry knows.
#[derive(Default)]
pub(crate) struct Topics(RefCell<HashMap<Key, TrackedTopic>>);

impl Topics {
    /// Adds a region; if its name is back, the rest stays known.
    pub(crate) fn insert(&self, key: Key, region: Arc<Region>) {
        let new = TrackedTopic { region: Arc::clone(&region), claimant: None, refusal: None, unlinked_by: None };
        self.0.borrow_mut().entry(key).or_insert(new).region = region;
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.0.borrow().keys().cloned().collect()
    }

    pub(crate) fn region(&self, key: &Key) -> Option<Arc<Region>> {
        self.get(key, |topic| Arc::clone(&topic.region))
    }

    /// Reads a region's entry.
    pub(crate) fn get<T>(&self, key: &Key, read: impl FnOnce(&TrackedTopic) -> T) -> Option<T> {
        self.0.borrow().get(key).map(read)
    }

    /// Changes a region's entry.
    pub(crate) fn update<T>(&self, key: &Key, change: impl FnOnce(&mut TrackedTopic) -> T) -> Option<T> {
        self.0.borrow_mut().get_mut(key).map(change)
    }

    /// The region whose claimed owner is watched under this number.
    pub(crate) fn claimed_by(&self, connection: ConnectionId) -> Option<Key> {
        let topics = self.0.borrow();
        let mut claimed = topics.iter().filter(|(_, topic)| topic.claimant == Some(connection));
        claimed.next().map(|(key, _)| key.clone())
    }

    /// Forgets a region and returns its claimant. Unmapping frees the region's memory, which can
    /// take long: not here.
    pub(crate) fn remove(&self, key: &Key) -> Option<ConnectionId> {
        let TrackedTopic { region, claimant, .. } = self.0.borrow_mut().remove(key)?;
        spawn_blocking(move || drop(region));
        claimant
    }
}
