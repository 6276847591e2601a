//! Starts the daemon: takes the socket, the directory and the limits.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conduit::Domain;
use conduit::internal::shm::dir::{FileId, ReapLock, ShmDir};
use conduit::internal::shm::guard::DaemonGuard;
use conduit::internal::shm::socket::refuse_descriptors;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::error::{StartError, io_error};
use super::guard::{self, Holder};
use super::listening::{SocketOrigin, SocketPlace};
use super::{DaemonOptions, Server, socket};
use crate::core_dumps::CoreDumps;
use crate::descriptors::Descriptors;
use crate::directory::DirectoryWatch;
use crate::limits::Limits;
use crate::systemd::Supervisor;
use crate::systemd::inherited::InheritedDescriptors;
use crate::systemd::store::StoreEntry;

impl Server {
    /// `inherited`: the descriptors that the service manager passed, and kept over a restart.
    pub(crate) fn start(
        options: &DaemonOptions,
        inherited: Vec<(String, OwnedFd)>,
        supervisor: Supervisor,
    ) -> Result<Self, StartError> {
        let shm_dir = options.shm_dir.as_path();
        let config = options.config.clone();
        let policy = config.load().map_err(|error| StartError::Policy(error.to_string()))?;
        let domain = Domain::from_env().with_shm_dir(shm_dir);
        let directory = ShmDir::open(&domain).map_err(io_error("open", shm_dir))?;
        let inherited = InheritedDescriptors::sort(inherited, file_id(shm_dir)?, &supervisor);
        let watch = watch(inherited.directory, &directory, &supervisor)?;
        raise_descriptor_limit();
        let descriptors = descriptors(&options.limits);
        let (listener, place) = listener(inherited.listener, options, &domain)?;
        refuse_descriptors(&listener);
        let is_system = socket::may_remove_everything();
        let guard = guard_directory(&directory, &place, is_system)?;
        let lock = if is_system { ReapLock::Read } else { ReapLock::Write };
        directory.finish_removals(lock).map_err(io_error("read", shm_dir))?;
        Ok(Self {
            listener,
            place,
            directory: Arc::new(directory),
            watch,
            core_dumps: CoreDumps::listen(inherited.core_dumps),
            lock,
            limits: options.limits,
            descriptors,
            policy,
            config,
            clients: inherited.clients,
            supervisor,
            guard,
        })
    }
}

/// Continues the previous daemon's watch of the directory, or starts one and has it kept.
fn watch(
    inherited: Option<OwnedFd>,
    directory: &ShmDir,
    supervisor: &Supervisor,
) -> Result<DirectoryWatch, StartError> {
    if let Some(inotify) = inherited {
        return Ok(DirectoryWatch::resume(inotify));
    }
    let watch = DirectoryWatch::new(directory).map_err(io_error("watch", directory.path()))?;
    supervisor.keep(StoreEntry::Directory(file_id(directory.path())?).to_string(), &watch);
    Ok(watch)
}

/// The inherited listener, or a new one; and where it listens.
fn listener(
    inherited: Option<UnixListener>,
    options: &DaemonOptions,
    domain: &Domain,
) -> Result<(UnixListener, Arc<SocketPlace>), StartError> {
    if let Some(listener) = inherited {
        let (listener, path) = socket::passed(listener, options.socket.as_deref())?;
        return Ok((listener, SocketPlace::new(path, SocketOrigin::Passed)));
    }
    let own_socket = || domain.own_socket().map(PathBuf::from);
    let path = options.socket.clone().or_else(own_socket).ok_or(StartError::NoSocket)?;
    // The process may be started anywhere.
    let path = std::path::absolute(&path).map_err(io_error("examine", &path))?;
    let is_chosen = options.socket.is_some() || std::env::var_os("CONDUIT_SOCKET").is_some();
    let listener = socket::listen(&path, true)?;
    Ok((listener, SocketPlace::new(path, SocketOrigin::Own { is_default: !is_chosen })))
}

/// Makes this the only daemon of the directory.
fn guard_directory(
    directory: &ShmDir,
    place: &SocketPlace,
    is_system: bool,
) -> Result<Option<DaemonGuard>, StartError> {
    let shm_dir = directory.path();
    let taken = guard::take(directory, &place.path, is_system).map_err(io_error("lock", shm_dir));
    let refused = |Holder { pid, socket }| StartError::DirectoryInUse { path: shm_dir.into(), pid, socket };
    taken.and_then(|taken| taken.map_err(refused)).inspect_err(|_| place.remove())
}

fn file_id(directory: &Path) -> Result<FileId, StartError> {
    let metadata = fs::metadata(directory).map_err(io_error("examine", directory))?;
    Ok(FileId { dev: metadata.dev(), ino: metadata.ino() })
}

/// Allows this process all the descriptors it may have: every client and every region takes some.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {}", errno.desc());
    }
}

/// The account of the descriptors that this process may have. Says so if they are few.
fn descriptors(limits: &Limits) -> Descriptors {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let descriptors = Descriptors::new(usize::try_from(limit).unwrap_or(usize::MAX));
    // A publisher takes three, with its region and its process.
    if descriptors.total() / 3 < limits.connections {
        tracing::warn!(
            "{limit} open files are too few for {} connections: {} are shared by all users, each of whom may have as many as are \
             left for the others; regions beyond that are opened whenever they are looked at; raise LimitNOFILE= or ulimit -n",
            limits.connections,
            descriptors.total()
        );
    }
    descriptors
}
