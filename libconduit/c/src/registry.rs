//! Lists topics, and asks whether a registry answers.

use std::ffi::{CString, c_char};
use std::ptr::{from_ref, null, null_mut};

use conduit::registry::{Client, RegionState, SubscriberInfo, TopicInfo};
use conduit::{Domain, inspect};

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_ERROR_INVALID_ARGUMENT, CONDUIT_OK};
use crate::failure::{CallFailure, call, get};
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::result;

/// All topics and raw regions of a domain, as they were at one moment.
#[derive(Debug)]
pub struct ListingHandle(());

#[derive(Debug)]
pub(crate) struct OpenListing {
    topics: Vec<ListedTopic>,
    is_from_registry: bool,
}

#[derive(Debug)]
struct ListedTopic {
    record: TopicRecord,
    subscribers: Vec<SubscriberRecord>,
    /// What the strings in the records point to.
    _texts: CTexts,
}

impl HandleKind for ListingHandle {
    type State = OpenListing;
    const SEAL: u64 = 0xc04d_1e65_0000_0000;
    const NAME: &'static str = "a listing";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// The state of a topic or raw region. Later versions may add states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum StateCode {
    /// Its owner is alive.
    CONDUIT_STATE_LIVE = 0,
    /// Its publisher has closed it.
    CONDUIT_STATE_CLOSED = 1,
    /// Its owner is dead.
    CONDUIT_STATE_ORPHANED = 2,
    /// A raw region that its creator closed: it stays until it is unlinked.
    CONDUIT_STATE_KEPT = 3,
    /// It is live or kept, but the registry's rules do not allow it.
    CONDUIT_STATE_UNAUTHORISED = 4,
    /// Its owner is alive, but its name was removed: processes that have it open continue to use
    /// it, others cannot find it.
    CONDUIT_STATE_UNLINKED = 5,
    /// The registry is newer than this library and reports a state that the library does not know.
    CONDUIT_STATE_UNKNOWN = 6,
}

/// A topic or raw region. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct TopicRecord {
    /// Name.
    pub name: *const c_char,
    /// Path of its file.
    pub path: *const c_char,
    /// Name of the message type, in brackets for slices; NULL for a raw region.
    pub type_name: *const c_char,
    /// Why it is unauthorised, or what has probably removed its name; NULL in other states.
    pub reason: *const c_char,
    /// Command name of the owner; NULL if it is not known.
    pub publisher_program: *const c_char,
    /// Process id of the owner; 0 if it is not known.
    pub publisher_pid: u32,
    /// User id of the owner; 0 if the process id is not known.
    pub publisher_uid: u32,
    /// State.
    pub state: StateCode,
    /// Number of slots; 0 for a raw region.
    pub slots: u32,
    /// Size of a slot in bytes, of which 192 are the slot's own; 0 for a raw region.
    pub slot_size: u64,
    /// Size of the file in bytes.
    pub size: u64,
    /// Number of messages published; 0 for a raw region.
    pub published: u64,
    /// Time since the last message was published, in nanoseconds; UINT64_MAX if there was none, or
    /// if it has no time stamp.
    pub last_message_age_ns: u64,
    /// Messages per second over the last one to two seconds; negative if unknown.
    pub rate_hz: f64,
    /// Bytes per second over the last one to two seconds; negative if unknown.
    pub bytes_per_second: f64,
    /// Number of subscribers.
    pub subscribers: usize,
    /// Whether it is a raw region.
    pub is_raw: bool,
}

/// A subscriber of a topic. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct SubscriberRecord {
    /// Command name.
    pub program: *const c_char,
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Number of messages received.
    pub received: u64,
    /// Number of messages missed.
    pub lost: u64,
    /// Number of slots that it is behind the publisher.
    pub lag: u64,
    /// Number of samples that it holds.
    pub held: u32,
    /// Whether it is asleep until the next message.
    pub is_asleep: bool,
}

