//! Changing a futex word of a region without accessing its memory.
//!
//! The kernel accesses the word on this process's behalf, so a region that is truncated meanwhile
//! gives `EFAULT` instead of a SIGBUS.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;

use super::atomics::LoadOnly;
use super::futex;
use super::map::{Mapping, ReadOnly, ReadWrite};

/// The words are in the first page.
const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Sets bits of the word at `offset` and wakes all its sleepers. `bits` is below `1 << 11`. The
/// file is open for writing.
pub(crate) fn set_bits_and_wake_all(file: impl AsFd, offset: usize, bits: u16) -> io::Result<()> {
    let mapping = Mapping::<ReadWrite>::new(&file, PAGE)?;
    Ok(futex::set_bits_and_wake_all(mapping.shared::<AtomicU32>(offset), bits)?)
}

/// Wakes all sleepers of the word at `offset`. The file is open for reading.
pub(crate) fn wake_all(file: impl AsFd, offset: usize) -> io::Result<()> {
    let mapping = Mapping::<ReadOnly>::new(&file, PAGE)?;
    futex::wake_all(mapping.shared::<LoadOnly<AtomicU32>>(offset));
    Ok(())
}
