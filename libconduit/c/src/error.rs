//! Codes, and the message of the last failure of each thread.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use conduit::registry::RegistryCallError;
use conduit::{
    CreateError, Gone, LoanError, OpenError, RecvError, TopicNameError, TypeInfoError, UnlinkError, WaitError,
};

use Error::*;

/// What a call says. The numbers never change; later versions may add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(C)]
pub enum Error {
    /// It worked.
    CONDUIT_OK = 0,
    /// There is no message yet. No failure: it leaves the thread's message alone.
    CONDUIT_NO_MESSAGE = 1,

    /// An argument is NULL, or options are not initialised or not possible.
    CONDUIT_ERROR_INVALID_ARGUMENT = 10,
    /// The handle is of another kind, has been closed, or never was one.
    CONDUIT_ERROR_INVALID_HANDLE = 11,
    /// The handle belongs to the process that this one was forked from.
    CONDUIT_ERROR_FORKED = 12,
    /// An error in the library. Close the handle; please report the message.
    CONDUIT_ERROR_INTERNAL = 13,
    /// A system call failed; conduit_last_error_errno() says why.
    CONDUIT_ERROR_IO = 14,

    /// The name is no valid name of a topic or region.
    CONDUIT_ERROR_NAME = 20,
    /// The administrator's rules do not let this process publish the topic.
    CONDUIT_ERROR_NOT_ALLOWED = 21,
    /// The number or the size of the slots is not possible.
    CONDUIT_ERROR_SLOTS = 22,
    /// The size of the region is not possible.
    CONDUIT_ERROR_SIZE = 23,
    /// The shared-memory directory is too full.
    CONDUIT_ERROR_NO_SPACE = 24,
    /// The memory limit of this process's cgroup leaves too little.
    CONDUIT_ERROR_NO_MEMORY = 25,
    /// The shared-memory directory is no tmpfs, or keeps no locks.
    CONDUIT_ERROR_FILE_SYSTEM = 26,
    /// A living process publishes the topic, or has created the region.
    CONDUIT_ERROR_ALREADY_PUBLISHED = 27,
    /// The region exists: its creator let it go and it was kept.
    CONDUIT_ERROR_EXISTS = 28,
    /// A file that Conduit did not make has the name.
    CONDUIT_ERROR_FOREIGN_FILE = 29,
    /// The owner is dead, but this user may not remove what it left.
    CONDUIT_ERROR_NOT_REMOVABLE = 30,

    /// There is no such topic or region.
    CONDUIT_ERROR_NOT_FOUND = 40,
    /// The file's permissions keep this user out.
    CONDUIT_ERROR_PERMISSION = 41,
    /// The file is damaged, or of another version of the layout.
    CONDUIT_ERROR_LAYOUT = 42,
    /// It is a raw region and not a topic, or the reverse.
    CONDUIT_ERROR_WRONG_KIND = 43,
    /// Publisher and subscriber disagree on the type of the messages.
    CONDUIT_ERROR_TYPE_MISMATCH = 44,
    /// The topic's publisher has died and left it.
    CONDUIT_ERROR_ORPHANED = 45,
    /// The topic has as many subscribers as it can have.
    CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS = 46,
    /// The region is a topic whose publisher lives.
    CONDUIT_ERROR_LIVE = 47,

    /// Every slot is held by a subscriber.
    CONDUIT_ERROR_ALL_SLOTS_HELD = 60,
    /// The message does not fit a slot.
    CONDUIT_ERROR_MESSAGE_TOO_LARGE = 61,
    /// The topic's type has no messages of this length.
    CONDUIT_ERROR_WRONG_LENGTH = 62,
    /// The topic was ended from outside: close the publisher.
    CONDUIT_ERROR_REMOVED = 63,
    /// The topic's name was removed from outside; said once.
    CONDUIT_ERROR_UNLINKED = 64,
    /// A loan of this publisher is out: publish or discard it first.
    CONDUIT_ERROR_LOAN_OUT = 65,
    /// No loan of this publisher is out.
    CONDUIT_ERROR_NO_LOAN = 66,

    /// The publisher has closed the topic, and every message was received.
    CONDUIT_ERROR_PUBLISHER_CLOSED = 80,
    /// The publisher has died, and every message was received.
    CONDUIT_ERROR_PUBLISHER_DIED = 81,
    /// The time was up.
    CONDUIT_ERROR_TIMED_OUT = 82,
    /// The message's length is none of the type. It counts as received.
    CONDUIT_ERROR_INVALID_MESSAGE = 83,
    /// The structure still holds a sample: release it first.
    CONDUIT_ERROR_SAMPLE_HELD = 84,
    /// The structure holds no sample, or not any more.
    CONDUIT_ERROR_NO_SAMPLE = 85,

