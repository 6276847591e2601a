//! Subscribers as their regions prove them: a client that attaches may open the region, and the
//! record that it names is in use.

use conduit::inspect::Region;
use conduit::internal::shm::lock::LockByte;
use conduit::registry::{Process, RegistryError};
use rustix::fs::fgetxattr;
use rustix::io::Errno;

use super::Hub;
use super::queries::not_found;
use crate::peer::PeerProcess;
use crate::registry::{Key, identify};

/// Permission bits.
const READ: u32 = 4;
const READ_WRITE: u32 = 6;

impl Hub {
    /// Checks that a client may subscribe as it says: else it would be shown as a subscriber that
    /// does not exist.
    pub(super) fn check_subscriber(
        &self,
        peer: &PeerProcess,
        key: &Key,
        record: Option<u32>,
    ) -> Result<(), RegistryError> {
        let region = self.topics.region(key).ok_or_else(|| not_found(&key.0))?;
        let refuse = |reason| {
            let reason = format!("pid {} cannot subscribe to topic \"{}\": {reason}", peer.process.pid, key.0);
            Err(RegistryError::Failed { reason })
        };
        match record {
            None if may_open(&region, peer, READ) => Ok(()),
            None => refuse("it may not read the region"),
            Some(record) if !is_in_use(&region, record) => refuse("nobody holds the record that it names"),
            Some(record) if may_open(&region, peer, READ_WRITE) || is_of(&region, record, peer.process.uid) => Ok(()),
            Some(_) => refuse("it may not write the region"),
        }
    }

    /// A subscriber in a pid namespace that is not visible here is identified by its record.
    pub(super) fn identify_subscriber(&self, process: &Process, key: &Key, record: Option<u32>) -> Process {
        let region = self.topics.region(key).filter(|_| process.pid == 0);
        let subscribers = region.and_then(|region| region.counters()).map(|counters| counters.subscribers);
        let mut recorded = subscribers.into_iter().flatten();
        let claimed = recorded.find(|(index, _)| u32::try_from(*index).ok() == record);
        let claimed = claimed.map(|(_, one)| Process::new(one.pid, one.uid, one.program));
        identify(process, claimed.as_ref())
    }
}

fn is_in_use(region: &Region, record: u32) -> bool {
    LockByte::attached(record as usize).is_write_locked(region).unwrap_or(false)
}

/// Whether a record says that it is this user's.
fn is_of(region: &Region, record: u32, uid: u32) -> bool {
    let subscribers = region.counters().map(|counters| counters.subscribers).unwrap_or_default();
    subscribers.iter().any(|(index, one)| u32::try_from(*index) == Ok(record) && one.uid == uid)
}

/// Whether a process may open a region, by its mode. Of an access control list nothing is known: it
/// is the owner's, who may have admitted the process.
fn may_open(region: &Region, peer: &PeerProcess, wanted: u32) -> bool {
    let Ok((gid, mode)) = region.access() else { return false };
    let uid = peer.process.uid;
    let granted = match uid {
        _ if uid == region.uid() => mode >> 6,
        _ if peer.gids.contains(&gid) => mode >> 3,
        _ => mode,
    };
    let has_list = || {
        let list = fgetxattr(region, "system.posix_acl_access", &mut [0u8; 4][..]);
        matches!(list, Ok(_) | Err(Errno::RANGE))
    };
    uid == 0 || granted & wanted == wanted || has_list()
}
