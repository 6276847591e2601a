//! A ring that nobody writes: where a subscriber waits that has no publisher.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use super::attached::AttachedReader;
use super::geometry::Geometry;
use super::layout::{CLOSED, MIN_SLOT_BYTES};
use super::memory::{Memory, WritableMemory};
use super::reader::Reader;
use super::slot::mapped::MappedRing;
use super::start::Start;
use crate::shm::descriptor::Descriptor;
use crate::shm::map::Mapping;
use crate::shm::open::above_standard;
use crate::shm::region_file::RegionFile;

/// Memory of this process alone, laid out as a ring of two slots without messages. That somebody
/// may have appeared is its end; so whatever waits for a message or the end of a topic waits here
/// just as well.
#[derive(Clone, Debug)]
pub(crate) struct VacantRing(Arc<MappedRing>);

impl VacantRing {
    pub(crate) fn new() -> io::Result<Self> {
        let geometry = Geometry::new(2, MIN_SLOT_BYTES).and_then(|geometry| geometry.with_records(1));
        let geometry = geometry.map_err(io::Error::other)?;
        let len = geometry.region_bytes();
        let file = Descriptor::open(|| {
            let file = above_standard(memfd_create("conduit-vacant", MFdFlags::MFD_CLOEXEC)?)?;
            ftruncate(&file, len as i64)?;
            io::Result::Ok(file)
        })?;
        let mapping = Mapping::new(&file, NonZeroUsize::new(len as usize).unwrap_or(NonZeroUsize::MIN))?;
        Ok(Self(Arc::new(MappedRing::new(mapping, geometry, RegionFile::new(file, None)?))))
    }

    /// A reader that can be woken, and receives nothing.
    pub(crate) fn reader(&self) -> AttachedReader {
        AttachedReader::Writable(Reader::new(Arc::clone(&self.0), Some(0), Start::Next))
    }

    /// Ends it, and wakes all sleepers.
    pub(crate) fn end(&self) {
        self.0.consumers().wake.fetch_or(CLOSED, Release);
        self.0.wake_all();
    }

    /// Takes its end back.
    pub(crate) fn begin_again(&self) {
        self.0.consumers().wake.fetch_and(!CLOSED, AcqRel);
    }
}
