//! The daemon, and the socket it listens at.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::registry::{Client, RegistryCallError};
use conduit::registry::{RegistryStatus, TopicInfo};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use nix::unistd::geteuid;

use super::{Finding, PATIENCE, guarded, is_system_user, quoted, within};
use crate::output::{count, duration};

const DAEMON: &str = "daemon";
const DIRECTORY: &str = "daemon-directory";
const SOCKET: &str = "socket";
const SYSTEM_SOCKET: &str = "/run/conduit/registry.sock";
/// The daemon answers in less than a millisecond, unless it is stopped or the machine is very busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What a daemon says that answers and looks after this domain's directory.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) topics: Vec<TopicInfo>,
}

/// What is found where a socket should be.
#[derive(Debug)]
enum Place {
    Missing,
    /// Something else is there.
    NoSocket(&'static str),
    /// This user can not look, or not connect.
    Denied,
    /// The socket of a process that is gone.
    Deserted,
    /// Whoever listens is too far behind to accept a connection.
    Full,
    /// Somebody listens, by the kernel's word with this pid.
    Listening(Option<u32>),
    Failed(io::Error),
}

pub(super) fn check(domain: &Domain) -> (Vec<Finding>, Option<Registry>) {
    let of_thread = domain.clone();
    let ids = [DAEMON, DIRECTORY, SOCKET];
    match within(PATIENCE, move || examine(&of_thread)) {
        Ok(result) => result,
        Err(reason) => (guarded(&ids, Err(reason)), None),
    }
}

fn examine(domain: &Domain) -> (Vec<Finding>, Option<Registry>) {
    let places: Vec<_> = domain.sockets().iter().map(|socket| (socket.as_path(), look(socket))).collect();
    let socket = check_sockets(&places);
    // Clients take the first that lets them in.
    let used = places.iter().find_map(|(path, place)| match place {
        Place::Listening(pid) => Some((*path, *pid)),
        Place::Full => Some((*path, None)),
        _ => None,
    });
    let Some((path, pid)) = used else {
        let sockets: Vec<_> = places.iter().map(|(path, _)| path.display().to_string()).collect();
        let daemon = Finding::warning(
            DAEMON,
            format!(
                "no daemon at {}: topics work, but subscribers of a dead publisher wake after a second, and its memory stays until \
                 its next start",
                sockets.join(" or ")
            ),
            how_to_start(),
        );
        return (vec![daemon, Finding::skipped(DIRECTORY, "no daemon"), socket], None);
    };
    let (daemon, status) = ask(domain, path, pid);
    let Some(status) = status else {
        return (vec![daemon, Finding::skipped(DIRECTORY, "the daemon does not say"), socket], None);
    };
    let directory = check_directory(domain.shm_dir(), &status);
    let is_ours = directory.state == super::State::Ok;
    let registry = is_ours.then(|| Registry { topics: list(domain, path).unwrap_or_default() });
    (vec![daemon, directory, socket], registry)
}

fn look(path: &Path) -> Place {
    // Too long for a socket's address: nobody can listen there.
    if let Err(errno) = UnixAddr::new(path) {
        return Place::Failed(errno.into());
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(metadata) => {
            let is_directory = metadata.is_dir();
            return Place::NoSocket(if is_directory { "a directory" } else { "a file that is no socket" });
        }
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Place::Missing,
                io::ErrorKind::PermissionDenied => Place::Denied,
                _ => Place::Failed(error),
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
            Place::Listening(peer.and_then(|peer| u32::try_from(peer.pid()).ok()).filter(|pid| *pid != 0))
        }
        Err(Errno::EAGAIN) => Place::Full,
        Err(Errno::ECONNREFUSED) => Place::Deserted,
        Err(Errno::ENOENT) => Place::Missing,
        Err(Errno::EACCES | Errno::EPERM) => Place::Denied,
        Err(errno) => Place::Failed(errno.into()),
    }
}

