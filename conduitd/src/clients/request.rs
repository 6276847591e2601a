//! The calls that the daemon answers: method names and parameters, parsed once.

#[cfg(test)]
mod tests;

use conduit::TopicName;
use conduit::internal::foreign_text::{clean, clean_name};
use conduit::internal::protocol::INTERFACE;
use conduit::internal::shm::dir::FileId;
use conduit::registry::{EventKind, RegistryError};
use serde_json::Value;

use super::call::{Parameters, invalid};
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
        let mut parameters = Parameters::of(parameters)?;
        let request = match method.rsplit_once('.') {
            Some((INTERFACE, name)) => Self::of_registry(name, &mut parameters)?,
            Some((SERVICE, name)) => Self::of_service(name, &mut parameters)?,
            Some((interface, _)) => {
                return Err(RegistryError::InterfaceNotFound { interface: clean_name(interface) });
            }
            None => None,
        };
        let request = request.ok_or_else(|| RegistryError::MethodNotFound { method: clean_name(method) })?;
        parameters.end()?;
        Ok(request)
    }

    /// Whether the call has an effect, and must be carried out even if the client does not want or
    /// await the reply.
    pub(crate) fn has_effect(&self) -> bool {
        matches!(
            self,
            Self::Register { .. } | Self::Attach { .. } | Self::Release | Self::Unlink { .. } | Self::Reap { .. }
        )
    }

    /// Whether the call ends and leaves the connection with nothing: a connection beyond the limits
    /// may ask for that.
    pub(crate) fn is_question(&self) -> bool {
        !matches!(self, Self::Register { .. } | Self::Attach { .. } | Self::Release | Self::Watch(_))
    }

    /// `None` if there is no such method.
    fn of_registry(name: &str, parameters: &mut Parameters) -> Result<Option<Self>, RegistryError> {
        Ok(Some(match name {
            "Register" => {
                let (topic, file) = (take_topic(parameters)?, take_file(parameters)?);
                let announced = FileFacts { mode: parameters.optional("mode")?, gid: parameters.optional("gid")? };
                Self::Register { topic, file, announced }
            }
            "Attach" => {
                let (topic, file) = (take_topic(parameters)?, take_file(parameters)?);
                Self::Attach { topic, file, record: parameters.optional("record")? }
            }
            "Release" => Self::Release,
            "Status" => Self::Status,
            "List" => Self::List,
            "Deaths" => Self::Deaths,
            "Describe" => Self::Describe { topic: take_topic(parameters)? },
            "Reap" => Self::Reap { topic: take_topic(parameters)? },
            "Unlink" => {
                let topic = take_topic(parameters)?;
                Self::Unlink { topic, force: parameters.optional("force")?.unwrap_or(false) }
            }
            "Watch" => {
                let (topic, kinds) = (parameters.optional::<String>("topic")?, take_kinds(parameters)?);
                Self::Watch(EventFilter::new(topic.as_deref(), kinds)?)
            }
            _ => return Ok(None),
        }))
    }

    fn of_service(name: &str, parameters: &mut Parameters) -> Result<Option<Self>, RegistryError> {
        Ok(match name {
            "GetInfo" => Some(Self::GetInfo),
            "GetInterfaceDescription" => Some(Self::GetInterfaceDescription {
                interface: clean_name(parameters.required::<String>("interface")?),
            }),
            _ => None,
        })
    }
}

fn take_topic(parameters: &mut Parameters) -> Result<TopicName, RegistryError> {
    let topic: String = parameters.required("topic")?;
    TopicName::new(&topic).map_err(|error| {
        // The client's text may be anything, and as long as a message.
        RegistryError::InvalidTopic { topic: clean_name(topic), reason: clean(error.to_string()) }
    })
}

fn take_file(parameters: &mut Parameters) -> Result<FileId, RegistryError> {
    Ok(FileId { dev: parameters.required("dev")?, ino: parameters.required("inode")? })
}

/// The kinds of events that are wanted, each once. One that the registry does not know is an error:
/// it could not report any.
fn take_kinds(parameters: &mut Parameters) -> Result<Option<Vec<EventKind>>, RegistryError> {
    let Some(wanted) = parameters.optional::<Vec<EventKind>>("kinds")? else { return Ok(None) };
    if wanted.iter().any(|kind| matches!(kind, EventKind::Unknown(_))) {
        return Err(invalid("kinds"));
    }
    Ok(Some(EventKind::ALL.into_iter().filter(|kind| wanted.contains(kind)).collect()))
}
