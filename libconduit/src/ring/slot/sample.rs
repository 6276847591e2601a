//! Reading a message: pinned in its slot, or a copy of it.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::mapped::MappedRing;
use crate::message::Message;
use crate::mutation::{mutated, step};
use crate::ring::copy::Line;
use crate::ring::reader::{Received, unpin};

/// A received message: pinned in its slot, or a copy of it.
#[derive(Debug)]
pub(crate) struct HeldMessage<T: ?Sized> {
    value: NonNull<T>,
    sequence: u64,
    stamp_ns: u64,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Slot(PinnedSlot),
    Copy(Box<OwnCopy>),
}

/// A message outside of its slot. In a box, so that samples in their slots are small.
#[derive(Debug)]
struct OwnCopy {
    epoch: u32,
    #[expect(dead_code, reason = "owns what `value` points to")]
    lines: Vec<Line>,
}

#[derive(Debug)]
struct PinnedSlot {
    ring: Arc<MappedRing>,
    slot: u32,
    record: u32,
}

impl Drop for PinnedSlot {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.ring.is_foreign() || mutated!(sample_unpin_in_child) {
            step!(sample_unpin, unpin(&*self.ring, self.slot, self.record as usize));
        }
    }
}

// SAFETY: it gives out `&T` alone; its parts may be dropped on any thread, since unpinning is
// atomic.
unsafe impl<T: ?Sized + Send + Sync> Send for HeldMessage<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for HeldMessage<T> {}

/// The message's bytes are no value of the type.
#[derive(Debug)]
pub(crate) struct Invalid;

impl<T: ?Sized + Message> HeldMessage<T> {
    /// A message that `record` has pinned. If its bytes are no `T`, it is unpinned.
    #[inline(always)]
    pub(crate) fn pinned(ring: &Arc<MappedRing>, record: usize, message: &Received) -> Result<Self, Invalid> {
        let pin = PinnedSlot { ring: Arc::clone(ring), slot: message.slot, record: record as u32 };
        let value = view_pinned(&pin.ring, message)?;
        Ok(Self { value, sequence: message.sequence, stamp_ns: message.stamp_ns, storage: Storage::Slot(pin) })
    }

    /// A message that was copied out and validated.
    pub(crate) fn copied(lines: Vec<Line>, message: &Received, epoch: u32) -> Result<Self, Invalid> {
        let value = NonNull::from(view_copy(&lines, message.len)?);
        // Moving the vector does not move what it holds.
        let storage = Storage::Copy(Box::new(OwnCopy { epoch, lines }));
        Ok(Self { value, sequence: message.sequence, stamp_ns: message.stamp_ns, storage })
    }
}

/// A pinned message that is lent for a while.
#[derive(Debug)]
pub(crate) struct LentMessage<'a, T: ?Sized> {
    value: NonNull<T>,
    ring: &'a MappedRing,
    slot: u32,
    record: usize,
    _reads: PhantomData<&'a T>,
}

impl<'a, T: ?Sized + Message> LentMessage<'a, T> {
    /// A message that `record` has pinned. If its bytes are no `T`, it is unpinned.
    #[inline(always)]
    pub(crate) fn pinned(ring: &'a MappedRing, record: usize, message: &Received) -> Result<Self, Invalid> {
        let slot = message.slot;
        match view_pinned(ring, message) {
            Ok(value) => Ok(Self { value, ring, slot, record, _reads: PhantomData }),
            Err(invalid) => {
                step!(invalid_unpin, unpin(ring, slot, record));
                Err(invalid)
            }
        }
    }
}

impl<T: ?Sized> Drop for LentMessage<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.ring.is_foreign() || mutated!(lent_unpin_in_child) {
            step!(lent_unpin, unpin(self.ring, self.slot, self.record));
        }
    }
}

impl<T: ?Sized> Deref for LentMessage<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pointer came from a reference to a valid value in a slot that is pinned until
        // `self` is dropped.
        unsafe { self.value.as_ref() }
    }
}

