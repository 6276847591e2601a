//! Owns the account of the daemon's descriptors, by the users who cause them to be open: no user
//! can take those that others need.
//!
//! A part is never given away. With it the daemon accepts clients in order to refuse them, reads
//! `/proc`, looks at regions that it does not keep open, and reaps.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Descriptors for the daemon itself, and for the moment. Of few descriptors, five of eight.
const RESERVE: usize = 96;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorUse {
    /// A client's connection. Without a descriptor the client is refused.
    Connection,
    /// A region or a process. Without a descriptor the region is opened whenever it is looked at,
    /// and the process is watched by its connection or lock alone.
    Convenience,
}

/// The account of all users.
#[derive(Clone, Debug)]
pub(crate) struct Descriptors(Arc<DescriptorAccount>);

#[derive(Debug)]
struct DescriptorAccount {
    /// To be given away.
    total: usize,
    held: Mutex<HeldDescriptors>,
}

#[derive(Debug, Default)]
struct HeldDescriptors {
    all: usize,
    by_uid: HashMap<u32, usize>,
}

/// A descriptor on a user's account, given back when dropped.
#[derive(Debug)]
pub(crate) struct DescriptorPlace {
    account: Arc<DescriptorAccount>,
    uid: u32,
}

impl Descriptors {
    /// `limit`: descriptors that this process may have open.
    pub(crate) fn new(limit: usize) -> Self {
        let total = limit.saturating_sub(RESERVE).max(limit * 3 / 8);
        Self(Arc::new(DescriptorAccount { total, held: Mutex::default() }))
    }

    /// Those that users may have.
    pub(crate) fn total(&self) -> usize {
        self.0.total
    }

    /// How many connections more a user may have.
    pub(crate) fn further_of(&self, uid: u32) -> usize {
        let held = self.0.held();
        let of_uid = held.by_uid.get(&uid).copied().unwrap_or(0);
        (self.0.total.saturating_sub(held.all).saturating_sub(of_uid)).div_ceil(2)
    }

    /// Takes a descriptor on a user's account. No user has more than are left for the others; of
    /// those that can be done without, a quarter.
    ///
    /// # Errors
    /// How many the user has, if these are too many.
    pub(crate) fn take(&self, uid: u32, purpose: DescriptorUse) -> Result<DescriptorPlace, usize> {
        let mut held = self.0.held();
        let left = self.0.total.saturating_sub(held.all);
        let of_uid = held.by_uid.get(&uid).copied().unwrap_or(0);
        let weight = match purpose {
            DescriptorUse::Connection => 1,
            DescriptorUse::Convenience => 4,
        };
        if of_uid * weight >= left {
            return Err(of_uid);
        }
        held.all += 1;
        held.by_uid.insert(uid, of_uid + 1);
        Ok(DescriptorPlace { account: Arc::clone(&self.0), uid })
    }
}

impl DescriptorAccount {
    fn held(&self) -> MutexGuard<'_, HeldDescriptors> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DescriptorPlace {
    fn drop(&mut self) {
        let mut held = self.account.held();
        held.all -= 1;
        let left = held.by_uid.get(&self.uid).map_or(0, |of_uid| of_uid - 1);
        if left == 0 {
            held.by_uid.remove(&self.uid);
        } else {
            held.by_uid.insert(self.uid, left);
        }
    }
}

/// Something with a descriptor, and the place of that descriptor on a user's account.
#[derive(Debug)]
pub(crate) struct Charged<T> {
    inner: T,
    /// `None`: open for a moment only, out of the reserve.
    _place: Option<DescriptorPlace>,
}

impl<T> Charged<T> {
    pub(crate) fn new(inner: T, place: DescriptorPlace) -> Self {
        Self { inner, _place: Some(place) }
    }

    pub(crate) fn momentary(inner: T) -> Self {
        Self { inner, _place: None }
    }
}

impl<T> Deref for Charged<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsFd> AsFd for Charged<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(account: &Descriptors, uid: u32, purpose: DescriptorUse) -> Vec<DescriptorPlace> {
        std::iter::from_fn(|| account.take(uid, purpose).ok()).collect()
    }

    #[test]
    fn no_user_has_more_than_are_left_for_others() {
        let account = Descriptors::new(RESERVE + 240);
        let regions = fill(&account, 1, DescriptorUse::Convenience);
        assert_eq!(regions.len(), 48);
        let connections = fill(&account, 1, DescriptorUse::Connection);
        assert_eq!(connections.len(), 72, "connections have room where conveniences have none");
        assert_eq!((account.further_of(1), account.further_of(2)), (0, 60));
        assert_eq!(account.take(1, DescriptorUse::Connection).unwrap_err(), 120);
        assert_eq!(fill(&account, 2, DescriptorUse::Connection).len(), 60);
        assert_eq!(fill(&account, 3, DescriptorUse::Connection).len(), 60, "the second user has left");
        drop((regions, connections));
        assert_eq!(account.0.held().all, 0);
        assert!(account.0.held().by_uid.is_empty());
    }

    #[test]
    fn few_descriptors_are_divided_too() {
        assert_eq!(Descriptors::new(1024).total(), 928);
        assert_eq!(Descriptors::new(64).total(), 24);
        assert_eq!(fill(&Descriptors::new(64), 1, DescriptorUse::Connection).len(), 12);
    }
}
