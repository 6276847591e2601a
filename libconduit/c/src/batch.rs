//! Sending many messages in one call.

use std::ffi::c_void;
use std::iter::repeat_n;

use crate::error::ErrorCode::{self, CONDUIT_OK};
use crate::failure::{CallFailure, message_call};
use crate::handle;
use crate::pointers::{self, array, result};
use crate::publisher::{OpenPublisher, PublisherHandle};

/// One of the messages of a batch. This structure never gets more members.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MessageBytes {
    /// Its bytes; may be NULL if `size` is 0.
    pub data: *const c_void,
    /// Its length in bytes.
    pub size: usize,
}

/// Publishes copies of `count` messages in a row, and returns in `*sent` how many; 0 on failure.
///
/// For high rates: chunks of up to 64 messages share what each call of conduit_publisher_send()
/// costs anew, such as a memory fence, the look for sleeping subscribers and the time stamp.
/// Subscribers receive each message as soon as it is written; those that sleep are woken once per
/// chunk. It never blocks, and does not allocate unless it fails. `messages` may be NULL if `count`
/// is 0.
///
/// Errors: as for conduit_publisher_send(), and then none was sent. A message that cannot be sent
/// ends the batch after those before it: then `*sent` is smaller than `count`, and sending the next
/// one returns the reason. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_send_batch(
    publisher: *mut PublisherHandle,
    messages: *const MessageBytes,
    count: usize,
    sent: *mut usize,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `sent` is a result, `publisher` is a handle, and `messages` has
        // `count` readable elements or is NULL.
        let (sent, open, messages) =
            unsafe { (result("sent", sent, 0)?, handle::state_mut(publisher)?, array("messages", messages, count)?) };
        // SAFETY: `conduit.h`: each has as many readable bytes as it says, or is NULL.
        let bytes = |one: &MessageBytes| unsafe { pointers::message(one.data, one.size) };
        for one in messages {
            bytes(one)?;
        }
        *sent = open.send_batch(messages.iter().map(|one| bytes(one).unwrap_or_default()))?;
        Ok(CONDUIT_OK)
    })
}

/// As conduit_publisher_send_batch(), for `count` messages of `size` bytes each that lie one after
/// the other from `data` on: an array of values. `data` may be NULL if either is 0.
///
/// Errors: as for conduit_publisher_send_batch(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_send_array(
    publisher: *mut PublisherHandle,
    data: *const c_void,
    size: usize,
    count: usize,
    sent: *mut usize,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `sent` is a result and `publisher` is a handle.
        let (sent, open) = unsafe { (result("sent", sent, 0)?, handle::state_mut(publisher)?) };
        // SAFETY: `conduit.h`: `data` has so many readable bytes or is NULL. A product that is too
        // large for a `usize` is too large for an object, and refused.
        let bytes = unsafe { pointers::message(data, size.saturating_mul(count)) }?;
        *sent = match size {
            0 => open.send_batch(repeat_n(bytes, count))?,
            size => open.send_batch(bytes.chunks_exact(size))?,
        };
        Ok(CONDUIT_OK)
    })
}

impl OpenPublisher {
    #[inline(always)]
    fn send_batch<'m>(
        &mut self,
        messages: impl IntoIterator<Item = &'m [u8], IntoIter: ExactSizeIterator>,
    ) -> Result<usize, CallFailure> {
        let sent = self.publisher()?.send_batch(messages)?;
        self.published += sent as u64;
        Ok(sent)
    }
}
