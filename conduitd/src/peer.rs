//! The process at the other end of a socket, as the kernel identifies it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use conduit::internal::shm::process::command_name;
use conduit::internal::shm::socket::peer_groups;
use conduit::registry::Process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

/// The process at the other end of a socket.
#[derive(Clone, Debug)]
pub(crate) struct PeerProcess {
    pub(crate) process: Process,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    /// Its group, then its supplementary groups if they were asked for.
    pub(crate) gids: Vec<u32>,
}

impl PeerProcess {
    /// Asks the kernel for the peer's credentials: nothing here is the peer's own claim.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        let pid = u32::try_from(credentials.pid()).unwrap_or(0);
        let program = command_name(pid).unwrap_or_default();
        let gids = vec![credentials.gid()];
        Ok(Self { process: Process::new(pid, credentials.uid(), program), pidfd: None, gids })
    }

    /// Adds the pidfd. There is none before Linux 6.5, or if the process has ended.
    pub(crate) fn with_pidfd(self, socket: impl AsRef<UnixStream>) -> Self {
        let pidfd = getsockopt(socket.as_ref(), sockopt::PeerPidfd).ok().map(Arc::new);
        Self { pidfd, ..self }
    }

    /// Adds the supplementary groups, which only a policy needs.
    pub(crate) fn with_groups(mut self, socket: impl AsRef<UnixStream>) -> Self {
        self.gids.extend(peer_groups(socket.as_ref()).unwrap_or_default());
        self
    }
}

/// Whether the process behind a pidfd has ended.
pub(crate) fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
