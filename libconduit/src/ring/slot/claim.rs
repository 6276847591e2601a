//! Writing a message in place: a claimed slot as a typed value.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use super::mapped::MappedRing;
use crate::mutation::{mutated, step};
use crate::ring::memory::Memory;
use crate::ring::writer::{AllSlotsHeld, Claim, Run, Writer};

/// A claimed slot as a value of type `T`. Dropped without `publish`, it is the next one to be
/// claimed.
#[derive(Debug)]
pub(crate) struct Claimed<'a, T: ?Sized> {
    claim: Claim<'a, MappedRing>,
    value: NonNull<T>,
    _writes: PhantomData<&'a mut T>,
}

// SAFETY: `claim` is Send, and `value` stands for a `&mut T` into memory that `claim` borrows.
unsafe impl<T: ?Sized + Send> Send for Claimed<'_, T> {}
// SAFETY: `claim` is Sync, and through `&self` only a `&T` is reachable.
unsafe impl<T: ?Sized + Sync> Sync for Claimed<'_, T> {}

/// Why a slot could not be claimed as a value.
#[derive(Debug)]
pub(crate) enum ClaimError {
    AllSlotsHeld,
    /// The slot cannot hold the message, or no `T` has its length.
    Size,
}

impl<'a> Claimed<'a, [u8]> {
    /// Claims a slot for `len` bytes of unspecified content.
    #[inline(always)]
    pub(crate) fn new(writer: &'a mut Writer<MappedRing>, len: usize) -> Result<Self, ClaimError> {
        if len > writer.memory().capacity() && !mutated!(claim_of_any_size) {
            return Err(ClaimError::Size);
        }
        let claim = writer.claim().map_err(|AllSlotsHeld| ClaimError::AllSlotsHeld)?;
        let value = NonNull::slice_from_raw_parts(claim.memory().payload(claim.slot()), len);
        Ok(Self { claim, value, _writes: PhantomData })
    }

    /// Converts the bytes to a type for which any bytes are valid.
    #[inline(always)]
    pub(crate) fn cast<T>(mut self) -> Result<Claimed<'a, T>, ClaimError>
    where
        T: ?Sized + FromBytes + IntoBytes + KnownLayout<PointerMetadata: Sized> + Immutable,
    {
        let value = NonNull::from(T::mut_from_bytes(&mut self).map_err(|_| ClaimError::Size)?);
        Ok(self.with_value(value))
    }

    /// Zeroes the bytes and converts them to a type for which zeros are valid.
    #[inline(always)]
    pub(crate) fn cast_zeroed<T>(mut self) -> Result<Claimed<'a, T>, ClaimError>
    where
        T: ?Sized + TryFromBytes + zerocopy::FromZeros + IntoBytes + KnownLayout<PointerMetadata: Sized> + Immutable,
    {
        step!(zeroing, self.fill(0));
        let value = NonNull::from(T::try_mut_from_bytes(&mut self).map_err(|_| ClaimError::Size)?);
        Ok(self.with_value(value))
    }

    #[inline(always)]
    fn with_value<T: ?Sized>(self, value: NonNull<T>) -> Claimed<'a, T> {
        Claimed { claim: self.claim, value, _writes: PhantomData }
    }
}

impl<T> Claimed<'_, [T]> {
    /// Shortens the message to `len` elements; a longer `len` changes nothing.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.value.len() || mutated!(truncate_to_more) {
            self.value = NonNull::slice_from_raw_parts(self.value.cast(), len);
        }
    }
}

/// Slots for many messages in a row; see [`Run`].
#[derive(Debug)]
pub(crate) struct ClaimedRun<'a> {
    /// `None` once the process turned out to be a child of the publisher's.
    run: Option<Run<'a, MappedRing>>,
    stamp_ns: u64,
}

impl<'a> ClaimedRun<'a> {
    /// For `expected` messages, or fewer, or more.
    #[inline(always)]
    pub(crate) fn new(writer: &'a mut Writer<MappedRing>, expected: usize) -> Self {
        Self { run: Some(writer.run(expected as u64)), stamp_ns: 0 }
    }

