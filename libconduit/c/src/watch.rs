//! Watching what happens to topics.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{null, null_mut};
use std::time::Duration;

use conduit::registry::{Client, EventKind, RegistryEvent, RegistryEvents, Watch};
use conduit::{TopicName, TopicPattern};

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{
    self, CONDUIT_ERROR_INVALID_ARGUMENT, CONDUIT_ERROR_TIMED_OUT, CONDUIT_NO_MESSAGE, CONDUIT_OK,
};
use crate::failure::{CallFailure, call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::{limit_ns, result, string, topic_name};
use crate::reported::{KINDS, ReportedEvent, ReportedRecord};
use crate::stop::StopHandle;

/// A watch of the registry: what happens to topics, as it happens.
#[derive(Debug)]
pub struct WatchHandle(());

#[derive(Debug)]
pub(crate) struct OpenWatch {
    events: RegistryEvents,
    last: Option<Box<ReportedEvent>>,
}

impl HandleKind for WatchHandle {
    type State = OpenWatch;
    const SEAL: u64 = 0xc04d_1e6a_0000_0000;
    const NAME: &'static str = "a watch";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

impl OpenWatch {
    /// Keeps an event for C.
    fn keep(&mut self, event: &RegistryEvent) -> *const ReportedRecord {
        &raw const self.last.insert(Box::new(ReportedEvent::new(event))).record
    }
}

/// A pattern of topic names.
///
/// # Safety
///
/// As for [`string`], during the call.
pub(crate) unsafe fn pattern(given: *const c_char) -> Result<Option<TopicPattern>, CallFailure> {
    // SAFETY: as the caller vouches.
    let Some(text) = (unsafe { string(given) }) else { return Ok(None) };
    // One that is not UTF-8 is not valid either, and the message names the offending byte.
    let parsed = TopicPattern::new(&text.to_string_lossy());
    Ok(Some(parsed.map_err(|error| CallFailure::of(CONDUIT_ERROR_INVALID_ARGUMENT, &error))?))
}

/// The kinds whose bits are set; `None` for all.
fn kinds(bits: u64) -> Result<Option<Vec<EventKind>>, CallFailure> {
    if bits >> KINDS.len() != 0 {
        return Err(CallFailure::argument(format!(
            "the kinds of events {bits:#x} have bits of none; set 1 << CONDUIT_REPORTED_DIED, for example"
        )));
    }
    let set = KINDS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0);
    Ok((bits != 0).then(|| set.map(|(_, (kind, _))| kind.clone()).collect()))
}

/// Watches what happens to topics and raw regions, and returns the watch in `*watch`, which is NULL
/// on failure. `domain` may be NULL. The caller owns the handle and closes it with
/// conduit_watch_close().
///
/// The first events list the topics and subscribers that exist: CONDUIT_REPORTED_PRESENT and
/// CONDUIT_REPORTED_SUBSCRIBER_PRESENT. Nothing is lost or repeated between them and those that
/// follow. `pattern` is one of topic names (see conduit_pattern_matches()); NULL for all. `kinds`
/// has the bits `1 << kind` of those that are wanted; 0 for all.
///
/// Keep reading: a watch that falls too many events behind is ended.
///
/// Errors: INVALID_ARGUMENT, NO_REGISTRY, REGISTRY, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_watch_open(
    domain: *const DomainOptions,
    pattern: *const c_char,
    kinds: u64,
    watch: *mut *mut WatchHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `watch` is a result, `domain` are options and `pattern` is a string.
        let (watch, domain, pattern) =
            unsafe { (result("watch", watch, null_mut())?, self::domain(domain)?, self::pattern(pattern)?) };
        let wanted = Watch::new(pattern.map(|pattern| pattern.to_string()), self::kinds(kinds)?);
        let events = Client::connect(&domain)?.watch_matching(&wanted)?;
        *watch = handle::open(OpenWatch { events, last: None });
        Ok(CONDUIT_OK)
    })
}

