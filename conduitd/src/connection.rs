//! One client: its frames, its calls, its replies.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use conduit::TopicName;
use conduit::protocol::{
    Attach, Call, DESCRIPTION, DeathList, END, EventReply, INTERFACE, Reaped, Register, RegistryError, Release, Reply,
    TopicList, TopicParameter, TopicReply, encode,
};
use conduit::shm::dir::FileId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::hub::{Hub, WATCHER_BACKLOG, Watching};
use crate::owner::Peer;
use crate::registry::ConnectionId;

/// Longest message a client may send, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// How long a client may leave a reply unread once its socket buffer is full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

const SERVICE: &str = "org.varlink.service";
const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// What a call asks for.
enum Answer {
    Reply(Reply),
    Watch,
}

/// Serves a client until it goes.
pub(crate) async fn serve(hub: &Rc<Hub>, id: ConnectionId, peer: Peer, stream: UnixStream) {
    let (reader, writer) = stream.into_split();
    let mut connection = Connection { hub, id, peer, frames: Frames::new(reader), writer };
    if let Err(error) = connection.run().await {
        tracing::debug!(connection = id, pid = connection.peer.process.pid, "disconnected: {error}");
    }
    hub.ended(id);
}

/// Tells a client that it can not be served.
pub(crate) async fn refuse(mut stream: UnixStream, error: RegistryError) {
    let _ = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&encode(&Reply::from(error)))).await;
}

struct Connection<'a> {
    hub: &'a Rc<Hub>,
    id: ConnectionId,
    peer: Peer,
    frames: Frames,
    writer: OwnedWriteHalf,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let call = match self.frames.next().await? {
                Frame::Message(message) => serde_json::from_slice::<Call>(&message),
                Frame::TooLong => {
                    let limit = MAX_MESSAGE_BYTES as u64;
                    let error = RegistryError::LimitExceeded { what: "bytes in a message".into(), limit };
                    return self.send(&Reply::from(error)).await;
                }
                Frame::End => return Ok(()),
            };
            let call = match call {
                Ok(call) => call,
                Err(error) => {
                    // Whoever does not speak the protocol can not be answered twice.
                    let parameter = format!("the message is no call: {error}");
                    return self.send(&Reply::from(RegistryError::InvalidParameter { parameter })).await;
                }
            };
            let (oneway, more) = (call.oneway, call.more);
            if oneway && !changes_something(&call.method) {
                tokio::task::yield_now().await;
                continue;
            }
            match self.answer(call) {
                Ok(Answer::Watch) if more && !oneway => return self.stream_events().await,
                Ok(Answer::Watch) => self.send_unless(oneway, RegistryError::ExpectedMore {}.into()).await?,
                Ok(Answer::Reply(reply)) => self.send_unless(oneway, reply).await?,
                Err(error) => self.send_unless(oneway, error.into()).await?,
            }
            // Calls that wait in the buffer must not keep other clients waiting.
            tokio::task::yield_now().await;
        }
    }

    async fn send_unless(&mut self, oneway: bool, reply: Reply) -> io::Result<()> {
        if oneway { Ok(()) } else { self.send(&reply).await }
    }

    async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let written = tokio::time::timeout(WRITE_TIMEOUT, self.writer.write_all(&encode(reply))).await;
        written.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read")))
    }

    async fn stream_events(&mut self) -> io::Result<()> {
        let Watching { present, mut events } = self.hub.start_watching(self.id);
        for event in present {
            self.send(&Reply::continued(&EventReply { event })).await?;
        }
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.send(&Reply::continued(&EventReply { event })).await?,
                    None => {
                        let limit = WATCHER_BACKLOG as u64;
                        let error = RegistryError::LimitExceeded { what: "unread events".into(), limit };
                        return self.send(&error.into()).await;
                    }
                },
                frame = self.frames.next() => match frame? {
                    Frame::End => return Ok(()),
                    // A stream takes the whole connection: further calls wait for an end that only hanging up brings.
                    Frame::Message(_) | Frame::TooLong => {
                        let parameter = "this connection watches; open another one".into();
                        return self.send(&RegistryError::InvalidParameter { parameter }.into()).await;
                    }
                },
            }
        }
    }

    fn answer(&mut self, call: Call) -> Result<Answer, RegistryError> {
        let Some((interface, method)) = call.method.rsplit_once('.') else {
            return Err(RegistryError::MethodNotFound { method: call.method });
        };
        let reply = match interface {
            INTERFACE => match method {
                "Watch" => {
                    parse::<NoParameters>(call.parameters)?;
                    return Ok(Answer::Watch);
                }
                _ => self.registry_call(method, call.parameters)?,
            },
            SERVICE => service_call(method, call.parameters)?,
            _ => return Err(RegistryError::InterfaceNotFound { interface: interface.into() }),
        };
        Ok(Answer::Reply(reply))
    }

    /// Only who holds a lease is watched; a descriptor for everybody who asks something would be too many.
    fn peer_with_pidfd(&self) -> Peer {
        self.peer.clone().with_pidfd(&self.writer)
    }

    fn registry_call(&mut self, method: &str, parameters: Value) -> Result<Reply, RegistryError> {
        Ok(match method {
            "Register" => {
                let Register { topic, dev, inode } = parse(parameters)?;
                let peer = self.peer_with_pidfd();
                self.hub.register(self.id, &peer, topic_name(&topic)?, FileId { dev, ino: inode })?;
                Reply::last(&json!({}))
            }
            "Attach" => {
                let Attach { topic, dev, inode, record } = parse(parameters)?;
                let peer = self.peer_with_pidfd();
                self.hub.attach(self.id, &peer, topic_name(&topic)?, FileId { dev, ino: inode }, record)?;
                Reply::last(&json!({}))
            }
            "Release" => {
                let Release {} = parse(parameters)?;
                self.hub.release(self.id);
                Reply::last(&json!({}))
            }
            "List" => {
                parse::<NoParameters>(parameters)?;
                Reply::last(&TopicList { topics: self.hub.list() })
            }
            "Describe" => {
                let TopicParameter { topic } = parse(parameters)?;
                Reply::last(&TopicReply { topic: self.hub.describe(&topic_name(&topic)?)? })
            }
            "Deaths" => {
                parse::<NoParameters>(parameters)?;
                Reply::last(&DeathList { deaths: self.hub.deaths() })
            }
            "Reap" => {
                let TopicParameter { topic } = parse(parameters)?;
                Reply::last(&Reaped { reaped: self.hub.reap_if_dead(&topic_name(&topic)?) })
            }
            _ => return Err(RegistryError::MethodNotFound { method: method.into() }),
        })
    }
}

