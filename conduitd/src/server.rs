//! The socket, the loop that accepts clients, and the daemon's life from start to stop.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::internal::shm::dir::{FileId, ReapLock, ShmDir};
use conduit::internal::shm::socket::refuse_descriptors;
use conduit::registry::Client;
use conduit::registry::RegistryStatus;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{spawn_blocking, spawn_local};

use crate::guard::{self, Guard, Holder};
use crate::hub::Hub;
use crate::limits::Limits;
use crate::logging::message_id;
use crate::owner::{Notice, PeerProcess, ProcessWatch};
use crate::policy::{Config, Policy};
use crate::restore::DirectoryWatch;
use crate::systemd::Supervisor;
use crate::systemd::store::{Entry, Kept, KeptClient};
use crate::{Options, connection};

/// Clients that may wait to be let in: all of them come at once when the daemon is started again.
const BACKLOG: i32 = 1024;
/// Binding a socket takes microseconds.
const TURN_PATIENCE: Duration = Duration::from_millis(200);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else has the socket.
    #[error("{who} listens on {} already; stop it, or choose another --socket", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
        /// A registry, or the program as far as the kernel names it.
        who: String,
    },
    /// Another daemon has the directory.
    #[error("another registry looks after {} already{}; stop it, or choose another --shm-dir", path.display(), who(*pid, socket.as_deref()))]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
        /// The other daemon's pid, as it says.
        pid: Option<u32>,
        /// The socket it listens on, as it says.
        socket: Option<String>,
    },
    /// The service manager has passed a socket, and the command line names another one.
    #[error(
        "systemd passes the socket {}, but --socket is {}; leave --socket out, or change ListenStream= of the socket unit",
        passed.display(),
        asked.display()
    )]
    OtherSocket {
        /// The socket that was passed.
        passed: PathBuf,
        /// The socket that was asked for.
        asked: PathBuf,
    },
    /// Nothing says where to listen.
    #[error("no place for the socket: give --socket or set XDG_RUNTIME_DIR")]
    NoSocket,
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

fn who(pid: Option<u32>, socket: Option<&str>) -> String {
    match (pid, socket) {
        (Some(pid), Some(socket)) => format!(" (pid {pid}, at {socket})"),
        (Some(pid), None) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError + use<> {
    let path = path.to_owned();
    move |source| StartError::Io { doing, path, source }
}

/// A daemon that holds everything it needs and has adopted what it found; clients can connect already.
pub(crate) struct Server {
    listener: StdListener,
    /// The listener's name.
    socket: PathBuf,
    /// It was made here, and goes with the daemon.
    is_own_socket: bool,
    directory: Arc<ShmDir>,
    watch: DirectoryWatch,
    lock: ReapLock,
    limits: Limits,
    policy: Policy,
    config: Config,
    clients: Vec<KeptClient>,
    supervisor: Supervisor,
    _guard: Guard,
}

impl Server {
    /// `inherited`: what the service manager has passed, and kept for us.
    pub(crate) fn start(
        options: &Options,
        inherited: Vec<(String, OwnedFd)>,
        supervisor: Supervisor,
    ) -> Result<Self, StartError> {
        let shm_dir = options.shm_dir.as_path();
        let config = options.config.clone();
        let policy = config.load().map_err(|error| StartError::Policy(error.to_string()))?;
        let domain = Domain::from_env().with_shm_dir(shm_dir);
        let directory = ShmDir::open(&domain).map_err(io_error("open", shm_dir))?;
        let kept = Kept::sort(inherited, file_id(shm_dir)?, &supervisor);
        let watch = match kept.directory {
            Some(inotify) => DirectoryWatch::resume(inotify),
            None => {
                let watch = DirectoryWatch::new(&directory).map_err(io_error("watch", shm_dir))?;
                supervisor.keep(Entry::Directory(file_id(shm_dir)?).to_string(), &watch);
                watch
            }
        };
        raise_descriptor_limit();
        let limits = feasible(options.limits);
        let is_own_socket = kept.listener.is_none();
        let (listener, socket) = match kept.listener {
            Some(listener) => passed(listener, options.socket.as_deref())?,
            None => {
                let own_socket = || domain.own_socket().map(PathBuf::from);
                let socket = options.socket.clone().or_else(own_socket).ok_or(StartError::NoSocket)?;
                (listen(&socket)?, socket)
            }
        };
        refuse_descriptors(&listener);
        let is_system = may_remove_everything();
        let guard = match guard::take(shm_dir, &socket, is_system).map_err(io_error("lock", shm_dir))? {
            Ok(guard) => guard,
            Err(Holder { pid, socket: of_other }) => {
                if is_own_socket {
                    let _ = fs::remove_file(&socket);
                }
                return Err(StartError::DirectoryInUse { path: shm_dir.into(), pid, socket: of_other });
            }
        };
        let lock = if is_system { ReapLock::Read } else { ReapLock::Write };
        directory.finish_removals(None, lock).map_err(io_error("read", shm_dir))?;
        Ok(Self {
            listener,
            socket,
            is_own_socket,
            directory: Arc::new(directory),
            watch,
            lock,
            limits,
            policy,
            config,
            clients: kept.clients,
            supervisor,
            _guard: guard,
        })
    }

    /// Serves until `stop` resolves. Nothing that lives is touched at the end: clients go on without a registry.
    ///
    /// `hangups`: signals to read the rules for names again.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, hangups: Option<Signal>) -> io::Result<()> {
        let (watcher, notices) = ProcessWatch::start(&self.watch)?;
        self.listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(self.listener)?;
        let supervisor = Rc::new(self.supervisor);
        let hub =
            Hub::new(self.directory, self.watch, self.lock, self.limits, self.policy, watcher, Rc::clone(&supervisor));
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                let clients = hub.adopt(self.clients)?;
                let resumed = clients.len();
                for client in clients {
                    spawn_local(connection::resume(Rc::clone(&hub), client));
                }
                spawn_local(Rc::clone(&hub).watch_locks());
                spawn_local(see(Rc::clone(&hub), notices));
                spawn_local(accept(Rc::clone(&hub), listener));
                spawn_local(Rc::clone(&hub).tell_status());
                if let Some(interval) = supervisor.watchdog_interval() {
                    spawn_local(turn(Rc::clone(&hub), interval));
                }
                if let Some(hangups) = hangups {
                    spawn_local(reload(Rc::clone(&hub), self.config, hangups));
                }
                if resumed > 0 {
                    tracing::info!(message_id = message_id::RESUMED, conduit.clients = resumed, "clients go on");
                }
                let (socket, shm_dir) = (self.socket.display(), hub.directory.path().display());
                tracing::info!(conduit.socket = %socket, conduit.shm_dir = %shm_dir, "ready");
                supervisor.ready();
                stop.await;
                supervisor.stopping();
                if self.is_own_socket {
                    // While it still listens: afterwards the name may be another daemon's.
                    let _ = fs::remove_file(&self.socket);
                }
                Ok(())
            })
            .await
    }
}

