//! What there is, and whether a registry answers.

use std::ffi::{CString, c_char};
use std::ptr::{null, null_mut};

use conduit::registry::Client;
use conduit::registry::{self as protocol, RegionState as ProtocolState};
use conduit::{Domain, inspect};

use crate::arguments::{self, DomainOptions, result};
use crate::error::Error::{CONDUIT_ERROR_INVALID_ARGUMENT, CONDUIT_OK};
use crate::error::{Error, Failure, call, get};
use crate::handle::{self, Kind, Pool};

/// All topics and raw regions, as they were at one moment.
#[derive(Debug)]
pub struct Listing(());

#[derive(Debug)]
pub(crate) struct State {
    topics: Vec<Entry>,
    from_registry: bool,
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    subscribers: Vec<SubscriberInfo>,
    /// What the pointers point to.
    _texts: Texts,
}

impl Kind for Listing {
    type State = State;
    const SEAL: u64 = 0xc04d_1e65_0000_0000;
    const NAME: &'static str = "a listing";

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }
}

/// Whether somebody stands behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(C)]
pub enum TopicState {
    /// Its owner lives.
    CONDUIT_STATE_LIVE = 0,
    /// Its publisher has closed it.
    CONDUIT_STATE_CLOSED = 1,
    /// Its owner is dead.
    CONDUIT_STATE_ORPHANED = 2,
    /// A raw region whose creator let it go: it stays.
    CONDUIT_STATE_KEPT = 3,
    /// Its owner lives, or it is kept, and the registry's rules do not allow it.
    CONDUIT_STATE_UNAUTHORISED = 4,
    /// Its owner lives, and somebody has removed its name: who has it open goes on, nobody else can find it.
    CONDUIT_STATE_UNLINKED = 5,
    /// A state that a newer registry reports and this library does not know.
    CONDUIT_STATE_UNKNOWN = 6,
}

/// A topic or raw region. Later versions may add members at the end.
#[derive(Debug)]
#[repr(C)]
pub struct Topic {
    /// Its name.
    pub name: *const c_char,
    /// Where its file is.
    pub path: *const c_char,
    /// Name of the messages' type, in brackets for a slice; NULL for a raw region.
    pub type_name: *const c_char,
    /// Why it is unauthorised, or who has probably removed its name; NULL in other states.
    pub reason: *const c_char,
    /// Command name of its owner; NULL if it is not known.
    pub publisher_program: *const c_char,
    /// Process id of its owner; 0 if it is not known.
    pub publisher_pid: u32,
    /// User id of its owner, if the process id is known.
    pub publisher_uid: u32,
    /// Whether somebody stands behind it.
    pub state: TopicState,
    /// Number of slots; 0 for a raw region.
    pub slots: u32,
    /// Size of a slot in bytes, 192 of which are its state and header; 0 for a raw region.
    pub slot_size: u64,
    /// Size of its file in bytes.
    pub size: u64,
    /// Messages published; 0 for a raw region.
    pub published: u64,
    /// Time since the last message was published, in nanoseconds; UINT64_MAX if there was none or it has no time stamp.
    pub last_message_age_ns: u64,
    /// Messages per second, over the last one to two seconds; negative if it is not known.
    pub rate_hz: f64,
    /// Bytes of messages per second, likewise.
    pub bytes_per_second: f64,
    /// Number of subscribers.
    pub subscribers: usize,
    /// Whether it is a raw region.
    pub is_raw: bool,
}

/// One subscriber of a topic. Later versions may add members at the end.
#[derive(Debug)]
#[repr(C)]
pub struct SubscriberInfo {
    /// Command name.
    pub program: *const c_char,
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Messages received.
    pub received: u64,
    /// Messages missed.
    pub lost: u64,
    /// Slots between the publisher's next and this subscriber's.
    pub lag: u64,
    /// Samples held now.
    pub held: u32,
    /// Whether it sleeps until the next message.
    pub is_asleep: bool,
}

/// Strings for C, which do not move.
#[derive(Debug, Default)]
struct Texts(Vec<CString>);

