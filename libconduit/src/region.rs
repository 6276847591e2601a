//! Raw regions: named shared memory without a header.
#![allow(unsafe_code)]

use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::fstat;
use nix::unistd::getpid;

use crate::create::{CreateOptions, Created};
use crate::error::{CreateError, OpenError, UnlinkError, WaitError};
use crate::fault::{self, Step};
use crate::inspect::reaping::ReapRegion;
use crate::inspect::{Region, owner_of};
use crate::registry::Lease;
use crate::shm::dir::{FileId, ReapLock, ShmDir};
use crate::shm::map::Mapping;
use crate::shm::mark::Mark;
use crate::shm::open::{Access, OpenFileError, reopen};
use crate::{Domain, IntoTopicName, TopicName};

/// How often a wait polls its flag, which has no wake-up.
const FLAG_INTERVAL: Duration = Duration::from_millis(20);
/// How often a wait polls for the region if no inotify instance is left.
const BLIND_INTERVAL: Duration = Duration::from_millis(10);

/// Named shared memory: exactly the bytes asked for, page-aligned and zeroed, the same in every
/// process that opens it.
///
/// Dropping a region unmaps it and keeps its name and contents, until [`unlink`](Self::unlink) or a
/// reboot. If the process that *created* it dies without dropping it, the region is an orphan,
/// which `conduitd` removes and the next `create` takes over.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// use conduit::ShmRegion;
/// use std::sync::atomic::{AtomicI32, Ordering};
///
/// let region = ShmRegion::builder()
///     # .domain(&domain)
///     .create("counter", 4096)?;
/// // SAFETY: the region is large enough, zeroed, and only used as an AtomicI32 by everybody.
/// let counter = unsafe { &*region.data().cast::<AtomicI32>() };
/// counter.store(42, Ordering::Release);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShmRegion {
    mapping: Mapping,
    topic: TopicName,
    ownership: Option<Ownership>,
}

/// What only the creator of a region has.
struct Ownership {
    file: std::os::fd::OwnedFd,
    lease: Lease,
    pid: i32,
}

/// How to create, open or remove a raw region.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until a region is created or opened"]
pub struct RegionBuilder {
    options: CreateOptions,
}

impl RegionBuilder {
    /// Uses another domain than the environment's.
    pub fn domain(mut self, domain: &Domain) -> Self {
        self.options.domain = Some(domain.clone());
        self
    }

