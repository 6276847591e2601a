//! What lies where in the region of a topic.
//!
//! ```text
//!     0  Identity      64  immutable: magic, version, geometry, type, owner
//!    64  Producer      64  written by the publisher: head, published
//!   128  Consumers     64  written by both sides: wake word, mask of sleepers
//!   192  type name     64  immutable
//!   256  Record x 60   64  each, written by one subscriber
//!  4096  SlotState x N    128  each: who holds the slot; written by both sides
//!     .  slot x N          slot_bytes - 128 each: SlotHeader (64), then the payload
//! ```
//!
//! Every part has its own cache lines, by writer. Processors fetch lines in pairs of 128 bytes: so a slot's header, which
//! waiting subscribers look at all the time, shares its pair with the start of the payload, which they will want next, and the state,
//! which both sides write, has a pair to itself. Since the states lie apart, the headers of a default topic are not
//! 4096 bytes from each other, which would put all of them into the same few places of a cache. All integers are in native byte order: a region never leaves its machine.
//! A peer may have written anything: [`Layout::check`] validates what it says once, on open, and nobody reads
//! the immutable parts again.
#![allow(unsafe_code)]

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::message::{Kind, MAX_ALIGN, TypeInfo, TypeName};
use crate::shm::atomics::{Atomics, Native};

/// `CONDUIT` and a byte that no text has.
pub(crate) const MAGIC: [u8; 8] = *b"CONDUIT\xd1";
/// Raised with every change of this file that older programs would misread.
pub(crate) const VERSION: u32 = 2;

/// Subscriber records of a region, one bit each in a slot's state.
pub(crate) const RECORDS: usize = 60;
pub(crate) const CONTROL_BYTES: usize = 4096;
pub(crate) const SLOT_STATE_BYTES: usize = 128;
pub(crate) const SLOT_HEADER_BYTES: usize = 64;
/// What a slot has besides its payload.
pub(crate) const SLOT_OVERHEAD_BYTES: usize = SLOT_STATE_BYTES + SLOT_HEADER_BYTES;

pub(crate) const DEFAULT_SLOTS: u32 = 16;
pub(crate) const DEFAULT_SLOT_BYTES: u64 = 4096;
pub(crate) const MAX_SLOTS: u32 = 1 << 16;
/// A slot is a whole number of pairs of cache lines, the payload at least one line.
pub(crate) const SLOT_ALIGN: u64 = 128;
pub(crate) const MIN_SLOT_BYTES: u64 = 256;

pub(crate) const PRODUCER_AT: usize = 64;
pub(crate) const CONSUMERS_AT: usize = 128;
pub(crate) const TYPE_NAME_AT: usize = 192;
pub(crate) const RECORDS_AT: usize = 256;
pub(crate) const STATES_AT: usize = CONTROL_BYTES;

/// The immutable start of a region: what its publisher said when it made it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Identity {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) slots: u32,
    pub(crate) slot_bytes: u64,
    pub(crate) type_size: u64,
    pub(crate) type_align: u32,
    /// 0: one value, 1: a slice.
    pub(crate) type_kind: u32,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    /// The owner's command name, padded with NUL. A claim: the registry knows better.
    pub(crate) program: [u8; 16],
}

/// What the publisher writes with every message.
#[repr(C, align(64))]
pub(crate) struct Producer<A: Atomics> {
    /// The next position to be published.
    pub(crate) head: A::U64,
    /// Messages published so far, which is the next sequence number.
    pub(crate) published: A::U64,
    /// Bytes of all messages published so far.
    pub(crate) bytes: A::U64,
    /// The current window of [`crate::ring::window`]: when its first message was published, and what `published` and
    /// `bytes` were then, that message included.
    pub(crate) window_stamp_ns: A::U64,
    pub(crate) window_published: A::U64,
    pub(crate) window_bytes: A::U64,
    /// The window before: its length in microseconds, and what was published in it.
    pub(crate) previous_us: A::U32,
    pub(crate) previous_messages: A::U32,
    pub(crate) previous_bytes: A::U64,
}

