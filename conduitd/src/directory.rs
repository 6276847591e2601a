//! Owns the directory of regions: its inotify instance, the names that could not be inspected, the
//! unfinished removals.
//!
//! The directory is the source of truth. The daemon has no file of its own: it reads the names, and
//! the locks behind them, so a restarted daemon knows what the previous one knew.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, ReapLock, ShmDir};
use conduit::internal::shm::guard::is_like_a_guard;
use conduit::registry::Process;
use conduit::{OpenError, TopicName};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::{Errno, ioctl_fionread};
use tokio::sync::{Notify, mpsc};

use crate::registry::{Appearance, Fate};
use crate::tasks;

/// How long a remover may take before its private name counts as left behind.
const REMOVAL_PATIENCE: Duration = Duration::from_millis(1500);
/// The fixed part of an event of inotify(7).
const EVENT_BYTES: usize = 16;
/// Names that could not be inspected and are tried again; more are counted only.
const MAX_UNINSPECTED: usize = 1024;
/// Names per batch of a reading of the directory.
const BATCH_NAMES: usize = 32;

/// The kernel's record of changes of the directory.
///
/// Kept by the service manager it continues to record while no daemon runs: the next one reads
/// exactly what it missed.
pub(crate) struct DirectoryWatch {
    inotify: OwnedFd,
    is_resumed: bool,
    /// A file of a daemon was removed, perhaps that of this one.
    pub(crate) guard_removed: Notify,
}

/// The changes of a name.
pub(crate) struct NameChange {
    /// `None`: not a name that Conduit uses.
    pub(crate) entry: Option<DirEntry>,
    /// The first change, which tells whether the name existed before.
    pub(crate) first: ReadFlags,
    /// All of them.
    pub(crate) how: ReadFlags,
}

impl DirectoryWatch {
    pub(crate) fn new(directory: &ShmDir) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory.path(), changes)?;
        Ok(Self { inotify, is_resumed: false, guard_removed: Notify::new() })
    }

    /// Continues the watch of the previous daemon.
    pub(crate) fn resume(inotify: OwnedFd) -> Self {
        Self { inotify, is_resumed: true, guard_removed: Notify::new() }
    }

    /// Hands on the changes that the kernel has queued, and not those that follow meanwhile, those
    /// of a name at once: a name may change tens of thousands of times a second. Returns whether
    /// the kernel has dropped some.
    pub(crate) fn drain(&self, take: impl FnMut(NameChange)) -> bool {
        let mut left = ioctl_fionread(&self.inotify).unwrap_or(0);
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut has_overflowed = false;
        let mut names: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut changes: Vec<NameChange> = Vec::new();
        while left > 0 || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => {
                    let (how, name) = (event.events(), event.file_name());
                    // The name is padded to a multiple of the fixed part.
                    let name_bytes = name.map_or(0, |name| name.to_bytes_with_nul().len());
                    left = left.saturating_sub((EVENT_BYTES + name_bytes.next_multiple_of(EVENT_BYTES)) as u64);
                    has_overflowed |= how.contains(ReadFlags::QUEUE_OVERFLOW);
                    let Some(name) = name else { continue };
                    if how.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM)
                        && name.to_str().is_ok_and(is_like_a_guard)
                    {
                        self.guard_removed.notify_one();
                    }
                    if let Some(&known) = names.get(name.to_bytes()) {
                        changes[known].how |= how;
                        continue;
                    }
                    names.insert(name.to_bytes().to_vec(), changes.len());
                    changes.push(NameChange { entry: name.to_str().ok().and_then(DirEntry::parse), first: how, how });
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        changes.into_iter().for_each(take);
        has_overflowed
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What inspecting a name found.
pub(crate) enum Inspected {
    Region(Box<Region>),
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
    /// Names that could not be inspected, perhaps for want of descriptors, and how often: inspected
    /// again later.
    pub(crate) uninspected: RefCell<BTreeMap<TopicName, u64>>,
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
        let mut changes = Vec::new();
        // If some were dropped, reading the directory finds what has come of them.
        if self.watch.is_resumed && self.watch.drain(|change| changes.push(change)) {
            changes.clear();
        }
        changes
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
    /// `may_log`: whether its user may cause a line of the log.
    pub(crate) fn inspect(&self, topic: &TopicName, may_log: impl Fn() -> bool) -> Inspected {
        let opened = Region::open_even_damaged(&self.shm, topic);
        if !matches!(opened, Err(OpenError::Io { .. })) {
            self.uninspected.borrow_mut().remove(topic);
        }
        match opened {
            Ok(region) => {
                if let Err(reason) = region.is_intact()
                    && may_log()
                {
                    let uid = region.uid();
                    tracing::warn!(
                        conduit.uid = uid,
                        "topic \"{topic}\" is damaged: {reason}; it is removed when its owner dies"
                    );
                }
                Inspected::Region(Box::new(region))
            }
            Err(OpenError::NotFound { .. }) => Inspected::Gone,
            Err(error @ OpenError::Io { .. }) => {
                self.inspect_later(topic, &error);
                Inspected::Unusable
            }
            Err(error) => {
                if may_log() {
                    tracing::warn!("{error}; the file is ignored");
                }
                Inspected::Unusable
            }
        }
    }

    /// Has a name inspected again later. Logs the 1st, 2nd, 4th, ... failure.
    pub(crate) fn inspect_later(&self, topic: &TopicName, error: &dyn std::fmt::Display) {
        let mut uninspected = self.uninspected.borrow_mut();
        if uninspected.len() < MAX_UNINSPECTED || uninspected.contains_key(topic) {
            let failures = uninspected.entry(topic.clone()).or_default();
            *failures += 1;
            if failures.is_power_of_two() {
                tracing::warn!(failures, "{error}; the daemon will try again");
            }
        }
    }

    /// Reads the names of all topics, a batch at a time, on a thread of its own: there may be any
    /// number.
    pub(crate) fn read_names(&self) -> mpsc::Receiver<Vec<TopicName>> {
        let (sender, batches) = mpsc::channel(2);
        let shm = Arc::clone(&self.shm);
        tasks::spawn_blocking("names", move || {
            let mut batch = Vec::new();
            let read = shm.visit(|entry| {
                if let DirEntry::Region(topic) = entry {
                    batch.push(topic);
                }
                batch.len() < BATCH_NAMES || sender.blocking_send(std::mem::take(&mut batch)).is_ok()
            });
            if let Err(error) = read {
                tracing::error!("cannot read {}: {error}", shm.path().display());
            }
            let _ = sender.blocking_send(batch);
        });
        batches
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
                if let Err(error) = shm.finish_removals(lock) {
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
