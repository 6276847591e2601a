//! Threads with a descriptor table of their own.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

/// Gives the calling thread a descriptor table of its own, in which only `kept` is open, and
/// returns that one. The program's `kept` must not be closed on this thread.
///
/// What it opens from then on, the program does not see: it cannot close it, takes no number from
/// the program, and is not inherited by the program's children. The thread must not use a
/// [`Descriptor`](super::descriptor::Descriptor) any more, nor drop one: those belong to the
/// program's table.
///
/// # Errors
///
/// If the kernel (before Linux 5.9) or a sandbox lacks `close_range(2)`; then nothing has changed.
pub(crate) fn leave_table(kept: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let number = kept.as_raw_fd() as libc::c_uint;
    close_range(number.saturating_add(1), libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    // SAFETY: the thread's own table has a descriptor of that number too, a second one for the same
    // file, which nothing else owns.
    let kept = unsafe { OwnedFd::from_raw_fd(kept.as_raw_fd()) };
    if let Some(below) = number.checked_sub(1) {
        close_range(0, below, 0)?;
    }
    Ok(kept)
}

fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the first call of `leave_table` gives this thread a table that no other thread uses,
    // and closes numbers there; so does the second. The owners of these numbers use them in the
    // program's table, where they stay open.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::shm::descriptor_table::Opened;

    #[test]
    fn a_thread_that_has_left_neither_keeps_nor_changes_the_programs_descriptors() {
        let [kept, other] = [0, 1].map(|_| tempfile::tempfile_in("/dev/shm").unwrap());
        let number = other.as_raw_fd();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let own = leave_table(kept.as_fd()).unwrap();
                assert!(Opened::at(own.as_raw_fd()).is_some() && Opened::at(number).is_none());
            });
        });
        assert!(Opened::at(kept.as_raw_fd()).is_some() && Opened::at(number).is_some());
    }
}
