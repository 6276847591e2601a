//! One daemon per directory: makes this one the only one, or finds the other.
//!
//! A daemon that may remove other users' files serves the whole directory: there is one, of root or
//! a system user. Beside it, each user may run a daemon of their own. See
//! [`conduit::internal::shm::guard`] for the file by which they know each other.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::internal::shm::dir::{ReapLock, ShmDir};
use conduit::internal::shm::guard::{DaemonGuard, GuardFile, GuardFiles, GuardScope, GuardState, is_for_want_of_room};
use nix::unistd::geteuid;
use tokio::task::spawn_blocking;

use super::listening::SocketPlace;
use crate::hub::Hub;

/// The largest uid of system users: `SYS_UID_MAX` of most distributions. Other users cannot run the
/// system's daemon.
const LAST_SYSTEM_UID: u32 = 999;
/// How long to wait for another daemon that starts, which takes milliseconds: it may be stopped.
const RIVAL_TIMEOUT: Duration = Duration::from_secs(5);
const RIVAL_POLL: Duration = Duration::from_millis(2);
/// Longer than [`RIVAL_POLL`], so that the rival sees that this daemon has withdrawn.
const WITHDRAWAL: Duration = Duration::from_millis(20);

/// How long a removed file of the daemon stays away: perhaps the whole directory is being removed.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);

/// The daemon that serves the directory, according to its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: Option<u32>,
    pub(crate) socket: Option<String>,
}

/// What a daemon that starts does about the others.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StartDecision {
    Serve,
    /// The other one withdraws, or turns out to serve.
    Wait(Holder),
    /// Of two that see each other, the one with the greater name starts again later.
    Withdraw(Holder),
    GiveUp(Holder),
}

/// Makes this the only daemon of a directory, or returns the other one. `is_system`: it may remove
/// other users' files.
///
/// Without room for its file the daemon serves without one: others must not be able to keep it from
/// starting.
pub(crate) fn take(
    directory: &ShmDir,
    socket: &Path,
    is_system: bool,
) -> io::Result<Result<Option<DaemonGuard>, Holder>> {
    let scope = if is_system { GuardScope::System } else { GuardScope::User };
    let deadline = Instant::now() + RIVAL_TIMEOUT;
    let mut guard = create(directory, scope, socket)?;
    loop {
        let found = GuardFiles::find(directory)?;
        found.remove_stale(directory);
        match judge(&found.guards, scope, guard.as_ref().map(DaemonGuard::file_name)) {
            StartDecision::Serve => {
                guard.iter().for_each(DaemonGuard::serve);
                return Ok(Ok(guard));
            }
            StartDecision::GiveUp(holder) => return Ok(Err(holder)),
            StartDecision::Wait(holder) | StartDecision::Withdraw(holder) if Instant::now() >= deadline => {
                return Ok(Err(holder));
            }
            StartDecision::Wait(_) => std::thread::sleep(RIVAL_POLL),
            StartDecision::Withdraw(_) => {
                drop(guard.take());
                std::thread::sleep(WITHDRAWAL);
                guard = create(directory, scope, socket)?;
            }
        }
    }
}

/// Holds the daemon's file. If somebody removes it, as logind does at the logout of its user, it
/// makes another one: else a second daemon would not notice this one. Ends if there is a second
/// one.
pub(crate) async fn keep(hub: Rc<Hub>, mut guard: Option<DaemonGuard>, place: Arc<SocketPlace>) {
    let is_system = hub.directory.lock == ReapLock::Read;
    loop {
        hub.directory.watch.guard_removed.notified().await;
        tokio::time::sleep(REMOVAL_PAUSE).await;
        if guard.as_ref().is_none_or(DaemonGuard::is_named) {
            continue;
        }
        let (directory, socket) = (Arc::clone(&hub.directory.shm), place.path.clone());
        match spawn_blocking(move || take(&directory, &socket, is_system)).await.map_err(io::Error::other).flatten() {
            Ok(Ok(another)) => {
                tracing::warn!(
                    "the daemon's file was removed from {}; there is another one",
                    hub.directory.shm.path().display()
                );
                guard = another;
            }
            Ok(Err(holder)) => {
                tracing::error!("another registry serves the directory since this one's file was removed: {holder:?}");
                return;
            }
            Err(error) => tracing::error!("the daemon's file was removed, and there cannot be another one: {error}"),
        }
    }
}

