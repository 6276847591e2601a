//! Raw regions.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};

use conduit::ShmRegion;

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_OK};
use crate::failure::call;
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::{self, OptionsStruct, RawBool, limit_ns, non_zero_ns, result, topic_name};
use crate::stop::StopHandle;

/// A raw region: named shared memory without a header.
#[derive(Debug)]
pub struct RegionHandle(());

#[derive(Debug)]
pub(crate) struct OpenRegion {
    region: ShmRegion,
    name: CString,
}

impl HandleKind for RegionHandle {
    type State = OpenRegion;
    const SEAL: u64 = 0xc04d_1e61_0000_0000;
    const NAME: &'static str = "a region";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// How to create a raw region. Initialise it with CONDUIT_REGION_OPTIONS_INIT; a member that is 0
/// has its default.
#[derive(Debug)]
#[repr(C)]
pub struct RegionOptions {
    /// sizeof(conduit_region_options); set by CONDUIT_REGION_OPTIONS_INIT.
    pub struct_size: usize,
    /// Where to create it; NULL for the domain of the environment.
    pub domain: *const DomainOptions,
    /// How long to wait for a dying owner of the name, in nanoseconds. Default: 250 ms.
    pub takeover_timeout_ns: u64,
    /// Permission bits of the file, such as 0640. Default: 0666 without the bits of the umask.
    pub mode: u32,
    /// Numeric id of the file's group, if `has_group` is set.
    pub group: u32,
    /// Whether to set the file's group. Default: the group of the process.
    pub has_group: RawBool,
    /// Must be 0.
    pub reserved: [u8; 7],
}

// SAFETY: it is `repr(C)`, begins with its size, and pointers and integers may have any bits.
unsafe impl OptionsStruct for RegionOptions {
    const INIT: &str = "CONDUIT_REGION_OPTIONS_INIT";
}

fn open(region: ShmRegion) -> *mut RegionHandle {
    let name = CString::new(region.name().as_str()).unwrap_or_default();
    handle::open(OpenRegion { region, name })
}

/// Creates a region of exactly `size` bytes and returns it in `*region`, which is NULL on failure.
///
/// The memory is zeroed and aligned to a page. If a dead owner left the region behind, it is taken
/// over. `options` may be NULL. The caller owns the handle and closes it with
/// conduit_region_close(). If this process dies without closing it, the region is an orphan, which
/// conduitd removes.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_ALLOWED, SIZE, NO_SPACE, NO_MEMORY, FILE_SYSTEM,
/// ALREADY_PUBLISHED, EXISTS, FOREIGN_FILE, NOT_REMOVABLE, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_create(
    name: *const c_char,
    size: usize,
    options: *const RegionOptions,
    region: *mut *mut RegionHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `region` is a result and `options` are options.
        let (region, options) = unsafe { (result("region", region, null_mut())?, pointers::options(options)?) };
        // SAFETY: `conduit.h`: `name` is a string, and so are those in the domain of the options.
        let (name, domain) = unsafe { (topic_name(name)?, domain(options.domain)?) };
        let mut builder = ShmRegion::builder().domain(&domain);
        if options.mode != 0 {
            builder = builder.mode(options.mode);
        }
        if options.has_group.get() {
            builder = builder.group(options.group);
        }
        if let Some(timeout) = non_zero_ns(options.takeover_timeout_ns) {
            builder = builder.takeover_timeout(timeout);
        }
        *region = open(builder.create(&name, size)?);
        Ok(CONDUIT_OK)
    })
}

/// Opens a region for reading and writing and returns it in `*region`, which is NULL on failure.
///
/// `domain` may be NULL. The caller owns the handle and closes it with conduit_region_close().
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, WRONG_KIND, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_open(
    name: *const c_char,
    domain: *const DomainOptions,
    region: *mut *mut RegionHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `region` is a result, `name` a string and `domain` are options.
        let (region, name, domain) =
            unsafe { (result("region", region, null_mut())?, topic_name(name)?, self::domain(domain)?) };
        *region = open(ShmRegion::open_in(&domain, &name)?);
        Ok(CONDUIT_OK)
    })
}

/// Returns in `*exists` whether a region or topic exists; false on failure. `domain` may be NULL.
///
/// Errors: INVALID_ARGUMENT, NAME, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_exists(
    name: *const c_char,
    domain: *const DomainOptions,
    exists: *mut bool,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `exists` is a result, `name` a string and `domain` are options.
        let (exists, name, domain) =
            unsafe { (result("exists", exists, false)?, topic_name(name)?, self::domain(domain)?) };
        *exists = ShmRegion::exists_in(&domain, &name)?;
        Ok(CONDUIT_OK)
    })
}

