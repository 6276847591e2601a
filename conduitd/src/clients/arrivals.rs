//! Owns the clients that have connected and are not served yet. Each user's wait for one another: a
//! user who connects and hangs up in a loop delays others by one connection at a time.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::internal::shm::socket::refuse_descriptors;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::task::yield_now;

use super::connection::serve;
use super::writer::refuse;
use crate::hub::Hub;
use crate::limits::Admission;
use crate::peer::PeerProcess;
use crate::sockets::{has_hung_up, is_drained};
use crate::tasks;

/// How long to wait after a failed accept(2): descriptors are free again when a client leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections are accepted before other work has its turn: accepting is cheap, and whoever
/// waits in the kernel's queue waits for all users.
const SLICE: Duration = Duration::from_micros(300);
/// Users of whom one connection begins to be served in each turn.
const SERVED_PER_TURN: usize = 8;

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
    /// Waits for the first of several clients.
    waiting: tokio::net::UnixListener,
    /// The same socket, for the others: to accept and to refuse one, nothing needs to wait for it.
    direct: UnixListener,
}

impl Listener {
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let direct = listener.try_clone()?;
        Ok(Self { waiting: tokio::net::UnixListener::from_std(listener)?, direct })
    }

    /// Waits for a client.
    async fn wait(&self) -> io::Result<UnixStream> {
        self.waiting.accept().await?.0.into_std()
    }

    /// A client that has connected already, if there is one.
    fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.direct.accept() {
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
        for _ in 0..SERVED_PER_TURN.min(arrivals.users.len()) {
            if let Some(arrival) = arrivals.pop() {
                begin(&hub, arrival);
            }
        }
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
    Ok(())
}

/// Admits a client within its user's limits, or refuses it.
fn admit(hub: &Rc<Hub>, stream: UnixStream, arrivals: &mut Arrivals<Arrival>) {
    refuse_descriptors(&stream);
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

fn begin(hub: &Rc<Hub>, (stream, admission): Arrival) {
    if has_hung_up(&stream) && is_drained(&stream) {
        return;
    }
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
    use super::*;

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
}
