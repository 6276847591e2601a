//! Hears from the kernel which processes begin to dump core.
//!
//! A process that is dumping core keeps its locks, its sockets and its pid until the dump is
//! complete, so that nothing else shows its death. The kernel's process connector reports it at
//! once and costs nothing while no process dumps. It needs Linux 6.6 (before, it reports every fork
//! and exec, and to the administrator alone) and the machine's own pid, user and network
//! namespaces: not a container's. A daemon that has no network of its own, as the system's unit
//! says, gets the socket from its service manager.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};

/// `CN_IDX_PROC` and `CN_VAL_PROC`: the process connector's identity, the former also its group.
const PROCESS_CONNECTOR: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`
const LISTEN: u32 = 1;
/// `PROC_EVENT_COREDUMP`
const CORE_DUMP: u32 = 0x4000_0000;
/// `NLMSG_DONE`
const DONE: u16 = 3;

/// Where things are in a message: `struct nlmsghdr`, `struct cn_msg`, `struct proc_event`.
const HEADER_BYTES: usize = 16;
const CONNECTOR_BYTES: usize = 20;
const KIND_AT: usize = HEADER_BYTES + CONNECTOR_BYTES;
const PROCESS_AT: usize = KIND_AT + 16 + 4;

/// The kernel's reports of core dumps.
#[derive(Debug)]
pub(crate) struct CoreDumps(OwnedFd);

/// What [`CoreDumps::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// This process dies of a signal that dumps core, if it may.
    Process(u32),
    /// Reports were dropped.
    Missed,
    Nothing,
}

impl CoreDumps {
    /// Starts to listen, on the socket that the service manager passed if there is one. `None` if
    /// the kernel does not report core dumps here.
    pub(crate) fn listen(passed: Option<OwnedFd>) -> Option<Self> {
        let listening = match passed {
            _ if !reports_here() => Err(io::Error::other("it does so from Linux 6.6 on, and not in containers")),
            Some(socket) => ioctl_fionbio(&socket, true).map_err(io::Error::from).and_then(|()| Self::ask(socket)),
            None => Self::open().and_then(Self::ask),
        };
        listening.inspect_err(|error| tracing::info!("the kernel does not report core dumps here: {error}")).ok()
    }

    /// Whether a socket is one that [`listen`](Self::listen) can use.
    pub(crate) fn can_use(socket: &OwnedFd) -> bool {
        let is_netlink = sockopt::socket_domain(socket) == Ok(AddressFamily::NETLINK);
        is_netlink && sockopt::socket_protocol(socket) == Ok(Some(CONNECTOR))
    }

    fn open() -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        bind(&socket, &SocketAddrNetlink::new(0, PROCESS_CONNECTOR))?;
        Ok(socket)
    }

    /// Asks the kernel for its reports.
    fn ask(socket: OwnedFd) -> io::Result<Self> {
        let body = [LISTEN, CORE_DUMP].map(u32::to_ne_bytes).concat();
        let total_bytes = HEADER_BYTES + CONNECTOR_BYTES + body.len();
        let mut message = Vec::with_capacity(total_bytes);
        message.extend((total_bytes as u32).to_ne_bytes());
        message.extend(DONE.to_ne_bytes());
        // Flags; sequence number and sender; the connector's identity, sequence and
        // acknowledgement.
        message.extend(0u16.to_ne_bytes());
        message.extend([0, 0, PROCESS_CONNECTOR, PROCESS_CONNECTOR, 0, 0].map(u32::to_ne_bytes).concat());
        message.extend((body.len() as u16).to_ne_bytes());
        message.extend(0u16.to_ne_bytes());
        message.extend(body);
        send(&socket, &message, SendFlags::empty())?;
        // What others do elsewhere must not fill it while this thread is busy.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, 1 << 20);
        Ok(Self(socket))
    }

    /// The next report.
    pub(crate) fn next(&self) -> Heard {
        let mut message = [0; 256];
        loop {
            let len = match recv(&self.0, &mut message, RecvFlags::empty()) {
                Ok((_, len)) => len,
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => return Heard::Missed,
                Err(_) => return Heard::Nothing,
            };
            if let Some(pid) = process_of(&message[..len.min(message.len())]) {
                return Heard::Process(pid);
            }
        }
    }
}

/// Whether the kernel does what it is asked for: if not, it does not say so. The first namespaces
/// have fixed numbers.
fn reports_here() -> bool {
    const FIRST_NAMESPACES: [(&str, u64); 2] = [("user", 0xEFFF_FFFD), ("pid", 0xEFFF_FFFC)];
    let is_first = |(kind, number): (&str, u64)| {
        std::fs::metadata(format!("/proc/self/ns/{kind}")).is_ok_and(|found| MetadataExt::ino(&found) == number)
    };
    let release = rustix::system::uname();
    let mut numbers = release.release().to_bytes().split(|byte| !byte.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok());
    (number(), number()) >= (Some(6), Some(6)) && FIRST_NAMESPACES.into_iter().all(is_first)
}

/// The process that a message reports.
fn process_of(message: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let is_connectors = word(HEADER_BYTES) == Some(PROCESS_CONNECTOR);
    (is_connectors && word(KIND_AT) == Some(CORE_DUMP)).then(|| word(PROCESS_AT)).flatten()
}

impl AsFd for CoreDumps {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
