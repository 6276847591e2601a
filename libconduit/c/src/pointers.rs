//! Reads and checks the pointers that C passes.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::time::Duration;

use conduit::TopicName;

use crate::failure::CallFailure;

/// A `bool` as C passes it: any byte.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct RawBool(u8);

impl RawBool {
    pub(crate) fn get(self) -> bool {
        self.0 != 0
    }
}

/// A structure of options that may get members at its end. All zeros are the defaults.
///
/// # Safety
///
/// The type is `repr(C)`, its first member is a `usize` that holds the size of the caller's version
/// of the structure, and every bit pattern is a valid value of the type.
pub(crate) unsafe trait OptionsStruct: Sized {
    /// The macro that initialises it.
    const INIT: &str;
}

/// No version of a structure of options is larger than this; a larger size was never initialised.
const MAX_OPTIONS_BYTES: usize = 4096;

/// Copies options; the members that the caller's version does not have, or all for NULL, are zero.
///
/// # Safety
///
/// `given` is NULL, or points to a readable `usize` and, if that is between its own size and
/// `MAX_OPTIONS_BYTES`, to as many readable bytes. It need not be aligned.
pub(crate) unsafe fn options<T: OptionsStruct>(given: *const T) -> Result<T, CallFailure> {
    let mut copy = MaybeUninit::<T>::zeroed();
    if !given.is_null() {
        // SAFETY: the caller vouches for the first member.
        let size = unsafe { given.cast::<usize>().read_unaligned() };
        if !(size_of::<usize>()..=MAX_OPTIONS_BYTES).contains(&size) {
            let init = T::INIT;
            return Err(CallFailure::argument(format!("the options are not initialised; assign {init} first")));
        }
        // SAFETY: the caller vouches for `size` readable bytes, and any bytes are valid as `u8`.
        let bytes = unsafe { std::slice::from_raw_parts(given.cast::<u8>(), size) };
        let (known, unknown) = bytes.split_at(size.min(size_of::<T>()));
        if unknown.iter().any(|&byte| byte != 0) {
            return Err(CallFailure::argument(format!(
                "the options use members that this version of the library does not have: \
                 they have {size} bytes, the library knows {}; upgrade it or leave the rest zero",
                known.len()
            )));
        }
        // SAFETY: `copy` has at least `known.len()` bytes, and is no part of the caller's memory.
        unsafe { copy.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(known.as_ptr(), known.len()) };
    }
    // SAFETY: it is zeroed and partly overwritten, and by its trait every bit pattern is valid.
    Ok(unsafe { copy.assume_init() })
}

/// A string; `None` for NULL.
///
/// # Safety
///
/// `given` is NULL or points to bytes that end with NUL and do not change during `'a`.
pub(crate) unsafe fn string<'a>(given: *const c_char) -> Option<&'a CStr> {
    // SAFETY: it is not NULL, and the caller vouches for the rest.
    (!given.is_null()).then(|| unsafe { CStr::from_ptr(given) })
}

/// The name of a topic or region.
///
/// # Safety
///
/// As for [`string`], during the call.
pub(crate) unsafe fn topic_name(given: *const c_char) -> Result<TopicName, CallFailure> {
    // SAFETY: as the caller vouches.
    let name = unsafe { string(given) }.ok_or_else(|| CallFailure::null("name"))?;
    // A name that is not UTF-8 is not valid either, and the message names the offending byte.
    Ok(TopicName::new(&name.to_string_lossy())?)
}

/// The bytes of a message. NULL is accepted for an empty one.
///
/// # Safety
///
/// `data` is NULL, or points to `size` readable bytes that do not change during `'a`.
#[inline(always)]
pub(crate) unsafe fn message<'a>(data: *const c_void, size: usize) -> Result<&'a [u8], CallFailure> {
    if size == 0 {
        Ok(&[])
    } else if data.is_null() {
        Err(CallFailure::null("data"))
    } else if size > isize::MAX as usize {
        Err(CallFailure::argument(format!("no object has {size} bytes")))
    } else {
        // SAFETY: not NULL, no larger than an object can be, and readable as the caller vouches.
        Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) })
    }
}

