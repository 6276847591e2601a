//! The atomic operations of the ring, so that it runs on real memory and in a model checker alike.

use std::sync::atomic::{self, AtomicU32, AtomicU64, Ordering};

/// An atomic integer with what the ring needs of one.
pub(crate) trait Atomic<T> {
    fn load(&self, order: Ordering) -> T;
    fn store(&self, value: T, order: Ordering);
    fn swap(&self, value: T, order: Ordering) -> T;
    fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T>;
    fn fetch_add(&self, value: T, order: Ordering) -> T;
    fn fetch_and(&self, value: T, order: Ordering) -> T;
    fn fetch_or(&self, value: T, order: Ordering) -> T;
}

/// A family of atomics.
pub(crate) trait Atomics: 'static {
    type U32: Atomic<u32> + Default;
    type U64: Atomic<u64>;

    fn fence(order: Ordering);
}

/// The processor's own.
pub(crate) enum Native {}

impl Atomics for Native {
    type U32 = AtomicU32;
    type U64 = AtomicU64;

    #[inline]
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

macro_rules! forward_atomic {
    ($atomic:ty, $integer:ty) => {
        impl $crate::shm::atomics::Atomic<$integer> for $atomic {
            #[inline]
            fn load(&self, order: Ordering) -> $integer {
                self.load(order)
            }
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
