//! The C interface of Conduit. `include/conduit.h`, which is generated from this crate, tells C
//! programmers what the interface promises and what it expects; this crate implements it.
//!
//! # The contract
//!
//! The functions are `unsafe` because they rely on what `conduit.h` asks of their callers. SAFETY
//! lines that say "`conduit.h`:" refer to these rules:
//!
//! - *Strings* are NULL or point to bytes that end with NUL and do not change during the call.
//! - *Options* are NULL or point to as many readable bytes as their first member, `struct_size`,
//!   says, at least to that member. The strings and structures they point to follow the same rules.
//! - *Results* are NULL or point to memory of their type that the caller may write and that nobody
//!   else uses during the call.
//! - *Handles* are NULL, or were returned by the library, whether they are still open or not. No
//!   other thread uses the handle during the call; if the function takes it as `const`, other
//!   threads may do so too, with such functions only.
//! - *Arrays* are NULL or point to as many readable elements as an argument says; what the elements
//!   point to follows the same rules.
//! - *Functions* are NULL or have the type that is declared, and accept the context that is passed.
//! - *Samples* are NULL or point to an initialised `conduit_sample` that nobody else uses during
//!   the call.
//!
//! Everything else is checked: NULL, alignment, numbers, flags and enumerations of any value,
//! handles that are closed or of another kind.
//!
//! Nothing unwinds out of a function: a panic becomes `CONDUIT_ERROR_INTERNAL`, and a thread that
//! is cancelled unwinds after the function has returned (`failure.rs`).
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc, reason = "all functions have the contract above")]

pub mod batch;
pub mod client;
pub mod copied;
pub mod domain;
pub mod error;
mod failure;
mod handle;
pub mod inspection;
pub mod lent;
mod library_errors;
pub mod message_type;
pub mod pattern_subscriber;
mod pointers;
pub mod publisher;
pub mod records;
pub mod region;
pub mod registry;
pub mod reported;
pub mod sample;
pub mod shape;
pub mod stop;
pub mod subscriber;
pub mod topic_event;
pub mod topic_events;
pub mod wait_set;
pub mod watch;

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

/// A duration without a limit, for functions and options that say so.
pub const CONDUIT_FOREVER: u64 = u64::MAX;

const _: () = assert!(CONDUIT_FOREVER == pointers::FOREVER_NS);

/// Returns the version of the library that the program runs with, such as "0.1.0".
///
/// The string is static. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn conduit_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
