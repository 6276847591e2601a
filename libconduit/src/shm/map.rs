//! A region mapped into this process.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use nix::libc::{self, c_void};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::unistd::getpid;

/// Types whose references may point into a mapping: they consist of atomics alone, and any bytes are valid.
///
/// # Safety
///
/// All fields are atomic integers. Other processes change them at any time.
pub(crate) unsafe trait Shared {}

// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU32 {}

/// A shared mapping of a whole file. It keeps the file's description, and so its locks, alive.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    len: NonZeroUsize,
    creator: u32,
}

// SAFETY: the mapping is plain memory, owned by this value; what lies in it is reached through atomics or under the
// rules of `ring::slot`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file. With `MADV_DONTFORK`: a forked child does not inherit it.
    pub(crate) fn new(file: impl AsFd, len: NonZeroUsize, writable: bool) -> io::Result<Self> {
        let protection = if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: no address is asked for, so no memory of this process is replaced.
        let start = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, file, 0)? };
        let mapping = Self { start, len, creator: getpid().as_raw() as u32 };
        // SAFETY: the range is the mapping just made; the advice does not change its contents.
        unsafe { madvise(start, len.get(), MmapAdvise::MADV_DONTFORK)? };
        Ok(mapping)
    }

    /// Enters all of the file's memory into this process's page tables now, so that no access has to stop for it later: see
    /// `MADV_POPULATE_WRITE` in [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html). What can not be entered (kernels before 5.14
    /// can not) is entered when it is touched.
    pub(crate) fn populate(&self, writable: bool) {
        let advice = if writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
        // SAFETY: the range is this mapping; its contents stay as they are.
        unsafe { libc::madvise(self.start.as_ptr(), self.len.get(), advice) };
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    #[inline(always)]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }

    /// The words of shared state at `offset`.
    ///
    /// # Panics
    ///
    /// If they would not lie in the mapping, aligned: offsets come from constants or from a checked geometry.
    #[inline(always)]
    pub(crate) fn shared<T: Shared>(&self, offset: usize) -> &T {
        assert!(
            offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len()),
            "offset outside of the region"
        );
        assert!(offset.is_multiple_of(align_of::<T>()), "misaligned offset");
        // SAFETY: in bounds and aligned as asserted (mappings start on a page), valid for any bytes and made of atomics
        // only (`Shared`), and mapped for as long as `self` is borrowed.
        unsafe { self.start().add(offset).cast::<T>().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child the range is not ours: it may by now hold another mapping.
        if getpid().as_raw() as u32 == self.creator {
            // SAFETY: `new` made this mapping and nothing borrows from it any more.
            let _ = unsafe { munmap(self.start, self.len.get()) };
        }
    }
}
