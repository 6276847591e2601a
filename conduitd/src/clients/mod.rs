//! Clients: accepts their connections within the limits, reads their calls, answers them.

pub(crate) mod call;
mod connection;
pub(crate) mod frames;
mod keeper;
mod methods;
mod reader;
pub(crate) mod request;
mod writer;

use std::rc::Rc;
use std::time::Duration;

use conduit::internal::shm::socket::refuse_descriptors;
pub(crate) use connection::resume;
use connection::serve;
use tokio::net::{UnixListener, UnixStream};

use crate::hub::Hub;
use crate::peer::PeerProcess;
use crate::tasks;

/// How long to wait after a failed accept(2): descriptors are free again when a client leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until the task is dropped.
pub(crate) async fn accept(hub: Rc<Hub>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => tasks::spawn("connection", admit(Rc::clone(&hub), stream)),
            Err(error) => {
                tracing::warn!("cannot accept a client: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn admit(hub: Rc<Hub>, stream: UnixStream) {
    refuse_descriptors(&stream);
    let peer = match PeerProcess::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!("cannot identify a client: {error}");
            return;
        }
    };
    let uid = peer.process.uid;
    match hub.accounts.admit(uid) {
        Ok(admission) => serve(&hub, hub.processes.next_connection(), peer, admission, stream).await,
        Err(error) => {
            if let Some(count) = hub.accounts.count_refusal() {
                let pid = peer.process.pid;
                tracing::warn!(conduit.uid = uid, conduit.pid = pid, count, "refused: {error}");
            }
            writer::send_error(stream, error).await;
        }
    }
}
