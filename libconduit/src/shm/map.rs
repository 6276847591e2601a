//! A region mapped into this process.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use nix::libc::{self, c_int, c_void};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::unistd::getpid;

use super::atomics::{Atomics, LoadOnly, Native, NativeLoads, WordFamily};
use super::futex::FutexWord;

/// Types whose references may point into a mapping.
///
/// # Safety
///
/// All fields are words of the family `A`.
pub(crate) unsafe trait SharedWords<A: Atomics> {}

// SAFETY: one word of the family.
unsafe impl SharedWords<Native> for AtomicU32 {}
// SAFETY: one word of the family.
unsafe impl SharedWords<NativeLoads> for LoadOnly<AtomicU32> {}

/// The access that a mapping gives, fixed by its type.
///
/// # Safety
///
/// The words of `Atomics` are integers in native byte order, for which all bytes are valid. They
/// have operations that write only if `FLAGS` permit it.
pub(crate) unsafe trait Protection: 'static {
    type Atomics: Atomics;
    const FLAGS: ProtFlags;
    const POPULATE: c_int;

    /// A word of the mapping to sleep on.
    fn futex_word(word: &<Self::Atomics as WordFamily>::U32) -> FutexWord<'_>;
}

/// A mapping that can be read and written.
#[derive(Debug)]
pub(crate) enum ReadWrite {}

/// A mapping that can be read only: a store would raise SIGSEGV.
#[derive(Debug)]
pub(crate) enum ReadOnly {}

// SAFETY: native atomic integers in memory that may be written.
unsafe impl Protection for ReadWrite {
    type Atomics = Native;
    const FLAGS: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);
    const POPULATE: c_int = libc::MADV_POPULATE_WRITE;

    fn futex_word(word: &AtomicU32) -> FutexWord<'_> {
        word.into()
    }
}

// SAFETY: `LoadOnly` is a transparent wrapper of a native atomic integer, with relaxed loads alone.
unsafe impl Protection for ReadOnly {
    type Atomics = NativeLoads;
    const FLAGS: ProtFlags = ProtFlags::PROT_READ;
    const POPULATE: c_int = libc::MADV_POPULATE_READ;

    fn futex_word(word: &LoadOnly<AtomicU32>) -> FutexWord<'_> {
        word.into()
    }
}

/// A shared mapping of a file. It keeps the file's open file description, and so its locks, alive.
#[derive(Debug)]
pub(crate) struct Mapping<P = ReadWrite> {
    start: NonNull<c_void>,
    len: NonZeroUsize,
    creator: u32,
    _protection: PhantomData<fn() -> P>,
}

// SAFETY: the mapping belongs to this value, not to a thread. Safe code reaches it through
// `shared`, as atomics; `start` gives a raw pointer, whose users have to synchronize.
unsafe impl<P> Send for Mapping<P> {}
// SAFETY: as above.
unsafe impl<P> Sync for Mapping<P> {}

impl<P: Protection> Mapping<P> {
    /// Maps the first `len` bytes of a file. A forked child does not inherit the mapping
    /// (`MADV_DONTFORK`).
    pub(crate) fn new(file: impl AsFd, len: NonZeroUsize) -> io::Result<Self> {
        // SAFETY: without an address the kernel chooses unused memory, so no memory of this process
        // is replaced.
        let start = unsafe { mmap(None, len, P::FLAGS, MapFlags::MAP_SHARED, file, 0)? };
        let mapping = Self { start, len, creator: getpid().as_raw() as u32, _protection: PhantomData };
        // SAFETY: the range is the mapping just made; the advice does not change its contents.
        unsafe { madvise(start, len.get(), MmapAdvise::MADV_DONTFORK)? };
        Ok(mapping)
    }

    /// Enters all of the file's memory into this process's page tables, so that no later access
    /// takes a page fault: see `MADV_POPULATE_WRITE` in
    /// [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html). What the kernel cannot
    /// enter (before 5.14, nothing) is entered on first access.
    pub(crate) fn populate(&self) {
        // SAFETY: the range is this mapping; its contents stay as they are.
        unsafe { libc::madvise(self.start.as_ptr(), self.len.get(), P::POPULATE) };
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// The first byte. Writing through it is undefined behavior if `P` is [`ReadOnly`].
    #[inline(always)]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }

    /// The shared words at `offset`.
    ///
    /// # Panics
    ///
    /// If they are not within the mapping, or not aligned.
    #[inline(always)]
    pub(crate) fn shared<T: SharedWords<P::Atomics>>(&self, offset: usize) -> &T {
        assert!(
            offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len()),
            "offset outside of the region"
        );
        assert!(offset.is_multiple_of(align_of::<T>()), "misaligned offset");
        // SAFETY: in bounds and aligned as asserted (mappings start on a page), and mapped for as
        // long as `self` is borrowed. `T` is made of words valid for any bytes (`SharedWords`,
        // `Protection`), that other processes change atomically, and that this process can write
        // only if the mapping is writable.
        unsafe { self.start().add(offset).cast::<T>().as_ref() }
    }
}

impl<P> Drop for Mapping<P> {
    fn drop(&mut self) {
        // A forked child does not have the mapping; the range may belong to another one there.
        if getpid().as_raw() as u32 == self.creator {
            // SAFETY: `new` made this mapping in this process, and nothing borrows from it any
            // more.
            let _ = unsafe { munmap(self.start, self.len.get()) };
        }
    }
}
