//! Owns the clients that have connected and are not served yet. Each user's wait for one another: a
//! user who connects and hangs up in a loop delays others by one connection at a time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::internal::shm::socket::refuse_descriptors;
use nix::sys::socket::{Backlog, getsockopt, sockopt};
use tokio::io::Interest;
use tokio::task::yield_now;

use super::connection::serve;
use super::writer::refuse;
use crate::hub::Hub;
use crate::limits::Admission;
use crate::peer::PeerProcess;
use crate::sockets::is_drained;
use crate::tasks;

/// How long to wait after a failed accept(2): descriptors are free again when a client leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections are accepted before other work has its turn. Accepting is cheap, and
/// whoever waits in the kernel's queue waits for all users; but whoever was accepted waits for the
/// end of the turn.
const SLICE: Duration = Duration::from_micros(100);
/// Clients that may wait in the kernel's queue: usually, as many as may call while the daemon is
/// stopped or replaced; and while more come than are accepted in a turn.
const BACKLOG: i32 = 128;
const NARROW_BACKLOG: i32 = 32;
/// Users of whom one connection begins to be served in each turn; and how many are looked at for
/// that, of clients that have hung up meanwhile.
const SERVED_PER_TURN: usize = 8;
const LOOKS_PER_TURN: usize = 24;

/// Clients that wait, by user.
struct Arrivals<C> {
    /// Each user once, with at least one client; the user at the front is next.
    users: VecDeque<(u32, VecDeque<C>)>,
}

impl<C> Arrivals<C> {
    fn push(&mut self, uid: u32, client: C) {
        match self.users.iter_mut().find(|(user, _)| *user == uid) {
            Some((_, clients)) => clients.push_back(client),
            None => self.users.push_back((uid, VecDeque::from([client]))),
        }
    }

    /// The longest waiting client of the user who has waited longest.
    fn pop(&mut self) -> Option<C> {
        let (uid, mut clients) = self.users.pop_front()?;
        let client = clients.pop_front();
        if !clients.is_empty() {
            self.users.push_back((uid, clients));
        }
        client
    }
}

type Arrival = (UnixStream, Admission);

/// A socket on which clients are accepted.
pub(crate) struct Listener {
    listener: UnixListener,
    /// The same socket, to wait for a client. Tokio's listener cannot wait without accepting, and
    /// would have the event loop watch each client, even one that is refused.
    events: tokio::net::UnixStream,
    is_narrow: Cell<bool>,
}

