//! Threads of C programs that another thread cancels
//! ([`pthread_cancel(3)`](https://man7.org/linux/man-pages/man3/pthread_cancel.3.html)).
//!
//! A cancelled thread unwinds from the next cancellation point, which many functions of the C
//! library are, and unwinding that Rust has not begun must not reach a `catch_unwind`: it ends the
//! process. Threads that were started by Rust are not cancelled.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::null_mut;

/// The same number in glibc and musl; the crate `libc` lacks both.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// While this lives, its thread is not cancelled. Some 15 ns.
#[must_use]
#[derive(Debug)]
pub struct Uncancelled {
    before: c_int,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Uncancelled {
    /// Puts off a cancellation until this is dropped.
    #[allow(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        let mut before = 0;
        // SAFETY: the function writes the previous state to `before`, which lives.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self { before, _thread: PhantomData }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: it accepts NULL for the previous state, and `before` is a state.
        unsafe { pthread_setcancelstate(self.before, null_mut()) };
    }
}
