//! The sockets at which a daemon may listen.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use nix::unistd::geteuid;

use super::finding::Finding;
use super::logind::is_system_user;
use super::quoting::quoted;
use super::remedy::how_to_start;

pub(super) const SOCKET: &str = "socket";
const SYSTEM_SOCKET: &str = "/run/conduit/registry.sock";

/// What exists at a socket's path.
#[derive(Debug)]
pub(super) enum SocketState {
    Missing,
    /// Another kind of file.
    NoSocket(&'static str),
    /// This user may not search the directory, or not connect.
    Denied,
    /// The socket of a process that is gone.
    Deserted,
    /// The backlog of the listening process is full.
    Full,
    /// A process listens; the kernel says its pid.
    Listening(Option<u32>),
    Failed(io::Error),
}

/// Tries to connect, without waiting.
pub(super) fn probe(path: &Path) -> SocketState {
    // Too long for a socket's address: no process can listen there.
    if let Err(errno) = UnixAddr::new(path) {
        return SocketState::Failed(errno.into());
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(metadata) => {
            let is_directory = metadata.is_dir();
            return SocketState::NoSocket(if is_directory { "a directory" } else { "a file that is no socket" });
        }
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SocketState::Missing,
                io::ErrorKind::PermissionDenied => SocketState::Denied,
                _ => SocketState::Failed(error),
            };
        }
    }
    let connected = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let stream = UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, flags, None)?);
        connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(stream)
    };
    match connected() {
        Ok(stream) => {
            let peer = getsockopt(&stream, sockopt::PeerCredentials).ok();
            SocketState::Listening(peer.and_then(|peer| u32::try_from(peer.pid()).ok()).filter(|pid| *pid != 0))
        }
        Err(Errno::EAGAIN) => SocketState::Full,
        Err(Errno::ECONNREFUSED) => SocketState::Deserted,
        Err(Errno::ENOENT) => SocketState::Missing,
        Err(Errno::EACCES | Errno::EPERM) => SocketState::Denied,
        Err(errno) => SocketState::Failed(errno.into()),
    }
}

pub(super) fn check(places: &[(&Path, SocketState)]) -> Finding {
    let found: Vec<_> = places.iter().flat_map(|(path, place)| check_socket(path, place)).collect();
    Finding::of_all(SOCKET, found, || {
        let there: Vec<_> = places
            .iter()
            .filter(|(_, place)| !matches!(place, SocketState::Missing))
            .map(|(path, _)| match fs::metadata(path) {
                Ok(socket) => format!("{}: mode {:04o}, uid {}", path.display(), socket.mode() & 0o7777, socket.uid()),
                Err(_) => path.display().to_string(),
            })
            .collect();
        if there.is_empty() { Finding::skipped(SOCKET, "there is none") } else { Finding::ok(SOCKET, there.join("; ")) }
    })
}

fn check_socket(path: &Path, place: &SocketState) -> Vec<Finding> {
    let at = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = fs::metadata(path).ok();
    let mode = file.as_ref().map_or_else(
        || format!("{} may not be searched", directory.display()),
        |file| format!("mode {:04o}, uid {}", file.mode() & 0o7777, file.uid()),
    );
    let mut found = Vec::new();
    match place {
        SocketState::Missing => return found,
        SocketState::NoSocket(what) => found.push(Finding::problem(
            SOCKET,
            format!("{at} is {what}, and keeps the daemon from listening"),
            format!("move {} away and start conduitd", quoted(path)),
        )),
        SocketState::Denied => found.push(Finding::problem(
            SOCKET,
            format!("uid {} may not connect to {at} ({mode})", geteuid()),
            format!("`chmod 755 {}` and `chmod 666 {}`, or SocketMode=0666", quoted(directory), quoted(path)),
        )),
        SocketState::Deserted => found.push(Finding::warning(
            SOCKET,
            format!("no process listens at {at}: the daemon that created it is gone"),
            how_to_start(),
        )),
        SocketState::Failed(error) => found.push(Finding::problem(
            SOCKET,
            format!("cannot connect to {at}: {error}"),
            "set CONDUIT_SOCKET to a path of at most 107 bytes in a directory that this user may search",
        )),
        SocketState::Full | SocketState::Listening(_) => {}
    }
    if let Ok(directory_metadata) = fs::metadata(directory) {
        let access =
            |metadata: &Metadata| FileAccess { mode: metadata.mode(), uid: metadata.uid(), gid: metadata.gid() };
        let own = geteuid().as_raw();
        found.extend(judge_access(path, directory, file.as_ref().map(access), access(&directory_metadata), own));
    }
    found
}

