//! The socket, the loop that accepts clients, and the daemon's life from start to stop.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::shm::dir::{ReapLock, ShmDir};
use conduit::shm::process::refuse_descriptors;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{spawn_blocking, spawn_local};

use crate::hub::Hub;
use crate::limits::{Accounts, Limits};
use crate::owner::{Peer, Sight, Watcher};
use crate::policy::{Config, Policy};
use crate::restore::DirectoryWatch;
use crate::{Options, connection};

/// Clients that may wait to be let in: all of them come at once when the daemon is started again.
const BACKLOG: i32 = 1024;
/// Binding a socket takes microseconds.
const TURN_PATIENCE: Duration = Duration::from_millis(200);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon has the socket.
    #[error("another registry listens on {}{}; stop it, or choose another --socket", path.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
        /// The other daemon's pid, if the kernel tells.
        pid: Option<u32>,
    },
    /// Something that is no socket has its name.
    #[error("{} is not a socket; choose another --socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The file with the rules for names is missing or wrong.
    #[error("{0}")]
    Policy(String),
    /// A system call failed.
    #[error("can not {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError + use<> {
    let path = path.to_owned();
    move |source| StartError::Io { doing, path, source }
}

/// A daemon that holds everything it needs and has adopted what it found; clients can connect already.
pub(crate) struct Server {
    listener: StdListener,
    socket: PathBuf,
    directory: Arc<ShmDir>,
    watch: DirectoryWatch,
    lock: ReapLock,
    limits: Limits,
    policy: Policy,
    config: Config,
    _guard: Option<Flock<fs::File>>,
}

impl Server {
    pub(crate) fn start(options: &Options) -> Result<Self, StartError> {
        let shm_dir = options.shm_dir.as_path();
        let config = options.config.clone();
        let policy = config.load().map_err(|error| StartError::Policy(error.to_string()))?;
        let domain = Domain::new(shm_dir).without_registry();
        let directory = ShmDir::open(&domain).map_err(io_error("open", shm_dir))?;
        let watch = DirectoryWatch::new(&directory).map_err(io_error("watch", shm_dir))?;
        raise_descriptor_limit();
        let limits = feasible(options.limits);
        let listener = listen(&options.socket)?;
        refuse_descriptors(&listener);
        let guard = guard_directory(&directory, &options.socket).map_err(io_error("lock", shm_dir))?;
        let lock = reap_lock(guard.as_ref());
        directory.finish_removals(None, lock).map_err(io_error("read", shm_dir))?;
        let socket = options.socket.clone();
        Ok(Self {
            listener,
            socket,
            directory: Arc::new(directory),
            watch,
            lock,
            limits,
            policy,
            config,
            _guard: guard,
        })
    }

    /// Serves until `stop` resolves. Nothing that lives is touched at the end: clients go on without a registry.
    ///
    /// `hangups`: signals to read the rules for names again.
    pub(crate) async fn run(
        self,
        ready: impl FnOnce(),
        stop: impl Future<Output = ()>,
        hangups: Option<Signal>,
    ) -> io::Result<()> {
        let (watcher, sights) = Watcher::start(&self.watch)?;
        self.listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(self.listener)?;
        let hub = Hub::new(self.directory, self.watch, self.lock, self.limits, self.policy, watcher);
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                hub.scan()?;
                spawn_local(Rc::clone(&hub).watch_locks());
                spawn_local(see(Rc::clone(&hub), sights));
                spawn_local(accept(Rc::clone(&hub), listener));
                if let Some(hangups) = hangups {
                    spawn_local(reload(Rc::clone(&hub), self.config, hangups));
                }
                ready();
                stop.await;
                // While it still listens: afterwards the name may be another daemon's.
                let _ = fs::remove_file(&self.socket);
                Ok(())
            })
            .await
    }
}

/// Reads the rules for names again whenever it is asked to. A file that is wrong changes nothing.
async fn reload(hub: Rc<Hub>, config: Config, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        let from = config.clone();
        match spawn_blocking(move || from.load()).await {
            Ok(Ok(policy)) => {
                tracing::info!(rules = policy.len(), "the rules for names have been read again");
                hub.set_policy(policy);
            }
            Ok(Err(error)) => tracing::error!("{error}; the old rules stay"),
            Err(error) => tracing::error!("can not read the rules for names again: {error}"),
        }
    }
}

async fn see(hub: Rc<Hub>, mut sights: UnboundedReceiver<Sight>) {
    while let Some(sight) = sights.recv().await {
        match sight {
            Sight::Exited(connection) => hub.exited(connection),
            Sight::DirectoryChanged => hub.catch_up(),
        }
    }
}

