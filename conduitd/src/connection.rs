//! One client: its frames, its calls, its replies.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

use conduit::TopicName;
use conduit::internal::protocol::{
    Attach, Call, DESCRIPTION, DeathList, END, INTERFACE, Reaped, Register, Release, Reply, TopicParameter, TopicReply,
    Unlink, encode, encode_reply,
};
use conduit::internal::shm::dir::FileId;
use conduit::registry::{RegistryError, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::frames::{Decoder, Frame};
use crate::hub::Hub;
use crate::limits::{Admission, Charge};
use crate::owner::PeerProcess;
use crate::policy::FileFacts;
use crate::registry::ConnectionId;
use crate::restore::Resumed;
use crate::systemd::Supervisor;
use crate::systemd::store::{Entry, Held};
use crate::watchers::{EventFilter, EventReceiver, EventStream};

/// How long a client may leave a reply unread once its socket buffer is full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a message may take from its first byte to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

const SERVICE: &str = "org.varlink.service";
const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// How long a connection without a lease must have been there to be kept over a restart of the daemon: most ask one question and go.
const SETTLED: Duration = Duration::from_secs(1);

/// What a call asks for.
enum Answer {
    /// An encoded reply.
    Reply(Rc<Vec<u8>>),
    Watch(EventFilter),
}

/// An answer, and what the connection holds from now on if it holds something else than before.
type Answered = (Answer, Option<Held>);

/// Serves a client until it goes.
pub(crate) async fn serve(hub: &Rc<Hub>, id: ConnectionId, peer: PeerProcess, place: Admission, stream: UnixStream) {
    let keeper = Keeper::new(hub, id, None);
    let mut connection = Connection::new(hub, id, peer, place, stream, keeper);
    let ended = connection.run().await;
    connection.end(ended);
}

/// Serves a client of the daemon before until it goes.
pub(crate) async fn resume(hub: Rc<Hub>, resumed: Resumed) {
    let Resumed { id, peer, place, held, stream, events } = resumed;
    let keeper = Keeper::new(&hub, id, Entry::Client { id, held }.name());
    let mut connection = Connection::new(&hub, id, peer, place, stream, keeper);
    let ended = match events {
        Some(events) => connection.pass_on(events).await,
        None => connection.run().await,
    };
    connection.end(ended);
}

/// Tells a client that it can not be served.
pub(crate) async fn refuse(mut stream: UnixStream, error: RegistryError) {
    let _ = timeout(WRITE_TIMEOUT, stream.write_all(&encode(&Reply::from(error)))).await;
}

struct Connection<'a> {
    hub: &'a Rc<Hub>,
    id: ConnectionId,
    peer: PeerProcess,
    reader: Reader,
    client: Client,
}

impl<'a> Connection<'a> {
    fn new(
        hub: &'a Rc<Hub>,
        id: ConnectionId,
        peer: PeerProcess,
        place: Admission,
        stream: UnixStream,
        keeper: Keeper,
    ) -> Self {
        let reader = Reader::new(hub.limits.message_bytes, place.charge());
        hub.note_counts();
        Self { hub, id, peer, reader, client: Client { stream, place, keeper } }
    }

    /// The connection is over. This does not happen when the daemon ends: then the next one goes on with it.
    fn end(self, how: io::Result<()>) {
        if let Err(error) = how {
            tracing::debug!(connection = self.id, pid = self.peer.process.pid, "disconnected: {error}");
        }
        // The service manager may have it open still.
        let _ = shutdown(self.client.stream.as_raw_fd(), Shutdown::Both);
        self.client.keeper.forget();
        self.hub.ended(self.id);
        self.hub.note_counts();
    }

