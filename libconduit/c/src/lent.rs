//! Receiving messages that are lent to a function, one or many.

use std::ffi::c_void;

use conduit::Borrowed;
use conduit::internal::shm::cancellation::Uncancelled;

use crate::error::ErrorCode::{self, CONDUIT_NO_MESSAGE, CONDUIT_OK};
use crate::failure::{CallFailure, message_call};
use crate::handle;
use crate::pointers::{limit_ns, result};
use crate::subscriber::SubscriberHandle;

/// A message that is lent to a function, until it returns. Later versions may add members at the
/// end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct LentRecord {
    /// The message, read-only. Aligned as its type asks, and to at least 32 bytes.
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
}

/// Reads a message that is lent to it, with the context that was given.
///
/// It is called on the thread that receives, before the receiving function returns, and cannot be
/// cancelled. It may use every handle but the subscriber's, which is CONDUIT_ERROR_BUSY meanwhile.
/// A C++ exception out of it ends the process; longjmp() out of it is undefined behaviour.
pub type ReadMessage = Option<unsafe extern "C-unwind" fn(context: *mut c_void, message: *const LentRecord)>;

/// A function of C with its context.
#[derive(Clone, Copy)]
struct ReadCallback {
    read: unsafe extern "C-unwind" fn(*mut c_void, *const LentRecord),
    context: *mut c_void,
}

impl ReadCallback {
    fn new(read: ReadMessage, context: *mut c_void) -> Result<Self, CallFailure> {
        Ok(Self { read: read.ok_or_else(|| CallFailure::null("read"))?, context })
    }

    /// # Safety
    ///
    /// The function is one of its type and accepts the context, on this thread.
    #[inline(always)]
    unsafe fn read(self, message: &Borrowed<'_, [u8]>) {
        let lent = LentRecord {
            data: message.as_ptr().cast(),
            size: message.len(),
            sequence: message.sequence(),
            lost: message.lost(),
            stamp_ns: message.stamp_ns().unwrap_or(0),
        };
        let _uncancelled = Uncancelled::new();
        // SAFETY: as the caller vouches; `lent` outlives the call.
        unsafe { (self.read)(self.context, &raw const lent) }
    }
}

/// Lends the next message to `read` if there is one, or else returns CONDUIT_NO_MESSAGE.
///
/// The message is held only while `read` runs: there is nothing to release, and it costs less than
/// conduit_subscriber_try_recv(). `context` is passed on. It does not allocate unless samples are
/// copied.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, BUSY, FORKED, PUBLISHER_CLOSED, PUBLISHER_DIED,
/// INVALID_MESSAGE; `read` is not called then. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_try_recv_with(
    subscriber: *mut SubscriberHandle,
    read: ReadMessage,
    context: *mut c_void,
) -> ErrorCode {
    message_call(|| {
        let reader = ReadCallback::new(read, context)?;
        // SAFETY: `conduit.h`: `subscriber` is a handle.
        let mut open = unsafe { handle::lock(subscriber) }?;
        // SAFETY: `conduit.h`: the function has this type and accepts the context.
        let read = |message: Borrowed<'_, [u8]>| unsafe { reader.read(&message) };
        let lent = open.subscriber.try_recv_with(read)?;
        Ok(if lent.is_some() { CONDUIT_OK } else { CONDUIT_NO_MESSAGE })
    })
}

/// Lends the next message to `read`, and sleeps until there is one or `timeout_ns` nanoseconds have
/// passed; CONDUIT_FOREVER is no limit. Signals do not interrupt it.
///
/// Errors: as for conduit_subscriber_try_recv_with(), and TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv_with(
    subscriber: *mut SubscriberHandle,
    timeout_ns: u64,
    read: ReadMessage,
    context: *mut c_void,
) -> ErrorCode {
    message_call(|| {
        let reader = ReadCallback::new(read, context)?;
        // SAFETY: `conduit.h`: `subscriber` is a handle.
        let mut open = unsafe { handle::lock(subscriber) }?;
        // SAFETY: `conduit.h`: the function has this type and accepts the context.
        let read = |message: Borrowed<'_, [u8]>| unsafe { reader.read(&message) };
        match limit_ns(timeout_ns) {
            Some(timeout) => open.subscriber.recv_with_timeout(timeout, read)?,
            None => open.subscriber.recv_with(read)?,
        }
        Ok(CONDUIT_OK)
    })
}

/// Lends up to `max` messages that have arrived to `read`, one after the other, and returns their
/// number in `*count`; returns CONDUIT_NO_MESSAGE if there is none.
///
/// For high rates: the subscriber publishes its own progress once per batch, and holds each message
/// only while `read` runs. Loss is counted as exactly as by conduit_subscriber_try_recv().
///
/// Errors: as for conduit_subscriber_try_recv_with(). An invalid message ends the batch after those
/// before it, whose number is in `*count`. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_try_recv_batch(
    subscriber: *mut SubscriberHandle,
    max: usize,
    read: ReadMessage,
    context: *mut c_void,
    count: *mut usize,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `count` is a result.
        let (reader, count) = (ReadCallback::new(read, context)?, unsafe { result("count", count, 0) }?);
        // SAFETY: `conduit.h`: `subscriber` is a handle.
        let mut open = unsafe { handle::lock(subscriber) }?;
        let received = open.subscriber.try_recv_batch(max, |message| {
            // SAFETY: `conduit.h`: the function has this type and accepts the context.
            unsafe { reader.read(&message) };
            *count += 1;
        })?;
        Ok(if received == 0 && max > 0 { CONDUIT_NO_MESSAGE } else { CONDUIT_OK })
    })
}

/// As conduit_subscriber_try_recv_batch(), but sleeps until there is a message or `timeout_ns`
/// nanoseconds have passed; CONDUIT_FOREVER is no limit. Signals do not interrupt it.
///
/// Errors: as for conduit_subscriber_try_recv_batch(), and TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv_batch(
    subscriber: *mut SubscriberHandle,
    timeout_ns: u64,
    max: usize,
    read: ReadMessage,
    context: *mut c_void,
    count: *mut usize,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `count` is a result.
        let (reader, count) = (ReadCallback::new(read, context)?, unsafe { result("count", count, 0) }?);
        // SAFETY: `conduit.h`: `subscriber` is a handle.
        let mut open = unsafe { handle::lock(subscriber) }?;
        let each = |message: Borrowed<'_, [u8]>| {
            // SAFETY: `conduit.h`: the function has this type and accepts the context.
            unsafe { reader.read(&message) };
            *count += 1;
        };
        match limit_ns(timeout_ns) {
            Some(timeout) => open.subscriber.recv_batch_timeout(max, timeout, each)?,
            None => open.subscriber.recv_batch(max, each)?,
        };
        Ok(CONDUIT_OK)
    })
}
