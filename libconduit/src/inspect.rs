//! Looking at a region from outside, without mapping it: what the daemon and the `conduit` command see.
//!
//! Nothing here trusts the region. It is read with `pread`, so a file that is truncated meanwhile gives an error, never
//! a signal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::stat::fstat;
use nix::sys::uio::pread;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::error::{OpenError, OwnerClaim};
use crate::model::{Process, RegionState, SubscriberInfo, TopicInfo};
use crate::ring::end::{mark_closed, mark_orphaned, mark_unlinked};
use crate::ring::header::{Layout, LayoutError, program_name, read_control};
use crate::ring::layout::{CLOSED, ORPHANED, PRODUCER_AT, RECORDS, SLOT_STATE_BYTES, STATES_AT, TURN};
use crate::ring::snapshot::{ControlSnapshot, ProducerSnapshot, SlotSnapshot};
use crate::ring::window;
use crate::shm::clock;
use crate::shm::dir::{DirEntry, FileId, ReapLock, ShmDir, try_reap_lock};
use crate::shm::lock::{LockByte, OWNER};
use crate::shm::mark::Mark;
use crate::shm::open::{Access, is_regular, reopen};
use crate::topic::TopicName;
use crate::{Message, Shape, TypeInfo};

/// A region, open for looking.
#[derive(Debug)]
pub struct Region {
    topic: TopicName,
    path: PathBuf,
    file: OwnedFd,
    id: FileId,
    uid: u32,
    mark: Mark,
    layout: Option<Layout>,
}

/// What a topic's region says of itself at one moment.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Whether the publisher closed it.
    pub closed: bool,
    /// Whether a reaper marked it.
    pub orphaned: bool,
    /// Messages published.
    pub published: u64,
    /// Position of the next message: what the subscribers' lag is counted from.
    pub head: u64,
    /// When the last message was published: CLOCK_MONOTONIC in nanoseconds.
    pub last_stamp_ns: Option<u64>,
    /// Messages per second, over the last one to two seconds.
    pub rate_hz: Option<f64>,
    /// Bytes per second, likewise.
    pub bytes_per_second: Option<f64>,
    /// Living subscribers, each with the number of its record.
    pub subscribers: Vec<(usize, SubscriberInfo)>,
}