    /// No registry (conduitd) answers.
    CONDUIT_ERROR_NO_REGISTRY = 100,
    /// The registry refused, or its answer made no sense.
    CONDUIT_ERROR_REGISTRY = 101,
}

/// A code as C passes it: any number.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct AnyError(c_int);

macro_rules! codes {
    ($($code:ident: $text:literal,)*) => {
        fn look_up(code: c_int) -> Option<(&'static CStr, &'static CStr)> {
            $(if code == $code as c_int {
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
    CONDUIT_ERROR_FORKED: "the handle belongs to the process this one was forked from",
    CONDUIT_ERROR_INTERNAL: "error in the library",
    CONDUIT_ERROR_IO: "a system call failed",
    CONDUIT_ERROR_NAME: "not a valid name",
    CONDUIT_ERROR_NOT_ALLOWED: "the registry's rules do not allow it",
    CONDUIT_ERROR_SLOTS: "these slots are not possible",
    CONDUIT_ERROR_SIZE: "this size is not possible",
    CONDUIT_ERROR_NO_SPACE: "the shared-memory directory is too full",
    CONDUIT_ERROR_NO_MEMORY: "the cgroup's memory limit leaves too little",
    CONDUIT_ERROR_FILE_SYSTEM: "the shared-memory directory is not suitable",
    CONDUIT_ERROR_ALREADY_PUBLISHED: "a living process has the name",
    CONDUIT_ERROR_EXISTS: "the region exists and is kept",
    CONDUIT_ERROR_FOREIGN_FILE: "a file that Conduit did not make has the name",
    CONDUIT_ERROR_NOT_REMOVABLE: "this user may not remove what a dead process left",
    CONDUIT_ERROR_NOT_FOUND: "does not exist",
    CONDUIT_ERROR_PERMISSION: "no permission",
    CONDUIT_ERROR_LAYOUT: "the region's layout is not readable",
    CONDUIT_ERROR_WRONG_KIND: "a raw region is not a topic",
    CONDUIT_ERROR_TYPE_MISMATCH: "publisher and subscriber disagree on the type",
    CONDUIT_ERROR_ORPHANED: "the publisher has died",
    CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS: "no room for another subscriber",
    CONDUIT_ERROR_LIVE: "the topic's publisher lives",
    CONDUIT_ERROR_ALL_SLOTS_HELD: "every slot is held by a subscriber",
    CONDUIT_ERROR_MESSAGE_TOO_LARGE: "the message does not fit a slot",
    CONDUIT_ERROR_WRONG_LENGTH: "the type has no messages of this length",
    CONDUIT_ERROR_REMOVED: "the topic was removed from outside",
    CONDUIT_ERROR_UNLINKED: "the topic's name was removed from outside",
    CONDUIT_ERROR_LOAN_OUT: "a loan is out",
    CONDUIT_ERROR_NO_LOAN: "no loan is out",
    CONDUIT_ERROR_PUBLISHER_CLOSED: "the publisher has closed the topic",
    CONDUIT_ERROR_PUBLISHER_DIED: "the publisher has died",
    CONDUIT_ERROR_TIMED_OUT: "the time was up",
    CONDUIT_ERROR_INVALID_MESSAGE: "the message is none of the type",
    CONDUIT_ERROR_SAMPLE_HELD: "the structure still holds a sample",
    CONDUIT_ERROR_NO_SAMPLE: "the structure holds no sample",
    CONDUIT_ERROR_NO_REGISTRY: "no registry answers",
    CONDUIT_ERROR_REGISTRY: "the registry refused",
}

/// The name of a code, as it is written in C: "CONDUIT_ERROR_NAME".
///
/// Returns a static string; "CONDUIT_ERROR_UNKNOWN" for a number that is no code. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_error_name(error: AnyError) -> *const c_char {
    look_up(error.0).map_or(c"CONDUIT_ERROR_UNKNOWN", |found| found.0).as_ptr()
}

/// What a code means in general, in a few words: "not a valid name".
///
/// What happened, to what, and what to do is said by conduit_last_error_message(). Returns a static string; "unknown error" for a
/// number that is no code. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_error_string(error: AnyError) -> *const c_char {
    look_up(error.0).map_or(c"unknown error", |found| found.1).as_ptr()
}

struct Last {
    code: Error,
    message: CString,
    errno: c_int,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// The code of this thread's last failing call, for those that return what they find; CONDUIT_OK if no call has failed.
///
/// Calls that succeed leave it alone. Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_last_error() -> Error {
    LAST.try_with(|last| last.borrow().as_ref().map_or(CONDUIT_OK, |last| last.code)).unwrap_or(CONDUIT_OK)
}

/// The message of this thread's last failing call: what happened, to what, what to do; UTF-8, one line.
///
/// Valid until the next failing call of this thread, or its end. Calls that succeed leave it alone. Empty if no call has failed.
/// Never NULL. Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_last_error_message() -> *const c_char {
    let message =
        |last: &RefCell<Option<Last>>| last.borrow().as_ref().map_or(c"".as_ptr(), |last| last.message.as_ptr());
    // At the end of a thread there is none any more.
    LAST.try_with(message).unwrap_or(c"".as_ptr())
}

/// The errno of this thread's last failing call; 0 if it did not fail for the kernel's sake, or no call has failed.
///
/// Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_last_error_errno() -> c_int {
    LAST.try_with(|last| last.borrow().as_ref().map_or(0, |last| last.errno)).unwrap_or(0)
}

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct Failure(Box<Report>);