/// The elements of an array. NULL is accepted for an empty one. `argument` is its name in
/// `conduit.h`.
///
/// # Safety
///
/// If `elements` is neither NULL nor misaligned, it points to `count` valid elements that do not
/// change during `'a`.
#[inline(always)]
pub(crate) unsafe fn array<'a, T>(argument: &str, elements: *const T, count: usize) -> Result<&'a [T], CallFailure> {
    if count == 0 {
        Ok(&[])
    } else if elements.is_null() || !elements.is_aligned() {
        Err(unusable(argument, elements.is_null(), align_of::<T>()))
    } else if count > isize::MAX as usize / size_of::<T>().max(1) {
        Err(CallFailure::argument(format!("no array has {count} elements of {} bytes", size_of::<T>())))
    } else {
        // SAFETY: not NULL, aligned, no larger than an object can be, and valid as the caller
        // vouches.
        Ok(unsafe { std::slice::from_raw_parts(elements, count) })
    }
}

/// Memory that a message is copied to. NULL is accepted if it has no bytes.
///
/// # Safety
///
/// `buffer` is NULL, or points to `capacity` bytes that may be written and that nobody else uses
/// during `'a`.
#[inline(always)]
pub(crate) unsafe fn buffer<'a>(buffer: *mut c_void, capacity: usize) -> Result<&'a mut [u8], CallFailure> {
    if capacity == 0 {
        Ok(&mut [])
    } else if buffer.is_null() {
        Err(CallFailure::null("buffer"))
    } else if capacity > isize::MAX as usize {
        Err(CallFailure::argument(format!("no object has {capacity} bytes")))
    } else {
        // SAFETY: not NULL, no larger than an object can be, and the caller vouches for the rest.
        // Any bytes are valid as `u8`, and they are only written.
        Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), capacity) })
    }
}

/// A reference to what an argument points to, after checking what can be checked. `argument` is its
/// name in `conduit.h`.
///
/// # Safety
///
/// If `pointer` is neither NULL nor misaligned, it points to a valid `T` that nobody else uses
/// during `'a`.
#[inline(always)]
pub(crate) unsafe fn object<'a, T>(argument: &str, pointer: *mut T) -> Result<&'a mut T, CallFailure> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(unusable(argument, pointer.is_null(), align_of::<T>()));
    }
    // SAFETY: it is aligned and not NULL, and the caller vouches for the rest.
    Ok(unsafe { &mut *pointer })
}

/// Where a function writes its result, set to `initial` for the case that it fails.
///
/// # Safety
///
/// If `pointer` is neither NULL nor misaligned, it points to memory for a `T` that may be written
/// and that nobody else uses during `'a`. It may be uninitialised.
#[inline(always)]
pub(crate) unsafe fn result<'a, T: Copy>(
    argument: &str,
    pointer: *mut T,
    initial: T,
) -> Result<&'a mut T, CallFailure> {
    // SAFETY: memory for a `T` is a valid `MaybeUninit<T>`, whatever it contains.
    Ok(unsafe { object(argument, pointer.cast::<MaybeUninit<T>>()) }?.write(initial))
}

/// Where a function writes any number of results, up to `capacity`. NULL is accepted if that is 0.
///
/// # Safety
///
/// If `elements` is neither NULL nor misaligned, it points to memory for `capacity` elements that
/// may be written and that nobody else uses during `'a`. It may be uninitialised.
pub(crate) unsafe fn results<'a, T: Copy>(
    argument: &str,
    elements: *mut T,
    capacity: usize,
) -> Result<&'a mut [MaybeUninit<T>], CallFailure> {
    // SAFETY: memory for a `T` is a valid `MaybeUninit<T>`, whatever it contains.
    let checked = unsafe { array::<MaybeUninit<T>>(argument, elements.cast_const().cast(), capacity) }?;
    if checked.is_empty() {
        // The pointer may be NULL.
        return Ok(&mut []);
    }
    // SAFETY: it was checked, and the caller vouches that it may be written here alone.
    Ok(unsafe { std::slice::from_raw_parts_mut(elements.cast::<MaybeUninit<T>>(), checked.len()) })
}

#[cold]
fn unusable(argument: &str, is_null: bool, align: usize) -> CallFailure {
    if is_null {
        CallFailure::null(argument)
    } else {
        CallFailure::argument(format!("`{argument}` is not aligned to {align} bytes"))
    }
}

/// A duration, where 0 stands for a default.
pub(crate) fn non_zero_ns(ns: u64) -> Option<Duration> {
    (ns != 0).then(|| Duration::from_nanos(ns))
}

/// `CONDUIT_FOREVER`, which the header needs as a number.
pub(crate) const FOREVER_NS: u64 = u64::MAX;

/// A duration, where [`FOREVER_NS`] stands for no limit.
pub(crate) fn limit_ns(ns: u64) -> Option<Duration> {
    (ns != FOREVER_NS).then(|| Duration::from_nanos(ns))
}
