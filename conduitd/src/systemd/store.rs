//! The names under which the service manager keeps descriptors over a restart of the daemon.
//!
//! The name of a client's connection encodes what the connection holds; the next daemon needs
//! nothing else:
//!
//! ```text
//!   directory DEV INODE                          the inotify instance, with its unread changes
//!   client ID idle                               a connection without a lease
//!   client ID owner DEV INODE TOPIC              a file announced before it had its name
//!   client ID late DEV INODE TOPIC               a file announced after it had its name
//!   client ID subscriber DEV INODE RECORD TOPIC  a subscription; record `-`: none
//!   client ID watcher KINDS GLOB                 a watcher; kinds `-`: all; no glob: all topics
//! ```
//!
//! ID, DEV, INODE and KINDS are hexadecimal, RECORD is decimal. KINDS has bit i for the i-th of
//! [`EventKind::ALL`]. Names of a later version that are not understood are dropped: the registry
//! then looks restarted to those clients.

use std::fmt;

use conduit::TopicPattern;
use conduit::internal::shm::dir::FileId;
use conduit::registry::EventKind;

use crate::holding::Holding;
use crate::registry::{ConnectionId, LeaseRole};
use crate::watchers::EventFilter;

/// The longest name that systemd accepts for a descriptor, in bytes.
const LONGEST_NAME: usize = 255;

/// A descriptor that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreEntry {
    /// The inotify instance of the directory with this number.
    Directory(FileId),
    /// A client's connection.
    Client { id: ConnectionId, holding: Holding },
}

impl StoreEntry {
    /// The name to keep it under; `None` if it would be too long: then it cannot be kept.
    pub(crate) fn name(&self) -> Option<String> {
        Some(self.to_string()).filter(|name| name.len() <= LONGEST_NAME)
    }

    /// Decodes a name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut words = name.split(' ');
        let entry = match words.next()? {
            "directory" => Self::Directory(file_id(&mut words)?),
            "client" => Self::Client { id: hexadecimal(words.next()?)?, holding: holding(&mut words)? },
            _ => return None,
        };
        words.next().is_none().then_some(entry)
    }
}

fn holding<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Holding> {
    Some(match words.next()? {
        "idle" => Holding::Nothing,
        "watcher" => {
            let kinds = optional(words.next()?, |kinds| hexadecimal(kinds).map(kinds_of))?;
            let topics = words.next().map(TopicPattern::new).transpose().ok()?;
            Holding::Watch(EventFilter { topics, kinds })
        }
        kind => {
            let file = file_id(words)?;
            let role = match kind {
                "owner" | "late" => LeaseRole::Owner,
                "subscriber" => {
                    LeaseRole::Subscriber { record: optional(words.next()?, |record| record.parse().ok())? }
                }
                _ => return None,
            };
            Holding::Lease { topic: words.next()?.parse().ok()?, file, role, is_late: kind == "late" }
        }
    })
}

/// `-` stands for nothing.
#[expect(clippy::option_option, reason = "the outer option is an error, the inner one the value")]
fn optional<T>(word: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if word == "-" { Some(None) } else { parse(word).map(Some) }
}

