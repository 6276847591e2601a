//! Error codes, what they mean, and the last error of each thread.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};

use ErrorCode::*;

/// What a call returns. The numbers never change. Later versions may add codes: treat a code that
/// the program does not know as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum ErrorCode {
    /// Success.
    CONDUIT_OK = 0,
    /// There is no message yet. Not a failure: the last error of the thread does not change.
    CONDUIT_NO_MESSAGE = 1,

    /// An argument is NULL or misaligned, or an option is invalid or not initialised.
    CONDUIT_ERROR_INVALID_ARGUMENT = 10,
    /// The handle is NULL, closed, or of another kind.
    CONDUIT_ERROR_INVALID_HANDLE = 11,
    /// The handle belongs to the process that this one was forked from.
    CONDUIT_ERROR_FORKED = 12,
    /// A bug in the library. The handle can still be closed. Please report the message.
    CONDUIT_ERROR_INTERNAL = 13,
    /// A system call failed; conduit_last_error_errno() returns its errno.
    CONDUIT_ERROR_IO = 14,
    /// A function of the handle is calling back: use the handle after that function has returned.
    CONDUIT_ERROR_BUSY = 15,

    /// The name is not a valid name of a topic or region.
    CONDUIT_ERROR_NAME = 20,
    /// The registry's rules do not allow this process to publish the topic.
    CONDUIT_ERROR_NOT_ALLOWED = 21,
    /// The number or the size of the slots is invalid.
    CONDUIT_ERROR_SLOTS = 22,
    /// The size of the region is invalid.
    CONDUIT_ERROR_SIZE = 23,
    /// The shared-memory directory has not enough room.
    CONDUIT_ERROR_NO_SPACE = 24,
    /// The memory limit of this process's cgroup does not leave enough memory.
    CONDUIT_ERROR_NO_MEMORY = 25,
    /// The shared-memory directory is not on a tmpfs, or its file system does not keep locks.
    CONDUIT_ERROR_FILE_SYSTEM = 26,
    /// A live process publishes the topic, or has the region open that it created.
    CONDUIT_ERROR_ALREADY_PUBLISHED = 27,
    /// The region exists already: its creator closed it and its name was kept.
    CONDUIT_ERROR_EXISTS = 28,
    /// The name is taken by a file that Conduit did not create.
    CONDUIT_ERROR_FOREIGN_FILE = 29,
    /// The region is an orphan that this user has no permission to remove.
    CONDUIT_ERROR_NOT_REMOVABLE = 30,

    /// There is no such topic or region.
    CONDUIT_ERROR_NOT_FOUND = 40,
    /// The permissions of the region's file do not allow this user to open it.
    CONDUIT_ERROR_PERMISSION = 41,
    /// The region is damaged, or has another version of the layout.
    CONDUIT_ERROR_LAYOUT = 42,
    /// It is a raw region and not a topic, or the reverse.
    CONDUIT_ERROR_WRONG_KIND = 43,
    /// Publisher and subscriber disagree on the type of the messages.
    CONDUIT_ERROR_TYPE_MISMATCH = 44,
    /// The topic is an orphan: its publisher has died.
    CONDUIT_ERROR_ORPHANED = 45,
    /// The topic has the largest possible number of subscribers.
    CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS = 46,
    /// The topic cannot be unlinked while its publisher is alive.
    CONDUIT_ERROR_LIVE = 47,

    /// Subscribers hold every slot.
    CONDUIT_ERROR_ALL_SLOTS_HELD = 60,
    /// The message does not fit into a slot, or into the buffer that it is copied to.
    CONDUIT_ERROR_MESSAGE_TOO_LARGE = 61,
    /// The length is not valid for the topic's message type.
    CONDUIT_ERROR_WRONG_LENGTH = 62,
    /// Another process removed the topic: close the publisher.
    CONDUIT_ERROR_REMOVED = 63,
    /// Another process unlinked the topic. Returned once.
    CONDUIT_ERROR_UNLINKED = 64,
    /// The publisher has a loan: publish or discard it first.
    CONDUIT_ERROR_LOAN_OUT = 65,
    /// The publisher has no loan.
    CONDUIT_ERROR_NO_LOAN = 66,

    /// The publisher closed the topic, and every message has been received.
    CONDUIT_ERROR_PUBLISHER_CLOSED = 80,
    /// The publisher died, and every message has been received.
    CONDUIT_ERROR_PUBLISHER_DIED = 81,
    /// The timeout expired.
    CONDUIT_ERROR_TIMED_OUT = 82,
    /// The length of the message is not valid for its type. It counts as received.
    CONDUIT_ERROR_INVALID_MESSAGE = 83,
    /// The structure holds a sample: release it first.
    CONDUIT_ERROR_SAMPLE_HELD = 84,
    /// The structure holds no sample: it was released, or nothing was received.
    CONDUIT_ERROR_NO_SAMPLE = 85,
    /// Nothing can ever end the wait: the wait set has no subscribers, no timers and no wakers.
    CONDUIT_ERROR_NOTHING_TO_WAIT_FOR = 86,
    /// The publisher that has appeared cannot be followed. The subscriber tries again.
    CONDUIT_ERROR_NOT_FOLLOWED = 87,
    /// The subscriber holds as many samples as it may: release some first. The message was not
    /// received.
    CONDUIT_ERROR_TOO_MANY_HELD = 88,
    /// What waits was stopped: see conduit_stop_create().
    CONDUIT_ERROR_STOPPED = 89,
    /// No message has come within the deadline of the subscriber. Once per silence; the next call
    /// waits on.
    CONDUIT_ERROR_OVERDUE = 90,

    /// No registry (conduitd) is running.
    CONDUIT_ERROR_NO_REGISTRY = 100,
    /// The registry refused the call, or its reply was invalid.
    CONDUIT_ERROR_REGISTRY = 101,
}

