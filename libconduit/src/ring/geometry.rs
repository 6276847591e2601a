//! How a region is divided into slots.

use super::layout::{
    DEFAULT_RECORDS, INLINE_PAYLOAD_AT, MAX_RECORDS, MAX_SLOTS, MIN_SLOT_BYTES, PAGE_BYTES, PAYLOAD_AT, RECORD_BYTES,
    RECORDS_AT, SLOT_ALIGN, SLOT_OVERHEAD_BYTES, SLOT_STATE_BYTES,
};
use crate::message::{Kind, TypeInfo};
use crate::mutation::mutated;

/// Number and size of a region's slots, and of its records. Values of this type are consistent,
/// even if they come from a hostile header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    slots: u32,
    /// One less than the number of slots if that is a power of two, else 0.
    mask: u32,
    slot_bytes: u64,
    records: u16,
    payload_at: u8,
    /// Offset of the slots' states, computed in advance.
    states_at: usize,
    /// Offset of the first slot, and the distance to the next.
    slots_at: usize,
    stride: usize,
}

/// Why a topic cannot have the slots asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// There are too few slots, or too many.
    #[error("a topic cannot have {0} slots; use 2 to {MAX_SLOTS}")]
    Slots(u64),
    /// The slots are too small, or their size is not a multiple of two cache lines.
    #[error(
        "a slot cannot have {0} bytes; use a multiple of {SLOT_ALIGN} that is at least {MIN_SLOT_BYTES} ({SLOT_OVERHEAD_BYTES} are its header)"
    )]
    SlotBytes(u64),
    /// There are no records, or too many.
    #[error("a topic cannot have records for {0} subscribers; use 1 to {MAX_RECORDS}")]
    Records(u64),
    /// No payload begins there.
    #[error("a payload cannot begin at byte {0} of a slot")]
    Payload(u64),
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
    /// Slots with the default records, and payloads that are aligned for any message.
    pub(crate) fn new(slots: u32, slot_bytes: u64) -> Result<Self, GeometryError> {
        let payload_at = PAYLOAD_AT as u8;
        let records = DEFAULT_RECORDS;
        Self { slots, mask: 0, slot_bytes, records, payload_at, states_at: 0, slots_at: 0, stride: 0 }.check()
    }

    /// With another number of records.
    pub(crate) fn with_records(self, records: u16) -> Result<Self, GeometryError> {
        Self { records, ..self }.check()
    }

    /// With payloads in the line of the entry, if these messages are small enough.
    pub(crate) fn for_messages(self, message: &TypeInfo) -> Self {
        let is_value = message.kind == Kind::Value || mutated!(inline_slices);
        let is_small = message.size <= (PAYLOAD_AT - INLINE_PAYLOAD_AT) as u64 || mutated!(inline_of_any_size);
        let is_aligned = message.align as usize <= INLINE_PAYLOAD_AT || mutated!(inline_of_any_align);
        let is_inline = is_value && is_small && is_aligned && !mutated!(inline_none);
        Self { payload_at: if is_inline { INLINE_PAYLOAD_AT } else { PAYLOAD_AT } as u8, ..self }
    }

    /// With payloads that begin at this byte of a slot.
    pub(crate) fn with_payload_at(self, payload_at: u8) -> Result<Self, GeometryError> {
        Self { payload_at, ..self }.check()
    }

    fn check(self) -> Result<Self, GeometryError> {
        let Self { slots, slot_bytes, records, payload_at, .. } = self;
        if !(2..=MAX_SLOTS).contains(&slots) && !mutated!(slots_of_any_number) {
            return Err(GeometryError::Slots(slots.into()));
        }
        let is_slot = slot_bytes >= MIN_SLOT_BYTES && slot_bytes.is_multiple_of(SLOT_ALIGN);
        if !is_slot && !mutated!(slots_of_any_size) {
            return Err(GeometryError::SlotBytes(slot_bytes));
        }
        if !(1..=MAX_RECORDS).contains(&records) && !mutated!(records_of_any_number) {
            return Err(GeometryError::Records(records.into()));
        }
        if ![INLINE_PAYLOAD_AT, PAYLOAD_AT].contains(&payload_at.into()) && !mutated!(payload_anywhere) {
            return Err(GeometryError::Payload(payload_at.into()));
        }
        let control_bytes = (RECORDS_AT + usize::from(records) * RECORD_BYTES).next_multiple_of(PAGE_BYTES);
        let total = u64::from(slots).checked_mul(slot_bytes);
        let total = total.and_then(|bytes| bytes.checked_add(control_bytes as u64));
        if total.is_none_or(|total| total > i64::MAX as u64) && !mutated!(region_of_any_size) {
            return Err(GeometryError::TooLarge { slots, slot_bytes });
        }
        let slots_at = control_bytes + slots as usize * SLOT_STATE_BYTES;
        let mask = if slots.is_power_of_two() { slots - 1 } else { 0 };
        Ok(Self { mask, states_at: control_bytes, slots_at, stride: slot_bytes as usize - SLOT_STATE_BYTES, ..self })
    }

    #[inline(always)]
    pub(crate) fn slots(self) -> u32 {
        self.slots
    }

    pub(crate) fn slot_bytes(self) -> u64 {
        self.slot_bytes
    }

    #[inline(always)]
    pub(crate) fn records(self) -> usize {
        self.records.into()
    }

    /// Where the payload begins in a slot.
    #[inline(always)]
    pub(crate) fn payload_at(self) -> usize {
        self.payload_at.into()
    }

    /// Largest message in bytes.
    #[inline(always)]
    pub(crate) fn capacity(self) -> usize {
        self.stride - self.payload_at()
    }

    /// Size of everything in front of the slots' states.
    pub(crate) fn control_bytes(self) -> usize {
        self.states_at
    }

    pub(crate) fn region_bytes(self) -> u64 {
        self.control_bytes() as u64 + u64::from(self.slots) * self.slot_bytes
    }

    /// Whether the number of slots is a power of two.
    #[inline(always)]
    pub(crate) fn is_power_of_two(self) -> bool {
        self.mask != 0
    }

    /// Index of the entry of a position: see [`ANY_NUMBER`].
    #[inline(always)]
    pub(crate) fn entry_of<const IS_POWER_OF_TWO: bool>(self, position: u64) -> u32 {
        if IS_POWER_OF_TWO {
            // Truncating keeps the bits that the mask does.
            position as u32 & self.mask
        } else {
            // A division takes some nanoseconds.
            (position % u64::from(self.slots)) as u32
        }
    }

    /// Offset of the state of a slot in the region, for an index that is below the number of slots.
    #[inline(always)]
    pub(crate) fn state_at(self, slot: u32) -> usize {
        self.states_at + slot as usize * SLOT_STATE_BYTES
    }

    /// Offset of a slot in the region, which begins with an entry.
    #[inline(always)]
    pub(crate) fn slot_at(self, slot: u32) -> usize {
        self.slots_at + slot as usize * self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    #[test]
    fn what_no_topic_can_have_is_refused() {
        let default = Geometry::new(16, 4096).unwrap();
        for slots in [0, 1, 2 * MAX_SLOTS] {
            assert_eq!(Geometry::new(slots, 4096), Err(GeometryError::Slots(slots.into())));
        }
        for slot_bytes in [0, MIN_SLOT_BYTES - SLOT_ALIGN, 4096 + 64] {
            assert_eq!(Geometry::new(16, slot_bytes), Err(GeometryError::SlotBytes(slot_bytes)));
        }
        for records in [0, MAX_RECORDS + 1] {
            assert_eq!(default.with_records(records), Err(GeometryError::Records(records.into())));
        }
        assert_eq!(default.with_payload_at(40), Err(GeometryError::Payload(40)));
        for slot_bytes in [1 << 59, 1 << 62] {
            assert_eq!(Geometry::new(16, slot_bytes), Err(GeometryError::TooLarge { slots: 16, slot_bytes }));
        }
    }

    #[test]
    fn small_values_are_in_the_line_of_the_entry() {
        let payload_at = |message: &TypeInfo| Geometry::new(16, 4096).unwrap().for_messages(message).payload_at();
        let value = <[u64; 4]>::TYPE;
        assert_eq!(payload_at(&value), INLINE_PAYLOAD_AT);
        assert_eq!(payload_at(&TypeInfo { size: 33, ..value }), PAYLOAD_AT);
        assert_eq!(payload_at(&TypeInfo { align: 64, ..value }), PAYLOAD_AT);
        assert_eq!(payload_at(&<[u64]>::TYPE), PAYLOAD_AT);
    }
}
