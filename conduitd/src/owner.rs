//! Watching processes end and the directory change: one thread on one epoll instance.
//!
//! A process is watched through its pidfd ([`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)), which the kernel gave
//! us for the peer of a socket; a pid alone could by now be another process.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use conduit::internal::shm::process::command_name;
use conduit::internal::shm::socket::peer_groups;
use conduit::registry::Process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::sync::mpsc;

use crate::registry::ConnectionId;

/// What the thread saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The process behind a connection has ended.
    Exited(ConnectionId),
    /// Something in the directory has changed.
    DirectoryChanged,
    /// The thread was asked whether it is there.
    Awake,
}

/// The process at the other end of a socket.
#[derive(Clone, Debug)]
pub(crate) struct PeerProcess {
    pub(crate) process: Process,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    /// All its groups.
    pub(crate) gids: Vec<u32>,
}

impl PeerProcess {
    /// Asks the kernel who is at the other end: nothing here is the peer's own word.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        let pid = u32::try_from(credentials.pid()).unwrap_or(0);
        let program = command_name(pid).unwrap_or_default();
        let gids = vec![credentials.gid()];
        Ok(Self { process: Process { pid, uid: credentials.uid(), program }, pidfd: None, gids })
    }

    /// Takes hold of the process itself. Kernels before 6.5 do not give it, nor one that is gone already.
    pub(crate) fn with_pidfd(self, socket: impl AsRef<tokio::net::UnixStream>) -> Self {
        let pidfd = getsockopt(socket.as_ref(), sockopt::PeerPidfd).ok().map(Arc::new);
        Self { pidfd, ..self }
    }

    /// Asks for the supplementary groups too, which only a policy wants to know.
    pub(crate) fn with_groups(mut self, socket: impl AsRef<tokio::net::UnixStream>) -> Self {
        self.gids.extend(peer_groups(socket.as_ref()).unwrap_or_default());
        self
    }
}

/// Whether the process behind a pidfd has ended.
pub(crate) fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

const DIRECTORY: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const ASKED: u64 = u64::MAX - 2;

/// The watching thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ProcessWatch {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    stop: EventFd,
    asked: EventFd,
    /// Keeps the pidfds open while they are watched.
    pidfds: Mutex<HashMap<ConnectionId, Arc<OwnedFd>>>,
}

impl ProcessWatch {
    /// Starts the thread. `directory` becomes readable when the directory changes.
    pub(crate) fn start(directory: &impl AsFd) -> io::Result<(Self, mpsc::UnboundedReceiver<Notice>)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // By edge: whoever reads the directory's events does so when it likes.
        epoll.add(directory, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, DIRECTORY))?;
        let stop = EventFd::new()?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let asked = EventFd::new()?;
        // By edge: every question is one, and nobody counts them.
        epoll.add(&asked, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, ASKED))?;
        let shared = Arc::new(Shared { epoll, stop, asked, pidfds: Mutex::default() });
        let (sender, receiver) = mpsc::unbounded_channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || of_thread.run(&sender))?;
        Ok((Self { shared, thread: Some(thread) }, receiver))
    }

    /// Has the thread say that it is there.
    pub(crate) fn ask(&self) {
        let _ = self.shared.asked.write(1);
    }

    /// Reports the end of a process once.
    pub(crate) fn watch(&self, connection: ConnectionId, pidfd: &Arc<OwnedFd>) -> io::Result<()> {
        self.pidfds().insert(connection, Arc::clone(pidfd));
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        Ok(self.shared.epoll.add(pidfd, EpollEvent::new(once, connection))?)
    }

    /// Stops watching a connection's process.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        if let Some(pidfd) = self.pidfds().remove(&connection) {
            let _ = self.shared.epoll.delete(&*pidfd);
        }
    }

    fn pidfds(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Arc<OwnedFd>>> {
        self.shared.pidfds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn run(&self, notices: &mpsc::UnboundedSender<Notice>) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => {
                    tracing::error!("can not watch processes any more: {errno}");
                    return;
                }
            };
            for event in &events[..count] {
                let notice = match event.data() {
                    STOP => return,
                    DIRECTORY => Notice::DirectoryChanged,
                    ASKED => Notice::Awake,
                    connection => Notice::Exited(connection),
                };
                if notices.send(notice).is_err() {
                    return;
                }
            }
        }
    }
}

impl Drop for ProcessWatch {
    fn drop(&mut self) {
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen_once() {
        let never = EventFd::new().unwrap();
        let (watcher, mut notices) = ProcessWatch::start(&never).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&ours).unwrap();
        assert_eq!(peer.process.pid, std::process::id());
        drop(theirs);
        assert!(!peer.pidfd.as_deref().is_some_and(has_exited));

        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = Arc::new(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap());
        watcher.watch(7, &pidfd).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(notices.blocking_recv(), Some(Notice::Exited(7)));
        assert!(has_exited(&pidfd));
        never.write(1).unwrap();
        assert_eq!(notices.blocking_recv(), Some(Notice::DirectoryChanged));
        drop(watcher);
        assert_eq!(notices.blocking_recv(), None, "nothing else, and the thread is gone");
    }
}
