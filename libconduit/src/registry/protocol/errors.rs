//! Errors of the interface.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Errors of the interface: their parameters are the fields.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
#[non_exhaustive]
pub enum RegistryError {
    /// The name is no topic name, or the pattern no pattern of topic names.
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
    /// The method does not do this: no method upgrades the connection to another protocol.
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    #[error("method {method} is not implemented")]
    MethodNotImplemented {
        /// The method asked for.
        method: String,
    },
    /// A parameter, or a member of the call itself, is missing, unknown, of the wrong type or there
    /// twice.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    #[error("parameter {parameter} is missing, unknown or invalid; update the library or conduitd")]
    InvalidParameter {
        /// Its name.
        parameter: String,
    },
    /// The method gives many replies and the call did not ask for more than one.
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    #[error("this method needs a call with `more`")]
    ExpectedMore {},
}

/// An error as it came over the socket: known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

crate::error_text::debug_as_display!(RegistryError);
