//! Which slot the writer fills next.

use crate::mutation::mutated;
use crate::shm::caches;

/// The slots that a writer prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// That of the oldest message, so that the ring keeps as many as it can. It is claimed ahead of
    /// time.
    Oldest,
    /// That of the newest message that every reader has received, except the last `retain`: its
    /// bytes are still in the caches. It is claimed when it is needed.
    Newest {
        /// Messages that are kept for readers that join later.
        retain: u16,
    },
}

/// From this capacity on the caches make the newest slots faster, in bytes. Intel's processors read
/// what another core has just written from its cache as fast as from the one that they share. AMD's
/// do not, and smaller messages are better off in the shared cache. Between cores that share none,
/// AMD's are even slower than memory: 1 MiB takes 3 times as long from the other core's cache.
const HOT_BYTES_INTEL: usize = 32 << 10;
const HOT_BYTES: usize = 512 << 10;

impl Reuse {
    /// What suits messages of up to `capacity_bytes` on this processor.
    pub(crate) fn for_capacity(capacity_bytes: usize, retain: u16) -> Self {
        Self::on(is_intel(), caches::is_one_shared_by_all, capacity_bytes, retain)
    }

    fn on(is_intel: bool, is_cache_shared: impl FnOnce() -> bool, capacity_bytes: usize, retain: u16) -> Self {
        let is_hot = if is_intel || mutated!(hot_as_on_intel) {
            capacity_bytes >= HOT_BYTES_INTEL
        } else {
            capacity_bytes >= HOT_BYTES && (is_cache_shared() || mutated!(hot_in_any_cache))
        };
        if is_hot && !mutated!(never_hot) { Self::Newest { retain } } else { Self::Oldest }
    }
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    // CPUID leaf 0: "GenuineIntel", of which this is the beginning.
    std::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Genu")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

/// The slot of each entry: the one that has its message, or had its last one. Every slot has one
/// entry. Kept by the writer for itself, since readers can write to the region.
#[derive(Debug)]
pub(crate) struct SlotOrder {
    slots: Box<[u32]>,
    reuse: Reuse,
}

impl SlotOrder {
    pub(crate) fn new(slots: u32, reuse: Reuse) -> Self {
        Self { slots: (0..slots).collect(), reuse }
    }

    #[inline(always)]
    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// The slot of an entry.
    #[inline(always)]
    pub(crate) fn slot_of(&self, entry: u32) -> u32 {
        self.slots[entry as usize]
    }

    /// Exchanges the slots of two entries.
    #[inline(always)]
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        self.slots.swap(a as usize, b as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_slots_are_reused_while_they_are_hot() {
        for retain in [0, 5] {
            let hot = Reuse::Newest { retain };
            for (is_intel, is_shared, least_bytes) in
                [(true, false, Some(32 << 10)), (false, true, Some(512 << 10)), (false, false, None)]
            {
                let chosen = |capacity_bytes| Reuse::on(is_intel, || is_shared, capacity_bytes, retain);
                assert_eq!(chosen(64), Reuse::Oldest);
                if let Some(least_bytes) = least_bytes {
                    assert_eq!(chosen(least_bytes - 1), Reuse::Oldest);
                    assert_eq!(chosen(least_bytes), hot);
                } else {
                    assert_eq!(chosen(1 << 30), Reuse::Oldest);
                }
            }
        }
    }
}