    async fn run(&mut self) -> io::Result<()> {
        loop {
            if !self.client.keeper.is_settled() {
                // Boxed: while a client says nothing its connection needs no room for this. What has come is read afterwards.
                Box::pin(self.settle()).await;
            }
            let call = match self.reader.next(&self.client.stream).await? {
                Incoming::Message(message) => serde_json::from_slice::<Call>(&message),
                Incoming::Unacceptable(error) => return self.client.refuse(error).await,
                Incoming::End => return Ok(()),
            };
            let asked = Instant::now();
            let call = match call {
                Ok(call) => call,
                Err(error) => {
                    // Whoever does not speak the protocol can not be answered twice. What is left unread would reset the connection
                    // before the answer is.
                    self.reader.finish(&self.client.stream);
                    let parameter = format!("the message is no call: {error}");
                    return self.client.refuse(RegistryError::InvalidParameter { parameter }).await;
                }
            };
            let (oneway, more) = (call.oneway, call.more);
            // Boxed: while a client says nothing its connection needs no room for answers.
            let answer = Box::pin(self.answer_and_keep(call, asked)).await?;
            // As late as can be: a daemon that is started anew answers what this one did not live to.
            self.reader.finish(&self.client.stream);
            match answer {
                Some(Ok(Answer::Watch(filter))) if more && !oneway => {
                    return Box::pin(self.stream_events(filter, asked)).await;
                }
                _ if oneway => {}
                Some(Ok(Answer::Watch(_))) => self.client.refuse(RegistryError::ExpectedMore {}).await?,
                Some(Ok(Answer::Reply(reply))) => self.client.send(&reply).await?,
                Some(Err(error)) => self.client.refuse(error).await?,
                None => {}
            }
        }
    }

    /// What the connection holds from now on is kept first: what is acknowledged outlives this process.
    async fn answer_and_keep(&self, call: Call, asked: Instant) -> io::Result<Option<Result<Answer, RegistryError>>> {
        let (oneway, more) = (call.oneway, call.more);
        let (answer, held) = match self.answer_in_turn(call, asked).await? {
            Some(Ok(answered)) => answered,
            Some(Err(error)) => return Ok(Some(Err(error))),
            None => return Ok(None),
        };
        let held = match &answer {
            Answer::Watch(filter) if more && !oneway => Some(Held::Watch(filter.clone())),
            _ => held,
        };
        if let Some(held) = held {
            self.client.keeper.keep(&self.client.stream, held);
            if !oneway {
                self.hub.supervisor.barrier().await;
            }
        }
        Ok(Some(Ok(answer)))
    }

    /// Waits for the next call, or until the connection has been there for so long that it is kept.
    async fn settle(&self) {
        // Tokio takes a socket for readable until a look finds nothing.
        let has_more = self.reader.has_next() || !matches!(peek(&self.client.stream, &mut [0]), Ok(None));
        if !has_more && timeout(SETTLED, self.client.stream.readable()).await.is_err() {
            self.client.keeper.keep(&self.client.stream, Held::Nothing);
        }
    }

