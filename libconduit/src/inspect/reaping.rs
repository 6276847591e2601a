//! What a reaper does to a region: internal, for the daemon and the command.

use std::io;
use std::time::{Duration, Instant};

use super::{Region, confirmed_dying};
use crate::error::OpenError;
use crate::ring::end::{mark_closed, mark_orphaned, mark_unlinked};
use crate::ring::header::{Layout, LayoutError};
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::{FileId, ShmDir};
use crate::shm::dying::Dying;
use crate::shm::reap_lock::{OBSTRUCTION_PATIENCE, ReapLock, try_reap_lock, try_remover_lock};
use crate::topic::TopicName;

const OBSTRUCTION_PAUSE: Duration = Duration::from_millis(5);

/// The owner lock, held by a reaper.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReapGuard {
    _locked: Descriptor,
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
    /// owner or another reaper holds it, or if read locks are in the way and not ignored.
    ///
    /// Any process that may read the region can hold read locks. A reaper that ignores them may
    /// meet another one, and both remove the name only of the inode that they verified.
    ///
    /// An owner that holds the lock and will never run again, as [`dying_owner`](Self::dying_owner)
    /// says, is as good as dead.
    fn try_reap_lock(&self, lock: ReapLock, ignores_readers: bool) -> io::Result<Option<ReapGuard>>;

    /// Takes the lock that keeps other reapers away, of a region whose owner holds the owner lock
    /// and is known never to run again. As [`try_reap_lock`](Self::try_reap_lock) otherwise.
    fn try_remover_lock(&self, lock: ReapLock, ignores_readers: bool) -> io::Result<Option<ReapGuard>>;

    /// Takes the owner lock as [`try_reap_lock`](Self::try_reap_lock) does, and sleeps for up to
    /// 100 ms while read locks are in the way; then it ignores them.
    fn reap_lock(&self, lock: ReapLock) -> io::Result<Option<ReapGuard>> {
        let deadline = Instant::now() + OBSTRUCTION_PATIENCE;
        loop {
            let ignores_readers = Instant::now() >= deadline;
            if let Some(guard) = self.try_reap_lock(lock, ignores_readers)? {
                return Ok(Some(guard));
            }
            if ignores_readers {
                return Ok(None);
            }
            std::thread::sleep(OBSTRUCTION_PAUSE);
        }
    }

    /// Why the owner will never run again, if it has not ended and the kernel confirms that it is
    /// the process that the region names. `None` where this process may not know: of another
    /// user's, or in another pid namespace.
    fn dying_owner(&self) -> Option<Dying>;

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

    fn try_reap_lock(&self, lock: ReapLock, ignores_readers: bool) -> io::Result<Option<ReapGuard>> {
        let locked = Descriptor::reopen(&self.file, lock.access())?;
        if try_reap_lock(&locked, lock)?.is_enough(ignores_readers) {
            return Ok(Some(ReapGuard { _locked: locked }));
        }
        drop(locked);
        if self.dying_owner().is_some() { self.try_remover_lock(lock, ignores_readers) } else { Ok(None) }
    }

    fn try_remover_lock(&self, lock: ReapLock, ignores_readers: bool) -> io::Result<Option<ReapGuard>> {
        let locked = Descriptor::reopen(&self.file, lock.access())?;
        let tried = try_remover_lock(&locked, lock)?;
        Ok(tried.is_enough(ignores_readers).then_some(ReapGuard { _locked: locked }))
    }

    fn dying_owner(&self) -> Option<Dying> {
        confirmed_dying(&self.claimed_owner(), self.id, self.is_raw())
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
