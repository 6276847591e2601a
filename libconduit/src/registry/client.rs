//! Talking to the registry: leases for publishers and subscribers, questions for everybody.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::{
    Attach, Call, DeathList, END, ErrorReply, EventReply, INTERFACE, Reaped, Register, RegistryError, RegistryEvent,
    RegistryStatus, Release, Reply, TopicInfo, TopicList, TopicParameter, TopicReply, Unlink, Watch, encode,
};
use crate::error::CreateError;
use crate::shm::dir::FileId;
use crate::shm::file::OwnedFile;
use crate::shm::fork;
use crate::shm::process::coarse_now;
use crate::{Domain, TopicName};

/// How long a call may take: the registry answers in microseconds unless it is stopped.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a lease is looked at, and how often a subscriber asks whether its publisher lives if nobody tells it: so that
/// it knows within a second, even on a busy machine.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Longest reply that is accepted, in bytes.
const MAX_REPLY_BYTES: u64 = 64 << 20;

/// Why the registry did not answer a question.
#[derive(Debug, thiserror::Error)]
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
    /// The connection failed in the middle.
    #[error("the registry does not answer: {0}")]
    Connection(#[from] io::Error),
    /// The registry refused.
    #[error("{0}")]
    Refused(ErrorReply),
    /// The reply is not what the method gives.
    #[error("the registry's reply makes no sense: {0}")]
    Reply(#[from] serde_json::Error),
}

/// A connection to the registry.
///
/// A question that the registry did not live to answer is asked once more, of the one that has been started meanwhile.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    sockets: Vec<PathBuf>,
}

impl Client {
    /// Connects to the first registry of the domain that listens.
    pub fn connect(domain: &Domain) -> Result<Self, RegistryCallError> {
        Self::connect_to(domain.sockets().to_vec())
    }

    fn connect_to(sockets: Vec<PathBuf>) -> Result<Self, RegistryCallError> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for socket in &sockets {
            match connect(socket) {
                Ok(stream) => return Ok(Self { stream: BufReader::new(stream), sockets }),
                Err(error) => failure = error,
            }
        }
        let sockets: Vec<_> = sockets.iter().map(|socket| socket.display().to_string()).collect();
        Err(RegistryCallError::Unreachable { sockets: sockets.join(", "), source: failure })
    }

    /// Who answers here, and how much it has to do.
    pub fn status(&mut self) -> Result<RegistryStatus, RegistryCallError> {
        self.call("Status", &serde_json::json!({}))
    }

    /// All regions, sorted by name.
    pub fn list(&mut self) -> Result<Vec<TopicInfo>, RegistryCallError> {
        Ok(self.call::<TopicList>("List", &serde_json::json!({}))?.topics)
    }

    /// One region.
    pub fn describe(&mut self, topic: &TopicName) -> Result<TopicInfo, RegistryCallError> {
        Ok(self.call::<TopicReply>("Describe", &TopicParameter { topic: topic.to_string() })?.topic)
    }

    /// Has an orphan removed that this user may not remove.
    pub fn reap(&mut self, topic: &TopicName) -> Result<bool, RegistryCallError> {
        Ok(self.call::<Reaped>("Reap", &TopicParameter { topic: topic.to_string() })?.reaped)
    }

    /// The last 1,000 deaths of owners since the registry was started, oldest first.
    pub fn deaths(&mut self) -> Result<Vec<RegistryEvent>, RegistryCallError> {
        Ok(self.call::<DeathList>("Deaths", &serde_json::json!({}))?.deaths)
    }

    /// Removes a region of this user, or of any for root. An orphan is reaped; a region whose owner lives is refused unless
    /// `force` is set. A live topic is then closed first: its publisher's next call fails with
    /// [`LoanError::Removed`](crate::LoanError::Removed), and its subscribers get
    /// [`RecvError::PublisherGone`](crate::RecvError::PublisherGone).
    pub fn unlink(&mut self, topic: &TopicName, force: bool) -> Result<(), RegistryCallError> {
        self.call::<serde_json::Value>("Unlink", &Unlink { topic: topic.to_string(), force }).map(drop)
    }

    /// Everything that is there, and then everything that happens: see [`watch_matching`](Self::watch_matching).
    pub fn watch(
        self,
    ) -> Result<impl Iterator<Item = Result<RegistryEvent, RegistryCallError>> + use<>, RegistryCallError> {
        self.watch_matching(&Watch::default())
    }

    /// What is there, as events of the kinds `Present` and `SubscriberPresent`, and then what happens, for as long as the
    /// registry lives: of all that `wanted` admits. There is no gap and no repeat between the two.
    ///
    /// Read them: who is too many events behind gets an error, and no more events.
    pub fn watch_matching(
        mut self,
        wanted: &Watch,
    ) -> Result<impl Iterator<Item = Result<RegistryEvent, RegistryCallError>> + use<>, RegistryCallError> {
        self.send("Watch", wanted, true)?;
        self.stream.get_ref().set_read_timeout(None)?;
        let mut over = false;
        Ok(std::iter::from_fn(move || {
            if over {
                return None;
            }
            let event = self.reply::<EventReply>();
            over = !matches!(event, Ok((_, true)));
            Some(event.map(|(reply, _)| reply.event))
        }))
    }

    /// The interface promises that every call may be repeated.
    fn call<R: DeserializeOwned>(&mut self, method: &str, parameters: &impl Serialize) -> Result<R, RegistryCallError> {
        match self.call_once(method, parameters) {
            Err(RegistryCallError::Connection(error)) if is_hang_up(&error) => {
                *self = Self::connect_to(self.sockets.clone())?;
                self.call_once(method, parameters)
            }
            result => result,
        }
    }

    fn call_once<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, RegistryCallError> {
        self.send(method, parameters, false)?;
        Ok(self.reply()?.0)
    }

    fn send(&mut self, method: &str, parameters: &impl Serialize, more: bool) -> Result<(), RegistryCallError> {
        let parameters = serde_json::to_value(parameters)?;
        let call = Call { method: format!("{INTERFACE}.{method}"), parameters, oneway: false, more };
        Ok(self.stream.get_mut().write_all(&encode(&call))?)
    }

    /// One reply, and whether more follow.
    fn reply<R: DeserializeOwned>(&mut self) -> Result<(R, bool), RegistryCallError> {
        let mut message = Vec::new();
        io::Read::take(&mut self.stream, MAX_REPLY_BYTES).read_until(END, &mut message)?;
        if message.pop() != Some(END) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed").into());
        }
        let reply: Reply = serde_json::from_slice(&message)?;
        let continues = reply.continues;
        let parameters = reply.into_result().map_err(RegistryCallError::Refused)?;
        Ok((serde_json::from_value(parameters)?, continues))
    }
}