impl Texts {
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

impl Entry {
    fn new(topic: &protocol::TopicInfo) -> Self {
        let mut texts = Texts::default();
        let subscribers: Vec<_> = topic.subscribers.iter().map(|one| subscriber(one, &mut texts)).collect();
        let publisher = topic.publisher.as_ref();
        let topic = Topic {
            name: texts.add(&topic.name),
            path: texts.add(&topic.path),
            type_name: texts.add_some(topic.message_type.as_deref()),
            reason: texts.add_some(topic.refusal.as_deref().or(topic.unlinked.as_deref())),
            publisher_program: texts.add_some(publisher.map(|process| process.program.as_str())),
            publisher_pid: publisher.map_or(0, |process| process.pid),
            publisher_uid: publisher.map_or(0, |process| process.uid),
            state: match topic.state {
                ProtocolState::Live => TopicState::CONDUIT_STATE_LIVE,
                ProtocolState::Closed => TopicState::CONDUIT_STATE_CLOSED,
                ProtocolState::Orphaned => TopicState::CONDUIT_STATE_ORPHANED,
                ProtocolState::Kept => TopicState::CONDUIT_STATE_KEPT,
                ProtocolState::Unauthorised => TopicState::CONDUIT_STATE_UNAUTHORISED,
                ProtocolState::Unlinked => TopicState::CONDUIT_STATE_UNLINKED,
                _ => TopicState::CONDUIT_STATE_UNKNOWN,
            },
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
        Self { topic, subscribers, _texts: texts }
    }
}

fn subscriber(one: &protocol::SubscriberInfo, texts: &mut Texts) -> SubscriberInfo {
    SubscriberInfo {
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

/// Asks the registry of a domain whether it is there. `domain` may be NULL.
///
/// Errors: INVALID_ARGUMENT, NO_REGISTRY, REGISTRY, IO (it does not answer within 5 s, for one). Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_registry_ping(domain: *const DomainOptions) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let domain = unsafe { arguments::domain(domain) }?;
        Client::connect(&domain)?.status()?;
        Ok(CONDUIT_OK)
    })
}

/// Lists all topics and raw regions of a domain, sorted by name.
///
/// Asks the registry, or reads the shared-memory directory if none answers. `domain` may be NULL. The handle in `*listing` is the
/// caller's, to be closed with conduit_listing_close(); NULL on failure.
///
/// Errors: INVALID_ARGUMENT, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_open(domain: *const DomainOptions, listing: *mut *mut Listing) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (listing, domain) = unsafe { (result(listing, null_mut())?, arguments::domain(domain)?) };
        let answer = Client::connect(&domain).and_then(|mut registry| registry.list()).ok();
        let from_registry = answer.is_some();
        let topics = match answer {
            Some(topics) => topics,
            None => read_directory(&domain)?,
        };
        let topics = topics.iter().map(Entry::new).collect();
        *listing = handle::open(State { topics, from_registry });
        Ok(CONDUIT_OK)
    })
}

/// What can not be read is left out.
fn read_directory(domain: &Domain) -> Result<Vec<protocol::TopicInfo>, Failure> {
    Ok(inspect::list(domain)?.into_iter().filter_map(Result::ok).collect())
}

/// Whether the registry answered. If not, the listing is what the regions themselves say: process ids are those of the processes' own
/// namespaces. False, with INVALID_HANDLE, if there is no listing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_is_from_registry(listing: *const Listing) -> bool {
    // SAFETY: the contract of the ABI.
    get(false, || Ok(unsafe { handle::get(listing) }?.from_registry))
}

/// Number of topics and raw regions in a listing; 0, with INVALID_HANDLE, if there is no listing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_count(listing: *const Listing) -> usize {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(listing) }?.topics.len()))
}

/// One topic or raw region of a listing, valid until the listing is closed. NULL, with INVALID_ARGUMENT or INVALID_HANDLE, if there is
/// none of this index (from 0).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_topic(listing: *const Listing, index: usize) -> *const Topic {
    get(null(), || {
        // SAFETY: the contract of the ABI.
        let state = unsafe { handle::get(listing) }?;
        Ok(&raw const state.topics.get(index).ok_or_else(|| beyond("topics", state.topics.len()))?.topic)
    })
}

/// One subscriber of a topic of a listing, valid until the listing is closed. NULL, with INVALID_ARGUMENT or INVALID_HANDLE, if there is
/// none of this index (from 0).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_subscriber(
    listing: *const Listing,
    topic: usize,
    index: usize,
) -> *const SubscriberInfo {
    get(null(), || {
        // SAFETY: the contract of the ABI.
        let state = unsafe { handle::get(listing) }?;
        let entry = state.topics.get(topic).ok_or_else(|| beyond("topics", state.topics.len()))?;
        let found = entry.subscribers.get(index).ok_or_else(|| beyond("subscribers", entry.subscribers.len()))?;
        Ok(std::ptr::from_ref(found))
    })
}

#[cold]
fn beyond(what: &str, count: usize) -> Failure {
    Failure::new(CONDUIT_ERROR_INVALID_ARGUMENT, format!("the index is beyond the end: there are {count} {what}"))
}

/// Frees a listing and everything in it. NULL is no error.
///
/// Errors: INVALID_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_listing_close(listing: *mut Listing) -> Error {
    // SAFETY: the contract of the ABI.
    call(|| unsafe { handle::close(listing) }.map(|()| CONDUIT_OK))
}
