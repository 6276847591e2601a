//! The numbers under which this library keeps descriptors, and what it opened under each.
//!
//! `fork` copies every descriptor to the child. A child that executes no other program would keep
//! what they refer to for as long as it lives: the memory of regions whose publishers are long
//! dead, and connections to the registry, which takes one that is open for a client that lives. So
//! the child closes them first ([`close_in_child`]).
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::{io, ptr};

use nix::errno::Errno;
use nix::libc;

/// Numbers per part of the table.
const PART: usize = 1024;
/// Parts of the table: more numbers than a process can have by default (`fs.nr_open`).
const PARTS: usize = 4096;

/// What was opened under a number. The serial is 0 if the library keeps nothing there.
#[derive(Default)]
struct TableEntry {
    serial: AtomicU64,
    dev: AtomicU64,
    ino: AtomicU64,
    stays_in_children: AtomicBool,
}

/// Parts are made when they are first needed, and never freed.
static TABLE: [AtomicPtr<[TableEntry; PART]>; PARTS] = [const { AtomicPtr::new(ptr::null_mut()) }; PARTS];
/// The number of parts that may exist.
static USED: AtomicUsize = AtomicUsize::new(0);
static LAST_SERIAL: AtomicU64 = AtomicU64::new(0);

/// A file, a socket, or whatever else a descriptor refers to: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    dev: u64,
    ino: u64,
}

impl Opened {
    /// What is open under a number now, if anything.
    pub(super) fn at(number: RawFd) -> Option<Self> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel writes one `stat`, or fails if the number is not open.
        if unsafe { libc::fstat(number, stat.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: the call succeeded, so it is written.
        let stat = unsafe { stat.assume_init() };
        Some(Self { dev: stat.st_dev, ino: stat.st_ino })
    }
}

fn part(index: usize) -> Option<&'static [TableEntry; PART]> {
    let part = TABLE.get(index)?.load(Acquire);
    // SAFETY: null, or a part from `Box::leak`, which nothing frees or borrows mutably.
    unsafe { part.as_ref() }
}

fn entry(number: RawFd) -> Option<&'static TableEntry> {
    let number = usize::try_from(number).ok()?;
    part(number / PART)?.get(number % PART)
}

/// Notes what was opened under a number, instead of what had the number before, and returns its
/// serial. The caller holds a `ForkGuard`, so that no child has the descriptor without the note.
pub(super) fn note(number: RawFd, opened: Opened, stays_in_children: bool) -> io::Result<u64> {
    let index = usize::try_from(number).unwrap_or(usize::MAX) / PART;
    let slot = TABLE.get(index).ok_or(Errno::EMFILE)?;
    if part(index).is_none() {
        let new: Box<[TableEntry; PART]> = Box::new(std::array::from_fn(|_| TableEntry::default()));
        // Nobody else makes one: the caller holds the guard.
        slot.store(Box::leak(new), Release);
        USED.fetch_max(index + 1, Release);
    }
    let entry = entry(number).ok_or(Errno::EMFILE)?;
    let serial = LAST_SERIAL.fetch_add(1, Relaxed) + 1;
    entry.dev.store(opened.dev, Relaxed);
    entry.ino.store(opened.ino, Relaxed);
    entry.stays_in_children.store(stays_in_children, Relaxed);
    entry.serial.store(serial, Release);
    Ok(serial)
}

/// Whether nothing else was noted under the number since, and no parent closed it in this process.
pub(super) fn is_noted(number: RawFd, serial: u64) -> bool {
    entry(number).is_some_and(|entry| entry.serial.load(Acquire) == serial)
}

/// Forgets a number that was closed, unless another thread has opened something there meanwhile.
pub(super) fn forget(number: RawFd, serial: u64) {
    if let Some(entry) = entry(number) {
        let _ = entry.serial.compare_exchange(serial, 0, Release, Relaxed);
    }
}

/// Closes the descriptors of the parent's handles, in a child that was just forked. Calls nothing
/// that a signal handler may not call.
pub(super) fn close_in_child() {
    for index in 0..USED.load(Acquire) {
        let Some(part) = part(index) else { continue };
        for (offset, entry) in part.iter().enumerate() {
            if entry.serial.load(Relaxed) == 0 || entry.stays_in_children.load(Relaxed) {
                continue;
            }
            entry.serial.store(0, Relaxed);
            let number = (index * PART + offset) as RawFd;
            let opened = Opened { dev: entry.dev.load(Relaxed), ino: entry.ino.load(Relaxed) };
            if Opened::at(number) == Some(opened) {
                // SAFETY: the library opened what is there, and the handle that closes it in the
                // parent finds its note gone in this process.
                unsafe { libc::close(number) };
            }
        }
    }
}
