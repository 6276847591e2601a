//! Making, taking over and opening the files of regions. See the [module above](super) for the protocol.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Gid, fchown, linkat};
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::atomics::Native;
use super::dir::{FileId, ReapLock, ShmDir, is_regular};
use super::lock::OWNER;
use super::map::Mapping;
use super::{acl, fork, futex, process};
use crate::TopicName;
use crate::error::{CreateError, OwnerClaim};
use crate::fault::{self, Step};
use crate::ring::layout::{
    CLOSED, CONSUMERS_AT, CONTROL_BYTES, Consumers, Layout, MAGIC, ORPHANED, UNLINKED, program_name,
};
use crate::shape;

/// How long creation waits for a dying owner or a reaper at work before it says that the name is taken.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

const XATTR: &str = "user.conduit";

/// What the extended attribute `user.conduit` says of a file. A file without it is not ours and never removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A topic: header and ring.
    Topic,
    /// A raw region, gone with its creator's death.
    Raw {
        /// Pid of the creator, as it says.
        pid: u32,
        /// Command name of the creator, as it says.
        program: String,
    },
    /// A raw region that its creator let go cleanly: it stays until somebody unlinks it.
    Kept,
}

impl Mark {
    pub(crate) fn raw() -> Self {
        Self::Raw { pid: std::process::id(), program: program_name(&process::own_name()) }
    }

    /// Puts the mark on a file. File systems without extended attributes keep none: topics are then known by their
    /// header, and raw regions are never reaped.
    pub fn write(&self, file: impl AsFd) -> io::Result<()> {
        let value = match self {
            Self::Topic => "topic".into(),
            Self::Raw { pid, program } => format!("raw {pid} {program}"),
            Self::Kept => "kept".into(),
        };
        match fsetxattr(file, XATTR, value.as_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn parse(value: &str) -> Option<Self> {
        match value {
            "topic" => Some(Self::Topic),
            "kept" => Some(Self::Kept),
            _ => {
                let (pid, program) = value.strip_prefix("raw ")?.split_once(' ')?;
                let program = program.chars().filter(|c| !c.is_control()).take(64).collect();
                Some(Self::Raw { pid: pid.parse().ok()?, program })
            }
        }
    }
}

/// What kind of region an open file is; `None` if it is not ours.
pub fn read_mark(file: impl AsFd) -> Option<Mark> {
    let mut value = [0; 128];
    if let Ok(len) = fgetxattr(&file, XATTR, &mut value[..]) {
        return Mark::parse(std::str::from_utf8(&value[..len]).ok()?);
    }
    let mut magic = [0; MAGIC.len()];
    (nix::sys::uio::pread(&file, &mut magic, 0) == Ok(magic.len()) && magic == MAGIC).then_some(Mark::Topic)
}

/// What a new region's file shall be.
pub(crate) struct FileSpec<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) size: u64,
    /// Permission bits; by default what the umask leaves of 0666.
    pub(crate) mode: Option<u32>,
    /// Numeric id of the file's group.
    pub(crate) group: Option<u32>,
    pub(crate) mark: Mark,
    /// What the file starts with.
    pub(crate) content: &'a [u8],
    /// What its messages' bytes mean.
    pub(crate) shape: Option<&'a [u8]>,
    pub(crate) patience: Duration,
}

