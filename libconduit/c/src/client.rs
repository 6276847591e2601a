//! Questions to the registry, and what it is asked to do.

use std::ffi::c_char;
use std::ptr::{from_ref, null, null_mut};

use conduit::registry::{Client, RegistryStatus};

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_OK};
use crate::failure::call;
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::{RawBool, result, topic_name};
use crate::records::{CTexts, ListedTopic, TopicRecord};
use crate::reported::{ReportedEvent, ReportedRecord};

/// A connection to the registry.
#[derive(Debug)]
pub struct ClientHandle(());

#[derive(Debug)]
pub(crate) struct OpenClient {
    client: Client,
    status: Option<Box<StatusWithTexts>>,
    described: Option<Box<ListedTopic>>,
    deaths: Vec<ReportedEvent>,
    /// The addresses of the deaths' records.
    pointers: Vec<*const ReportedRecord>,
}

impl HandleKind for ClientHandle {
    type State = OpenClient;
    const SEAL: u64 = 0xc04d_1e69_0000_0000;
    const NAME: &'static str = "a registry";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// What a registry says of itself. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct StatusRecord {
    /// Version of the registry.
    pub version: *const c_char,
    /// Its shared-memory directory, by the path it was given.
    pub shm_dir: *const c_char,
    /// Its process id.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// Number of regions.
    pub topics: u64,
    /// Number of connections.
    pub clients: u64,
    /// Number of regions of dead owners that it has removed since it was started.
    pub reaped: u64,
    /// Number of names that it does not track: those beyond what one user may have.
    pub untracked: u64,
    /// Whether a service manager keeps its clients' connections while it is restarted.
    pub is_supervised: bool,
}

#[derive(Debug)]
struct StatusWithTexts {
    record: StatusRecord,
    _texts: CTexts,
}

impl StatusWithTexts {
    fn new(status: &RegistryStatus) -> Self {
        let mut texts = CTexts::default();
        let record = StatusRecord {
            version: texts.add(&status.version),
            shm_dir: texts.add(&status.shm_dir),
            pid: status.pid,
            uid: status.uid,
            topics: status.topics,
            clients: status.clients,
            reaped: status.reaped,
            untracked: status.untracked,
            is_supervised: status.supervised,
        };
        Self { record, _texts: texts }
    }
}

/// Connects to the registry of a domain and returns the connection in `*registry`, which is NULL on
/// failure. `domain` may be NULL. The caller owns the handle and closes it with
/// conduit_registry_close().
///
/// A question that the registry does not answer because it ends is repeated once, to the registry
/// that has been started meanwhile. One that is stopped is an error after a second.
///
/// Errors: INVALID_ARGUMENT, NO_REGISTRY, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_open(
    domain: *const DomainOptions,
    registry: *mut *mut ClientHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `registry` is a result and `domain` are options.
        let (registry, domain) = unsafe { (result("registry", registry, null_mut())?, self::domain(domain)?) };
        let client = Client::connect(&domain)?;
        let (deaths, pointers) = (Vec::new(), Vec::new());
        *registry = handle::open(OpenClient { client, status: None, described: None, deaths, pointers });
        Ok(CONDUIT_OK)
    })
}

/// Asks the registry about itself: its version, process and load, in `*status`, which is NULL on
/// failure. It is valid until the next call of this function, or until the handle is closed.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, NO_REGISTRY, REGISTRY, IO. One thread at a
/// time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_status(
    registry: *mut ClientHandle,
    status: *mut *const StatusRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `status` is a result and `registry` is a handle.
        let (status, open) = unsafe { (result("status", status, null())?, handle::state_mut(registry)?) };
        let found = open.client.status()?;
        *status = &raw const open.status.insert(Box::new(StatusWithTexts::new(&found))).record;
        Ok(CONDUIT_OK)
    })
}

/// Asks the registry about one topic or raw region, in `*topic`, which is NULL on failure. It is
/// valid until the next call of this function, or until the handle is closed.
///
/// Errors: as for conduit_registry_status(), and NAME and NOT_FOUND. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_describe(
    registry: *mut ClientHandle,
    name: *const c_char,
    topic: *mut *const TopicRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `topic` is a result, `registry` is a handle and `name` a string.
        let (topic, open, name) =
            unsafe { (result("topic", topic, null())?, handle::state_mut(registry)?, topic_name(name)?) };
        let found = open.client.describe(&name)?;
        *topic = &raw const open.described.insert(Box::new(ListedTopic::new(&found))).record;
        Ok(CONDUIT_OK)
    })
}

/// Makes the registry remove an orphan, which may belong to another user. Returns in `*was_orphan`
/// whether it was one; false on failure.
///
/// Errors: as for conduit_registry_describe(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_reap(
    registry: *mut ClientHandle,
    name: *const c_char,
    was_orphan: *mut bool,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `was_orphan` is a result, `registry` a handle and `name` a string.
        let (was_orphan, open, name) =
            unsafe { (result("was_orphan", was_orphan, false)?, handle::state_mut(registry)?, topic_name(name)?) };
        *was_orphan = open.client.reap(&name)?;
        Ok(CONDUIT_OK)
    })
}

/// Makes the registry remove a region of this user, or of any for root. One whose owner is alive is
/// refused unless `force` is set: a live topic is then closed first, its publisher's next call
/// fails with CONDUIT_ERROR_REMOVED, and its subscribers get CONDUIT_ERROR_PUBLISHER_CLOSED or
/// CONDUIT_ERROR_PUBLISHER_DIED.
///
/// Errors: as for conduit_registry_describe(), and LIVE and PERMISSION (it is another user's). One
/// thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_unlink(
    registry: *mut ClientHandle,
    name: *const c_char,
    force: RawBool,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `registry` is a handle and `name` a string.
        let (open, name) = unsafe { (handle::state_mut(registry)?, topic_name(name)?) };
        open.client.unlink(&name, force.get())?;
        Ok(CONDUIT_OK)
    })
}

/// Asks the registry for the last 1,000 deaths of owners since it was started, oldest first, in
/// `*deaths`, and for their number in `*count`; NULL and 0 on failure. The events are valid until
/// the next call of this function, or until the handle is closed.
///
/// Errors: as for conduit_registry_status(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_deaths(
    registry: *mut ClientHandle,
    deaths: *mut *const *const ReportedRecord,
    count: *mut usize,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `deaths` and `count` are results and `registry` is a handle.
        let (deaths, count, open) =
            unsafe { (result("deaths", deaths, null())?, result("count", count, 0)?, handle::state_mut(registry)?) };
        open.deaths = open.client.deaths()?.iter().map(ReportedEvent::new).collect();
        // Moving the vector does not move what it holds.
        open.pointers = open.deaths.iter().map(|death| from_ref(&death.record)).collect();
        (*deaths, *count) = (open.pointers.as_ptr(), open.pointers.len());
        Ok(CONDUIT_OK)
    })
}

/// Ends the connection and frees the handle with everything in it. NULL is accepted and does
/// nothing.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_close(registry: *mut ClientHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `registry` is a handle.
    unsafe { handle::close(registry) }
}