impl<A: Atomics<U32: Default, U64: Default>> Default for Producer<A> {
    fn default() -> Self {
        Self {
            head: A::U64::default(),
            published: A::U64::default(),
            bytes: A::U64::default(),
            window_stamp_ns: A::U64::default(),
            window_published: A::U64::default(),
            window_bytes: A::U64::default(),
            previous_us: A::U32::default(),
            previous_messages: A::U32::default(),
            previous_bytes: A::U64::default(),
        }
    }
}

/// Where subscribers sleep.
#[repr(C, align(64))]
pub(crate) struct Consumers<A: Atomics> {
    /// Bit i: subscriber i sleeps or is about to.
    pub(crate) waiting: A::U64,
    /// The futex word: [`CLOSED`], [`ORPHANED`] and [`UNLINKED`], above them a count of wake-ups.
    pub(crate) wake: A::U32,
}

/// In the wake word: the publisher has closed the topic.
pub(crate) const CLOSED: u32 = 1;
/// In the wake word: the publisher died, a reaper says.
pub(crate) const ORPHANED: u32 = 2;
/// In the wake word: somebody has removed the name of a topic that goes on.
pub(crate) const UNLINKED: u32 = 4;
/// One wake-up. The count overflows off the top of the word and so never reaches the flags.
pub(crate) const ONE_WAKE: u32 = 8;

/// What one subscriber says of itself.
#[repr(C, align(64))]
pub(crate) struct Record<A: Atomics> {
    /// 0 while nobody has the record.
    pub(crate) pid: A::U32,
    pub(crate) uid: A::U32,
    pub(crate) program: [A::U64; 2],
    pub(crate) received: A::U64,
    pub(crate) lost: A::U64,
    /// The position the subscriber looks at next.
    pub(crate) cursor: A::U64,
}

/// Who has a slot.
#[repr(C, align(128))]
pub(crate) struct SlotState<A: Atomics> {
    /// Bit i: held by record i; [`TURN`](crate::ring::TURN): flips when the publisher takes the slot.
    pub(crate) word: A::U64,
}

/// What the publisher says of a slot, before its payload.
#[repr(C, align(64))]
pub(crate) struct SlotHeader<A: Atomics> {
    /// 0: never written; h + 1: what the slot has is that of position h, while [`TURN`](crate::ring::TURN) is as in the state.
    pub(crate) position: A::U64,
    /// h + 1: the publisher will not write at position h, because it skipped it or has closed the topic. Older positions
    /// say nothing.
    pub(crate) passed: A::U64,
    pub(crate) sequence: A::U64,
    /// When the message was published, CLOCK_MONOTONIC in nanoseconds; 0 if time stamps are off.
    pub(crate) stamp_ns: A::U64,
    /// Length of the message in bytes.
    pub(crate) len: A::U64,
}

const _: () = {
    assert!(size_of::<Identity>() == PRODUCER_AT);
    assert!(PRODUCER_AT + size_of::<Producer<Native>>() == CONSUMERS_AT);
    assert!(CONSUMERS_AT + size_of::<Consumers<Native>>() == TYPE_NAME_AT);
    assert!(TYPE_NAME_AT + size_of::<TypeName>() == RECORDS_AT);
    assert!(RECORDS_AT + RECORDS * size_of::<Record<Native>>() == CONTROL_BYTES);
    assert!(size_of::<SlotHeader<Native>>() == SLOT_HEADER_BYTES && SLOT_HEADER_BYTES >= MAX_ALIGN);
    assert!(size_of::<SlotState<Native>>() == SLOT_STATE_BYTES);
    assert!(STATES_AT.is_multiple_of(SLOT_STATE_BYTES) && (SLOT_ALIGN as usize).is_multiple_of(SLOT_STATE_BYTES));
    assert!(MIN_SLOT_BYTES as usize >= SLOT_OVERHEAD_BYTES + MAX_ALIGN);
    assert!(size_of::<ProducerSnapshot>() == size_of::<Producer<Native>>());
    assert!(offset_of!(Producer<Native>, published) == offset_of!(ProducerSnapshot, published));
    assert!(offset_of!(Producer<Native>, window_stamp_ns) == offset_of!(ProducerSnapshot, window_stamp_ns));
    assert!(offset_of!(Producer<Native>, previous_us) == offset_of!(ProducerSnapshot, previous_us));
    assert!(offset_of!(Producer<Native>, previous_bytes) == offset_of!(ProducerSnapshot, previous_bytes));
    assert!(size_of::<ConsumersSnapshot>() == size_of::<Consumers<Native>>());
    assert!(offset_of!(Consumers<Native>, wake) == offset_of!(ConsumersSnapshot, wake));
    assert!(size_of::<RecordSnapshot>() == size_of::<Record<Native>>());
    assert!(offset_of!(Record<Native>, received) == offset_of!(RecordSnapshot, received));
    assert!(offset_of!(Record<Native>, cursor) == offset_of!(RecordSnapshot, cursor));
    assert!(size_of::<SlotSnapshot>() == size_of::<SlotHeader<Native>>());
    assert!(offset_of!(SlotHeader<Native>, stamp_ns) == offset_of!(SlotSnapshot, stamp_ns));
    assert!(DEFAULT_SLOTS as u64 * DEFAULT_SLOT_BYTES + CONTROL_BYTES as u64 == 69_632);
};