    /// Permission bits of the file. By default what the process's umask leaves of 0o666.
    /// The owner may always read and write.
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode = Some(mode);
        self
    }

    /// Numeric id of the group of the file.
    pub fn group(mut self, gid: u32) -> Self {
        self.options.group = Some(gid);
        self
    }

    /// How long `create` waits for a dying owner of the name before it fails; 250 ms by default.
    pub fn takeover_timeout(mut self, patience: Duration) -> Self {
        self.options.patience = patience;
        self
    }

    /// Creates a region of `size_bytes`.
    pub fn create(self, name: impl IntoTopicName, size_bytes: usize) -> Result<ShmRegion, CreateError> {
        let topic = name.into_topic_name()?;
        let Created { file: owned, lease, .. } =
            self.options.create(&topic, size_bytes as u64, Mark::raw(), &[], None)?;
        let ownership = Ownership { file: owned.file, lease, pid: getpid().as_raw() };
        Ok(ShmRegion { mapping: owned.mapping, topic, ownership: Some(ownership) })
    }

    /// Opens a region for reading and writing.
    pub fn open(self, name: impl IntoTopicName) -> Result<ShmRegion, OpenError> {
        let topic = name.into_topic_name()?;
        let directory = open_directory(self.options.domain)?;
        let region = Region::open_in(&directory, &topic)?;
        let path = directory.path_of(&topic);
        if !region.is_raw() {
            return Err(OpenError::Kind { path, expected: "a raw region but a topic" });
        }
        let file = match reopen(region.as_fd(), Access::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(OpenError::Permission { path });
            }
            Err(error) => return Err(OpenError::io("open", path)(error)),
        };
        let size = fstat(&file).map(|stat| stat.st_size).unwrap_or_default();
        let Some(len) = usize::try_from(size).ok().and_then(NonZeroUsize::new) else {
            return Err(OpenError::Kind { path, expected: "a region with contents" });
        };
        let mapping = Mapping::new(&file, len).map_err(OpenError::io("map", path))?;
        Ok(ShmRegion { mapping, topic, ownership: None })
    }

    /// Whether a region or topic of the name exists.
    pub fn exists(self, name: impl IntoTopicName) -> Result<bool, OpenError> {
        let topic = name.into_topic_name()?;
        let directory = open_directory(self.options.domain)?;
        match directory.id_of(&topic) {
            Ok(id) => Ok(id.is_some()),
            Err(error) => Err(OpenError::io("look for", directory.path_of(&topic))(error)),
        }
    }

    /// Sleeps until a region or topic of the name exists, or `keep_waiting` becomes false, or the
    /// timeout expires.
    ///
    /// Returns whether it exists.
    pub fn wait_until_exists(
        self,
        name: impl IntoTopicName,
        keep_waiting: &AtomicBool,
        timeout: Option<Duration>,
    ) -> Result<bool, WaitError> {
        self.wait_until_exists_while(name, || keep_waiting.load(Ordering::Acquire), timeout)
    }

    /// Sleeps until a region or topic of the name exists, or `keep_waiting`, called every 20 ms,
    /// returns false, or the timeout expires.
    ///
    /// Returns whether it exists.
    pub fn wait_until_exists_while(
        self,
        name: impl IntoTopicName,
        mut keep_waiting: impl FnMut() -> bool,
        timeout: Option<Duration>,
    ) -> Result<bool, WaitError> {
        let topic = name.into_topic_name()?;
        let domain = self.options.domain.unwrap_or_default();
        let failure = |source| WaitError::Io { path: domain.shm_dir().into(), source };
        let directory = ShmDir::open(&domain).map_err(failure)?;
        // Watch before checking: a region that appears in between is seen by one or the other.
        let watch = watch_directory(&directory);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if directory.id_of(&topic).map_err(failure)?.is_some() {
                return Ok(true);
            }
            if !keep_waiting() {
                return Ok(false);
            }
            let mut step = if watch.is_some() { FLAG_INTERVAL } else { BLIND_INTERVAL };
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                step = step.min(left);
            }
            match &watch {
                Some(watch) => wait_for_change(watch, step),
                None => std::thread::sleep(step),
            }
        }
    }

    /// Removes the name of a raw region even if it is in use; its memory stays until the last
    /// process has unmapped it.
    ///
    /// A topic's name is removed only if its publisher is dead.
    pub fn unlink(self, name: impl IntoTopicName) -> Result<(), UnlinkError> {
        let topic: TopicName = name.into_topic_name()?;
        let domain = self.options.domain.unwrap_or_default();
        let path = domain.shm_dir().join(topic.file_name());
        let failure = |source| UnlinkError::Io { path: path.clone(), source };
        let directory = ShmDir::open(&domain).map_err(failure)?;
        // Finishes what a removal that was killed midway has left.
        directory.tidy(&topic);
        let not_found = || UnlinkError::NotFound { topic: topic.clone(), path: domain.shm_dir().into() };
        let file = match directory.open_file(&topic.file_name(), Access::Read) {
            Ok(file) => file,
            Err(OpenFileError::NotFound) => return Err(not_found()),
            Err(error) => return Err(failure(error.into())),
        };
        let Some(mark) = Mark::read(&file) else { return Err(UnlinkError::Foreign { path }) };
        let id = FileId::of(&fstat(&file).map_err(|errno| failure(errno.into()))?);
        let locked;
        if mark == Mark::Topic {
            locked = reopen(&file, Access::ReadWrite).map_err(failure)?;
            if !crate::shm::dir::try_reap_lock(&locked, ReapLock::Write).map_err(failure)? {
                return Err(UnlinkError::Live { topic, owner: owner_of(&file, &mark) });
            }
        }
        fault::point(Step::UnlinkBegun);
        match directory.remove(&topic, id).map_err(failure)? {
            crate::shm::dir::Removal::Removed => Ok(()),
            _ => Err(not_found()),
        }
    }
}

