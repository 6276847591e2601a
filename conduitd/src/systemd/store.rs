//! What the service manager keeps over a restart of the daemon, and under which names.
//!
//! The name of a client's connection says all that the next daemon must know of it, so that nothing else need be kept:
//!
//! ```text
//!   directory DEV INODE                             the inotify instance, with the changes that nobody has looked at
//!   client ID idle                                  a connection without a lease
//!   client ID owner DEV INODE TOPIC                 the lease of a file, announced before the file had its name
//!   client ID late DEV INODE TOPIC                  the same, announced afterwards
//!   client ID subscriber DEV INODE RECORD TOPIC     a subscription; `-` for a record: none
//!   client ID watcher KINDS GLOB                    a watcher; `-` for kinds: all, without a glob: all topics
//! ```
//!
//! ID, DEV, INODE and KINDS are hexadecimal, RECORD is decimal. KINDS has bit i for the i-th of [`EventKind::ALL`].
//! What a later version keeps under other names is not understood and let go: those clients find themselves at a registry
//! that was started anew.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use conduit::internal::shm::dir::FileId;
use conduit::registry::EventKind;
use conduit::{TopicName, TopicPattern};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, UnixAddr, getpeername, getsockopt, sockopt};

use crate::registry::{ConnectionId, LeaseRole};
use crate::systemd::Supervisor;
use crate::watchers::EventFilter;

/// What the socket unit calls the listener.
const LISTENER: &str = "registry";
/// The longest name that systemd accepts for a descriptor, in bytes.
const LONGEST_NAME: usize = 255;

/// What a connection holds at the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing: its client asks something now and then.
    Nothing,
    /// A lease. `is_late`: the file had its name already when it was announced.
    Lease { topic: TopicName, file: FileId, role: LeaseRole, is_late: bool },
    /// A place among the watchers.
    Watch(EventFilter),
}

/// A descriptor that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The inotify instance of the directory with this number.
    Directory(FileId),
    /// A client's connection.
    Client { id: ConnectionId, held: Held },
}

impl Entry {
    /// The name to keep it under; `None` if it would be too long, and the client must do without.
    pub(crate) fn name(&self) -> Option<String> {
        Some(self.to_string()).filter(|name| name.len() <= LONGEST_NAME)
    }

    /// What a name stands for.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut words = name.split(' ');
        let entry = match words.next()? {
            "directory" => Self::Directory(file_id(&mut words)?),
            "client" => {
                let id = hexadecimal(words.next()?)?;
                let held = match words.next()? {
                    "idle" => Held::Nothing,
                    "watcher" => Held::Watch(EventFilter {
                        kinds: match words.next()? {
                            "-" => None,
                            kinds => Some(kinds_of(hexadecimal(kinds)?)),
                        },
                        topics: match words.next() {
                            None => None,
                            Some(glob) => Some(TopicPattern::new(glob).ok()?),
                        },
                    }),
                    kind => {
                        let file = file_id(&mut words)?;
                        let role = match kind {
                            "owner" | "late" => LeaseRole::Owner,
                            "subscriber" => LeaseRole::Subscriber {
                                record: match words.next()? {
                                    "-" => None,
                                    record => Some(record.parse().ok()?),
                                },
                            },
                            _ => return None,
                        };
                        Held::Lease { topic: words.next()?.parse().ok()?, file, role, is_late: kind == "late" }
                    }
                };
                Self::Client { id, held }
            }
            _ => return None,
        };
        words.next().is_none().then_some(entry)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, held) = match self {
            Self::Directory(FileId { dev, ino }) => return write!(f, "directory {dev:x} {ino:x}"),
            Self::Client { id, held } => (id, held),
        };
        match held {
            Held::Nothing => write!(f, "client {id:x} idle"),
            Held::Lease { topic, file: FileId { dev, ino }, role, is_late } => match role {
                LeaseRole::Owner if *is_late => write!(f, "client {id:x} late {dev:x} {ino:x} {topic}"),
                LeaseRole::Owner => write!(f, "client {id:x} owner {dev:x} {ino:x} {topic}"),
                LeaseRole::Subscriber { record: None } => {
                    write!(f, "client {id:x} subscriber {dev:x} {ino:x} - {topic}")
                }
                LeaseRole::Subscriber { record: Some(record) } => {
                    write!(f, "client {id:x} subscriber {dev:x} {ino:x} {record} {topic}")
                }
            },
            Held::Watch(EventFilter { topics, kinds }) => {
                write!(f, "client {id:x} watcher ")?;
                match kinds {
                    None => f.write_str("-")?,
                    Some(kinds) => write!(f, "{:x}", bits_of(kinds))?,
                }
                topics.iter().try_for_each(|topics| write!(f, " {topics}"))
            }
        }
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn file_id<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<FileId> {
    Some(FileId { dev: hexadecimal(words.next()?)?, ino: hexadecimal(words.next()?)? })
}