/// A code as C passes it: any number.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct RawError(i32);

macro_rules! codes {
    ($($code:ident: $text:literal,)*) => {
        fn look_up(code: i32) -> Option<(&'static CStr, &'static CStr)> {
            $(if code == $code as i32 {
                return Some((
                    CStr::from_bytes_with_nul(concat!(stringify!($code), "\0").as_bytes()).unwrap_or(c""),
                    CStr::from_bytes_with_nul(concat!($text, "\0").as_bytes()).unwrap_or(c""),
                ));
            })*
            None
        }
    };
}

codes! {
    CONDUIT_OK: "success",
    CONDUIT_NO_MESSAGE: "no message yet",
    CONDUIT_ERROR_INVALID_ARGUMENT: "invalid argument",
    CONDUIT_ERROR_INVALID_HANDLE: "not an open handle of this kind",
    CONDUIT_ERROR_FORKED: "the handle belongs to the parent process",
    CONDUIT_ERROR_INTERNAL: "internal error",
    CONDUIT_ERROR_IO: "a system call failed",
    CONDUIT_ERROR_BUSY: "a function of the handle is calling back",
    CONDUIT_ERROR_NAME: "invalid name",
    CONDUIT_ERROR_NOT_ALLOWED: "not allowed by the registry's rules",
    CONDUIT_ERROR_SLOTS: "invalid number or size of slots",
    CONDUIT_ERROR_SIZE: "invalid size of a region",
    CONDUIT_ERROR_NO_SPACE: "not enough room in the shared-memory directory",
    CONDUIT_ERROR_NO_MEMORY: "not enough memory in the cgroup",
    CONDUIT_ERROR_FILE_SYSTEM: "the shared-memory directory is not on a suitable file system",
    CONDUIT_ERROR_ALREADY_PUBLISHED: "already published by a live process",
    CONDUIT_ERROR_EXISTS: "the region exists already",
    CONDUIT_ERROR_FOREIGN_FILE: "the name is taken by a file that Conduit did not create",
    CONDUIT_ERROR_NOT_REMOVABLE: "no permission to remove an orphan",
    CONDUIT_ERROR_NOT_FOUND: "does not exist",
    CONDUIT_ERROR_PERMISSION: "permission denied",
    CONDUIT_ERROR_LAYOUT: "damaged, or another version of the layout",
    CONDUIT_ERROR_WRONG_KIND: "a raw region is not a topic",
    CONDUIT_ERROR_TYPE_MISMATCH: "publisher and subscriber have different message types",
    CONDUIT_ERROR_ORPHANED: "the publisher has died",
    CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS: "too many subscribers",
    CONDUIT_ERROR_LIVE: "the topic's publisher is alive",
    CONDUIT_ERROR_ALL_SLOTS_HELD: "subscribers hold every slot",
    CONDUIT_ERROR_MESSAGE_TOO_LARGE: "the message does not fit into a slot or buffer",
    CONDUIT_ERROR_WRONG_LENGTH: "the length is not valid for the message type",
    CONDUIT_ERROR_REMOVED: "the topic was removed",
    CONDUIT_ERROR_UNLINKED: "the topic was unlinked",
    CONDUIT_ERROR_LOAN_OUT: "the publisher has a loan",
    CONDUIT_ERROR_NO_LOAN: "the publisher has no loan",
    CONDUIT_ERROR_PUBLISHER_CLOSED: "the publisher closed the topic",
    CONDUIT_ERROR_PUBLISHER_DIED: "the publisher died",
    CONDUIT_ERROR_TIMED_OUT: "the timeout expired",
    CONDUIT_ERROR_INVALID_MESSAGE: "the length of the message is not valid for its type",
    CONDUIT_ERROR_SAMPLE_HELD: "the structure holds a sample",
    CONDUIT_ERROR_NO_SAMPLE: "the structure holds no sample",
    CONDUIT_ERROR_NOTHING_TO_WAIT_FOR: "nothing can ever end the wait",
    CONDUIT_ERROR_NOT_FOLLOWED: "the publisher that has appeared cannot be subscribed to",
    CONDUIT_ERROR_TOO_MANY_HELD: "the subscriber holds as many samples as it may",
    CONDUIT_ERROR_STOPPED: "the wait was stopped",
    CONDUIT_ERROR_OVERDUE: "no message has come within the deadline",
    CONDUIT_ERROR_NO_REGISTRY: "no registry is running",
    CONDUIT_ERROR_REGISTRY: "the registry refused the call",
}