/// The owner and the permissions of a file.
#[derive(Clone, Copy, Debug)]
struct FileAccess {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Whether another user could listen in the daemon's place.
fn judge_access(
    path: &Path,
    directory: &Path,
    socket: Option<FileAccess>,
    parent: FileAccess,
    own: u32,
) -> Vec<Finding> {
    let is_trusted = |uid: u32| uid == own || is_system_user(uid);
    let is_system = path == Path::new(SYSTEM_SOCKET);
    let at = path.display();
    let mut found = Vec::new();
    if let Some(socket) = socket.filter(|socket| !is_trusted(socket.uid)) {
        found.push(Finding::problem(
            SOCKET,
            format!("{at} belongs to uid {}, an ordinary user, who can pretend to be the registry", socket.uid),
            format!("as root: `rm {}`, and start conduitd", quoted(path)),
        ));
    }
    if !is_trusted(parent.uid) {
        found.push(Finding::problem(
            SOCKET,
            format!("{} belongs to uid {}, who can put another socket there", directory.display(), parent.uid),
            format!("as root: `chown root: {}`", quoted(directory)),
        ));
    }
    found.extend(judge_writers(path, directory, parent.mode, parent.gid, is_system));
    if let Some(socket) = socket.filter(|socket| is_system && socket.mode & 0o006 != 0o006) {
        found.push(Finding::warning(
            SOCKET,
            format!("not everybody may connect to {at} (mode {:04o})", socket.mode & 0o7777),
            format!("`chmod 666 {}`, or SocketMode=0666 in conduitd.socket", quoted(path)),
        ));
    }
    found
}

/// Whether others may write the directory of the socket.
fn judge_writers(path: &Path, directory: &Path, mode: u32, gid: u32, is_system: bool) -> Option<Finding> {
    let is_writable = mode & 0o002 != 0 || mode & 0o020 != 0 && gid != 0;
    let is_sticky = mode & 0o1000 != 0;
    let remedy = format!("`chmod go-w {}`, or another CONDUIT_SOCKET", quoted(directory));
    let others = format!("others may write {} (mode {:04o})", directory.display(), mode & 0o7777);
    is_writable.then(|| {
        if is_sticky && !is_system {
            let message = format!("{others}: while no daemon runs they can listen at {}", path.display());
            Finding::warning(SOCKET, message, remedy)
        } else {
            Finding::problem(SOCKET, format!("{others} and replace the registry's socket"), remedy)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_path_at_which_nobody_can_listen_is_a_problem() {
        let path = format!("/run/{}", "x".repeat(200));
        let places = [(Path::new(&path), probe(Path::new(&path)))];
        let finding = check(&places);
        assert!(finding.state == Severity::Problem && finding.message.contains("cannot connect"), "{finding:?}");
        assert!(matches!(probe(Path::new("/does/not/exist")), SocketState::Missing));
        assert!(matches!(probe(Path::new("/")), SocketState::NoSocket("a directory")));
    }

    #[test]
    fn a_socket_that_others_can_replace_is_reported() {
        let judge = |path: &str, socket: (u32, u32), parent: (u32, u32, u32)| {
            let path = Path::new(path);
            let socket = FileAccess { mode: socket.0, uid: socket.1, gid: 0 };
            let parent = FileAccess { mode: parent.0, uid: parent.1, gid: parent.2 };
            let mut states: Vec<_> = judge_access(path, path.parent().unwrap(), Some(socket), parent, 4321)
                .iter()
                .map(|finding| finding.state)
                .collect();
            states.sort();
            states
        };
        use Severity::{Problem, Warning};
        let system = |socket, parent| judge(SYSTEM_SOCKET, socket, parent);
        assert_eq!(system((0o140_666, 33), (0o40755, 33, 33)), []);
        assert_eq!(system((0o140_666, 0), (0o40755, 0, 0)), []);
        assert_eq!(system((0o140_666, 0), (0o40775, 0, 0)), [], "root's group is root");
        assert_eq!(system((0o140_666, 0), (0o40775, 0, 100)), [Problem]);
        assert_eq!(system((0o140_666, 0), (0o41777, 0, 0)), [Problem]);
        assert_eq!(system((0o140_666, 5000), (0o40755, 0, 0)), [Problem]);
        assert_eq!(system((0o140_666, 5000), (0o40755, 5000, 0)), [Problem, Problem]);
        assert_eq!(system((0o140_660, 0), (0o40755, 0, 0)), [Warning]);
        let own = |parent| judge("/run/user/4321/conduit/registry.sock", (0o140_600, 4321), parent);
        assert_eq!(own((0o40700, 4321, 4321)), []);
        assert_eq!(own((0o41777, 4321, 4321)), [Warning]);
        assert_eq!(own((0o40777, 4321, 4321)), [Problem]);
    }
}