/// Feeds the watchdog for as long as this loop turns and the thread that watches processes answers.
async fn turn(hub: Rc<Hub>, interval: Duration) {
    loop {
        hub.ask_watcher();
        tokio::time::sleep(interval).await;
    }
}

/// Reads the rules for names again whenever it is asked to. A file that is wrong changes nothing.
async fn reload(hub: Rc<Hub>, config: Config, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        hub.supervisor.reloading();
        let from = config.clone();
        match spawn_blocking(move || from.load()).await {
            Ok(Ok(policy)) => {
                tracing::info!(rules = policy.len(), "the rules for names have been read again");
                hub.set_policy(policy);
            }
            Ok(Err(error)) => tracing::error!("{error}; the old rules stay"),
            Err(error) => tracing::error!("can not read the rules for names again: {error}"),
        }
        hub.supervisor.ready();
    }
}

async fn see(hub: Rc<Hub>, mut notices: UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Exited(connection) => hub.exited(connection),
            Notice::DirectoryChanged => hub.catch_up(),
            Notice::Awake => hub.supervisor.feed_watchdog(),
        }
    }
}

async fn accept(hub: Rc<Hub>, listener: UnixListener) {
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
        spawn_local(welcome(Rc::clone(&hub), stream));
    }
}

async fn welcome(hub: Rc<Hub>, stream: UnixStream) {
    refuse_descriptors(&stream);
    let peer = match PeerProcess::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!("can not tell who connected: {error}");
            return;
        }
    };
    let uid = peer.process.uid;
    match hub.accounts.admit(uid) {
        Ok(place) => connection::serve(&hub, hub.next_connection(), peer, place, stream).await,
        Err(error) => {
            if let Some(count) = hub.accounts.count_refusal() {
                let pid = peer.process.pid;
                tracing::warn!(conduit.uid = uid, conduit.pid = pid, count, "refused: {error}");
            }
            connection::refuse(stream, error).await;
        }
    }
}

/// The number of the directory.
fn file_id(directory: &Path) -> Result<FileId, StartError> {
    let metadata = fs::metadata(directory).map_err(io_error("examine", directory))?;
    Ok(FileId { dev: metadata.dev(), ino: metadata.ino() })
}

/// The socket that the service manager has passed, if it is the one that was asked for.
fn passed(listener: StdListener, asked: Option<&Path>) -> Result<(StdListener, PathBuf), StartError> {
    let address = listener.local_addr().map_err(io_error("examine", Path::new("the socket that was passed")))?;
    let passed = address.as_pathname().unwrap_or(Path::new("(without a path)"));
    match asked {
        Some(asked) if asked != passed => Err(StartError::OtherSocket { passed: passed.into(), asked: asked.into() }),
        _ => {
            let passed = passed.to_owned();
            Ok((listener, passed))
        }
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
            Ok(other) => return Err(StartError::SocketInUse { path: socket.into(), who: who_answers(socket, &other) }),
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

/// Who listens on a socket. Behind one that a service manager has made the kernel names that one; the registry itself knows better.
fn who_answers(socket: &Path, stream: &std::os::unix::net::UnixStream) -> String {
    let domain = Domain::from_env().with_socket(socket);
    match Client::connect(&domain).and_then(|mut client| client.status()) {
        Ok(RegistryStatus { version, pid, .. }) => format!("another registry (conduitd {version}, pid {pid})"),
        Err(_) => match PeerProcess::of(stream) {
            Ok(peer) => format!("another program, {},", peer.process),
            Err(_) => "another program".into(),
        },
    }
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
