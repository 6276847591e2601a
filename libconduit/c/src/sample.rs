//! Samples in structures that C owns.

use std::ffi::c_void;
use std::ptr::null;

use conduit::Sample;

use crate::error::ErrorCode::{self, CONDUIT_ERROR_NO_SAMPLE, CONDUIT_ERROR_SAMPLE_HELD, CONDUIT_OK};
use crate::failure::{CallFailure, message_call};
use crate::pointers::object;

/// A message that a subscriber holds. Its slot is not overwritten meanwhile.
///
/// Initialise it with CONDUIT_SAMPLE_INIT, receive into it, and release it with
/// conduit_sample_release(). It may outlive the subscriber and the topic. To move it, assign it and
/// set the old structure to CONDUIT_SAMPLE_INIT: do not release two copies. This structure never
/// gets more members.
#[derive(Debug)]
#[repr(C)]
pub struct HeldSample {
    /// The message, read-only; NULL if the structure holds none. Aligned to 64 bytes; a value of up
    /// to 32 bytes to 32.
    pub data: *const c_void,
    /// Length of the message in bytes.
    pub size: usize,
    /// Sequence number of the message: the first of a topic has 0.
    pub sequence: u64,
    /// Number of messages that this subscriber missed between the previous one and this one.
    pub lost: u64,
    /// When it was published, as nanoseconds of CLOCK_MONOTONIC; 0 if the publisher has time stamps
    /// turned off.
    pub stamp_ns: u64,
    /// For the library only.
    pub reserved: [u64; 16],
}

/// The value of `reserved[0]` while the structure holds a sample, which is then in the words after.
const HELD: u64 = 0xc04d_1e64_5a3e_11ed;

const _: () = assert!(size_of::<Sample<[u8]>>() <= 15 * 8 && align_of::<Sample<[u8]>>() <= 8);

impl HeldSample {
    /// A structure that a message can be received into.
    ///
    /// # Safety
    ///
    /// If `sample` is neither NULL nor misaligned, it points to an initialised structure that is
    /// used here alone during `'a`.
    #[inline(always)]
    pub(crate) unsafe fn empty<'a>(sample: *mut Self) -> Result<&'a mut Self, CallFailure> {
        // SAFETY: as the caller vouches; an initialised structure is valid.
        let sample = unsafe { object("sample", sample) }?;
        if sample.reserved[0] == HELD { Err(held()) } else { Ok(sample) }
    }

    #[inline(always)]
    pub(crate) fn hold(&mut self, sample: Sample<[u8]>) {
        self.data = sample.as_ptr().cast();
        self.size = sample.len();
        self.sequence = sample.sequence();
        self.lost = sample.lost();
        self.stamp_ns = sample.stamp_ns().unwrap_or(0);
        // SAFETY: the assertion above: the 15 words after the first have room for it, aligned.
        unsafe { (&raw mut self.reserved[1]).cast::<Sample<[u8]>>().write(sample) };
        self.reserved[0] = HELD;
    }

    fn release(&mut self) -> Result<(), CallFailure> {
        if self.reserved[0] != HELD {
            return Err(no_sample());
        }
        self.reserved[0] = 0;
        self.data = null();
        self.size = 0;
        // SAFETY: the mark says that `hold` put a sample there; it is gone, so this happens once.
        unsafe { (&raw mut self.reserved[1]).cast::<Sample<[u8]>>().drop_in_place() };
        Ok(())
    }
}

#[cold]
fn held() -> CallFailure {
    CallFailure::new(
        CONDUIT_ERROR_SAMPLE_HELD,
        "the structure holds a sample; release it with conduit_sample_release first",
    )
}

#[cold]
fn no_sample() -> CallFailure {
    CallFailure::new(
        CONDUIT_ERROR_NO_SAMPLE,
        "the structure holds no sample: it was released before, or nothing was received",
    )
}

/// Releases a sample: its data must not be read any more, and the structure can be received into
/// again. NULL is accepted and does nothing.
///
/// Errors: INVALID_ARGUMENT, NO_SAMPLE. Thread-safe for different samples, on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_sample_release(sample: *mut HeldSample) -> ErrorCode {
    message_call(|| {
        if !sample.is_null() {
            // SAFETY: `conduit.h`: it is a sample, which is initialised and nobody else's.
            unsafe { object("sample", sample) }?.release()?;
        }
        Ok(CONDUIT_OK)
    })
}