fn bits_of(kinds: &[EventKind]) -> u64 {
    let is_wanted = |(_, kind): &(usize, &EventKind)| kinds.contains(kind);
    EventKind::ALL.iter().enumerate().filter(is_wanted).fold(0, |bits, (bit, _)| bits | 1 << bit)
}

fn kinds_of(bits: u64) -> Vec<EventKind> {
    let all = EventKind::ALL.into_iter().enumerate();
    all.filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, kind)| kind).collect()
}

/// What was kept, as far as it is ours.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) listener: Option<UnixListener>,
    pub(crate) directory: Option<OwnedFd>,
    /// Sorted by their numbers.
    pub(crate) clients: Vec<KeptClient>,
}

/// A client of the daemon before.
#[derive(Debug)]
pub(crate) struct KeptClient {
    pub(crate) id: ConnectionId,
    pub(crate) held: Held,
    pub(crate) stream: UnixStream,
}

impl Kept {
    /// Takes what is ours, and lets go of everything else.
    pub(crate) fn sort(mut inherited: Vec<(String, OwnedFd)>, directory: FileId, supervisor: &Supervisor) -> Self {
        let mut kept = Self::default();
        // The first listener is taken, whatever a unit of somebody's own calls it.
        inherited.sort_by_key(|(name, _)| name != LISTENER);
        for (name, descriptor) in inherited {
            match (Entry::parse(&name), socket_kind(&descriptor)) {
                (_, Some(SocketKind::Listener)) if kept.listener.is_none() => kept.listener = Some(descriptor.into()),
                (Some(Entry::Client { id, held }), Some(SocketKind::Connection))
                    if kept.clients.iter().all(|client| client.id != id) =>
                {
                    kept.clients.push(KeptClient { id, held, stream: descriptor.into() });
                }
                (Some(Entry::Directory(id)), None) if id == directory && watches(&descriptor, directory) => {
                    kept.directory = Some(descriptor);
                }
                _ => {
                    tracing::warn!(
                        "a descriptor called {name:?} was passed that this registry can not use; it is let go"
                    );
                    supervisor.forget(name);
                }
            }
        }
        kept.clients.sort_by_key(|client| client.id);
        kept
    }
}

/// Whether a descriptor is a Unix stream socket that listens, or one that is connected to somebody.
pub(crate) fn socket_kind(descriptor: &OwnedFd) -> Option<SocketKind> {
    let is_stream = getsockopt(descriptor, sockopt::SockType) == Ok(SockType::Stream);
    let address = nix::sys::socket::getsockname::<UnixAddr>(descriptor.as_raw_fd()).ok()?;
    if !is_stream || address.family() != Some(AddressFamily::Unix) {
        return None;
    }
    if getsockopt(descriptor, sockopt::AcceptConn) == Ok(true) {
        return Some(SocketKind::Listener);
    }
    // One whose other side has hung up still knows whom it was connected to.
    let is_connected = getpeername::<UnixAddr>(descriptor.as_raw_fd()).is_ok();
    is_connected.then_some(SocketKind::Connection)
}

/// What a Unix stream socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// Clients connect to it.
    Listener,
    /// A client is, or was, at its other end.
    Connection,
}

