//! Ending calls that wait from another thread, or on a signal.

use std::ffi::c_int;
use std::ptr::null_mut;

use conduit::Stop;

use crate::error::ErrorCode::{self, CONDUIT_ERROR_INVALID_ARGUMENT, CONDUIT_OK};
use crate::failure::{CallFailure, call, get, message_call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::{self, result};

/// Ends calls that wait. Any number of subscribers, wait sets and watches may have the same one.
#[derive(Debug)]
pub struct StopHandle(());

impl HandleKind for StopHandle {
    type State = Stop;
    const SEAL: u64 = 0xc04d_1e6c_0000_0000;
    const NAME: &'static str = "a stop";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// The stop that options or a call refer to; `None` for NULL.
///
/// # Safety
///
/// `stop` is a handle that does not change during the call.
pub(crate) unsafe fn given(stop: *const StopHandle) -> Result<Option<Stop>, CallFailure> {
    if stop.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller vouches. A stop has no memory that a child of fork lacks.
    unsafe { handle::inherited(stop) }.cloned().map(Some)
}

/// Creates a stop, which ends calls that wait, and returns it in `*stop`, which is NULL on failure.
/// The caller closes it with conduit_stop_close().
///
/// What waits is given the stop in advance: the member `stop` of conduit_subscriber_options,
/// conduit_wait_set_stop(), conduit_watch_stop() or conduit_region_wait_until_exists_or_stopped().
/// Once it is stopped, which is for good, each call of theirs that waits
/// returns CONDUIT_ERROR_STOPPED at once, also one that begins later. Nothing is lost: functions
/// that do not wait, such as conduit_subscriber_try_recv(), receive what has arrived.
///
/// A forked child has a stop of its own behind the handle: stopping one does not stop the other.
///
/// Errors: INVALID_ARGUMENT. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_stop_create(stop: *mut *mut StopHandle) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `stop` is a result.
        let stop = unsafe { result("stop", stop, null_mut()) }?;
        *stop = handle::open(Stop::new());
        Ok(CONDUIT_OK)
    })
}

/// Creates a stop that each of `count` signals stops, given by their numbers, and returns it in
/// `*stop`, which is NULL on failure. With `count` 0 these are SIGTERM and SIGINT, and `signals`
/// may be NULL.
///
/// It installs a handler for each. The first signal stops it. A further one, when it is stopped
/// already, finds the action that the signal had before, which usually ends the process; so does
/// one that comes when nothing has the stop any more. A signal that was ignored stays ignored. If
/// several stops have the same signal, it stops all of them. Nothing polls, and no thread is
/// started.
///
/// Errors: INVALID_ARGUMENT (also for a signal that cannot be handled, or that an instruction
/// raises). Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_stop_on_signals(
    signals: *const c_int,
    count: usize,
    stop: *mut *mut StopHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `stop` is a result, and `signals` has `count` readable elements.
        let (stop, signals) =
            unsafe { (result("stop", stop, null_mut())?, pointers::array("signals", signals, count)?) };
        let made = if signals.is_empty() { Stop::on_termination() } else { Stop::on_signals(signals.iter().copied()) };
        *stop = handle::open(made.map_err(|error| CallFailure::of(CONDUIT_ERROR_INVALID_ARGUMENT, &error))?);
        Ok(CONDUIT_OK)
    })
}

/// Ends all calls that wait and have this stop, for good. Stopping again changes nothing.
///
/// Never blocks, and may be called by a signal handler if the handle is open.
///
/// Errors: INVALID_HANDLE. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_stop_stop(stop: *const StopHandle) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `stop` is a handle that does not change during the call.
        unsafe { handle::inherited(stop) }?.stop();
        Ok(CONDUIT_OK)
    })
}

/// Returns whether it was stopped.
///
/// False on failure. Errors: INVALID_HANDLE. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_stop_is_stopped(stop: *const StopHandle) -> bool {
    // SAFETY: `conduit.h`: `stop` is a handle that does not change during the call.
    get(false, || Ok(unsafe { handle::inherited(stop) }?.is_stopped()))
}

/// Frees a stop. NULL is accepted and does nothing. What has it keeps it, and can no longer be
/// stopped.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_stop_close(stop: *mut StopHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `stop` is a handle.
    unsafe { handle::close(stop) }
}