#[derive(Debug)]
struct Report {
    code: Error,
    errno: c_int,
    message: String,
}

impl Failure {
    #[cold]
    pub(crate) fn new(code: Error, message: impl Into<String>) -> Self {
        Self(Box::new(Report { code, errno: 0, message: message.into() }))
    }

    fn of(code: Error, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut failure = Self::new(code, error.to_string());
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(errno) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
                failure.0.errno = errno;
            }
            source = error.source();
        }
        failure
    }

    pub(crate) fn code(&self) -> Error {
        self.0.code
    }

    pub(crate) fn null(argument: &str) -> Self {
        Self::new(CONDUIT_ERROR_INVALID_ARGUMENT, format!("{argument} is NULL"))
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(CONDUIT_ERROR_INVALID_ARGUMENT, message)
    }

    /// Leaves the message to the thread and gives the code.
    #[cold]
    fn report(self) -> Error {
        let Report { code, errno, message } = *self.0;
        // One line: names in it may come from anywhere.
        let bytes: Vec<u8> =
            message.into_bytes().into_iter().map(|byte| if byte < b' ' { b' ' } else { byte }).collect();
        let message = CString::new(bytes).unwrap_or_default();
        let _ = LAST.try_with(|last| last.replace(Some(Last { code, message, errno })));
        code
    }

    #[cold]
    fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let failure = Self::new(CONDUIT_ERROR_INTERNAL, format!("error in libconduit, please report it: {text}"));
        // Dropping it could panic again.
        std::mem::forget(panic);
        failure
    }
}

/// Runs the body of a function of the ABI: no panic gets out of it.
#[inline(always)]
pub(crate) fn call(body: impl FnOnce() -> Result<Error, Failure>) -> Error {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => failure.report(),
        Err(panic) => Failure::of_panic(panic).report(),
    }
}

/// The same for a function that returns what it finds, and `otherwise` if it fails.
#[inline(always)]
pub(crate) fn get<T>(otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(found)) => return found,
        Ok(Err(failure)) => failure.report(),
        Err(panic) => Failure::of_panic(panic).report(),
    };
    otherwise
}

impl From<TopicNameError> for Failure {
    fn from(error: TopicNameError) -> Self {
        Self::of(CONDUIT_ERROR_NAME, &error)
    }
}