fn open_directory(domain: Option<Domain>) -> Result<ShmDir, OpenError> {
    let domain = domain.unwrap_or_default();
    ShmDir::open(&domain).map_err(OpenError::io("open", domain.shm_dir().into()))
}

/// `None` if this user has no inotify instance left.
fn watch_directory(directory: &ShmDir) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    inotify.add_watch(directory.path(), AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO).ok()?;
    Some(inotify)
}

fn wait_for_change(watch: &Inotify, timeout: Duration) {
    let timeout = PollTimeout::try_from(timeout.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
    // Whatever the outcome and the events, the caller checks again.
    let _ = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout);
    let _ = watch.read_events();
}

impl ShmRegion {
    /// Configures how to create, open or remove a region.
    pub fn builder() -> RegionBuilder {
        RegionBuilder { options: CreateOptions::default() }
    }

    /// Creates a region of exactly `size_bytes`, zeroed. Fails if a live process owns the name, or
    /// if it is that of a kept region.
    pub fn create(name: impl IntoTopicName, size_bytes: usize) -> Result<Self, CreateError> {
        Self::builder().create(name, size_bytes)
    }

    /// Opens a region for reading and writing.
    pub fn open(name: impl IntoTopicName) -> Result<Self, OpenError> {
        Self::builder().open(name)
    }

    /// Whether a region or topic of the name exists.
    pub fn exists(name: impl IntoTopicName) -> Result<bool, OpenError> {
        Self::builder().exists(name)
    }

    /// Sleeps until a region or topic of the name exists, or `keep_waiting` becomes false; returns
    /// whether it exists.
    ///
    /// Returns at once when the region appears, and within 20 ms of the flag's change.
    pub fn wait_until_exists(name: impl IntoTopicName, keep_waiting: &AtomicBool) -> Result<bool, WaitError> {
        Self::builder().wait_until_exists(name, keep_waiting, None)
    }

    /// Sleeps until a region or topic of the name exists, or the timeout expires; returns whether
    /// it exists.
    pub fn wait_until_exists_for(name: impl IntoTopicName, timeout: Duration) -> Result<bool, WaitError> {
        Self::builder().wait_until_exists(name, &AtomicBool::new(true), Some(timeout))
    }

    /// Removes the name of a raw region even if it is in use; its memory stays until the last
    /// process has unmapped it.
    pub fn unlink(name: impl IntoTopicName) -> Result<(), UnlinkError> {
        Self::builder().unlink(name)
    }

    /// The region's name.
    pub fn name(&self) -> &TopicName {
        &self.topic
    }

    /// The first byte of the region, aligned to a page and valid for [`size`](Self::size) bytes
    /// while `self` lives.
    ///
    /// Other processes read and write the same memory at any time: data shared without a lock must
    /// be atomic.
    pub fn data(&self) -> *mut u8 {
        self.mapping.start().as_ptr()
    }

    /// Size of the region in bytes, as asked for at its creation.
    pub fn size(&self) -> usize {
        self.mapping.len()
    }
}

impl Drop for ShmRegion {
    fn drop(&mut self) {
        if let Some(ownership) = &mut self.ownership
            && ownership.pid == getpid().as_raw()
        {
            fault::point(Step::KeepBegun);
            // If the mark cannot be changed, the region becomes an orphan: tell its creator.
            if let Err(error) = Mark::Kept.write(&ownership.file) {
                tracing::warn!("region \"{}\" will be removed: it cannot be marked as kept: {error}", self.topic);
            }
            fault::point(Step::KeepMarked);
            ownership.lease.release();
        }
    }
}

impl fmt::Debug for ShmRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmRegion").field("name", &self.topic).field("size", &self.size()).finish()
    }
}
