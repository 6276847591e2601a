//! Owns the directory of regions: its inotify instance, the names that could not be inspected, the
//! unfinished removals.
//!
//! The directory is the source of truth. The daemon has no file of its own: it reads the names, and
//! the locks behind them, so a restarted daemon knows what the previous one knew.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, ReapLock, ShmDir};
use conduit::registry::Process;
use conduit::{OpenError, TopicName};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::registry::{Appearance, Fate};
use crate::tasks;

/// How long a remover may take before its private name counts as left behind.
const REMOVAL_PATIENCE: Duration = Duration::from_millis(1500);

/// The kernel's record of changes of the directory.
///
/// Kept by the service manager it continues to record while no daemon runs: the next one reads
/// exactly what it missed.
pub(crate) struct DirectoryWatch {
    inotify: OwnedFd,
    is_resumed: bool,
}

/// A change of a name.
pub(crate) struct NameChange {
    /// `None`: not a name that Conduit uses.
    pub(crate) entry: Option<DirEntry>,
    pub(crate) how: ReadFlags,
}

impl DirectoryWatch {
    pub(crate) fn new(directory: &ShmDir) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory.path(), changes)?;
        Ok(Self { inotify, is_resumed: false })
    }

    /// Continues the watch of the previous daemon.
    pub(crate) fn resume(inotify: OwnedFd) -> Self {
        Self { inotify, is_resumed: true }
    }

    /// All changes since the last call; `None` if the kernel dropped some.
    pub(crate) fn take(&self) -> Option<Vec<NameChange>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        let mut has_overflowed = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    has_overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    all.push(NameChange { entry: name.and_then(DirEntry::parse), how: event.events() });
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        (!has_overflowed).then_some(all)
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What inspecting a name found.
pub(crate) enum Inspected {
    Region(Arc<Region>),
    /// The name is gone.
    Gone,
    /// A name that is not a region's, or a region that could not be opened.
    Unusable,
}

/// The directory of regions.
pub(crate) struct Directory {
    pub(crate) shm: Arc<ShmDir>,
    pub(crate) lock: ReapLock,
    pub(crate) watch: DirectoryWatch,
    /// Names that could not be inspected, perhaps for want of descriptors: inspected again later.
    pub(crate) uninspected: RefCell<BTreeSet<TopicName>>,
    /// A scan for unfinished removals is scheduled.
    is_scan_scheduled: Cell<bool>,
}

impl Directory {
    pub(crate) fn new(shm: Arc<ShmDir>, watch: DirectoryWatch, lock: ReapLock) -> Rc<Self> {
        let (uninspected, is_scan_scheduled) = (RefCell::default(), Cell::default());
        Rc::new(Self { shm, lock, watch, uninspected, is_scan_scheduled })
    }

    /// The changes while no daemon ran, as far as they are known.
    pub(crate) fn missed_changes(&self) -> Vec<NameChange> {
        if self.watch.is_resumed { self.watch.take().unwrap_or_default() } else { Vec::new() }
    }

    /// The topics that have names now.
    pub(crate) fn topics(&self) -> io::Result<Vec<TopicName>> {
        let mut topics = Vec::new();
        for entry in self.shm.entries()? {
            match entry {
                DirEntry::Region(topic) => topics.push(topic),
                DirEntry::Removal { .. } => {}
                DirEntry::Foreign(name) => tracing::debug!("{name} is not the name of a region"),
            }
        }
        Ok(topics)
    }

    /// Opens the region of a topic. A name that could not be opened is inspected again later.
    pub(crate) fn inspect(&self, topic: &TopicName) -> Inspected {
        match Region::open_even_damaged(&self.shm, topic) {
            Ok(region) => {
                if let Err(reason) = region.is_intact() {
                    let uid = region.uid();
                    tracing::warn!(
                        conduit.uid = uid,
                        "topic \"{topic}\" is damaged: {reason}; it is removed when its owner dies"
                    );
                }
                Inspected::Region(Arc::new(region))
            }
            Err(OpenError::NotFound { .. }) => Inspected::Gone,
            Err(error @ OpenError::Io { .. }) => {
                tracing::warn!("{error}; the daemon will try again");
                self.uninspected.borrow_mut().insert(topic.clone());
                Inspected::Unusable
            }
            Err(error) => {
                tracing::warn!("{error}; the file is ignored");
                Inspected::Unusable
            }
        }
    }

    /// Finishes removals whose removers were killed halfway. One scan serves all that begin before
    /// it runs.
    pub(crate) fn finish_removals_later(self: &Rc<Self>) {
        if self.is_scan_scheduled.replace(true) {
            return;
        }
        let directory = Rc::clone(self);
        tasks::spawn("removals", async move {
            tokio::time::sleep(REMOVAL_PATIENCE).await;
            directory.is_scan_scheduled.set(false);
            let (shm, lock) = (Arc::clone(&directory.shm), directory.lock);
            tasks::spawn_blocking("removals", move || {
                if let Err(error) = shm.finish_removals(None, lock) {
                    tracing::warn!("cannot read {}: {error}", shm.path().display());
                }
            });
        });
    }
}

/// What the registry must know of a new region.
pub(crate) fn appearance_of(region: &Region) -> Appearance {
    let owner = region.claimed_owner();
    let claimed = owner.pid.map(|pid| Process::new(pid, region.uid(), owner.program.unwrap_or_default()));
    Appearance { file: region.id(), uid: region.uid(), is_kept: region.is_kept(), claimed }
}

/// The state of a region whose name has vanished.
pub(crate) fn fate_of(region: &Region) -> Fate {
    let counters = region.counters();
    if region.is_kept() || counters.as_ref().is_some_and(|counters| counters.closed) {
        Fate::Closed
    } else if counters.is_none_or(|counters| !counters.orphaned) && region.owner_lives().unwrap_or(true) {
        if region.is_linked() { Fate::Moved } else { Fate::Alive }
    } else {
        Fate::Dead
    }
}