impl fmt::Display for StoreEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, holding) = match self {
            Self::Directory(FileId { dev, ino }) => return write!(f, "directory {dev:x} {ino:x}"),
            Self::Client { id, holding } => (id, holding),
        };
        match holding {
            Holding::Nothing => write!(f, "client {id:x} idle"),
            Holding::Lease { topic, file: FileId { dev, ino }, role, is_late } => {
                let (kind, record) = match role {
                    LeaseRole::Owner if *is_late => ("late", String::new()),
                    LeaseRole::Owner => ("owner", String::new()),
                    LeaseRole::Subscriber { record: None } => ("subscriber", "- ".into()),
                    LeaseRole::Subscriber { record: Some(record) } => ("subscriber", format!("{record} ")),
                };
                write!(f, "client {id:x} {kind} {dev:x} {ino:x} {record}{topic}")
            }
            Holding::Watch(EventFilter { topics, kinds }) => {
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

#[cfg(test)]
mod tests {
    use conduit::TopicName;
    use proptest::prelude::*;

    use super::*;

    fn holding() -> impl Strategy<Value = Holding> {
        let file = (any::<u64>(), any::<u64>()).prop_map(|(dev, ino)| FileId { dev, ino });
        let role = prop_oneof![
            Just(LeaseRole::Owner),
            any::<Option<u32>>().prop_map(|record| LeaseRole::Subscriber { record })
        ];
        let lease = ("[a-z]{1,9}(/[A-Z0-9_][A-Z0-9_-]{0,8}){0,3}", file, role, any::<bool>());
        let lease = lease.prop_map(|(topic, file, role, late)| Holding::Lease {
            topic: topic.parse().unwrap(),
            file,
            role,
            is_late: late && role == LeaseRole::Owner,
        });
        let kinds = prop::collection::vec(0..EventKind::ALL.len(), 0..5);
        let glob = prop::option::of(Just("a/**/[!x-z]*"));
        let watch = (prop::option::of(kinds), glob).prop_map(|(kinds, glob)| {
            Holding::Watch(EventFilter {
                topics: glob.map(|glob| TopicPattern::new(glob).unwrap()),
                kinds: kinds.map(|kinds| {
                    kinds_of(bits_of(&kinds.iter().map(|&it| EventKind::ALL[it].clone()).collect::<Vec<_>>()))
                }),
            })
        });
        prop_oneof![Just(Holding::Nothing), lease, watch]
    }

    proptest! {
        #[test]
        fn a_name_encodes_everything(id in any::<u64>(), holding in holding()) {
            let entry = StoreEntry::Client { id, holding };
            let name = entry.name().unwrap();
            // As sd_pid_notify_with_fds(3) asks for.
            prop_assert!(name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':'));
            prop_assert_eq!(StoreEntry::parse(&name), Some(entry));
        }

        #[test]
        fn any_name_is_decoded_or_rejected(name in "(client|directory)? ?[0-9a-f]{0,17} ?(owner|late|subscriber|watcher|idle)?.{0,40}") {
            if let Some(entry) = StoreEntry::parse(&name) {
                prop_assert_eq!(StoreEntry::parse(&entry.to_string()), Some(entry));
            }
        }
    }

    #[test]
    fn names_stay_as_they_are() {
        // The next version must understand them.
        let file = FileId { dev: 0x1b, ino: 0x2a };
        let lease = |role, is_late| Holding::Lease { topic: "camera/front".parse().unwrap(), file, role, is_late };
        let watch =
            Holding::Watch(EventFilter { topics: None, kinds: Some(vec![EventKind::Died, EventKind::Published]) });
        let expected = [
            (lease(LeaseRole::Owner, false), "client ff owner 1b 2a camera/front"),
            (lease(LeaseRole::Owner, true), "client ff late 1b 2a camera/front"),
            (lease(LeaseRole::Subscriber { record: Some(12) }, false), "client ff subscriber 1b 2a 12 camera/front"),
            (lease(LeaseRole::Subscriber { record: None }, false), "client ff subscriber 1b 2a - camera/front"),
            (watch, "client ff watcher 24"),
            (Holding::Nothing, "client ff idle"),
        ];
        for (holding, name) in expected {
            assert_eq!(StoreEntry::Client { id: 255, holding }.to_string(), name);
        }
        assert_eq!(StoreEntry::Directory(file).to_string(), "directory 1b 2a");
    }

    #[test]
    fn a_name_that_is_too_long_is_not_kept() {
        let topics = Some(TopicPattern::new(&"a".repeat(250)).unwrap());
        assert_eq!(
            StoreEntry::Client { id: 1, holding: Holding::Watch(EventFilter { topics, kinds: None }) }.name(),
            None
        );
        let lease = Holding::Lease {
            topic: "a".repeat(TopicName::MAX_LEN).parse().unwrap(),
            file: FileId { dev: 0xffff, ino: 0xffff_ffff },
            role: LeaseRole::Subscriber { record: Some(59) },
            is_late: false,
        };
        assert!(StoreEntry::Client { id: u64::from(u32::MAX), holding: lease }.name().is_some());
    }
}
