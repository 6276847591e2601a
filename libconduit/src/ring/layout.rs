//! The byte layout of a topic's region, version 3.
//!
//! ```text
//!     0  Identity      64  immutable: magic, version, geometry, type, owner
//!    64  Producer      64  written by the publisher: head, counters
//!   128  Consumers     64  written by both sides: wake word, mask of sleepers
//!   192  type name     64  immutable
//!   256  Record x R    64  each, written by one subscriber; padded to a multiple of 4096
//!     C  SlotState x N    128  each, who holds a slot: written by subscribers
//!     .  slot x N          slot_bytes - 128 each: Entry (32), then the payload at 32 or 64
//! ```
//!
//! R is 60 by default, for which C is 4096. N is 2 to 65,536, and fastest if a power of two.
//!
//! An *entry* describes the message of a position; a *slot* contains a payload. Entry i lies in
//! front of the payload of slot i, and usually describes it: then a message whose payload begins at
//! 32 and has at most 32 bytes is a single cache line, and others begin in the second line of a
//! pair.
//!
//! Parts with different writers have different cache lines. Processors fetch lines in pairs of 128
//! bytes. So an entry, which waiting subscribers poll, shares its pair with the start of the
//! payload, which they need next; and the state, which subscribers write, has a pair to itself. As
//! the states are apart, the entries of a default topic are not 4096 bytes from each other, which
//! would map all of them to the same cache sets.
//!
//! All integers are in native byte order: a region never leaves its machine. A peer may have
//! written anything: [`Layout::check`](super::header::Layout::check) validates the immutable parts
//! once, on open, and they are not read again. Reserved bytes are zero.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::message::{MAX_ALIGN, TypeName};
use crate::shm::atomics::{Native, Plain, WordFamily};

/// Incremented with every change of this file that older programs would misread.
pub(crate) const VERSION: u32 = 3;

/// Subscriber records of a region unless its creator asks for more.
pub(crate) const DEFAULT_RECORDS: u16 = 60;
pub(crate) const MAX_RECORDS: u16 = 1024;
/// Records with a bit in the states of slots. A subscriber with another record can only copy.
pub(crate) const PINNING_RECORDS: usize = 60;
/// The bits of a slot's state that stand for readers.
pub(crate) const READERS: u64 = (1 << PINNING_RECORDS) - 1;
/// In an entry's position: the message's slot was taken for a newer one.
pub(crate) const TAKEN: u64 = 1 << 63;
/// In an entry's position: the topic has ended before the next position.
pub(crate) const ENDED: u64 = 1 << 62;
/// The rest of an entry's position.
pub(crate) const NUMBER: u64 = ENDED - 1;
/// The records begin within the first page, and are padded to whole pages.
pub(crate) const PAGE_BYTES: usize = 4096;
pub(crate) const SLOT_STATE_BYTES: usize = 128;
/// Where the payload begins in a slot, unless it is in the line of the entry.
pub(crate) const PAYLOAD_AT: usize = 64;
/// Where a payload begins that is in the line of the entry.
pub(crate) const INLINE_PAYLOAD_AT: usize = 32;
/// Size of a slot without its payload.
pub(crate) const SLOT_OVERHEAD_BYTES: usize = SLOT_STATE_BYTES + PAYLOAD_AT;

pub(crate) const DEFAULT_SLOTS: u32 = 16;
pub(crate) const DEFAULT_SLOT_BYTES: u64 = 4096;
pub(crate) const MAX_SLOTS: u32 = 1 << 16;
/// A slot is a whole number of pairs of cache lines, the payload at least one line.
pub(crate) const SLOT_ALIGN: u64 = 128;
pub(crate) const MIN_SLOT_BYTES: u64 = 256;
/// Slots of this size lie two pairs of lines apart. Processors that read one entry fetch the next
/// pair, too, and would take it from a publisher that is writing there.
pub(crate) const SPACIOUS_SLOT_BYTES: u64 = 384;

pub(crate) const PRODUCER_AT: usize = 64;
pub(crate) const CONSUMERS_AT: usize = 128;
pub(crate) const TYPE_NAME_AT: usize = 192;
pub(crate) const RECORDS_AT: usize = 256;
pub(crate) const RECORD_BYTES: usize = 64;

/// The immutable start of a region, as written by its creator.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Identity {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) slots: u32,
    pub(crate) slot_bytes: u64,
    pub(crate) type_size: u64,
    pub(crate) type_align: u8,
    /// 0: one value, 1: a slice.
    pub(crate) type_kind: u8,
    /// Where the payload begins in a slot: [`PAYLOAD_AT`] or [`INLINE_PAYLOAD_AT`].
    pub(crate) payload_at: u8,
    /// Reserved for lossless and for retained topics.
    pub(crate) flags: u8,
    /// Number of records.
    pub(crate) records: u16,
    /// Messages that are kept for late joiners.
    pub(crate) retain: u16,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    /// The owner's command name, padded with NUL. A claim; the registry has the verified name.
    pub(crate) program: [u8; 16],
}

