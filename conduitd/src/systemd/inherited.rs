//! The descriptors that the daemon is started with: passed by the socket unit, or kept over a
//! restart.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use conduit::internal::shm::dir::FileId;
use conduit::internal::shm::inherited::take_inherited;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, UnixAddr, getpeername, getsockopt, sockopt};

use super::Supervisor;
use super::store::StoreEntry;
use crate::core_dumps::CoreDumps;
use crate::holding::ReturningClient;

/// The listener's name in the socket unit.
const LISTENER: &str = "registry";
/// The name of the socket on which the kernel reports core dumps.
const CORE_DUMPS: &str = "core-dumps";

/// The descriptors that the service manager passed, with their names.
pub(crate) fn inherited() -> Vec<(String, OwnedFd)> {
    take_inherited().unwrap_or_else(|error| {
        tracing::warn!("ignoring invalid LISTEN_FDS, LISTEN_PID or LISTEN_FDNAMES: {error}");
        Vec::new()
    })
}

/// The descriptors that the daemon can use.
#[derive(Debug, Default)]
pub(crate) struct InheritedDescriptors {
    pub(crate) listener: Option<UnixListener>,
    pub(crate) directory: Option<OwnedFd>,
    pub(crate) core_dumps: Option<OwnedFd>,
    /// Sorted by their numbers.
    pub(crate) clients: Vec<ReturningClient>,
}

impl InheritedDescriptors {
    /// Takes the descriptors that the daemon can use, and closes the others.
    pub(crate) fn sort(mut inherited: Vec<(String, OwnedFd)>, directory: FileId, supervisor: &Supervisor) -> Self {
        let mut kept = Self::default();
        // A listener of another name is used if there is no other: a custom unit may name it.
        inherited.sort_by_key(|(name, _)| name != LISTENER);
        for (name, descriptor) in inherited {
            match (StoreEntry::parse(&name), socket_kind(&descriptor)) {
                (_, Some(SocketKind::Listener)) if kept.listener.is_none() => kept.listener = Some(descriptor.into()),
                (Some(StoreEntry::Client { id, holding }), Some(SocketKind::Connection))
                    if kept.clients.iter().all(|client| client.id != id) =>
                {
                    kept.clients.push(ReturningClient { id, holding, stream: descriptor.into() });
                }
                (Some(StoreEntry::Directory(id)), None) if id == directory && watches(&descriptor, directory) => {
                    kept.directory = Some(descriptor);
                }
                _ if name == CORE_DUMPS && CoreDumps::can_use(&descriptor) => kept.core_dumps = Some(descriptor),
                _ => {
                    tracing::warn!(
                        "a descriptor named {name:?} was passed that this registry cannot use; it is closed"
                    );
                    supervisor.forget(name);
                }
            }
        }
        kept.clients.sort_by_key(|client| client.id);
        kept
    }
}

/// The kind of a Unix stream socket; `None` for other descriptors.
pub(crate) fn socket_kind(descriptor: &OwnedFd) -> Option<SocketKind> {
    let is_stream = getsockopt(descriptor, sockopt::SockType) == Ok(SockType::Stream);
    let address = nix::sys::socket::getsockname::<UnixAddr>(descriptor.as_raw_fd()).ok()?;
    if !is_stream || address.family() != Some(AddressFamily::Unix) {
        return None;
    }
    if getsockopt(descriptor, sockopt::AcceptConn) == Ok(true) {
        return Some(SocketKind::Listener);
    }
    // The peer's address stays known after it has hung up.
    let is_connected = getpeername::<UnixAddr>(descriptor.as_raw_fd()).is_ok();
    is_connected.then_some(SocketKind::Connection)
}

/// What a Unix stream socket is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// Clients connect to it.
    Listener,
    /// A client is, or was, at its other end.
    Connection,
}

/// Whether a descriptor is an inotify instance that watches this directory and nothing else.
pub(crate) fn watches(descriptor: &OwnedFd, directory: FileId) -> bool {
    let number = descriptor.as_fd().as_raw_fd();
    let kind = std::fs::read_link(format!("/proc/thread-self/fd/{number}"));
    let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{number}")).unwrap_or_default();
    let mut watched = info.lines().filter(|line| line.starts_with("inotify "));
    // The kernel's internal encoding of a device number: see kdev_t.h.
    let dev = nix::sys::stat::major(directory.dev) << 20 | nix::sys::stat::minor(directory.dev);
    let expected = [format!("ino:{:x}", directory.ino), format!("sdev:{dev:x}")];
    let only = watched.next().is_some_and(|line| expected.iter().all(|word| line.split(' ').any(|it| it == word)));
    only && watched.next().is_none() && kind.is_ok_and(|kind| kind.ends_with("anon_inode:inotify"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_recognised_by_their_kind() {
        let directory = tempfile::tempdir().unwrap();
        let metadata = std::fs::metadata(directory.path()).unwrap();
        let id = FileId {
            dev: std::os::unix::fs::MetadataExt::dev(&metadata),
            ino: std::os::unix::fs::MetadataExt::ino(&metadata),
        };
        let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        assert!(!watches(&inotify, id), "it watches nothing");
        rustix::fs::inotify::add_watch(&inotify, directory.path(), rustix::fs::inotify::WatchFlags::CREATE).unwrap();
        assert!(watches(&inotify, id));
        assert!(!watches(&inotify, FileId { ino: id.ino + 1, ..id }));
        rustix::fs::inotify::add_watch(&inotify, "/", rustix::fs::inotify::WatchFlags::CREATE).unwrap();
        assert!(!watches(&inotify, id), "it watches something else too");

        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(other);
        let one = OwnedFd::from(one);
        assert!(!watches(&one, id));
        assert_eq!(socket_kind(&one), Some(SocketKind::Connection), "although its peer has hung up");
        assert_eq!(socket_kind(&listener.into()), Some(SocketKind::Listener));
        let others: [OwnedFd; 3] = [
            std::os::unix::net::UnixDatagram::unbound().unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            std::fs::File::open("/dev/null").unwrap().into(),
        ];
        assert_eq!(others.each_ref().map(socket_kind), [None; 3]);
    }
}