/// Types that may be seen in a mapping: they consist of atomics alone and are valid for any bytes.
///
/// # Safety
///
/// As said; other processes change them at any time.
pub(crate) unsafe trait Shared {}

// SAFETY: all fields are atomic integers.
unsafe impl Shared for Producer<Native> {}
// SAFETY: all fields are atomic integers.
unsafe impl Shared for Consumers<Native> {}
// SAFETY: all fields are atomic integers.
unsafe impl Shared for Record<Native> {}
// SAFETY: all fields are atomic integers.
unsafe impl Shared for SlotState<Native> {}
// SAFETY: all fields are atomic integers.
unsafe impl Shared for SlotHeader<Native> {}

/// The control page as plain bytes: for writing a new one, and for looking at one through `pread`.
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ControlSnapshot {
    pub(crate) identity: Identity,
    pub(crate) producer: ProducerSnapshot,
    pub(crate) consumers: ConsumersSnapshot,
    pub(crate) type_name: [u8; 64],
    pub(crate) records: [RecordSnapshot; RECORDS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ProducerSnapshot {
    pub(crate) head: u64,
    pub(crate) published: u64,
    pub(crate) bytes: u64,
    pub(crate) window_stamp_ns: u64,
    pub(crate) window_published: u64,
    pub(crate) window_bytes: u64,
    pub(crate) previous_us: u32,
    pub(crate) previous_messages: u32,
    pub(crate) previous_bytes: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ConsumersSnapshot {
    pub(crate) waiting: u64,
    pub(crate) wake: u32,
    reserved: [u32; 13],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RecordSnapshot {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) program: [u8; 16],
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) cursor: u64,
    reserved: [u64; 2],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct SlotSnapshot {
    pub(crate) position: u64,
    pub(crate) passed: u64,
    pub(crate) sequence: u64,
    pub(crate) stamp_ns: u64,
    pub(crate) len: u64,
    reserved: [u64; 3],
}

const _: () = assert!(size_of::<ControlSnapshot>() == CONTROL_BYTES);

/// How a region is divided. Values of this type are consistent, whoever wrote the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    slots: u32,
    slot_bytes: u64,
}

/// Why a geometry is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// The number of slots is no power of two in range.
    #[error("a topic can not have {0} slots: use a power of two from 2 to {MAX_SLOTS}")]
    Slots(u64),
    /// The slots are too small, too large, or no whole number of cache lines.
    #[error(
        "a slot can not have {0} bytes: use a multiple of {SLOT_ALIGN} from {MIN_SLOT_BYTES} up ({SLOT_OVERHEAD_BYTES} are its header)"
    )]
    SlotBytes(u64),
    /// The region would be larger than any file.
    #[error("{slots} slots of {slot_bytes} bytes are more than a file can hold")]
    TooLarge {
        /// Number of slots.
        slots: u32,
        /// Size of a slot in bytes.
        slot_bytes: u64,
    },
}

impl Geometry {
    pub(crate) fn new(slots: u32, slot_bytes: u64) -> Result<Self, GeometryError> {
        if !slots.is_power_of_two() || !(2..=MAX_SLOTS).contains(&slots) {
            return Err(GeometryError::Slots(slots.into()));
        }
        if slot_bytes < MIN_SLOT_BYTES || !slot_bytes.is_multiple_of(SLOT_ALIGN) {
            return Err(GeometryError::SlotBytes(slot_bytes));
        }
        let total = u64::from(slots).checked_mul(slot_bytes).and_then(|slots| slots.checked_add(CONTROL_BYTES as u64));
        if total.is_none_or(|total| total > i64::MAX as u64) {
            return Err(GeometryError::TooLarge { slots, slot_bytes });
        }
        Ok(Self { slots, slot_bytes })
    }

