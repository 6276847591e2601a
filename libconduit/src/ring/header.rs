//! The header of a topic's region: written once by its creator, and checked once by every process
//! that opens it.

use std::mem::offset_of;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use nix::sys::uio::pread;
use zerocopy::{FromBytes, IntoBytes};

use super::geometry::Geometry;
use super::layout::{ControlPage, Identity, PAGE_BYTES, PRODUCER_AT, Producer, RECORDS_AT, TYPE_NAME_AT, VERSION};
use crate::foreign_text::clean_name;
use crate::message::{Kind, MAX_ALIGN, TypeInfo, TypeName};
use crate::model::Process;
use crate::mutation::mutated;
use crate::shm::atomics::Plain;
use crate::shm::mark::MAGIC;
use crate::shm::room;

/// Why a file cannot be used as a topic's region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Too short for a header, or the magic bytes are missing.
    #[error("it is not a Conduit topic")]
    NotATopic,
    /// Made by another version of the library.
    #[error(
        "it has layout version {found}, and this program uses version {VERSION}; use the same Conduit version on both sides"
    )]
    Version {
        /// The version in the region.
        found: u32,
    },
    /// The header contradicts itself or the file.
    #[error("its header is damaged: {0}")]
    Damaged(String),
    /// The file has holes, and reading one would take memory. Creation reserves all of it.
    #[error(
        "only {reserved} of its {size} bytes have memory, while Conduit reserves all of it; remove the file if it is not needed"
    )]
    Sparse {
        /// Bytes that have memory.
        reserved: u64,
        /// Size of the file in bytes.
        size: u64,
    },
}

/// The contents of a valid header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) message: TypeInfo,
    /// Messages that are kept for late joiners.
    pub(crate) retain: u16,
    /// How long the publisher has promised to be silent at most.
    pub(crate) deadline_ns: Option<NonZeroU64>,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) program: [u8; 16],
}

impl Layout {
    /// Reads and checks the header of an open region.
    pub(crate) fn read(file: impl AsFd) -> Result<Self, LayoutError> {
        let file_bytes = fstat(&file).map_or(0, |stat| stat.st_size.max(0) as u64);
        let mut control = [0; PAGE_BYTES];
        let len = pread(&file, &mut control, 0).unwrap_or(0);
        let layout = Self::check(&control[..len], file_bytes)?;
        match room::missing_memory(file) {
            Some(reserved) => Err(LayoutError::Sparse { reserved, size: file_bytes }),
            None => Ok(layout),
        }
    }

    /// Checks the first bytes of a region against the size of its file.
    pub(crate) fn check(control: &[u8], file_bytes: u64) -> Result<Self, LayoutError> {
        let damaged = |what: String| Err(LayoutError::Damaged(what));
        let Ok((identity, _)) = Identity::read_from_prefix(control) else { return Err(LayoutError::NotATopic) };
        if identity.magic != MAGIC && !mutated!(header_of_any_magic) {
            return Err(LayoutError::NotATopic);
        }
        if identity.version != VERSION && !mutated!(header_of_any_version) {
            return Err(LayoutError::Version { found: identity.version });
        }
        let Ok((control, _)) = ControlPage::read_from_prefix(control) else {
            return damaged(format!("the file has {file_bytes} bytes, fewer than a header"));
        };
        let geometry = Geometry::new(identity.slots, identity.slot_bytes)
            .and_then(|geometry| geometry.with_records(identity.records))
            .and_then(|geometry| geometry.with_payload_at(identity.payload_at));
        let geometry = match geometry {
            Ok(geometry) => geometry,
            Err(error) => return damaged(error.to_string()),
        };
        if geometry.region_bytes() != file_bytes && !mutated!(header_of_any_file) {
            return damaged(format!("the file has {file_bytes} bytes, its slots need {}", geometry.region_bytes()));
        }
        let Some(name) = TypeName::from_region(control.type_name) else {
            return damaged("its type name is not text".into());
        };
        let kind = match identity.type_kind {
            0 => Kind::Value,
            1 => Kind::Slice,
            other => return damaged(format!("{other} is not a kind of message")),
        };
        let is_align = identity.type_align.is_power_of_two() && identity.type_align as usize <= MAX_ALIGN;
        if !is_align && !mutated!(header_of_any_align) {
            return damaged(format!("{} is not an alignment", identity.type_align));
        }
        let is_too_large = kind == Kind::Value && identity.type_size > geometry.capacity() as u64;
        if is_too_large && !mutated!(header_of_any_size) {
            return damaged(format!("its messages have {} bytes, its slots fewer", identity.type_size));
        }
        let message = TypeInfo { name, kind, size: identity.type_size, align: identity.type_align.into() };
        let is_aligned = geometry.payload_at().is_multiple_of(message.align as usize);
        if !is_aligned && !mutated!(header_of_any_payload) {
            return damaged(format!("its payloads are not aligned to {}", message.align));
        }
        let (retain, deadline_ns) = (identity.retain, NonZeroU64::new(control.producer.deadline_ns));
        let (pid, uid, program) = (identity.pid, identity.uid, identity.program);
        Ok(Self { geometry, message, retain, deadline_ns, pid, uid, program })
    }

