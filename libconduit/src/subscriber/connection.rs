//! The connection of a subscriber with one publisher: its region, open, mapped and attached to.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::fstat;

use crate::error::OpenError;
use crate::fault::{self, Step};
use crate::inspect::open_directory;
use crate::mutation::{mutated, step};
use crate::registry::Lease;
use crate::ring::attached::AttachedReader;
use crate::ring::end::{Gone, how_ended};
use crate::ring::header::Layout;
use crate::ring::layout::{PAGE_BYTES, PINNING_RECORDS};
use crate::ring::reader::Reader;
use crate::ring::slot::mapped::{HeldRecord, MappedRing};
use crate::ring::start::Start;
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::{DirLocation, FileId, ShmDir};
use crate::shm::dying::RegionOwner;
use crate::shm::lock::{LockByte, OWNER};
use crate::shm::map::{Mapping, ReadOnly};
use crate::shm::mark::Mark;
use crate::shm::new_file::MAP;
use crate::shm::open::{Access, OpenFileError, is_regular, reopen};
use crate::shm::process::own_name;
use crate::shm::region_file::RegionFile;
use crate::shm::{fork, room};
use crate::watched::Watched;
use crate::{Domain, Shape, TopicName, TypeInfo};

/// How to connect.
#[derive(Clone, Debug)]
pub(super) struct ConnectOptions {
    pub(super) domain: Option<Domain>,
    pub(super) start: Start,
    pub(super) any_type: bool,
    pub(super) expected: Option<TypeInfo>,
    pub(super) copies: bool,
    pub(super) prefault: bool,
    pub(super) follows: bool,
    /// How long the topic may be silent.
    pub(super) deadline: Option<Duration>,
    /// The number of the publisher.
    pub(super) epoch: u32,
    /// Whether the subscriber was there before the publisher.
    pub(super) is_awaited: bool,
    /// The fields that the messages of earlier publishers have had.
    pub(super) shape: Option<Shape>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            domain: None,
            start: Start::Next,
            any_type: false,
            expected: None,
            copies: false,
            prefault: true,
            follows: false,
            deadline: None,
            epoch: 1,
            is_awaited: false,
            shape: None,
        }
    }
}

/// What connecting yields.
pub(super) struct TopicConnection {
    pub(super) reader: AttachedReader,
    pub(super) record: Option<usize>,
    pub(super) watched: Arc<Watched>,
    pub(super) layout: Layout,
    /// The fields of the messages, for subscribers that follow.
    pub(super) shape: Option<Shape>,
}

impl ConnectOptions {
    /// Opens a topic, whose messages have this type unless another one was asked for.
    ///
    /// # Errors
    ///
    /// See [`SubscriberBuilder::open`](crate::SubscriberBuilder::open).
    pub(super) fn connect(&self, topic: &TopicName, message: TypeInfo) -> Result<TopicConnection, OpenError> {
        let domain = self.domain.clone().unwrap_or_default();
        let directory = open_directory(&domain)?;
        let file = directory
            .open_file(&topic.file_name(), Access::Read)
            .map_err(|error| OpenError::from_file(error, &directory, topic, "a topic"))?;
        let (layout, id) = check_region(&file, &directory, topic)?;
        let shape = self.check_type(&file, layout, topic, message)?;
        // Of a follower: what ends later is received from to its end.
        let ended = if self.follows {
            how_ended(&file).map_err(OpenError::io("read", directory.path_of(topic)))?
        } else {
            None
        };
        let location = directory.location().map_err(OpenError::io("examine", directory.path().into()))?;
        let (mut reader, record) = self
            .map(file, layout, (location, topic.clone()))
            .map_err(OpenError::io(MAP, directory.path_of(topic)))?
            .ok_or_else(|| OpenError::TooManySubscribers { topic: topic.clone(), limit: self.records(layout).len() })?;
        // A topic that has ended is about to lose its name: opening it again must not yield the old
        // one.
        match if self.follows { ended } else { reader.has_ended() } {
            Some(Gone::Died) => return Err(OpenError::Orphaned { topic: topic.clone() }),
            Some(Gone::Closed) => {
                return Err(OpenError::NotFound { topic: topic.clone(), path: directory.path().into() });
            }
            None => {}
        }
        if self.is_awaited {
            step!(follow_from_first, reader.count_from_first());
        }
        let lease = Lease::attach(&domain, topic, id, record);
        fault::point(Step::RecordRegistered);
        let publisher = RegionOwner { pid: layout.pid, file: id, is_raw: false };
        let watched = Watched::new(reader.sleeper(), publisher, lease).with_deadline(self.deadline);
        let watched = Arc::new(watched);
        Ok(TopicConnection { reader, record, watched, layout, shape })
    }

