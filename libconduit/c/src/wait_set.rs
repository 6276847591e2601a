//! Waiting for many topics and for timers in one thread.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::time::Duration;

use conduit::{Event, Token, WaitSet, WaitSetWaker};

use crate::error::ErrorCode::{self, CONDUIT_OK};
use crate::failure::{CallFailure, call, get, message_call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::pattern_subscriber::PatternHandle;
use crate::pointers::{limit_ns, result, results};
use crate::stop::StopHandle;
use crate::subscriber::SubscriberHandle;

/// Subscribers and timers that one thread waits for at once.
#[derive(Debug)]
pub struct WaitSetHandle(());

#[derive(Debug)]
pub(crate) struct OpenWaitSet {
    set: WaitSet,
    /// What the last wait could not return: timers and wakers. A subscriber that is ready is found
    /// again.
    pending: VecDeque<Event>,
}

impl HandleKind for WaitSetHandle {
    type State = OpenWaitSet;
    const SEAL: u64 = 0xc04d_1e66_0000_0000;
    const NAME: &'static str = "a wait set";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// Ends the waits of a wait set from another thread.
#[derive(Debug)]
pub struct WakerHandle(());

impl HandleKind for WakerHandle {
    type State = WaitSetWaker;
    const SEAL: u64 = 0xc04d_1e67_0000_0000;
    const NAME: &'static str = "a waker";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// What a wait set reports. Later versions may add kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum EventCode {
    /// A subscriber has something to receive: a message, or the end of its topic.
    CONDUIT_EVENT_READY = 0,
    /// A timer expired.
    CONDUIT_EVENT_TIMER = 1,
    /// A waker was used, once or several times.
    CONDUIT_EVENT_WOKEN = 2,
}

/// One of the events that end a wait. This structure never gets more members.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EventRecord {
    /// What happened.
    pub kind: EventCode,
    /// For the library only.
    pub reserved: u32,
    /// The subscriber or timer; 0 for a waker.
    pub token: u64,
    /// Of a timer: how many earlier expirations since the last report the event stands for, too.
    pub missed: u64,
}

impl EventRecord {
    fn new(event: Event) -> Option<Self> {
        let (kind, token, missed) = match event {
            Event::Ready(token) => (EventCode::CONDUIT_EVENT_READY, token.into(), 0),
            Event::Timer { token, missed } => (EventCode::CONDUIT_EVENT_TIMER, token.into(), missed),
            Event::Woken => (EventCode::CONDUIT_EVENT_WOKEN, 0, 0),
            _ => return None,
        };
        Some(Self { kind, reserved: 0, token, missed })
    }
}

impl OpenWaitSet {
    fn new() -> Self {
        Self { set: WaitSet::new(), pending: VecDeque::new() }
    }

    /// Writes as many events as there is room for, and returns their number.
    fn wait(&mut self, timeout: Option<Duration>, room: &mut [MaybeUninit<EventRecord>]) -> Result<usize, CallFailure> {
        let mut room = room.iter_mut();
        let capacity = room.len();
        let mut put = |event: Event| match EventRecord::new(event) {
            Some(record) => room.next().map(|slot| slot.write(record)).map(drop).ok_or(event),
            // Of a kind that C does not know.
            None => Ok(()),
        };
        if self.pending.is_empty() {
            let events = match timeout {
                Some(timeout) => self.set.wait_timeout(timeout)?,
                None => self.set.wait()?,
            };
            let left = events.filter_map(|event| put(event).err());
            self.pending.extend(left.filter(|event| !matches!(event, Event::Ready(_))));
        } else {
            let first = capacity.min(self.pending.len());
            for event in self.pending.drain(..first) {
                let _ = put(event);
            }
        }
        Ok(capacity - room.len())
    }

    fn remove(&mut self, token: Token) -> bool {
        self.pending.retain(|event| !matches!(event, Event::Timer { token: of, .. } if *of == token));
        self.set.remove(token)
    }
}

/// Creates an empty wait set and returns it in `*set`, which is NULL on failure. The caller owns
/// the handle and closes it with conduit_wait_set_close().
///
/// A set does not own its subscribers, which may be closed before it or after it, in any order: a
/// subscriber that is closed leaves the set by itself.
///
/// Errors: INVALID_ARGUMENT. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_create(set: *mut *mut WaitSetHandle) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `set` is a result.
        let set = unsafe { result("set", set, null_mut()) }?;
        *set = handle::open(OpenWaitSet::new());
        Ok(CONDUIT_OK)
    })
}

/// Adds a subscriber, until it is closed or removed, and returns in `*token` what its events have;
/// 0 on failure.
///
/// Tokens are unique within a process and never 0. The subscriber must not be used during this
/// call, but it may be during a wait: on the thread that waits, or on another one.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_add(
    set: *mut WaitSetHandle,
    subscriber: *const SubscriberHandle,
    token: *mut u64,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `token` is a result, and `set` and `subscriber` are handles.
        let (token, open, subscriber) =
            unsafe { (result("token", token, 0)?, handle::state_mut(set)?, handle::state(subscriber)?) };
        *token = open.set.add(&subscriber.subscriber)?.into();
        Ok(CONDUIT_OK)
    })
}

/// Adds a subscriber to all topics that match a pattern, until it is closed or removed, and returns
/// in `*token` what its events have; 0 on failure. It is ready until
/// conduit_pattern_subscriber_try_recv() or conduit_pattern_subscriber_try_recv_event() has
/// returned CONDUIT_NO_MESSAGE.
///
/// Errors: as for conduit_wait_set_add(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_add_all(
    set: *mut WaitSetHandle,
    subscriber: *const PatternHandle,
    token: *mut u64,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `token` is a result, and `set` and `subscriber` are handles.
        let (token, open, subscriber) =
            unsafe { (result("token", token, 0)?, handle::state_mut(set)?, handle::state(subscriber)?) };
        *token = open.set.add_all(&subscriber.subscriber)?.into();
        Ok(CONDUIT_OK)
    })
}