/// Strings for C: their addresses do not change when more are added.
#[derive(Debug, Default)]
struct CTexts(Vec<CString>);

impl CTexts {
    fn add(&mut self, text: &str) -> *const c_char {
        let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
        let text = CString::new(bytes).unwrap_or_default();
        let pointer = text.as_ptr();
        self.0.push(text);
        pointer
    }

    fn add_some(&mut self, text: Option<&str>) -> *const c_char {
        text.map_or(null(), |text| self.add(text))
    }
}

impl ListedTopic {
    fn new(topic: &TopicInfo) -> Self {
        let mut texts = CTexts::default();
        let subscribers: Vec<_> = topic.subscribers.iter().map(|one| subscriber(one, &mut texts)).collect();
        let publisher = topic.publisher.as_ref();
        let record = TopicRecord {
            name: texts.add(&topic.name),
            path: texts.add(&topic.path),
            type_name: texts.add_some(topic.message_type.as_deref()),
            reason: texts.add_some(topic.refusal.as_deref().or(topic.unlinked.as_deref())),
            publisher_program: texts.add_some(publisher.map(|process| process.program.as_str())),
            publisher_pid: publisher.map_or(0, |process| process.pid),
            publisher_uid: publisher.map_or(0, |process| process.uid),
            state: state(&topic.state),
            slots: topic.slots.unwrap_or(0),
            slot_size: topic.slot_bytes.unwrap_or(0),
            size: topic.size_bytes,
            published: topic.published.unwrap_or(0),
            last_message_age_ns: topic.last_message_age_ns.unwrap_or(u64::MAX),
            rate_hz: topic.rate_hz.unwrap_or(-1.0),
            bytes_per_second: topic.bytes_per_second.unwrap_or(-1.0),
            subscribers: subscribers.len(),
            is_raw: topic.raw,
        };
        Self { record, subscribers, _texts: texts }
    }
}

fn state(state: &RegionState) -> StateCode {
    match state {
        RegionState::Live => StateCode::CONDUIT_STATE_LIVE,
        RegionState::Closed => StateCode::CONDUIT_STATE_CLOSED,
        RegionState::Orphaned => StateCode::CONDUIT_STATE_ORPHANED,
        RegionState::Kept => StateCode::CONDUIT_STATE_KEPT,
        RegionState::Unauthorised => StateCode::CONDUIT_STATE_UNAUTHORISED,
        RegionState::Unlinked => StateCode::CONDUIT_STATE_UNLINKED,
        _ => StateCode::CONDUIT_STATE_UNKNOWN,
    }
}

fn subscriber(one: &SubscriberInfo, texts: &mut CTexts) -> SubscriberRecord {
    SubscriberRecord {
        program: texts.add(&one.program),
        pid: one.pid,
        uid: one.uid,
        received: one.received,
        lost: one.lost,
        lag: one.lag,
        held: one.held,
        is_asleep: one.asleep,
    }
}

/// Asks the registry of a domain whether it is running. `domain` may be NULL.
///
/// Errors: INVALID_ARGUMENT, NO_REGISTRY, REGISTRY, IO (such as no reply within a second).
/// Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_ping(domain: *const DomainOptions) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `domain` are options.
        let domain = unsafe { self::domain(domain) }?;
        Client::connect(&domain)?.status()?;
        Ok(CONDUIT_OK)
    })
}

/// Lists the topics and raw regions of a domain, sorted by name, and returns the listing in
/// `*listing`, which is NULL on failure.
///
/// It asks the registry, or reads the shared-memory directory if no registry answers. `domain` may
/// be NULL. The caller owns the handle and closes it with conduit_listing_close().
///
/// Errors: INVALID_ARGUMENT, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_open(
    domain: *const DomainOptions,
    listing: *mut *mut ListingHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `listing` is a result and `domain` are options.
        let (listing, domain) = unsafe { (result("listing", listing, null_mut())?, self::domain(domain)?) };
        let reply = Client::connect(&domain).and_then(|mut registry| registry.list()).ok();
        let is_from_registry = reply.is_some();
        let topics = match reply {
            Some(topics) => topics,
            None => read_directory(&domain)?,
        };
        let topics = topics.iter().map(ListedTopic::new).collect();
        *listing = handle::open(OpenListing { topics, is_from_registry });
        Ok(CONDUIT_OK)
    })
}

