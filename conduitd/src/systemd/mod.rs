//! The service manager: notified of the daemon's state, and the keeper of its descriptors over a
//! restart.
//!
//! A thread of its own sends everything, in order: a service manager that does not read must not
//! block the daemon. Without a service manager all of this does nothing. See
//! [`sd_notify(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html) and
//! [`sd_listen_fds(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html).

pub(crate) mod inherited;
pub(crate) mod logind;
pub(crate) mod store;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

/// Orders that may be queued while the service manager does not read; more are dropped.
const MAX_ORDERS: usize = 4096;
/// How long a client waits until the service manager has its connection. It reads at once unless it
/// is stuck.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the end of the daemon waits for the service manager to read the last notifications.
const END_TIMEOUT: Duration = Duration::from_millis(500);
/// A shorter interval would leave no time for other work.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(20);
const LONGEST_WATCHDOG: Duration = Duration::from_secs(24 * 3600);

/// A message to the service manager.
enum NotifyOrder {
    Notify(String),
    Keep { name: String, descriptor: OwnedFd },
    Forget { name: String },
    Barrier(oneshot::Sender<()>),
}

/// The connection to the service manager, if there is one.
pub(crate) struct Supervisor {
    orders: Option<SyncSender<NotifyOrder>>,
    /// Disconnected when the thread ends.
    ended: Option<Receiver<()>>,
    /// The service manager has not processed a barrier in time. It is not waited for until it has.
    is_silent: Arc<AtomicBool>,
    keeps: bool,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// No service manager.
    pub(crate) fn none() -> Self {
        Self { orders: None, ended: None, is_silent: Arc::default(), keeps: false, watchdog: None }
    }

    /// The service manager that started this process, if it asks for notifications.
    pub(crate) fn from_environment() -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self::none());
        }
        let (orders, received) = sync_channel(MAX_ORDERS);
        let (running, ended) = sync_channel(0);
        let is_silent = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&is_silent);
        std::thread::Builder::new().name("notify".into()).spawn(move || {
            send(&received, &of_thread);
            drop(running);
        })?;
        Ok(Self { orders: Some(orders), ended: Some(ended), is_silent, keeps: has_store(), watchdog: watchdog() })
    }

    /// Whether there is one.
    pub(crate) fn is_present(&self) -> bool {
        self.orders.is_some()
    }

    /// Whether kept descriptors are passed to the next daemon.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// How often to feed the watchdog: twice per time-out.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Clients are served, and the directory and earlier clients have been adopted.
    pub(crate) fn ready(&self) {
        self.notify(&[NotifyState::Ready]);
    }

    /// The policy is being reloaded, until [`ready`](Self::ready).
    pub(crate) fn reloading(&self) {
        // Without the time, the service manager would not match the reload with its own request.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// The daemon is stopping.
    pub(crate) fn stopping(&self) {
        self.notify(&[NotifyState::Stopping]);
    }

    /// For `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        self.notify(&[NotifyState::Status(text)]);
    }

    /// The event loop runs.
    pub(crate) fn feed_watchdog(&self) {
        self.notify(&[NotifyState::Watchdog]);
    }

    /// The current operation needs more time.
    pub(crate) fn needs_longer(&self, by: Duration) {
        self.notify(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
    }

    /// Has a descriptor kept under a unique name. It is kept after a hang-up too, which the next
    /// daemon must see.
    pub(crate) fn keep(&self, name: String, descriptor: impl AsFd) {
        if !self.keeps {
            return;
        }
        match descriptor.as_fd().try_clone_to_owned() {
            Ok(descriptor) => self.order(NotifyOrder::Keep { name, descriptor }),
            Err(error) => tracing::warn!("cannot have {name:?} kept over a restart: {error}"),
        }
    }

    /// Drops a kept descriptor.
    pub(crate) fn forget(&self, name: String) {
        if self.keeps {
            self.order(NotifyOrder::Forget { name });
        }
    }

    /// Waits until the service manager has processed everything sent before. One that does not
    /// read costs a second once, and not for each client.
    pub(crate) async fn barrier(&self) {
        if !self.keeps {
            return;
        }
        let (done, processed) = oneshot::channel();
        self.order(NotifyOrder::Barrier(done));
        if !self.is_silent.load(Ordering::Relaxed)
            && tokio::time::timeout(BARRIER_TIMEOUT, processed).await.is_err()
            && !self.is_silent.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("the service manager does not read; descriptors may not be kept over a restart");
        }
    }

    fn notify(&self, states: &[NotifyState]) {
        if self.orders.is_some() {
            let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
            self.order(NotifyOrder::Notify(lines.join("\n")));
        }
    }

    fn order(&self, order: NotifyOrder) {
        if let Some(orders) = &self.orders
            && let Err(TrySendError::Full(_)) = orders.try_send(order)
        {
            tracing::warn!("the service manager does not read its notifications; one was dropped");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(ended) = &self.ended {
            // A service manager that does not read does not keep the daemon from ending.
            let _ = ended.recv_timeout(END_TIMEOUT);
        }
    }
}

/// Whether descriptors are kept at all: systemd sets the variable since version 254.
fn has_store() -> bool {
    std::env::var("FDSTORE").ok().and_then(|most| most.parse::<u32>().ok()).is_some_and(|most| most > 0)
}

/// The watchdog's time-out; `None` without a watchdog, or if its variables are invalid.
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
        "WATCHDOG_USEC={text} is not between 20 ms and a day; the watchdog is not fed, set WatchdogSec= to a value like 10s"
    );
    None
}

fn send(orders: &Receiver<NotifyOrder>, is_silent: &AtomicBool) {
    // Only the first of consecutive failures is logged.
    let mut has_failed = false;
    let mut note = |result: io::Result<()>| {
        if let Err(error) = &result
            && !has_failed
        {
            tracing::warn!("cannot notify the service manager: {error}");
        }
        has_failed = result.is_err();
    };
    while let Ok(first) = orders.recv() {
        // One barrier serves all waiting clients.
        let mut waiting = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()).take(MAX_ORDERS) {
            note(match order {
                NotifyOrder::Notify(text) => sd_notify::notify(&[NotifyState::Custom(&text)]),
                NotifyOrder::Keep { name, descriptor } => {
                    // Else it would be dropped when its peer hangs up, and no daemon would notice
                    // that.
                    let states = [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
                    sd_notify::notify_with_fds(&states, &[descriptor.as_fd()])
                }
                NotifyOrder::Forget { name } => {
                    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)])
                }
                NotifyOrder::Barrier(done) => {
                    waiting.push(done);
                    Ok(())
                }
            });
        }
        if !waiting.is_empty() {
            let processed = wait_until_processed();
            if processed.is_ok() {
                is_silent.store(false, Ordering::Relaxed);
            }
            note(processed);
            for done in waiting {
                let _ = done.send(());
            }
        }
    }
}

/// The service manager closes the pipe when it has processed the message: see `sd_notify_barrier`
/// in `sd_notify(3)`.
fn wait_until_processed() -> io::Result<()> {
    let (ours, theirs) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    let timeout = PollTimeout::try_from(BARRIER_TIMEOUT).unwrap_or(PollTimeout::NONE);
    match poll(&mut [PollFd::new(ours.as_fd(), PollFlags::empty())], timeout)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