    /// Checks that the messages have the expected type and, if earlier publishers and this one say
    /// what fields they have, the same fields.
    fn check_type(
        &self,
        file: &Descriptor,
        layout: Layout,
        topic: &TopicName,
        message: TypeInfo,
    ) -> Result<Option<Shape>, OpenError> {
        if self.any_type {
            return Ok(None);
        }
        let expected = self.expected.unwrap_or(message);
        if layout.message != expected {
            let (found, expected) = (Box::new(layout.message), Box::new(expected));
            return Err(OpenError::TypeMismatch { topic: topic.clone(), found, expected });
        }
        if !self.follows {
            return Ok(None);
        }
        let shape = Shape::of_file(file, layout.message.size);
        if let (Some(earlier), Some(found)) = (&self.shape, &shape)
            && earlier != found
        {
            return Err(OpenError::ShapeMismatch { topic: topic.clone(), message: Box::new(layout.message) });
        }
        Ok(shape)
    }

    /// The records that suit this subscriber, the preferred ones first. One that only copies leaves
    /// those that can pin slots to others.
    fn records(&self, layout: Layout) -> Vec<usize> {
        let records = layout.geometry.records();
        let pinning = 0..PINNING_RECORDS.min(records);
        if self.copies { (PINNING_RECORDS..records).chain(pinning).collect() } else { pinning.collect() }
    }

    /// Maps the region, with a record if this user may write it; `None` if all records are taken.
    ///
    /// A region that can be written is mapped before a record is claimed, since that can take long.
    fn map(
        &self,
        file: Descriptor,
        layout: Layout,
        name: (DirLocation, TopicName),
    ) -> io::Result<Option<(AttachedReader, Option<usize>)>> {
        // Entering a hole into the page tables takes memory.
        let prefault = self.prefault && room::is_reserved(&file);
        if let Some(mapping) = map_writable(&file, layout)? {
            if prefault {
                mapping.populate();
            }
            match attach(&file, name.clone(), mapping, layout, (self.epoch, self.start, self.records(layout)))? {
                Attachment::Attached(reader, record) => {
                    return Ok(Some((AttachedReader::Writable(reader), Some(record))));
                }
                Attachment::NoneFree => return Ok(None),
                Attachment::Obstructed => {}
            }
        }
        let mapping = Mapping::<ReadOnly>::new(&file, region_len(layout))?;
        if prefault {
            mapping.populate();
        }
        let ring = MappedRing::new(mapping, layout.geometry, RegionFile::new(file, Some(name))?).with_epoch(self.epoch);
        Ok(Some((AttachedReader::ReadOnly(Reader::new(Arc::new(ring), None, self.start)), None)))
    }
}

