//! A received message.

use std::fmt;
use std::ops::Deref;

use crate::ring::slot::sample::HeldMessage;

/// A received message. While the sample lives, the publisher does not overwrite its slot. It may
/// outlive the subscriber and the topic, and be sent to another thread.
///
/// In a process forked from the subscriber's, reading a zero-copy sample is an invalid memory
/// access: the region is not inherited.
#[must_use = "a sample that is dropped unread is received all the same"]
pub struct Sample<T: ?Sized> {
    pub(super) held: HeldMessage<T>,
    pub(super) lost: u64,
}

/// The accessors that every form of a received message has.
macro_rules! message_accessors {
    ($sequence:expr, $lost:expr, $stamp_ns:expr) => {
        /// The message's sequence number: the publisher counts from 0, without gaps.
        pub fn sequence(&self) -> u64 {
            $sequence(self)
        }

        /// How many messages this subscriber lost between the previous one and this one.
        pub fn lost(&self) -> u64 {
            $lost(self)
        }

        /// When it was published: CLOCK_MONOTONIC in nanoseconds; `None` if the publisher's time
        /// stamps are off.
        pub fn stamp_ns(&self) -> Option<u64> {
            Some($stamp_ns(self)).filter(|&stamp_ns| stamp_ns != 0)
        }

        /// How long ago it was published; `None` if the publisher's time stamps are off.
        pub fn age(&self) -> Option<std::time::Duration> {
            let now_ns = $crate::shm::clock::now_ns();
            self.stamp_ns().map(|stamp_ns| std::time::Duration::from_nanos(now_ns.saturating_sub(stamp_ns)))
        }
    };
}
pub(super) use message_accessors;

impl<T: ?Sized> Sample<T> {
    message_accessors!(|sample: &Self| sample.held.sequence(), |sample: &Self| sample.lost, |sample: &Self| {
        sample.held.stamp_ns()
    });

    /// Which publisher of the subscriber has sent it: 1 for the first, and one more for each other
    /// one that the subscriber has [followed](crate::SubscriberBuilder::follow).
    pub fn epoch(&self) -> u32 {
        self.held.epoch()
    }

    /// Whether the message is read in place; if not, it is a copy.
    pub fn is_zero_copy(&self) -> bool {
        self.held.is_pinned()
    }
}

impl<T: ?Sized> Deref for Sample<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Sample<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