    /// Publishes a copy of a message. The messages of a chunk have the time of its beginning.
    #[inline(always)]
    pub(crate) fn send(&mut self, message: &[u8], stamp_ns: impl FnOnce() -> u64) -> Result<(), ClaimError> {
        self.check_process();
        // The message is the parent's.
        let Some(run) = &mut self.run else { return Ok(()) };
        if message.len() > run.memory().capacity() {
            return Err(ClaimError::Size);
        }
        let (slot, begins_chunk) = run.slot().map_err(|AllSlotsHeld| ClaimError::AllSlotsHeld)?;
        if begins_chunk {
            self.stamp_ns = stamp_ns();
        }
        let payload = run.memory().payload(slot);
        // SAFETY: the message fits into the payload, as was just compared. The slot is claimed, so
        // that no reader can pin it and no honest process writes it, and `message` does not overlap
        // with it, since only a loan, which borrows the writer, refers to a claimed slot.
        unsafe { payload.copy_from_nonoverlapping(NonNull::from(message).cast(), message.len()) };
        run.publish(message.len(), self.stamp_ns);
        Ok(())
    }

    /// A process that was forked between two messages does not have the memory.
    #[inline(always)]
    fn check_process(&mut self) {
        if self.run.as_ref().is_some_and(|run| run.memory().is_foreign()) {
            std::mem::forget(self.run.take());
        }
    }
}

impl Drop for ClaimedRun<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.check_process();
    }
}

impl<T: ?Sized> Claimed<'_, T> {
    #[inline(always)]
    pub(crate) fn publish(self, stamp_ns: impl FnOnce() -> u64) {
        // In a process forked during the loan, the memory is the parent's, and so is the message.
        if !self.claim.memory().is_foreign() || mutated!(publish_in_child) {
            let len = size_of_val::<T>(&self);
            self.claim.publish(len, stamp_ns);
        }
    }
}

impl<T: ?Sized> Deref for Claimed<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the pointer came from a reference to a valid value in the slot's payload, which
        // the claim keeps mapped. Until the claim ends no reader can pin the slot, and no honest
        // process writes it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for Claimed<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; `self` is borrowed mutably, so this is the only reference.
        unsafe { self.value.as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use crate::{Domain, LoanError, Publisher};

    fn domain() -> (tempfile::TempDir, Domain) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        (directory, domain)
    }

    #[test]
    fn a_loan_beyond_the_slot_is_refused() {
        let (_directory, domain) = domain();
        let mut publisher = Publisher::<[u8]>::builder().domain(&domain).create("bytes").unwrap();
        let capacity = publisher.capacity();
        assert_eq!(publisher.loan_slice(capacity).unwrap().len(), capacity);
        let error = publisher.loan_slice(capacity + 1).unwrap_err();
        assert!(matches!(error, LoanError::MessageTooLarge { len, .. } if len == capacity + 1));
    }

    #[test]
    fn a_zeroed_loan_has_nothing_of_the_message_before() {
        let (_directory, domain) = domain();
        let mut publisher = Publisher::<u64>::builder().domain(&domain).slots(2).create("ticks").unwrap();
        for _ in 0..4 {
            let loan = publisher.loan_zeroed().unwrap();
            assert_eq!(*loan, 0);
            loan.publish();
            publisher.send(&u64::MAX).unwrap();
            publisher.send(&u64::MAX).unwrap();
        }
    }

    #[test]
    fn a_loan_belongs_to_the_parent_alone() {
        let (_directory, domain) = domain();
        let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
        let loan = publisher.loan().unwrap();
        // SAFETY: the child publishes, which does nothing there, and exits.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                loan.publish();
                // SAFETY: `_exit` is async-signal-safe.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
        }
        loan.publish();
        assert_eq!(publisher.published(), 1);
    }
}
