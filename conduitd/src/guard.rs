//! One daemon per directory: whoever looks after a directory holds the lock of a file in it.
//!
//! The file says who that is. It is named after its user, who alone may write it and so alone can hold its write lock
//! ([`conduit::internal::shm::lock`]); read locks, which everybody could take, do not count. A daemon that may remove other users' files
//! answers for the whole directory: there is one such of root or a system user. Besides it any user may run a daemon of their own.
//!
//! The file goes when the daemon ends. One that was killed leaves it, without the lock, to the next.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use conduit::internal::shm::lock::OWNER;
use nix::unistd::geteuid;

/// Users up to here are the system's: `SYS_UID_MAX` of most distributions. What others say of themselves does not count.
const LAST_SYSTEM_UID: u32 = 999;
const SYSTEM: &str = ".conduitd.system.";
const USER: &str = ".conduitd.user.";

/// The lock in this daemon's hands.
#[derive(Debug)]
pub(crate) struct Guard {
    file: File,
    path: PathBuf,
}

/// Who has the directory already, by its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: Option<u32>,
    pub(crate) socket: Option<String>,
}

/// Makes this the one daemon of a directory, or says who is. `is_system`: it may remove other users' files.
pub(crate) fn take(directory: &Path, socket: &Path, is_system: bool) -> io::Result<Result<Guard, Holder>> {
    let uid = geteuid().as_raw();
    let path = directory.join(format!("{}{uid}.lock", if is_system { SYSTEM } else { USER }));
    let guard = loop {
        match try_take(&path, uid)? {
            Attempt::Taken(file) => break Guard { file, path },
            Attempt::Held(holder) => return Ok(Err(holder)),
            Attempt::Again => {}
        }
    };
    guard.sign(socket)?;
    // After this one's own lock: of two that start at once, one at least sees the other.
    if is_system && let Some(holder) = other_system_daemon(directory, uid)? {
        return Ok(Err(holder));
    }
    Ok(Ok(guard))
}

enum Attempt {
    Taken(File),
    Held(Holder),
    Again,
}

fn try_take(path: &Path, uid: u32) -> io::Result<Attempt> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
    let file = match options.open(path) {
        Ok(file) if file.metadata()?.uid() == uid => file,
        // Somebody else's, who wants to be in the way: the kernel refuses what is called `protected_regular` in proc_sys_fs(5).
        Ok(_) => return clear(path),
        Err(error) if is_in_the_way(&error) && path.symlink_metadata().is_ok() => return clear(path),
        Err(error) => return Err(error),
    };
    if !OWNER.try_write(&file)? {
        if OWNER.is_write_locked(&file)? {
            return Ok(Attempt::Held(Holder::named_in(path)));
        }
        // A reader's lock, which means nothing.
        return clear(path);
    }
    let is_named = path
        .symlink_metadata()
        .is_ok_and(|named| file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (named.dev(), named.ino())));
    // Otherwise the one before has removed it just now.
    Ok(if is_named { Attempt::Taken(file) } else { Attempt::Again })
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory)
        || error.raw_os_error() == Some(nix::libc::ELOOP)
}

fn clear(path: &Path) -> io::Result<Attempt> {
    fs::remove_file(path)
        .map(|()| Attempt::Again)
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

impl Guard {
    /// For the next one that comes.
    fn sign(&self, socket: &Path) -> io::Result<()> {
        // Whatever the umask says: it must be read to be asked.
        self.file.set_permissions(fs::Permissions::from_mode(0o644))?;
        self.file.set_len(0)?;
        (&self.file).write_all(format!("{}\n{}\n", std::process::id(), socket.display()).as_bytes())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // With the lock in hand: nobody else can have taken the name.
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

    fn take_as_user(directory: &Path) -> Result<Guard, Holder> {
        take(directory, Path::new("/run/x.sock"), false).unwrap()
    }

    #[test]
    fn the_second_learns_who_the_first_is_and_comes_in_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = take_as_user(directory.path()).unwrap();
        let holder = Holder { pid: Some(std::process::id()), socket: Some("/run/x.sock".into()) };
        assert_eq!(take_as_user(directory.path()).unwrap_err(), holder);
        drop(first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
        // One that was killed leaves the file.
        let name = format!("{USER}{}.lock", geteuid());
        fs::write(directory.path().join(name), "1\n/run/old.sock\n").unwrap();
        drop(take_as_user(directory.path()).unwrap());
    }

    #[test]
    fn whoever_may_only_read_can_not_keep_a_daemon_out() {
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
        // An ordinary user is not believed.
        std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        drop(system().unwrap());
        drop(take_as_user(directory.path()).unwrap());
    }
}
