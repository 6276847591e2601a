//! A connection to the registry.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

use super::protocol::{
    Call, DeathList, END, ErrorReply, EventReply, INTERFACE, Reaped, RegistryError, Reply, TopicList, TopicParameter,
    TopicReply, Unlink, Watch, encode,
};
use crate::foreign_text::{clean, clean_json};
use crate::model::{RegistryEvent, RegistryStatus, TopicInfo};
use crate::shm::open::above_standard;
use crate::{Domain, TopicName};

/// How long a call may take: the registry answers in microseconds unless it is stopped.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest reply that is accepted, in bytes.
const MAX_REPLY_BYTES: u64 = 64 << 20;

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

/// A connection to the registry.
///
/// A query that the registry does not answer because it ends is repeated once, to the registry that
/// has been started meanwhile.
#[derive(Debug)]
#[must_use = "the connection ends when the client is dropped"]
pub struct Client {
    pub(super) stream: BufReader<UnixStream>,
    pub(super) sockets: Vec<PathBuf>,
}

impl Client {
    /// Connects to the first registry of the domain that listens.
    pub fn connect(domain: &Domain) -> Result<Self, RegistryCallError> {
        Self::connect_to(domain.sockets().to_vec())
    }

    fn connect_to(sockets: Vec<PathBuf>) -> Result<Self, RegistryCallError> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for socket in &sockets {
            match connect(socket, SockFlag::empty()) {
                Ok(stream) => return Ok(Self { stream: BufReader::new(stream), sockets }),
                Err(error) => failure = error,
            }
        }
        let sockets: Vec<_> = sockets.iter().map(|socket| clean(socket.as_os_str().as_bytes())).collect();
        Err(RegistryCallError::Unreachable { sockets: sockets.join(", "), source: failure })
    }

    /// The registry itself: its version, process and load.
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

    /// Makes the registry remove an orphan, which may belong to another user. Returns whether it
    /// was an orphan.
    pub fn reap(&mut self, topic: &TopicName) -> Result<bool, RegistryCallError> {
        Ok(self.call::<Reaped>("Reap", &TopicParameter { topic: topic.to_string() })?.reaped)
    }

    /// The last 1,000 deaths of owners since the registry was started, oldest first.
    pub fn deaths(&mut self) -> Result<Vec<RegistryEvent>, RegistryCallError> {
        Ok(self.call::<DeathList>("Deaths", &serde_json::json!({}))?.deaths)
    }

    /// Removes a region of this user, or of any for root. An orphan is reaped; a region whose owner
    /// lives is refused unless `force` is set. A live topic is then closed first: its publisher's
    /// next call fails with [`LoanError::Removed`](crate::LoanError::Removed), and its subscribers
    /// get [`RecvError::PublisherGone`](crate::RecvError::PublisherGone).
    pub fn unlink(&mut self, topic: &TopicName, force: bool) -> Result<(), RegistryCallError> {
        self.call::<serde_json::Value>("Unlink", &Unlink { topic: topic.to_string(), force }).map(drop)
    }

    /// A snapshot of everything, then every event: see [`watch_matching`](Self::watch_matching).
    pub fn watch(
        self,
    ) -> Result<impl Iterator<Item = Result<RegistryEvent, RegistryCallError>> + use<>, RegistryCallError> {
        self.watch_matching(&Watch::default())
    }

    /// A snapshot, as events of the kinds [`Present`](crate::registry::EventKind::Present) and
    /// [`SubscriberPresent`](crate::registry::EventKind::SubscriberPresent), then every event for
    /// as long as the registry runs, of what `wanted` admits. No event is lost or repeated between
    /// the two.
    ///
    /// An event of a newer registry that is not understood is an
    /// [error](RegistryCallError::Reply), after which the stream goes on.
    ///
    /// Keep reading: a watcher that falls too many events behind gets an error, and the stream
    /// ends.
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
            let reply = self.reply();
            over = !matches!(reply, Ok((_, true)));
            Some(reply.and_then(|(parameters, _)| Ok(serde_json::from_value::<EventReply>(parameters)?.event)))
        }))
    }

    /// Repeats a call once if the registry hangs up: no method depends on an earlier call.
    pub(super) fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, RegistryCallError> {
        match self.call_once(method, parameters) {
            Err(RegistryCallError::Connection(error)) if is_hang_up(&error) => {
                *self = Self::connect_to(self.sockets.clone())?;
                self.call_once(method, parameters)
            }
            result => result,
        }
    }

    pub(super) fn call_once<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, RegistryCallError> {
        self.send(method, parameters, false)?;
        Ok(serde_json::from_value(self.reply()?.0)?)
    }

    fn send(&mut self, method: &str, parameters: &impl Serialize, more: bool) -> Result<(), RegistryCallError> {
        let parameters = serde_json::to_value(parameters)?;
        let call = Call { method: format!("{INTERFACE}.{method}"), parameters, oneway: false, more };
        Ok(self.stream.get_mut().write_all(&encode(&call))?)
    }

    /// The parameters of one reply, and whether more follow.
    fn reply(&mut self) -> Result<(serde_json::Value, bool), RegistryCallError> {
        let mut message = Vec::new();
        io::Read::take(&mut self.stream, MAX_REPLY_BYTES).read_until(END, &mut message)?;
        if message.pop() != Some(END) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed").into());
        }
        decode(&message)
    }
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

/// Whether the peer closed the connection.
fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Connects within the timeout of a call: with a full backlog, connect would block forever.
pub(super) fn connect(path: &Path, flags: SockFlag) -> io::Result<UnixStream> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let stream = UnixStream::from(above_standard(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)?);
    // SO_SNDTIMEO applies to connect too: socket(7).
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

crate::error_text::debug_as_display!(RegistryCallError);
