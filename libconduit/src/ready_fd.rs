//! A descriptor that is readable while a subscriber has something to receive, for event loops of
//! other libraries.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::{fmt, io};

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read, write};

use crate::error::{explained, no_thread};
use crate::mutation::{mutated, step};
use crate::parker::Ticket;
use crate::shm::descriptor::{Descriptor, InChildren};
use crate::shm::open::{Access, reopen};
use crate::watched::Watched;

/// A descriptor for `poll(2)`, `epoll(7)` and what is built on them, readable while its
/// [`Subscriber`](crate::Subscriber) has something to receive. Made by
/// [`Subscriber::ready_fd`](crate::Subscriber::ready_fd), which has an example.
///
/// # The contract
///
/// - It is readable (`POLLIN`) while the subscriber has a message to receive, and for good once the
///   topic has ended or the subscriber was dropped. It is not readable otherwise, except in the
///   case below.
/// - The subscriber's own calls maintain this: `try_recv`, `recv` and `recv_timeout` clear the
///   readiness when they have received the last message or found none. Never read from it or write
///   to it.
/// - A loop may receive one message per iteration: a level-triggered `poll` returns at once the
///   next time. An edge-triggered one (`EPOLLET`, and tokio's `AsyncFd`) reports the first message,
///   and the first one after each `None` of `try_recv`: receive until `None`, as with a socket.
/// - It can be readable spuriously, if a message was received at the moment of its arrival or
///   overwritten before it was received. Then `try_recv` returns `None` and clears the readiness.
/// - If the subscriber [follows](crate::SubscriberBuilder::follow) its topic, it is also readable
///   when a publisher has come or gone, until the next call of `try_recv`, and for good only once
///   the subscriber was dropped.
/// - If the subscriber has a [deadline](crate::SubscriberBuilder::deadline), it is also readable
///   when no message has come in time, until a call has reported that: the thread that sleeps for
///   the descriptor wakes then. A loop needs no timer of its own.
/// - A dead publisher is noticed as by `recv`: at once with the daemon, within a second without.
///
/// While there is nothing to receive, one thread of the library sleeps for all descriptors (up to
/// 127), at no cost. An unread message costs nothing either. In a process forked from the
/// subscriber's, the descriptor is meaningless.
///
/// Clones are the same descriptor. It is closed with the last of them and the subscriber.
#[derive(Clone)]
#[must_use = "the descriptor is closed when the last handle is dropped"]
pub struct ReadyFd {
    flag: Arc<Flag>,
    _alive: Arc<()>,
}

impl AsFd for ReadyFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.flag.pipe.as_fd()
    }
}

impl AsRawFd for ReadyFd {
    fn as_raw_fd(&self) -> RawFd {
        self.flag.pipe.number()
    }
}

impl fmt::Debug for ReadyFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadyFd").field(&self.as_raw_fd()).finish()
    }
}

struct Flag {
    /// A pipe, open at both ends, with a byte in it if the flag is raised. An `eventfd(2)` could
    /// not be told from those of the program.
    pipe: Descriptor,
    is_raised: Mutex<bool>,
}

impl Flag {
    fn set(&self, raise: bool) {
        let mut is_raised = self.is_raised.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_raised != raise || mutated!(flag_set_twice) {
            // A byte in, or out again: neither can block, nor fail while the pipe is open.
            let _ = if raise { write(&self.pipe, &[1]) } else { read(&self.pipe, &mut [0]) };
            step!(flag_noted, *is_raised = raise);
        }
    }

    fn is_raised(&self) -> bool {
        *self.is_raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        step!(flag_by_parker, self.set(true));
    }
}

/// The subscriber's side of its descriptor. Either the flag is raised or the ticket is armed to
/// raise it.
pub(crate) struct Beacon {
    flag: Arc<Flag>,
    waker: Waker,
    ticket: Ticket,
    alive: Weak<()>,
}

impl Beacon {
    pub(crate) fn new(watched: &Arc<Watched>) -> io::Result<(Self, ReadyFd)> {
        let pipe = Descriptor::open_as(InChildren::Open, || {
            let (one_end, _other_end) = pipe2(OFlag::O_CLOEXEC)?;
            // Opened by its path, a pipe can be read and written.
            reopen(one_end, Access::ReadWrite)
        });
        let pipe = pipe.map_err(|error| explained("open a descriptor", &error))?;
        let flag = Arc::new(Flag { pipe, is_raised: Mutex::new(false) });
        let ticket = Ticket::new(Arc::clone(watched)).map_err(no_thread)?;
        let alive = Arc::new(());
        let beacon = Self {
            waker: Waker::from(Arc::clone(&flag)),
            flag: Arc::clone(&flag),
            ticket,
            alive: Arc::downgrade(&alive),
        };
        step!(beacon_begin, beacon.lower());
        Ok((beacon, ReadyFd { flag, _alive: alive }))
    }

    /// Another handle to the same descriptor, unless all are dropped.
    pub(crate) fn handle(&self) -> Option<ReadyFd> {
        Some(ReadyFd { flag: Arc::clone(&self.flag), _alive: self.alive.upgrade()? })
    }

    /// Whether a handle exists.
    pub(crate) fn is_used(&self) -> bool {
        self.alive.strong_count() > 0
    }

    /// The subscriber has gone to another topic, which may have something to receive: also for
    /// loops that wait for an edge.
    pub(crate) fn move_to(&mut self, watched: &Arc<Watched>) {
        self.ticket.move_to(watched);
        self.lower();
    }

    /// There is nothing to receive.
    pub(crate) fn lower(&self) {
        step!(beacon_lower, self.flag.set(false));
        if self.ticket.arm(&self.waker) {
            step!(beacon_raise, self.flag.set(true));
        }
    }

    /// After every call that may have received.
    pub(crate) fn settle(&self, watched: &Watched) {
        // If it is ready and the flag is not raised, the parker is about to raise it.
        // survives beacon_settle_when_ready: arming finds that it is ready, and raises it again.
        if (!watched.is_ready() || mutated!(beacon_settle_when_ready)) && self.flag.is_raised() {
            step!(beacon_settle, self.lower());
        }
    }

    /// The topic has ended, or the subscriber is dropped.
    pub(crate) fn raise_for_good(&self) {
        // survives beacon_disarm_left_out: the parker finds the end, and disarms it as well; so
        // does dropping the ticket.
        step!(beacon_disarm, self.ticket.disarm());
        step!(beacon_raise_for_good, self.flag.set(true));
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::{Domain, Publisher, Subscriber};

    /// A parker and a subscriber can raise it one after the other.
    #[test]
    fn what_is_raised_twice_is_lowered_at_once() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let _publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
        let subscriber = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        let (beacon, descriptor) = Beacon::new(subscriber.watched()).unwrap();
        let is_readable =
            || poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0;
        assert!(!is_readable());
        beacon.flag.set(true);
        beacon.flag.set(true);
        assert!(is_readable());
        beacon.lower();
        assert!(!is_readable());
    }
}
