//! The byte layout of a topic's region.
//!
//! ```text
//!     0  Identity      64  immutable: magic, version, geometry, type, owner
//!    64  Producer      64  written by the publisher: head, published
//!   128  Consumers     64  written by both sides: wake word, mask of sleepers
//!   192  type name     64  immutable
//!   256  Record x 60   64  each, written by one subscriber
//!  4096  SlotState x N    128  each, ownership of a slot: written by both sides
//!     .  slot x N          slot_bytes - 128 each: SlotHeader (64), then the payload
//! ```
//!
//! Parts with different writers have different cache lines. Processors fetch lines in pairs of 128
//! bytes. So a slot's header, which waiting subscribers poll, shares its pair with the start of the
//! payload, which they need next; and the state, which both sides write, has a pair to itself. As
//! the states are apart, the headers of a default topic are not 4096 bytes from each other, which
//! would map all of them to the same cache sets.
//!
//! All integers are in native byte order: a region never leaves its machine. A peer may have
//! written anything: [`Layout::check`](super::header::Layout::check) validates the immutable parts
//! once, on open, and they are not read again.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::message::{MAX_ALIGN, TypeName};
use crate::shm::atomics::{Native, Plain, WordFamily};

/// Incremented with every change of this file that older programs would misread.
pub(crate) const VERSION: u32 = 2;

/// Subscriber records of a region, one bit each in a slot's state.
pub(crate) const RECORDS: usize = 60;
/// The bits of a slot's state that stand for readers.
pub(crate) const READERS: u64 = (1 << RECORDS) - 1;
/// In a slot's state: flips with every claim. In its position: flips with every message.
pub(crate) const TURN: u64 = 1 << 63;
pub(crate) const CONTROL_BYTES: usize = 4096;
pub(crate) const SLOT_STATE_BYTES: usize = 128;
pub(crate) const SLOT_HEADER_BYTES: usize = 64;
/// Size of a slot without its payload.
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

/// The immutable start of a region, as written by its creator.
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
    /// The owner's command name, padded with NUL. A claim; the registry has the verified name.
    pub(crate) program: [u8; 16],
}

/// The publisher's counters, written with every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
#[repr(C, align(64))]
pub(crate) struct Producer<A: WordFamily> {
    /// The next position to be published.
    pub(crate) head: A::U64,
    /// Messages published so far, which is the next sequence number.
    pub(crate) published: A::U64,
    /// Bytes of all messages published so far.
    pub(crate) bytes: A::U64,
    /// The current window of [`super::window`]: when its first message was published, and what
    /// `published` and `bytes` were then, that message included.
    pub(crate) window_stamp_ns: A::U64,
    pub(crate) window_published: A::U64,
    pub(crate) window_bytes: A::U64,
    /// The previous window: its length in microseconds, and the messages and bytes published in it.
    pub(crate) previous_us: A::U32,
    pub(crate) previous_messages: A::U32,
    pub(crate) previous_bytes: A::U64,
}

/// The words that subscribers sleep with.
#[derive(FromBytes)]
#[repr(C, align(64))]
pub(crate) struct Consumers<A: WordFamily> {
    /// Bit i: subscriber i sleeps or is about to.
    pub(crate) waiting: A::U64,
    /// The futex word: [`CLOSED`], [`ORPHANED`] and [`UNLINKED`], above them a count of wake-ups.
    pub(crate) wake: A::U32,
}

/// In the wake word: the publisher has closed the topic.
pub(crate) const CLOSED: u32 = 1;
/// In the wake word: a reaper found the publisher dead.
pub(crate) const ORPHANED: u32 = 2;
/// In the wake word: the topic is live, but its name was removed.
pub(crate) const UNLINKED: u32 = 4;
/// One wake-up. The count overflows off the top of the word and so never reaches the flags.
pub(crate) const ONE_WAKE: u32 = 8;

/// What one subscriber reports about itself.
#[derive(FromBytes)]
#[repr(C, align(64))]
pub(crate) struct Record<A: WordFamily> {
    /// 0 while the record is free.
    pub(crate) pid: A::U32,
    pub(crate) uid: A::U32,
    pub(crate) program: [A::U64; 2],
    pub(crate) received: A::U64,
    pub(crate) lost: A::U64,
    /// The next position to receive.
    pub(crate) cursor: A::U64,
}

/// Slot ownership word.
#[repr(C, align(128))]
pub(crate) struct SlotState<A: WordFamily> {
    /// Bit i: held by record i; [`TURN`]: flips when the publisher takes the slot.
    pub(crate) word: A::U64,
}

/// The header of a slot, written by the publisher.
#[derive(FromBytes)]
#[repr(C, align(64))]
pub(crate) struct SlotHeader<A: WordFamily> {
    /// 0: never written; h + 1: the slot has the message of position h, while [`TURN`] is as in the
    /// state.
    pub(crate) position: A::U64,
    /// h + 1: the publisher will not publish position h, because it skipped it or closed the topic.
    /// Values below the reader's position mean nothing.
    pub(crate) passed: A::U64,
    pub(crate) sequence: A::U64,
    /// When the message was published, CLOCK_MONOTONIC in nanoseconds; 0 if time stamps are off.
    pub(crate) stamp_ns: A::U64,
    /// Length of the message in bytes.
    pub(crate) len: A::U64,
}

/// A copy of the control page.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct ControlPage {
    pub(crate) identity: Identity,
    pub(crate) producer: Producer<Plain>,
    pub(crate) consumers: Consumers<Plain>,
    pub(crate) type_name: [u8; 64],
    pub(crate) records: [Record<Plain>; RECORDS],
}

const _: () = {
    assert!(size_of::<ControlPage>() == CONTROL_BYTES);
    assert!(size_of::<Identity>() == PRODUCER_AT);
    assert!(PRODUCER_AT + size_of::<Producer<Native>>() == CONSUMERS_AT);
    assert!(CONSUMERS_AT + size_of::<Consumers<Native>>() == TYPE_NAME_AT);
    assert!(TYPE_NAME_AT + size_of::<TypeName>() == RECORDS_AT);
    assert!(RECORDS_AT + RECORDS * size_of::<Record<Native>>() == CONTROL_BYTES);
    assert!(size_of::<SlotHeader<Native>>() == SLOT_HEADER_BYTES && SLOT_HEADER_BYTES >= MAX_ALIGN);
    assert!(size_of::<SlotState<Native>>() == SLOT_STATE_BYTES);
    assert!(STATES_AT.is_multiple_of(SLOT_STATE_BYTES) && (SLOT_ALIGN as usize).is_multiple_of(SLOT_STATE_BYTES));
    assert!(MIN_SLOT_BYTES as usize >= SLOT_OVERHEAD_BYTES + MAX_ALIGN);
    assert!(DEFAULT_SLOTS as u64 * DEFAULT_SLOT_BYTES + CONTROL_BYTES as u64 == 69_632);
};