/// Whether the other side went away in the middle.
fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Connects within the time of a call: a registry that is stopped, with all its places taken, would not let us in for ever.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let stream = UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, flags, None)?);
    // See socket(7): it holds for connect as well.
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// Connects if that is possible without waiting.
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, flags, None)?);
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// Whether the other side is gone: poll(2) tells that unasked.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// What a publisher or subscriber holds at the registry: a connection, or nothing if there is no registry.
///
/// The registry may be started later, or die. A lease that is not there is taken by the way, where its holder makes system calls
/// anyway ([`look`](Self::look)); no thread watches it.
#[derive(Debug)]
pub(crate) struct Lease {
    client: Option<Client>,
    sockets: Vec<PathBuf>,
    /// The call that takes it, wanting no reply: it can be sent without waiting.
    call: Vec<u8>,
    last_look: Duration,
    generation: u32,
}

impl Lease {
    /// Registers a region that is about to be named. Fails if the administrator's rules are against it; any other refusal
    /// leaves this process without a lease.
    pub(crate) fn register(domain: &Domain, topic: &TopicName, file: &OwnedFile) -> Result<Self, CreateError> {
        let FileId { dev, ino: inode } = file.id;
        let (mode, gid) = (Some(file.mode), Some(file.gid));
        Self::take(domain, "Register", &Register { topic: topic.to_string(), dev, inode, mode, gid }).or_else(
            |refused| match *refused {
                (_, RegistryError::NotAllowed { rule, reason, .. }) => {
                    Err(CreateError::NotAllowed { topic: topic.clone(), rule, reason })
                }
                (lease, error) => Ok(lease.without(&error)),
            },
        )
    }

    /// Attaches a subscriber.
    pub(crate) fn attach(domain: &Domain, topic: &TopicName, id: FileId, record: Option<usize>) -> Self {
        let record = record.map(|record| record as u32);
        let attach = Attach { topic: topic.to_string(), dev: id.dev, inode: id.ino, record };
        Self::take(domain, "Attach", &attach).unwrap_or_else(|refused| refused.0.without(&refused.1))
    }

