//! The service manager: telling it how we are, what it has us begin with, and what it keeps for us.
//!
//! Everything is told by a thread of its own, in order: a service manager that does not read must not keep the daemon from
//! serving. Without one all of this does nothing. See [`sd_notify(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)
//! and [`sd_listen_fds(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html).

pub(crate) mod logind;
pub(crate) mod store;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use conduit::internal::shm::inherited::take_inherited;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

/// Orders that may wait for the service manager to read. One that does not is not waited for.
const MOST_ORDERS: usize = 4096;
/// How long a client waits for the service manager to have its connection. It reads at once unless it is stuck.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);
/// Who feeds the watchdog more often does nothing else.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(20);
const LONGEST_WATCHDOG: Duration = Duration::from_secs(24 * 3600);

/// Something to be told.
enum Order {
    Say(String),
    Keep { name: String, descriptor: OwnedFd },
    Forget { name: String },
    Barrier(oneshot::Sender<()>),
}

/// The way to the service manager, if there is one.
pub(crate) struct Supervisor {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
    keeps: bool,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Nobody to tell anything.
    pub(crate) fn none() -> Self {
        Self { orders: None, thread: None, keeps: false, watchdog: None }
    }

    /// Whoever has started this process, if it wants to know.
    pub(crate) fn of_environment() -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self::none());
        }
        let (orders, received) = sync_channel(MOST_ORDERS);
        let thread = std::thread::Builder::new().name("notify".into()).spawn(move || tell(&received))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), keeps: has_store(), watchdog: watchdog() })
    }

    /// Whether descriptors that are kept come back to the next daemon.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// How often it wants to hear that the daemon turns: twice in the time after which it would end it.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Clients are served, and everything that was there has been adopted.
    pub(crate) fn ready(&self) {
        self.say(&[NotifyState::Ready]);
    }

    /// The rules are being read again; then comes [`ready`](Self::ready).
    pub(crate) fn reloading(&self) {
        // Without the time the service manager would take the reload for one that it did not ask for.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.say(&[NotifyState::Reloading, now]);
        }
    }

    /// The daemon is about to end.
    pub(crate) fn stopping(&self) {
        self.say(&[NotifyState::Stopping]);
    }

    /// For `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        self.say(&[NotifyState::Status(text)]);
    }

    /// The daemon turns.
    pub(crate) fn feed_watchdog(&self) {
        self.say(&[NotifyState::Watchdog]);
    }

    /// What is being done takes its time, and goes on.
    pub(crate) fn needs_longer(&self, by: Duration) {
        self.say(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
    }

    /// Has a descriptor kept under a name that nothing else is kept under. It stays after a hang-up: the next daemon is to see it.
    pub(crate) fn keep(&self, name: String, descriptor: impl AsFd) {
        if !self.keeps {
            return;
        }
        match descriptor.as_fd().try_clone_to_owned() {
            Ok(descriptor) => self.order(Order::Keep { name, descriptor }),
            Err(error) => tracing::warn!("can not have {name:?} kept over a restart: {error}"),
        }
    }

    /// Ends the keeping.
    pub(crate) fn forget(&self, name: String) {
        if self.keeps {
            self.order(Order::Forget { name });
        }
    }

    /// Waits until everything told before has been heard.
    pub(crate) async fn barrier(&self) {
        if !self.keeps {
            return;
        }
        let (done, heard) = oneshot::channel();
        self.order(Order::Barrier(done));
        if tokio::time::timeout(BARRIER_TIMEOUT, heard).await.is_err() {
            tracing::warn!("the service manager does not read what it is to keep");
        }
    }

    fn say(&self, states: &[NotifyState]) {
        if self.orders.is_some() {
            let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
            self.order(Order::Say(lines.join("\n")));
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && let Err(TrySendError::Full(_)) = orders.try_send(order)
        {
            tracing::warn!("the service manager does not read what it is told");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether descriptors are kept at all: systemd 254 and newer say so.
fn has_store() -> bool {
    std::env::var("FDSTORE").ok().and_then(|most| most.parse::<u32>().ok()).is_some_and(|most| most > 0)
}

/// After what silence the service manager ends the daemon; `None` if it does not, or what it says makes no sense.
fn watchdog() -> Option<Duration> {
    let text = std::env::var("WATCHDOG_USEC").ok()?;
    let pid = std::env::var("WATCHDOG_PID").ok();
    if pid.is_some_and(|pid| pid.parse() != Ok(std::process::id())) {
        return None;
    }
    let interval = text.parse::<u64>().ok().map(Duration::from_micros);
    if interval.is_some_and(|it| (SHORTEST_WATCHDOG..=LONGEST_WATCHDOG).contains(&it)) {
        return interval;
    }
    tracing::warn!(
        "WATCHDOG_USEC={text} is no interval from 20 ms to a day; the watchdog is not fed, set WatchdogSec= to something like 10s"
    );
    None
}

fn tell(orders: &Receiver<Order>) {
    let mut trouble = Trouble::default();
    while let Ok(first) = orders.recv() {
        // One barrier serves all who wait.
        let mut waiting = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()).take(MOST_ORDERS) {
            trouble.note(match order {
                Order::Say(text) => sd_notify::notify(&[NotifyState::Custom(&text)]),
                Order::Keep { name, descriptor } => {
                    // Otherwise it would be forgotten when its other side is gone: nobody would learn of that.
                    let states = [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
                    sd_notify::notify_with_fds(&states, &[descriptor.as_fd()])
                }
                Order::Forget { name } => sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)]),
                Order::Barrier(done) => {
                    waiting.push(done);
                    Ok(())
                }
            });
        }
        if !waiting.is_empty() {
            trouble.note(wait_until_heard());
            for done in waiting {
                let _ = done.send(());
            }
        }
    }
}

/// The service manager closes the pipe when it has come to the message: see `sd_notify_barrier` in `sd_notify(3)`.
fn wait_until_heard() -> io::Result<()> {
    let (ours, theirs) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    let timeout = PollTimeout::try_from(BARRIER_TIMEOUT).unwrap_or(PollTimeout::NONE);
    match poll(&mut [PollFd::new(ours.as_fd(), PollFlags::empty())], timeout)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Says once that something is wrong, and when it has passed.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = &result
            && !self.0
        {
            tracing::warn!("can not tell the service manager: {error}");
        }
        self.0 = result.is_err();
    }
}

/// The descriptors that this process was started with, by their names.
pub(crate) fn inherited() -> Vec<(String, OwnedFd)> {
    take_inherited().unwrap_or_else(|error| {
        tracing::warn!("LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES make no sense ({error}); starting without them");
        Vec::new()
    })
}
