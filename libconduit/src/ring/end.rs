//! How a topic ends: the flags of the wake word.

use std::fmt;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::{fmt::Formatter, io};

use nix::sys::uio::pread;

use super::layout::{CLOSED, CONSUMERS_AT, Consumers, ORPHANED, UNLINKED};
use crate::fault::{self, Step};
use crate::mutation::{mutated, step};
use crate::shm::atomics::Native;
use crate::shm::descriptor::Descriptor;
use crate::shm::open::Access;
use crate::shm::{acl, word};

const WAKE_AT: usize = CONSUMERS_AT + offset_of!(Consumers<Native>, wake);

/// How a topic's publisher went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gone {
    /// It closed the topic.
    Closed,
    /// It died.
    Died,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed the topic",
            Self::Died => "died",
        })
    }
}

impl Gone {
    /// What the flags of a wake word say.
    pub(super) fn from_wake_word(word: u32) -> Option<Self> {
        if word & CLOSED != 0 && !mutated!(closed_is_no_end) {
            Some(Self::Closed)
        } else if word & ORPHANED != 0 && !mutated!(orphaned_is_no_end) {
            Some(Self::Died)
        } else {
            None
        }
    }
}

/// How a topic has ended, if it has, as its file says.
pub(crate) fn how_ended(file: impl AsFd) -> io::Result<Option<Gone>> {
    let mut word = [0; 4];
    pread(file, &mut word, WAKE_AT as i64)?;
    Ok(Gone::from_wake_word(u32::from_ne_bytes(word)))
}

/// Marks the topic of a dead publisher, and wakes its subscribers.
///
/// If this user may not write the region the subscribers are only woken; they then probe the owner
/// lock themselves.
pub(crate) fn mark_orphaned(file: impl AsFd) -> io::Result<()> {
    match Descriptor::reopen(&file, Access::ReadWrite) {
        Ok(writable) => step!(orphan_mark, word::set_bits_and_wake_all(writable, WAKE_AT, ORPHANED as u16)?),
        Err(_) => step!(orphan_wake, word::wake_all(file, WAKE_AT)?),
    }
    fault::point(Step::OrphanMarked);
    Ok(())
}

/// Ends a topic whose publisher is alive, and wakes its subscribers.
///
/// If this user may not write the region it must be allowed to change other users' files
/// (CAP_FOWNER).
pub(crate) fn mark_closed(file: impl AsFd) -> io::Result<()> {
    set_flag(file, CLOSED)
}

/// Reports to the publisher that its topic has lost its name. Otherwise as [`mark_closed`].
pub(crate) fn mark_unlinked(file: impl AsFd) -> io::Result<()> {
    set_flag(file, UNLINKED)
}

fn set_flag(file: impl AsFd, flag: u32) -> io::Result<()> {
    let writable = match Descriptor::reopen(&file, Access::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => acl::open_for_writing(&file)?,
        other => other?,
    };
    step!(set_flag, word::set_bits_and_wake_all(writable, WAKE_AT, flag as u16)?);
    Ok(())
}
