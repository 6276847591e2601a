//! Owns the open regions, and what the daemon knows of each besides its registry entry.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use conduit::TopicName;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{FileId, ShmDir};
use tokio::task::spawn_blocking;

use crate::descriptors::{Charged, DescriptorUse, Descriptors};
use crate::limits::Places;
use crate::policy::Refusal;
use crate::reaping::HeldRegion;
use crate::registry::{ConnectionId, Key};
use crate::tasks;

/// Regions of one user that are closed at a time: closing the last descriptor frees the memory,
/// which can take long.
const CLOSINGS_PER_UID: usize = 4;

/// A region that the registry knows.
pub(crate) struct TrackedTopic {
    /// `None`: the file is open under another of its names, or its user has too many descriptors;
    /// it is opened whenever it is looked at.
    region: Option<Arc<HeldRegion>>,
    uid: u32,
    /// The number under which the process is watched that the region names as its owner, if no
    /// lease answers for the region. The end of that process proves nothing, but is a reason to
    /// check the lock.
    claimant: Option<ConnectionId>,
    /// Why the policy does not allow it.
    pub(crate) refusal: Option<Refusal>,
    /// Who probably removed its name, if its owner lives.
    pub(crate) unlinked_by: Option<String>,
}

/// All regions that the registry knows.
pub(crate) struct Topics {
    shm: Arc<ShmDir>,
    descriptors: Descriptors,
    tracked: RefCell<HashMap<Key, TrackedTopic>>,
    by_uid: RefCell<HashMap<u32, usize>>,
    names: RefCell<HashMap<FileId, BTreeSet<TopicName>>>,
    claims: RefCell<HashMap<ConnectionId, Key>>,
    closings: Rc<Places>,
}

impl Topics {
    pub(crate) fn new(shm: Arc<ShmDir>, descriptors: Descriptors) -> Self {
        let (tracked, by_uid, names, claims) = Default::default();
        Self { shm, descriptors, tracked, by_uid, names, claims, closings: Rc::new(Places::new(CLOSINGS_PER_UID)) }
    }

    /// Adds a region; if its name is back, the rest stays known.
    pub(crate) fn insert(&self, key: &Key, region: Region) -> Arc<HeldRegion> {
        let uid = region.uid();
        let is_open = self.is_open(key.1);
        let place = if is_open { None } else { self.descriptors.take(uid, DescriptorUse::Convenience).ok() };
        let is_kept_open = place.is_some();
        let region = Arc::new(match place {
            Some(place) => Charged::new(region, place),
            None => Charged::momentary(region),
        });
        let mut tracked = self.tracked.borrow_mut();
        let entry = tracked.entry(key.clone()).or_insert_with(|| {
            *self.by_uid.borrow_mut().entry(uid).or_default() += 1;
            self.names.borrow_mut().entry(key.1).or_default().insert(key.0.clone());
            TrackedTopic { region: None, uid, claimant: None, refusal: None, unlinked_by: None }
        });
        if is_kept_open {
            entry.region = Some(Arc::clone(&region));
        }
        region
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.tracked.borrow().keys().cloned().collect()
    }

    /// Regions of one user.
    pub(crate) fn count_of(&self, uid: u32) -> usize {
        self.by_uid.borrow().get(&uid).copied().unwrap_or(0)
    }

    /// Names of one file.
    pub(crate) fn names_of(&self, file: FileId) -> usize {
        self.names.borrow().get(&file).map_or(0, BTreeSet::len)
    }

    /// A region, to be looked at now. `None` if it is unknown, or if its name is gone and it is not
    /// kept open.
    pub(crate) fn region(&self, key: &Key) -> Option<Arc<HeldRegion>> {
        if let Some(open) = self.tracked.borrow().get(key)?.region.as_ref() {
            return Some(Arc::clone(open));
        }
        let region = Region::open_even_damaged(&self.shm, &key.0).ok().filter(|region| region.id() == key.1)?;
        Some(self.insert(key, region))
    }

    /// A file that is open, under whichever name.
    pub(crate) fn file(&self, key: &Key) -> Option<Arc<HeldRegion>> {
        let names = self.names.borrow().get(&key.1).cloned().unwrap_or_default();
        let tracked = self.tracked.borrow();
        let open = names.into_iter().find_map(|name| tracked.get(&(name, key.1))?.region.clone());
        drop(tracked);
        open.or_else(|| self.region(key))
    }

    fn is_open(&self, file: FileId) -> bool {
        let tracked = self.tracked.borrow();
        let names = self.names.borrow();
        let mut names = names.get(&file).into_iter().flatten();
        names.any(|name| tracked.get(&(name.clone(), file)).is_some_and(|topic| topic.region.is_some()))
    }

    /// Reads a region's entry.
    pub(crate) fn get<T>(&self, key: &Key, read: impl FnOnce(&TrackedTopic) -> T) -> Option<T> {
        self.tracked.borrow().get(key).map(read)
    }

    /// Changes a region's entry.
    pub(crate) fn update<T>(&self, key: &Key, change: impl FnOnce(&mut TrackedTopic) -> T) -> Option<T> {
        self.tracked.borrow_mut().get_mut(key).map(change)
    }

    /// The number under which a region's claimed owner is watched.
    pub(crate) fn claimant_of(&self, key: &Key) -> Option<ConnectionId> {
        self.get(key, |topic| topic.claimant).flatten()
    }

    /// Sets that number; returns the previous one.
    pub(crate) fn set_claimant(&self, key: &Key, claimant: Option<ConnectionId>) -> Option<ConnectionId> {
        let previous = self.update(key, |topic| std::mem::replace(&mut topic.claimant, claimant)).flatten();
        let mut claims = self.claims.borrow_mut();
        if let Some(previous) = previous {
            claims.remove(&previous);
        }
        if let Some(claimant) = claimant {
            claims.insert(claimant, key.clone());
        }
        previous
    }

    /// The region whose claimed owner is watched under this number.
    pub(crate) fn claimed_by(&self, connection: ConnectionId) -> Option<Key> {
        self.claims.borrow().get(&connection).cloned()
    }

    /// Forgets a region; returns its user and its claimant. Closing the file frees the region's
    /// memory, which can take long: not here.
    pub(crate) fn remove(&self, key: &Key) -> Option<(u32, Option<ConnectionId>)> {
        let TrackedTopic { region, uid, claimant, .. } = self.tracked.borrow_mut().remove(key)?;
        if let Some(claimant) = claimant {
            self.claims.borrow_mut().remove(&claimant);
        }
        let mut by_uid = self.by_uid.borrow_mut();
        match by_uid.get_mut(&uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_uid.remove(&uid)),
        }
        let mut names = self.names.borrow_mut();
        if let Some(of_file) = names.get_mut(&key.1) {
            of_file.remove(&key.0);
            if of_file.is_empty() {
                names.remove(&key.1);
            }
        }
        if let Some(region) = region {
            let closings = Rc::clone(&self.closings);
            tasks::spawn("closing", async move {
                let _place = closings.take(uid).await;
                let _ = spawn_blocking(move || drop(region)).await;
            });
        }
        Some((uid, claimant))
    }
}
