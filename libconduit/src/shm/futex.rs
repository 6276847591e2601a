//! Sleeping on words of regions, and waking the sleepers.
//!
//! See [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html). The words are shared
//! between processes, so none of the calls on them uses `FUTEX_PRIVATE_FLAG`; the calls named
//! `private` are for words of this process alone.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, ClockId, Flags, Timespec, Wait, WaitFlags, WaitPtr, WaitvFlags, WakeOp, WakeOpCmp};

use super::atomics::LoadOnly;
use super::clock::now_ns;
use super::stop_word::{StopWord, is_stop};
use crate::mutation::mutated;

/// How often a call that can be stopped looks whether it is to stop, where the kernel cannot wait
/// for several words at once.
const BLIND_INTERVAL: Duration = Duration::from_millis(10);

/// A word to sleep on. The kernel only reads it.
#[derive(Clone, Copy)]
pub(crate) struct FutexWord<'a>(&'a AtomicU32);

impl<'a> From<&'a AtomicU32> for FutexWord<'a> {
    fn from(word: &'a AtomicU32) -> Self {
        Self(word)
    }
}

impl<'a> From<&'a LoadOnly<AtomicU32>> for FutexWord<'a> {
    fn from(word: &'a LoadOnly<AtomicU32>) -> Self {
        Self(word.word())
    }
}

/// Sleeps while the word is `seen`, at most for `timeout`, unless or until it is to stop. May
/// return early (a spurious wake-up).
pub(crate) fn wait<'a>(word: impl Into<FutexWord<'a>>, seen: u32, timeout: Duration, stop: Option<&StopWord>) {
    wait_or_stop(word.into().0, Visibility::Shared, seen, Some(timeout), stop);
}

/// Which processes share a word.
#[derive(Clone, Copy)]
enum Visibility {
    Shared,
    Private,
}

fn wait_or_stop(
    word: &AtomicU32,
    visibility: Visibility,
    seen: u32,
    mut timeout: Option<Duration>,
    stop: Option<&StopWord>,
) {
    if let Some(stop) = stop.filter(|_| !mutated!(wait_past_stop)) {
        let seen_stop = stop.seen();
        if is_stop(seen_stop) {
            return;
        }
        if can_wait_for_any() {
            let mut words = Words::with_private(stop.word(), seen_stop);
            words.add(word, seen, visibility);
            words.wait(timeout.map(|timeout| now_ns().saturating_add(saturating_ns(timeout))));
            return;
        }
        timeout = Some(timeout.map_or(BLIND_INTERVAL, |timeout| timeout.min(BLIND_INTERVAL)));
    }
    let flags = match visibility {
        Visibility::Shared => Flags::empty(),
        Visibility::Private => Flags::PRIVATE,
    };
    let timeout = timeout.map(|timeout| timespec(saturating_ns(timeout)));
    // EAGAIN (the word has changed), EINTR and ETIMEDOUT all mean that the caller checks again.
    let _ = futex::wait(word, flags, seen, timeout.as_ref());
}

/// Wakes all threads that sleep on the word.
pub(crate) fn wake_all<'a>(word: impl Into<FutexWord<'a>>) {
    let _ = futex::wake(word.into().0, Flags::empty(), i32::MAX as u32);
}

/// Sets bits of the word and wakes all sleepers in one system call. This process itself does not
/// access the memory.
///
/// The kernel writes the word, so a region that was truncated gives EFAULT here instead of SIGBUS
/// to this process. `bits` is below `1 << 11`: the operation's argument has 12 bits, one of them a
/// sign.
pub(crate) fn set_bits_and_wake_all(word: &AtomicU32, bits: u16) -> Result<(), Errno> {
    let all = i32::MAX as u32;
    futex::wake_op(word, Flags::empty(), all, 0, word, WakeOp::Or, WakeOpCmp::Eq, bits, 0).map(drop)
}

/// The most words that can be slept on at once (the kernel's `FUTEX_WAITV_MAX`).
pub(crate) const MOST_WORDS: usize = 128;

/// Whether this process can sleep on several words at once: from Linux 5.16 on, unless a system
/// call filter forbids it.
pub(crate) fn can_wait_for_any() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    // A kernel that has the call rejects an empty list as an invalid argument. A filter may return
    // any other error.
    *CAN.get_or_init(|| futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) == Err(Errno::INVAL))
}

/// Words to sleep on together: see
/// [`futex_waitv`](https://docs.kernel.org/userspace-api/futex2.html).
pub(crate) struct Words<'a> {
    list: [Wait; MOST_WORDS],
    len: usize,
    _words: PhantomData<&'a AtomicU32>,
}

impl<'a> Words<'a> {
    /// Starts with a word that is private to this process.
    pub(crate) fn with_private(word: &'a AtomicU32, seen: u32) -> Self {
        let mut words = Self { list: [Wait::new(); MOST_WORDS], len: 0, _words: PhantomData };
        words.add(word, seen, Visibility::Private);
        words
    }

    /// Adds the word that is set when the caller is to stop, as it was seen.
    ///
    /// # Panics
    ///
    /// If there are [`MOST_WORDS`] already.
    pub(crate) fn push_stop(&mut self, stop: &'a StopWord, seen: u32) {
        self.add(stop.word(), seen, Visibility::Private);
    }

    /// Adds a word of a region.
    ///
    /// # Panics
    ///
    /// If there are [`MOST_WORDS`] already.
    pub(crate) fn push(&mut self, word: impl Into<FutexWord<'a>>, seen: u32) {
        self.add(word.into().0, seen, Visibility::Shared);
    }

    fn add(&mut self, word: &'a AtomicU32, seen: u32, visibility: Visibility) {
        let wait = &mut self.list[self.len];
        wait.val = seen.into();
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = match visibility {
            Visibility::Shared => WaitFlags::SIZE_U32,
            Visibility::Private => WaitFlags::SIZE_U32 | WaitFlags::PRIVATE,
        };
        self.len += 1;
    }

    /// Sleeps while every word has the value that was seen, until `deadline_ns` on CLOCK_MONOTONIC
    /// at most. Returns the index of a word that was woken, if known; may return early (a spurious
    /// wake-up).
    pub(crate) fn wait(&self, deadline_ns: Option<u64>) -> Option<usize> {
        let deadline = deadline_ns.map(timespec);
        let woken = futex::waitv(&self.list[..self.len], WaitvFlags::empty(), deadline.as_ref(), ClockId::Monotonic);
        match woken {
            Ok(index) => return Some(index),
            Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            // No memory, or a filter that was installed since. Do not spin.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        None
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

/// A kernel's time has 63 bits.
fn saturating_ns(duration: Duration) -> u64 {
    duration.as_nanos().min(i64::MAX as u128) as u64
}

/// Sleeps while a private word is `seen`, for `timeout` at most if there is one, unless or until it
/// is to stop. May return early.
pub(crate) fn wait_private(word: &AtomicU32, seen: u32, timeout: Option<Duration>, stop: Option<&StopWord>) {
    wait_or_stop(word, Visibility::Private, seen, timeout, stop);
}

/// Wakes all threads that sleep on a private word.
pub(crate) fn wake_all_private(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::PRIVATE, i32::MAX as u32);
}