/// What a slot says of its message: everything but the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// Sequence number.
    pub sequence: u64,
    /// When it was published: CLOCK_MONOTONIC in nanoseconds; none if the publisher's time stamps are off.
    pub stamp_ns: Option<u64>,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl Region {
    /// Opens the region of a topic for looking. Fails for files that Conduit did not make, and for topics whose header is
    /// damaged.
    pub fn open(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError> {
        match Self::open_checked(directory, topic)? {
            (region, None) => Ok(region),
            (region, Some(reason)) => Err(OpenError::Layout { path: region.path, reason }),
        }
    }

    /// Opens the region of a topic even if its header is damaged: for telling whether its owner lives, and for cleaning
    /// up if not. Fails for files that Conduit did not make.
    pub fn open_even_damaged(directory: &ShmDir, topic: &TopicName) -> Result<Self, OpenError> {
        Ok(Self::open_checked(directory, topic)?.0)
    }

    fn open_checked(directory: &ShmDir, topic: &TopicName) -> Result<(Self, Option<LayoutError>), OpenError> {
        let path = directory.path_of(topic);
        let file = directory
            .open_file(&topic.file_name(), Access::Read)
            .map_err(|error| OpenError::from_file(error, directory, topic, "a region"))?;
        let stat = match fstat(&file) {
            Ok(stat) => stat,
            Err(errno) => return Err(OpenError::io("examine", path)(errno.into())),
        };
        if !is_regular(&stat) {
            return Err(OpenError::Kind { path, expected: "a region" });
        }
        let Some(mark) = Mark::read(&file) else {
            return Err(OpenError::Kind { path, expected: "a region that Conduit made" });
        };
        let (layout, damage) = match mark {
            Mark::Topic => match Layout::check(&read_control(&file), stat.st_size.max(0) as u64) {
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

    /// The file, whatever its name.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// User id of the file's owner.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Numeric id of the file's group, and its permission bits, as they are now.
    pub fn access(&self) -> io::Result<(u32, u32)> {
        let stat = fstat(&self.file)?;
        Ok((stat.st_gid, stat.st_mode & 0o777))
    }

    /// Whether it is a raw region.
    pub fn is_raw(&self) -> bool {
        self.mark != Mark::Topic
    }

    /// Whether it is a raw region that its creator let go cleanly.
    pub fn is_kept(&self) -> bool {
        self.mark == Mark::Kept || (self.is_raw() && Mark::read(&self.file) == Some(Mark::Kept))
    }

    /// Whether the file still has a name, anywhere.
    pub fn is_linked(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// Whether somebody holds the owner lock for writing: the owner, or a taker at work.
    pub fn owner_lives(&self) -> io::Result<bool> {
        OWNER.is_write_locked(&self.file)
    }

    /// Whom the region names as its owner. A claim; the registry may know better.
    pub fn claimed_owner(&self) -> OwnerClaim {
        match &self.layout {
            Some(layout) => OwnerClaim { pid: Some(layout.pid), program: Some(program_name(&layout.program)) },
            None => owner_of(&self.file, &self.mark),
        }
    }

    /// What the bytes of its messages mean, as the publisher says; of an element, if they are slices. `None` for a raw region,
    /// and if the publisher did not say.
    pub fn shape(&self) -> Option<Shape> {
        let message = self.layout.as_ref()?.message;
        if message == <[u8]>::TYPE { Some(<[u8]>::shape()) } else { Shape::of_file(&self.file, message.size) }
    }

    /// The type of its messages; `None` for a raw region, or if the header was damaged.
    pub fn message_type(&self) -> Option<TypeInfo> {
        Some(self.layout.as_ref()?.message)
    }

    /// The counters of a topic; `None` for a raw region, or if the header was damaged or the file is cut short.
    pub fn counters(&self) -> Option<Counters> {
        let layout = self.layout.as_ref()?;
        let control = read_control(&self.file);
        let control = ControlSnapshot::read_from_bytes(&control).ok()?;
        let head = control.producer.head;
        let subscribers = control.records.iter().enumerate().filter(|(index, record)| {
            record.pid != 0 && LockByte::record(*index).is_write_locked(&self.file).unwrap_or(false)
        });
        let subscribers: Vec<_> = subscribers.collect();
        let held = if subscribers.is_empty() { [0; RECORDS] } else { self.held(layout) };
        let subscribers = subscribers.into_iter().map(|(index, record)| {
            let subscriber = SubscriberInfo {
                pid: record.pid,
                uid: record.uid,
                program: program_name(&record.program),
                received: record.received,
                lost: record.lost,
                held: held[index],
                lag: head.saturating_sub(record.cursor),
                asleep: control.consumers.waiting & (1 << index) != 0,
            };
            (index, subscriber)
        });
        let last_stamp_ns = head.checked_sub(1).and_then(|last| self.stamp_of(layout, last));
        let rate = window::rate(&self.steady_producer(control.producer), last_stamp_ns, clock::now_ns());
        Some(Counters {
            closed: control.consumers.wake & CLOSED != 0,
            orphaned: control.consumers.wake & ORPHANED != 0,
            published: control.producer.published,
            head,
            last_stamp_ns,
            rate_hz: rate.map(|rate| rate.messages),
            bytes_per_second: rate.map(|rate| rate.bytes),
            subscribers: subscribers.collect(),
        })
    }

    /// How many samples each subscriber holds: bits in the slots' states.
    fn held(&self, layout: &Layout) -> [u32; RECORDS] {
        let mut held = [0; RECORDS];
        let mut states = vec![[0u64; SLOT_STATE_BYTES / 8]; layout.geometry.slots() as usize];
        let len = pread(&self.file, states.as_mut_slice().as_mut_bytes(), STATES_AT as i64).unwrap_or(0);
        for [state, ..] in &states[..len / SLOT_STATE_BYTES] {
            for (record, held) in held.iter_mut().enumerate() {
                *held += (state >> record & 1) as u32;
            }
        }
        held
    }

    /// The headers of the messages that are kept from a position on, oldest first, and the position to go on with. Begin with position
    /// 0 for all that is kept, or with `u64::MAX` for none. `None` for a raw region, or if the header was damaged or the file is cut short.
    ///
    /// Costs the publisher nothing, whatever the size of the messages. Those that are overwritten before they are looked at are left out.
    pub fn messages_since(&self, position: u64) -> Option<(Vec<MessageHeader>, u64)> {
        let layout = self.layout.as_ref()?;
        let mut producer = ProducerSnapshot::new_zeroed();
        let len = pread(&self.file, producer.as_mut_bytes(), PRODUCER_AT as i64).ok()?;
        let head = (len == size_of::<ProducerSnapshot>()).then_some(producer.head)?;
        let oldest = head.saturating_sub(layout.geometry.slots().into());
        let messages = (position.max(oldest)..head).filter_map(|position| self.header_of(layout, position));
        Some((messages.collect(), head))
    }

    /// The header of the oldest message that is kept from a position on, if it lies within the next few positions: at those
    /// that the publisher skipped there is none.
    pub fn message_from(&self, position: u64) -> Option<MessageHeader> {
        let layout = self.layout.as_ref()?;
        (position..position.saturating_add(8)).find_map(|position| self.header_of(layout, position))
    }

    fn header_of(&self, layout: &Layout, position: u64) -> Option<MessageHeader> {
        let at = layout.geometry.slot_at(position) as i64;
        let read = || {
            let mut slot = SlotSnapshot::new_zeroed();
            let len = pread(&self.file, slot.as_mut_bytes(), at).ok()?;
            (len == size_of::<SlotSnapshot>() && slot.position & !TURN == position + 1).then_some(slot)
        };
        let slot = read()?;
        // It is that position's for as long as the publisher has not taken the slot (C2) and used it (C3).
        let mut state = 0u64;
        let len = pread(&self.file, state.as_mut_bytes(), layout.geometry.state_at(position) as i64).ok()?;
        if len != size_of::<u64>() || (state ^ slot.position) & TURN != 0 || read()?.position != slot.position {
            return None;
        }
        let stamp_ns = Some(slot.stamp_ns).filter(|&stamp| stamp != 0);
        Some(MessageHeader { sequence: slot.sequence, stamp_ns, len_bytes: slot.len })
    }

    /// The publisher's line as it is between two messages, if it comes to rest: its numbers belong together.
    fn steady_producer(&self, mut seen: ProducerSnapshot) -> ProducerSnapshot {
        for _ in 0..8 {
            let mut again = ProducerSnapshot::new_zeroed();
            match pread(&self.file, again.as_mut_bytes(), PRODUCER_AT as i64) {
                Ok(len) if len == size_of::<ProducerSnapshot>() && again != seen => seen = again,
                _ => break,
            }
        }
        seen
    }

    fn stamp_of(&self, layout: &Layout, position: u64) -> Option<u64> {
        let mut slot = SlotSnapshot::new_zeroed();
        let at = layout.geometry.slot_at(position) as i64;
        let len = pread(&self.file, slot.as_mut_bytes(), at).ok()?;
        (len == size_of::<SlotSnapshot>() && slot.stamp_ns != 0).then_some(slot.stamp_ns)
    }

    /// Everything about the region, with the owner as it claims to be.
    pub fn describe(&self) -> TopicInfo {
        self.describe_from(self.counters())
    }

    /// The same with counters that have been read already.
    pub fn describe_from(&self, counters: Option<Counters>) -> TopicInfo {
        let state = if self.is_kept() {
            RegionState::Kept
        } else if counters.as_ref().is_some_and(|counters| counters.closed) {
            RegionState::Closed
        } else if self.owner_lives().unwrap_or(true) && !counters.as_ref().is_some_and(|counters| counters.orphaned) {
            if self.is_linked() { RegionState::Live } else { RegionState::Unlinked }
        } else {
            RegionState::Orphaned
        };
        let owner = self.claimed_owner();
        let publisher = owner.pid.map(|pid| Process {
            pid,
            uid: self.layout.map_or(self.uid, |layout| layout.uid),
            program: owner.program.unwrap_or_default(),
        });
        let size_bytes = fstat(&self.file).map_or(0, |stat| stat.st_size.max(0) as u64);
        let counted = counters.as_ref();
        TopicInfo {
            name: self.topic.to_string(),
            state,
            refusal: None,
            unlinked: None,
            raw: self.is_raw(),
            path: self.path.display().to_string(),
            size_bytes,
            slots: self.layout.map(|layout| layout.geometry.slots()),
            slot_bytes: self.layout.map(|layout| layout.geometry.slot_bytes()),
            message_type: self.layout.map(|layout| layout.message.to_string()),
            publisher,
            liveness: None,
            published: counted.map(|counters| counters.published),
            rate_hz: counted.and_then(|counters| counters.rate_hz),
            bytes_per_second: counted.and_then(|counters| counters.bytes_per_second),
            last_message_age_ns: counted.and_then(|counters| counters.last_stamp_ns).map(age_ns),
            subscribers: counters
                .map(|counters| counters.subscribers.into_iter().map(|(_, one)| one).collect())
                .unwrap_or_default(),
        }
    }

    /// Takes the owner lock as a reaper, on a description of its own; `None` if the owner or another reaper has it.
    pub fn try_reap_lock(&self, lock: ReapLock) -> io::Result<Option<ReapGuard>> {
        let locked = reopen(&self.file, lock.access())?;
        Ok(try_reap_lock(&locked, lock)?.then_some(ReapGuard { _locked: locked }))
    }

    /// Tells everybody who sleeps on a topic that its publisher died.
    ///
    /// Where this user may not write the region the sleepers are only woken; they see for themselves.
    pub fn mark_orphaned(&self) -> io::Result<()> {
        if self.is_raw() {
            return Ok(());
        }
        mark_orphaned(&self.file)
    }

    /// Tells the publisher and everybody who sleeps on the topic that it has ended, although the publisher lives.
    ///
    /// Where this user may not write the region it must be allowed to change others' files (CAP_FOWNER).
    pub fn mark_closed(&self) -> io::Result<()> {
        mark_closed(&self.file)
    }

    /// Tells the publisher that its topic has no name any more. Subscribers go on.
    ///
    /// Where this user may not write the region it must be allowed to change others' files (CAP_FOWNER).
    pub fn mark_unlinked(&self) -> io::Result<()> {
        mark_unlinked(&self.file)
    }

    /// Whether the header is still the one that was read on opening.
    pub fn is_intact(&self) -> Result<(), LayoutError> {
        if self.is_raw() {
            return Ok(());
        }
        let size = fstat(&self.file).map_or(0, |stat| stat.st_size.max(0) as u64);
        Layout::check(&read_control(&self.file), size).map(drop)
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The owner lock in the hands of a reaper.
#[derive(Debug)]
pub struct ReapGuard {
    _locked: OwnedFd,
}

/// The owner that a region claims to have.
pub(crate) fn owner_of(file: impl AsFd, mark: &Mark) -> OwnerClaim {
    match mark {
        Mark::Raw { pid, program } => OwnerClaim { pid: Some(*pid), program: Some(program.clone()) },
        Mark::Kept => OwnerClaim::unknown(),
        Mark::Topic => {
            let Ok(stat) = fstat(&file) else { return OwnerClaim::unknown() };
            match Layout::check(&read_control(&file), stat.st_size.max(0) as u64) {
                Ok(layout) => OwnerClaim { pid: Some(layout.pid), program: Some(program_name(&layout.program)) },
                Err(_) => OwnerClaim::unknown(),
            }
        }
    }
}

/// How long ago something was stamped, in nanoseconds.
pub fn age_ns(stamp_ns: u64) -> u64 {
    clock::now_ns().saturating_sub(stamp_ns)
}

/// All regions of a directory, sorted by name; what cannot be opened comes with the reason.
pub fn list(directory: &ShmDir) -> io::Result<Vec<Result<TopicInfo, OpenError>>> {
    let mut topics: Vec<_> = directory
        .entries()?
        .into_iter()
        .filter_map(|entry| match entry {
            DirEntry::Region(topic) => Some(topic),
            _ => None,
        })
        .collect();
    topics.sort();
    let look = |topic: &TopicName| match Region::open(directory, topic) {
        // Gone since the directory was read.
        Err(OpenError::NotFound { .. }) => None,
        other => Some(other.map(|region| region.describe())),
    };
    Ok(topics.iter().filter_map(look).collect())
}
