//! One daemon per directory: a daemon holds the write lock of a file in its directory.
//!
//! The file names the daemon. It is named after its user, the only one who may write it and so hold
//! its write lock ([`conduit::internal::shm::lock`]); read locks, which every user could take, do
//! not count. A daemon that may remove other users' files serves the whole directory: there is one,
//! of root or a system user. Beside it, each user may run a daemon of their own.
//!
//! A daemon removes the file when it stops. One that is killed leaves it, unlocked, to the next.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use conduit::internal::shm::lock::OWNER;
use nix::unistd::geteuid;

/// The largest uid of system users: `SYS_UID_MAX` of most distributions. Other users cannot run the
/// system's daemon.
const LAST_SYSTEM_UID: u32 = 999;
const SYSTEM: &str = ".conduitd.system.";
const USER: &str = ".conduitd.user.";

/// The lock that this daemon holds.
#[derive(Debug)]
pub(crate) struct DirectoryGuard {
    file: File,
    path: PathBuf,
}

/// The daemon that serves the directory, according to its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: Option<u32>,
    pub(crate) socket: Option<String>,
}

/// Makes this the only daemon of a directory, or returns the other one. `is_system`: it may remove
/// other users' files.
pub(crate) fn take(directory: &Path, socket: &Path, is_system: bool) -> io::Result<Result<DirectoryGuard, Holder>> {
    let uid = geteuid().as_raw();
    let path = directory.join(format!("{}{uid}.lock", if is_system { SYSTEM } else { USER }));
    let guard = loop {
        match try_take(&path, uid)? {
            LockAttempt::Taken(file) => break DirectoryGuard { file, path },
            LockAttempt::Held(holder) => return Ok(Err(holder)),
            LockAttempt::Again => {}
        }
    };
    guard.sign(socket)?;
    // After taking its own lock: of two that start at once, at least one sees the other.
    if is_system && let Some(holder) = other_system_daemon(directory, uid)? {
        return Ok(Err(holder));
    }
    Ok(Ok(guard))
}

enum LockAttempt {
    Taken(File),
    Held(Holder),
    Again,
}

fn try_take(path: &Path, uid: u32) -> io::Result<LockAttempt> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
    let file = match options.open(path) {
        Ok(file) if file.metadata()?.uid() == uid => file,
        // Another user's, perhaps to block the daemon: the kernel may refuse to open it, see
        // `protected_regular` in proc_sys_fs(5).
        Ok(_) => return clear(path),
        Err(error) if is_in_the_way(&error) && path.symlink_metadata().is_ok() => return clear(path),
        Err(error) => return Err(error),
    };
    if !OWNER.try_write(&file)? {
        if OWNER.is_write_locked(&file)? {
            return Ok(LockAttempt::Held(Holder::named_in(path)));
        }
        // A read lock, which does not count.
        return clear(path);
    }
    let is_named = path
        .symlink_metadata()
        .is_ok_and(|named| file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (named.dev(), named.ino())));
    // Else the previous daemon has just removed it.
    Ok(if is_named { LockAttempt::Taken(file) } else { LockAttempt::Again })
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory)
        || error.raw_os_error() == Some(nix::libc::ELOOP)
}

fn clear(path: &Path) -> io::Result<LockAttempt> {
    fs::remove_file(path)
        .map(|()| LockAttempt::Again)
        .map_err(|error| io::Error::new(error.kind(), format!("{} is in the way ({error}); remove it", path.display())))
}

fn other_system_daemon(directory: &Path, uid: u32) -> io::Result<Option<Holder>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(other) = name.to_str().and_then(|name| name.strip_prefix(SYSTEM)?.strip_suffix(".lock")) else {
            continue;
        };
        if other == uid.to_string() {
            continue;
        }
        let mut options = File::options();
        options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        if let Ok(file) = options.open(entry.path())
            && file.metadata()?.uid() <= LAST_SYSTEM_UID
            && OWNER.is_write_locked(&file)?
        {
            return Ok(Some(Holder::named_in(&entry.path())));
        }
    }
    Ok(None)
}

impl DirectoryGuard {
    /// Names this daemon, for the next one that starts.
    fn sign(&self, socket: &Path) -> io::Result<()> {
        // Independent of the umask: other daemons read it.
        self.file.set_permissions(fs::Permissions::from_mode(0o644))?;
        self.file.set_len(0)?;
        (&self.file).write_all(format!("{}\n{}\n", std::process::id(), socket.display()).as_bytes())
    }
}

impl Drop for DirectoryGuard {
    fn drop(&mut self) {
        // While the lock is held: no other daemon can have taken the name.
        let _ = fs::remove_file(&self.path);
    }
}

impl Holder {
    fn named_in(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        Self { pid: lines.next().and_then(|pid| pid.parse().ok()), socket: lines.next().map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip;

    fn take_as_user(directory: &Path) -> Result<DirectoryGuard, Holder> {
        take(directory, Path::new("/run/x.sock"), false).unwrap()
    }

    #[test]
    fn a_second_daemon_names_the_first_and_starts_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = take_as_user(directory.path()).unwrap();
        let holder = Holder { pid: Some(std::process::id()), socket: Some("/run/x.sock".into()) };
        assert_eq!(take_as_user(directory.path()).unwrap_err(), holder);
        drop(first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the file is removed");
        // A daemon that is killed leaves the file.
        let name = format!("{USER}{}.lock", geteuid());
        fs::write(directory.path().join(name), "1\n/run/old.sock\n").unwrap();
        drop(take_as_user(directory.path()).unwrap());
    }

    #[test]
    fn a_read_lock_or_a_symlink_does_not_block_a_daemon() {
        let directory = tempfile::tempdir().unwrap();
        drop(take_as_user(directory.path()).unwrap());
        let path = directory.path().join(format!("{USER}{}.lock", geteuid()));
        fs::write(&path, "").unwrap();
        let reader = File::open(&path).unwrap();
        assert!(OWNER.try_read(&reader).unwrap());
        drop(take_as_user(directory.path()).unwrap());
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        drop(take_as_user(directory.path()).unwrap());
    }

    #[test]
    fn system_daemons_of_two_users_exclude_each_other() {
        if !geteuid().is_root() {
            skip::report(&skip::Lack::Root, "daemons of two users");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("{SYSTEM}990.lock"));
        fs::write(&path, "17\n/run/other.sock\n").unwrap();
        let other = File::options().write(true).open(&path).unwrap();
        assert!(OWNER.try_write(&other).unwrap());
        let system = || take(directory.path(), Path::new("/run/x.sock"), true).unwrap();
        std::os::unix::fs::chown(&path, Some(990), None).unwrap();
        assert_eq!(system().unwrap_err(), Holder { pid: Some(17), socket: Some("/run/other.sock".into()) });
        // An ordinary user's file does not count.
        std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        drop(system().unwrap());
        drop(take_as_user(directory.path()).unwrap());
    }
}
