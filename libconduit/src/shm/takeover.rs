//! Taking over a name whose owner is dead: the step *Take over* of the [protocol](super).

use std::io;
use std::time::{Duration, Instant};

use nix::sys::stat::{FileStat, fstat};

use super::descriptor::Descriptor;
use super::dir::{FileId, ShmDir};
use super::lock::OWNER;
use super::mark::Mark;
use super::open::{Access, OpenFileError, is_regular};
use super::reap_lock::{OBSTRUCTION_PATIENCE, ReapLock, try_reap_lock, try_remover_lock};
use crate::TopicName;
use crate::fault::{self, Step};

const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// What a takeover needs from layers that know more than files.
pub(crate) trait TakeoverHooks {
    /// Asks a process with more rights to reap the name.
    fn ask_reaper(&self);
    /// What the kernel says of the process that a region names as its owner, and that may hold the
    /// owner lock.
    fn owner_life(&self, file: &Descriptor, id: FileId, mark: &Mark) -> OwnerLife;
    /// Marks a dead owner's topic as orphaned, and wakes its subscribers. The caller holds the
    /// remover's lock.
    fn mark_orphaned(&self, topic: &Descriptor);
}

/// Whether an owner that holds its lock may ever run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerLife {
    MayRun,
    /// Not, if it is the process that the region names.
    SeemsDying,
    IsDying,
}

/// Why a name is not free.
#[derive(Debug)]
pub(crate) enum TakeoverError {
    /// Its owner is alive, or its state cannot be determined. With the file, if that could be
    /// opened.
    Owned(Option<(Descriptor, Mark)>),
    /// Its owner is dead, but this process may not remove the file of user `uid`.
    NotRemovable { uid: u32 },
    /// It is a raw region that was closed cleanly.
    Kept,
    /// Its file is not Conduit's.
    Foreign,
    /// A system call failed.
    Io { doing: &'static str, source: io::Error },
}

impl TakeoverError {
    fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Whether the name may become free soon.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Owned(_) | Self::NotRemovable { .. })
    }
}

/// Waits until no living process owns the name, for `patience` at most, and removes the file of a
/// dead owner.
pub(super) fn free_name(
    directory: &ShmDir,
    topic: &TopicName,
    patience: Duration,
    hooks: &dyn TakeoverHooks,
) -> Result<(), TakeoverError> {
    let started = Instant::now();
    // A patience beyond the range of the clock never ends.
    let deadline = started.checked_add(patience);
    let mut pause = FIRST_PAUSE;
    let mut has_asked = false;
    loop {
        let is_last = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let mut attempt = Attempt {
            directory,
            topic,
            hooks,
            ignores_readers: is_last || started.elapsed() >= OBSTRUCTION_PATIENCE,
            needs_reaper: false,
        };
        let obstacle = match attempt.free_name() {
            Err(obstacle) if obstacle.is_transient() => obstacle,
            other => return other,
        };
        if attempt.needs_reaper && !has_asked {
            hooks.ask_reaper();
            has_asked = true;
        } else if is_last {
            return Err(obstacle);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One attempt to free a name.
struct Attempt<'a> {
    directory: &'a ShmDir,
    topic: &'a TopicName,
    hooks: &'a dyn TakeoverHooks,
    /// Whether read locks, which any reader may hold, are in nobody's way any more. Without a lock
    /// the name is still removed by its inode only.
    ignores_readers: bool,
    /// Set if a process with more rights may be able to free the name.
    needs_reaper: bool,
}

impl Attempt<'_> {
    fn free_name(&mut self) -> Result<(), TakeoverError> {
        let Some((file, access)) = open(self.directory, self.topic)? else { return Ok(()) };
        let stat = fstat(&file).map_err(|errno| TakeoverError::io("examine")(errno.into()))?;
        if !is_regular(&stat) {
            return Err(TakeoverError::Foreign);
        }
        let mark = Mark::read(&file).ok_or(TakeoverError::Foreign)?;
        if mark == Mark::Kept {
            return Err(TakeoverError::Kept);
        }
        if self.may_remove(&file, access, &stat, &mark).map_err(TakeoverError::io("probe the lock of"))? {
            fault::point(Step::TakeoverLocked);
            return self.remove_orphan(&file, &stat, &mark);
        }
        if OWNER.is_write_locked(&file).map_err(TakeoverError::io("probe the lock of"))? || access == Access::ReadWrite
        {
            Err(TakeoverError::Owned(Some((file, mark))))
        } else {
            self.needs_reaper = true;
            Err(TakeoverError::NotRemovable { uid: stat.st_uid })
        }
    }

    /// Takes the locks of a remover, if the owner is dead or will never run again.
    fn may_remove(&mut self, file: &Descriptor, access: Access, stat: &FileStat, mark: &Mark) -> io::Result<bool> {
        if access == Access::ReadWrite && try_reap_lock(file, ReapLock::Write)?.is_enough(self.ignores_readers) {
            return Ok(true);
        }
        if !OWNER.is_write_locked(file)? {
            return Ok(false);
        }
        match self.hooks.owner_life(file, FileId::of(stat), mark) {
            OwnerLife::MayRun => Ok(false),
            OwnerLife::IsDying if access == Access::ReadWrite => {
                Ok(try_remover_lock(file, ReapLock::Write)?.is_enough(self.ignores_readers))
            }
            OwnerLife::IsDying | OwnerLife::SeemsDying => {
                self.needs_reaper = true;
                Ok(false)
            }
        }
    }

    /// Removes the file of a dead owner. The remover's lock is held.
    fn remove_orphan(&mut self, file: &Descriptor, stat: &FileStat, mark: &Mark) -> Result<(), TakeoverError> {
        // Checked again under the lock: its creator may have closed the region cleanly in the
        // meantime.
        if Mark::read(file) == Some(Mark::Kept) {
            return Err(TakeoverError::Kept);
        }
        if *mark == Mark::Topic {
            self.hooks.mark_orphaned(file);
        }
        match self.directory.remove(self.topic, FileId::of(stat)) {
            Ok(_) => {
                fault::point(Step::TakeoverRemoved);
                Ok(())
            }
            // The directory is sticky and the dead owner was another user.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.needs_reaper = true;
                Err(TakeoverError::NotRemovable { uid: stat.st_uid })
            }
            Err(source) => Err(TakeoverError::Io { doing: "remove", source }),
        }
    }
}

/// Opens the file of a name, for writing if this user may. `None`: the name is free.
fn open(directory: &ShmDir, topic: &TopicName) -> Result<Option<(Descriptor, Access)>, TakeoverError> {
    match directory.open_file_as_permitted(&topic.file_name()) {
        Ok(opened) => Ok(Some(opened)),
        Err(OpenFileError::NotFound) => Ok(None),
        Err(OpenFileError::NotRegular) => Err(TakeoverError::Foreign),
        // Neither says anything about the owner.
        Err(OpenFileError::Leased | OpenFileError::NoPermission) => Err(TakeoverError::Owned(None)),
        Err(OpenFileError::Io(source)) => Err(TakeoverError::Io { doing: "open", source }),
    }
}