    /// The lease, and if the registry refused it, why.
    fn take(domain: &Domain, method: &str, parameters: &impl Serialize) -> Result<Self, Box<(Self, RegistryError)>> {
        let json = serde_json::to_value(parameters).unwrap_or_default();
        let call = Call { method: format!("{INTERFACE}.{method}"), parameters: json, oneway: true, more: false };
        let mut lease = Self {
            client: None,
            sockets: domain.sockets().to_vec(),
            call: encode(&call),
            last_look: coarse_now(),
            generation: fork::watched_generation(),
        };
        if lease.sockets.is_empty() {
            return Ok(lease);
        }
        let taken = Client::connect(domain).and_then(|mut client| {
            client.call::<serde_json::Value>(method, parameters)?;
            Ok(client)
        });
        match taken {
            Ok(client) => lease.client = Some(client),
            Err(error @ RegistryCallError::Unreachable { .. }) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!("{error}. Topics work without it; crashed publishers are noticed within a second");
                });
            }
            Err(RegistryCallError::Refused(reply)) => match reply.known() {
                Some(error) => return Err(Box::new((lease, error))),
                None => lease = lease.without(&reply),
            },
            Err(error) => lease = lease.without(&error),
        }
        Ok(lease)
    }

    fn without(self, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!("{error}; this process goes on without a lease");
        self
    }

    /// Takes the lease again if the registry has gone since, or was not there: twice a second at most, and without ever
    /// waiting for anybody. A registry that refuses it hangs up, or says nothing: then the region's locks speak for its holder.
    ///
    /// `now` is the coarse clock's. Returns whether it was time for a look.
    pub(crate) fn look(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.last_look) < LOOK_INTERVAL || self.generation != fork::generation() {
            return false;
        }
        self.last_look = now;
        self.renew_if_lost();
        true
    }

    fn renew_if_lost(&mut self) {
        if self.client.as_ref().is_some_and(|client| !has_hung_up(client.stream.get_ref())) {
            return;
        }
        self.client = self.sockets.iter().find_map(|socket| {
            let stream = connect_at_once(socket).ok()?;
            let sent = (&stream).write(&self.call).ok()?;
            // An empty socket takes much more than a call.
            (sent == self.call.len()).then_some(())?;
            stream.set_nonblocking(false).ok()?;
            Some(Client { stream: BufReader::new(stream), sockets: self.sockets.clone() })
        });
    }

    /// Ends the lease cleanly. The registry hears of it before whatever happens next.
    pub(crate) fn release(&mut self) {
        if self.generation == fork::generation()
            && let Some(mut client) = self.client.take()
        {
            // A registry that is gone needs no good-bye.
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
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use nix::sys::socket::{Backlog, bind, listen};

    use super::*;

    /// Late enough for another look.
    fn later(lease: &Lease) -> Duration {
        lease.last_look + LOOK_INTERVAL
    }

    fn domain(directory: &Path) -> Domain {
        Domain::new(directory).with_socket(directory.join("registry.sock"))
    }

    fn attach(domain: &Domain) -> Lease {
        Lease::attach(domain, &"scan".parse().unwrap(), FileId { dev: 1, ino: 2 }, Some(3))
    }

    /// The one call that came over a connection.
    fn call(mut stream: &UnixStream) -> Call {
        let mut bytes = [0; 1024];
        let len = stream.read(&mut bytes).unwrap();
        assert_eq!(bytes[len - 1], END);
        serde_json::from_slice(&bytes[..len - 1]).unwrap()
    }

    #[test]
    fn a_lease_is_taken_whenever_there_is_a_registry_again() {
        let directory = tempfile::tempdir().unwrap();
        let domain = domain(directory.path());
        let mut lease = attach(&domain);
        lease.look(later(&lease));
        assert!(lease.client.is_none(), "nobody is there");
        for _ in 0..3 {
            let listener = std::os::unix::net::UnixListener::bind(&domain.sockets()[0]).unwrap();
            lease.look(lease.last_look);
            assert!(
                lease.client.as_ref().is_none_or(|client| has_hung_up(client.stream.get_ref())),
                "not at every call"
            );
            lease.look(later(&lease));
            let (stream, _) = listener.accept().unwrap();
            let call = call(&stream);
            assert_eq!((call.method.as_str(), call.oneway), ("io.conduit.Registry.Attach", true));
            assert_eq!(call.parameters, serde_json::json!({"topic": "scan", "dev": 1, "inode": 2, "record": 3}));
            listener.set_nonblocking(true).unwrap();
            lease.look(later(&lease));
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "a lease that lives is kept");
            std::fs::remove_file(&domain.sockets()[0]).unwrap();
        }
        lease.release();
        assert!(lease.client.is_none());
    }

    #[test]
    fn a_registry_that_takes_nobody_in_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let domain = domain(directory.path());
        let mut lease = attach(&domain);
        let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&domain.sockets()[0]).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let crowd: Vec<_> = std::iter::from_fn(|| connect_at_once(&domain.sockets()[0]).ok()).take(100).collect();
        assert!(crowd.len() < 100, "it never was full");
        let started = Instant::now();
        lease.look(later(&lease));
        assert!(lease.client.is_none() && started.elapsed() < CALL_TIMEOUT / 2);
    }

    #[test]
    fn a_domain_without_registry_is_never_asked() {
        let directory = tempfile::tempdir().unwrap();
        let listening = domain(directory.path());
        let listener = std::os::unix::net::UnixListener::bind(&listening.sockets()[0]).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut lease = attach(&listening.without_registry());
        lease.look(later(&lease));
        assert!(lease.client.is_none() && listener.accept().is_err());
    }
}
