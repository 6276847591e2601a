//! What a publisher or subscriber holds at the registry.

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use serde::Serialize;

use super::client::Client;
use super::connection::{Patience, RegistrySocket};
use super::protocol::{Attach, Call, INTERFACE, Register, RegistryError, Release, encode};
use super::reply::RegistryCallError;
use super::silence;
use crate::error::CreateError;
use crate::intervals::CHECK_INTERVAL;
use crate::shm::clock::coarse_now;
use crate::shm::dir::FileId;
use crate::shm::fork;
use crate::shm::new_file::OwnedFile;
use crate::{Domain, TopicName};

/// A publisher's or subscriber's lease: a connection to the registry, or nothing if there is no
/// registry.
///
/// The registry may start later, or end. A missing lease is re-acquired opportunistically, where
/// its holder makes system calls anyway ([`renew_if_due`](Self::renew_if_due)); no thread watches
/// it.
///
/// A registry that does not answer in time costs this process one wait: the call stays sent, and
/// from then on leases are taken and released without waiting for replies, until it answers.
#[derive(Debug)]
pub(crate) struct Lease {
    client: Option<Client>,
    sockets: Vec<PathBuf>,
    /// The call that takes the lease, which asks for no reply and so is sent without waiting.
    call: Vec<u8>,
    last_check: Duration,
    generation: u32,
}

impl Lease {
    /// Registers a region that is about to get its name. Fails if the registry's policy does not
    /// allow the topic; after any other refusal this process continues without a lease.
    pub(crate) fn register(domain: &Domain, topic: &TopicName, file: &OwnedFile) -> Result<Self, CreateError> {
        let FileId { dev, ino: inode } = file.id;
        let (mode, gid) = (Some(file.mode), Some(file.gid));
        match Self::take(domain, "Register", &Register { topic: topic.to_string(), dev, inode, mode, gid }) {
            (_, Some(RegistryError::NotAllowed { rule, reason, .. })) => {
                Err(CreateError::NotAllowed { topic: topic.clone(), rule, reason })
            }
            (lease, _) => Ok(lease),
        }
    }

    /// Attaches a subscriber.
    pub(crate) fn attach(domain: &Domain, topic: &TopicName, id: FileId, record: Option<usize>) -> Self {
        let record = record.map(|record| record as u32);
        let attach = Attach { topic: topic.to_string(), dev: id.dev, inode: id.ino, record };
        Self::take(domain, "Attach", &attach).0
    }

    /// Takes the lease. If the registry refuses it for a known reason, returns that too.
    fn take(domain: &Domain, method: &str, parameters: &impl Serialize) -> (Self, Option<RegistryError>) {
        let mut lease = Self {
            client: None,
            sockets: domain.sockets().to_vec(),
            call: one_way(method, parameters),
            last_check: coarse_now(),
            generation: fork::watched_generation(),
        };
        if lease.sockets.is_empty() {
            return (lease, None);
        }
        if lease.sockets.iter().any(|socket| silence::is_noted(socket, Duration::ZERO)) {
            lease.renew_if_lost();
            return (lease, None);
        }
        let taken = Client::connect_in_passing(domain).and_then(|mut client| {
            let result = client.call::<serde_json::Value>(method, parameters);
            if result.is_ok() || client.awaits_late_reply() {
                lease.client = Some(client);
            }
            result
        });
        let mut refusal = None;
        match taken {
            Ok(_) => {}
            Err(error @ RegistryCallError::Unreachable { .. }) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!("{error}. Topics work without it; crashed publishers are noticed within a second");
                });
            }
            Err(error) => {
                if let RegistryCallError::Refused(reply) = &error {
                    refusal = reply.known();
                }
                if !matches!(refusal, Some(RegistryError::NotAllowed { .. })) {
                    tracing::warn!("{error}; this process continues without a lease until it does");
                }
            }
        }
        (lease, refusal)
    }

    /// Takes the lease again if the connection is lost or never existed: at most twice a second,
    /// and without blocking. A registry that refuses it hangs up or does not reply; then the
    /// region's locks prove that its holder lives.
    ///
    /// `now` is the coarse clock's. Returns whether a check was due.
    pub(crate) fn renew_if_due(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.last_check) < CHECK_INTERVAL || self.generation != fork::generation() {
            return false;
        }
        self.last_check = now;
        self.renew_if_lost();
        true
    }

    fn renew_if_lost(&mut self) {
        if self.client.as_ref().is_some_and(|client| !client.stream.get_ref().is_over()) {
            return;
        }
        self.client = self.sockets.iter().find_map(|socket| {
            let stream = RegistrySocket::open(socket, Patience::NONE).ok()?;
            // An empty socket takes much more than a call.
            let is_sent = stream.send_now(&self.call);
            is_sent.then(|| Client::of_one_way(stream, socket.clone(), self.sockets.clone()))
        });
    }

    /// Ends the lease cleanly. The registry has processed this before the call returns, unless it
    /// does not answer.
    pub(crate) fn release(&mut self) {
        if self.generation == fork::generation()
            && let Some(mut client) = self.client.take()
        {
            if client.awaits_late_reply() || silence::is_noted(client.socket(), Duration::ZERO) {
                client.stream.get_ref().send_now(&one_way("Release", &Release::default()));
            } else {
                // A registry that has ended needs no release.
                let _ = client.call_once::<serde_json::Value>("Release", &Release::default());
            }
            // Children may hold the socket too.
            client.stream.get_ref().shut_down();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation == fork::generation()
            && let Some(client) = &self.client
        {
            client.stream.get_ref().shut_down();
        }
    }
}

/// A call that asks for no reply.
fn one_way(method: &str, parameters: &impl Serialize) -> Vec<u8> {
    let parameters = serde_json::to_value(parameters).unwrap_or_default();
    encode(&Call { method: format!("{INTERFACE}.{method}"), parameters, oneway: true, more: false })
}

#[cfg(test)]
mod tests;