/// A region that this process owns: mapped, locked, and named.
#[derive(Debug)]
pub(crate) struct OwnedFile {
    pub(crate) mapping: Mapping,
    /// A second description, without locks: for probing, and for taking a dead subscriber's lock.
    pub(crate) file: OwnedFd,
    pub(crate) id: FileId,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) gid: u32,
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
    /// A dead owner's file of that name is removed first, so that its memory can be had again. `ask_reaper` is called
    /// if only somebody with more rights can do that.
    pub(crate) fn make(
        directory: &'a ShmDir,
        spec: &'a FileSpec<'a>,
        ask_reaper: &dyn Fn(),
    ) -> Result<Self, CreateError> {
        let io_error = |doing| CreateError::io(doing, directory.path_of(spec.topic));
        let len = usize::try_from(spec.size).ok().filter(|_| spec.size <= i64::MAX as u64).and_then(NonZeroUsize::new);
        let Some(len) = len else { return Err(CreateError::Size { size: spec.size }) };
        if !directory.is_suitable().map_err(io_error("examine"))? {
            return Err(CreateError::NotShared { path: directory.path().into() });
        }
        make_way(directory, spec, ask_reaper)?;
        check_room(directory, spec.size)?;

        let file = unnamed(directory).map_err(|errno| io_error("create")(errno.into()))?;
        fault::point(Step::CreateMade);
        reserve(&file, spec.size).map_err(|errno| match errno {
            Errno::ENOSPC | Errno::EFBIG | Errno::ENOMEM => no_space(directory, spec.size),
            errno => io_error("reserve the memory of")(errno.into()),
        })?;
        fault::point(Step::CreateReserved);
        set_mode(&file, spec.mode).map_err(io_error("set the mode of"))?;
        if let Some(group) = spec.group {
            fchown(&file, None, Some(Gid::from_raw(group)))
                .map_err(|errno| io_error("set the group of")(errno.into()))?;
        }
        std::os::unix::fs::FileExt::write_all_at(
            &File::from(file.try_clone().map_err(io_error("open"))?),
            spec.content,
            0,
        )
        .map_err(io_error("write"))?;
        fault::point(Step::CreateWritten);
        spec.mark.write(&file).map_err(io_error("mark"))?;
        if let Some(text) = spec.shape {
            // For tools alone: where there is no room for it, they show bytes.
            let _ = fsetxattr(&file, shape::XATTR, text, XattrFlags::empty());
        }
        fault::point(Step::CreateMarked);

        let stat = fstat(&file).map_err(|errno| io_error("examine")(errno.into()))?;
        let mapping = map_locked(&file, len).map_err(io_error("map"))?;
        fault::point(Step::CreateLocked);
        if !OWNER.is_write_locked(&file).map_err(io_error("probe the lock of"))? {
            return Err(CreateError::LocksDoNotLast { path: directory.path().into() });
        }
        let (id, mode, gid) = (FileId::of(&stat), stat.st_mode & 0o777, stat.st_gid);
        Ok(Self { directory, spec, owned: OwnedFile { mapping, file, id, mode, gid } })
    }

    pub(crate) fn owned(&self) -> &OwnedFile {
        &self.owned
    }

    /// Gives the file its name, unless a living owner has it.
    pub(crate) fn link(self, ask_reaper: &dyn Fn()) -> Result<OwnedFile, CreateError> {
        loop {
            match self.try_link() {
                Ok(()) => {
                    fault::point(Step::CreateLinked);
                    return Ok(self.owned);
                }
                Err(Errno::EEXIST) => make_way(self.directory, self.spec, ask_reaper)?,
                Err(errno) => {
                    return Err(CreateError::io("name", self.directory.path_of(self.spec.topic))(errno.into()));
                }
            }
        }
    }

    fn try_link(&self) -> nix::Result<()> {
        link_unnamed(&self.owned.file, self.directory, &self.spec.topic.file_name())
    }
}

/// Gives a file without a name one, if that is free.
pub fn link_unnamed(file: impl AsFd, directory: &ShmDir, name: &str) -> nix::Result<()> {
    match linkat(&file, "", directory, name, AtFlags::AT_EMPTY_PATH) {
        // Kernels before 6.10 want a privilege for this form.
        Err(Errno::ENOENT | Errno::EPERM | Errno::EINVAL) => {
            let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
            linkat(AT_FDCWD, path.as_str(), directory, name, AtFlags::AT_SYMLINK_FOLLOW)
        }
        result => result,
    }
}

/// Whether the lock of a file in this directory outlives its descriptor in a mapping, as every owner's does. On overlayfs, for
/// one, it does not.
///
/// The file is one page long and has no name.
pub fn locks_last(directory: &ShmDir) -> io::Result<bool> {
    let page = const { NonZeroUsize::new(CONTROL_BYTES).unwrap() };
    let file = unnamed(directory)?;
    reserve(&file, CONTROL_BYTES as u64)?;
    let _mapping = map_locked(&file, page)?;
    OWNER.is_write_locked(&file)
}

/// Makes a file that has no name yet.
pub fn unnamed(directory: &ShmDir) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    openat(directory, ".", flags, Mode::from_bits_truncate(0o666))
}

