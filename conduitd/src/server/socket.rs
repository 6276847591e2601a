//! The daemon's socket: passed by the service manager, or created here.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::internal::shm::process::kernel_text;
use conduit::registry::{Client, RegistryStatus};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::Backlog;
use nix::unistd::geteuid;

use super::error::{StartError, io_error};
use crate::peer::PeerProcess;

/// Clients that may wait to be accepted. Few: whoever waits here waits for all users, and one who
/// connects in a loop fills the queue. Others wait in connect(2), in the order of their arrival.
const BACKLOG: i32 = 128;
/// How long to wait for another daemon that creates its socket, which takes microseconds.
const TURN_TIMEOUT: Duration = Duration::from_millis(200);

/// Checks that the socket that the service manager passed is the one that was asked for.
pub(super) fn passed(listener: UnixListener, asked: Option<&Path>) -> Result<(UnixListener, PathBuf), StartError> {
    let address = listener.local_addr().map_err(io_error("examine", Path::new("the socket that was passed")))?;
    let passed = address.as_pathname().unwrap_or(Path::new("(without a path)")).to_owned();
    match asked {
        Some(asked) if asked != passed => Err(StartError::OtherSocket { passed, asked: asked.into() }),
        _ => {
            limit_backlog(&listener).map_err(io_error("listen on", &passed))?;
            Ok((listener, passed))
        }
    }
}

/// Whether this process may remove other users' files from a sticky directory: CAP_FOWNER.
pub(super) fn may_remove_everything() -> bool {
    const CAP_FOWNER: u64 = 1 << 3;
    let status = kernel_text("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & CAP_FOWNER != 0)
}

/// Whether this is the system's daemon, not a user's own.
pub(super) fn serves_everybody() -> bool {
    geteuid().is_root() || may_remove_everything()
}

/// Listens on a socket of that name; replaces a socket that no process listens on.
///
/// `makes_directory`: that of the socket, if it is missing.
pub(super) fn listen(socket: &Path, makes_directory: bool) -> Result<UnixListener, StartError> {
    let parent = socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = if serves_everybody() { 0o755 } else { 0o700 };
    if makes_directory {
        fs::DirBuilder::new().recursive(true).mode(mode).create(parent).map_err(io_error("create", parent))?;
    }
    let _turn = take_turn(parent).map_err(io_error("lock", parent))?;
    clear_stale(socket)?;
    let listener = UnixListener::bind(socket).map_err(io_error("listen on", socket))?;
    limit_backlog(&listener).map_err(io_error("listen on", socket))?;
    let mode = if serves_everybody() { 0o666 } else { 0o600 };
    fs::set_permissions(socket, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", socket))?;
    Ok(listener)
}

/// Sets how many clients may wait to be accepted.
fn limit_backlog(listener: &UnixListener) -> io::Result<()> {
    Ok(nix::sys::socket::listen(listener, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?)
}

/// Removes a socket that no process listens on.
fn clear_stale(socket: &Path) -> Result<(), StartError> {
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("examine", socket)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(StartError::NotASocket { path: socket.into() }),
        Ok(_) => match connect_at_once(socket) {
            Ok(other) => Err(StartError::SocketInUse { path: socket.into(), who: listener_of(socket, &other) }),
            Err(Errno::EAGAIN) => {
                Err(StartError::SocketInUse { path: socket.into(), who: "a process that accepts no clients".into() })
            }
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::ECONNREFUSED) => fs::remove_file(socket).map_err(io_error("replace", socket)),
            Err(errno) => Err(io_error("examine", socket)(errno.into())),
        },
    }
}

/// Connects without waiting: `EAGAIN` if a process listens but does not accept.
fn connect_at_once(socket: &Path) -> nix::Result<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(socket)?)?;
    Ok(stream.into())
}

/// The process that listens on a socket. A registry is asked for its pid: of a socket that a
/// service manager created, the kernel names the service manager.
fn listener_of(socket: &Path, stream: &UnixStream) -> String {
    let domain = Domain::from_env().with_socket(socket);
    match Client::connect(&domain).and_then(|mut client| client.status()) {
        Ok(RegistryStatus { version, pid, .. }) => format!("another registry (conduitd {version}, pid {pid})"),
        Err(_) => match PeerProcess::of(stream) {
            Ok(peer) => format!("another program, {},", peer.process),
            Err(_) => "another program".into(),
        },
    }
}

/// Keeps daemons that start at once from finding each other's socket stale between `bind` and
/// `listen`.
///
/// A process that holds the lock for longer is not starting (it may guard the same directory): it
/// is not waited for.
fn take_turn(directory: &Path) -> io::Result<Option<Flock<fs::File>>> {
    let mut file = fs::File::open(directory)?;
    let deadline = Instant::now() + TURN_TIMEOUT;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(Some(turn)),
            Err((_, Errno::EAGAIN)) if Instant::now() >= deadline => return Ok(None),
            Err((again, Errno::EAGAIN)) => file = again,
            Err((_, errno)) => return Err(errno.into()),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
