//! A region seen from outside, without mapping it: its owner, its counters, and the headers of the
//! messages that it keeps.
//!
//! Nothing here trusts the region. It is read with `pread(2)`, so a file that is truncated
//! meanwhile yields an error, never a signal. Reading costs the publisher nothing and needs no
//! registry; the [registry](crate::registry) also knows which processes are behind a region, and
//! reports what happens to it.
//!
//! ```
//! # let directory = tempfile::tempdir_in("/dev/shm")?;
//! # let domain = conduit::Domain::new(directory.path());
//! # /*
//! let domain = conduit::Domain::from_env();
//! # */
//! # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
//! use conduit::inspect::{self, Region};
//! use conduit::registry::RegionState;
//!
//! # publisher.send(&7)?;
//! for topic in inspect::list(&domain)? {
//!     match topic {
//!         Ok(topic) => println!("{} is {}", topic.name, topic.state),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! let region = Region::open(&domain, "ticks")?;
//! assert_eq!(region.describe().state, RegionState::Live);
//! assert_eq!(region.counters().expect("it is a topic").published, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counters;
pub(crate) mod reaping;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

pub use counters::{Counters, MessageHeader};
use nix::sys::stat::fstat;

use crate::error::{OpenError, OwnerClaim};
use crate::foreign_text::clean;
use crate::model::{Process, RegionState, TopicInfo};
use crate::ring::header::{Layout, LayoutError, program_name};
use crate::shm::clock;
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::{DirEntry, FileId, ShmDir};
use crate::shm::dying::{Dying, RegionOwner, dying};
use crate::shm::lock::OWNER;
use crate::shm::mark::Mark;
use crate::shm::open::{Access, is_regular};
use crate::shm::process::command_name;
use crate::topic::{IntoTopicName, TopicName};
use crate::{Domain, Message, Shape, TypeInfo};

/// A region, open for reading from outside.
#[derive(Debug)]
#[must_use = "the region is closed when it is dropped"]
pub struct Region {
    topic: TopicName,
    path: PathBuf,
    file: Descriptor,
    id: FileId,
    uid: u32,
    mark: Mark,
    layout: Option<Layout>,
}

impl Region {
    /// Opens the region of a topic.
    ///
    /// # Errors
    ///
    /// If there is no such region, if this user may not read it, if Conduit did not create the
    /// file, or if the topic's header is damaged.
    pub fn open(domain: &Domain, topic: impl IntoTopicName) -> Result<Self, OpenError> {
        Self::open_intact(&open_directory(domain)?, &topic.into_topic_name()?)
    }

    fn open_intact(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError> {
        match Self::open_checked(directory, topic)? {
            (region, None) => Ok(region),
            (region, Some(reason)) => Err(OpenError::Layout { path: region.path, reason }),
        }
    }

    fn open_checked(directory: &ShmDir, topic: &TopicName) -> Result<(Self, Option<LayoutError>), OpenError> {
        let path = directory.path_of(topic);
        let file = directory
            .open_file(&topic.file_name(), Access::Read)
            .map_err(|error| OpenError::from_file(error, directory, topic, "a region"))?;
        let stat = fstat(&file).map_err(|errno| OpenError::io("examine", path.clone())(errno.into()))?;
        if !is_regular(&stat) {
            return Err(OpenError::Kind { path, expected: "a region" });
        }
        let Some(mark) = Mark::read(&file) else {
            return Err(OpenError::Kind { path, expected: "a region that Conduit made" });
        };
        let (layout, damage) = match mark {
            Mark::Topic => match Layout::read(&file) {
                Ok(layout) => (Some(layout), None),
                Err(damage) => (None, Some(damage)),
            },
            Mark::Raw { .. } | Mark::Kept => (None, None),
        };
        let id = FileId::of(&stat);
        Ok((Self { topic: topic.clone(), path, id, uid: stat.st_uid, file, mark, layout }, damage))
    }

    /// The topic or raw region.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// User id of the file's owner.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Numeric id of the file's group, and the file's permission bits, as they are now.
    pub fn access(&self) -> io::Result<(u32, u32)> {
        let stat = fstat(&self.file)?;
        Ok((stat.st_gid, stat.st_mode & 0o777))
    }

    /// Whether it is a raw region.
    pub fn is_raw(&self) -> bool {
        self.mark != Mark::Topic
    }

    /// Whether it is a raw region that its creator released.
    pub fn is_kept(&self) -> bool {
        self.mark == Mark::Kept || (self.is_raw() && Mark::read(&self.file) == Some(Mark::Kept))
    }

    /// Whether the file still has a name, anywhere.
    pub fn is_linked(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// Whether a process holds the owner lock for writing: the owner, even if it is dumping core,
    /// or one that is taking the name over.
    pub fn owner_lives(&self) -> io::Result<bool> {
        OWNER.is_write_locked(&self.file)
    }

    /// The owner according to the region. A claim; the registry may know better.
    pub fn claimed_owner(&self) -> OwnerClaim {
        match &self.layout {
            Some(layout) => owner_in(layout),
            None => owner_of(&self.file, &self.mark),
        }
    }

    /// What the bytes of its messages mean, as the publisher says; of an element, if they are
    /// slices. `None` for a raw region, and if the publisher did not say.
    pub fn shape(&self) -> Option<Shape> {
        let message = self.layout.as_ref()?.message;
        if message == <[u8]>::TYPE { Some(<[u8]>::shape()) } else { Shape::of_file(&self.file, message.size) }
    }

    /// The type of its messages; `None` for a raw region, or if the header was damaged.
    pub fn message_type(&self) -> Option<TypeInfo> {
        Some(self.layout.as_ref()?.message)
    }

    /// How long its publisher has promised to be silent at most, if it
    /// [has](crate::PublisherBuilder::deadline).
    pub fn deadline(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.layout.as_ref()?.deadline_ns?.get()))
    }