fn create(directory: &ShmDir, scope: GuardScope, socket: &Path) -> io::Result<Option<DaemonGuard>> {
    match DaemonGuard::create(directory, scope, socket) {
        Ok(guard) => Ok(Some(guard)),
        Err(error) if is_for_want_of_room(&error) => {
            tracing::warn!(
                "there is no room in {} for the daemon's file ({error}): another daemon would not notice this one",
                directory.path().display()
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `own`: the name of this daemon's file.
fn judge(guards: &[GuardFile], scope: GuardScope, own: Option<&str>) -> StartDecision {
    let uid = geteuid().as_raw();
    let counts = |guard: &&GuardFile| {
        let is_trusted = guard.uid == uid || scope == GuardScope::System && guard.uid <= LAST_SYSTEM_UID;
        guard.scope == scope && is_trusted && guard.state != GuardState::Stale && Some(guard.file_name.as_str()) != own
    };
    let rivals = || guards.iter().filter(counts);
    let holder = |guard: &GuardFile| Holder { pid: guard.pid, socket: guard.socket.clone() };
    if let Some(serving) = rivals().find(|guard| guard.state == GuardState::Serving) {
        return StartDecision::GiveUp(holder(serving));
    }
    match rivals().map(|guard| (guard.file_name.as_str(), guard)).min_by_key(|(name, _)| *name) {
        None => StartDecision::Serve,
        Some((name, first)) if own.is_some_and(|own| own > name) => StartDecision::Withdraw(holder(first)),
        Some((_, first)) => StartDecision::Wait(holder(first)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use conduit::Domain;

    use super::*;
    use crate::skip;

    const SOCKET: &str = "/run/x.sock";

    fn directory() -> (tempfile::TempDir, ShmDir) {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = ShmDir::open(&Domain::new(place.path())).unwrap();
        (place, directory)
    }

    fn take_as_user(directory: &ShmDir) -> Result<Option<DaemonGuard>, Holder> {
        take(directory, Path::new(SOCKET), false).unwrap()
    }

    fn this_process() -> Holder {
        Holder { pid: Some(std::process::id()), socket: Some(SOCKET.into()) }
    }

    #[test]
    fn a_second_daemon_names_the_first_and_starts_when_it_is_gone() {
        let (place, directory) = directory();
        let first = take_as_user(&directory).unwrap();
        assert_eq!(take_as_user(&directory).unwrap_err(), this_process());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "the second leaves nothing");
        drop(first);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "the file is removed");
        assert!(take_as_user(&directory).unwrap().is_some());
    }

    #[test]
    fn of_two_that_start_at_once_exactly_one_serves() {
        for _ in 0..20 {
            let (place, directory) = directory();
            let daemons: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| take_as_user(&directory))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(daemons.iter().filter(|daemon| daemon.is_ok()).count(), 1, "{daemons:?}");
            assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn two_that_see_each_other_do_not_both_give_up() {
        let (_place, directory) = directory();
        let starting = || DaemonGuard::create(&directory, GuardScope::User, Path::new(SOCKET)).unwrap();
        let (one, other) = (starting(), starting());
        let guards = GuardFiles::find(&directory).unwrap().guards;
        let judged = |guard: &DaemonGuard| judge(&guards, GuardScope::User, Some(guard.file_name()));
        let mut decisions = [judged(&one), judged(&other)];
        if one.file_name() > other.file_name() {
            decisions.reverse();
        }
        assert_eq!(decisions, [StartDecision::Wait(this_process()), StartDecision::Withdraw(this_process())]);
        one.serve();
        let guards = GuardFiles::find(&directory).unwrap().guards;
        assert_eq!(judge(&guards, GuardScope::User, Some(other.file_name())), StartDecision::GiveUp(this_process()));
        assert_eq!(judge(&guards, GuardScope::System, None), StartDecision::Serve, "beside a user's daemon");
    }

    #[test]
    fn system_daemons_of_two_users_exclude_each_other() {
        if !geteuid().is_root() {
            skip::report(&skip::Lack::Root, "daemons of two users");
            return;
        }
        let (place, directory) = directory();
        let other = DaemonGuard::create(&directory, GuardScope::System, Path::new(SOCKET)).unwrap();
        other.serve();
        // As another user's daemon would have named it.
        let give_to = |uid: u32| {
            let old = fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
            let new = place.path().join(format!(".conduitd.system.{uid}.0123456789abcdef.lock"));
            fs::rename(&old, &new).unwrap();
            std::os::unix::fs::chown(&new, Some(uid), None).unwrap();
        };
        let system = || take(&directory, Path::new(SOCKET), true).unwrap();
        give_to(990);
        assert_eq!(system().unwrap_err(), this_process());
        // An ordinary user's file does not count.
        give_to(4321);
        drop(system().unwrap());
        drop(take_as_user(&directory).unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nor is it removed");
    }
}