/// Lets `stop` end the calls that wait for this watch's events: they return CONDUIT_ERROR_STOPPED
/// then, and no event is lost. It replaces the one that the watch had before. The watch keeps it:
/// the handle may be closed.
///
/// Errors: INVALID_HANDLE, FORKED. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_watch_stop(watch: *mut WatchHandle, stop: *const StopHandle) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `watch` and `stop` are handles.
        let (open, stop) = unsafe { (handle::state_mut(watch)?, handle::inherited(stop)?) };
        open.events.stop(stop);
        Ok(CONDUIT_OK)
    })
}

/// Returns the next event in `*event`, and sleeps until there is one or `timeout_ns` nanoseconds
/// have passed; CONDUIT_FOREVER is no limit. NULL on failure. The event is valid until the next
/// call with this watch. Signals do not interrupt it.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, TIMED_OUT, STOPPED, REGISTRY (an event that
/// the library does not understand; there are more after it), IO (the registry has ended the watch,
/// or has ended). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_watch_next(
    watch: *mut WatchHandle,
    timeout_ns: u64,
    event: *mut *const ReportedRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `event` is a result and `watch` is a handle.
        let (event, open) = unsafe { (result("event", event, null())?, handle::state_mut(watch)?) };
        let Some(found) = open.events.next_timeout(limit_ns(timeout_ns).unwrap_or(Duration::MAX))? else {
            return Err(CallFailure::new(CONDUIT_ERROR_TIMED_OUT, "nothing has happened in time"));
        };
        *event = open.keep(&found);
        Ok(CONDUIT_OK)
    })
}

/// Returns the next event in `*event` if it has come, or else returns CONDUIT_NO_MESSAGE. The event
/// is valid until the next call with this watch.
///
/// Errors: as for conduit_watch_next(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_watch_try_next(
    watch: *mut WatchHandle,
    event: *mut *const ReportedRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `event` is a result and `watch` is a handle.
        let (event, open) = unsafe { (result("event", event, null())?, handle::state_mut(watch)?) };
        let Some(found) = open.events.try_next()? else { return Ok(CONDUIT_NO_MESSAGE) };
        *event = open.keep(&found);
        Ok(CONDUIT_OK)
    })
}

/// Returns a descriptor that is readable when something has happened, for poll(2) and epoll(7).
///
/// Call conduit_watch_try_next() until it returns CONDUIT_NO_MESSAGE before waiting for it: several
/// events may have been read at once. It belongs to the watch: never read from it or close it.
///
/// -1 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_watch_fd(watch: *const WatchHandle) -> c_int {
    // SAFETY: `conduit.h`: `watch` is a handle that does not change during the call.
    unsafe { handle::property(watch, -1, |open| open.events.as_fd().as_raw_fd()) }
}

/// Ends a watch and frees the handle. NULL is accepted and does nothing.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_watch_close(watch: *mut WatchHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `watch` is a handle.
    unsafe { handle::close(watch) }
}

/// Returns in `*matches` whether a topic's name matches a pattern; false on failure.
///
/// In a pattern, `*` stands for any characters within one segment of a name, `?` for one character,
/// `[a-z]` and `[!a-z]` for one inside or outside of a set, and `**` for any number of whole
/// segments; at the end of a pattern, for at least one.
///
/// Errors: INVALID_ARGUMENT (also for a pattern that is not valid), NAME. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_matches(
    pattern: *const c_char,
    name: *const c_char,
    matches: *mut bool,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `matches` is a result, and `pattern` and `name` are strings.
        let (matches, pattern, name): (_, _, TopicName) =
            unsafe { (result("matches", matches, false)?, self::pattern(pattern)?, topic_name(name)?) };
        *matches = pattern.ok_or_else(|| CallFailure::null("pattern"))?.matches(&name);
        Ok(CONDUIT_OK)
    })
}
