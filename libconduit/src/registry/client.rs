//! A connection to the registry.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{Patience, RegistrySocket};
use super::events::RegistryEvents;
use super::protocol::{
    Call, DeathList, END, INTERFACE, Reaped, TopicList, TopicParameter, TopicReply, Unlink, Watch, encode,
};
use super::reply::{MAX_REPLY_BYTES, RegistryCallError, closed, decode_as};
use super::silence;
use crate::error::explained;
use crate::foreign_text::clean;
use crate::model::{RegistryEvent, RegistryStatus, TopicInfo};
use crate::{Domain, TopicName};

/// How long a question waits for a registry that did not answer earlier ones: it may have been
/// continued just now.
const SECOND_CHANCE: Duration = Duration::from_millis(100);
const STILL_SILENT: &str = "no reply to an earlier call; is conduitd stopped?";

/// A connection to the registry.
///
/// A query that the registry does not answer because it ends is repeated once, to the registry that
/// has been started meanwhile.
///
/// No call waits for long: a registry that is stopped or stuck is an error after a second (five if
/// the machine is overloaded), and at once for the calls after that, until it answers again.
#[derive(Debug)]
#[must_use = "the connection ends when the client is dropped"]
pub struct Client {
    pub(super) stream: BufReader<RegistrySocket>,
    sockets: Vec<PathBuf>,
    /// The one that it is connected to.
    socket: PathBuf,
    patience: Patience,
    /// The reply to an earlier call may still come.
    awaits_late_reply: bool,
}

impl Client {
    /// Connects to the first registry of the domain that listens.
    pub fn connect(domain: &Domain) -> Result<Self, RegistryCallError> {
        Self::connect_within(Patience::QUESTION, domain.sockets().to_vec())
    }

    /// Connects for calls that may fail without consequence.
    pub(crate) fn connect_in_passing(domain: &Domain) -> Result<Self, RegistryCallError> {
        Self::connect_within(Patience::LEASE, domain.sockets().to_vec())
    }

    fn connect_within(patience: Patience, sockets: Vec<PathBuf>) -> Result<Self, RegistryCallError> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for socket in &sockets {
            if silence::is_noted(socket, second_chance(patience)) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, STILL_SILENT).into());
            }
            match RegistrySocket::open(socket, patience) {
                Ok(stream) => {
                    let stream = BufReader::new(stream);
                    let socket = socket.clone();
                    return Ok(Self { stream, sockets, socket, patience, awaits_late_reply: false });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    silence::note(socket);
                    let sentence = "it accepts no connections; is conduitd stopped?";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, sentence).into());
                }
                Err(error) if is_want_of_descriptors(&error) => {
                    return Err(explained("open a socket", &error).into());
                }
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
        self.begin_work()?;
        self.call::<serde_json::Value>("Unlink", &Unlink { topic: topic.to_string(), force }).map(drop)
    }

    /// A snapshot of everything, then every event: see [`watch_matching`](Self::watch_matching).
    pub fn watch(self) -> Result<RegistryEvents, RegistryCallError> {
        self.watch_matching(&Watch::default())
    }

    /// A snapshot, as events of the kinds [`Present`](crate::registry::EventKind::Present) and
    /// [`SubscriberPresent`](crate::registry::EventKind::SubscriberPresent), then every event for
    /// as long as the registry runs, of what `wanted` admits. No event is lost or repeated between
    /// the two.
    ///
    /// An event of a newer registry that is not understood is an
    /// [error](RegistryCallError::Reply), after which the stream continues.
    ///
    /// Keep reading: a watcher that falls too many events behind gets an error, and the stream
    /// ends.
    pub fn watch_matching(mut self, wanted: &Watch) -> Result<RegistryEvents, RegistryCallError> {
        self.begin_work()?;
        self.send("Watch", wanted, true)?;
        Ok(RegistryEvents::new(self.stream))
    }

    /// Before a call whose reply may take long: finds out whether the registry answers at all.
    fn begin_work(&mut self) -> Result<(), RegistryCallError> {
        self.status()?;
        self.patience = Patience::WORK;
        Ok(())
    }

    /// Repeats a call once if the registry hangs up: no method depends on an earlier call.
    pub(super) fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, RegistryCallError> {
        match self.call_once(method, parameters) {
            Err(RegistryCallError::Connection(error)) if is_hang_up(&error) => {
                self.connect_again()?;
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
        if silence::is_noted(&self.socket, second_chance(self.patience)) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, STILL_SILENT).into());
        }
        if self.awaits_late_reply {
            self.connect_again()?;
        }
        let result = self.send(method, parameters, false).and_then(|()| self.message());
        if let Err(RegistryCallError::Connection(error)) = &result
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.awaits_late_reply = true;
            silence::note(&self.socket);
        }
        decode_as(&result?)
    }

    fn connect_again(&mut self) -> Result<(), RegistryCallError> {
        *self = Self::connect_within(self.patience, self.sockets.clone())?;
        Ok(())
    }

    /// Whether a call was sent whose reply did not come in time.
    pub(super) fn awaits_late_reply(&self) -> bool {
        self.awaits_late_reply
    }

    /// A connection over which only calls without replies were sent.
    pub(super) fn of_one_way(stream: RegistrySocket, socket: PathBuf, sockets: Vec<PathBuf>) -> Self {
        let stream = BufReader::new(stream);
        Self { stream, sockets, socket, patience: Patience::LEASE, awaits_late_reply: false }
    }

    pub(super) fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    fn send(&mut self, method: &str, parameters: &impl Serialize, more: bool) -> Result<(), RegistryCallError> {
        let parameters = serde_json::to_value(parameters)?;
        let call = Call { method: format!("{INTERFACE}.{method}"), parameters, oneway: false, more };
        self.stream.get_mut().waits(Some(self.patience));
        Ok(self.stream.get_mut().write_all(&encode(&call))?)
    }

    /// One reply.
    fn message(&mut self) -> Result<Vec<u8>, RegistryCallError> {
        let mut message = Vec::new();
        io::Read::take(&mut self.stream, MAX_REPLY_BYTES).read_until(END, &mut message)?;
        if message.pop() != Some(END) {
            return Err(closed().into());
        }
        Ok(message)
    }
}

fn is_want_of_descriptors(error: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE].map(|errno| Some(errno as i32)).contains(&error.raw_os_error())
}

/// How long to wait for a registry that did not answer an earlier call.
fn second_chance(patience: Patience) -> Duration {
    if patience == Patience::LEASE { Duration::ZERO } else { SECOND_CHANCE }
}

/// Whether the peer closed the connection, or this program its descriptor.
fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
        || error.raw_os_error() == Some(Errno::EBADF as i32)
}
