//! The process at the other end of a socket, as the kernel identifies it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use conduit::internal::shm::dying::dying;
use conduit::internal::shm::process::command_name;
use conduit::internal::shm::socket::peer_groups;
use conduit::registry::Process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

use crate::descriptors::{Charged, DescriptorUse, Descriptors};

/// A process that is being watched.
pub(crate) type Pidfd = Charged<OwnedFd>;

/// The process at the other end of a socket.
#[derive(Clone, Debug)]
pub(crate) struct PeerProcess {
    pub(crate) process: Process,
    pub(crate) pidfd: Option<Arc<Pidfd>>,
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

    /// Adds the pidfd. There is none before Linux 6.5, if the process has ended, or if its user has
    /// too many descriptors.
    pub(crate) fn with_pidfd(self, socket: impl AsRef<UnixStream>, descriptors: &Descriptors) -> Self {
        let place = descriptors.take(self.process.uid, DescriptorUse::Convenience).ok();
        let pidfd = place.and_then(|place| {
            let pidfd = getsockopt(socket.as_ref(), sockopt::PeerPidfd).ok()?;
            Some(Arc::new(Charged::new(pidfd, place)))
        });
        Self { pidfd, ..self }
    }

    /// Adds the supplementary groups, which only a policy needs.
    pub(crate) fn with_groups(mut self, socket: impl AsRef<UnixStream>) -> Self {
        self.gids.extend(peer_groups(socket.as_ref()).unwrap_or_default());
        self
    }
}

/// Whether the process behind a pidfd has ended.
pub(crate) fn has_exited(pidfd: &Pidfd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whether the process behind a pidfd, which has this pid, has ended or will never run again.
pub(crate) fn is_dying(pidfd: &Pidfd, pid: u32) -> bool {
    // In this order: a process that has not ended afterwards had the pid before.
    let is_dying = dying(pid).is_some();
    has_exited(pidfd) || is_dying
}