async fn accept(hub: Rc<Hub>, listener: UnixListener) {
    let accounts = Accounts::new(hub.limits);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: those of clients that leave will do.
                tracing::warn!("can not accept a client: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        spawn_local(welcome(Rc::clone(&hub), Rc::clone(&accounts), stream));
    }
}

async fn welcome(hub: Rc<Hub>, accounts: Rc<Accounts>, stream: UnixStream) {
    refuse_descriptors(&stream);
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!("can not tell who connected: {error}");
            return;
        }
    };
    let uid = peer.process.uid;
    match accounts.admit(uid) {
        Ok(place) => connection::serve(&hub, hub.next_connection(), peer, place, stream).await,
        Err(error) => {
            if let Some(count) = accounts.count_refusal() {
                tracing::warn!(uid, pid = peer.process.pid, count, "refused: {error}");
            }
            connection::refuse(stream, error).await;
        }
    }
}

/// Makes this the one daemon of the directory that reaps with read locks; `None` if another is.
///
/// The lock is on a file that nobody else can open, beside the socket. A lock on the directory itself could be taken by anybody who
/// may read it.
fn guard_directory(directory: &ShmDir, socket: &Path) -> io::Result<Option<Flock<fs::File>>> {
    let metadata = fs::metadata(directory.path())?;
    let name = format!(".conduitd-{}-{}.lock", metadata.dev(), metadata.ino());
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(parent_of(socket).join(name))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(guard) => Ok(Some(guard)),
        Err((_, nix::errno::Errno::EAGAIN)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Which lock proves to this daemon that an owner is dead.
fn reap_lock(guard: Option<&Flock<fs::File>>) -> ReapLock {
    match (may_remove_everything(), guard) {
        (true, Some(_)) => ReapLock::Read,
        (true, None) => {
            tracing::warn!("another daemon looks after this directory with the same rights");
            ReapLock::Write
        }
        (false, _) => ReapLock::Write,
    }
}

/// As many descriptors as this process may have: every client and every region takes some.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("can not raise the limit of open files from {soft}: {errno}");
    }
}

/// The limits that the descriptors allow.
fn feasible(asked: Limits) -> Limits {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let limits = asked.within(usize::try_from(descriptors).unwrap_or(usize::MAX));
    if limits != asked {
        tracing::warn!(
            "{descriptors} open files are too few for {} connections: {} are allowed, {} of one user",
            asked.connections,
            limits.connections,
            limits.connections_per_uid
        );
    }
    limits
}

fn parent_of(socket: &Path) -> &Path {
    socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether this process may remove other users' files from a sticky directory: CAP_FOWNER.
fn may_remove_everything() -> bool {
    const CAP_FOWNER: u64 = 1 << 3;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & CAP_FOWNER != 0)
}

/// Whether this is the system's daemon, and not a user's own.
fn serves_everybody() -> bool {
    geteuid().is_root() || may_remove_everything()
}

/// Listens on a socket of that name, in place of one that nobody listens on.
fn listen(socket: &Path) -> Result<StdListener, StartError> {
    let parent = parent_of(socket);
    let mode = if serves_everybody() { 0o755 } else { 0o700 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(parent).map_err(io_error("create", parent))?;
    let _turn = take_turn(parent).map_err(io_error("lock", parent))?;
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("examine", socket)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(StartError::NotASocket { path: socket.into() });
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(socket) {
            Ok(other) => {
                let pid = Peer::of(&other).ok().map(|peer| peer.process.pid);
                return Err(StartError::SocketInUse { path: socket.into(), pid });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(socket).map_err(io_error("replace", socket))?;
            }
            Err(error) => return Err(io_error("examine", socket)(error)),
        },
    }
    let listener = StdListener::bind(socket).map_err(io_error("listen on", socket))?;
    nix::sys::socket::listen(
        &listener,
        nix::sys::socket::Backlog::new(BACKLOG).unwrap_or(nix::sys::socket::Backlog::MAXCONN),
    )
    .map_err(|errno| io_error("listen on", socket)(errno.into()))?;
    let mode = if serves_everybody() { 0o666 } else { 0o600 };
    fs::set_permissions(socket, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", socket))?;
    Ok(listener)
}

/// Keeps two daemons that start at once from each finding the other's socket stale, between `bind` and `listen`.
///
/// Whoever holds the lock for longer is not starting (it may guard the same directory), and is not waited for.
fn take_turn(directory: &Path) -> io::Result<Option<Flock<fs::File>>> {
    let mut file = fs::File::open(directory)?;
    let deadline = Instant::now() + TURN_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(Some(turn)),
            Err((_, nix::errno::Errno::EAGAIN)) if Instant::now() >= deadline => return Ok(None),
            Err((again, nix::errno::Errno::EAGAIN)) => file = again,
            Err((_, errno)) => return Err(errno.into()),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