/// Checks that the file is a topic whose publisher lives.
fn check_region(file: &Descriptor, directory: &ShmDir, topic: &TopicName) -> Result<(Layout, FileId), OpenError> {
    let path = || directory.path_of(topic);
    let stat = fstat(file).map_err(|errno| OpenError::io("examine", path())(errno.into()))?;
    if !is_regular(&stat) || matches!(Mark::read(file), Some(Mark::Raw { .. } | Mark::Kept)) {
        return Err(OpenError::Kind { path: path(), expected: "a topic" });
    }
    let layout = Layout::read(file).map_err(|reason| OpenError::Layout { path: path(), reason })?;
    let id = FileId::of(&stat);
    if !OWNER.is_write_locked(file).map_err(OpenError::io("probe the lock of", path()))?
        || (RegionOwner { pid: layout.pid, file: id, is_raw: false }).dying().is_some()
    {
        return Err(OpenError::Orphaned { topic: topic.clone() });
    }
    Ok((layout, id))
}

fn region_len(layout: Layout) -> NonZeroUsize {
    NonZeroUsize::new(layout.geometry.region_bytes() as usize).unwrap_or(NonZeroUsize::MIN)
}

/// Maps the region, without locks; `None` if this user may only read it.
fn map_writable(file: &Descriptor, layout: Layout) -> io::Result<Option<Mapping>> {
    let _no_fork = fork::ForkGuard::new();
    match reopen(file, Access::ReadWrite) {
        Ok(writable) => Mapping::new(writable, region_len(layout)).map(Some),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            io::ErrorKind::WouldBlock => Err(OpenFileError::Leased.into()),
            _ => Err(error),
        },
    }
}

/// What came of claiming a record.
enum Attachment {
    Attached(Reader<MappedRing>, usize),
    NoneFree,
    /// A process that may only read the region holds read locks on the records that are free. It
    /// can keep others from locking them, but not from reading: without a record.
    Obstructed,
}

/// Claims a record, and attaches with it.
fn attach(
    file: &Descriptor,
    region_name: (DirLocation, TopicName),
    mapping: Mapping,
    layout: Layout,
    (epoch, start, records): (u32, Start, Vec<usize>),
) -> io::Result<Attachment> {
    const PAGE: NonZeroUsize = NonZeroUsize::new(PAGE_BYTES).unwrap();
    let name = own_name();
    let kept = RegionFile::new(Descriptor::reopen(file, Access::Read)?, Some(region_name))?;
    let _no_fork = fork::ForkGuard::new();
    let locked = reopen(file, Access::ReadWrite)?;
    let Some(index) = claim_record(locked.as_fd(), &records)? else {
        for record in records {
            if !LockByte::record(record).is_write_locked(&locked)? {
                return Ok(Attachment::Obstructed);
            }
        }
        return Ok(Attachment::NoneFree);
    };
    fault::point(Step::RecordLocked);
    let held = HeldRecord::new(index, Mapping::new(&locked, PAGE)?);
    fault::point(Step::RecordMapped);
    let (pid, uid) = (std::process::id(), nix::unistd::getuid().as_raw());
    let ring = MappedRing::new(mapping, layout.geometry, kept).with_epoch(epoch);
    let ring = ring.with_record(held, pid, uid, name);
    let lock_second = || if mutated!(a2_left_out) { Ok(true) } else { LockByte::attached(index).try_write(&locked) };
    let (reader, is_locked) = Reader::attach(Arc::new(ring), index, start, lock_second);
    if !is_locked? {
        return Ok(Attachment::Obstructed);
    }
    fault::point(Step::RecordAttached);
    Ok(Attachment::Attached(reader, index))
}

/// Locks a free record, of which the second byte is free, too.
fn claim_record(locked: impl AsFd + Copy, records: &[usize]) -> io::Result<Option<usize>> {
    // Twice: the publisher locks the record of a dead subscriber briefly, to clear it.
    for &record in records.iter().chain(records) {
        // A1
        if mutated!(a1_left_out) || LockByte::record(record).try_write(locked)? {
            if mutated!(a1_of_attached) || !LockByte::attached(record).is_locked(locked)? {
                return Ok(Some(record));
            }
            step!(a1_undo, LockByte::record(record).unlock(locked));
        }
    }
    Ok(None)
}
