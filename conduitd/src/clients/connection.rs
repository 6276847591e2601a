//! Owns one connection: its loop of calls and replies, or its stream of events.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use conduit::internal::foreign_text::clean_name;
use conduit::internal::protocol::{Reply, encode};
use conduit::registry::RegistryError;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use super::call::{IncomingCall, invalid};
use super::keeper::Keeper;
use super::methods::{Caller, Response, empty_reply};
use super::reader::{CallReader, Incoming};
use super::request::Request;
use super::writer::ReplyWriter;
use crate::descriptors::Charged;
use crate::holding::Holding;
use crate::hub::{Hub, ResumedClient};
use crate::limits::Admission;
use crate::peer::PeerProcess;
use crate::registry::ConnectionId;
use crate::sockets::{HangUp, has_hung_up, peek};
use crate::watchers::{EventFilter, EventReceiver, EventStream};

/// The age from which a connection without a lease is kept over a restart: most clients send one
/// query and leave.
const SETTLED: Duration = Duration::from_secs(1);

/// What became of a message.
enum Answered {
    Call,
    /// The answer is a stream of events.
    Watch(EventFilter),
    /// The message is no call.
    NoCall(RegistryError),
}

/// How long a connection beyond the limits may last: others wait for its place.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves a client until it leaves.
pub(super) async fn serve(
    hub: &Rc<Hub>,
    id: ConnectionId,
    peer: PeerProcess,
    admission: Admission,
    stream: UnixStream,
) {
    let keeper = Keeper::new(&hub.supervisor, id);
    let mut connection = Connection::new(hub, id, peer, ReplyWriter { stream, admission, keeper });
    let ended = connection.run().await;
    connection.end(ended).await;
}

/// Serves a client of the previous daemon until it leaves.
pub(crate) async fn resume(hub: Rc<Hub>, resumed: ResumedClient) {
    let ResumedClient { id, peer, admission, holding, stream, events } = resumed;
    admission.set_lease(matches!(holding, Holding::Lease { .. }));
    let keeper = Keeper::resume(&hub.supervisor, id, holding);
    let mut connection = Connection::new(&hub, id, peer, ReplyWriter { stream, admission, keeper });
    let ended = match events {
        Some(events) => connection.pass_on(events).await,
        None => connection.run().await,
    };
    connection.end(ended).await;
}

struct Connection<'a> {
    hub: &'a Rc<Hub>,
    id: ConnectionId,
    peer: PeerProcess,
    since: Instant,
    reader: CallReader,
    writer: ReplyWriter,
}

impl<'a> Connection<'a> {
    fn new(hub: &'a Rc<Hub>, id: ConnectionId, peer: PeerProcess, writer: ReplyWriter) -> Self {
        let reader = CallReader::new(hub.limits.message_bytes, writer.admission.charge());
        hub.counts_changed.notify_one();
        Self { hub, id, peer, since: Instant::now(), reader, writer }
    }

    /// Ends the connection. Does not run when the daemon ends: the next daemon continues the
    /// connection.
    async fn end(self, how: io::Result<()>) {
        // A thousand clients of one user may leave at once.
        let turn = self.writer.admission.turn_to_hang_up().await;
        if let Err(error) = how {
            tracing::debug!(connection = self.id, pid = self.peer.process.pid, "disconnected: {error}");
        }
        self.close();
        turn.end_after_others();
    }

    fn close(&self) {
        // Closing is not enough: the service manager may have the socket open too.
        let _ = shutdown(self.writer.stream.as_raw_fd(), Shutdown::Both);
        self.writer.keeper.forget();
        self.hub.ended(self.id);
        self.hub.counts_changed.notify_one();
    }

    async fn run(&mut self) -> io::Result<()> {
        loop {
            if !self.writer.keeper.is_settled() {
                // Boxed, as below: the future of a silent client is small.
                Box::pin(self.settle()).await;
            }
            let message = match self.next_message().await? {
                Incoming::Message(message) => message,
                Incoming::Unacceptable(error) => return self.writer.refuse(error).await,
                Incoming::End => return Ok(()),
            };
            let asked = Instant::now();
            match Box::pin(self.answer(message, asked)).await? {
                Answered::Call => {}
                Answered::Watch(filter) => return Box::pin(self.stream_events(filter, asked)).await,
                Answered::NoCall(error) => return self.refuse_message(error).await,
            }
        }
    }

