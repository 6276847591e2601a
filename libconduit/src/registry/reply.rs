//! What the registry answers.

use std::io;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};

use super::protocol::{ErrorReply, RegistryError, Reply};
use crate::foreign_text::{clean_json, is_surely_clean_json};

/// Longest reply that is accepted, in bytes.
pub(super) const MAX_REPLY_BYTES: u64 = 64 << 20;

/// Why a query to the registry failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RegistryCallError {
    /// No registry listens at any socket of the domain.
    #[error("no registry at {sockets}: {source}; start conduitd")]
    Unreachable {
        /// The sockets tried.
        sockets: String,
        /// Why the last one failed.
        source: io::Error,
    },
    /// The connection failed.
    #[error("the registry does not answer: {0}")]
    Connection(#[from] io::Error),
    /// The wait was [stopped](crate::Stop); what the registry reports meanwhile is not lost.
    #[error("waiting for the registry's events was stopped")]
    Stopped,
    /// The registry refused.
    #[error("{0}")]
    Refused(ErrorReply),
    /// The reply is not one of the method.
    #[error("the registry's reply is not understood: {0}; update the library or conduitd")]
    Reply(#[from] serde_json::Error),
}

impl RegistryCallError {
    /// Whether the registry serves as many clients as it may, of this user or in all. That is no
    /// answer to the question.
    #[must_use]
    pub fn is_too_busy(&self) -> bool {
        matches!(self, Self::Refused(reply) if matches!(reply.known(), Some(RegistryError::LimitExceeded { .. })))
    }
}

/// What nearly every reply is.
#[derive(Deserialize)]
struct Success<P> {
    parameters: P,
    #[serde(default, rename = "continues")]
    _continues: bool,
    error: Option<IgnoredAny>,
}

/// The parameters of a reply of a known type.
///
/// A list has hundreds of kilobytes: if it has nothing to clean, no [`serde_json::Value`] is made
/// of it.
pub(crate) fn decode_as<P: DeserializeOwned>(message: &[u8]) -> Result<P, RegistryCallError> {
    if message.starts_with(b"{")
        && is_surely_clean_json(message)
        && let Ok(Success { parameters, error: None, .. }) = serde_json::from_slice(message)
    {
        return Ok(parameters);
    }
    // Anything else, such as an error; and only this says what is wrong with a reply.
    Ok(serde_json::from_value(decode(message)?.0)?)
}

/// The parameters of a reply, and whether more follow.
pub(crate) fn decode(message: &[u8]) -> Result<(serde_json::Value, bool), RegistryCallError> {
    let mut reply: serde_json::Value = serde_json::from_slice(message)?;
    if !reply.is_object() {
        return Err(serde_json::Error::custom("it is not an object").into());
    }
    // Here, so that no text of a registry gets further uncleaned.
    clean_json(&mut reply);
    let reply: Reply = serde_json::from_value(reply)?;
    let continues = reply.continues;
    Ok((reply.into_result().map_err(RegistryCallError::Refused)?, continues))
}

/// The registry hung up.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")
}

crate::error_text::debug_as_display!(RegistryCallError);