    /// Everything about the region, with the owner as it claims to be.
    pub fn describe(&self) -> TopicInfo {
        let mut topic = self.describe_from(self.counters());
        if topic.state == RegionState::Live && confirmed_dying(&self.claimed_owner(), self.id, self.is_raw()).is_some()
        {
            topic.state = RegionState::Orphaned;
        }
        topic.subscribers.retain(|one| dying(one.pid).is_none());
        topic
    }

    /// [Describes](Self::describe) the region with counters that were read before, and goes by the
    /// owner lock alone.
    pub fn describe_from(&self, counters: Option<Counters>) -> TopicInfo {
        // A daemon describes very many regions: each system call counts.
        let stat = fstat(&self.file).ok();
        let is_linked = stat.as_ref().is_some_and(|stat| stat.st_nlink > 0);
        let state = if self.is_kept() {
            RegionState::Kept
        } else if counters.as_ref().is_some_and(|counters| counters.closed) {
            RegionState::Closed
        } else if self.owner_lives().unwrap_or(true) && !counters.as_ref().is_some_and(|counters| counters.orphaned) {
            if is_linked { RegionState::Live } else { RegionState::Unlinked }
        } else {
            RegionState::Orphaned
        };
        let owner = self.claimed_owner();
        let publisher = owner.pid.map(|pid| Process {
            pid,
            uid: self.layout.map_or(self.uid, |layout| layout.uid),
            program: owner.program.unwrap_or_default(),
        });
        let size_bytes = stat.map_or(0, |stat| stat.st_size.max(0) as u64);
        let counted = counters.as_ref();
        let last_message_age_ns = counted.and_then(|counters| counters.last_stamp_ns).map(age_ns);
        let deadline_ns = self.deadline().map(|deadline| deadline.as_nanos() as u64);
        let is_alive = matches!(state, RegionState::Live | RegionState::Unlinked);
        TopicInfo {
            deadline_ns,
            is_overdue: is_alive && last_message_age_ns > deadline_ns && deadline_ns.is_some(),
            raw: self.is_raw(),
            path: clean(self.path.as_os_str().as_bytes()),
            size_bytes,
            slots: self.layout.map(|layout| layout.geometry.slots()),
            slot_bytes: self.layout.map(|layout| layout.geometry.slot_bytes()),
            message_type: self.layout.map(|layout| layout.message.to_string()),
            publisher,
            published: counted.map(|counters| counters.published),
            rate_hz: counted.and_then(|counters| counters.rate_hz),
            bytes_per_second: counted.and_then(|counters| counters.bytes_per_second),
            last_message_age_ns,
            subscribers: counters
                .map(|counters| counters.subscribers.into_iter().map(|(_, one)| one).collect())
                .unwrap_or_default(),
            ..TopicInfo::new(self.topic.as_str(), state)
        }
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The owner that a region claims to have.
pub(crate) fn owner_of(file: impl AsFd, mark: &Mark) -> OwnerClaim {
    match mark {
        Mark::Raw { pid, program } => {
            OwnerClaim { pid: Some(*pid), program: Some(program.clone()), uid: None, dying: None }
        }
        Mark::Kept => OwnerClaim::default(),
        Mark::Topic => Layout::read(&file).map(|layout| owner_in(&layout)).unwrap_or_default(),
    }
}

fn owner_in(layout: &Layout) -> OwnerClaim {
    OwnerClaim { pid: Some(layout.pid), program: Some(program_name(&layout.program)), uid: None, dying: None }
}

/// Why an owner will never run again, if the kernel confirms that it is the region's.
pub(crate) fn confirmed_dying(owner: &OwnerClaim, id: FileId, is_raw: bool) -> Option<Dying> {
    let pid = owner.pid?;
    RegionOwner { pid, file: id, is_raw }.dying().filter(|_| !is_raw || command_name(pid) == owner.program)
}

/// Why the process that a region names as its owner seems never to run again. For people: it may be
/// another process of the same name.
pub(crate) fn seems_dying(owner: &OwnerClaim) -> Option<Dying> {
    let pid = owner.pid?;
    dying(pid).filter(|_| command_name(pid) == owner.program)
}

/// How long ago something was stamped, in nanoseconds.
pub fn age_ns(stamp_ns: u64) -> u64 {
    clock::now_ns().saturating_sub(stamp_ns)
}

/// All regions of a domain, sorted by name. A region that cannot be opened comes with the reason.
///
/// # Errors
///
/// If the shared-memory directory cannot be read.
pub fn list(domain: &Domain) -> Result<Vec<Result<TopicInfo, OpenError>>, OpenError> {
    let directory = open_directory(domain)?;
    let entries = directory.entries().map_err(OpenError::io("read", domain.shm_dir().into()))?;
    let regions = entries.into_iter().filter_map(|entry| match entry {
        DirEntry::Region(topic) => Some(topic),
        _ => None,
    });
    let mut topics: Vec<_> = regions.collect();
    topics.sort();
    let describe = |topic: &TopicName| match Region::open_intact(&directory, topic) {
        // Removed since the directory was read.
        Err(OpenError::NotFound { .. }) => None,
        other => Some(other.map(|region| region.describe())),
    };
    Ok(topics.iter().filter_map(describe).collect())
}

pub(crate) fn open_directory(domain: &Domain) -> Result<ShmDir, OpenError> {
    ShmDir::open(domain).map_err(OpenError::io("open", domain.shm_dir().into()))
}