    /// The next message. A connection beyond the limits does not wait long for one.
    async fn next_message(&mut self) -> io::Result<Incoming> {
        let next = self.reader.next(&self.writer.stream);
        let Some(exceeded) = self.writer.admission.exceeded() else { return next.await };
        match Box::pin(timeout_at(self.since + QUESTION_TIMEOUT, next)).await {
            Ok(incoming) => incoming,
            Err(_) => Ok(Incoming::Unacceptable(exceeded.clone())),
        }
    }

    /// Waits for the next call, or until the connection is old enough to be kept.
    async fn settle(&self) {
        // Tokio takes a socket for readable until a read finds nothing.
        let has_more = self.reader.has_next() || !matches!(peek(&self.writer.stream, &mut [0]), Ok(None));
        if !has_more && timeout(SETTLED, self.writer.stream.readable()).await.is_err() {
            self.writer.keeper.keep(&self.writer.stream, Holding::Nothing);
        }
    }

    /// Answers a call.
    async fn answer(&mut self, message: Vec<u8>, asked: Instant) -> io::Result<Answered> {
        let turn = self.writer.admission.turn().await;
        // In turn, too: reading a long message takes long.
        let call = match IncomingCall::parse(&message) {
            Ok(call) => call,
            Err(error) => return Ok(Answered::NoCall(error)),
        };
        drop(message);
        let (oneway, more) = (call.oneway, call.more);
        let response = self.respond(call, asked).await?;
        turn.end_after_others();
        if let Some(Ok(response)) = &response {
            self.keep(response, oneway, more).await;
        }
        // As late as possible: if this daemon is killed before, the next one answers the call.
        self.reader.finish(&self.writer.stream);
        match response {
            Some(Ok(Response::Watch(filter))) if more && !oneway => return Ok(Answered::Watch(filter)),
            None => {}
            Some(_) if oneway => {}
            Some(Ok(Response::Watch(_))) => self.writer.refuse(RegistryError::ExpectedMore {}).await?,
            Some(Ok(Response::Reply(reply))) => self.writer.send(&reply).await?,
            Some(Ok(Response::Leased(_) | Response::Released)) => self.writer.send(&empty_reply()).await?,
            Some(Err(error)) => self.writer.refuse(error).await?,
        }
        Ok(Answered::Call)
    }

