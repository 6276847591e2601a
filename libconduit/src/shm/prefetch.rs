//! Prefetch hints to the processor. They affect nothing but time.
#![allow(unsafe_code)]

/// Prefetches the cache line of `what` for reading.
#[inline]
pub(crate) fn for_reading<T>(what: &T) {
    let address = std::ptr::from_ref(what);
    // SAFETY: the instruction reads and writes no memory of the program and never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Prefetches the cache line of `what` for writing, exclusively.
#[inline]
pub(crate) fn for_writing<T>(what: &T) {
    let address = std::ptr::from_ref(what);
    // SAFETY: the instruction changes no memory and never faults; 64-bit processors that lack it
    // execute it as a no-op.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above; every processor of the architecture has it.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
