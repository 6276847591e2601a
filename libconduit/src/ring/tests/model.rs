//! Models of the ring: loom runs its code under every schedule with a bounded number of
//! preemptions, and with every value that the memory model lets a load return.
//!
//! Two slots or a few more, one writer, up to three readers. A pinned payload is an `UnsafeCell`
//! besides its words: loom refuses every access to it that is not ordered with a write, even if the
//! words happen to be right. A Mutex and a Condvar model the futex, without spurious wake-ups: a
//! lost wake-up is a deadlock. A Mutex models the first lock of a record; the second is only asked
//! for, and modelled by a flag in a Mutex.
//!
//! Bounds: 3 preemptions; 2 where a second reader or a fourth message multiplies the schedules; 1
//! for three readers, for a copying reader that is lapped and for joining while slots are
//! overwritten, where loads have many values to return.
//!
//! Loom takes sequentially consistent accesses for acquire-release, and no load of it returns a
//! value from the future. So it cannot detect why W7 acquires and S2 releases: they keep W8 after
//! W7, and S1 before S2. It does detect that the other order of either pair loses wake-ups.

mod batch;
mod checked;
mod joining;
mod memory;
mod newest;
mod news;
mod overwriting;
mod parked;
mod reclaiming;
mod reuse;
mod sleeping;
mod writing;

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use loom::sync::atomic::AtomicU32;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use self::checked::*;
use self::memory::*;
use crate::ring::end::Gone;
use crate::ring::layout::{ORPHANED, READERS};
use crate::ring::memory::{Memory, WritableMemory};
use crate::ring::reader::{CopyTo, Pin, Reader, Received, unpin};
use crate::ring::reuse::Reuse;
use crate::ring::sleeper::{Sleep, sleep_for_any};
use crate::ring::start::Start;
use crate::ring::writer::{AllSlotsHeld, Writer};