    /// Returns `None` if the call has no effect and its client wants no reply.
    async fn respond(&self, call: IncomingCall, asked: Instant) -> io::Result<Option<Result<Response, RegistryError>>> {
        let request = match Request::parse(&call.method, call.parameters) {
            // There is no other protocol to speak.
            Ok(_) if call.upgrade => Err(RegistryError::MethodNotImplemented { method: clean_name(call.method) }),
            parsed => parsed,
        };
        let has_effect = request.as_ref().is_ok_and(Request::has_effect);
        if !has_effect && !call.oneway && has_hung_up(&self.writer.stream) {
            // A client that sends queries and leaves gives them up; there may be very many.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(match request {
            _ if call.oneway && !has_effect => None,
            Ok(request) => Some(match self.check_room(&request) {
                Ok(()) => self.caller().respond(request, asked.into_std()).await,
                Err(error) => Err(error),
            }),
            Err(error) => Some(Err(error)),
        })
    }

    fn check_room(&self, request: &Request) -> Result<(), RegistryError> {
        if let Some(exceeded) = self.writer.admission.exceeded()
            && !request.is_question()
        {
            self.hub.accounts.log_refusal(self.peer.process.uid, self.peer.process.pid, exceeded);
            return Err(exceeded.clone());
        }
        match request {
            Request::Register { .. } | Request::Attach { .. } => self.writer.admission.check_lease(),
            _ => Ok(()),
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller { hub: self.hub, id: self.id, peer: &self.peer, stream: &self.writer.stream }
    }

    /// Has kept what the connection holds from now on, before it is acknowledged: it then outlives
    /// this process.
    async fn keep(&self, response: &Response, oneway: bool, more: bool) {
        let holding = match response {
            Response::Leased(holding) => {
                self.writer.admission.set_lease(true);
                holding.clone()
            }
            Response::Watch(filter) if more && !oneway => Holding::Watch(filter.clone()),
            Response::Released => {
                self.writer.admission.set_lease(false);
                return self.writer.keeper.forget();
            }
            Response::Watch(_) | Response::Reply(_) => return,
        };
        self.writer.keeper.keep(&self.writer.stream, holding);
        if !oneway {
            self.hub.supervisor.barrier().await;
        }
    }

    async fn stream_events(&mut self, filter: EventFilter, asked: Instant) -> io::Result<()> {
        let charges = [self.writer.admission.charge(), self.writer.admission.charge()];
        let of = (self.id, self.peer.process.uid);
        let started = {
            let _turn = self.writer.admission.turn().await;
            self.hub.watch(of, filter.clone(), charges, asked.into_std()).await
        };
        let EventStream { mut snapshot, events } = match started {
            Ok(stream) => stream,
            Err(error) => return self.writer.refuse(error).await,
        };
        loop {
            let turn = self.writer.admission.turn().await;
            let Some(replies) = snapshot.take(&filter) else { break };
            turn.end_after_others();
            self.writer.send(&replies).await?;
        }
        drop(snapshot);
        self.pass_on(events).await
    }

    async fn pass_on(&mut self, mut events: EventReceiver) -> io::Result<()> {
        events.set_ready(true);
        let mut half_closed: Option<Charged<HangUp>> = None;
        loop {
            tokio::select! {
                has_events = events.wait() => match has_events {
                    true => self.deliver(&mut events).await?,
                    false => {
                        let limit = self.hub.limits.queued_events as u64;
                        let error = RegistryError::LimitExceeded { what: "unread events".into(), limit };
                        return self.writer.write(&encode(&Reply::from(error))).await;
                    }
                },
                ended = HangUp::wait(half_closed.as_deref()), if half_closed.is_some() => return ended,
                incoming = self.reader.next(&self.writer.stream), if half_closed.is_none() => match incoming? {
                    // A client may say that it has nothing more to say, and listen: `nc -N` does.
                    Incoming::End if !has_hung_up(&self.writer.stream) => {
                        let place = match self.writer.admission.descriptor() {
                            Ok(place) => place,
                            Err(error) => return self.writer.refuse(error).await,
                        };
                        half_closed = Some(Charged::new(HangUp::of(&self.writer.stream)?, place));
                    }
                    Incoming::End => return Ok(()),
                    // A watch occupies its connection: only hanging up ends it.
                    Incoming::Message(_) | Incoming::Unacceptable(_) => {
                        return self.refuse_message(invalid("method")).await;
                    }
                },
            }
        }
    }

    /// Sends the next events, for which it is the user's turn: an event for a thousand watchers of
    /// one user delays others by one of them.
    async fn deliver(&self, events: &mut EventReceiver) -> io::Result<()> {
        let batch = events.take();
        let sent = self.writer.try_write(&batch)?;
        let is_stuck = sent < batch.len();
        if is_stuck {
            events.set_stuck(true);
        }
        yield_now().await;
        events.pass_turn();
        if is_stuck {
            // Without a time limit: the queue is bounded, and no other client waits for it.
            Box::pin(self.writer.write_rest(&batch[sent..])).await?;
            events.set_stuck(false);
        }
        Ok(())
    }

    /// Refuses a message, after which the connection ends.
    async fn refuse_message(&mut self, error: RegistryError) -> io::Result<()> {
        // Bytes left unread would reset the connection before the client reads the reply.
        self.reader.finish(&self.writer.stream);
        self.writer.refuse(error).await
    }
}

impl Drop for Connection<'_> {
    /// If its task panics, the connection ends like any other: its lease must not outlive it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::hub::tests::{TestHub, run, topic};
    use crate::reaping::reap;

    #[test]
    fn a_panic_ends_its_connection_with_the_lease() {
        run(async || {
            let test = TestHub::new(reap);
            let _publisher = test.publish();
            let hub = &test.hub;
            let file = hub.directory.shm.id_of(&topic()).unwrap().unwrap();
            let (client, stream) = UnixStream::pair().unwrap();
            let peer = PeerProcess::of(&stream).unwrap();
            let admission = hub.accounts.admit(peer.process.uid).unwrap();
            let keeper = Keeper::new(&hub.supervisor, 1);
            let connection = Connection::new(hub, 1, peer.clone(), ReplyWriter { stream, admission, keeper });
            let subscribers = || hub.describe(&topic()).unwrap().subscribers.len();
            hub.attach(1, &peer, topic(), file, None).unwrap();
            assert_eq!((subscribers(), has_hung_up(&client)), (1, false));
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _connection = connection;
                panic!("on purpose");
            }));
            assert!(panicked.is_err());
            assert_eq!((subscribers(), has_hung_up(&client), hub.accounts.connections()), (0, true, 0));
        });
    }
}