/// Asks the daemon who it is, with little patience.
fn ask(domain: &Domain, path: &Path, pid: Option<u32>) -> (Finding, Option<RegistryStatus>) {
    let domain = domain.clone().with_socket(path);
    let asked = Instant::now();
    let answer = within(ANSWER_WITHIN, move || Client::connect(&domain).and_then(|mut client| client.status()));
    let took = asked.elapsed();
    let at = path.display();
    match answer {
        Ok(Ok(status)) => (judge_version(&status, path, took), Some(status)),
        Ok(Err(RegistryCallError::Refused(reply))) => {
            let message = format!("the daemon at {at} does not know the question for its version ({reply})");
            (Finding::warning(DAEMON, message, how_to_restart()), None)
        }
        Ok(Err(RegistryCallError::Connection(error))) if !is_timeout(&error) => {
            let message = format!("whoever listens at {at} hangs up: {error}");
            (Finding::problem(DAEMON, message, how_to_restart()), None)
        }
        Ok(Err(error @ RegistryCallError::Reply(_))) => {
            let message = format!("whoever listens at {at} is no conduitd of this version: {error}");
            (Finding::problem(DAEMON, message, how_to_restart()), None)
        }
        _ => (silent(path, pid), None),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn list(domain: &Domain, path: &Path) -> Option<Vec<TopicInfo>> {
    let domain = domain.clone().with_socket(path);
    within(ANSWER_WITHIN, move || Client::connect(&domain).and_then(|mut client| client.list())).ok()?.ok()
}

fn judge_version(status: &RegistryStatus, path: &Path, took: Duration) -> Finding {
    let RegistryStatus { version, pid, uid, topics, clients, reaped, supervised, .. } = status;
    let message = format!(
        "conduitd {version}, pid {pid}, uid {uid}, at {}, answered in {}; {}, {}, {reaped} reaped{}",
        path.display(),
        duration(took),
        count(*topics, "region"),
        count(*clients, "connection"),
        if *supervised { ", keeps its clients over restarts" } else { "" },
    );
    if version == env!("CARGO_PKG_VERSION") {
        return Finding::ok(DAEMON, message);
    }
    let remedy = format!("{}, after an update of the older one", how_to_restart());
    Finding::warning(DAEMON, format!("{message}; this command is {}", env!("CARGO_PKG_VERSION")), remedy)
}

/// Somebody listens and says nothing.
fn silent(path: &Path, pid: Option<u32>) -> Finding {
    let at = path.display();
    let seconds = ANSWER_WITHIN.as_secs();
    match pid {
        Some(pid) if is_stopped(pid) => Finding::problem(
            DAEMON,
            format!(
                "the daemon at {at} is stopped (pid {pid}): publishers and subscribers wait for it when they start"
            ),
            format!("`kill -CONT {pid}`"),
        ),
        _ => {
            // Behind a socket of a service manager's the kernel names that one.
            let who = pid.filter(|pid| *pid != 1).map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let message = format!("whoever listens at {at}{who} has not answered for {seconds} s");
            Finding::problem(DAEMON, message, how_to_restart())
        }
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state_of(&stat).is_some_and(|state| matches!(state, 'T' | 't'))
}

/// The state in a text of `/proc/PID/stat`: it follows the program's name, in which there may be
/// anything.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn check_directory(directory: &Path, status: &RegistryStatus) -> Finding {
    let here = directory.display();
    match fs::metadata(directory) {
        Ok(metadata) if (metadata.dev(), metadata.ino()) == (status.dev, status.inode) => {
            Finding::ok(DIRECTORY, format!("the daemon looks after {here}"))
        }
        Ok(_) if Path::new(&status.shm_dir) == directory => Finding::problem(
            DIRECTORY,
            format!(
                "the daemon looks after another {here} than the one that is seen here: in another container, or before it was mounted anew"
            ),
            "share the directory with the daemon (`--ipc=host` or `-v /dev/shm:/dev/shm`), or restart conduitd",
        ),
        Ok(_) => Finding::problem(
            DIRECTORY,
            format!(
                "the daemon looks after {}, programs here use {here}: nobody reaps what they leave",
                status.shm_dir
            ),
            "give both the same CONDUIT_SHM_DIR, or set CONDUIT_SOCKET to the socket of the daemon of this directory",
        ),
        Err(error) => Finding::skipped(DIRECTORY, format!("can not examine {here}: {error}")),
    }
}

fn check_sockets(places: &[(&Path, Place)]) -> Finding {
    let found: Vec<_> = places.iter().flat_map(|(path, place)| check_socket(path, place)).collect();
    Finding::of_all(SOCKET, found, || {
        let there: Vec<_> = places
            .iter()
            .filter(|(_, place)| !matches!(place, Place::Missing))
            .map(|(path, _)| match fs::metadata(path) {
                Ok(socket) => format!("{}: mode {:04o}, uid {}", path.display(), socket.mode() & 0o7777, socket.uid()),
                Err(_) => path.display().to_string(),
            })
            .collect();
        if there.is_empty() { Finding::skipped(SOCKET, "there is none") } else { Finding::ok(SOCKET, there.join("; ")) }
    })
}

fn check_socket(path: &Path, place: &Place) -> Vec<Finding> {
    let at = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = fs::metadata(path).ok();
    let mode = file.as_ref().map_or_else(
        || format!("{} may not be searched", directory.display()),
        |file| format!("mode {:04o}, uid {}", file.mode() & 0o7777, file.uid()),
    );
    let mut found = Vec::new();
    match place {
        Place::Missing => return found,
        Place::NoSocket(what) => found.push(Finding::problem(
            SOCKET,
            format!("{at} is {what}, and keeps the daemon from listening"),
            format!("move {} away and start conduitd", quoted(path)),
        )),
        Place::Denied => found.push(Finding::problem(
            SOCKET,
            format!("uid {} may not connect to {at} ({mode})", geteuid()),
            format!("`chmod 755 {}` and `chmod 666 {}`, or SocketMode=0666", quoted(directory), quoted(path)),
        )),
        Place::Deserted => found.push(Finding::warning(
            SOCKET,
            format!("nobody listens at {at}: the daemon that made it is gone"),
            how_to_start(),
        )),
        Place::Failed(error) => found.push(Finding::problem(
            SOCKET,
            format!("can not connect to {at}: {error}"),
            "set CONDUIT_SOCKET to a path of at most 107 bytes in a directory that this user may search",
        )),
        Place::Full | Place::Listening(_) => {}
    }
    if let Ok(directory_metadata) = fs::metadata(directory) {
        let access = |metadata: &Metadata| Access { mode: metadata.mode(), uid: metadata.uid(), gid: metadata.gid() };
        let own = geteuid().as_raw();
        found.extend(judge_access(path, directory, file.as_ref().map(access), access(&directory_metadata), own));
    }
    found
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug)]
struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Whether somebody else could listen in the daemon's place.
fn judge_access(path: &Path, directory: &Path, socket: Option<Access>, parent: Access, own: u32) -> Vec<Finding> {
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
    let by_others = parent.mode & 0o002 != 0 || parent.mode & 0o020 != 0 && parent.gid != 0;
    if by_others {
        let mode = parent.mode & 0o7777;
        let is_sticky = parent.mode & 0o1000 != 0;
        let remedy = format!("`chmod go-w {}`, or another CONDUIT_SOCKET", quoted(directory));
        found.push(if is_sticky && !is_system {
            let message = format!(
                "others may write {} (mode {mode:04o}): while no daemon runs they can listen at {at}",
                directory.display()
            );
            Finding::warning(SOCKET, message, remedy)
        } else {
            let message =
                format!("others may write {} (mode {mode:04o}) and replace the registry's socket", directory.display());
            Finding::problem(SOCKET, message, remedy)
        });
    }
    if let Some(socket) = socket.filter(|socket| is_system && socket.mode & 0o006 != 0o006) {
        found.push(Finding::warning(
            SOCKET,
            format!("not everybody may connect to {at} (mode {:04o})", socket.mode & 0o7777),
            format!("`chmod 666 {}`, or SocketMode=0666 in conduitd.socket", quoted(path)),
        ));
    }
    found
}

/// What starts a daemon for this user.
pub(super) fn how_to_start() -> String {
    match unit_prefix() {
        Some(systemctl) => format!("`{systemctl} enable --now conduitd.socket`, or `conduitd &`"),
        None => "`conduitd &`".into(),
    }
}

fn how_to_restart() -> String {
    match unit_prefix() {
        Some(systemctl) => format!("`{systemctl} restart conduitd`"),
        None => "end that process and start `conduitd &`".into(),
    }
}

/// The service manager's command, if it starts this user's daemon: one for another directory or
/// socket it does not.
fn unit_prefix() -> Option<&'static str> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("CONDUIT_SOCKET") || is_set("CONDUIT_SHM_DIR") || !Path::new("/run/systemd/system").is_dir() {
        None
    } else if geteuid().is_root() {
        Some("systemctl")
    } else {
        Some("systemctl --user")
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn status() -> RegistryStatus {
        RegistryStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: 812,
            uid: 990,
            shm_dir: "/dev/shm".into(),
            dev: 0,
            inode: 0,
            supervised: true,
            topics: 1,
            clients: 2,
            reaped: 3,
        }
    }

    #[test]
    fn another_version_is_a_warning() {
        let judge = |status: &RegistryStatus| judge_version(status, Path::new("/run/x"), Duration::from_micros(200));
        let finding = judge(&status());
        let expected = format!(
            "conduitd {}, pid 812, uid 990, at /run/x, answered in 200 us; 1 region, 2 connections, 3 reaped, keeps its clients \
             over restarts",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(finding, Finding::ok(DAEMON, expected));
        let finding = judge(&RegistryStatus { version: "9.0.0".into(), ..status() });
        assert_eq!(finding.state, State::Warning);
        assert!(finding.message.contains("conduitd 9.0.0") && finding.message.contains("this command is"));
    }

    #[test]
    fn the_daemon_of_another_directory_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(directory.path()).unwrap();
        let right = RegistryStatus { dev: metadata.dev(), inode: metadata.ino(), ..status() };
        assert_eq!(check_directory(directory.path(), &right).state, State::Ok);
        let other = check_directory(directory.path(), &RegistryStatus { inode: right.inode + 1, ..right.clone() });
        assert_eq!(other.state, State::Problem);
        assert!(other.message.contains("looks after /dev/shm, programs here use"), "{other:?}");
        let same_path = RegistryStatus { dev: right.dev + 1, shm_dir: directory.path().display().to_string(), ..right };
        let other = check_directory(directory.path(), &same_path);
        assert!(other.state == State::Problem && other.message.contains("container"), "{other:?}");
    }

    #[test]
    fn a_path_at_which_nobody_can_listen_is_a_problem() {
        let path = format!("/run/{}", "x".repeat(200));
        let places = [(Path::new(&path), look(Path::new(&path)))];
        let finding = check_sockets(&places);
        assert!(finding.state == State::Problem && finding.message.contains("can not connect"), "{finding:?}");
        assert!(matches!(look(Path::new("/does/not/exist")), Place::Missing));
        assert!(matches!(look(Path::new("/")), Place::NoSocket("a directory")));
    }

    #[test]
    fn the_state_follows_the_name() {
        assert_eq!(state_of("7 (a) T (b) S 1 2"), Some('S'));
        assert_eq!(state_of("7 (conduitd) T 1 7"), Some('T'));
        assert_eq!(state_of(""), None);
    }

    #[test]
    fn a_socket_that_others_can_replace_is_told() {
        let judge = |path: &str, socket: (u32, u32), parent: (u32, u32, u32)| {
            let path = Path::new(path);
            let socket = Access { mode: socket.0, uid: socket.1, gid: 0 };
            let parent = Access { mode: parent.0, uid: parent.1, gid: parent.2 };
            let mut states: Vec<_> = judge_access(path, path.parent().unwrap(), Some(socket), parent, 4321)
                .iter()
                .map(|finding| finding.state)
                .collect();
            states.sort();
            states
        };
        use State::{Problem, Warning};
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
