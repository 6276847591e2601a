//! Owns the daemon's life from start to stop: what it holds before it serves, and the tasks that
//! serve.

mod error;
mod guard;
mod listening;
mod socket;
mod start;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::internal::shm::dir::{FileId, ReapLock, ShmDir};
use conduit::internal::shm::guard::DaemonGuard;
pub use error::StartError;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinSet, LocalSet, spawn_blocking};

use self::listening::{SocketPlace, serve_socket};
use crate::clients::{self, Listener};
use crate::core_dumps::CoreDumps;
use crate::descriptors::Descriptors;
use crate::directory::{Directory, DirectoryWatch};
use crate::holding::ReturningClient;
use crate::hub::{Hub, Resources};
use crate::limits::Limits;
use crate::logging::message_id;
use crate::path_watch::PathWatch;
use crate::policy::{Config, Policy};
use crate::process_watch::{Notice, ProcessWatch};
use crate::reaping::{Reaping, reap};
use crate::systemd::Supervisor;
use crate::tasks;

/// How long to wait between two looks at the directory's path: others may change what is above it
/// without end.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What a daemon serves, and where.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The socket to listen on. `None`: the one that the service manager passed, else the default
    /// of this user's clients.
    pub socket: Option<PathBuf>,
    /// The directory of the regions.
    pub shm_dir: PathBuf,
    /// What clients may use.
    pub limits: Limits,
    /// The policy's rules.
    pub config: Config,
}

/// A daemon that holds everything it needs; clients can connect already.
pub(crate) struct Server {
    listener: StdListener,
    place: Arc<SocketPlace>,
    directory: Arc<ShmDir>,
    watch: DirectoryWatch,
    core_dumps: Option<CoreDumps>,
    lock: ReapLock,
    limits: Limits,
    descriptors: Descriptors,
    policy: Policy,
    config: Config,
    /// Clients of the previous daemon.
    clients: Vec<ReturningClient>,
    supervisor: Supervisor,
    /// `None`: there was no room for it.
    guard: Option<DaemonGuard>,
}

/// Why a daemon has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was asked to.
    Stopped,
    /// The path of its directory stands for another one.
    DirectoryReplaced,
}

impl Server {
    /// Serves until `stop` resolves. Live regions are untouched at the end: clients continue
    /// without a registry.
    ///
    /// `hangups`: signals to reload the policy.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, hangups: Option<Signal>) -> io::Result<Ending> {
        let (watch, notices) = ProcessWatch::start(&self.watch, self.core_dumps)?;
        let listener = Listener::new(self.listener)?;
        let supervisor = Rc::new(self.supervisor);
        let directory = Directory::new(self.directory, self.watch, self.lock);
        let resources = Resources { limits: self.limits, descriptors: self.descriptors };
        let hub = Hub::new(directory, resources, self.policy, watch, Reaping::new(reap), Rc::clone(&supervisor));
        let serve = async {
            let resumed = resume_clients(&hub, self.clients)?;
            let mut serving = start_serving(&hub, listener, &self.place, notices);
            serving.spawn_local(guard::keep(Rc::clone(&hub), self.guard, Arc::clone(&self.place)));
            if let Some(hangups) = hangups {
                serving.spawn_local(reload(Rc::clone(&hub), self.config, hangups));
            }
            if resumed > 0 {
                tracing::info!(message_id = message_id::RESUMED, conduit.clients = resumed, "clients were resumed");
            }
            let (socket, shm_dir) = (self.place.path.display(), hub.directory.shm.path().display());
            tracing::info!(conduit.socket = %socket, conduit.shm_dir = %shm_dir, "ready");
            supervisor.ready();
            let ended = tokio::select! {
                () = stop => Ok(Ending::Stopped),
                () = wait_until_replaced(&hub.directory.shm) => Ok(Ending::DirectoryReplaced),
                failure = first_failure(&mut serving) => Err(failure),
            };
            supervisor.stopping();
            self.place.remove();
            ended
        };
        LocalSet::new().run_until(serve).await
    }
}

/// Adopts the directory and the clients of the previous daemon; returns how many they are.
fn resume_clients(hub: &Rc<Hub>, clients: Vec<ReturningClient>) -> io::Result<usize> {
    let clients = hub.adopt(clients)?;
    let resumed = clients.len();
    for client in clients {
        tasks::spawn("connection", clients::resume(Rc::clone(hub), client));
    }
    Ok(resumed)
}

/// Waits until the path of the directory stands for another one, or for none. What the daemon knows
/// is then about regions that nobody finds any more.
async fn wait_until_replaced(directory: &ShmDir) {
    loop {
        // A link at the end of the path is followed, as when the directory was opened.
        let watch = fs::canonicalize(directory.path()).and_then(|path| PathWatch::new(&path));
        let now = fs::metadata(directory.path()).map(|it| FileId { dev: it.dev(), ino: it.ino() });
        // What cannot be told is no reason to end.
        if now.as_ref().is_ok_and(|now| directory.id().is_ok_and(|id| id != *now))
            || now.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            return;
        }
        match watch {
            Ok(watch) => watch.changed().await,
            Err(error) => {
                tracing::warn!(
                    "cannot watch {}: {error}; if it is replaced, restart the daemon",
                    directory.path().display()
                );
                std::future::pending::<()>().await;
            }
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Starts the tasks without which the daemon does not work.
fn start_serving(
    hub: &Rc<Hub>,
    listener: Listener,
    place: &Arc<SocketPlace>,
    notices: UnboundedReceiver<Notice>,
) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    serving.spawn_local(Rc::clone(hub).watch_locks());
    serving.spawn_local(Rc::clone(hub).watch_directory());
    serving.spawn_local(Rc::clone(hub).watch_deadlines());
    serving.spawn_local(Rc::clone(hub).rescan());
    serving.spawn_local(handle_notices(Rc::clone(hub), notices));
    serving.spawn_local(serve_socket(Rc::clone(hub), listener, Arc::clone(place)));
    serving.spawn_local(Rc::clone(hub).report_status());
    serving.spawn_local(Rc::clone(hub).release_memory());
    if let Some(interval) = hub.supervisor.watchdog_interval() {
        serving.spawn_local(ping(Rc::clone(hub), interval));
    }
    serving
}

/// Waits until a serving task ends, which only a defect causes. The daemon then ends, and its
/// service manager restarts it: a daemon that serves in part would be worse.
async fn first_failure(serving: &mut JoinSet<()>) -> io::Error {
    match serving.join_next().await {
        Some(Err(error)) => io::Error::other(format!("a task of the daemon failed: {error}")),
        Some(Ok(())) | None => io::Error::other("a task of the daemon has ended"),
    }
}

/// Feeds the watchdog for as long as the event loop runs and the process-watching thread answers.
async fn ping(hub: Rc<Hub>, interval: Duration) {
    loop {
        hub.processes.watch.ping();
        tokio::time::sleep(interval).await;
    }
}

/// Reloads the policy at each hang-up signal. An invalid file changes nothing.
async fn reload(hub: Rc<Hub>, config: Config, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        hub.supervisor.reloading();
        let from = config.clone();
        match spawn_blocking(move || from.load()).await {
            Ok(Ok(policy)) => {
                tracing::info!(rules = policy.len(), "the policy was reloaded");
                hub.set_policy(policy);
            }
            Ok(Err(error)) => tracing::error!("{error}; the old rules stay in force"),
            Err(error) => tracing::error!("cannot reload the policy: {error}; the old rules stay in force"),
        }
        hub.supervisor.ready();
    }
}

async fn handle_notices(hub: Rc<Hub>, mut notices: UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        hub.handle(notice);
    }
}
