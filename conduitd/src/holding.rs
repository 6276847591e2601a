//! What a connection holds at the registry: all that the next daemon must know of it to continue
//! it.

use std::os::unix::net::UnixStream;

use conduit::TopicName;
use conduit::internal::shm::dir::FileId;

use crate::registry::{ConnectionId, LeaseRole};
use crate::watchers::EventFilter;

/// What a connection holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Nothing: its client sends a query now and then.
    Nothing,
    /// A lease. `is_late`: the file had its name before it was announced.
    Lease { topic: TopicName, file: FileId, role: LeaseRole, is_late: bool },
    /// A watch.
    Watch(EventFilter),
}

/// A client of the previous daemon.
#[derive(Debug)]
pub(crate) struct ReturningClient {
    pub(crate) id: ConnectionId,
    pub(crate) holding: Holding,
    pub(crate) stream: UnixStream,
}
