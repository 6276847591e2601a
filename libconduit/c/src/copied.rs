//! Receiving copies of messages into memory of the caller.

use std::ffi::c_void;

use conduit::{Copied, RecvError, Subscriber};

use crate::error::ErrorCode::{self, CONDUIT_NO_MESSAGE, CONDUIT_OK};
use crate::failure::message_call;
use crate::handle;
use crate::pointers::{self, limit_ns, result};
use crate::subscriber::SubscriberHandle;

/// What is known of a message that was copied to the caller. This structure never gets more
/// members.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CopiedRecord {
    /// Length of the message in bytes.
    pub size: usize,
    /// Sequence number of the message: the first of a topic has 0.
    pub sequence: u64,
    /// Number of messages that this subscriber missed between the previous one and this one.
    pub lost: u64,
    /// When it was published, as nanoseconds of CLOCK_MONOTONIC; 0 if the publisher has time stamps
    /// turned off.
    pub stamp_ns: u64,
}

impl CopiedRecord {
    /// What functions that copy a message leave behind if they fail.
    const NONE: Self = Self { size: 0, sequence: 0, lost: 0, stamp_ns: 0 };

    #[inline(always)]
    fn new(copied: &Copied<usize>) -> Self {
        Self {
            size: **copied,
            sequence: copied.sequence(),
            lost: copied.lost(),
            stamp_ns: copied.stamp_ns().unwrap_or(0),
        }
    }
}

/// Copies a message to `buffer` as `receive` does, and returns what is known of it in `*copied`.
///
/// # Safety
///
/// `copied` is a result, `subscriber` is a handle, and `buffer` has `capacity` bytes that may be
/// written.
#[inline(always)]
unsafe fn copy(
    subscriber: *mut SubscriberHandle,
    (buffer, capacity): (*mut c_void, usize),
    copied: *mut CopiedRecord,
    receive: impl FnOnce(&mut Subscriber<[u8]>, &mut [u8]) -> Result<Option<Copied<usize>>, RecvError>,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: as the caller vouches.
        let (copied, open, buffer) = unsafe {
            (
                result("copied", copied, CopiedRecord::NONE)?,
                handle::state_mut(subscriber)?,
                pointers::buffer(buffer, capacity)?,
            )
        };
        let Some(message) = receive(&mut open.subscriber, buffer)? else { return Ok(CONDUIT_NO_MESSAGE) };
        *copied = CopiedRecord::new(&message);
        Ok(CONDUIT_OK)
    })
}

/// Copies the next message to `buffer`, which has `capacity` bytes, if there is one, or else
/// returns CONDUIT_NO_MESSAGE. What is known of it is returned in `*copied`, whose members are 0 on
/// failure.
///
/// For messages of up to a few hundred bytes this is faster than reading them in place: nothing is
/// written that the publisher has to read, and there is nothing to release. A message that is
/// overwritten while it is copied counts as lost. Never allocates unless it fails.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, BUSY, FORKED, PUBLISHER_CLOSED, PUBLISHER_DIED,
/// INVALID_MESSAGE, MESSAGE_TOO_LARGE (longer than the buffer; it counts as received). One thread
/// at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_try_recv_copy(
    subscriber: *mut SubscriberHandle,
    buffer: *mut c_void,
    capacity: usize,
    copied: *mut CopiedRecord,
) -> ErrorCode {
    // SAFETY: `conduit.h` asks for what `copy` does.
    unsafe { copy(subscriber, (buffer, capacity), copied, Subscriber::try_recv_into) }
}

/// As conduit_subscriber_try_recv_copy(), but sleeps until there is a message or `timeout_ns`
/// nanoseconds have passed; CONDUIT_FOREVER is no limit. Signals do not interrupt it.
///
/// Errors: as for conduit_subscriber_try_recv_copy(), and TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv_copy(
    subscriber: *mut SubscriberHandle,
    timeout_ns: u64,
    buffer: *mut c_void,
    capacity: usize,
    copied: *mut CopiedRecord,
) -> ErrorCode {
    let receive = |subscriber: &mut Subscriber<[u8]>, buffer: &mut [u8]| match limit_ns(timeout_ns) {
        Some(timeout) => subscriber.recv_into_timeout(buffer, timeout).map(Some),
        None => subscriber.recv_into(buffer).map(Some),
    };
    // SAFETY: `conduit.h` asks for what `copy` does.
    unsafe { copy(subscriber, (buffer, capacity), copied, receive) }
}

/// As conduit_subscriber_try_recv_copy(), for the newest message; those before it are skipped, as
/// by conduit_subscriber_latest().
///
/// Errors: as for conduit_subscriber_try_recv_copy(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_latest_copy(
    subscriber: *mut SubscriberHandle,
    buffer: *mut c_void,
    capacity: usize,
    copied: *mut CopiedRecord,
) -> ErrorCode {
    // SAFETY: `conduit.h` asks for what `copy` does.
    unsafe { copy(subscriber, (buffer, capacity), copied, Subscriber::latest_into) }
}