    /// The publisher, as it says itself.
    pub(crate) fn publisher(&self) -> Process {
        Process::new(self.pid, self.uid, program_name(&self.program))
    }

    /// The control page of a new region.
    pub(crate) fn control_page(&self) -> [u8; PAGE_BYTES] {
        let identity = Identity {
            magic: MAGIC,
            version: VERSION,
            slots: self.geometry.slots(),
            slot_bytes: self.geometry.slot_bytes(),
            type_size: self.message.size,
            // At most MAX_ALIGN.
            type_align: self.message.align as u8,
            type_kind: u8::from(self.message.kind == Kind::Slice),
            payload_at: self.geometry.payload_at() as u8,
            flags: 0,
            records: self.geometry.records() as u16,
            retain: self.retain,
            pid: self.pid,
            uid: self.uid,
            program: self.program,
        };
        let mut page = [0; PAGE_BYTES];
        page[..PRODUCER_AT].copy_from_slice(identity.as_bytes());
        let deadline_ns = self.deadline_ns.map_or(0, NonZeroU64::get);
        let at = PRODUCER_AT + offset_of!(Producer<Plain>, deadline_ns);
        page[at..at + size_of_val(&deadline_ns)].copy_from_slice(deadline_ns.as_bytes());
        page[TYPE_NAME_AT..RECORDS_AT].copy_from_slice(&self.message.name.0);
        page
    }
}

