//! The ring's shared structures as plain bytes: for writing a new control page, and for reading one
//! with `pread`.

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{CONTROL_BYTES, Consumers, Identity, Producer, RECORDS, Record, SlotHeader};
use crate::shm::atomics::Native;

/// The control page.
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

const _: () = {
    assert!(size_of::<ControlSnapshot>() == CONTROL_BYTES);
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
};
