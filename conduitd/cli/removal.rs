//! Removing regions without a registry.

use std::io;

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{Removal, ShmDir};

/// Removes the name of a region if it still is that region's.
pub(crate) fn take_name(directory: &ShmDir, region: &Region) -> io::Result<()> {
    match directory.remove(region.topic(), region.id())? {
        Removal::Removed | Removal::NotOurs => Ok(()),
        Removal::Stranded(name) => Err(io::Error::other(format!("a live region was renamed to {name} meanwhile"))),
    }
}
