//! What a publisher or subscriber holds at the registry.

use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockFlag;
use serde::Serialize;

use super::client::{Client, RegistryCallError, connect};
use super::protocol::{Attach, Call, INTERFACE, Register, RegistryError, Release, encode};
use crate::error::CreateError;
use crate::intervals::CHECK_INTERVAL;
use crate::shm::clock::coarse_now;
use crate::shm::dir::FileId;
use crate::shm::fork;
use crate::shm::new_file::OwnedFile;
use crate::{Domain, TopicName};

/// Whether the peer has hung up: poll(2) reports that without being asked to.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// A publisher's or subscriber's lease: a connection to the registry, or nothing if there is no
/// registry.
///
/// The registry may start later, or end. A missing lease is re-acquired opportunistically, where
/// its holder makes system calls anyway ([`renew_if_due`](Self::renew_if_due)); no thread watches
/// it.
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
        let json = serde_json::to_value(parameters).unwrap_or_default();
        let call = Call { method: format!("{INTERFACE}.{method}"), parameters: json, oneway: true, more: false };
        let mut lease = Self {
            client: None,
            sockets: domain.sockets().to_vec(),
            call: encode(&call),
            last_check: coarse_now(),
            generation: fork::watched_generation(),
        };
        if lease.sockets.is_empty() {
            return (lease, None);
        }
        let taken = Client::connect(domain).and_then(|mut client| {
            client.call::<serde_json::Value>(method, parameters)?;
            Ok(client)
        });
        let mut refusal = None;
        match taken {
            Ok(client) => lease.client = Some(client),
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
                    tracing::warn!("{error}; this process continues without a lease");
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
        if self.client.as_ref().is_some_and(|client| !has_hung_up(client.stream.get_ref())) {
            return;
        }
        self.client = self.sockets.iter().find_map(|socket| {
            let stream = connect(socket, SockFlag::SOCK_NONBLOCK).ok()?;
            let sent = (&stream).write(&self.call).ok()?;
            // An empty socket takes much more than a call.
            (sent == self.call.len()).then_some(())?;
            stream.set_nonblocking(false).ok()?;
            Some(Client { stream: BufReader::new(stream), sockets: self.sockets.clone() })
        });
    }

    /// Ends the lease cleanly. The registry has processed this before the call returns.
    pub(crate) fn release(&mut self) {
        if self.generation == fork::generation()
            && let Some(mut client) = self.client.take()
        {
            // A registry that has ended needs no release.
            let _ = client.call_once::<serde_json::Value>("Release", &Release::default());
            // Forked children may hold the socket too.
            let _ = client.stream.get_ref().shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation == fork::generation()
            && let Some(client) = &self.client
        {
            let _ = client.stream.get_ref().shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests;
