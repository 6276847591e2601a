//! The methods: carries a request out and encodes its reply.

use std::rc::Rc;
use std::time::Instant;

use conduit::internal::protocol::{DESCRIPTION, DeathList, INTERFACE, Reaped, TopicReply, encode_reply};
use conduit::registry::RegistryError;
use serde_json::json;
use tokio::net::UnixStream;

use super::request::{Request, SERVICE};
use crate::holding::Holding;
use crate::hub::Hub;
use crate::peer::PeerProcess;
use crate::registry::ConnectionId;
use crate::watchers::EventFilter;

const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// Which client made the call.
pub(super) struct Caller<'a> {
    pub(super) hub: &'a Rc<Hub>,
    pub(super) id: ConnectionId,
    pub(super) peer: &'a PeerProcess,
    pub(super) stream: &'a UnixStream,
}

/// What a request results in.
pub(super) enum Response {
    /// An encoded reply.
    Reply(Rc<Vec<u8>>),
    /// The connection holds a lease from now on; the reply is empty.
    Leased(Holding),
    /// The connection holds nothing from now on; the reply is empty.
    Released,
    /// A stream of events, if the client accepts many replies.
    Watch(EventFilter),
}

impl Response {
    fn reply(encoded: Vec<u8>) -> Self {
        Self::Reply(Rc::new(encoded))
    }
}

/// The reply without parameters.
pub(super) fn empty_reply() -> Vec<u8> {
    encode_reply(&json!({}))
}

impl Caller<'_> {
    /// Carries a request out. `asked`: when its call was read.
    pub(super) async fn respond(&self, request: Request, asked: Instant) -> Result<Response, RegistryError> {
        let (hub, uid) = (self.hub, self.peer.process.uid);
        Ok(match request {
            Request::Register { topic, file, announced } => {
                let peer = self.peer_with_pidfd().with_groups(self.stream);
                Response::Leased(hub.register(self.id, &peer, topic, file, announced)?)
            }
            Request::Attach { topic, file, record } => {
                let peer = self.peer_with_pidfd().with_groups(self.stream);
                Response::Leased(hub.attach(self.id, &peer, topic, file, record)?)
            }
            Request::Release => {
                hub.release(self.id);
                Response::Released
            }
            Request::Status => Response::reply(encode_reply(&hub.status(uid).await)),
            Request::List => Response::Reply(hub.list(uid, asked).await),
            Request::Describe { topic } => Response::reply(encode_reply(&TopicReply { topic: hub.describe(&topic)? })),
            Request::Deaths => Response::reply(encode_reply(&DeathList { deaths: hub.deaths().await })),
            Request::Watch(filter) => Response::Watch(filter),
            Request::Unlink { topic, force } => {
                hub.unlink(&self.peer.process, &topic, force).await?;
                Response::reply(empty_reply())
            }
            Request::Reap { topic } => Response::reply(encode_reply(&Reaped { reaped: hub.reap_if_dead(&topic) })),
            Request::GetInfo => Response::reply(service_info()),
            Request::GetInterfaceDescription { interface } => Response::reply(description_of(interface)?),
        })
    }

    /// The pidfd is asked for only when a lease is granted: one for every client would be too many
    /// descriptors.
    fn peer_with_pidfd(&self) -> PeerProcess {
        self.peer.clone().with_pidfd(self.stream, &self.hub.descriptors)
    }
}

fn service_info() -> Vec<u8> {
    encode_reply(&json!({
        "vendor": "Conduit",
        "product": "conduitd",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "",
        "interfaces": [SERVICE, INTERFACE],
    }))
}

fn description_of(interface: String) -> Result<Vec<u8>, RegistryError> {
    let description = match interface.as_str() {
        INTERFACE => DESCRIPTION,
        SERVICE => SERVICE_DESCRIPTION,
        _ => return Err(RegistryError::InterfaceNotFound { interface }),
    };
    Ok(encode_reply(&json!({ "description": description })))
}
