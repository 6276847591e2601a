//! A slot on loan.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};

use crate::ring::slot::claim::Claimed;
use crate::shm::clock::now_ns;

/// A slot on loan from a [`Publisher`](crate::Publisher), to write a message in place.
///
/// A loan that is dropped without [`publish`](Self::publish) sends nothing; the next loan has the
/// same slot. [`Publisher::discarded_loans`](crate::Publisher::discarded_loans) counts them.
#[must_use = "a loan that is dropped without `publish` sends no message"]
pub struct Loan<'a, T: ?Sized> {
    claimed: Claimed<'a, T>,
    time_stamps: bool,
    discard: Discard<'a>,
}

/// Counts a loan that is dropped. `publish` forgets it, so that counting costs nothing there.
struct Discard<'a>(&'a mut u64);

impl Drop for Discard<'_> {
    fn drop(&mut self) {
        *self.0 += 1;
    }
}

impl<'a, T: ?Sized> Loan<'a, T> {
    #[inline(always)]
    pub(super) fn new(claimed: Claimed<'a, T>, time_stamps: bool, discarded_loans: &'a mut u64) -> Self {
        Self { claimed, time_stamps, discard: Discard(discarded_loans) }
    }
}

impl<T: ?Sized> Loan<'_, T> {
    /// Publishes the message.
    #[inline(always)]
    pub fn publish(self) {
        let Self { claimed, time_stamps, discard } = self;
        mem::forget(discard);
        claimed.publish(|| stamp(time_stamps));
    }
}

impl<E> Loan<'_, [E]> {
    /// Shortens the message to its first `len` elements. Does nothing if it is no longer than that.
    ///
    /// If the type was given at run time, the new length must be valid for it: this is not checked
    /// here, and subscribers reject invalid lengths.
    pub fn truncate(&mut self, len: usize) {
        self.claimed.truncate(len);
    }
}

impl<T: ?Sized> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.claimed
    }
}

impl<T: ?Sized> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.claimed
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The time stamp of a message that is published now, or 0 without time stamps.
pub(super) fn stamp(enabled: bool) -> u64 {
    if enabled { now_ns() } else { 0 }
}
