//! Owns the thread that waits, on one epoll instance, for processes to end, or to begin to dump
//! core, and for the directory to change.
//!
//! The end of a process is noticed through its pidfd
//! ([`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)): a pid alone could
//! by now be another process. A core dump is reported by pid: the
//! receiver must check the process itself.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use conduit::internal::shm::dying::dying;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::core_dumps::{CoreDumps, Heard};
use crate::peer::Pidfd;
use crate::registry::ConnectionId;

/// What the thread reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The process of a connection has ended.
    Exited(ConnectionId),
    /// The process of a connection, or one that had its pid before, begins to dump core.
    Dumping(ConnectionId),
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
const DUMPS: u64 = u64::MAX - 3;
const LOOK: u64 = u64::MAX - 4;

/// How many processes are looked at in a round, where the kernel reports no core dumps.
const LOOKS_PER_ROUND: usize = 64;

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
    /// Asks the thread to look which processes are dumping core.
    look: EventFd,
    core_dumps: Option<CoreDumps>,
    processes: Mutex<BTreeMap<ConnectionId, PolledProcess>>,
}

#[derive(Debug)]
struct PolledProcess {
    /// Open while it is watched.
    pidfd: Arc<Pidfd>,
    /// 0 if it is not visible here.
    pid: u32,
}

impl ProcessWatch {
    /// Starts the thread. `directory` becomes readable when the directory changes.
    pub(crate) fn start(
        directory: &impl AsFd,
        core_dumps: Option<CoreDumps>,
    ) -> io::Result<(Self, UnboundedReceiver<Notice>)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(directory, EpollEvent::new(ONCE, DIRECTORY))?;
        let stop = EventFd::new()?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let ping = EventFd::new()?;
        // Edge-triggered: nobody reads the pings.
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&ping, EpollEvent::new(edge, PING))?;
        let look = EventFd::new()?;
        epoll.add(&look, EpollEvent::new(edge, LOOK))?;
        if let Some(core_dumps) = &core_dumps {
            epoll.add(core_dumps, EpollEvent::new(EpollFlags::EPOLLIN, DUMPS))?;
        }
        let polled = Arc::new(PolledDescriptors { epoll, stop, ping, look, core_dumps, processes: Mutex::default() });
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

    /// Whether the kernel reports core dumps. If not, somebody has to [look](Self::look_for_dumps).
    pub(crate) fn hears_dumps(&self) -> bool {
        self.polled.core_dumps.is_some()
    }

    /// Looks which processes are dumping core: all, or some if nobody else reports that.
    pub(crate) fn look_for_dumps(&self) {
        let _ = self.polled.look.write(1);
    }

    /// Reports the end of a process once. `pid`: 0 if it is not visible here.
    pub(crate) fn watch(&self, connection: ConnectionId, pidfd: &Arc<Pidfd>, pid: u32) -> io::Result<()> {
        self.polled.processes().insert(connection, PolledProcess { pidfd: Arc::clone(pidfd), pid });
        Ok(self.polled.epoll.add(pidfd, EpollEvent::new(ONCE, connection))?)
    }

    /// Stops watching the process of a connection.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        if let Some(process) = self.polled.processes().remove(&connection) {
            let _ = self.polled.epoll.delete(&*process.pidfd);
        }
    }
}

impl PolledDescriptors {
    fn processes(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, PolledProcess>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections of the process that the kernel reports; all that are dumping core if it has
    /// dropped reports.
    fn heard(&self, core_dumps: &CoreDumps) -> Vec<ConnectionId> {
        let reported = match core_dumps.next() {
            Heard::Process(pid) => pid,
            Heard::Missed => return self.dumping(0, usize::MAX).0,
            Heard::Nothing => return Vec::new(),
        };
        let processes = self.processes();
        processes.iter().filter(|(_, process)| process.pid == reported).map(|(connection, _)| *connection).collect()
    }

    /// Looks at some processes, from that after `last` on: the connections of those that are
    /// dumping core, and the last one looked at.
    fn dumping(&self, last: ConnectionId, count: usize) -> (Vec<ConnectionId>, ConnectionId) {
        let processes = self.processes();
        let seen = processes.range((Excluded(last), Unbounded)).take(count);
        let seen: Vec<(ConnectionId, u32)> = seen.map(|(connection, process)| (*connection, process.pid)).collect();
        drop(processes);
        let next = if seen.len() < count { 0 } else { seen.last().map_or(0, |(connection, _)| *connection) };
        (seen.into_iter().filter(|(_, pid)| dying(*pid).is_some()).map(|(connection, _)| connection).collect(), next)
    }

    fn run(&self, notices: &UnboundedSender<Notice>) {
        let mut last_look = 0;
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
                let dumping = match (event.data(), &self.core_dumps) {
                    (STOP, _) => return,
                    (DUMPS, Some(core_dumps)) => self.heard(core_dumps),
                    (LOOK, Some(_)) => self.dumping(0, usize::MAX).0,
                    (LOOK, None) => {
                        let (dumping, last) = self.dumping(last_look, LOOKS_PER_ROUND);
                        last_look = last;
                        dumping
                    }
                    _ => Vec::new(),
                };
                let notice = match event.data() {
                    DIRECTORY => Some(Notice::DirectoryChanged),
                    PING => Some(Notice::Awake),
                    DUMPS | LOOK => None,
                    connection => Some(Notice::Exited(connection)),
                };
                for notice in dumping.into_iter().map(Notice::Dumping).chain(notice) {
                    if notices.send(notice).is_err() {
                        return;
                    }
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
        let (watch, mut notices) = ProcessWatch::start(&never, None).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&ours).unwrap();
        assert_eq!(peer.process.pid, std::process::id());
        drop(theirs);
        assert!(!peer.pidfd.as_deref().is_some_and(has_exited));

        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let pidfd = Arc::new(Charged::momentary(pidfd));
        watch.watch(7, &pidfd, child.id()).unwrap();
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