/// Waits until nobody alive has the name, and removes what a dead owner left there.
fn make_way(directory: &ShmDir, spec: &FileSpec, ask_reaper: &dyn Fn()) -> Result<(), CreateError> {
    let deadline = Instant::now() + spec.patience;
    let mut pause = FIRST_PAUSE;
    let mut asked = false;
    while let Some(obstacle) = clear_the_way(directory, spec.topic)? {
        if !asked && matches!(obstacle, CreateError::NotRemovable { .. }) {
            ask_reaper();
            asked = true;
        }
        if Instant::now() >= deadline {
            return Err(obstacle);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Removes a dead owner's file from a name. `None`: the name is free. Otherwise what is in the way for now.
fn clear_the_way(directory: &ShmDir, topic: &TopicName) -> Result<Option<CreateError>, CreateError> {
    let name = topic.file_name();
    let path = || directory.path_of(topic);
    let io_error = |doing, errno: Errno| CreateError::io(doing, path())(errno.into());
    let foreign = || CreateError::Foreign { topic: topic.clone(), path: path() };
    let (file, may_write) = match directory.open_file(&name, OFlag::O_RDWR) {
        Ok(file) => (file, true),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO | Errno::EXDEV) => return Err(foreign()),
        // A write lease makes a non-blocking open fail: that says nothing of the owner.
        Err(Errno::EAGAIN) => return Ok(Some(CreateError::taken(topic, OwnerClaim::unknown()))),
        Err(Errno::EACCES | Errno::EPERM) => match directory.open_file(&name, OFlag::O_RDONLY) {
            Ok(file) => (file, false),
            Err(Errno::ENOENT) => return Ok(None),
            Err(_) => return Ok(Some(CreateError::taken(topic, OwnerClaim::unknown()))),
        },
        Err(errno) => return Err(io_error("open", errno)),
    };
    let stat = fstat(&file).map_err(|errno| io_error("examine", errno))?;
    if !is_regular(&stat) {
        return Err(foreign());
    }
    let mark = read_mark(&file).ok_or_else(foreign)?;
    if mark == Mark::Kept {
        return Err(CreateError::Kept { topic: topic.clone() });
    }
    let lock_error = |error| CreateError::io("probe the lock of", path())(error);
    if may_write && OWNER.try_write(&file).map_err(lock_error)? {
        fault::point(Step::TakeoverLocked);
        // Only now: its creator may have let the region go on purpose since the first look.
        if read_mark(&file) == Some(Mark::Kept) {
            return Err(CreateError::Kept { topic: topic.clone() });
        }
        if mark == Mark::Topic
            && let Err(error) = mark_orphaned(&file)
        {
            // Its sleepers look for themselves within a second.
            tracing::debug!("can not wake the subscribers of topic \"{topic}\": {error}");
        }
        return match directory.remove(topic, FileId::of(&stat)) {
            Ok(_) => {
                fault::point(Step::TakeoverRemoved);
                Ok(None)
            }
            // The directory is sticky and the dead owner was another user.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Some(CreateError::NotRemovable { topic: topic.clone(), uid: stat.st_uid }))
            }
            Err(error) => Err(CreateError::io("remove", path())(error)),
        };
    }
    let is_alive = OWNER.is_write_locked(&file).map_err(lock_error)?;
    Ok(Some(if is_alive {
        CreateError::taken(topic, owner_of(&file, &mark))
    } else {
        CreateError::NotRemovable { topic: topic.clone(), uid: stat.st_uid }
    }))
}

/// Whom a region names as its owner.
pub(crate) fn owner_of(file: impl AsFd, mark: &Mark) -> OwnerClaim {
    match mark {
        Mark::Raw { pid, program } => OwnerClaim { pid: Some(*pid), program: Some(program.clone()) },
        Mark::Kept => OwnerClaim::unknown(),
        Mark::Topic => {
            let Ok(stat) = fstat(&file) else { return OwnerClaim::unknown() };
            match Layout::check(&read_control(&file), stat.st_size.max(0) as u64) {
                Ok(layout) => OwnerClaim { pid: Some(layout.pid), program: Some(program_name(&layout.program)) },
                Err(_) => OwnerClaim::unknown(),
            }
        }
    }
}

/// The control page, or as much of it as there is.
pub(crate) fn read_control(file: impl AsFd) -> Vec<u8> {
    let mut control = vec![0; CONTROL_BYTES];
    let len = nix::sys::uio::pread(file, &mut control, 0).unwrap_or(0);
    control.truncate(len);
    control
}

/// Opens a second description of a file that is open already, name or not.
pub(crate) fn reopen(file: impl AsFd, access: OFlag) -> nix::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    nix::fcntl::open(path.as_str(), access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
}

/// Takes the owner lock on a description that from then on lives in the mapping alone.
fn map_locked(file: &OwnedFd, len: NonZeroUsize) -> io::Result<Mapping> {
    let _no_fork = fork::Guard::new();
    let locked = reopen(file, OFlag::O_RDWR)?;
    if !OWNER.try_write(&locked)? {
        return Err(io::Error::other("the lock of a file that nobody else knows is taken"));
    }
    Mapping::new(&locked, len, true)
}

/// Tells everybody who sleeps on a dead publisher's topic.
///
/// The mapping is never touched by this process, so a region that is cut short meanwhile gives an error. Where this user may not
/// write the region the sleepers are only woken; they see for themselves.
pub(crate) fn mark_orphaned(file: impl AsFd) -> io::Result<()> {
    let page = const { NonZeroUsize::new(CONTROL_BYTES).unwrap() };
    if let Ok(writable) = reopen(&file, OFlag::O_RDWR) {
        let mapping = Mapping::new(&writable, page, true)?;
        futex::set_bits_and_wake_all(&mapping.shared::<Consumers<Native>>(CONSUMERS_AT).wake, ORPHANED as u16)?;
    } else {
        let mapping = Mapping::new(&file, page, false)?;
        futex::wake_all(&mapping.shared::<Consumers<Native>>(CONSUMERS_AT).wake);
    }
    fault::point(Step::OrphanMarked);
    Ok(())
}

/// Tells everybody that a topic has ended whose publisher lives: see [`mark_orphaned`].
pub(crate) fn mark_closed(file: impl AsFd) -> io::Result<()> {
    set_flag(file, CLOSED)
}

/// Tells the publisher that its topic has no name any more: see [`mark_orphaned`].
pub(crate) fn mark_unlinked(file: impl AsFd) -> io::Result<()> {
    set_flag(file, UNLINKED)
}

fn set_flag(file: impl AsFd, flag: u32) -> io::Result<()> {
    let page = const { NonZeroUsize::new(CONTROL_BYTES).unwrap() };
    let writable = match reopen(&file, OFlag::O_RDWR) {
        Err(Errno::EACCES | Errno::EPERM) => acl::open_for_writing(&file)?,
        other => other?,
    };
    let mapping = Mapping::new(&writable, page, true)?;
    futex::set_bits_and_wake_all(&mapping.shared::<Consumers<Native>>(CONSUMERS_AT).wake, flag as u16)?;
    Ok(())
}

/// Whatever the mode or the umask says, the owner may read and write: it could change the mode anyway, and it (or its
/// successor, which takes the region over) must be able to lock and mark the file.
fn set_mode(file: &OwnedFd, mode: Option<u32>) -> io::Result<()> {
    let current = fstat(file)?.st_mode & 0o7777;
    let mode = mode.unwrap_or(current) | 0o600;
    if mode != current {
        fchmod(file, Mode::from_bits_truncate(mode))?;
    }
    Ok(())
}

fn reserve(file: &OwnedFd, size: u64) -> nix::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, size as i64) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

