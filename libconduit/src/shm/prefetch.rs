//! Prefetch hints to the processor. They affect nothing but time.
#![allow(unsafe_code)]

macro_rules! prefetch {
    ($(#[$doc:meta])* $name:ident: $x86_64:literal, $aarch64:literal) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name<T>(address: *const T) {
            // SAFETY: the instruction changes no memory of the program and never faults. x86-64
            // processors that lack `prefetchw` execute it as a no-op.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                std::arch::asm!($x86_64, in(reg) address, options(nostack, preserves_flags, readonly));
            }
            // SAFETY: as above; every processor of the architecture has it.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                std::arch::asm!($aarch64, in(reg) address, options(nostack, preserves_flags, readonly));
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            let _ = address;
        }
    };
}

prefetch! {
    /// Prefetches the cache line of an address for reading.
    for_reading: "prefetcht0 [{}]", "prfm pldl1keep, [{}]"
}

prefetch! {
    /// Prefetches the cache line of an address for writing, exclusively.
    for_writing: "prefetchw [{}]", "prfm pstl1keep, [{}]"
}
