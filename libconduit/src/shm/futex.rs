//! Sleeping on a word of a region, and waking whoever does.
//!
//! See [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html). The word is shared between processes, so none of the calls uses
//! `FUTEX_PRIVATE_FLAG`.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, WakeOp, WakeOpCmp};

/// Sleeps while the word is `seen`, at most for `timeout`. May return early for no reason.
pub(crate) fn wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    let timeout = futex::Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    // EAGAIN (the word has changed), EINTR and ETIMEDOUT are all answers: the caller looks again.
    let _ = futex::wait(word, Flags::empty(), seen, Some(&timeout));
}

/// Wakes everyone who sleeps on the word.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}

/// Sets bits of the word and wakes all sleepers in one system call, which alone touches the memory.
///
/// The kernel writes the word, so a region that was truncated gives EFAULT here instead of SIGBUS to this process.
/// `bits` is below `1 << 11`: the operation's argument has 12 bits, one of them a sign.
pub(crate) fn set_bits_and_wake_all(word: &AtomicU32, bits: u16) -> Result<(), Errno> {
    let all = i32::MAX as u32;
    futex::wake_op(word, Flags::empty(), all, 0, word, WakeOp::Or, WakeOpCmp::Eq, bits, 0).map(drop)
}
