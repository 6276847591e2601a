//! The clocks of messages and of liveness checks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time on the clock that stamps messages: CLOCK_MONOTONIC in nanoseconds, the same for all
/// processes of the machine.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The time on CLOCK_MONOTONIC_COARSE, which is cheap to read and a few milliseconds behind.
pub(crate) fn coarse_now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A number that changes with every tick of the coarse clock, and has no other meaning.
#[inline]
pub(crate) fn coarse_tick() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    (now.tv_sec as u64) << 30 | now.tv_nsec as u64
}
