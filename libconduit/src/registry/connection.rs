//! A socket connected to the registry, and how long its answers are waited for.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, recv, send, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::shm::descriptor::Descriptor;
use crate::shm::process::kernel_text;
use crate::shm::stop_flag::poll_or_stop;
use crate::stop::Stop;

/// How long to wait for the registry, which answers in microseconds unless it is stopped or stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    usual: Duration,
    /// While other processes have all processors.
    if_overloaded: Duration,
}

impl Patience {
    /// For creating, opening and closing, which work without an answer.
    pub(super) const LEASE: Self = Self { usual: Duration::from_millis(100), if_overloaded: Duration::from_secs(1) };
    /// For questions.
    pub(super) const QUESTION: Self = Self { usual: Duration::from_secs(1), if_overloaded: Duration::from_secs(5) };
    /// For work, once the registry is known to answer.
    pub(super) const WORK: Self = Self { usual: Duration::from_secs(5), if_overloaded: Duration::from_secs(5) };
    /// For so long, however busy the machine is.
    pub(super) const fn exactly(time: Duration) -> Self {
        Self { usual: time, if_overloaded: time }
    }

    pub(super) const NONE: Self = Self { usual: Duration::ZERO, if_overloaded: Duration::ZERO };
}

/// A connection. All its calls return in time: see [`waits`](Self::waits).
#[derive(Debug)]
pub(super) struct RegistrySocket {
    socket: Descriptor,
    /// `None`: for ever.
    patience: Option<Patience>,
    /// What ends a wait.
    stop: Option<Stop>,
}

impl RegistrySocket {
    /// Connects. [`WouldBlock`](io::ErrorKind::WouldBlock): so many clients wait to be accepted
    /// that the kernel admits no more.
    pub(super) fn open(path: &Path, patience: Patience) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = Descriptor::open(|| socket(AddressFamily::Unix, SockType::Stream, flags, None))?;
        let connection = Self { socket, patience: Some(patience), stop: None };
        match connection.connect(&address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience != Patience::NONE => {
                connection.connect_within(&address, patience.usual)?;
            }
            result => result?,
        }
        Ok(connection)
    }

    fn connect(&self, address: &UnixAddr) -> io::Result<()> {
        Ok(nix::sys::socket::connect(self.socket.as_fd().as_raw_fd(), address)?)
    }

    /// Only a socket that blocks can wait for a place among those that wait to be accepted.
    fn connect_within(&self, address: &UnixAddr, timeout: Duration) -> io::Result<()> {
        let end = Instant::now() + timeout;
        fcntl(&self.socket, FcntlArg::F_SETFL(OFlag::empty()))?;
        let result = loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            // It applies to connect too: socket(7).
            setsockopt(
                &self.socket,
                sockopt::SendTimeout,
                &TimeVal::new(left.as_secs() as i64, left.subsec_micros().into()),
            )?;
            match self.connect(address) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        fcntl(&self.socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        result
    }

    /// How long each read and write waits from now on; `None` for ever.
    pub(super) fn waits(&mut self, patience: Option<Patience>) {
        self.patience = patience;
    }

    /// Lets this end each read and write that waits, as one that
    /// [was interrupted](io::ErrorKind::Interrupted).
    pub(super) fn stops(&mut self, stop: Option<Stop>) {
        self.stop = stop;
    }

    /// Whether there is an answer, or the end of the connection, to be read.
    pub(super) fn has_news(&self, timeout: Duration) -> bool {
        !self.socket.is_intact() || self.is_ready(PollFlags::POLLIN, timeout).unwrap_or(true)
    }

    /// Whether the registry has hung up, or the program has closed the socket.
    pub(super) fn is_over(&self) -> bool {
        // poll(2) reports a hang-up without being asked to.
        !self.socket.is_intact() || self.is_ready(PollFlags::empty(), Duration::ZERO).unwrap_or(false)
    }

    fn is_ready(&self, events: PollFlags, timeout: Duration) -> nix::Result<bool> {
        poll_or_stop(self.socket.as_fd(), events, Some(timeout), None)
    }

    /// Fails if it is to stop, even if there is an event.
    fn is_ready_or_stopped(&self, events: PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
        let stop = self.stop.as_ref();
        let is_ready = match poll_or_stop(self.socket.as_fd(), events, timeout, stop.map(Stop::flag)) {
            Err(Errno::EINTR) => false,
            result => result?,
        };
        if stop.is_some_and(Stop::is_stopped) { Err(stopped()) } else { Ok(is_ready) }
    }

    /// Sends what an empty socket takes at once. Returns whether that was everything.
    pub(super) fn send_now(&self, bytes: &[u8]) -> bool {
        send(self.socket.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) == Ok(bytes.len())
    }

    /// Says that no more calls follow: the registry closes the connection when it has answered.
    pub(super) fn end_calls(&self) {
        let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Write);
    }

    pub(super) fn shut_down(&self) {
        let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Both);
    }

    /// Waits for an event, or fails with [`TimedOut`](io::ErrorKind::TimedOut).
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let started = Instant::now();
        loop {
            let Some(patience) = self.patience else {
                if self.is_ready_or_stopped(events, None)? {
                    return Ok(());
                }
                continue;
            };
            let elapsed = started.elapsed();
            let limit = if elapsed < patience.usual {
                patience.usual
            } else if elapsed < patience.if_overloaded && self.may_be_kept_waiting() {
                patience.if_overloaded
            } else {
                let sentence = format!("no reply within {elapsed:.1?}; is conduitd stopped?");
                return Err(io::Error::new(io::ErrorKind::TimedOut, sentence));
            };
            // Rounded up, so that a fraction of a millisecond is not spent polling.
            let left = limit - elapsed + Duration::from_millis(1);
            if self.is_ready_or_stopped(events, Some(left))? {
                return Ok(());
            }
        }
    }

    /// Whether more threads want to run than there are processors, and the registry is not stopped:
    /// then it may not have had its turn yet.
    fn may_be_kept_waiting(&self) -> bool {
        let running = kernel_text("/proc/loadavg").ok().and_then(|text| {
            let (running, _) = text.split(' ').nth(3)?.split_once('/')?;
            running.parse::<usize>().ok()
        });
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        running.is_some_and(|running| running > processors) && !self.peer_is_stopped()
    }

    fn peer_is_stopped(&self) -> bool {
        let Ok(peer) = nix::sys::socket::getsockopt(&self.socket, sockopt::PeerCredentials) else { return false };
        let stat = kernel_text(format!("/proc/{}/stat", peer.pid())).unwrap_or_default();
        // The name in parentheses may contain anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the wait was stopped")
}

impl AsFd for RegistrySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for RegistrySocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(self.socket.as_fd().as_raw_fd(), buffer, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Write for RegistrySocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(self.socket.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