/// Adds a timer that expires once, `after_ns` nanoseconds from now, and then leaves the set.
/// Returns in `*token` what its event has; 0 on failure.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_add_timer(
    set: *mut WaitSetHandle,
    after_ns: u64,
    token: *mut u64,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `token` is a result and `set` is a handle.
        let (token, open) = unsafe { (result("token", token, 0)?, handle::state_mut(set)?) };
        *token = open.set.add_timer(Duration::from_nanos(after_ns)).into();
        Ok(CONDUIT_OK)
    })
}

/// Adds a timer that expires every `period_ns` nanoseconds, first a period from now. Returns in
/// `*token` what its events have; 0 on failure.
///
/// It does not drift, however late its events are handled. Expirations that pass before the next
/// wait are reported as one event, which counts them.
///
/// Errors: INVALID_ARGUMENT (a period of 0), INVALID_HANDLE, FORKED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_add_interval(
    set: *mut WaitSetHandle,
    period_ns: u64,
    token: *mut u64,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `token` is a result and `set` is a handle.
        let (token, open) = unsafe { (result("token", token, 0)?, handle::state_mut(set)?) };
        if period_ns == 0 {
            return Err(CallFailure::argument("the period of a timer is 0; use 1 ns or more"));
        }
        *token = open.set.add_interval(Duration::from_nanos(period_ns)).into();
        Ok(CONDUIT_OK)
    })
}

/// Lets `stop` end the waits of the set, from another thread or on a signal: they return
/// CONDUIT_ERROR_STOPPED then. It replaces the one that the set had before. The set keeps it: the
/// handle may be closed.
///
/// Errors: INVALID_HANDLE, FORKED. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_stop(set: *mut WaitSetHandle, stop: *const StopHandle) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `set` and `stop` are handles.
        let (open, stop) = unsafe { (handle::state_mut(set)?, handle::inherited(stop)?) };
        open.set.stop(stop);
        Ok(CONDUIT_OK)
    })
}

/// Removes a subscriber or timer. Returns whether it was in the set.
///
/// False on failure. Errors: INVALID_HANDLE, FORKED. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_remove(set: *mut WaitSetHandle, token: u64) -> bool {
    // SAFETY: `conduit.h`: `set` is a handle.
    get(false, || Ok(unsafe { handle::state_mut(set) }?.remove(token.into())))
}

/// Sleeps until there are events, writes up to `capacity` of them to `events`, and returns their
/// number in `*count`. If `timeout_ns` nanoseconds pass first, the number is 0; CONDUIT_FOREVER is
/// no limit, and 0 does not sleep.
///
/// A subscriber is ready for as long as it has something to receive, a message or the end of its
/// topic: a program may receive one message per event, and removes a subscriber whose topic has
/// ended. All that are ready are reported in turn; those that do not fit are reported by the next
/// call. Rarely, a subscriber is ready and conduit_subscriber_try_recv() returns
/// CONDUIT_NO_MESSAGE. Signals do not interrupt it: use a stop or a waker.
///
/// A set of up to 127 subscribers sleeps in one system call. For more, and on kernels before 5.16,
/// threads of the library sleep. A set with a subscriber that may only read its region polls every
/// millisecond.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, NOTHING_TO_WAIT_FOR (without a limit, and the
/// set has no subscribers, timers, wakers or stop, or has lost the last of them), STOPPED, IO (a
/// thread could not be started). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_wait(
    set: *mut WaitSetHandle,
    timeout_ns: u64,
    events: *mut EventRecord,
    capacity: usize,
    count: *mut usize,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `count` is a result, `set` is a handle, and `events` has room for
        // `capacity` events.
        let (count, open, events) =
            unsafe { (result("count", count, 0)?, handle::state_mut(set)?, results("events", events, capacity)?) };
        if events.is_empty() {
            return Err(CallFailure::argument("`capacity` is 0: there is no room for an event"));
        }
        *count = open.wait(limit_ns(timeout_ns), events)?;
        Ok(CONDUIT_OK)
    })
}

/// Makes a waker, which ends the waits of a set from other threads, and returns it in `*waker`,
/// which is NULL on failure. The caller closes it with conduit_waker_close().
///
/// A set may have any number of wakers, which may outlive it.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_waker(set: *mut WaitSetHandle, waker: *mut *mut WakerHandle) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `waker` is a result and `set` is a handle.
        let (waker, open) = unsafe { (result("waker", waker, null_mut())?, handle::state_mut(set)?) };
        *waker = handle::open(open.set.waker());
        Ok(CONDUIT_OK)
    })
}

/// Makes the current wait of the set, or else its next one, report CONDUIT_EVENT_WOKEN. Never
/// blocks.
///
/// Errors: INVALID_HANDLE, FORKED. Thread-safe, also with the wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_waker_wake(waker: *const WakerHandle) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `waker` is a handle that does not change during the call.
        unsafe { handle::state(waker) }?.wake();
        Ok(CONDUIT_OK)
    })
}

/// Frees a waker. NULL is accepted and does nothing.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_waker_close(waker: *mut WakerHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `waker` is a handle.
    unsafe { handle::close(waker) }
}

/// Frees a wait set. NULL is accepted and does nothing. Its subscribers stay open.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_wait_set_close(set: *mut WaitSetHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `set` is a handle.
    unsafe { handle::close(set) }
}