impl Listener {
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let events = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        Ok(Self { listener, events: tokio::net::UnixStream::from_std(events)?, is_narrow: Cell::default() })
    }

    /// Sets how many clients may wait in the kernel's queue.
    fn narrow(&self, is_narrow: bool) {
        if self.is_narrow.replace(is_narrow) != is_narrow {
            let places = Backlog::new(if is_narrow { NARROW_BACKLOG } else { BACKLOG });
            // It listens already: this changes the number alone.
            let _ = nix::sys::socket::listen(&self.listener, places.unwrap_or(Backlog::MAXCONN));
        }
    }

    /// Waits for a client.
    async fn wait(&self) -> io::Result<UnixStream> {
        loop {
            self.events.readable().await?;
            match self.events.try_io(Interest::READABLE, || self.listener.accept()) {
                Ok((stream, _)) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.narrow(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// A client that has connected already, if there is one.
    fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Accepts clients until the task is dropped.
pub(crate) async fn accept(hub: Rc<Hub>, listener: &Listener) {
    let mut arrivals = Arrivals { users: VecDeque::new() };
    loop {
        if let Err(error) = accept_some(&hub, listener, &mut arrivals).await {
            tracing::warn!("cannot accept a client: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        serve_some(&hub, &mut arrivals);
        yield_now().await;
    }
}

/// Accepts clients for a moment; waits for one if none has arrived.
async fn accept_some(hub: &Rc<Hub>, listener: &Listener, arrivals: &mut Arrivals<Arrival>) -> io::Result<()> {
    if arrivals.users.is_empty() {
        admit(hub, listener.wait().await?, arrivals);
    }
    let began = Instant::now();
    while began.elapsed() < SLICE
        && let Some(stream) = listener.accept()?
    {
        admit(hub, stream, arrivals);
    }
    if began.elapsed() >= SLICE {
        listener.narrow(true);
    }
    Ok(())
}

/// Admits a client within its user's limits, or refuses it. One that has hung up is not even asked
/// who it is.
fn admit(hub: &Rc<Hub>, stream: UnixStream, arrivals: &mut Arrivals<Arrival>) {
    if is_drained(&stream) {
        return;
    }
    let credentials = match getsockopt(&stream, sockopt::PeerCredentials) {
        Ok(credentials) => credentials,
        Err(errno) => {
            tracing::warn!("cannot identify a client: {}", io::Error::from(errno));
            return;
        }
    };
    let uid = credentials.uid();
    match hub.accounts.admit_at_least_questions(uid) {
        Ok(admission) => arrivals.push(uid, (stream, admission)),
        Err(error) => {
            hub.accounts.log_refusal(uid, u32::try_from(credentials.pid()).unwrap_or(0), &error);
            refuse(&stream, error);
        }
    }
}

/// Begins to serve a client of each of some users.
fn serve_some(hub: &Rc<Hub>, arrivals: &mut Arrivals<Arrival>) {
    let mut served = 0;
    let most = SERVED_PER_TURN.min(arrivals.users.len());
    for _ in 0..LOOKS_PER_TURN {
        let Some((stream, admission)) = (served < most).then(|| arrivals.pop()).flatten() else { return };
        if !is_drained(&stream) {
            begin(hub, (stream, admission));
            served += 1;
        }
    }
}

fn begin(hub: &Rc<Hub>, (stream, admission): Arrival) {
    // Those that connected before this daemon listened have not inherited it from the listener.
    refuse_descriptors(&stream);
    let prepared = PeerProcess::of(&stream).and_then(|peer| {
        stream.set_nonblocking(true)?;
        Ok((peer, tokio::net::UnixStream::from_std(stream)?))
    });
    match prepared {
        Ok((peer, stream)) => {
            let hub = Rc::clone(hub);
            tasks::spawn("connection", async move {
                serve(&hub, hub.processes.next_connection(), peer, admission, stream).await;
            });
        }
        Err(error) => tracing::warn!("cannot identify a client: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::hub::tests::{TestHub, run};
    use crate::reaping::reap;

    #[test]
    fn users_are_served_in_turn() {
        let mut arrivals = Arrivals { users: VecDeque::new() };
        for client in ["a1", "a2", "a3"] {
            arrivals.push(1, client);
        }
        arrivals.push(2, "b1");
        arrivals.push(3, "c1");
        arrivals.push(2, "b2");
        let served: Vec<_> = std::iter::from_fn(|| arrivals.pop()).collect();
        assert_eq!(served, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(arrivals.users.is_empty());
    }

    struct TestSocket {
        _directory: tempfile::TempDir,
        path: std::path::PathBuf,
        listener: Listener,
    }

    impl TestSocket {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("sock");
            let listener = Listener::new(UnixListener::bind(&path).unwrap()).unwrap();
            Self { _directory: directory, path, listener }
        }

        fn connect(&self) -> UnixStream {
            UnixStream::connect(&self.path).unwrap()
        }
    }

    #[test]
    fn clients_that_have_hung_up_take_no_place() {
        run(async || {
            let (test, socket) = (TestHub::new(reap), TestSocket::new());
            let mut arrivals = Arrivals { users: VecDeque::new() };
            for _ in 0..20 {
                drop(socket.connect());
            }
            let leaving: Vec<UnixStream> = (0..LOOKS_PER_TURN - 1).map(|_| socket.connect()).collect();
            let staying = socket.connect();
            while arrivals.users.iter().map(|(_, clients)| clients.len()).sum::<usize>() <= leaving.len() {
                accept_some(&test.hub, &socket.listener, &mut arrivals).await.unwrap();
            }
            assert_eq!(test.hub.accounts.connections(), leaving.len() + 1);
            drop(leaving);
            serve_some(&test.hub, &mut arrivals);
            assert!(arrivals.users.is_empty());
            assert_eq!(test.hub.accounts.connections(), 1, "the one that stays, in the same turn");
            drop(staying);
        });
    }

    #[test]
    fn few_of_the_clients_that_leave_at_once_are_handled_in_a_turn() {
        run(async || {
            let (test, socket) = (TestHub::new(reap), TestSocket::new());
            let mut arrivals = Arrivals { users: VecDeque::new() };
            let clients: Vec<UnixStream> = (0..20).map(|_| socket.connect()).collect();
            accept_some(&test.hub, &socket.listener, &mut arrivals).await.unwrap();
            while test.hub.accounts.connections() < clients.len() || !arrivals.users.is_empty() {
                if let Some(stream) = socket.listener.accept().unwrap() {
                    admit(&test.hub, stream, &mut arrivals);
                }
                serve_some(&test.hub, &mut arrivals);
                yield_now().await;
            }
            drop(clients);
            let mut left = test.hub.accounts.connections();
            while left > 0 {
                yield_now().await;
                let now = test.hub.accounts.connections();
                assert!(left - now <= 4, "{left} clients, then {now}");
                left = now;
            }
        });
    }

    #[test]
    fn a_call_sent_at_once_is_answered_in_the_turn_in_which_its_client_is_accepted() {
        run(async || {
            let (test, socket) = (TestHub::new(reap), TestSocket::new());
            let mut client = socket.connect();
            client.write_all(b"{\"method\":\"io.conduit.Registry.Status\"}\0").unwrap();
            client.set_nonblocking(true).unwrap();
            let mut arrivals = Arrivals { users: VecDeque::new() };
            accept_some(&test.hub, &socket.listener, &mut arrivals).await.unwrap();
            serve_some(&test.hub, &mut arrivals);
            yield_now().await;
            let mut reply = [0; 4096];
            let len = client.read(&mut reply).expect("an answer");
            assert!(reply[..len].starts_with(b"{\"parameters\":"), "{}", String::from_utf8_lossy(&reply[..len]));
        });
    }
}