    /// `None` if nobody wants to know and nothing is to be done.
    async fn answer_in_turn(&self, call: Call, asked: Instant) -> io::Result<Option<Result<Answered, RegistryError>>> {
        let _turn = self.client.place.turn().await;
        let matters = changes_something(&call.method);
        if !matters && !call.oneway && has_hung_up(&self.client.stream) {
            // Who asks and does not stay to hear the answer gives up what else it has sent: it can be very much.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let answer = if call.oneway && !matters { None } else { Some(self.answer(call, asked).await) };
        // With the turn in hand: others are looked at before this user's next call.
        tokio::task::yield_now().await;
        Ok(answer)
    }

    async fn stream_events(&mut self, filter: EventFilter, asked: Instant) -> io::Result<()> {
        let EventStream { snapshot, events } = self.hub.start_watching(self.id, filter, asked.into_std());
        self.client.send(&snapshot).await?;
        drop(snapshot);
        self.pass_on(events).await
    }

    async fn pass_on(&mut self, mut events: EventReceiver) -> io::Result<()> {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    // It may take its time: its queue is bounded, and nobody else waits for it.
                    Some(event) => self.client.write(&event).await?,
                    None => {
                        let limit = self.hub.limits.queued_events as u64;
                        let error = RegistryError::LimitExceeded { what: "unread events".into(), limit };
                        return self.client.write(&encode(&Reply::from(error))).await;
                    }
                },
                incoming = self.reader.next(&self.client.stream) => match incoming? {
                    Incoming::End => return Ok(()),
                    // A stream takes the whole connection: further calls wait for an end that only hanging up brings.
                    Incoming::Message(_) | Incoming::Unacceptable(_) => {
                        self.reader.finish(&self.client.stream);
                        let parameter = "this connection watches; open another one".into();
                        return self.client.refuse(RegistryError::InvalidParameter { parameter }).await;
                    }
                },
            }
        }
    }

    async fn answer(&self, call: Call, asked: Instant) -> Result<Answered, RegistryError> {
        let Some((interface, method)) = call.method.rsplit_once('.') else {
            return Err(RegistryError::MethodNotFound { method: call.method });
        };
        let reply = match interface {
            INTERFACE => match method {
                "Watch" => {
                    let Watch { topic, kinds } = parse(call.parameters)?;
                    return Ok((Answer::Watch(EventFilter::new(topic.as_deref(), kinds)?), None));
                }
                "List" => {
                    parse::<NoParameters>(call.parameters)?;
                    self.hub.list(asked.into_std())
                }
                "Register" | "Attach" => {
                    let held = self.take_lease(method, call.parameters)?;
                    return Ok((Answer::Reply(Rc::new(encode_reply(&json!({})))), Some(held)));
                }
                _ => Rc::new(self.registry_call(method, call.parameters).await?),
            },
            SERVICE => Rc::new(service_call(method, call.parameters)?),
            _ => return Err(RegistryError::InterfaceNotFound { interface: interface.into() }),
        };
        Ok((Answer::Reply(reply), None))
    }

    /// Only who holds a lease is watched; a descriptor for everybody who asks something would be too many.
    fn peer_with_pidfd(&self) -> PeerProcess {
        self.peer.clone().with_pidfd(&self.client.stream)
    }

    fn take_lease(&self, method: &str, parameters: Value) -> Result<Held, RegistryError> {
        if method == "Register" {
            let Register { topic, dev, inode, mode, gid } = parse(parameters)?;
            let peer = self.peer_with_pidfd().with_groups(&self.client.stream);
            let announced = FileFacts { mode, gid };
            self.hub.register(self.id, &peer, topic_name(&topic)?, FileId { dev, ino: inode }, announced)
        } else {
            let Attach { topic, dev, inode, record } = parse(parameters)?;
            let peer = self.peer_with_pidfd();
            self.hub.attach(self.id, &peer, topic_name(&topic)?, FileId { dev, ino: inode }, record)
        }
    }

    async fn registry_call(&self, method: &str, parameters: Value) -> Result<Vec<u8>, RegistryError> {
        Ok(match method {
            "Release" => {
                let Release {} = parse(parameters)?;
                self.hub.release(self.id);
                self.client.keeper.forget();
                encode_reply(&json!({}))
            }
            "Status" => {
                parse::<NoParameters>(parameters)?;
                encode_reply(&self.hub.status())
            }
            "Describe" => {
                let TopicParameter { topic } = parse(parameters)?;
                encode_reply(&TopicReply { topic: self.hub.describe(&topic_name(&topic)?)? })
            }
            "Deaths" => {
                parse::<NoParameters>(parameters)?;
                encode_reply(&DeathList { deaths: self.hub.deaths() })
            }
            "Unlink" => {
                let Unlink { topic, force } = parse(parameters)?;
                let topic = topic_name(&topic)?;
                self.hub.unlink(&self.peer.process, &topic, force).await?;
                encode_reply(&json!({}))
            }
            "Reap" => {
                let TopicParameter { topic } = parse(parameters)?;
                encode_reply(&Reaped { reaped: self.hub.reap_if_dead(&topic_name(&topic)?) })
            }
            _ => return Err(RegistryError::MethodNotFound { method: method.into() }),
        })
    }
}