/// The publisher's counters, written with every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
#[repr(C, align(64))]
pub(crate) struct Producer<A: WordFamily> {
    /// Messages published so far, which is the next position.
    pub(crate) head: A::U64,
    /// Bytes of all messages published so far.
    pub(crate) bytes: A::U64,
    /// The current window of [`super::window`]: when its first message was published, and what
    /// `head` and `bytes` were then, that message included.
    pub(crate) window_stamp_ns: A::U64,
    pub(crate) window_published: A::U64,
    pub(crate) window_bytes: A::U64,
    /// The previous window: its length in microseconds, and the messages and bytes published in it.
    pub(crate) previous_us: A::U32,
    pub(crate) previous_messages: A::U32,
    pub(crate) previous_bytes: A::U64,
    /// How long the publisher has promised to be silent at most, in nanoseconds; 0: it has not.
    /// Written by the creator of the region alone.
    pub(crate) deadline_ns: A::U64,
}

/// The words that sleep and waking use.
#[derive(FromBytes)]
#[repr(C, align(64))]
pub(crate) struct Consumers<A: WordFamily> {
    /// Bit i: subscriber i sleeps or is about to; bit 63: one without a bit of its own does.
    pub(crate) waiting: A::U64,
    /// The futex word: [`CLOSED`], [`ORPHANED`] and [`UNLINKED`], above [`FLAG_BITS`] a count of
    /// wake-ups.
    pub(crate) wake: A::U32,
    /// One more than the highest record that was ever claimed.
    pub(crate) record_limit: A::U32,
    /// Reserved for lossless topics: the position that the publisher waits for, and the futex word
    /// that it sleeps on.
    pub(crate) gate: A::U64,
    pub(crate) gate_wake: A::U32,
    pub(crate) gating: A::U32,
}

/// In the wake word: the publisher has closed the topic.
pub(crate) const CLOSED: u32 = 1;
/// In the wake word: a reaper found the publisher dead.
pub(crate) const ORPHANED: u32 = 2;
/// In the wake word: the topic is live, but its name was removed.
pub(crate) const UNLINKED: u32 = 4;
/// The bits of the wake word that are flags, or reserved for flags.
pub(crate) const FLAG_BITS: u32 = 8;
/// One wake-up. The count overflows off the top of the word and so never reaches the flags.
pub(crate) const ONE_WAKE: u32 = 1 << FLAG_BITS;

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
    /// The next position to receive, or [`NO_CURSOR`].
    pub(crate) cursor: A::U64,
    pub(crate) reserved: [A::U32; 3],
    /// Reserved, for gating subscribers.
    pub(crate) flags: A::U32,
}

/// In a record: its holder receives nothing.
pub(crate) const NO_CURSOR: u64 = u64::MAX;

/// Who holds a slot.
#[repr(C, align(128))]
pub(crate) struct SlotState<A: WordFamily> {
    /// Bit i: held by record i.
    pub(crate) word: A::U64,
    /// When the message was published that was held last: CLOCK_MONOTONIC in nanoseconds, or 0.
    pub(crate) stamp_ns: A::U64,
}

/// The message of a position, as written by the publisher.
#[derive(FromBytes)]
#[repr(C, align(32))]
pub(crate) struct MessageEntry<A: WordFamily> {
    /// 0: never written; h + 1: the message of position h. Flags: [`TAKEN`], [`ENDED`].
    pub(crate) position: A::U64,
    /// When the message was published, CLOCK_MONOTONIC in nanoseconds; 0 if time stamps are off.
    pub(crate) stamp_ns: A::U64,
    /// Length of the message in bytes.
    pub(crate) len: A::U64,
    /// Index of the slot with the message.
    pub(crate) slot: A::U32,
    pub(crate) reserved: A::U32,
}

/// A copy of the first page, with the records that are in it.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct ControlPage {
    pub(crate) identity: Identity,
    pub(crate) producer: Producer<Plain>,
    pub(crate) consumers: Consumers<Plain>,
    pub(crate) type_name: [u8; 64],
    pub(crate) records: [Record<Plain>; DEFAULT_RECORDS as usize],
}

const _: () = {
    assert!(size_of::<ControlPage>() == PAGE_BYTES);
    assert!(size_of::<Identity>() == PRODUCER_AT);
    assert!(PRODUCER_AT + size_of::<Producer<Native>>() == CONSUMERS_AT);
    assert!(CONSUMERS_AT + size_of::<Consumers<Native>>() == TYPE_NAME_AT);
    assert!(TYPE_NAME_AT + size_of::<TypeName>() == RECORDS_AT);
    assert!(size_of::<Record<Native>>() == RECORD_BYTES);
    assert!(RECORDS_AT + DEFAULT_RECORDS as usize * RECORD_BYTES == PAGE_BYTES);
    assert!(size_of::<MessageEntry<Native>>() == INLINE_PAYLOAD_AT);
    assert!(PAYLOAD_AT >= MAX_ALIGN && INLINE_PAYLOAD_AT < PAYLOAD_AT);
    assert!(size_of::<SlotState<Native>>() == SLOT_STATE_BYTES);
    assert!(PAGE_BYTES.is_multiple_of(SLOT_STATE_BYTES) && (SLOT_ALIGN as usize).is_multiple_of(SLOT_STATE_BYTES));
    assert!(MIN_SLOT_BYTES as usize >= SLOT_OVERHEAD_BYTES + MAX_ALIGN);
    assert!(DEFAULT_SLOTS as u64 * DEFAULT_SLOT_BYTES + PAGE_BYTES as u64 == 69_632);
    assert!(NUMBER & (TAKEN | ENDED) == 0);
};
