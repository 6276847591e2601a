//! Memory that the C library keeps for later.
#![allow(unsafe_code)]

/// Gives the system back the memory that was freed. The C library keeps it, between pieces that are
/// in use, and returns by itself only what lies at the end of a heap. Takes milliseconds if there
/// is much; allocations of other threads wait meanwhile.
///
/// Without effect on C libraries other than the GNU one.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and frees pages of which nothing is allocated.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn memory_between_pieces_in_use_is_given_back() {
        const PIECES: usize = 2000;
        const BYTES: usize = 32 << 10;
        // So small that they lie in the heap; every tenth stays.
        let pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; BYTES]).collect();
        let full = resident_kib();
        let kept: Vec<_> = pieces.into_iter().step_by(10).collect();
        trim();
        let trimmed = resident_kib();
        // Other tests allocate at the same time.
        assert!(trimmed + PIECES * BYTES / 1024 / 2 < full, "{full} KiB, {trimmed} after {} stay", kept.len());
    }
}
