//! What is said on the registry's socket: [Varlink](https://varlink.org), interface `io.conduit.Registry`.
//!
//! Every message is a JSON object followed by NUL. The connection is the lease: what a client registers or attaches is
//! its own until the connection ends. All methods but `Watch` answer once; none depends on what was called before, so
//! a client may repeat any of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of the interface.
pub const INTERFACE: &str = "io.conduit.Registry";

/// The interface in Varlink's own language, as `org.varlink.service.GetInterfaceDescription` gives it.
pub const DESCRIPTION: &str = include_str!("io.conduit.Registry.varlink");

/// What ends a message.
pub const END: u8 = 0;

/// A method call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Interface and method, separated by a dot.
    pub method: String,
    /// The method's parameters, an object.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub parameters: serde_json::Value,
    /// The client wants no reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
    /// The client accepts many replies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A reply to a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The reply's parameters, or the error's.
    #[serde(default)]
    pub parameters: serde_json::Value,
    /// More replies to the same call follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// Qualified name of the error, if the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Parameters of `Register`: this process is about to give the file its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The topic or raw region.
    pub topic: String,
    /// Device number of the file.
    pub dev: u64,
    /// Inode number of the file.
    pub inode: u64,
    /// Permission bits of the file, for an early and clear refusal; what counts is what it will really have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Numeric id of the file's group, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// Parameters of `Attach`: this process subscribes to a topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The topic.
    pub topic: String,
    /// Device number of the region's file.
    pub dev: u64,
    /// Inode number of the region's file.
    pub inode: u64,
    /// The subscriber's record in the region; none if it may only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<u32>,
}

/// Parameters of `Release`: what this connection registered or attached ends cleanly.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {}

/// Parameters of `Describe` and `Reap`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicParameter {
    /// The topic or raw region.
    pub topic: String,
}

/// Parameters of `Unlink`: the caller, who is the region's owner or root, wants the name gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlink {
    /// The topic or raw region.
    pub topic: String,
    /// Also if its owner lives.
    #[serde(default)]
    pub force: bool,
}

/// Parameters of `Watch`: which events are wanted. Without them, all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Glob of topic names: `*` stays within a segment, `**` crosses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Kinds of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<EventKind>>,
}

/// Reply of `List`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopicList {
    /// All regions, sorted by name.
    pub topics: Vec<TopicInfo>,
}

/// Reply of `Describe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopicReply {
    /// The region.
    pub topic: TopicInfo,
}

/// Reply of `Status`: who answers here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// Version of the registry.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// The directory that it looks after, by the path it was given.
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
}

/// Reply of `Reap`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reaped {
    /// Whether the region was an orphan and its removal has been started.
    pub reaped: bool,
}

/// Reply of `Deaths`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeathList {
    /// The last 1,000 events of the kind `Died`, oldest first.
    pub deaths: Vec<RegistryEvent>,
}

/// One of the replies of `Watch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventReply {
    /// What happened.
    pub event: RegistryEvent,
}

/// Whether somebody stands behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionState {
    /// Its owner lives.
    Live,
    /// Its publisher has closed it.
    Closed,
    /// Its owner is dead.
    Orphaned,
    /// A raw region whose creator let it go: it stays.
    Kept,
    /// Its owner lives, or it is kept, and the registry's policy does not allow it.
    Unauthorised,
    /// Its owner lives, and somebody has removed its name: who has it open goes on, nobody else can find it.
    Unlinked,
}

impl fmt::Display for RegionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::Closed => "closed",
            Self::Orphaned => "orphaned",
            Self::Kept => "kept",
            Self::Unauthorised => "unauthorised",
            Self::Unlinked => "unlinked",
        })
    }
}

/// What tells the registry that a region's owner is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// The owner's lease, which it took before the region had its name: the end of its connection or process is
    /// noticed at once.
    Lease,
    /// The owner lock, which is looked at twice a second: the region was there before the registry, or its owner never
    /// registered it.
    Lock,
    /// Nothing: a region that is kept has no owner.
    None,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lease => "lease",
            Self::Lock => "lock",
            Self::None => "none",
        })
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id: as the daemon sees it for clients of the registry, else as the process itself said.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Command name.
    pub program: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program, self.pid)
    }
}

/// One subscriber of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberInfo {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Command name.
    pub program: String,
    /// Messages received.
    pub received: u64,
    /// Messages missed.
    pub lost: u64,
    /// Samples held now.
    pub held: u32,
    /// Positions between the publisher's and this subscriber's.
    pub lag: u64,
    /// Whether it sleeps until the next message.
    pub asleep: bool,
}

