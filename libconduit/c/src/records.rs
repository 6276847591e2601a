//! What is known of topics and processes, as structures for C.

use std::ffi::{CString, c_char};
use std::ptr::{from_ref, null};

use conduit::registry::{RegionState, SubscriberInfo, TopicInfo};

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
    /// The subscribers: as many pointers as `subscribers` says.
    pub subscriber_list: *const *const SubscriberRecord,
    /// How long the publisher has promised to be silent at most, in nanoseconds; UINT64_MAX if it
    /// has not.
    pub deadline_ns: u64,
    /// Whether it has been silent for longer.
    pub is_overdue: bool,
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
pub(crate) struct CTexts(Vec<CString>);

impl CTexts {
    pub(crate) fn add(&mut self, text: &str) -> *const c_char {
        let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
        let text = CString::new(bytes).unwrap_or_default();
        let pointer = text.as_ptr();
        self.0.push(text);
        pointer
    }

    pub(crate) fn add_some(&mut self, text: Option<&str>) -> *const c_char {
        text.map_or(null(), |text| self.add(text))
    }
}

/// The subscribers of a topic, for C to find by their number.
#[derive(Debug)]
pub(crate) struct SubscriberList {
    records: Vec<SubscriberRecord>,
    pointers: Vec<*const SubscriberRecord>,
}

impl SubscriberList {
    pub(crate) fn new(subscribers: &[SubscriberInfo], texts: &mut CTexts) -> Self {
        let records: Vec<_> = subscribers.iter().map(|one| subscriber(one, texts)).collect();
        // Moving the vector does not move what it holds.
        let pointers = records.iter().map(from_ref).collect();
        Self { records, pointers }
    }

    pub(crate) fn records(&self) -> &[SubscriberRecord] {
        &self.records
    }

    /// The addresses of the records, for as long as `self` lives.
    pub(crate) fn as_ptr(&self) -> *const *const SubscriberRecord {
        self.pointers.as_ptr()
    }
}

/// A topic with everything that its record points to.
#[derive(Debug)]
pub(crate) struct ListedTopic {
    pub(crate) record: TopicRecord,
    pub(crate) subscribers: SubscriberList,
    /// What the strings in the records point to.
    _texts: CTexts,
}

impl ListedTopic {
    pub(crate) fn new(topic: &TopicInfo) -> Self {
        let mut texts = CTexts::default();
        let subscribers = SubscriberList::new(&topic.subscribers, &mut texts);
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
            subscribers: subscribers.records().len(),
            is_raw: topic.raw,
            subscriber_list: subscribers.as_ptr(),
            deadline_ns: topic.deadline_ns.unwrap_or(u64::MAX),
            is_overdue: topic.is_overdue,
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
