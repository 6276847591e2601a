//! The daemon, and the directory it serves.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use conduit::Domain;
use conduit::internal::shm::process::kernel_text;
use conduit::registry::{Client, RegistryCallError, RegistryStatus, TopicInfo};

use super::finding::{Finding, Severity};
use super::guards;
use super::remedy::{how_to_restart, how_to_start};
use super::socket::{self, SOCKET, SocketState};
use super::time_limit::{PATIENCE, guarded, within};
use crate::output::{count, duration};

const DAEMON: &str = "daemon";
const DIRECTORY: &str = "daemon-directory";
const LOG: &str = "daemon-log";
/// The daemon answers in less than a millisecond, unless it is stopped or the machine is very busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Also returns the topics of a daemon that answers and serves this domain's directory.
pub(super) fn check(domain: &Domain) -> (Vec<Finding>, Option<Vec<TopicInfo>>) {
    let of_thread = domain.clone();
    let ids = [DAEMON, DIRECTORY, LOG, SOCKET];
    match within(PATIENCE, move || examine(&of_thread)) {
        Ok(result) => result,
        Err(reason) => (guarded(&ids, Err(reason)), None),
    }
}

fn examine(domain: &Domain) -> (Vec<Finding>, Option<Vec<TopicInfo>>) {
    let places: Vec<_> = domain.sockets().iter().map(|path| (path.as_path(), socket::probe(path))).collect();
    let socket = socket::check(&places);
    // Clients use the first that accepts them.
    let used = places.iter().find_map(|(path, place)| match place {
        SocketState::Listening(pid) => Some((*path, *pid)),
        SocketState::Full => Some((*path, None)),
        _ => None,
    });
    let unknown = |daemon, why: &str, socket| {
        (vec![daemon, Finding::skipped(DIRECTORY, why), Finding::skipped(LOG, why), socket], None)
    };
    let Some((path, pid)) = used else { return unknown(none_listens(domain, &places), "no daemon", socket) };
    let (daemon, status) = ask(domain, path, pid);
    let Some(status) = status else { return unknown(daemon, "the daemon does not say", socket) };
    let directory = check_directory(domain.shm_dir(), &status);
    let is_ours = directory.state == Severity::Ok;
    let topics = is_ours.then(|| list(domain, path).unwrap_or_default());
    (vec![daemon, directory, check_log(&status), socket], topics)
}

/// No process listens where programs look for the daemon: there is none, or its socket is gone.
fn none_listens(domain: &Domain, places: &[(&Path, SocketState)]) -> Finding {
    let paths: Vec<&Path> = places.iter().map(|(path, _)| *path).collect();
    let is_barred = places.iter().any(|(_, place)| matches!(place, SocketState::Denied));
    if !is_barred && let Some(guard) = guards::serving(domain) {
        return guards::unreachable(DAEMON, domain.shm_dir(), &guard, &paths);
    }
    let sockets: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    Finding::warning(
        DAEMON,
        format!(
            "no daemon at {}: topics work, but subscribers of a dead publisher wake after a second, and its memory stays until \
             its next start",
            sockets.join(" or ")
        ),
        how_to_start(),
    )
}

fn check_log(status: &RegistryStatus) -> Finding {
    match status.log_lines_dropped {
        None => Finding::skipped(LOG, "the daemon does not count"),
        Some(0) => Finding::ok(LOG, "all lines were written"),
        Some(dropped) => Finding::warning(
            LOG,
            format!("{} of the daemon's log were dropped, because nobody read them in time", count(dropped, "line")),
            format!(
                "`ls -l /proc/{0}/fd/2` shows where it goes: have a process read it, or restart the daemon with its standard \
                 error elsewhere",
                status.pid
            ),
        ),
    }
}

