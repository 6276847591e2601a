//! Calls and replies, and how they are framed.

use serde::{Deserialize, Serialize};

use super::errors::{ErrorReply, RegistryError};
use crate::foreign_text::clean_json;

/// Name of the interface.
pub const INTERFACE: &str = "io.conduit.Registry";

/// The interface in Varlink's own language, as `org.varlink.service.GetInterfaceDescription` gives
/// it.
pub const DESCRIPTION: &str = include_str!("../io.conduit.Registry.varlink");

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
pub struct Reply<P = serde_json::Value> {
    /// The reply's parameters, or the error's.
    #[serde(default)]
    pub parameters: P,
    /// More replies to the same call follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// Qualified name of the error, if the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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
        let mut value = serde_json::to_value(&error).unwrap_or_default();
        // An error quotes paths, rules and calls: no client should reject the reply for it.
        clean_json(&mut value);
        let name = value.get("error").and_then(|name| name.as_str()).map(str::to_owned);
        Self { parameters: value.get("parameters").cloned().unwrap_or_default(), continues: false, error: name }
    }
}

/// A message with its end, ready to send.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // Serializing the messages of this protocol cannot fail.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(END);
    bytes
}

/// A reply with its end, ready to send.
pub fn encode_reply(parameters: &impl Serialize) -> Vec<u8> {
    encode(&Reply { parameters, continues: false, error: None })
}

/// One of several replies with its end, ready to send.
pub fn encode_continued(parameters: &impl Serialize) -> Vec<u8> {
    encode(&Reply { parameters, continues: true, error: None })
}