    #[inline(always)]
    pub(crate) fn slots(self) -> u32 {
        self.slots
    }

    pub(crate) fn slot_bytes(self) -> u64 {
        self.slot_bytes
    }

    /// Largest message in bytes.
    #[inline(always)]
    pub(crate) fn capacity(self) -> usize {
        self.slot_bytes as usize - SLOT_OVERHEAD_BYTES
    }

    pub(crate) fn region_bytes(self) -> u64 {
        CONTROL_BYTES as u64 + u64::from(self.slots) * self.slot_bytes
    }

    #[inline(always)]
    fn index_of(self, position: u64) -> usize {
        (position & u64::from(self.slots - 1)) as usize
    }

    /// Where the state of a position's slot lies in the region.
    #[inline(always)]
    pub(crate) fn state_at(self, position: u64) -> usize {
        STATES_AT + self.index_of(position) * SLOT_STATE_BYTES
    }

    /// Where the header of a position's slot lies in the region; the payload follows.
    #[inline(always)]
    pub(crate) fn slot_at(self, position: u64) -> usize {
        let states_bytes = self.slots as usize * SLOT_STATE_BYTES;
        STATES_AT + states_bytes + self.index_of(position) * (self.slot_bytes as usize - SLOT_STATE_BYTES)
    }
}

/// Why a file is no region this library can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Too short for a header, or the magic bytes are missing.
    #[error("it is not a Conduit topic")]
    NotATopic,
    /// Made by another version of the library.
    #[error(
        "it has layout version {found}, this program understands version {VERSION}; use the same Conduit version on both sides"
    )]
    Version {
        /// The version in the region.
        found: u32,
    },
    /// The header contradicts itself or the file.
    #[error("its header is damaged: {0}")]
    Damaged(String),
}

/// What a valid header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) message: TypeInfo,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) program: [u8; 16],
}

impl Layout {
    /// Checks the first bytes of a region against the size of its file.
    pub(crate) fn check(control: &[u8], file_bytes: u64) -> Result<Self, LayoutError> {
        let damaged = |what: String| Err(LayoutError::Damaged(what));
        let Ok((identity, _)) = Identity::read_from_prefix(control) else { return Err(LayoutError::NotATopic) };
        if identity.magic != MAGIC {
            return Err(LayoutError::NotATopic);
        }
        if identity.version != VERSION {
            return Err(LayoutError::Version { found: identity.version });
        }
        let Ok((control, _)) = ControlSnapshot::read_from_prefix(control) else {
            return damaged(format!("the file has {file_bytes} bytes, fewer than a header"));
        };
        let geometry = match Geometry::new(identity.slots, identity.slot_bytes) {
            Ok(geometry) => geometry,
            Err(error) => return damaged(error.to_string()),
        };
        if geometry.region_bytes() != file_bytes {
            return damaged(format!("the file has {file_bytes} bytes, its slots need {}", geometry.region_bytes()));
        }
        let Some(name) = TypeName::from_region(control.type_name) else {
            return damaged("its type name is no text".into());
        };
        let kind = match identity.type_kind {
            0 => Kind::Value,
            1 => Kind::Slice,
            other => return damaged(format!("{other} is no kind of message")),
        };
        if !identity.type_align.is_power_of_two() || identity.type_align as usize > MAX_ALIGN {
            return damaged(format!("{} is no alignment", identity.type_align));
        }
        if kind == Kind::Value && identity.type_size > geometry.capacity() as u64 {
            return damaged(format!("its messages have {} bytes, its slots fewer", identity.type_size));
        }
        let message = TypeInfo { name, kind, size: identity.type_size, align: identity.type_align };
        Ok(Self { geometry, message, pid: identity.pid, uid: identity.uid, program: identity.program })
    }

