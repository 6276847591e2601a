//! The atomic operations of the ring, abstracted: the same code runs on mapped memory, writable or
//! not, and in a model checker.

use std::sync::atomic::{self, AtomicU32, AtomicU64, Ordering};

/// An atomic integer that can be read.
pub(crate) trait AtomicLoad<T> {
    fn load(&self, order: Ordering) -> T;
}

/// An atomic integer that can be written.
pub(crate) trait Atomic<T>: AtomicLoad<T> {
    fn store(&self, value: T, order: Ordering);
    fn swap(&self, value: T, order: Ordering) -> T;
    fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T>;
    fn fetch_add(&self, value: T, order: Ordering) -> T;
    fn fetch_and(&self, value: T, order: Ordering) -> T;
    fn fetch_or(&self, value: T, order: Ordering) -> T;
}

/// A family of words.
pub(crate) trait WordFamily {
    type U32;
    type U64;
}

/// The words of a copy, which no other process changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plain;

impl WordFamily for Plain {
    type U32 = u32;
    type U64 = u64;
}

/// A family of atomics.
pub(crate) trait Atomics: WordFamily<U32: AtomicLoad<u32>, U64: AtomicLoad<u64>> + 'static {
    /// A counter in this process's own memory.
    type Counter: Atomic<u32> + Default;

    #[inline]
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

/// A family of atomics that can be written.
pub(crate) trait WritableAtomics: Atomics<U32: Atomic<u32>, U64: Atomic<u64>> {
    /// Sets bits and returns the old value. If `order` is sequentially consistent, no load of that
    /// order that follows is executed before, as by a fence in between, which this saves.
    fn fetch_or_before_loads(word: &Self::U64, bits: u64, order: Ordering) -> u64;
}

impl WritableAtomics for Native {
    #[inline(always)]
    fn fetch_or_before_loads(word: &AtomicU64, bits: u64, order: Ordering) -> u64 {
        word.fetch_or(bits, order)
    }
}

/// The processor's own.
#[derive(Default)]
pub(crate) struct Native;

impl WordFamily for Native {
    type U32 = AtomicU32;
    type U64 = AtomicU64;
}

impl Atomics for Native {
    type Counter = AtomicU32;
}

/// The processor's own, in memory that may be read-only.
pub(crate) enum NativeLoads {}

impl WordFamily for NativeLoads {
    type U32 = LoadOnly<AtomicU32>;
    type U64 = LoadOnly<AtomicU64>;
}

impl Atomics for NativeLoads {
    type Counter = AtomicU32;
}

/// An atomic integer in memory that may be read-only: it has no operation that writes.
///
/// In such memory the standard library defines relaxed loads alone (see
/// [`std::sync::atomic`](std::sync::atomic#atomic-accesses-to-read-only-memory)). An acquire load
/// is a relaxed load and an acquire fence, which orders at least as much.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct LoadOnly<T>(T);

impl LoadOnly<AtomicU32> {
    /// The word, for system calls that only read it.
    pub(super) fn word(&self) -> &AtomicU32 {
        &self.0
    }
}

impl<T, A: AtomicLoad<T>> AtomicLoad<T> for LoadOnly<A> {
    #[inline]
    fn load(&self, order: Ordering) -> T {
        let value = self.0.load(Ordering::Relaxed);
        if order != Ordering::Relaxed {
            atomic::fence(order);
        }
        value
    }
}

macro_rules! forward_atomic {
    ($atomic:ty, $integer:ty) => {
        impl $crate::shm::atomics::AtomicLoad<$integer> for $atomic {
            #[inline]
            fn load(&self, order: Ordering) -> $integer {
                self.load(order)
            }
        }

        impl $crate::shm::atomics::Atomic<$integer> for $atomic {
            #[inline]
            fn store(&self, value: $integer, order: Ordering) {
                self.store(value, order);
            }
            #[inline]
            fn swap(&self, value: $integer, order: Ordering) -> $integer {
                self.swap(value, order)
            }
            #[inline]
            fn compare_exchange(
                &self,
                current: $integer,
                new: $integer,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$integer, $integer> {
                self.compare_exchange(current, new, success, failure)
            }
            #[inline]
            fn fetch_add(&self, value: $integer, order: Ordering) -> $integer {
                self.fetch_add(value, order)
            }
            #[inline]
            fn fetch_and(&self, value: $integer, order: Ordering) -> $integer {
                self.fetch_and(value, order)
            }
            #[inline]
            fn fetch_or(&self, value: $integer, order: Ordering) -> $integer {
                self.fetch_or(value, order)
            }
        }
    };
}
#[cfg(test)]
pub(crate) use forward_atomic;
forward_atomic!(AtomicU32, u32);
forward_atomic!(AtomicU64, u64);
