//! How a region is divided into slots.

use super::layout::{
    CONTROL_BYTES, MAX_SLOTS, MIN_SLOT_BYTES, SLOT_ALIGN, SLOT_OVERHEAD_BYTES, SLOT_STATE_BYTES, STATES_AT,
};

/// Number and size of a region's slots. Values of this type are consistent, even if they come from
/// a hostile header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    slots: u32,
    slot_bytes: u64,
}

/// Why a topic cannot have the slots asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// The number of slots is not a power of two, or out of range.
    #[error("a topic cannot have {0} slots; use a power of two from 2 to {MAX_SLOTS}")]
    Slots(u64),
    /// The slots are too small, or their size is not a multiple of two cache lines.
    #[error(
        "a slot cannot have {0} bytes; use a multiple of {SLOT_ALIGN} that is at least {MIN_SLOT_BYTES} ({SLOT_OVERHEAD_BYTES} are its header)"
    )]
    SlotBytes(u64),
    /// The region would be larger than any file.
    #[error("{slots} slots of {slot_bytes} bytes exceed the size of any file; use fewer or smaller slots")]
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

    /// Offset of the state of a position's slot in the region.
    #[inline(always)]
    pub(crate) fn state_at(self, position: u64) -> usize {
        STATES_AT + self.index_of(position) * SLOT_STATE_BYTES
    }

    /// Offset of the header of a position's slot in the region; the payload follows.
    #[inline(always)]
    pub(crate) fn slot_at(self, position: u64) -> usize {
        let states_bytes = self.slots as usize * SLOT_STATE_BYTES;
        STATES_AT + states_bytes + self.index_of(position) * (self.slot_bytes as usize - SLOT_STATE_BYTES)
    }
}
