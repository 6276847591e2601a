//! How a call fails: with a code, and with a message that the thread keeps.

use std::any::Any;
use std::ffi::{CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use conduit::internal::shm::cancellation::Uncancelled;

use crate::error::ErrorCode::{self, CONDUIT_ERROR_INTERNAL, CONDUIT_ERROR_INVALID_ARGUMENT};
use crate::error::{LastError, set_last_error};

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct CallFailure(Box<FailureReport>);

#[derive(Debug)]
struct FailureReport {
    code: ErrorCode,
    errno: c_int,
    message: String,
}

impl CallFailure {
    #[cold]
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(FailureReport { code, errno: 0, message: message.into() }))
    }

    /// A failure with the message of an error, and the errno of its innermost cause that has one.
    pub(crate) fn of(code: ErrorCode, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut failure = Self::new(code, error.to_string());
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(errno) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
                failure.0.errno = errno;
            }
            cause = error.source();
        }
        failure
    }

    pub(crate) fn null(argument: &str) -> Self {
        Self::argument(format!("`{argument}` is NULL"))
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(CONDUIT_ERROR_INVALID_ARGUMENT, message)
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Keeps the failure as the thread's last and returns its code.
    #[cold]
    fn report(self) -> ErrorCode {
        let FailureReport { code, errno, message } = *self.0;
        // One line without NUL: names in a message may contain anything.
        let printable = |byte| if byte < b' ' { b' ' } else { byte };
        let bytes: Vec<u8> = message.into_bytes().into_iter().map(printable).collect();
        let message = CString::new(bytes).unwrap_or_default();
        set_last_error(LastError { code, message, errno });
        code
    }

    #[cold]
    fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no message");
        let failure = Self::new(CONDUIT_ERROR_INTERNAL, format!("bug in libconduit, please report it: {text}"));
        // Its destructor could panic again.
        std::mem::forget(panic);
        failure
    }
}

/// Runs the body of a function that returns a code. A panic does not unwind further than this, and
/// a cancellation of the thread waits until the function has returned.
pub(crate) fn call(body: impl FnOnce() -> Result<ErrorCode, CallFailure>) -> ErrorCode {
    let _uncancelled = Uncancelled::new();
    message_call(body)
}

/// [`call`] for the functions that are called for each message: there the library itself puts off
/// a cancellation before it calls a function at which a thread can be cancelled.
#[inline(always)]
pub(crate) fn message_call(body: impl FnOnce() -> Result<ErrorCode, CallFailure>) -> ErrorCode {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => failure.report(),
        Err(panic) => CallFailure::of_panic(panic).report(),
    }
}

/// Runs the body of a function that returns something else than a code: `otherwise` if it fails.
#[inline(always)]
pub(crate) fn get<T>(otherwise: T, body: impl FnOnce() -> Result<T, CallFailure>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(found)) => return found,
        Ok(Err(failure)) => failure.report(),
        Err(panic) => CallFailure::of_panic(panic).report(),
    };
    otherwise
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use conduit::OpenError;

    use super::*;
    use crate::error::ErrorCode::{CONDUIT_ERROR_IO, CONDUIT_OK};
    use crate::error::{conduit_last_error_errno, conduit_last_error_message};

    fn message() -> String {
        // SAFETY: it is never NULL, ends with NUL, and no call fails while it is copied.
        unsafe { CStr::from_ptr(conduit_last_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(call(|| panic!("for {}", "a test")), CONDUIT_ERROR_INTERNAL);
        assert_eq!(message(), "bug in libconduit, please report it: for a test");
        assert_eq!(get(7, || panic!("again")), 7);
        assert_eq!(message(), "bug in libconduit, please report it: again");
        struct PanicsAgain;
        impl Drop for PanicsAgain {
            fn drop(&mut self) {
                panic!("while it is dropped");
            }
        }
        assert_eq!(call(|| std::panic::panic_any(PanicsAgain)), CONDUIT_ERROR_INTERNAL);
        assert_eq!(message(), "bug in libconduit, please report it: no message");
    }

    #[test]
    fn a_failure_leaves_one_line_and_the_errno() {
        let source = std::io::Error::from_raw_os_error(13);
        let failure = OpenError::Io { doing: "open", path: "/a\nb".into(), source };
        assert_eq!(call(|| Err(failure.into())), CONDUIT_ERROR_IO);
        assert_eq!(conduit_last_error_errno(), 13);
        assert!(message().contains(" open /a b: "), "{}", message());
        assert_eq!(call(|| Ok(CONDUIT_OK)), CONDUIT_OK);
        assert_eq!(conduit_last_error_errno(), 13);
        assert_eq!(call(|| Err(CallFailure::argument("a\0b"))), CONDUIT_ERROR_INVALID_ARGUMENT);
        assert_eq!((message(), conduit_last_error_errno()), ("a b".into(), 0));
        std::thread::spawn(|| assert_eq!(message(), "")).join().unwrap();
    }
}
