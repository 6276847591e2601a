//! What a reaper does to a region: internal, for the daemon and the command.

use std::io;
use std::os::fd::OwnedFd;

use super::Region;
use crate::error::OpenError;
use crate::ring::end::{mark_closed, mark_orphaned, mark_unlinked};
use crate::ring::header::{Layout, LayoutError};
use crate::shm::dir::{FileId, ReapLock, ShmDir, try_reap_lock};
use crate::shm::open::reopen;
use crate::topic::TopicName;

/// The owner lock, held by a reaper.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReapGuard {
    _locked: OwnedFd,
}

/// What the daemon and the command do with a [`Region`]. Internal: it changes with every release.
pub trait ReapRegion: Sized {
    /// Opens the region of a topic in an open directory: see [`Region::open`].
    fn open_in(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError>;

    /// Opens the region of a topic even if its header is damaged, to find out whether its owner
    /// lives, and to remove it if not. Fails for files that Conduit did not create.
    fn open_even_damaged(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError>;

    /// The identity of the file, whatever its name.
    fn id(&self) -> FileId;

    /// Takes the owner lock as a reaper, on an open file description of its own; `None` if the
    /// owner or another reaper holds it.
    fn try_reap_lock(&self, lock: ReapLock) -> io::Result<Option<ReapGuard>>;

    /// Marks the topic as orphaned and wakes its sleepers.
    ///
    /// Where this user may not write the region the sleepers are only woken, and check for
    /// themselves.
    fn mark_orphaned(&self) -> io::Result<()>;

    /// Marks the topic as closed although its publisher lives, and wakes its
    /// sleepers.
    ///
    /// Where this user may not write the region it must be allowed to change others' files
    /// (CAP_FOWNER).
    fn mark_closed(&self) -> io::Result<()>;

    /// Reports to the publisher that its topic has lost its name. Subscribers continue.
    ///
    /// Where this user may not write the region it must be allowed to change others' files
    /// (CAP_FOWNER).
    fn mark_unlinked(&self) -> io::Result<()>;

    /// Whether the header is still valid, as it was on opening.
    fn is_intact(&self) -> Result<(), LayoutError>;
}

impl ReapRegion for Region {
    fn open_in(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError> {
        Self::open_intact(directory, topic)
    }

    fn open_even_damaged(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError> {
        Ok(Self::open_checked(directory, topic)?.0)
    }

    fn id(&self) -> FileId {
        self.id
    }

    fn try_reap_lock(&self, lock: ReapLock) -> io::Result<Option<ReapGuard>> {
        let locked = reopen(&self.file, lock.access())?;
        Ok(try_reap_lock(&locked, lock)?.then_some(ReapGuard { _locked: locked }))
    }

    fn mark_orphaned(&self) -> io::Result<()> {
        if self.is_raw() { Ok(()) } else { mark_orphaned(&self.file) }
    }

    fn mark_closed(&self) -> io::Result<()> {
        mark_closed(&self.file)
    }

    fn mark_unlinked(&self) -> io::Result<()> {
        mark_unlinked(&self.file)
    }

    fn is_intact(&self) -> Result<(), LayoutError> {
        if self.is_raw() { Ok(()) } else { Layout::read(&self.file).map(drop) }
    }
}
