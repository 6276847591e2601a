//! The file by which a daemon shows that it serves a directory.
//!
//! Every user may create files in the directory, so no name there can be trusted and none can be
//! kept free. The file is therefore complete and locked before it has a name, the name is one that
//! nobody can have guessed, and other files are never opened for writing, truncated or removed.
//! What counts is a regular file that only its owner may write, and whose owner holds its write
//! lock: nobody else can take that.
//!
//! A daemon that starts holds the locks of two bytes, and gives one back when it serves. It names
//! its file first and looks for others then: of two that start at once, at least one sees the
//! other.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::descriptor::Descriptor;
use super::dir::{FileId, ShmDir};
use super::lock::{GUARD, STARTING};
use super::mark::Mark;
use super::new_file::{link_unnamed, unnamed};
use super::open::{Access, above_standard};
use crate::foreign_text::clean;

/// The longest text in the file, in bytes: a pid and the path of a socket.
const MAX_TEXT_BYTES: usize = 1024;

/// Whose regions a daemon looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardScope {
    /// The whole directory's: of root or a system user.
    System,
    /// Its own user's.
    User,
}

impl GuardScope {
    fn prefix(self) -> &'static str {
        match self {
            Self::System => ".conduitd.system.",
            Self::User => ".conduitd.user.",
        }
    }
}

/// What the locks of a guard say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardState {
    /// Its daemon serves.
    Serving,
    /// Its daemon looks for others, and may still give up.
    Starting,
    /// Its daemon is dead.
    Stale,
}

/// A daemon's file in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardFile {
    /// The name of the file.
    pub file_name: String,
    /// Whose regions the daemon looks after.
    pub scope: GuardScope,
    /// The user of the file and its daemon.
    pub uid: u32,
    /// Whether the daemon is alive.
    pub state: GuardState,
    /// The daemon's pid in its pid namespace, as it says itself.
    pub pid: Option<u32>,
    /// The daemon's socket, as it says itself.
    pub socket: Option<String>,
    /// No other name leads to the file, and it is no region.
    is_removable: bool,
}

/// The files of daemons in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardFiles {
    /// Those that only a daemon of their user can have made.
    pub guards: Vec<GuardFile>,
    /// Names like those of guards that stand for something else. They are ignored.
    pub impostors: Vec<String>,
}

/// The file of this daemon; removed when dropped.
#[derive(Debug)]
pub struct DaemonGuard {
    directory: OwnedFd,
    file: Descriptor,
    file_name: String,
}

