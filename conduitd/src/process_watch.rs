//! Owns the thread that waits, on one epoll instance, for processes to end and for the directory to
//! change.
//!
//! A process is watched through its pidfd
//! ([`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)): a pid alone could
//! by now be another process.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::peer::Pidfd;
use crate::registry::ConnectionId;

/// What the thread reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The process of a connection has ended.
    Exited(ConnectionId),
    /// The directory has changed. The next change is reported after
    /// [`ProcessWatch::watch_directory`].
    DirectoryChanged,
    /// The thread answers [`ProcessWatch::ping`].
    Awake,
}

const ONCE: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLONESHOT);
const DIRECTORY: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const PING: u64 = u64::MAX - 2;

/// The watching thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ProcessWatch {
    polled: Arc<PolledDescriptors>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct PolledDescriptors {
    epoll: Epoll,
    stop: EventFd,
    ping: EventFd,
    /// Keeps the pidfds open while they are watched.
    pidfds: Mutex<HashMap<ConnectionId, Arc<Pidfd>>>,
}

impl ProcessWatch {
    /// Starts the thread. `directory` becomes readable when the directory changes.
    pub(crate) fn start(directory: &impl AsFd) -> io::Result<(Self, UnboundedReceiver<Notice>)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(directory, EpollEvent::new(ONCE, DIRECTORY))?;
        let stop = EventFd::new()?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let ping = EventFd::new()?;
        // Edge-triggered: nobody reads the pings.
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&ping, EpollEvent::new(edge, PING))?;
        let polled = Arc::new(PolledDescriptors { epoll, stop, ping, pidfds: Mutex::default() });
        let (sender, receiver) = unbounded_channel();
        let of_thread = Arc::clone(&polled);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || of_thread.run(&sender))?;
        Ok((Self { polled, thread: Some(thread) }, receiver))
    }

    /// Asks the thread for a [`Notice::Awake`].
    pub(crate) fn ping(&self) {
        let _ = self.polled.ping.write(1);
    }

    /// Reports the next change of the directory, or one that is not read yet.
    pub(crate) fn watch_directory(&self, directory: &impl AsFd) -> io::Result<()> {
        Ok(self.polled.epoll.modify(directory, &mut EpollEvent::new(ONCE, DIRECTORY))?)
    }

    /// Reports the end of a process once.
    pub(crate) fn watch(&self, connection: ConnectionId, pidfd: &Arc<Pidfd>) -> io::Result<()> {
        self.polled.pidfds().insert(connection, Arc::clone(pidfd));
        Ok(self.polled.epoll.add(pidfd, EpollEvent::new(ONCE, connection))?)
    }

    /// Stops watching the process of a connection.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        if let Some(pidfd) = self.polled.pidfds().remove(&connection) {
            let _ = self.polled.epoll.delete(&*pidfd);
        }
    }
}

impl PolledDescriptors {
    fn pidfds(&self) -> MutexGuard<'_, HashMap<ConnectionId, Arc<Pidfd>>> {
        self.pidfds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, notices: &UnboundedSender<Notice>) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    tracing::error!("cannot watch processes any more: epoll_wait: {}", errno.desc());
                    return;
                }
            };
            for event in &events[..count] {
                let notice = match event.data() {
                    STOP => return,
                    DIRECTORY => Notice::DirectoryChanged,
                    PING => Notice::Awake,
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
        let _ = self.polled.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::Charged;
    use crate::peer::{PeerProcess, has_exited};

    #[test]
    fn the_end_of_a_process_is_reported_once() {
        let never = EventFd::new().unwrap();
        let (watch, mut notices) = ProcessWatch::start(&never).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&ours).unwrap();
        assert_eq!(peer.process.pid, std::process::id());
        drop(theirs);
        assert!(!peer.pidfd.as_deref().is_some_and(has_exited));

        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let pidfd = Arc::new(Charged::momentary(pidfd));
        watch.watch(7, &pidfd).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(notices.blocking_recv(), Some(Notice::Exited(7)));
        assert!(has_exited(&pidfd));
        never.write(1).unwrap();
        assert_eq!(notices.blocking_recv(), Some(Notice::DirectoryChanged));
        // Reported again because it was not read.
        watch.watch_directory(&never).unwrap();
        assert_eq!(notices.blocking_recv(), Some(Notice::DirectoryChanged));
        drop(watch);
        assert_eq!(notices.blocking_recv(), None, "nothing else, and the thread has ended");
    }
}
