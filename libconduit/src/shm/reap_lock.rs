//! The locks of those who remove a region's name: the owner's, which is free if it is dead, and one
//! of their own.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::lock::{LockByte, OWNER, REMOVER};
use super::open::Access;

/// Which lock a remover takes to prove that the owner is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReapLock {
    /// The write lock: excludes every other process. Needs write access to the region; hostile
    /// readers can delay it.
    Write,
    /// The read lock: readers cannot prevent it, owners and takers are excluded. For the one system
    /// daemon of a directory.
    Read,
}

impl ReapLock {
    /// How the region has to be opened for it.
    pub(crate) fn access(self) -> Access {
        match self {
            Self::Write => Access::ReadWrite,
            Self::Read => Access::Read,
        }
    }
}

/// What came of taking the locks of a remover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReapTry {
    Locked,
    /// The owner, or another remover, holds a write lock.
    Held,
    /// Read locks alone are in the way: those of a daemon that may not write the file, for some
    /// milliseconds, or of a process that may only read it, for as long as that likes.
    Obstructed,
}

impl ReapTry {
    /// Whether to continue. Removers that ignore read locks may meet, but each removes the name
    /// only of the inode that it verified.
    pub(crate) fn is_enough(self, ignores_readers: bool) -> bool {
        self == Self::Locked || (ignores_readers && self == Self::Obstructed)
    }
}

/// For how long read locks keep a remover waiting.
pub(crate) const OBSTRUCTION_PATIENCE: Duration = Duration::from_millis(100);

/// Takes the owner lock and the remover's, as a remover.
pub(crate) fn try_reap_lock(file: impl AsFd, lock: ReapLock) -> io::Result<ReapTry> {
    match try_lock(OWNER, &file, lock)? {
        ReapTry::Locked => try_lock(REMOVER, file, lock),
        // Not the remover's alone: it would keep the others away.
        other => Ok(other),
    }
}

/// Takes the remover's lock of a region whose owner still holds its own and will never run again.
pub(crate) fn try_remover_lock(file: impl AsFd, lock: ReapLock) -> io::Result<ReapTry> {
    try_lock(REMOVER, file, lock)
}

fn try_lock(byte: LockByte, file: impl AsFd, lock: ReapLock) -> io::Result<ReapTry> {
    let is_locked = match lock {
        ReapLock::Write => byte.try_write(&file)?,
        ReapLock::Read => byte.try_read(&file)?,
    };
    Ok(match is_locked {
        true => ReapTry::Locked,
        false if byte.is_write_locked(file)? => ReapTry::Held,
        false => ReapTry::Obstructed,
    })
}