/// Whether the client is gone, or will read no more: poll(2) tells that unasked.
pub(crate) fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Looks at what can be read; `None` if nothing has come.
fn peek(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let look = || recv(stream.as_raw_fd(), chunk, flags).map_err(io::Error::from);
    match stream.try_io(Interest::READABLE, look) {
        Ok(len) => Ok(Some(len)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a call is worth carrying out if nobody wants the reply.
fn changes_something(method: &str) -> bool {
    matches!(method.strip_prefix(INTERFACE), Some(".Register" | ".Attach" | ".Release" | ".Reap" | ".Unlink"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceParameter {
    interface: String,
}

/// <https://varlink.org/Service>: what every Varlink service answers.
fn service_call(method: &str, parameters: Value) -> Result<Vec<u8>, RegistryError> {
    match method {
        "GetInfo" => {
            parse::<NoParameters>(parameters)?;
            Ok(encode_reply(&json!({
                "vendor": "Conduit",
                "product": "conduitd",
                "version": env!("CARGO_PKG_VERSION"),
                "url": "",
                "interfaces": [SERVICE, INTERFACE],
            })))
        }
        "GetInterfaceDescription" => {
            let InterfaceParameter { interface } = parse(parameters)?;
            let description = match interface.as_str() {
                INTERFACE => DESCRIPTION,
                SERVICE => SERVICE_DESCRIPTION,
                _ => return Err(RegistryError::InterfaceNotFound { interface }),
            };
            Ok(encode_reply(&json!({ "description": description })))
        }
        _ => Err(RegistryError::MethodNotFound { method: method.into() }),
    }
}

/// Parses the parameters of any method, for the fuzzer.
#[cfg(fuzzing)]
pub(crate) fn parse_any(method: &str, parameters: Value) {
    let topic = match method.rsplit_once('.').map_or(method, |(_, method)| method) {
        "Register" => parse::<Register>(parameters).map(|it| it.topic),
        "Attach" => parse::<Attach>(parameters).map(|it| it.topic),
        "Unlink" => parse::<Unlink>(parameters).map(|it| it.topic),
        "Watch" => {
            let _ = parse::<Watch>(parameters).and_then(|it| EventFilter::new(it.topic.as_deref(), it.kinds));
            return;
        }
        other => {
            let _ = service_call(other, parameters.clone());
            parse::<TopicParameter>(parameters).map(|it| it.topic)
        }
    };
    if let Ok(topic) = topic {
        let _ = topic_name(&topic);
    }
}

fn parse<P: DeserializeOwned>(parameters: Value) -> Result<P, RegistryError> {
    let parameters = if parameters.is_null() { json!({}) } else { parameters };
    if !parameters.is_object() {
        // A list of the right length would do for serde.
        return Err(RegistryError::InvalidParameter { parameter: "the parameters are no object".into() });
    }
    serde_json::from_value(parameters).map_err(|error| RegistryError::InvalidParameter { parameter: error.to_string() })
}

fn topic_name(topic: &str) -> Result<TopicName, RegistryError> {
    TopicName::new(topic).map_err(|error| {
        // The client may have sent anything of up to a whole message.
        let topic = topic.chars().take(TopicName::MAX_LEN).collect();
        RegistryError::InvalidTopic { topic, reason: error.to_string() }
    })
}

/// What came next.
enum Incoming {
    Message(Vec<u8>),
    /// Nothing that follows can be understood, or borne.
    Unacceptable(RegistryError),
    End,
}

/// Reads messages. Dropping `next` half-way loses nothing.
struct Reader {
    decoder: Decoder,
    limit: usize,
    /// What the unfinished message takes.
    charge: Charge,
    /// When the unfinished message must be complete.
    deadline: Option<Instant>,
    /// Bytes that have been looked at and wait in the socket until they are answered.
    looked_at: usize,
}

impl Reader {
    fn new(limit: usize, charge: Charge) -> Self {
        Self { decoder: Decoder::new(limit), limit, charge, deadline: None, looked_at: 0 }
    }

    /// Whether some of the next message has been read already.
    fn has_next(&self) -> bool {
        self.decoder.has_bytes()
    }

    async fn next(&mut self, stream: &UnixStream) -> io::Result<Incoming> {
        loop {
            match self.decoder.next() {
                Some(Frame::Message(message)) => {
                    self.deadline = None;
                    return Ok(Incoming::Message(message));
                }
                Some(Frame::TooLong) => return Ok(exceeded("bytes in a message", self.limit as u64)),
                None => {}
            }
            let pending = self.decoder.pending();
            if let Err(error) = self.charge.set(pending) {
                return Ok(Incoming::Unacceptable(error));
            }
            if pending == 0 {
                stream.readable().await?;
            } else {
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + MESSAGE_TIMEOUT);
                let Ok(readable) = timeout_at(deadline, stream.readable()).await else {
                    return Ok(exceeded("seconds from a message's begin to its end", MESSAGE_TIMEOUT.as_secs()));
                };
                readable?;
            }
            // Not before there is something to read, so that clients who say nothing take no memory.
            let mut chunk = [0; 4096];
            if pending == 0
                && let Some(message) = self.look(stream, &mut chunk)?
            {
                return Ok(Incoming::Message(message));
            }
            match stream.try_read(&mut chunk) {
                Ok(0) => return Ok(Incoming::End),
                Ok(len) => self.decoder.push(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message, if all of it is there. It stays in the socket until [`finish`](Self::finish).
    fn look(&mut self, stream: &UnixStream, chunk: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        let len = peek(stream, chunk)?.unwrap_or(0);
        let end = chunk[..len].iter().position(|&byte| byte == END).filter(|&end| end <= self.limit);
        self.looked_at = end.map_or(0, |end| end + 1);
        Ok(end.map(|end| chunk[..end].to_vec()))
    }

    /// Takes the message that was looked at out of the socket.
    fn finish(&mut self, stream: &UnixStream) {
        let mut chunk = [0; 4096];
        // Nobody else reads here: what was there is there.
        let _ = stream.try_read(&mut chunk[..std::mem::take(&mut self.looked_at)]);
    }
}

/// Has the service manager keep a connection, under a name that says what it holds.
struct Keeper {
    supervisor: Rc<Supervisor>,
    id: ConnectionId,
    name: RefCell<Option<String>>,
    /// What it holds can not be kept, so nothing less must be.
    is_barred: Cell<bool>,
}

impl Keeper {
    /// `name`: what it is kept as already.
    fn new(hub: &Hub, id: ConnectionId, name: Option<String>) -> Self {
        let supervisor = Rc::clone(&hub.supervisor);
        Self { supervisor, id, name: RefCell::new(name), is_barred: Cell::default() }
    }

    /// Whether there is nothing to be done about it now.
    fn is_settled(&self) -> bool {
        !self.supervisor.keeps() || self.is_barred.get() || self.name.borrow().is_some()
    }

    fn keep(&self, stream: &UnixStream, held: Held) {
        let name = Entry::Client { id: self.id, held }.name();
        if *self.name.borrow() == name {
            return;
        }
        self.forget();
        match &name {
            Some(name) => self.supervisor.keep(name.clone(), stream),
            None => self.is_barred.set(true),
        }
        self.name.replace(name);
    }

    fn forget(&self) {
        self.is_barred.set(false);
        if let Some(name) = self.name.take() {
            self.supervisor.forget(name);
        }
    }

    /// Runs while the connection must not be handed on, for a message is half out. Who has it end there is no client of the next daemon.
    async fn without<T>(&self, stream: &UnixStream, work: impl Future<Output = T>) -> T {
        let name = self.name.borrow().clone();
        if let Some(name) = &name {
            self.supervisor.forget(name.clone());
        }
        let done = work.await;
        if let Some(name) = name {
            self.supervisor.keep(name, stream);
        }
        done
    }
}

fn exceeded(what: &str, limit: u64) -> Incoming {
    Incoming::Unacceptable(RegistryError::LimitExceeded { what: what.into(), limit })
}

/// The way back.
struct Client {
    stream: UnixStream,
    place: Admission,
    keeper: Keeper,
}

impl Client {
    async fn refuse(&self, error: RegistryError) -> io::Result<()> {
        self.send(&encode(&Reply::from(error))).await
    }

    /// Sends a reply to somebody who is expected to read it.
    async fn send(&self, reply: &[u8]) -> io::Result<()> {
        let sent = self.try_write(reply)?;
        if sent == reply.len() {
            return Ok(());
        }
        // Boxed, for it is rare.
        Box::pin(self.send_rest(reply, sent)).await
    }

    async fn send_rest(&self, reply: &[u8], sent: usize) -> io::Result<()> {
        let mut charge = self.place.charge();
        charge.set(reply.len()).map_err(io::Error::other)?;
        let written = timeout(WRITE_TIMEOUT, self.write_rest(&reply[sent..])).await;
        written.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read")))
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.try_write(bytes)? {
            sent if sent == bytes.len() => Ok(()),
            sent => Box::pin(self.write_rest(&bytes[sent..])).await,
        }
    }

    async fn write_rest(&self, mut bytes: &[u8]) -> io::Result<()> {
        let rest = async {
            while !bytes.is_empty() {
                self.stream.writable().await?;
                bytes = &bytes[self.try_write(bytes)?..];
            }
            Ok(())
        };
        self.keeper.without(&self.stream, rest).await
    }

    /// Writes what goes into the socket's buffer at once.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}
