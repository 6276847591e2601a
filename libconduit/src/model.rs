//! What the registry, or [`inspect`](crate::inspect) without one, reports about regions, processes
//! and events: plain data, which is also what the registry's protocol carries.
//!
//! A registry may be newer than this library. Fields that it adds are ignored; values of
//! enumerations that it adds are kept as `Unknown`, with their text; members that it leaves out
//! have their default. All text of a registry is cleaned: it can be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::foreign_text::{self, clean_name};

/// Defines an enumeration that travels as text and keeps a text that it does not know.
macro_rules! open_enum {
    ($(#[$attribute:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
            /// A value of a newer registry's: its text, cleaned.
            #[serde(untagged, deserialize_with = "foreign_text::name")]
            Unknown(String),
        }

        impl $name {
            /// Every known value.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The value as it is in the registry's protocol.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

open_enum! {
    /// Whether a region has an owner, and a name.
    RegionState {
        /// Its owner lives.
        Live = "live",
        /// Its publisher has closed it.
        Closed = "closed",
        /// Its owner is dead.
        Orphaned = "orphaned",
        /// A raw region that its creator released: it stays.
        Kept = "kept",
        /// Its owner lives, or it is kept, and the registry's policy does not allow it.
        Unauthorised = "unauthorised",
        /// Its owner lives, but its name was removed: processes that have it open continue, others
        /// cannot find it.
        Unlinked = "unlinked",
    }
}

open_enum! {
    /// How the registry notices that a region's owner is dead.
    Liveness {
        /// By the owner's lease, which it took before the region had its name: the end of its
        /// connection or process is noticed at once.
        Lease = "lease",
        /// By the owner lock, which is checked twice a second: the region existed before the
        /// registry, or its owner never registered it.
        Lock = "lock",
        /// Not at all: a region that is kept has no owner.
        None = "none",
    }
}

open_enum! {
    /// The kind of an event.
    EventKind {
        /// The region existed when the watch began.
        Present = "present",
        /// The process was subscribed when the watch began.
        SubscriberPresent = "subscriber_present",
        /// A region appeared under the name.
        Published = "published",
        /// The publisher closed the topic, or a raw region's name was removed.
        Closed = "closed",
        /// A raw region's creator released it; it stays.
        Kept = "kept",
        /// The owner died; its region is gone.
        Died = "died",
        /// The name of a live region was removed, and not by its owner.
        Unlinked = "unlinked",
        /// The publisher has not sent for longer than it has
        /// [promised](crate::PublisherBuilder::deadline).
        Overdue = "overdue",
        /// The publisher sends again.
        Resumed = "resumed",
        /// The process had the registry remove the region. A live topic was closed first.
        Removed = "removed",
        /// A process subscribed, or returned to a registry that was restarted.
        Subscribed = "subscribed",
        /// A subscriber ended cleanly.
        Unsubscribed = "unsubscribed",
        /// A subscriber died.
        SubscriberDied = "subscriber_died",
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// Process id: as the daemon sees it for clients of the registry, else as the process itself
    /// said.
    pub pid: u32,
    /// User id.
    #[serde(default)]
    pub uid: u32,
    /// Command name, cleaned.
    #[serde(default, deserialize_with = "foreign_text::name")]
    pub program: String,
}

impl Process {
    /// A process by its id, user id and command name, which is cleaned.
    pub fn new(pid: u32, uid: u32, program: impl AsRef<str>) -> Self {
        Self { pid, uid, program: clean_name(program.as_ref()) }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program, self.pid)
    }
}

/// One subscriber of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SubscriberInfo {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Command name, cleaned.
    #[serde(deserialize_with = "foreign_text::name")]
    pub program: String,
    /// Messages received.
    pub received: u64,
    /// Messages missed.
    pub lost: u64,
    /// Samples held now.
    pub held: u32,
    /// How long ago the oldest of them was published, in nanoseconds; none if it holds none, or if
    /// the publisher's time stamps are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_held_age_ns: Option<u64>,
    /// Positions between the publisher's and this subscriber's.
    pub lag: u64,
    /// Whether it sleeps until the next message.
    pub asleep: bool,
}

/// A region, as the registry and the region itself know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Name of the topic or raw region.
    #[serde(deserialize_with = "foreign_text::name")]
    pub name: String,
    /// Whether it has an owner, and a name.
    pub state: RegionState,
    /// Why it is unauthorised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The probable remover of its name, and a remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlinked: Option<String>,
    /// Whether it is a raw region, which has no slots, no type and no subscribers.
    #[serde(default)]
    pub raw: bool,
    /// Where its file is.
    #[serde(default)]
    pub path: String,
    /// Size of its file in bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// Number of slots.
    pub slots: Option<u32>,
    /// Size of a slot in bytes, 64 of which are its header.
    pub slot_bytes: Option<u64>,
    /// Name of the messages' type, in brackets for a slice.
    #[serde(rename = "type", default, deserialize_with = "foreign_text::optional_name")]
    pub message_type: Option<String>,
    /// Its owner, if known.
    pub publisher: Option<Process>,
    /// What tells the registry that the owner is dead. None if the region itself was asked and not
    /// the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// Messages published.
    pub published: Option<u64>,
    /// Messages per second, over the last one to two seconds; 0 if nothing came for a second and
    /// for twice the usual interval. None before the second message, and if the publisher's time
    /// stamps are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Bytes of messages per second, over the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// Time since the last message was published, in nanoseconds. None if there was none, or its
    /// time stamp was off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_age_ns: Option<u64>,
    /// How long its publisher has [promised](crate::PublisherBuilder::deadline) to be silent at
    /// most, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ns: Option<u64>,
    /// Whether it has been silent for longer. Without the registry, that is known only of topics
    /// with time stamps that have sent a message.
    #[serde(rename = "overdue", default, skip_serializing_if = "is_false")]
    pub is_overdue: bool,
    /// Its subscribers.
    #[serde(default)]
    pub subscribers: Vec<SubscriberInfo>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl TopicInfo {
    /// A region of which only the name and the state are known.
    pub fn new(name: impl Into<String>, state: RegionState) -> Self {
        Self {
            name: name.into(),
            state,
            refusal: None,
            unlinked: None,
            raw: false,
            path: String::new(),
            size_bytes: 0,
            slots: None,
            slot_bytes: None,
            message_type: None,
            publisher: None,
            liveness: None,
            published: None,
            rate_hz: None,
            bytes_per_second: None,
            last_message_age_ns: None,
            deadline_ns: None,
            is_overdue: false,
            subscribers: Vec::new(),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RegistryEvent {
    /// What.
    pub kind: EventKind,
    /// To which topic or raw region.
    #[serde(deserialize_with = "foreign_text::name")]
    pub topic: String,
    /// When: milliseconds since the epoch.
    #[serde(default)]
    pub time_ms: u64,
    /// By which process, if known: the owner's, the subscriber's, or the remover's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How the process died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<DeathCertificate>,
}

impl RegistryEvent {
    /// An event at a time in milliseconds since the epoch.
    pub fn new(kind: EventKind, topic: impl Into<String>, time_ms: u64) -> Self {
        Self { kind, topic: topic.into(), time_ms, process: None, death: None }
    }

    /// The event of this process.
    #[must_use]
    pub fn with_process(self, process: Option<Process>) -> Self {
        Self { process, ..self }
    }

    /// The event with a death certificate.
    #[must_use]
    pub fn with_death(self, death: Option<DeathCertificate>) -> Self {
        Self { death, ..self }
    }
}

/// A death certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeathCertificate {
    /// The code it exited with, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether it left a core dump, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_dumped: Option<bool>,
    /// Sequence number of the last message, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<u64>,
    /// How old the last message was, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_age_ns: Option<u64>,
    /// Its subscribers at that time.
    #[serde(default)]
    pub subscribers: Vec<SubscriberInfo>,
}

/// Reply of `Status`: the registry that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RegistryStatus {
    /// Version of the registry.
    #[serde(deserialize_with = "foreign_text::name")]
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// Its shared-memory directory, by the path it was given.
    pub shm_dir: String,
    /// Device number of that directory.
    pub dev: u64,
    /// Inode number of that directory.
    pub inode: u64,
    /// Whether a service manager keeps its clients' connections while it is restarted.
    pub supervised: bool,
    /// Regions.
    pub topics: u64,
    /// Connections.
    pub clients: u64,
    /// Regions of dead owners that were removed since it was started.
    pub reaped: u64,
    /// Lines of its log that were dropped because nobody read them; `None` if it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines_dropped: Option<u64>,
    /// Names that it does not track: those beyond what one user may have.
    #[serde(default)]
    pub untracked: u64,
}