impl From<TypeInfoError> for Failure {
    fn from(error: TypeInfoError) -> Self {
        Self::of(CONDUIT_ERROR_INVALID_ARGUMENT, &error)
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        let code = match &error {
            CreateError::Name(_) => CONDUIT_ERROR_NAME,
            CreateError::NotAllowed { .. } => CONDUIT_ERROR_NOT_ALLOWED,
            CreateError::Geometry(_) => CONDUIT_ERROR_SLOTS,
            CreateError::Size { .. } => CONDUIT_ERROR_SIZE,
            CreateError::NoSpace { .. } => CONDUIT_ERROR_NO_SPACE,
            CreateError::NoMemory { .. } => CONDUIT_ERROR_NO_MEMORY,
            CreateError::NotShared { .. } | CreateError::LocksDoNotLast { .. } => CONDUIT_ERROR_FILE_SYSTEM,
            CreateError::AlreadyPublished { .. } => CONDUIT_ERROR_ALREADY_PUBLISHED,
            CreateError::Kept { .. } => CONDUIT_ERROR_EXISTS,
            CreateError::Foreign { .. } => CONDUIT_ERROR_FOREIGN_FILE,
            CreateError::NotRemovable { .. } => CONDUIT_ERROR_NOT_REMOVABLE,
            CreateError::SlotTooSmall { .. } => CONDUIT_ERROR_MESSAGE_TOO_LARGE,
            CreateError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Name(_) => CONDUIT_ERROR_NAME,
            OpenError::NotFound { .. } => CONDUIT_ERROR_NOT_FOUND,
            OpenError::Permission { .. } => CONDUIT_ERROR_PERMISSION,
            OpenError::Layout { .. } => CONDUIT_ERROR_LAYOUT,
            OpenError::Kind { .. } => CONDUIT_ERROR_WRONG_KIND,
            OpenError::TypeMismatch { .. } => CONDUIT_ERROR_TYPE_MISMATCH,
            OpenError::Orphaned { .. } => CONDUIT_ERROR_ORPHANED,
            OpenError::TooManySubscribers { .. } => CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS,
            OpenError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<LoanError> for Failure {
    #[cold]
    fn from(error: LoanError) -> Self {
        let code = match &error {
            LoanError::AllSlotsHeld { .. } => CONDUIT_ERROR_ALL_SLOTS_HELD,
            LoanError::MessageTooLarge { .. } => CONDUIT_ERROR_MESSAGE_TOO_LARGE,
            LoanError::WrongLength { .. } => CONDUIT_ERROR_WRONG_LENGTH,
            LoanError::Removed => CONDUIT_ERROR_REMOVED,
            LoanError::Unlinked => CONDUIT_ERROR_UNLINKED,
            LoanError::Forked => CONDUIT_ERROR_FORKED,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<RecvError> for Failure {
    #[cold]
    fn from(error: RecvError) -> Self {
        let code = match &error {
            RecvError::PublisherGone { how: Gone::Closed, .. } => CONDUIT_ERROR_PUBLISHER_CLOSED,
            RecvError::PublisherGone { how: Gone::Died, .. } => CONDUIT_ERROR_PUBLISHER_DIED,
            RecvError::TimedOut { .. } => CONDUIT_ERROR_TIMED_OUT,
            RecvError::Invalid { .. } => CONDUIT_ERROR_INVALID_MESSAGE,
            RecvError::Forked => CONDUIT_ERROR_FORKED,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<UnlinkError> for Failure {
    fn from(error: UnlinkError) -> Self {
        let code = match &error {
            UnlinkError::Name(_) => CONDUIT_ERROR_NAME,
            UnlinkError::NotFound { .. } => CONDUIT_ERROR_NOT_FOUND,
            UnlinkError::Live { .. } => CONDUIT_ERROR_LIVE,
            UnlinkError::Foreign { .. } => CONDUIT_ERROR_FOREIGN_FILE,
            UnlinkError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Self {
        let code = match &error {
            WaitError::Name(_) => CONDUIT_ERROR_NAME,
            WaitError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<RegistryCallError> for Failure {
    fn from(error: RegistryCallError) -> Self {
        let code = match &error {
            RegistryCallError::Unreachable { .. } => CONDUIT_ERROR_NO_REGISTRY,
            RegistryCallError::Connection(_) => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_REGISTRY,
        };
        Self::of(code, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: never NULL, and nothing fails meanwhile.
        unsafe { CStr::from_ptr(conduit_last_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_an_error_and_goes_no_further() {
        assert_eq!(call(|| panic!("for {}", "a test")), CONDUIT_ERROR_INTERNAL);
        assert_eq!(message(), "error in libconduit, please report it: for a test");
        assert_eq!(get(7, || panic!("again")), 7);
        assert_eq!(message(), "error in libconduit, please report it: again");
        struct PanicsAgain;
        impl Drop for PanicsAgain {
            fn drop(&mut self) {
                panic!("while it is dropped");
            }
        }
        assert_eq!(call(|| std::panic::panic_any(PanicsAgain)), CONDUIT_ERROR_INTERNAL);
        assert_eq!(message(), "error in libconduit, please report it: no message");
    }

    #[test]
    fn a_failure_leaves_one_line_and_the_errno() {
        let source = std::io::Error::from_raw_os_error(13);
        let failure = OpenError::Io { doing: "open", path: "/a\nb".into(), source };
        assert_eq!(call(|| Err(failure.into())), CONDUIT_ERROR_IO);
        assert_eq!(conduit_last_error_errno(), 13);
        assert!(message().starts_with("can not open /a b: "), "{}", message());
        assert_eq!(call(|| Ok(CONDUIT_OK)), CONDUIT_OK);
        assert_eq!(conduit_last_error_errno(), 13);
        assert_eq!(call(|| Err(Failure::argument("a\0b"))), CONDUIT_ERROR_INVALID_ARGUMENT);
        assert_eq!((message(), conduit_last_error_errno()), ("a b".into(), 0));
        std::thread::spawn(|| assert_eq!(message(), "")).join().unwrap();
    }
}
