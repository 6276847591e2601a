//! Making the file of a region: the step *Create* of the protocol.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::uio::pwrite;
use nix::unistd::{Gid, fchown, linkat};
use rustix::fs::{XattrFlags, fsetxattr};

use super::descriptor::Descriptor;
use super::dir::{FileId, ShmDir};
use super::fork;
use super::lock::OWNER;
use super::map::Mapping;
use super::mark::Mark;
use super::open::{Access, open_writable, proc_path, reopen};
use super::room::{self, RoomError};
use super::takeover::{TakeoverError, TakeoverHooks, free_name};
use crate::TopicName;
use crate::fault::{self, Step};

/// Default time that creation waits for a dying owner, or a reaper at work, before it reports the
/// name as taken.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// Steps whose failures have remedies of their own, as errors name them.
pub(crate) const CREATE: &str = "create";
pub(crate) const RESERVE: &str = "reserve the memory of";
pub(crate) const MAP: &str = "map";
pub(crate) const NAME: &str = "name";
pub(crate) const SET_GROUP: &str = "set the group of";

/// What a new region's file shall be.
pub(crate) struct FileSpec<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) size_bytes: u64,
    /// Permission bits; by default what the umask leaves of 0666.
    pub(crate) mode: Option<u32>,
    /// Numeric id of the file's group.
    pub(crate) group: Option<u32>,
    pub(crate) mark: Mark,
    /// The first bytes of the file.
    pub(crate) content: &'a [u8],
    /// Name and value of an extended attribute for tools: left out where the file system has no
    /// room for it.
    pub(crate) attribute: Option<(&'a str, &'a [u8])>,
    pub(crate) patience: Duration,
}

/// A region that this process owns: mapped, locked, and named.
#[derive(Debug)]
pub(crate) struct OwnedFile {
    pub(crate) mapping: Mapping,
    /// A second description, without locks and only for reading: for probing, and for taking a dead
    /// subscriber's lock.
    pub(crate) file: Descriptor,
    pub(crate) id: FileId,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) gid: u32,
}

/// Why the file of a region could not be made.
#[derive(Debug)]
pub(crate) enum NewFileError {
    /// No file has this size.
    Size,
    /// The directory is not in a tmpfs.
    NotTmpfs,
    /// The file system drops a lock with the descriptor, although the mapping remains.
    LocksDoNotLast,
    /// There is too little memory.
    Room(RoomError),
    /// The name is taken.
    Name(TakeoverError),
    /// A system call failed.
    Io { doing: &'static str, source: io::Error },
}

impl NewFileError {
    fn io<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, source: source.into() }
    }
}

/// A file that is complete and locked but has no name yet.
pub(crate) struct NewFile<'a> {
    directory: &'a ShmDir,
    spec: &'a FileSpec<'a>,
    owned: OwnedFile,
}

impl<'a> NewFile<'a> {
    /// Makes the file: reserved, written, marked, locked, mapped.
    ///
    /// A dead owner's file of that name is removed first, so that its memory is available again.
    pub(crate) fn make(
        directory: &'a ShmDir,
        spec: &'a FileSpec<'a>,
        hooks: &dyn TakeoverHooks,
    ) -> Result<Self, NewFileError> {
        let size = spec.size_bytes;
        let len = usize::try_from(size).ok().filter(|_| size <= i64::MAX as u64).and_then(NonZeroUsize::new);
        let Some(len) = len else { return Err(NewFileError::Size) };
        if !directory.is_suitable().map_err(NewFileError::io("examine"))? {
            return Err(NewFileError::NotTmpfs);
        }
        free_name(directory, spec.topic, spec.patience, hooks).map_err(NewFileError::Name)?;
        room::check(directory, size).map_err(NewFileError::Room)?;
        let file = unnamed(directory).map_err(NewFileError::io(CREATE))?;
        fault::point(Step::CreateMade);
        reserve(&file, size).map_err(|errno| match errno {
            Errno::ENOSPC => NewFileError::Room(room::no_space(directory)),
            errno => NewFileError::io(RESERVE)(errno),
        })?;
        fault::point(Step::CreateReserved);
        write(&file, spec)?;
        let stat = fstat(&file).map_err(NewFileError::io("examine"))?;
        let mapping = map_locked(&file, len).map_err(NewFileError::io(MAP))?;
        let file = Descriptor::reopen(&file, Access::Read).map_err(NewFileError::io("open"))?;
        fault::point(Step::CreateLocked);
        if !OWNER.is_write_locked(&file).map_err(NewFileError::io("probe the lock of"))? {
            return Err(NewFileError::LocksDoNotLast);
        }
        let (id, mode, gid) = (FileId::of(&stat), stat.st_mode & 0o777, stat.st_gid);
        Ok(Self { directory, spec, owned: OwnedFile { mapping, file, id, mode, gid } })
    }