/// A command name from a region, cleaned.
pub(crate) fn program_name(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    clean_name(&bytes[..len])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Message;
    use crate::ring::layout::{DEFAULT_SLOT_BYTES, DEFAULT_SLOTS, MAX_SLOTS, SLOT_STATE_BYTES};
    use crate::ring::memory::{ANY_NUMBER, POWER_OF_TWO};

    fn page() -> [u8; PAGE_BYTES] {
        let geometry = Geometry::new(DEFAULT_SLOTS, DEFAULT_SLOT_BYTES).unwrap();
        let deadline_ns = NonZeroU64::new(7_000_000_000);
        Layout {
            geometry,
            message: u32::TYPE,
            retain: 1,
            deadline_ns,
            pid: 1,
            uid: 2,
            program: *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0",
        }
        .control_page()
    }

    fn check(change: impl FnOnce(&mut Identity)) -> Result<Layout, LayoutError> {
        let mut page = page();
        let (mut identity, _) = Identity::read_from_prefix(&page).unwrap();
        change(&mut identity);
        page[..PRODUCER_AT].copy_from_slice(identity.as_bytes());
        Layout::check(&page, 69_632)
    }

    #[test]
    fn a_page_reads_back_as_it_was_written() {
        let layout = check(|_| ()).unwrap();
        assert_eq!((layout.geometry.slots(), layout.geometry.slot_bytes()), (16, 4096));
        assert_eq!(layout.message, u32::TYPE);
        assert_eq!(layout.deadline_ns.map(NonZeroU64::get), Some(7_000_000_000));
        assert_eq!((layout.pid, layout.uid, program_name(&layout.program).as_str()), (1, 2, "abc"));
    }

    #[test]
    fn inconsistent_headers_are_refused() {
        assert_eq!(check(|identity| identity.magic[7] = 0).unwrap_err(), LayoutError::NotATopic);
        assert_eq!(check(|identity| identity.version = 7).unwrap_err(), LayoutError::Version { found: 7 });
        assert_eq!(Layout::check(&[], 0).unwrap_err(), LayoutError::NotATopic);
        let lies: [fn(&mut Identity); 12] = [
            |identity| identity.slots = 1,
            |identity| identity.slots = 3,
            |identity| identity.slots = 32,
            |identity| identity.slot_bytes = 0,
            |identity| identity.slot_bytes = u64::MAX - 63,
            |identity| identity.type_size = 5000,
            |identity| identity.type_align = 3,
            |identity| identity.type_kind = 2,
            |identity| identity.records = 0,
            |identity| identity.records = 61,
            |identity| identity.payload_at = 40,
            |identity| (identity.payload_at, identity.type_align) = (32, 64),
        ];
        for (index, lie) in lies.into_iter().enumerate() {
            assert!(matches!(check(lie), Err(LayoutError::Damaged(_))), "lie {index}");
        }
        for align in [0, 3, 128] {
            let error = check(|identity| identity.type_align = align).unwrap_err();
            assert_eq!(error, LayoutError::Damaged(format!("{align} is not an alignment")));
        }
        let mut nameless = page();
        nameless[TYPE_NAME_AT..RECORDS_AT].fill(0);
        for (page, file_bytes) in [(&nameless[..], 69_632), (&page()[..], 69_631), (&page()[..1000], 69_632)] {
            assert!(matches!(Layout::check(page, file_bytes), Err(LayoutError::Damaged(_))));
        }
    }

    proptest! {
        #[test]
        fn any_geometry_is_refused_or_fits(
            slots in prop_oneof![any::<u32>(), 0..=MAX_SLOTS + 1],
            slot_bytes in prop_oneof![any::<u64>(), (0u64..1000).prop_map(|pairs| pairs * 128)],
            position: u64,
        ) {
            if let Ok(geometry) = Geometry::new(slots, slot_bytes) {
                let entry = position % u64::from(slots);
                prop_assert_eq!(u64::from(geometry.entry_of::<ANY_NUMBER>(position)), entry);
                if geometry.is_power_of_two() {
                    prop_assert_eq!(u64::from(geometry.entry_of::<POWER_OF_TWO>(position)), entry);
                }
                let last = slots - 1;
                prop_assert_eq!(geometry.state_at(last) + SLOT_STATE_BYTES, geometry.slot_at(0));
                let payload = geometry.slot_at(last) + geometry.payload_at();
                prop_assert!(payload.is_multiple_of(MAX_ALIGN) && geometry.capacity() >= MAX_ALIGN);
                prop_assert_eq!((payload + geometry.capacity()) as u64, geometry.region_bytes());
            }
        }

        #[test]
        fn any_header_is_refused_or_consistent(
            bytes in prop::collection::vec(any::<u8>(), 0..PAGE_BYTES + 1),
            changed in prop::collection::vec((0usize..256, any::<u8>()), 0..6),
            file_bytes in prop_oneof![Just(69_632u64), any::<u64>()],
        ) {
            let _ = Layout::check(&bytes, file_bytes);
            let mut page = page();
            for (at, byte) in changed {
                page[at] = byte;
            }
            if let Ok(layout) = Layout::check(&page, file_bytes) {
                prop_assert_eq!(layout.geometry.region_bytes(), file_bytes);
            }
        }
    }
}
