//! Lists topics, and asks whether a registry answers.

use std::ptr::{from_ref, null, null_mut};

use conduit::registry::{Client, TopicInfo};
use conduit::{Domain, inspect};

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_ERROR_INVALID_ARGUMENT, CONDUIT_OK};
use crate::failure::{CallFailure, call, get};
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::result;
use crate::records::{ListedTopic, SubscriberRecord, TopicRecord};

/// All topics and raw regions of a domain, as they were at one moment.
#[derive(Debug)]
pub struct ListingHandle(());

#[derive(Debug)]
pub(crate) struct OpenListing {
    topics: Vec<ListedTopic>,
    is_from_registry: bool,
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
        Ok(from_ref(element(topic.subscribers.records(), index, "subscribers")?))
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