/// Whether a descriptor is an inotify instance that watches this one directory and nothing else.
pub(crate) fn watches(descriptor: &OwnedFd, directory: FileId) -> bool {
    let number = descriptor.as_fd().as_raw_fd();
    let kind = std::fs::read_link(format!("/proc/self/fd/{number}"));
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let mut watched = info.lines().filter(|line| line.starts_with("inotify "));
    // The kernel's own number of a device: see kdev_t.h.
    let dev = nix::sys::stat::major(directory.dev) << 20 | nix::sys::stat::minor(directory.dev);
    let expected = [format!("ino:{:x}", directory.ino), format!("sdev:{dev:x}")];
    let only = watched.next().is_some_and(|line| expected.iter().all(|word| line.split(' ').any(|it| it == word)));
    only && watched.next().is_none() && kind.is_ok_and(|kind| kind.ends_with("anon_inode:inotify"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held() -> impl Strategy<Value = Held> {
        let file = (any::<u64>(), any::<u64>()).prop_map(|(dev, ino)| FileId { dev, ino });
        let role = prop_oneof![
            Just(LeaseRole::Owner),
            any::<Option<u32>>().prop_map(|record| LeaseRole::Subscriber { record })
        ];
        let lease = ("[a-z]{1,9}(/[A-Z0-9_-]{1,9}){0,3}", file, role, any::<bool>());
        let lease = lease.prop_map(|(topic, file, role, late)| Held::Lease {
            topic: topic.parse().unwrap(),
            file,
            role,
            is_late: late && role == LeaseRole::Owner,
        });
        let kinds = prop::collection::vec(0..EventKind::ALL.len(), 0..5);
        let glob = prop::option::of(Just("a/**/[!x-z]*"));
        let watch = (prop::option::of(kinds), glob).prop_map(|(kinds, glob)| {
            Held::Watch(EventFilter {
                topics: glob.map(|glob| TopicPattern::new(glob).unwrap()),
                kinds: kinds.map(|kinds| {
                    kinds_of(bits_of(&kinds.iter().map(|&it| EventKind::ALL[it].clone()).collect::<Vec<_>>()))
                }),
            })
        });
        prop_oneof![Just(Held::Nothing), lease, watch]
    }

    proptest! {
        #[test]
        fn a_name_says_everything(id in any::<u64>(), held in held()) {
            let entry = Entry::Client { id, held };
            let name = entry.name().unwrap();
            // As sd_pid_notify_with_fds(3) asks for.
            prop_assert!(name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':'));
            prop_assert_eq!(Entry::parse(&name), Some(entry));
        }

        #[test]
        fn any_name_is_survived(name in "(client|directory)? ?[0-9a-f]{0,17} ?(owner|late|subscriber|watcher|idle)?.{0,40}") {
            if let Some(entry) = Entry::parse(&name) {
                prop_assert_eq!(Entry::parse(&entry.to_string()), Some(entry));
            }
        }
    }

    #[test]
    fn names_stay_as_they_are() {
        // The next version must understand them.
        let file = FileId { dev: 0x1b, ino: 0x2a };
        let lease = |role, is_late| Held::Lease { topic: "camera/front".parse().unwrap(), file, role, is_late };
        let watch = Held::Watch(EventFilter { topics: None, kinds: Some(vec![EventKind::Died, EventKind::Published]) });
        let expected = [
            (lease(LeaseRole::Owner, false), "client ff owner 1b 2a camera/front"),
            (lease(LeaseRole::Owner, true), "client ff late 1b 2a camera/front"),
            (lease(LeaseRole::Subscriber { record: Some(12) }, false), "client ff subscriber 1b 2a 12 camera/front"),
            (lease(LeaseRole::Subscriber { record: None }, false), "client ff subscriber 1b 2a - camera/front"),
            (watch, "client ff watcher 24"),
            (Held::Nothing, "client ff idle"),
        ];
        for (held, name) in expected {
            assert_eq!(Entry::Client { id: 255, held }.to_string(), name);
        }
        assert_eq!(Entry::Directory(file).to_string(), "directory 1b 2a");
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let topics = Some(TopicPattern::new(&"a".repeat(250)).unwrap());
        assert_eq!(Entry::Client { id: 1, held: Held::Watch(EventFilter { topics, kinds: None }) }.name(), None);
        let lease = Held::Lease {
            topic: "a".repeat(TopicName::MAX_LEN).parse().unwrap(),
            file: FileId { dev: 0xffff, ino: 0xffff_ffff },
            role: LeaseRole::Subscriber { record: Some(59) },
            is_late: false,
        };
        assert!(Entry::Client { id: u64::from(u32::MAX), held: lease }.name().is_some());
    }

    #[test]
    fn descriptors_are_known_by_what_they_are() {
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
        assert!(!watches(&inotify, id), "and something else");

        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(other);
        let one = OwnedFd::from(one);
        assert!(!watches(&one, id));
        assert_eq!(socket_kind(&one), Some(SocketKind::Connection), "although it has been hung up");
        assert_eq!(socket_kind(&listener.into()), Some(SocketKind::Listener));
        let others: [OwnedFd; 3] = [
            std::os::unix::net::UnixDatagram::unbound().unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            std::fs::File::open("/dev/null").unwrap().into(),
        ];
        assert_eq!(others.each_ref().map(socket_kind), [None; 3]);
    }
}