/// Returns whether to continue waiting. It is called about every 20 ms, on the thread that waits,
/// with the context that was given, and cannot be cancelled. A C++ exception out of it ends the
/// process; longjmp() out of it is undefined behaviour.
pub type KeepWaiting = Option<unsafe extern "C-unwind" fn(context: *mut c_void) -> bool>;

/// Sleeps until a region or topic exists, `keep_waiting` returns false, or the timeout expires.
///
/// Returns in `*exists` whether it exists; false on failure. The call returns as soon as the region
/// appears. `domain` and `keep_waiting` may be NULL; `timeout_ns` is in nanoseconds, or
/// CONDUIT_FOREVER for no limit.
///
/// Errors: INVALID_ARGUMENT, NAME, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_wait_until_exists(
    name: *const c_char,
    domain: *const DomainOptions,
    timeout_ns: u64,
    keep_waiting: KeepWaiting,
    context: *mut c_void,
    exists: *mut bool,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `exists` is a result, `name` a string and `domain` are options.
        let (exists, name, domain) =
            unsafe { (result("exists", exists, false)?, topic_name(name)?, self::domain(domain)?) };
        // SAFETY: `conduit.h`: the function has this type and accepts the context, on this thread.
        let keep_waiting = || keep_waiting.is_none_or(|ask| unsafe { ask(context) });
        *exists = ShmRegion::wait_until_exists_in(&domain, &name, keep_waiting, limit_ns(timeout_ns))?;
        Ok(CONDUIT_OK)
    })
}

/// Sleeps until a region or topic exists, the timeout expires, or it is stopped.
///
/// As conduit_region_wait_until_exists(), but nothing polls: a stop ends it.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, NAME, STOPPED, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_wait_until_exists_or_stopped(
    name: *const c_char,
    domain: *const DomainOptions,
    timeout_ns: u64,
    stop: *const StopHandle,
    exists: *mut bool,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `exists` is a result, `name` a string and `domain` are options.
        let (exists, name, domain) =
            unsafe { (result("exists", exists, false)?, topic_name(name)?, self::domain(domain)?) };
        // SAFETY: `conduit.h`: `stop` is a handle that does not change during the call.
        let stop = unsafe { handle::inherited(stop) }?;
        *exists = ShmRegion::wait_until_exists_or_stopped(&domain, &name, stop, limit_ns(timeout_ns))?;
        Ok(CONDUIT_OK)
    })
}

/// Removes the name of a raw region, even while processes have it open.
///
/// The memory is freed when the last process has closed it. The name of a topic is removed only if
/// its publisher is dead. `domain` may be NULL.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, LIVE, FOREIGN_FILE, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_unlink(name: *const c_char, domain: *const DomainOptions) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `name` is a string and `domain` are options.
        let (name, domain) = unsafe { (topic_name(name)?, self::domain(domain)?) };
        ShmRegion::unlink_in(&domain, &name)?;
        Ok(CONDUIT_OK)
    })
}

/// Returns the address of the region, aligned to a page and valid for conduit_region_size() bytes
/// until the region is closed.
///
/// Other processes read and write the same memory at any time: use atomic variables or locks. A
/// forked child does not inherit the memory.
///
/// NULL on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_data(region: *const RegionHandle) -> *mut c_void {
    // SAFETY: `conduit.h`: `region` is a handle that does not change during the call.
    unsafe { handle::property(region, null_mut(), |open| open.region.data().cast()) }
}

/// Returns the size of the region in bytes, as it was created.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_size(region: *const RegionHandle) -> usize {
    // SAFETY: `conduit.h`: `region` is a handle that does not change during the call.
    unsafe { handle::property(region, 0, |open| open.region.size()) }
}

/// Returns the name of the region. The string is valid until the region is closed.
///
/// NULL on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_name(region: *const RegionHandle) -> *const c_char {
    // SAFETY: `conduit.h`: `region` is a handle that does not change during the call.
    unsafe { handle::property(region, null(), |open| open.name.as_ptr()) }
}

/// Unmaps the region and frees the handle. NULL is accepted and does nothing.
///
/// The region keeps its name and contents until conduit_region_unlink() or a restart of the
/// machine. In a forked child it only frees the child's copy of the handle.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_close(region: *mut RegionHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `region` is a handle.
    unsafe { handle::close(region) }
}