impl DaemonGuard {
    /// Makes the file, which names this process and its socket. The daemon is starting from now on.
    ///
    /// # Errors
    ///
    /// Those of `open(2)` with `O_TMPFILE`, `ENOSPC` among them.
    pub fn create(directory: &ShmDir, scope: GuardScope, socket: &Path) -> io::Result<Self> {
        let file = unnamed(directory)?;
        // Other daemons and tools read it, whatever the umask.
        fchmod(&file, Mode::from_bits_truncate(0o644))?;
        let text = format!("{}\n{}\n", std::process::id(), socket.display());
        // Without room for it the daemon has no name, and serves all the same.
        let _ = pwrite(&file, &text.as_bytes()[..text.len().min(MAX_TEXT_BYTES)], 0);
        // Before it has a name: afterwards any reader could hold a read lock that excludes it.
        if !(GUARD.try_write(&file)? && STARTING.try_write(&file)?) {
            return Err(io::Error::other("another process holds the lock of an unnamed file"));
        }
        let directory_fd = directory.as_fd().try_clone_to_owned()?;
        loop {
            let random = RandomState::new().hash_one(std::process::id());
            let file_name = format!("{}{}.{random:016x}.lock", scope.prefix(), geteuid());
            match link_unnamed(&file, directory, &file_name) {
                Ok(()) => return Ok(Self { directory: directory_fd, file, file_name }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The name of the file.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The daemon serves from now on.
    pub fn serve(&self) {
        STARTING.unlock(&self.file);
    }

    /// Whether the file has its name still.
    pub fn is_named(&self) -> bool {
        let named = fstatat(&self.directory, self.file_name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        named.is_ok_and(|named| fstat(&self.file).is_ok_and(|own| FileId::of(&own) == FileId::of(&named)))
    }
}

impl Drop for DaemonGuard {
    fn drop(&mut self) {
        // While it is locked, so that it never looks like a dead daemon's.
        if self.is_named() {
            let _ = unlinkat(&self.directory, self.file_name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl GuardFiles {
    /// Finds the files of daemons, dead ones too.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn find(directory: &ShmDir) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::from_fd(above_standard(openat(directory, ".", flags, Mode::empty())?)?)?;
        let mut found = Self::default();
        for entry in listing.iter() {
            let entry = entry?;
            let Ok(file_name) = entry.file_name().to_str() else { continue };
            let Some((scope, uid)) = parse(file_name) else { continue };
            match examine(directory, file_name, scope, uid) {
                Ok(Some(guard)) => found.guards.push(guard),
                Ok(None) => found.impostors.push(file_name.into()),
                // Removed meanwhile.
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// Removes the files that dead daemons of this user have left.
    pub fn remove_stale(&self, directory: &ShmDir) {
        let own = geteuid().as_raw();
        let is_stale = |guard: &&GuardFile| guard.state == GuardState::Stale && guard.uid == own && guard.is_removable;
        for guard in self.guards.iter().filter(is_stale) {
            let _ = unlinkat(directory, guard.file_name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Whether a file's name is like those of guards.
pub fn is_like_a_guard(file_name: &str) -> bool {
    parse(file_name).is_some()
}

/// The scope and the user in a name like those of guards.
fn parse(file_name: &str) -> Option<(GuardScope, u32)> {
    [GuardScope::System, GuardScope::User].into_iter().find_map(|scope| {
        let (uid, _) = file_name.strip_prefix(scope.prefix())?.strip_suffix(".lock")?.split_once('.')?;
        Some((scope, uid.parse().ok()?))
    })
}

/// Examines a file; `None` if a daemon of that user cannot have made it.
fn examine(directory: &ShmDir, file_name: &str, scope: GuardScope, uid: u32) -> io::Result<Option<GuardFile>> {
    let named = fstatat(directory, file_name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !is_proper(&named, uid) {
        return Ok(None);
    }
    let Ok(file) = directory.open_file(file_name, Access::Read) else { return Ok(None) };
    let stat = fstat(&file)?;
    if FileId::of(&stat) != FileId::of(&named) || !is_proper(&stat, uid) {
        return Ok(None);
    }
    let state = if !GUARD.is_write_locked(&file)? {
        GuardState::Stale
    } else if STARTING.is_write_locked(&file)? {
        GuardState::Starting
    } else {
        GuardState::Serving
    };
    let mut text = [0; MAX_TEXT_BYTES];
    let len = pread(&file, &mut text, 0).unwrap_or(0);
    let mut lines = text[..len].split(|byte| *byte == b'\n').map(clean);
    let pid = lines.next().and_then(|pid| pid.parse().ok());
    let socket = lines.next().filter(|socket| !socket.is_empty());
    // What a daemon wrote, or had no room to write.
    let is_signed = pid.is_some() || len == 0;
    let is_removable = is_signed && stat.st_nlink == 1 && Mark::read(&file).is_none();
    Ok(Some(GuardFile { file_name: file_name.into(), scope, uid, state, pid, socket, is_removable }))
}

/// Whether only this user can have made the file and hold its write lock. The number of its links
/// does not count: with another link anyone could make a daemon invisible.
fn is_proper(stat: &FileStat, uid: u32) -> bool {
    let is_regular = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    is_regular && stat.st_uid == uid && stat.st_mode & 0o7022 == 0
}

/// Whether there was no room for the file: then a daemon can do without it.
pub fn is_for_want_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSPC | Errno::EDQUOT))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::shm::dir::tests::directory;
    use crate::shm::lock::OWNER;

    fn create(directory: &ShmDir) -> DaemonGuard {
        DaemonGuard::create(directory, GuardScope::User, Path::new("/run/x.sock")).unwrap()
    }

    fn states(directory: &ShmDir) -> Vec<GuardState> {
        GuardFiles::find(directory).unwrap().guards.iter().map(|guard| guard.state).collect()
    }

    #[test]
    fn a_guard_tells_of_its_daemon_until_it_is_dropped() {
        let (place, directory) = directory();
        let guard = create(&directory);
        assert_eq!(states(&directory), [GuardState::Starting]);
        guard.serve();
        let found = GuardFiles::find(&directory).unwrap();
        assert_eq!((found.guards.len(), found.impostors.len()), (1, 0));
        let file = &found.guards[0];
        assert_eq!((file.state, file.uid, file.scope), (GuardState::Serving, geteuid().as_raw(), GuardScope::User));
        assert_eq!((file.pid, file.socket.as_deref()), (Some(std::process::id()), Some("/run/x.sock")));
        assert!(guard.is_named());
        found.remove_stale(&directory);
        assert!(guard.is_named(), "a live daemon's file is not removed");
        let second = create(&directory);
        assert_ne!(guard.file_name(), second.file_name());
        drop((guard, second));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_of_dead_daemons_are_removed() {
        let (place, directory) = directory();
        let guard = create(&directory);
        GUARD.unlock(&guard.file);
        assert_eq!(states(&directory), [GuardState::Stale]);
        GuardFiles::find(&directory).unwrap().remove_stale(&directory);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(!guard.is_named());
    }

    #[test]
    fn readers_can_neither_pose_as_a_daemon_nor_hide_one() {
        let (place, directory) = directory();
        let guard = create(&directory);
        let path = place.path().join(guard.file_name());
        let reader = File::open(&path).unwrap();
        assert!(!GUARD.try_read(&reader).unwrap());
        guard.serve();
        assert!(STARTING.try_read(&reader).unwrap());
        assert_eq!(states(&directory), [GuardState::Serving]);
        fs::hard_link(&path, place.path().join("link")).unwrap();
        assert_eq!(states(&directory), [GuardState::Serving], "another link does not hide it");
        GUARD.unlock(&guard.file);
        assert!(GUARD.try_read(&reader).unwrap());
        assert_eq!(states(&directory), [GuardState::Stale]);
        GuardFiles::find(&directory).unwrap().remove_stale(&directory);
        assert!(guard.is_named(), "a file with another name is not removed");
    }

    #[test]
    fn other_files_of_such_names_are_left_alone() {
        let (place, directory) = directory();
        let uid = geteuid();
        let path = |name: &str| place.path().join(format!(".conduitd.user.{uid}.{name}.lock"));
        // Files that others may write: they could hold its lock.
        let locked = File::create(path("writable")).unwrap();
        locked.set_permissions(PermissionsExt::from_mode(0o666)).unwrap();
        assert!(GUARD.try_write(&locked).unwrap());
        fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::write(place.path().join(format!(".conduitd.user.{}.a.lock", uid.as_raw() + 1)), "").unwrap();
        let found = GuardFiles::find(&directory).unwrap();
        assert_eq!((found.guards, found.impostors.len()), (vec![], 6));
        // A region is not a daemon's file, whoever owns it: its owner holds another lock.
        let region = File::options().create_new(true).read(true).write(true).open(path("region")).unwrap();
        region.set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
        Mark::Topic.write(&region).unwrap();
        assert!(OWNER.try_write(&region).unwrap());
        let found = GuardFiles::find(&directory).unwrap();
        assert_eq!(found.guards.len(), 1);
        assert_eq!(found.guards[0].state, GuardState::Stale);
        found.remove_stale(&directory);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 7, "nothing was removed");
        assert!(parse(".conduitd.system.0.lock").is_none() && parse("conduitd.user.0.a.lock").is_none());
    }
}
