//! Hints to the processor's cache. They change nothing but time.
#![allow(unsafe_code)]

/// Has the line that `what` lies in brought into this processor's cache, to be read there.
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

/// Has the line that `what` lies in brought into this processor's cache, to be written there: away from whoever has it now.
#[inline]
pub(crate) fn for_writing<T>(what: &T) {
    let address = std::ptr::from_ref(what);
    // SAFETY: the instruction reads and writes no memory of the program and never faults; processors that do not know it
    // take it for a no-op (all with 64 bits do).
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above; every processor of the architecture knows it.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
