//! The C ABI of Conduit. What is promised to C stands in `include/conduit.h`, which is made from this crate; here is how it is kept.
//!
//! # The contract of the ABI
//!
//! Every function that is called from C relies on what C's types say: a pointer is NULL or points to an object of its type, a string
//! ends with NUL, an object that is written is nobody else's during the call, a handle is used by one thread at a time. Numbers, flags
//! and enumerations may have any value, a handle may be closed or of another kind; that is checked.
//!
//! Nothing unwinds out of a function: a panic becomes `CONDUIT_ERROR_INTERNAL` ([`error`]).
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc, reason = "the contract is one for all functions, and stands above")]

pub mod arguments;
pub mod error;
mod handle;
pub mod publisher;
pub mod region;
pub mod registry;
pub mod subscriber;

use std::ffi::c_char;

/// Major version of the library that this header belongs to.
pub const CONDUIT_VERSION_MAJOR: u32 = 0;
/// Minor version of the library that this header belongs to.
pub const CONDUIT_VERSION_MINOR: u32 = 1;
/// Patch version of the library that this header belongs to.
pub const CONDUIT_VERSION_PATCH: u32 = 0;

const _: () = {
    assert!(is(env!("CARGO_PKG_VERSION_MAJOR"), CONDUIT_VERSION_MAJOR));
    assert!(is(env!("CARGO_PKG_VERSION_MINOR"), CONDUIT_VERSION_MINOR));
    assert!(is(env!("CARGO_PKG_VERSION_PATCH"), CONDUIT_VERSION_PATCH));
};

const fn is(text: &str, number: u32) -> bool {
    matches!(u32::from_str_radix(text, 10), Ok(parsed) if parsed == number)
}

/// In place of a time: no limit.
pub const CONDUIT_FOREVER: u64 = u64::MAX;

/// Version of the library that is linked: "0.1.0". A static string. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