/// Returns the name of a code as it is written in C, such as "CONDUIT_ERROR_NAME".
///
/// The string is static; "CONDUIT_ERROR_UNKNOWN" for a number that is not a code. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_error_name(error: RawError) -> *const c_char {
    look_up(error.0).map_or(c"CONDUIT_ERROR_UNKNOWN", |found| found.0).as_ptr()
}

/// Returns what a code means in general, such as "invalid name".
///
/// conduit_last_error_message() is more precise: it says what happened, to what, and what to do.
/// The string is static; "unknown error" for a number that is not a code. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_error_string(error: RawError) -> *const c_char {
    look_up(error.0).map_or(c"unknown error", |found| found.1).as_ptr()
}

/// The last failure of a thread, as C asks for it.
pub(crate) struct LastError {
    pub(crate) code: ErrorCode,
    pub(crate) message: CString,
    pub(crate) errno: c_int,
}

thread_local! {
    static LAST_ERROR: RefCell<Option<LastError>> = const { RefCell::new(None) };
}

/// Reads this thread's last failure; `None` while the thread ends and has none any more.
fn with_last_error<T>(read: impl FnOnce(Option<&LastError>) -> T) -> Option<T> {
    LAST_ERROR.try_with(|last| read(last.borrow().as_ref())).ok()
}

/// Keeps this thread's last failure, unless the thread is ending.
pub(crate) fn set_last_error(error: LastError) {
    let _ = LAST_ERROR.try_with(|last| last.replace(Some(error)));
}

/// Returns the code of the last call of this thread that failed; CONDUIT_OK if none has.
///
/// This is for functions that return something else than a code. Calls that succeed do not change
/// it. Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_last_error() -> ErrorCode {
    with_last_error(|last| last.map_or(CONDUIT_OK, |last| last.code)).unwrap_or(CONDUIT_OK)
}

/// Returns the message of the last call of this thread that failed: what happened, to what, and
/// what to do, as one line of UTF-8.
///
/// The string is valid until the next call of this thread that fails, or the end of the thread;
/// calls that succeed do not change it. It is empty if no call has failed, and never NULL.
/// Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_last_error_message() -> *const c_char {
    with_last_error(|last| last.map_or(c"".as_ptr(), |last| last.message.as_ptr())).unwrap_or(c"".as_ptr())
}

/// Returns the errno of the last call of this thread that failed; 0 if it did not fail because of a
/// system call, or if none has failed.
///
/// Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_last_error_errno() -> c_int {
    with_last_error(|last| last.map_or(0, |last| last.errno)).unwrap_or(0)
}
