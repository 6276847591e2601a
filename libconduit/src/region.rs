//! Raw regions: named shared memory without a header.

mod waiting;

use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::stat::fstat;

use crate::create::{CreateOptions, Created};
use crate::error::{CreateError, OpenError, UnlinkError};
use crate::fault::{self, Step};
use crate::inspect::reaping::ReapRegion;
use crate::inspect::{Region, seems_dying};
use crate::registry::Lease;
use crate::ring::header::LayoutError;
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::{ReapLock, Removal, ShmDir};
use crate::shm::map::Mapping;
use crate::shm::mark::Mark;
use crate::shm::new_file::MAP;
use crate::shm::open::Access;
use crate::shm::region_file::RegionFile;
use crate::shm::room;
use crate::{Domain, IntoTopicName, TopicName};

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
/// // SAFETY: the region is large enough, zeroed, and every process uses it as an AtomicI32 only.
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
    file: RegionFile,
    lease: Lease,
    pid: u32,
}

/// How to create a raw region.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until its region is created"]
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

    /// Creates a region of exactly `size_bytes`, zeroed.
    ///
    /// # Errors
    ///
    /// If a live process owns the name, if it is that of a kept region, if there is too little
    /// memory, or if the registry's policy does not allow it.
    pub fn create(self, name: impl IntoTopicName, size_bytes: usize) -> Result<ShmRegion, CreateError> {
        let topic = name.into_topic_name()?;
        let Created { file: owned, location, lease } =
            self.options.create(&topic, size_bytes as u64, Mark::raw(), &[], None)?;
        let path = location.path_of(&topic);
        let file = RegionFile::new(owned.file, Some((location, topic.clone())));
        let ownership =
            Ownership { file: file.map_err(CreateError::io("examine", path))?, lease, pid: std::process::id() };
        Ok(ShmRegion { mapping: owned.mapping, topic, ownership: Some(ownership) })
    }
}

impl ShmRegion {
    /// Configures a region that differs from the default.
    pub fn builder() -> RegionBuilder {
        RegionBuilder { options: CreateOptions::default() }
    }

    /// Creates a region of exactly `size_bytes`, zeroed.
    ///
    /// # Errors
    ///
    /// See [`RegionBuilder::create`].
    pub fn create(name: impl IntoTopicName, size_bytes: usize) -> Result<Self, CreateError> {
        Self::builder().create(name, size_bytes)
    }

    /// Opens a region for reading and writing.
    ///
    /// # Errors
    ///
    /// If there is no such region, if the name is a topic's, or if this user may not write it.
    pub fn open(name: impl IntoTopicName) -> Result<Self, OpenError> {
        Self::open_in(&Domain::from_env(), name)
    }

    /// [Opens](Self::open) a region of this domain.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_in(domain: &Domain, name: impl IntoTopicName) -> Result<Self, OpenError> {
        let topic = name.into_topic_name()?;
        let path = domain.shm_dir().join(topic.file_name());
        let region = Region::open(domain, &topic)?;
        if !region.is_raw() {
            return Err(OpenError::Kind { path, expected: "a raw region but a topic" });
        }
        let file = match Descriptor::reopen(region.as_fd(), Access::ReadWrite) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(OpenError::Permission { path });
            }
            file => file.map_err(OpenError::io("open", path.clone()))?,
        };
        let size = fstat(&file).map(|stat| stat.st_size).unwrap_or_default();
        let Some(len) = usize::try_from(size).ok().and_then(NonZeroUsize::new) else {
            return Err(OpenError::Kind { path, expected: "a region with contents" });
        };
        if let Some(reserved) = room::missing_memory(&file) {
            let reason = LayoutError::Sparse { reserved, size: len.get() as u64 };
            return Err(OpenError::Layout { path, reason });
        }
        let mapping = Mapping::new(&file, len).map_err(OpenError::io(MAP, path))?;
        Ok(Self { mapping, topic, ownership: None })
    }

    /// Removes the name of a raw region even if it is in use; its memory stays until the last
    /// process has unmapped it.
    ///
    /// # Errors
    ///
    /// If there is no such region, if this user may not remove it, or if the name is that of a
    /// topic whose publisher lives. A dead publisher's topic is removed.
    pub fn unlink(name: impl IntoTopicName) -> Result<(), UnlinkError> {
        Self::unlink_in(&Domain::from_env(), name)
    }

    /// [Removes](Self::unlink) the name of a raw region of this domain.
    ///
    /// # Errors
    ///
    /// As for [`unlink`](Self::unlink).
    pub fn unlink_in(domain: &Domain, name: impl IntoTopicName) -> Result<(), UnlinkError> {
        let topic = name.into_topic_name()?;
        let path = domain.shm_dir().join(topic.file_name());
        let failure = |source| UnlinkError::Io { path: path.clone(), source };
        let directory = ShmDir::open(domain).map_err(failure)?;
        // Finishes a removal whose remover was killed.
        directory.tidy(&topic);
        let region = Region::open_even_damaged(&directory, &topic).map_err(|error| match error {
            OpenError::NotFound { topic, path } => UnlinkError::NotFound { topic, path },
            OpenError::Kind { path, .. } => UnlinkError::Foreign { path },
            OpenError::Io { source, .. } => failure(source),
            _ => failure(std::io::ErrorKind::PermissionDenied.into()),
        })?;
        let live = || {
            let mut owner = region.claimed_owner();
            owner.dying = seems_dying(&owner);
            UnlinkError::Live { topic: topic.clone(), owner }
        };
        let _locked = if region.is_raw() {
            None
        } else {
            Some(region.reap_lock(ReapLock::Write).map_err(failure)?.ok_or_else(live)?)
        };
        fault::point(Step::UnlinkBegun);
        match directory.remove(&topic, region.id()).map_err(failure)? {
            Removal::Removed => Ok(()),
            _ => Err(UnlinkError::NotFound { topic, path: domain.shm_dir().into() }),
        }
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
            && ownership.pid == std::process::id()
        {
            fault::point(Step::KeepBegun);
            // If the mark cannot be changed, the region becomes an orphan.
            if let Err(error) = ownership.file.with(|file| Mark::Kept.write(file)) {
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