/// The value of a pinned message.
#[inline(always)]
fn view_pinned<T: ?Sized + Message>(ring: &MappedRing, message: &Received) -> Result<NonNull<T>, Invalid> {
    // SAFETY: within the slot's payload (`len` is clamped to the capacity). The pin keeps an honest
    // publisher from writing it, and the caller keeps pin and mapping. A hostile process with write
    // access can break this promise: see "Trust model" in the crate's documentation.
    let bytes = unsafe { slice::from_raw_parts(ring.payload(message.slot).as_ptr(), message.len) };
    T::view(bytes).map(NonNull::from).ok_or(Invalid)
}

/// The value of a message that was copied out.
pub(crate) fn view_copy<T: ?Sized + Message>(lines: &[Line], len: usize) -> Result<&T, Invalid> {
    let bytes = lines.as_bytes().get(..len).ok_or(Invalid)?;
    T::view(bytes).ok_or(Invalid)
}

impl<T: ?Sized> HeldMessage<T> {
    /// Whether the value lies in shared memory.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.storage, Storage::Slot(_))
    }

    /// Which publisher of its subscriber sent it.
    pub(crate) fn epoch(&self) -> u32 {
        match &self.storage {
            Storage::Slot(pin) => pin.ring.epoch(),
            Storage::Copy(copy) => copy.epoch,
        }
    }

    /// The message's sequence number.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the message was published; 0 if its publisher does not say.
    pub(crate) fn stamp_ns(&self) -> u64 {
        self.stamp_ns
    }
}

impl<T: ?Sized> Deref for HeldMessage<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pointer came from a reference to a valid value that `storage` keeps alive and
        // unchanged.
        unsafe { self.value.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use zerocopy::invariant::Alignment;
    use zerocopy::{FromBytes, FromZeros, Immutable, KnownLayout, Maybe, TryFromBytes};

    use super::*;

    thread_local! {
        static CHECKS: Cell<usize> = const { Cell::new(0) };
    }

    /// A byte whose checks are counted, although it needs none.
    #[derive(crate::Message, IntoBytes, KnownLayout, Immutable)]
    #[repr(transparent)]
    struct Counted(u8);

    // SAFETY: all bytes are valid.
    unsafe impl TryFromBytes for Counted {
        fn only_derive_is_allowed_to_implement_this_trait() {}

        fn is_safe<A: Alignment>(_candidate: Maybe<'_, Self, A>) -> bool {
            CHECKS.set(CHECKS.get() + 1);
            true
        }
    }
    // SAFETY: as above.
    unsafe impl FromZeros for Counted {
        fn only_derive_is_allowed_to_implement_this_trait() {}
    }
    // SAFETY: as above.
    unsafe impl FromBytes for Counted {
        fn only_derive_is_allowed_to_implement_this_trait() {}
    }

    #[derive(crate::Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
    #[repr(C)]
    struct Image {
        rows: [[Counted; 4]; 8],
    }

    /// In an unoptimised build a check takes a tenth of a microsecond, whatever it checks.
    #[test]
    fn nothing_is_checked_of_which_all_bytes_are_valid() {
        let lines = [Line([0; 8])];
        assert!(view_copy::<[Image]>(&lines, 64).is_ok_and(|images| images.len() == 2 && images[1].rows.len() == 8));
        assert!(view_copy::<[Image; 2]>(&lines, 64).is_ok());
        assert!(view_copy::<Image>(&lines, 32).is_ok());
        // Of a structure that derives FromBytes nothing is checked anyway, except one by one.
        assert!(view_copy::<[Counted]>(&lines, 64).is_ok_and(|all| all.len() == 64));
        assert!(view_copy::<Counted>(&lines, 1).is_ok());
        assert_eq!(CHECKS.get(), 0);
        assert!(<[Counted]>::try_ref_from_bytes(lines.as_bytes()).is_ok());
        assert_eq!(CHECKS.get(), 64, "they would be counted");
    }
}
