//! Taking over a name whose owner is dead: the step *Take over* of the [protocol](super).

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::stat::{FileStat, fstat};

use super::dir::{FileId, ShmDir};
use super::lock::OWNER;
use super::mark::Mark;
use super::open::{Access, OpenFileError, is_regular};
use crate::TopicName;
use crate::fault::{self, Step};

const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// What a takeover needs from layers that know more than files.
pub(crate) trait TakeoverHooks {
    /// Asks a process with more rights to reap the name.
    fn ask_reaper(&self);
    /// Marks a dead owner's topic as orphaned, and wakes its subscribers. The caller holds the
    /// owner lock.
    fn mark_orphaned(&self, topic: &OwnedFd);
}

/// Why a name is not free.
#[derive(Debug)]
pub(crate) enum TakeoverError {
    /// Its owner is alive, or its state cannot be determined. With the file, if that could be
    /// opened.
    Owned(Option<(OwnedFd, Mark)>),
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
    // A patience beyond the range of the clock never ends.
    let deadline = Instant::now().checked_add(patience);
    let mut pause = FIRST_PAUSE;
    let mut has_asked = false;
    loop {
        let obstacle = match try_free_name(directory, topic, hooks) {
            Err(obstacle) if obstacle.is_transient() => obstacle,
            other => return other,
        };
        if !has_asked && matches!(obstacle, TakeoverError::NotRemovable { .. }) {
            hooks.ask_reaper();
            has_asked = true;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(obstacle);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn try_free_name(directory: &ShmDir, topic: &TopicName, hooks: &dyn TakeoverHooks) -> Result<(), TakeoverError> {
    let Some((file, access)) = open(directory, topic)? else { return Ok(()) };
    let stat = fstat(&file).map_err(|errno| TakeoverError::io("examine")(errno.into()))?;
    if !is_regular(&stat) {
        return Err(TakeoverError::Foreign);
    }
    let mark = Mark::read(&file).ok_or(TakeoverError::Foreign)?;
    if mark == Mark::Kept {
        return Err(TakeoverError::Kept);
    }
    let probe = TakeoverError::io("probe the lock of");
    if access == Access::ReadWrite && OWNER.try_write(&file).map_err(&probe)? {
        fault::point(Step::TakeoverLocked);
        return remove_orphan(directory, topic, &file, &stat, &mark, hooks);
    }
    if OWNER.is_write_locked(&file).map_err(&probe)? {
        Err(TakeoverError::Owned(Some((file, mark))))
    } else {
        Err(TakeoverError::NotRemovable { uid: stat.st_uid })
    }
}

/// Opens the file of a name, for writing if this user may. `None`: the name is free.
fn open(directory: &ShmDir, topic: &TopicName) -> Result<Option<(OwnedFd, Access)>, TakeoverError> {
    match directory.open_file_as_permitted(&topic.file_name()) {
        Ok(opened) => Ok(Some(opened)),
        Err(OpenFileError::NotFound) => Ok(None),
        Err(OpenFileError::NotRegular) => Err(TakeoverError::Foreign),
        // Neither says anything about the owner.
        Err(OpenFileError::Leased | OpenFileError::NoPermission) => Err(TakeoverError::Owned(None)),
        Err(OpenFileError::Io(source)) => Err(TakeoverError::Io { doing: "open", source }),
    }
}

/// Removes the file of a dead owner, whose lock is held.
fn remove_orphan(
    directory: &ShmDir,
    topic: &TopicName,
    file: &OwnedFd,
    stat: &FileStat,
    mark: &Mark,
    hooks: &dyn TakeoverHooks,
) -> Result<(), TakeoverError> {
    // Checked again under the lock: its creator may have closed the region cleanly in the meantime.
    if Mark::read(file) == Some(Mark::Kept) {
        return Err(TakeoverError::Kept);
    }
    if *mark == Mark::Topic {
        hooks.mark_orphaned(file);
    }
    match directory.remove(topic, FileId::of(stat)) {
        Ok(_) => {
            fault::point(Step::TakeoverRemoved);
            Ok(())
        }
        // The directory is sticky and the dead owner was another user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(TakeoverError::NotRemovable { uid: stat.st_uid })
        }
        Err(source) => Err(TakeoverError::Io { doing: "remove", source }),
    }
}
