//! Owns the clients that have connected and are not served yet. Each user's wait for one another: a
//! user who connects and hangs up in a loop delays others by one connection at a time.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use conduit::internal::shm::socket::refuse_descriptors;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::{UnixListener, UnixStream};
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
/// Connections that are accepted, and that begin to be served, before other work has its turn.
/// Accepting is cheap, and whoever waits in the kernel's queue waits for all users.
const ACCEPTED_PER_TURN: usize = 32;
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

/// Accepts clients until the task is dropped.
pub(crate) async fn accept(hub: Rc<Hub>, listener: UnixListener) {
    let mut arrivals = Arrivals { users: VecDeque::new() };
    loop {
        if arrivals.users.is_empty() {
            match listener.accept().await {
                Ok((stream, _)) => admit(&hub, stream, &mut arrivals),
                Err(error) => {
                    tracing::warn!("cannot accept a client: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            }
        }
        for _ in 0..ACCEPTED_PER_TURN {
            let Some(stream) = accept_now(&listener) else { break };
            admit(&hub, stream, &mut arrivals);
        }
        for _ in 0..SERVED_PER_TURN {
            let Some(arrival) = arrivals.pop() else { break };
            begin(&hub, arrival);
        }
        yield_now().await;
    }
}

/// A client that has connected already.
fn accept_now(listener: &UnixListener) -> Option<UnixStream> {
    match listener.poll_accept(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok((stream, _))) => Some(stream),
        // An error comes again when the next client is waited for.
        Poll::Ready(Err(_)) | Poll::Pending => None,
    }
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
    match hub.accounts.admit(uid) {
        Ok(admission) => arrivals.push(uid, (stream, admission)),
        Err(error) => {
            if let Some(count) = hub.accounts.count_refusal() {
                let pid = credentials.pid();
                tracing::warn!(conduit.uid = uid, conduit.pid = pid, count, "refused: {error}");
            }
            refuse(&stream, error);
        }
    }
}

fn begin(hub: &Rc<Hub>, (stream, admission): Arrival) {
    if has_hung_up(&stream) && is_drained(&stream) {
        return;
    }
    match PeerProcess::of(&stream) {
        Ok(peer) => {
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