    pub(crate) fn owned(&self) -> &OwnedFile {
        &self.owned
    }

    /// Gives the file its name, unless a living process owns that.
    pub(crate) fn link(self, hooks: &dyn TakeoverHooks) -> Result<OwnedFile, NewFileError> {
        let FileSpec { topic, patience, .. } = *self.spec;
        loop {
            match link_unnamed(&self.owned.file, self.directory, &topic.file_name()) {
                Ok(()) => {
                    fault::point(Step::CreateLinked);
                    return Ok(self.owned);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    free_name(self.directory, topic, patience, hooks).map_err(NewFileError::Name)?;
                }
                Err(source) => return Err(NewFileError::Io { doing: NAME, source }),
            }
        }
    }
}

/// Gives a reserved file its mode, group, content and marks.
fn write(file: &Descriptor, spec: &FileSpec) -> Result<(), NewFileError> {
    set_mode(file, spec.mode).map_err(NewFileError::io("set the mode of"))?;
    if let Some(group) = spec.group {
        fchown(file, None, Some(Gid::from_raw(group))).map_err(NewFileError::io(SET_GROUP))?;
    }
    write_all(file, spec.content).map_err(NewFileError::io("write"))?;
    fault::point(Step::CreateWritten);
    spec.mark.write(file).map_err(NewFileError::io("mark"))?;
    if let Some((name, value)) = spec.attribute {
        let _ = fsetxattr(file, name, value, XattrFlags::empty());
    }
    fault::point(Step::CreateMarked);
    Ok(())
}

fn write_all(file: &Descriptor, content: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < content.len() {
        match pwrite(file, &content[written..], written as i64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Sets the mode, in which the owner may always read and write: it could change the mode anyway,
/// and it (or its successor, which takes the region over) must be able to lock and mark the file.
fn set_mode(file: &Descriptor, mode: Option<u32>) -> io::Result<()> {
    let current = fstat(file)?.st_mode & 0o7777;
    let mode = mode.unwrap_or(current) | 0o600;
    if mode != current {
        fchmod(file, Mode::from_bits_truncate(mode))?;
    }
    Ok(())
}

/// Reserves the memory of a file: `EFBIG` if this process may not make files of that size.
fn reserve(file: &Descriptor, size_bytes: u64) -> nix::Result<()> {
    // Beyond the limit the kernel would send SIGXFSZ, which kills the process.
    if getrlimit(Resource::RLIMIT_FSIZE)?.0 < size_bytes {
        return Err(Errno::EFBIG);
    }
    let reserve = || fallocate(file, FallocateFlags::empty(), 0, size_bytes as i64);
    match reserve() {
        // A signal undoes what was reserved so far. A timer of the program could do so each time.
        Err(Errno::EINTR) => {
            let _blocked = fork::BlockedSignals::new();
            reserve()
        }
        result => result,
    }
}

/// Takes the owner lock on a description that the mapping alone keeps open.
fn map_locked(file: &Descriptor, len: NonZeroUsize) -> io::Result<Mapping> {
    let _no_fork = fork::ForkGuard::new();
    let locked = reopen(file, Access::ReadWrite)?;
    if !OWNER.try_write(&locked)? {
        return Err(io::Error::other("another process holds the lock of an unnamed file"));
    }
    Mapping::new(&locked, len)
}

/// Makes a file without a name.
///
/// # Errors
///
/// Those of `open(2)` with `O_TMPFILE`.
pub fn unnamed(directory: &ShmDir) -> io::Result<Descriptor> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Descriptor::open(|| open_writable(|| openat(directory, ".", flags, Mode::from_bits_truncate(0o666))))
}

/// Gives a file without a name one.
///
/// # Errors
///
/// Those of `linkat(2)`; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the name is taken.
pub fn link_unnamed(file: impl AsFd, directory: &ShmDir, name: &str) -> io::Result<()> {
    match linkat(&file, "", directory, name, AtFlags::AT_EMPTY_PATH) {
        // Kernels before 6.10 require a privilege for this form.
        Err(Errno::ENOENT | Errno::EPERM | Errno::EINVAL) => {
            let path = proc_path(&file);
            Ok(linkat(AT_FDCWD, path.as_str(), directory, name, AtFlags::AT_SYMLINK_FOLLOW)?)
        }
        result => Ok(result?),
    }
}

/// Whether the lock of a file in this directory outlives its descriptor in a mapping, as the owner
/// lock must. On overlayfs, for example, it does not.
///
/// # Errors
///
/// If a file of one page cannot be made, locked or mapped.
pub fn locks_last(directory: &ShmDir) -> io::Result<bool> {
    const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
    let file = unnamed(directory)?;
    reserve(&file, PAGE.get() as u64)?;
    let _mapping = map_locked(&file, PAGE)?;
    OWNER.is_write_locked(&file)
}