/// Asks the daemon for its status, with a short timeout.
fn ask(domain: &Domain, path: &Path, pid: Option<u32>) -> (Finding, Option<RegistryStatus>) {
    let domain = domain.clone().with_socket(path);
    let asked = Instant::now();
    let answer = within(ANSWER_WITHIN, move || Client::connect(&domain).and_then(|mut client| client.status()));
    let took = asked.elapsed();
    let at = path.display();
    match answer {
        Ok(Ok(status)) => (judge_version(&status, path, took), Some(status)),
        Ok(Err(error)) if error.is_too_busy() => {
            let message = format!("the daemon at {at} serves as many clients as it may: {error}");
            let remedy = "end programs that have connections, or raise its limits (`conduitd --help`)";
            (Finding::warning(DAEMON, message, remedy), None)
        }
        Ok(Err(RegistryCallError::Refused(reply))) => {
            let message = format!("the daemon at {at} does not know how to tell its version ({reply})");
            (Finding::warning(DAEMON, message, how_to_restart()), None)
        }
        Ok(Err(RegistryCallError::Connection(error))) if !is_timeout(&error) => {
            let message = format!("the process that listens at {at} hangs up: {error}");
            (Finding::problem(DAEMON, message, how_to_restart()), None)
        }
        Ok(Err(error @ RegistryCallError::Reply(_))) => {
            let message = format!("the process that listens at {at} is no conduitd of this version: {error}");
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
    if version == env!("CARGO_PKG_VERSION") && status.untracked > 0 {
        let names = count(status.untracked, "name");
        let remedy = format!(
            "`ls -l {}` shows whose they are: remove what is not needed, or raise --max-regions-per-uid",
            status.shm_dir
        );
        let message =
            format!("{message}; {names} beyond what one user may have are not tracked: their ends are not noticed");
        return Finding::warning(DAEMON, message, remedy);
    }
    if version == env!("CARGO_PKG_VERSION") {
        return Finding::ok(DAEMON, message);
    }
    let remedy = format!("{}, after an update of the older one", how_to_restart());
    Finding::warning(DAEMON, format!("{message}; this command is {}", env!("CARGO_PKG_VERSION")), remedy)
}

/// A process listens and does not answer.
fn silent(path: &Path, pid: Option<u32>) -> Finding {
    let at = path.display();
    let seconds = ANSWER_WITHIN.as_secs();
    match pid {
        Some(pid) if is_stopped(pid) => Finding::problem(
            DAEMON,
            format!(
                "the daemon at {at} is stopped (pid {pid}): what starts now publishes and subscribes without a lease"
            ),
            format!("`kill -CONT {pid}`"),
        ),
        _ => {
            // Behind a socket of a service manager's the kernel names that one.
            let who = pid.filter(|pid| *pid != 1).map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let message = format!("the process that listens at {at}{who} has not answered for {seconds} s");
            Finding::problem(DAEMON, message, how_to_restart())
        }
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = kernel_text(format!("/proc/{pid}/stat")).unwrap_or_default();
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
            Finding::ok(DIRECTORY, format!("the daemon serves {here}"))
        }
        Ok(_) if Path::new(&status.shm_dir) == directory => Finding::problem(
            DIRECTORY,
            format!(
                "the daemon serves another {here} than the one seen here: one in another container, or from before a new mount"
            ),
            "share the directory with the daemon (`--ipc=host` or `-v /dev/shm:/dev/shm`), or restart conduitd",
        ),
        Ok(_) => Finding::problem(
            DIRECTORY,
            format!("the daemon serves {}, programs here use {here}: their orphans are not reaped", status.shm_dir),
            "give both the same CONDUIT_SHM_DIR, or set CONDUIT_SOCKET to the socket of the daemon of this directory",
        ),
        Err(error) => Finding::skipped(DIRECTORY, format!("cannot examine {here}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> RegistryStatus {
        let mut status = RegistryStatus::default();
        status.version = env!("CARGO_PKG_VERSION").into();
        (status.pid, status.uid, status.shm_dir) = (812, 990, "/dev/shm".into());
        (status.topics, status.clients, status.reaped) = (1, 2, 3);
        status.supervised = true;
        status
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
        let mut newer = status();
        newer.version = "9.0.0".into();
        let finding = judge(&newer);
        assert_eq!(finding.state, Severity::Warning);
        assert!(finding.message.contains("conduitd 9.0.0") && finding.message.contains("this command is"));
    }

    #[test]
    fn names_that_are_not_tracked_are_a_warning() {
        let mut status = status();
        status.untracked = 7;
        let finding = judge_version(&status, Path::new("/run/x"), Duration::from_micros(200));
        assert_eq!(finding.state, Severity::Warning);
        assert!(
            finding
                .message
                .ends_with("; 7 names beyond what one user may have are not tracked: their ends are not noticed")
        );
        assert!(finding.remedy.unwrap().contains("`ls -l /dev/shm`"));
    }

    #[test]
    fn dropped_lines_of_the_log_are_a_warning() {
        let mut status = status();
        assert_eq!(check_log(&status).state, Severity::Skipped, "an older daemon");
        status.log_lines_dropped = Some(0);
        assert_eq!(check_log(&status).state, Severity::Ok);
        status.log_lines_dropped = Some(1);
        let finding = check_log(&status);
        assert_eq!(finding.state, Severity::Warning);
        assert!(finding.message.starts_with("1 line of") && finding.remedy.unwrap().contains("/proc/812/fd/2"));
    }

    #[test]
    fn the_daemon_of_another_directory_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(directory.path()).unwrap();
        let mut status = status();
        (status.dev, status.inode) = (metadata.dev(), metadata.ino());
        assert_eq!(check_directory(directory.path(), &status).state, Severity::Ok);
        status.inode += 1;
        let other = check_directory(directory.path(), &status);
        assert_eq!(other.state, Severity::Problem);
        assert!(other.message.contains("serves /dev/shm, programs here use"), "{other:?}");
        status.shm_dir = directory.path().display().to_string();
        let other = check_directory(directory.path(), &status);
        assert!(other.state == Severity::Problem && other.message.contains("container"), "{other:?}");
    }

    #[test]
    fn the_state_follows_the_name() {
        assert_eq!(state_of("7 (a) T (b) S 1 2"), Some('S'));
        assert_eq!(state_of("7 (conduitd) T 1 7"), Some('T'));
        assert_eq!(state_of(""), None);
    }
}