    /// The control page of a new region.
    pub(crate) fn control_page(&self) -> ControlSnapshot {
        let mut control = ControlSnapshot::read_from_bytes(&[0; CONTROL_BYTES]).expect("the sizes are equal");
        control.identity = Identity {
            magic: MAGIC,
            version: VERSION,
            slots: self.geometry.slots,
            slot_bytes: self.geometry.slot_bytes,
            type_size: self.message.size,
            type_align: self.message.align,
            type_kind: u32::from(self.message.kind == Kind::Slice),
            pid: self.pid,
            uid: self.uid,
            program: self.program,
        };
        control.type_name = self.message.name.0;
        control
    }
}

/// A command name from a region, made safe to print.
pub(crate) fn program_name(bytes: &[u8; 16]) -> String {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(16);
    String::from_utf8_lossy(&bytes[..len]).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Message;

    fn page() -> ControlSnapshot {
        let geometry = Geometry::new(DEFAULT_SLOTS, DEFAULT_SLOT_BYTES).unwrap();
        Layout { geometry, message: u32::TYPE, pid: 1, uid: 2, program: *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0" }
            .control_page()
    }

    fn check(change: impl FnOnce(&mut ControlSnapshot)) -> Result<Layout, LayoutError> {
        let mut page = page();
        change(&mut page);
        Layout::check(page.as_bytes(), 69_632)
    }

    #[test]
    fn a_page_reads_back_as_it_was_written() {
        let layout = check(|_| ()).unwrap();
        assert_eq!((layout.geometry.slots(), layout.geometry.slot_bytes()), (16, 4096));
        assert_eq!(layout.message, u32::TYPE);
        assert_eq!((layout.pid, layout.uid, program_name(&layout.program).as_str()), (1, 2, "abc"));
    }

    #[test]
    fn lies_are_found() {
        assert_eq!(check(|page| page.identity.magic[7] = 0).unwrap_err(), LayoutError::NotATopic);
        assert_eq!(check(|page| page.identity.version = 7).unwrap_err(), LayoutError::Version { found: 7 });
        assert_eq!(Layout::check(&[], 0).unwrap_err(), LayoutError::NotATopic);
        let lies: [fn(&mut ControlSnapshot); 8] = [
            |page| page.identity.slots = 3,
            |page| page.identity.slots = 32,
            |page| page.identity.slot_bytes = 0,
            |page| page.identity.slot_bytes = u64::MAX - 63,
            |page| page.identity.type_size = 5000,
            |page| page.identity.type_align = 3,
            |page| page.identity.type_kind = 2,
            |page| page.type_name = [0; 64],
        ];
        for (index, lie) in lies.into_iter().enumerate() {
            assert!(matches!(check(lie), Err(LayoutError::Damaged(_))), "lie {index}");
        }
        assert!(matches!(Layout::check(page().as_bytes(), 69_631), Err(LayoutError::Damaged(_))));
        assert!(matches!(Layout::check(&page().as_bytes()[..1000], 69_632), Err(LayoutError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn any_geometry_is_refused_or_fits(slots: u32, slot_bytes: u64) {
            if let Ok(geometry) = Geometry::new(slots, slot_bytes) {
                let last = u64::from(slots) - 1;
                prop_assert_eq!(geometry.state_at(last) + SLOT_STATE_BYTES, geometry.slot_at(0));
                let payload = geometry.slot_at(last) + SLOT_HEADER_BYTES;
                prop_assert!(payload.is_multiple_of(MAX_ALIGN) && geometry.capacity() >= MAX_ALIGN);
                prop_assert_eq!((payload + geometry.capacity()) as u64, geometry.region_bytes());
            }
        }

        #[test]
        fn any_header_is_refused_or_consistent(
            bytes in prop::collection::vec(any::<u8>(), 0..CONTROL_BYTES + 1),
            changed in prop::collection::vec((0usize..256, any::<u8>()), 0..6),
            file_bytes in prop_oneof![Just(69_632u64), any::<u64>()],
        ) {
            let _ = Layout::check(&bytes, file_bytes);
            let mut page = page().as_bytes().to_vec();
            for (at, byte) in changed {
                page[at] = byte;
            }
            if let Ok(layout) = Layout::check(&page, file_bytes) {
                prop_assert_eq!(layout.geometry.region_bytes(), file_bytes);
            }
        }
    }
}
