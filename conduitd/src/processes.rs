//! Owns the processes behind connections: the numbers of the connections, and the pidfd and groups
//! of each.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use conduit::registry::Process;

use crate::peer::{PeerProcess, Pidfd, is_dying};
use crate::process_watch::ProcessWatch;
use crate::registry::ConnectionId;

/// What is kept of a client that holds a lease, or of a process that claims a region.
#[derive(Default)]
struct ClientState {
    pidfd: Option<Arc<Pidfd>>,
    /// 0 if the process is not visible here.
    pid: u32,
    /// Of a client that has registered a region.
    gids: Option<Vec<u32>>,
}

/// The clients' processes, by connection.
pub(crate) struct Processes {
    pub(crate) watch: ProcessWatch,
    clients: RefCell<HashMap<ConnectionId, ClientState>>,
    last_connection: Cell<ConnectionId>,
}

impl Processes {
    pub(crate) fn new(watch: ProcessWatch) -> Self {
        Self { watch, clients: RefCell::default(), last_connection: Cell::default() }
    }

    /// A number for a new connection.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        self.last_connection.set(self.last_connection.get() + 1);
        self.last_connection.get()
    }

    /// Reserves the numbers up to this one for connections of the previous daemon.
    pub(crate) fn reserve_up_to(&self, last: ConnectionId) {
        self.last_connection.set(self.last_connection.get().max(last));
    }

    pub(crate) fn set_groups(&self, connection: ConnectionId, gids: &[u32]) {
        self.clients.borrow_mut().entry(connection).or_default().gids = Some(gids.to_vec());
    }

    /// The groups of a client that has registered a region.
    pub(crate) fn groups_of(&self, connection: ConnectionId) -> Option<Vec<u32>> {
        self.clients.borrow().get(&connection)?.gids.clone()
    }

    pub(crate) fn pidfd_of(&self, connection: ConnectionId) -> Option<Arc<Pidfd>> {
        self.clients.borrow().get(&connection)?.pidfd.clone()
    }

    /// Whether a client's process has ended or will never run again.
    pub(crate) fn is_dying(&self, connection: ConnectionId) -> bool {
        let clients = self.clients.borrow();
        let Some(ClientState { pidfd: Some(pidfd), pid, .. }) = clients.get(&connection) else { return false };
        is_dying(pidfd, *pid)
    }

    /// The pid of a client's process; 0 if it is not visible here.
    pub(crate) fn pid_of(&self, connection: ConnectionId) -> u32 {
        self.clients.borrow().get(&connection).map_or(0, |client| client.pid)
    }

    /// Watches a client's process, if the kernel gave its pidfd.
    pub(crate) fn watch_peer(&self, connection: ConnectionId, peer: &PeerProcess) {
        if let Some(pidfd) = &peer.pidfd {
            self.watch(connection, pidfd, &peer.process);
        }
    }

    pub(crate) fn watch(&self, connection: ConnectionId, pidfd: &Arc<Pidfd>, process: &Process) {
        let mut clients = self.clients.borrow_mut();
        let client = clients.entry(connection).or_default();
        client.pid = process.pid;
        if client.pidfd.replace(Arc::clone(pidfd)).is_none()
            && let Err(error) = self.watch.watch(connection, pidfd, process.pid)
        {
            // The end of the connection is reported too, unless a forked child keeps it open.
            tracing::warn!("cannot watch process {process}: {error}");
        }
    }

    pub(crate) fn forget(&self, connection: ConnectionId) {
        self.watch.forget(connection);
        self.clients.borrow_mut().remove(&connection);
    }
}