/// Whether a call is worth carrying out if nobody wants the reply.
fn changes_something(method: &str) -> bool {
    matches!(method.strip_prefix(INTERFACE), Some(".Register" | ".Attach" | ".Release" | ".Reap"))
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
fn service_call(method: &str, parameters: Value) -> Result<Reply, RegistryError> {
    match method {
        "GetInfo" => {
            parse::<NoParameters>(parameters)?;
            Ok(Reply::last(&json!({
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
            Ok(Reply::last(&json!({ "description": description })))
        }
        _ => Err(RegistryError::MethodNotFound { method: method.into() }),
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
enum Frame {
    Message(Vec<u8>),
    TooLong,
    End,
}

/// Cuts a stream of bytes into messages. Dropping `next` half-way loses nothing.
struct Frames {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no end.
    searched: usize,
}

impl Frames {
    fn new(reader: OwnedReadHalf) -> Self {
        Self { reader, buffer: Vec::new(), searched: 0 }
    }

    async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == END) {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.pop();
                self.searched = 0;
                return Ok(if message.len() > MAX_MESSAGE_BYTES { Frame::TooLong } else { Frame::Message(message) });
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_MESSAGE_BYTES {
                return Ok(Frame::TooLong);
            }
            self.buffer.reserve(4096);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(Frame::End);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(input: &[&[u8]]) -> Vec<Result<Vec<u8>, ()>> {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut frames = Frames::new(server.into_split().0);
        let send = async {
            for chunk in input {
                // The reader hangs up on a message that is too long.
                let _ = client.write_all(chunk).await;
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let receive = async {
            let mut got = Vec::new();
            loop {
                match frames.next().await.unwrap() {
                    Frame::Message(message) => got.push(Ok(message)),
                    Frame::TooLong => {
                        got.push(Err(()));
                        break;
                    }
                    Frame::End => break,
                }
            }
            drop(frames);
            got
        };
        tokio::join!(send, receive).1
    }

    #[tokio::test]
    async fn messages_are_cut_wherever_the_bytes_come_apart() {
        assert_eq!(frames(&[b"ab\0c", b"d", b"\0\0e"]).await, [Ok(b"ab".to_vec()), Ok(b"cd".to_vec()), Ok(Vec::new())]);
    }

    #[tokio::test]
    async fn a_message_without_end_is_given_up_at_the_limit() {
        let longest = vec![b'x'; MAX_MESSAGE_BYTES];
        assert_eq!(frames(&[&longest, b"\0"]).await, [Ok(longest.clone())]);
        assert_eq!(frames(&[&longest, b"x\0"]).await, [Err(())]);
        assert_eq!(frames(&[&vec![b'x'; 10 * MAX_MESSAGE_BYTES]]).await, [Err(())]);
    }
}
