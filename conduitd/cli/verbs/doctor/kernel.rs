//! The kernel's features, tried out: a version number says neither what was configured out nor what
//! a seccomp filter forbids.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU32;

use conduit::Domain;
use conduit::internal::shm::dir::ShmDir;
use conduit::internal::shm::new_file::{link_unnamed, locks_last, unnamed};
use conduit::internal::shm::process::{Exit, exit_of};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::futex::{self, ClockId, Wait, WaitFlags, WaitPtr, WaitvFlags};

use super::finding::Finding;

pub(super) const FILE_SYSTEM_IDS: [&str; 2] = [LOCKS, UNNAMED];
pub(super) const PROCESS_IDS: [&str; 4] = [PIDFD, PEER, INFO, WAITV];
const LOCKS: &str = "ofd-locks";
const UNNAMED: &str = "unnamed-files";
const PIDFD: &str = "pidfd";
const PEER: &str = "peer-pidfd";
const INFO: &str = "pidfd-info";
const WAITV: &str = "futex-waitv";

pub(super) fn check_file_system(domain: &Domain) -> Vec<Finding> {
    match ShmDir::open(domain) {
        Ok(directory) => vec![check_locks(&directory), check_unnamed(&directory)],
        Err(error) => {
            let reason = format!("cannot open {}: {error}", domain.shm_dir().display());
            FILE_SYSTEM_IDS.map(|id| Finding::skipped(id, reason.clone())).into()
        }
    }
}

fn check_locks(directory: &ShmDir) -> Finding {
    let here = directory.path().display();
    match locks_last(directory) {
        Ok(true) => Finding::ok(LOCKS, format!("a lock in {here} lives as long as the mapping")),
        Ok(false) => Finding::problem(
            LOCKS,
            format!(
                "a lock in {here} is lost when its descriptor is closed: live owners look dead, nothing can be published"
            ),
            "set CONDUIT_SHM_DIR to a directory in a tmpfs, not in an overlay",
        ),
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Finding::skipped(LOCKS, format!("{here} is full"))
        }
        Err(error) if !Path::new("/proc/thread-self/fd").exists() => Finding::problem(
            LOCKS,
            format!("/proc is missing ({error}): nothing can be published"),
            "`mount -t proc proc /proc`",
        ),
        Err(error) => Finding::problem(
            LOCKS,
            format!("cannot try locks in {here} ({error}): nothing can be published"),
            "set CONDUIT_SHM_DIR to a directory in a tmpfs that this user may write",
        ),
    }
}

fn check_unnamed(directory: &ShmDir) -> Finding {
    let here = directory.path().display();
    // Not the name of a region, so that the daemon ignores it.
    let name = format!(".conduit-doctor-{}", std::process::id());
    let linked = unnamed(directory).and_then(|file| link_unnamed(&file, directory, &name));
    match linked {
        Ok(()) => {
            let _ = unlinkat(directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
            Finding::ok(UNNAMED, format!("a region in {here} appears complete or not at all"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Finding::skipped(UNNAMED, format!("{here} is full"))
        }
        Err(errno) => Finding::problem(
            UNNAMED,
            format!("cannot make a file without a name in {here} and then name it ({errno}): nothing can be published"),
            "set CONDUIT_SHM_DIR to a directory in a tmpfs that this user may write",
        ),
    }
}

pub(super) fn check_processes() -> Vec<Finding> {
    vec![check_pidfd(), check_peer(), check_info(), check_waitv()]
}

const OR_A_FILTER: &str = "or allow it in the seccomp filter of the container or service";

fn check_pidfd() -> Finding {
    match pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::ok(PIDFD, "the daemon sees the end of processes that started before it"),
        Err(errno) => Finding::warning(
            PIDFD,
            format!(
                "no pidfd_open ({errno}): deaths of publishers that started before the daemon are noticed after 0.5 s, not 1 ms"
            ),
            format!("Linux 5.3 or newer, {OR_A_FILTER}"),
        ),
    }
}

fn check_peer() -> Finding {
    let peer = UnixStream::pair()
        .map_err(|error| error.to_string())
        .and_then(|(one, _other)| getsockopt(&one, sockopt::PeerPidfd).map_err(|errno| errno.to_string()));
    match peer {
        Ok(_) => Finding::ok(PEER, "the daemon sees clients end"),
        Err(error) => Finding::warning(
            PEER,
            format!(
                "no SO_PEERPIDFD ({error}): the daemon learns of a client's end by its connection alone, and not how it died"
            ),
            "Linux 6.5 or newer",
        ),
    }
}

/// Lets a process end, this very program, and asks how.
fn check_info() -> Finding {
    let child = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    });
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Finding::skipped(INFO, format!("cannot start a test process: {error}")),
    };
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let status = child.wait();
    match (pidfd, status) {
        (Ok(pidfd), Ok(status)) => match exit_of(pidfd.as_fd()) {
            Some(Exit::Code(code)) if status.code() == Some(code) => {
                Finding::ok(INFO, "deaths are reported with exit code or signal")
            }
            Some(exit) => Finding::skipped(INFO, format!("the kernel says {exit:?}, wait(2) says {status}")),
            // Most kernels in use are older, and this is no reason to change a robot's kernel.
            None => {
                Finding::ok(INFO, "deaths are reported without exit code and signal (PIDFD_GET_INFO needs Linux 6.15)")
            }
        },
        (Err(errno), _) => Finding::skipped(INFO, format!("no pidfd ({errno})")),
        (_, Err(error)) => Finding::skipped(INFO, format!("cannot wait for a process: {error}")),
    }
}

/// Threads replace it, so its lack is reported but no fault.
fn check_waitv() -> Finding {
    let word = AtomicU32::new(1);
    let mut wait = Wait::new();
    // Not what the word is: it does not wait.
    wait.val = 2;
    wait.uaddr = WaitPtr::new(word.as_ptr().cast());
    wait.flags = WaitFlags::SIZE_U32;
    match futex::waitv(&[wait], WaitvFlags::empty(), None, ClockId::Monotonic) {
        Err(Errno::NOSYS | Errno::PERM) => Finding::ok(
            WAITV,
            "missing (Linux 5.16, or a seccomp filter): waiting for several topics takes a thread for each",
        ),
        _ => Finding::ok(WAITV, "a thread can wait for several words at once"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn this_kernel_has_what_the_other_tests_use() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        for finding in check_file_system(&Domain::new(directory.path())) {
            assert_eq!(finding.state, Severity::Ok, "{finding:?}");
        }
        assert_eq!(check_pidfd().state, Severity::Ok);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_system_without_unnamed_files_is_a_problem() {
        for finding in check_file_system(&Domain::new("/proc/self")) {
            assert_eq!(finding.state, Severity::Problem, "{finding:?}");
        }
    }
}
