//! What C passes: strings, options, flags.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use conduit::{Domain, TopicName, TypeInfo};

use crate::error::Failure;

/// A `bool` as C passes it: any byte.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct AnyBool(u8);

impl AnyBool {
    pub(crate) fn get(self) -> bool {
        self.0 != 0
    }
}

/// Options that may grow: their first member says how many bytes the caller knows of. All zeros are the defaults.
///
/// # Safety
///
/// The type begins with its size as a `usize`, and is valid for any bytes.
pub(crate) unsafe trait Options: Sized {
    const INIT: &str;
}

/// Reads options, or their defaults for NULL.
///
/// # Safety
///
/// The pointer is NULL or points to as many readable bytes as its first member says.
pub(crate) unsafe fn options<T: Options>(options: *const T) -> Result<T, Failure> {
    let mut read = std::mem::MaybeUninit::<T>::zeroed();
    if !options.is_null() {
        let bytes = options.cast::<u8>();
        // SAFETY: the size is the first member, and readable by the caller's word.
        let size = unsafe { bytes.cast::<usize>().read_unaligned() };
        if size < size_of::<usize>() {
            return Err(Failure::argument(format!("the options are not initialised; begin with {}", T::INIT)));
        }
        let known = size.min(size_of::<T>());
        // SAFETY: readable by the caller's word, and within what is written.
        unsafe { read.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes, known) };
        for at in known..size {
            // SAFETY: readable by the caller's word.
            if unsafe { bytes.add(at).read() } != 0 {
                return Err(Failure::argument(format!(
                    "the options have more members ({size} bytes) than this version of the library knows ({known})"
                )));
            }
        }
    }
    // SAFETY: the trait's contract: any bytes are valid.
    Ok(unsafe { read.assume_init() })
}

/// A string, or `None` for NULL.
///
/// # Safety
///
/// The pointer is NULL or points to a string that ends with NUL and stays as it is.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's word.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// The name of a topic or region.
///
/// # Safety
///
/// As for `text`.
pub(crate) unsafe fn topic_name(name: *const c_char) -> Result<TopicName, Failure> {
    if name.is_null() {
        return Err(Failure::null("the name"));
    }
    // SAFETY: the caller's word.
    let name = unsafe { CStr::from_ptr(name) };
    // What is not UTF-8 is no name either, and the message says at which byte.
    Ok(TopicName::new(&name.to_string_lossy())?)
}

/// Where regions are and which registry knows them. NULL in place of a domain, and of its members, is the environment's:
/// $CONDUIT_SHM_DIR, else /dev/shm, and $CONDUIT_SOCKET, else $XDG_RUNTIME_DIR/conduit/registry.sock and
/// /run/conduit/registry.sock.
///
/// Begin with CONDUIT_DOMAIN_INIT. The library copies what it needs.
#[derive(Debug)]
#[repr(C)]
pub struct DomainOptions {
    /// sizeof(conduit_domain), as CONDUIT_DOMAIN_INIT sets it.
    pub struct_size: usize,
    /// The shared-memory directory; NULL for the environment's.
    pub shm_dir: *const c_char,
    /// The registry's socket; NULL for the environment's, "" for no registry.
    pub socket: *const c_char,
    /// Accepts a directory that is no tmpfs.
    pub any_file_system: AnyBool,
    /// 0.
    pub reserved: [u8; 7],
}

// SAFETY: the size comes first, pointers and AnyBool take any bytes.
unsafe impl Options for DomainOptions {
    const INIT: &str = "CONDUIT_DOMAIN_INIT";
}

/// Reads a domain.
///
/// # Safety
///
/// As for `options` and, of its strings, `text`.
pub(crate) unsafe fn domain(given: *const DomainOptions) -> Result<Domain, Failure> {
    // SAFETY: the caller's word.
    let given = unsafe { options(given) }?;
    let path = |text: *const c_char| {
        // SAFETY: the caller's word.
        (!text.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()))
    };
    let mut domain = match path(given.shm_dir) {
        Some(directory) if directory.is_empty() => {
            return Err(Failure::argument("the shared-memory directory is \"\""));
        }
        Some(directory) => Domain::from_env().with_shm_dir(directory),
        None => Domain::from_env(),
    };
    domain = match path(given.socket) {
        Some(socket) if socket.is_empty() => domain.without_registry(),
        Some(socket) => domain.with_socket(socket),
        None => domain,
    };
    Ok(if given.any_file_system.get() { domain.allow_any_file_system(true) } else { domain })
}

/// Whether a message is one value or any number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(C)]
pub enum TypeKind {
    /// One value: every message has the size of the type.
    CONDUIT_VALUE = 0,
    /// A slice: the length of a message is any multiple of the size of an element, 0 too.
    CONDUIT_SLICE = 1,
}

/// A kind as C passes it: any number.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct AnyKind(pub(crate) u32);

/// The type of a topic's messages. Publisher and subscriber must agree on all of it.
///
/// The name identifies the type across builds and languages: "robot/Imu". It has 1 to 64 bytes of UTF-8 without control characters.
/// In Rust the same type is a #[repr(C)] structure with #[message(name = "robot/Imu")].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MessageType {
    /// The name. Input: read during the call only. Output: valid as the function says.
    pub name: *const c_char,
    /// Whether messages are values or slices of them.
    pub kind: AnyKind,
    /// Alignment in bytes: a power of two, at most 64. Messages always begin at a multiple of 64.
    pub align: u32,
    /// Size of the value, or of one element of the slice, in bytes: a multiple of the alignment, not 0.
    pub size: usize,
}

impl MessageType {
    /// The type of a publisher's or subscriber's options; `None` for NULL: bytes.
    ///
    /// # Safety
    ///
    /// The pointer is NULL or valid, with a name as for `text`.
    pub(crate) unsafe fn read(given: *const Self) -> Result<Option<TypeInfo>, Failure> {
        if given.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's word.
        let given = unsafe { given.read_unaligned() };
        // SAFETY: the caller's word.
        let Some(name) = (unsafe { text(given.name, "the type's name") })? else {
            return Err(Failure::null("the type's name"));
        };
        let kind = match given.kind.0 {
            0 => conduit::Kind::Value,
            1 => conduit::Kind::Slice,
            other => return Err(Failure::argument(format!("{other} is no kind of type"))),
        };
        Ok(Some(TypeInfo::new(name, kind, given.size as u64, given.align)?))
    }
}

/// Nanoseconds, where 0 stands for a default.
pub(crate) fn non_zero_ns(ns: u64) -> Option<Duration> {
    (ns != 0).then(|| Duration::from_nanos(ns))
}

/// Nanoseconds, where the largest number means no limit.
pub(crate) fn limit_ns(ns: u64) -> Option<Duration> {
    (ns != u64::MAX).then(|| Duration::from_nanos(ns))
}

/// Where a result is to be written, set to `until_then`.
///
/// # Safety
///
/// The pointer is NULL or may be written.
pub(crate) unsafe fn result<'a, T>(place: *mut T, until_then: T) -> Result<&'a mut T, Failure> {
    if place.is_null() {
        return Err(Failure::null("where the result goes"));
    }
    // SAFETY: the caller's word.
    unsafe { place.write(until_then) };
    // SAFETY: as above, and it has been written.
    Ok(unsafe { &mut *place })
}
