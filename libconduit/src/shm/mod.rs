//! Shared memory and liveness: the layer below topics and raw regions, shared with the daemon.
//!
//! # The protocol of names and locks
//!
//! A region is a file in the shared-memory directory. Its *owner* is the process that holds the
//! owner lock: an open file description lock
//! ([`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html), `F_OFD_SETLK`) on one
//! byte far past the end of the file ([`lock`]). The kernel drops it when the last descriptor *and
//! mapping* of that description is gone. So the descriptor is closed after `mmap`, and
//! `MADV_DONTFORK` keeps the mapping from forked children. Liveness depends on no pid and no
//! time-out.
//!
//! *Create* ([`new_file`]): make an unnamed file (`O_TMPFILE`), reserve its memory (`fallocate`),
//! write it, mark it as Conduit's (an extended attribute), take the owner lock, register it, and
//! only then give it its name with `linkat`, which fails if the name is taken. So a name appears
//! complete or not at all.
//!
//! *Take over* ([`takeover`]): if the write lock of the file that has the name is free, or its
//! holder will never run again ([`dying`]), its owner is dead: remove the file and link again.
//! Otherwise retry for a while (a reaper may be at work) and then give up.
//!
//! *Remove* ([`dir::ShmDir::remove`]), by the holder of the remover's lock only, which is a second
//! byte, and of the owner lock if that is free. A process that may only read the file can hold read
//! locks on both bytes; they are respected for 100 ms, because a daemon that may only read uses
//! them, too. Check that the name still refers to the locked file, rename it to a private name,
//! check again, unlink. There is no unlink by inode; without the private name, a user's `rm` and a
//! new `create` in between would cost a live region its name. The daemon finishes removals whose
//! remover was killed. So does the next publisher of the name, which finds the private name because
//! it is one of a few that follow from the public one: it does not read the directory, in which
//! there may be any number of files.
//!
//! *Probe*: any process that can open the region can test whether its owner is alive. It tests for
//! a conflict with a read lock, because any reader may hold read locks and only the owner holds a
//! write lock.

pub(crate) mod acl;
pub(crate) mod atomics;
pub(crate) mod caches;
pub mod cancellation;
pub mod clock;
pub(crate) mod descriptor;
mod descriptor_table;
pub mod dir;
pub mod dying;
pub mod fork;
pub(crate) mod futex;
pub mod guard;
pub mod heap;
pub mod inherited;
pub mod lock;
pub(crate) mod map;
pub(crate) mod mark;
pub mod new_file;
pub(crate) mod open;
pub(crate) mod own_table;
pub(crate) mod prefetch;
pub mod process;
pub(crate) mod reap_lock;
pub(crate) mod region_file;
mod removal;
pub(crate) mod room;
pub mod socket;
mod stop_bell;
pub(crate) mod stop_flag;
pub(crate) mod stop_signals;
pub(crate) mod stop_word;
pub(crate) mod takeover;
pub(crate) mod word;
