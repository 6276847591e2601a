//! The calls that the daemon answers: method names and parameters, parsed once.

#[cfg(test)]
mod tests;

use conduit::TopicName;
use conduit::internal::protocol::{Attach, INTERFACE, Register, Release, TopicParameter, Unlink};
use conduit::internal::shm::dir::FileId;
use conduit::registry::{RegistryError, Watch};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::policy::FileFacts;
use crate::watchers::EventFilter;

/// The interface that every Varlink service has: <https://varlink.org/Service>.
pub(super) const SERVICE: &str = "org.varlink.service";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Register { topic: TopicName, file: FileId, announced: FileFacts },
    Attach { topic: TopicName, file: FileId, record: Option<u32> },
    Release,
    Status,
    List,
    Describe { topic: TopicName },
    Deaths,
    Watch(EventFilter),
    Unlink { topic: TopicName, force: bool },
    Reap { topic: TopicName },
    GetInfo,
    GetInterfaceDescription { interface: String },
}

impl Request {
    /// Parses a call's method and parameters.
    pub(crate) fn parse(method: &str, parameters: Value) -> Result<Self, RegistryError> {
        match method.rsplit_once('.') {
            Some((INTERFACE, name)) => Self::of_registry(name, parameters),
            Some((SERVICE, name)) => Self::of_service(name, parameters),
            Some((interface, _)) => Err(RegistryError::InterfaceNotFound { interface: interface.into() }),
            None => Err(RegistryError::MethodNotFound { method: method.into() }),
        }
    }

    /// Whether the call has an effect, and must be carried out even if the client does not want or
    /// await the reply.
    pub(crate) fn has_effect(&self) -> bool {
        matches!(
            self,
            Self::Register { .. } | Self::Attach { .. } | Self::Release | Self::Unlink { .. } | Self::Reap { .. }
        )
    }

    fn of_registry(name: &str, parameters: Value) -> Result<Self, RegistryError> {
        Ok(match name {
            "Register" => {
                let Register { topic, dev, inode, mode, gid } = parse(parameters)?;
                let (file, announced) = (FileId { dev, ino: inode }, FileFacts { mode, gid });
                Self::Register { topic: topic_name(&topic)?, file, announced }
            }
            "Attach" => {
                let Attach { topic, dev, inode, record } = parse(parameters)?;
                Self::Attach { topic: topic_name(&topic)?, file: FileId { dev, ino: inode }, record }
            }
            "Release" => without_parameters(parameters, Self::Release)?,
            "Status" => without_parameters(parameters, Self::Status)?,
            "List" => without_parameters(parameters, Self::List)?,
            "Deaths" => without_parameters(parameters, Self::Deaths)?,
            "Describe" => Self::Describe { topic: topic_of(parameters)? },
            "Reap" => Self::Reap { topic: topic_of(parameters)? },
            "Unlink" => {
                let Unlink { topic, force } = parse(parameters)?;
                Self::Unlink { topic: topic_name(&topic)?, force }
            }
            "Watch" => {
                let Watch { topic, kinds, .. } = parse(parameters)?;
                Self::Watch(EventFilter::new(topic.as_deref(), kinds)?)
            }
            _ => return Err(RegistryError::MethodNotFound { method: name.into() }),
        })
    }

    fn of_service(name: &str, parameters: Value) -> Result<Self, RegistryError> {
        match name {
            "GetInfo" => without_parameters(parameters, Self::GetInfo),
            "GetInterfaceDescription" => {
                let InterfaceParameter { interface } = parse(parameters)?;
                Ok(Self::GetInterfaceDescription { interface })
            }
            _ => Err(RegistryError::MethodNotFound { method: name.into() }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceParameter {
    interface: String,
}

fn without_parameters(parameters: Value, request: Request) -> Result<Request, RegistryError> {
    // The parameters of `Release` are none, too.
    let Release {} = parse(parameters)?;
    Ok(request)
}

fn topic_of(parameters: Value) -> Result<TopicName, RegistryError> {
    let TopicParameter { topic } = parse(parameters)?;
    topic_name(&topic)
}

fn parse<P: DeserializeOwned>(parameters: Value) -> Result<P, RegistryError> {
    let parameters = if parameters.is_null() { json!({}) } else { parameters };
    if !parameters.is_object() {
        // serde would accept an array of the right length.
        return Err(RegistryError::InvalidParameter { parameter: "the parameters are not an object".into() });
    }
    serde_json::from_value(parameters).map_err(|error| RegistryError::InvalidParameter { parameter: error.to_string() })
}

fn topic_name(topic: &str) -> Result<TopicName, RegistryError> {
    TopicName::new(topic).map_err(|error| {
        // The client's text may be as long as a message.
        let topic = topic.chars().take(TopicName::MAX_LEN).collect();
        RegistryError::InvalidTopic { topic, reason: error.to_string() }
    })
}
