//! The header of a topic's region: written once by its creator, and checked once by everybody who
//! opens it.

use std::os::fd::AsFd;

use zerocopy::FromBytes;

use super::geometry::Geometry;
use super::layout::{CONTROL_BYTES, Identity, VERSION};
use super::snapshot::ControlSnapshot;
use crate::message::{Kind, MAX_ALIGN, TypeInfo, TypeName};
use crate::shm::mark::MAGIC;

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
}

/// The contents of a valid header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) message: TypeInfo,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) program: [u8; 16],
}

impl Layout {
    /// Checks the first bytes of a region against the size of its file.
    pub(crate) fn check(control: &[u8], file_bytes: u64) -> Result<Self, LayoutError> {
        let damaged = |what: String| Err(LayoutError::Damaged(what));
        let Ok((identity, _)) = Identity::read_from_prefix(control) else { return Err(LayoutError::NotATopic) };
        if identity.magic != MAGIC {
            return Err(LayoutError::NotATopic);
        }
        if identity.version != VERSION {
            return Err(LayoutError::Version { found: identity.version });
        }
        let Ok((control, _)) = ControlSnapshot::read_from_prefix(control) else {
            return damaged(format!("the file has {file_bytes} bytes, fewer than a header"));
        };
        let geometry = match Geometry::new(identity.slots, identity.slot_bytes) {
            Ok(geometry) => geometry,
            Err(error) => return damaged(error.to_string()),
        };
        if geometry.region_bytes() != file_bytes {
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
        if !identity.type_align.is_power_of_two() || identity.type_align as usize > MAX_ALIGN {
            return damaged(format!("{} is not an alignment", identity.type_align));
        }
        if kind == Kind::Value && identity.type_size > geometry.capacity() as u64 {
            return damaged(format!("its messages have {} bytes, its slots fewer", identity.type_size));
        }
        let message = TypeInfo { name, kind, size: identity.type_size, align: identity.type_align };
        Ok(Self { geometry, message, pid: identity.pid, uid: identity.uid, program: identity.program })
    }

    /// The control page of a new region.
    pub(crate) fn control_page(&self) -> ControlSnapshot {
        let mut control = ControlSnapshot::read_from_bytes(&[0; CONTROL_BYTES]).expect("the sizes are equal");
        control.identity = Identity {
            magic: MAGIC,
            version: VERSION,
            slots: self.geometry.slots(),
            slot_bytes: self.geometry.slot_bytes(),
            type_size: self.message.size,
            type_align: self.message.align,
            type_kind: u32::from(self.message.kind == Kind::Slice),
            pid: self.pid,
            uid: self.uid,
            program: self.program,
        };
        control.type_name = self.message.name.0;
        control
    }
}

/// The control page of an open region, or as much of it as the file has.
pub(crate) fn read_control(file: impl AsFd) -> Vec<u8> {
    let mut control = vec![0; CONTROL_BYTES];
    let len = nix::sys::uio::pread(file, &mut control, 0).unwrap_or(0);
    control.truncate(len);
    control
}

/// A command name from a region, with control characters replaced.
pub(crate) fn program_name(bytes: &[u8; 16]) -> String {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(16);
    String::from_utf8_lossy(&bytes[..len]).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::Message;
    use crate::ring::layout::{DEFAULT_SLOT_BYTES, DEFAULT_SLOTS, SLOT_HEADER_BYTES, SLOT_STATE_BYTES};

    fn page() -> ControlSnapshot {
        let geometry = Geometry::new(DEFAULT_SLOTS, DEFAULT_SLOT_BYTES).unwrap();
        Layout { geometry, message: u32::TYPE, pid: 1, uid: 2, program: *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0" }
            .control_page()
    }

    fn check(change: impl FnOnce(&mut ControlSnapshot)) -> Result<Layout, LayoutError> {
        let mut page = page();
        change(&mut page);
        Layout::check(page.as_bytes(), 69_632)
    }

    #[test]
    fn a_page_reads_back_as_it_was_written() {
        let layout = check(|_| ()).unwrap();
        assert_eq!((layout.geometry.slots(), layout.geometry.slot_bytes()), (16, 4096));
        assert_eq!(layout.message, u32::TYPE);
        assert_eq!((layout.pid, layout.uid, program_name(&layout.program).as_str()), (1, 2, "abc"));
    }

    #[test]
    fn lies_are_found() {
        assert_eq!(check(|page| page.identity.magic[7] = 0).unwrap_err(), LayoutError::NotATopic);
        assert_eq!(check(|page| page.identity.version = 7).unwrap_err(), LayoutError::Version { found: 7 });
        assert_eq!(Layout::check(&[], 0).unwrap_err(), LayoutError::NotATopic);
        let lies: [fn(&mut ControlSnapshot); 8] = [
            |page| page.identity.slots = 3,
            |page| page.identity.slots = 32,
            |page| page.identity.slot_bytes = 0,
            |page| page.identity.slot_bytes = u64::MAX - 63,
            |page| page.identity.type_size = 5000,
            |page| page.identity.type_align = 3,
            |page| page.identity.type_kind = 2,
            |page| page.type_name = [0; 64],
        ];
        for (index, lie) in lies.into_iter().enumerate() {
            assert!(matches!(check(lie), Err(LayoutError::Damaged(_))), "lie {index}");
        }
        assert!(matches!(Layout::check(page().as_bytes(), 69_631), Err(LayoutError::Damaged(_))));
        assert!(matches!(Layout::check(&page().as_bytes()[..1000], 69_632), Err(LayoutError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn any_geometry_is_refused_or_fits(slots: u32, slot_bytes: u64) {
            if let Ok(geometry) = Geometry::new(slots, slot_bytes) {
                let last = u64::from(slots) - 1;
                prop_assert_eq!(geometry.state_at(last) + SLOT_STATE_BYTES, geometry.slot_at(0));
                let payload = geometry.slot_at(last) + SLOT_HEADER_BYTES;
                prop_assert!(payload.is_multiple_of(MAX_ALIGN) && geometry.capacity() >= MAX_ALIGN);
                prop_assert_eq!((payload + geometry.capacity()) as u64, geometry.region_bytes());
            }
        }

        #[test]
        fn any_header_is_refused_or_consistent(
            bytes in prop::collection::vec(any::<u8>(), 0..CONTROL_BYTES + 1),
            changed in prop::collection::vec((0usize..256, any::<u8>()), 0..6),
            file_bytes in prop_oneof![Just(69_632u64), any::<u64>()],
        ) {
            let _ = Layout::check(&bytes, file_bytes);
            let mut page = page().as_bytes().to_vec();
            for (at, byte) in changed {
                page[at] = byte;
            }
            if let Ok(layout) = Layout::check(&page, file_bytes) {
                prop_assert_eq!(layout.geometry.region_bytes(), file_bytes);
            }
        }
    }
}