/// A region, as the registry and the region itself know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Name of the topic or raw region.
    pub name: String,
    /// Whether somebody stands behind it.
    pub state: RegionState,
    /// Why it is unauthorised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Who has probably removed its name, and what can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlinked: Option<String>,
    /// Whether it is a raw region, which has no slots, no type and no subscribers.
    pub raw: bool,
    /// Where its file is.
    pub path: String,
    /// Size of its file in bytes.
    pub size_bytes: u64,
    /// Number of slots.
    pub slots: Option<u32>,
    /// Size of a slot in bytes, 64 of which are its header.
    pub slot_bytes: Option<u64>,
    /// Name of the messages' type, in brackets for a slice.
    #[serde(rename = "type")]
    pub message_type: Option<String>,
    /// Its owner, if known.
    pub publisher: Option<Process>,
    /// What tells the registry that the owner is dead. None if the region itself was asked and not the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// Messages published.
    pub published: Option<u64>,
    /// Messages per second, over the last one to two seconds; 0 if nothing came for a second and for twice the usual
    /// interval. None before the second message, and if the publisher's time stamps are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Bytes of messages per second, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// Time since the last message was published, in nanoseconds. None if there was none, or its time stamp was off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_age_ns: Option<u64>,
    /// Its subscribers.
    pub subscribers: Vec<SubscriberInfo>,
}

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The topic was there when the watch began.
    Present,
    /// The process was subscribed when the watch began.
    SubscriberPresent,
    /// A region appeared under the name.
    Published,
    /// The publisher closed the topic, or a raw region's name was removed.
    Closed,
    /// A raw region's creator let it go; it stays.
    Kept,
    /// The owner died; its region is gone.
    Died,
    /// Somebody removed the name of a living region.
    Unlinked,
    /// This process had the registry remove the region. For a living topic it was closed first.
    Removed,
    /// A process subscribed, or came back to a registry that was started anew.
    Subscribed,
    /// A subscriber ended cleanly.
    Unsubscribed,
    /// A subscriber died.
    SubscriberDied,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Present,
        Self::SubscriberPresent,
        Self::Published,
        Self::Closed,
        Self::Kept,
        Self::Died,
        Self::Unlinked,
        Self::Removed,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::SubscriberDied,
    ];
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Present => "present",
            Self::SubscriberPresent => "subscriber_present",
            Self::Published => "published",
            Self::Closed => "closed",
            Self::Kept => "kept",
            Self::Died => "died",
            Self::Unlinked => "unlinked",
            Self::Removed => "removed",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::SubscriberDied => "subscriber_died",
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryEvent {
    /// What.
    pub kind: EventKind,
    /// To which topic or raw region.
    pub topic: String,
    /// When: milliseconds since the epoch.
    pub time_ms: u64,
    /// By which process, if known: the owner's, the subscriber's, or the remover's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How the process died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<DeathCertificate>,
}

/// A death certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Who was subscribed.
    #[serde(default)]
    pub subscribers: Vec<SubscriberInfo>,
}