/// Lists the regions of a directory without those that cannot be read.
fn read_directory(domain: &Domain) -> Result<Vec<TopicInfo>, CallFailure> {
    Ok(inspect::list(domain)?.into_iter().filter_map(Result::ok).collect())
}

/// Returns whether the listing is from the registry. If not, it is what the regions themselves
/// contain: process ids are those of the processes' own namespaces, and rates are unknown.
///
/// False on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_is_from_registry(listing: *const ListingHandle) -> bool {
    // SAFETY: `conduit.h`: `listing` is a handle that does not change during the call.
    unsafe { handle::property(listing, false, |open| open.is_from_registry) }
}

/// Returns the number of topics and raw regions in a listing.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_count(listing: *const ListingHandle) -> usize {
    // SAFETY: `conduit.h`: `listing` is a handle that does not change during the call.
    unsafe { handle::property(listing, 0, |open| open.topics.len()) }
}

/// Returns a topic or raw region of a listing by its index, from 0. It is valid until the listing
/// is closed.
///
/// NULL on failure. Errors: INVALID_ARGUMENT (the index), INVALID_HANDLE, FORKED. Thread-safe with
/// other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_topic(listing: *const ListingHandle, index: usize) -> *const TopicRecord {
    get(null(), || {
        // SAFETY: `conduit.h`: `listing` is a handle that does not change during the call.
        let open = unsafe { handle::state(listing) }?;
        Ok(&raw const element(&open.topics, index, "topics")?.record)
    })
}

/// Returns a subscriber of a topic of a listing by their indices, from 0. It is valid until the
/// listing is closed.
///
/// NULL on failure. Errors: INVALID_ARGUMENT (an index), INVALID_HANDLE, FORKED. Thread-safe with
/// other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_subscriber(
    listing: *const ListingHandle,
    topic: usize,
    index: usize,
) -> *const SubscriberRecord {
    get(null(), || {
        // SAFETY: `conduit.h`: `listing` is a handle that does not change during the call.
        let open = unsafe { handle::state(listing) }?;
        let topic = element(&open.topics, topic, "topics")?;
        Ok(from_ref(element(&topic.subscribers, index, "subscribers")?))
    })
}

fn element<'a, T>(all: &'a [T], index: usize, what: &str) -> Result<&'a T, CallFailure> {
    all.get(index).ok_or_else(|| {
        let message = format!("index {index} is out of range: there are {} {what}", all.len());
        CallFailure::new(CONDUIT_ERROR_INVALID_ARGUMENT, message)
    })
}

/// Frees a listing with everything in it. NULL is accepted and does nothing.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_close(listing: *mut ListingHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `listing` is a handle.
    unsafe { handle::close(listing) }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn a_registry_of_the_future_can_be_listed() {
        for known in RegionState::ALL {
            assert_ne!(state(&known), StateCode::CONDUIT_STATE_UNKNOWN, "{known}");
        }
        let mut future = TopicInfo::new("imu", RegionState::Unknown("hibernating".into()));
        future.subscribers.push(SubscriberInfo::default());
        let listed = ListedTopic::new(&future);
        let TopicRecord { state, type_name, publisher_program, subscribers, rate_hz, .. } = listed.record;
        assert_eq!((state, subscribers), (StateCode::CONDUIT_STATE_UNKNOWN, 1));
        assert!(type_name.is_null() && publisher_program.is_null() && rate_hz < 0.0);
        // SAFETY: `listed` holds the text.
        assert_eq!(unsafe { CStr::from_ptr(listed.record.name) }, c"imu");
    }
}
