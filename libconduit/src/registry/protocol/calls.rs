//! Parameters and replies of the methods.
//!
//! A client ignores fields of a reply that it does not know, and keeps unknown values: a newer
//! registry does not break it. Parameters are strict (`deny_unknown_fields`), as
//! [Varlink](https://varlink.org/Method-Call) wants it: a registry that ignored a parameter would
//! do something other than it was asked to, so it replies `InvalidParameter`, and a newer client
//! can fall back.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{EventKind, RegistryEvent, TopicInfo};

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
    /// Permission bits of the file, for an early and clear refusal; what counts is what it will
    /// really have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Numeric id of the file's group, for the same purpose.
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

/// Parameters of `Unlink`: removes the region's name, for its user or root.
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
#[non_exhaustive]
pub struct Watch {
    /// Glob of topic names: `*` stays within a segment, `**` crosses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Kinds of events. A kind that the registry does not know is an error: it could not report
    /// any.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_kinds")]
    pub kinds: Option<Vec<EventKind>>,
}

impl Watch {
    /// The events of topics that match a pattern, and of some kinds; `None` for all.
    pub fn new(topic: Option<String>, kinds: Option<Vec<EventKind>>) -> Self {
        Self { topic, kinds }
    }
}

fn known_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<EventKind>>, D::Error> {
    let kinds = Option::<Vec<EventKind>>::deserialize(deserializer)?;
    match kinds.iter().flatten().find(|kind| matches!(kind, EventKind::Unknown(_))) {
        Some(unknown) => Err(D::Error::custom(format_args!("unknown variant `{unknown}` of the kinds of events"))),
        None => Ok(kinds),
    }
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