/// Errors of the interface: their parameters are the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
pub enum RegistryError {
    /// The name is no topic name.
    #[serde(rename = "io.conduit.Registry.InvalidTopic")]
    #[error("{reason}")]
    InvalidTopic {
        /// The name.
        topic: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such region.
    #[serde(rename = "io.conduit.Registry.TopicNotFound")]
    #[error("there is no topic \"{topic}\"")]
    TopicNotFound {
        /// The topic.
        topic: String,
    },
    /// Another process has registered this very file.
    #[serde(rename = "io.conduit.Registry.AlreadyRegistered")]
    #[error("topic \"{topic}\" is registered by pid {pid} ({program})")]
    AlreadyRegistered {
        /// The topic.
        topic: String,
        /// The registrant.
        pid: u32,
        /// Its command name.
        program: String,
    },
    /// The file belongs to another user than the caller.
    #[serde(rename = "io.conduit.Registry.NotOwner")]
    #[error("topic \"{topic}\" belongs to uid {uid}; only that user's processes can do this")]
    NotOwner {
        /// The topic.
        topic: String,
        /// The file's owner.
        uid: u32,
    },
    /// The administrator's rules do not let this process publish the topic.
    #[serde(rename = "io.conduit.Registry.NotAllowed")]
    #[error("topic \"{topic}\" may not be published, rule {rule} of the registry: {reason}")]
    NotAllowed {
        /// The topic.
        topic: String,
        /// The rule's name in quotes, or its number.
        rule: String,
        /// What it asks for.
        reason: String,
    },
    /// The region's owner lives, and force was not asked for.
    #[serde(rename = "io.conduit.Registry.TopicInUse")]
    #[error("topic \"{topic}\" is live: {owner} publishes it; stop that process, or use force")]
    TopicInUse {
        /// The topic.
        topic: String,
        /// The owner's program and pid, as far as they are known.
        owner: String,
    },
    /// The registry could not do what was asked.
    #[serde(rename = "io.conduit.Registry.Failed")]
    #[error("{reason}")]
    Failed {
        /// What it could not do, and why.
        reason: String,
    },
    /// The connection holds a lease already.
    #[serde(rename = "io.conduit.Registry.LeaseInUse")]
    #[error("this connection holds the lease of topic \"{topic}\"; open another one")]
    LeaseInUse {
        /// The topic it holds.
        topic: String,
    },
    /// The peer has too much of something.
    #[serde(rename = "io.conduit.Registry.LimitExceeded")]
    #[error("too many {what}: the limit is {limit}")]
    LimitExceeded {
        /// Of what.
        what: String,
        /// How many there may be.
        limit: u64,
    },
    /// No interface of that name.
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    #[error("there is no interface {interface}")]
    InterfaceNotFound {
        /// The interface asked for.
        interface: String,
    },
    /// No method of that name.
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    #[error("there is no method {method}")]
    MethodNotFound {
        /// The method asked for.
        method: String,
    },
    /// A parameter is missing, unknown or of the wrong type.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    #[error("bad parameter: {parameter}")]
    InvalidParameter {
        /// Which, and what is wrong with it.
        parameter: String,
    },
    /// The method gives many replies and the call did not ask for more than one.
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    #[error("this method needs a call with `more`")]
    ExpectedMore {},
}

impl Reply {
    /// Splits a reply into its parameters or its error.
    pub fn into_result(self) -> Result<serde_json::Value, ErrorReply> {
        match self.error {
            None => Ok(self.parameters),
            Some(name) => Err(ErrorReply { name, parameters: self.parameters }),
        }
    }
}

impl From<RegistryError> for Reply {
    fn from(error: RegistryError) -> Self {
        let value = serde_json::to_value(&error).unwrap_or_default();
        let name = value.get("error").and_then(|name| name.as_str()).map(str::to_owned);
        Self { parameters: value.get("parameters").cloned().unwrap_or_default(), continues: false, error: name }
    }
}

/// An error as it came over the socket: known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// Qualified name of the error.
    pub name: String,
    /// Its parameters.
    pub parameters: serde_json::Value,
}

impl ErrorReply {
    /// The error as one of this interface's.
    pub fn known(&self) -> Option<RegistryError> {
        let value = serde_json::json!({ "error": self.name, "parameters": self.parameters });
        serde_json::from_value(value).ok()
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(error) => error.fmt(f),
            None => write!(f, "{} {}", self.name, self.parameters),
        }
    }
}

/// A message with its end, ready to send.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // As for `Reply::with`.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(END);
    bytes
}

/// A reply with its end, ready to send.
pub fn encode_reply(parameters: &impl Serialize) -> Vec<u8> {
    encode(&Answered { parameters, continues: false })
}

/// One of several replies with its end, ready to send.
pub fn encode_continued(parameters: &impl Serialize) -> Vec<u8> {
    encode(&Answered { parameters, continues: true })
}

/// A [`Reply`] that is written without a detour.
#[derive(Serialize)]
struct Answered<'a, P> {
    parameters: &'a P,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_the_socket_with_their_fields() {
        let error = RegistryError::AlreadyRegistered { topic: "imu".into(), pid: 7, program: "x".into() };
        let reply: Reply = serde_json::from_slice(&serde_json::to_vec(&Reply::from(error.clone())).unwrap()).unwrap();
        assert_eq!(reply.error.as_deref(), Some("io.conduit.Registry.AlreadyRegistered"));
        assert_eq!(reply.parameters["pid"], 7);
        assert_eq!(reply.into_result().unwrap_err().known(), Some(error));
    }

    #[test]
    fn the_description_names_every_method_and_error() {
        for method in
            ["Register", "Attach", "Release", "List", "Describe", "Reap", "Watch", "Deaths", "Unlink", "Status"]
        {
            assert!(DESCRIPTION.contains(&format!("method {method}(")), "{method}");
        }
        let errors = [
            "InvalidTopic",
            "TopicNotFound",
            "AlreadyRegistered",
            "NotOwner",
            "NotAllowed",
            "TopicInUse",
            "Failed",
            "LeaseInUse",
            "LimitExceeded",
        ];
        for error in errors {
            assert!(DESCRIPTION.contains(&format!("error {error} (")), "{error}");
        }
    }
}
