//! Raw regions.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};

use conduit::ShmRegion;

use crate::arguments::{self, AnyBool, DomainOptions, Options, limit_ns, non_zero_ns, result, topic_name};
use crate::error::Error::CONDUIT_OK;
use crate::error::{Error, call, get};
use crate::handle::{self, Kind, Pool};

/// A raw region: named shared memory without a header.
#[derive(Debug)]
pub struct Region(());

#[derive(Debug)]
pub(crate) struct State {
    region: ShmRegion,
    name: CString,
}

impl Kind for Region {
    type State = State;
    const SEAL: u64 = 0xc04d_1e61_0000_0000;
    const NAME: &'static str = "a region";

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }
}

/// How a raw region is to be made. Begin with CONDUIT_REGION_OPTIONS_INIT; a member that is 0 has its default.
#[derive(Debug)]
#[repr(C)]
pub struct RegionOptions {
    /// sizeof(conduit_region_options), as CONDUIT_REGION_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Where; NULL for the environment's.
    pub domain: *const DomainOptions,
    /// Permission bits of the file, 0640 for example; 0 for what the process's umask leaves of 0666.
    pub mode: u32,
    /// Numeric id of the file's group, if has_group is set.
    pub group: u32,
    /// How long to wait for a dying owner of the name, in nanoseconds; 0 for 250 ms.
    pub takeover_timeout_ns: u64,
    /// Whether group is to be set.
    pub has_group: AnyBool,
    /// 0.
    pub reserved: [u8; 7],
}

// SAFETY: the size comes first, the rest takes any bytes.
unsafe impl Options for RegionOptions {
    const INIT: &str = "CONDUIT_REGION_OPTIONS_INIT";
}

fn open(region: ShmRegion) -> *mut Region {
    let name = CString::new(region.name().as_str()).unwrap_or_default();
    handle::open(State { region, name })
}

/// Creates a region of exactly `size` bytes, zeroed and aligned to a page.
///
/// `options` may be NULL. The handle in `*region` is the caller's, to be closed with conduit_region_close(); NULL on failure. If this
/// process dies without closing it, the region is an orphan, which conduitd removes and the next creator takes over.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_ALLOWED, SIZE, NO_SPACE, NO_MEMORY, FILE_SYSTEM, ALREADY_PUBLISHED, EXISTS, FOREIGN_FILE,
/// NOT_REMOVABLE, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_create(
    name: *const c_char,
    size: usize,
    options: *const RegionOptions,
    region: *mut *mut Region,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (region, options) = unsafe { (result(region, null_mut())?, arguments::options(options)?) };
        // SAFETY: the contract of the ABI.
        let (name, domain) = unsafe { (topic_name(name)?, arguments::domain(options.domain)?) };
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

/// Opens a region for reading and writing.
///
/// `domain` may be NULL. The handle in `*region` is the caller's, to be closed with conduit_region_close(); NULL on failure.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, WRONG_KIND, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_open(
    name: *const c_char,
    domain: *const DomainOptions,
    region: *mut *mut Region,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (region, name, domain) =
            unsafe { (result(region, null_mut())?, topic_name(name)?, arguments::domain(domain)?) };
        *region = open(ShmRegion::builder().domain(&domain).open(&name)?);
        Ok(CONDUIT_OK)
    })
}

/// Says in `*exists` whether a region or topic of the name exists; false on failure. `domain` may be NULL.
///
/// Errors: INVALID_ARGUMENT, NAME, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_exists(
    name: *const c_char,
    domain: *const DomainOptions,
    exists: *mut bool,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (exists, name, domain) = unsafe { (result(exists, false)?, topic_name(name)?, arguments::domain(domain)?) };
        *exists = ShmRegion::builder().domain(&domain).exists(&name)?;
        Ok(CONDUIT_OK)
    })
}

/// Says whether to go on waiting. It is called on the thread that waits, about every 20 ms, with the context given. A C++ exception or
/// a longjmp() out of it ends the process.
pub type KeepWaiting = Option<unsafe extern "C-unwind" fn(context: *mut c_void) -> bool>;

/// Sleeps until a region or topic of the name exists, or `keep_waiting` says no, or the time is up.
///
/// Says in `*exists` whether it exists; false on failure. Its appearance wakes the call at once. `domain` and `keep_waiting` may be
/// NULL; `timeout_ns` is CONDUIT_FOREVER for no limit.
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
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (exists, name, domain) = unsafe { (result(exists, false)?, topic_name(name)?, arguments::domain(domain)?) };
        // SAFETY: the caller's function, called as it is declared.
        let keep_waiting = || keep_waiting.is_none_or(|ask| unsafe { ask(context) });
        let builder = ShmRegion::builder().domain(&domain);
        *exists = builder.wait_until_exists_while(&name, keep_waiting, limit_ns(timeout_ns))?;
        Ok(CONDUIT_OK)
    })
}

/// Removes the name of a raw region, whoever uses it; its memory stays until the last process has unmapped it. A topic's name is
/// removed only if its publisher is dead. `domain` may be NULL.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, LIVE, FOREIGN_FILE, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_unlink(name: *const c_char, domain: *const DomainOptions) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (name, domain) = unsafe { (topic_name(name)?, arguments::domain(domain)?) };
        ShmRegion::builder().domain(&domain).unlink(&name)?;
        Ok(CONDUIT_OK)
    })
}

/// The first byte of the region, aligned to a page and valid for conduit_region_size() bytes until the region is closed.
///
/// Other processes read and write the same memory at any time: what is shared without a lock must be atomic. A forked child does
/// not have the memory. NULL, with INVALID_HANDLE or FORKED, if there is no such region in this process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_data(region: *const Region) -> *mut c_void {
    // SAFETY: the contract of the ABI.
    get(null_mut(), || Ok(unsafe { handle::get(region) }?.region.data().cast()))
}

/// Size of the region in bytes, as asked for at its creation; 0, with INVALID_HANDLE or FORKED, if there is no such region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_size(region: *const Region) -> usize {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(region) }?.region.size()))
}

/// The region's name, valid until the region is closed; NULL, with INVALID_HANDLE or FORKED, if there is no such region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_name(region: *const Region) -> *const c_char {
    // SAFETY: the contract of the ABI.
    get(null(), || Ok(unsafe { handle::get(region) }?.name.as_ptr()))
}

/// Unmaps the region and keeps its name and contents, until conduit_region_unlink() or a reboot. NULL is no error. In a forked child it
/// only frees the child's handle.
///
/// Errors: INVALID_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_region_close(region: *mut Region) -> Error {
    // SAFETY: the contract of the ABI.
    call(|| unsafe { handle::close(region) }.map(|()| CONDUIT_OK))
}
