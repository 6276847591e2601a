//! Shared memory and liveness: what topics and raw regions stand on, and what the daemon is built from.
//!
//! # The protocol of names and locks
//!
//! A region is a file in the shared-memory directory. Its *owner* is whoever holds the owner lock: an open file
//! description lock ([`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html), `F_OFD_SETLK`) on one byte far past the end of the file
//! ([`lock`]). The kernel drops it when the last descriptor *and mapping* of that description is gone, so the
//! descriptor is closed after `mmap`, and `MADV_DONTFORK` keeps it from forked children. No pid and no time-out takes
//! part in the verdict.
//!
//! *Create* ([`new_file`]): make an unnamed file (`O_TMPFILE`), reserve its memory (`fallocate`), write it, mark it as
//! ours (an extended attribute), take the owner lock, tell the registry, and only then give it its name with `linkat`,
//! which fails if the name is taken. So a name appears complete or not at all.
//!
//! *Take over* ([`takeover`]): a name that is taken by a file whose write lock can be had belongs to a dead owner: remove it and link
//! again. If it is held, back off for a while (a reaper may be at work, a process may be dying slowly) and then give up.
//!
//! *Remove* ([`dir::ShmDir::remove`]), by the holder of the owner lock only: check that the name still is the locked
//! file, rename it to a private name that nobody else uses, check again, unlink. There is no unlink by inode; without
//! the detour through the private name a user's `rm` and a new `create` in between would cost a live region its name.
//! Scans finish private names that a killed remover left.
//!
//! *Probe*: anybody who can open the region can ask whether the owner lives. The question is put as a read lock, because
//! any reader may hold read locks and only the owner holds a write lock.

pub(crate) mod acl;
pub(crate) mod atomics;
pub mod clock;
pub mod dir;
pub mod fork;
pub(crate) mod futex;
pub mod inherited;
pub mod lock;
pub(crate) mod map;
pub(crate) mod mark;
pub mod new_file;
pub(crate) mod open;
pub(crate) mod prefetch;
pub mod process;
pub(crate) mod room;
pub mod socket;
pub(crate) mod takeover;
pub(crate) mod word;