fn no_space(directory: &ShmDir, need: u64) -> CreateError {
    CreateError::NoSpace { need, have: free_bytes(directory).unwrap_or(0), path: directory.path().into() }
}

fn free_bytes(directory: &ShmDir) -> nix::Result<u64> {
    let stat = fstatvfs(directory)?;
    // A tmpfs without a limit says it has no blocks at all.
    Ok(if stat.blocks() == 0 { u64::MAX } else { stat.blocks_available() * stat.fragment_size() })
}

/// Refuses what cannot fit before anything is reserved: a tmpfs fills up while it finds out, and beyond the limit of a
/// memory cgroup `fallocate` means the out-of-memory killer instead of an error.
fn check_room(directory: &ShmDir, need: u64) -> Result<(), CreateError> {
    if free_bytes(directory).is_ok_and(|have| have < need) {
        return Err(no_space(directory, need));
    }
    match cgroup_room() {
        Some(have) if have < need => Err(CreateError::NoMemory { need, have }),
        _ => Ok(()),
    }
}

/// What the kernel gives up before it kills: caches of files, but no shared memory.
fn reclaimable_bytes(group: &std::path::Path) -> u64 {
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let value = |line: &str| match line.split_once(' ')? {
        ("active_file" | "inactive_file" | "slab_reclaimable", value) => value.parse::<u64>().ok(),
        _ => None,
    };
    stat.lines().filter_map(value).sum()
}

/// What the limits of this process's memory cgroups leave; `None` without limits (or without cgroup v2).
fn cgroup_room() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let root = std::path::Path::new("/sys/fs/cgroup");
    root.join(own)
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| {
            let used = number(group.join("memory.current"))?.saturating_sub(reclaimable_bytes(group));
            Some(number(group.join("memory.max"))?.saturating_sub(used))
        })
        .min()
}

/// Removes whatever a killed remover of this topic left behind.
pub(crate) fn tidy(directory: &ShmDir, topic: &TopicName) {
    // A directory that cannot be listed only means that a leftover stays until the daemon finds it.
    let _ = directory.finish_removals(Some(topic), ReapLock::Write);
}
