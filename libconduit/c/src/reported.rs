//! What the registry reports, as structures for C.

use std::ffi::c_char;

use conduit::registry::{EventKind, RegistryEvent};

use crate::records::{CTexts, SubscriberList, SubscriberRecord};

/// What the registry reports. Later versions may add kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum ReportedCode {
    /// The region existed when the watch began.
    CONDUIT_REPORTED_PRESENT = 0,
    /// The process was subscribed when the watch began.
    CONDUIT_REPORTED_SUBSCRIBER_PRESENT = 1,
    /// A region appeared under the name.
    CONDUIT_REPORTED_PUBLISHED = 2,
    /// The publisher closed the topic, or a raw region's name was removed.
    CONDUIT_REPORTED_CLOSED = 3,
    /// A raw region's creator closed it; it stays.
    CONDUIT_REPORTED_KEPT = 4,
    /// The owner died; its region is gone.
    CONDUIT_REPORTED_DIED = 5,
    /// The name of a live region was removed, and not by its owner.
    CONDUIT_REPORTED_UNLINKED = 6,
    /// The process had the registry remove the region. A live topic was closed first.
    CONDUIT_REPORTED_REMOVED = 7,
    /// A process subscribed, or returned to a registry that was restarted.
    CONDUIT_REPORTED_SUBSCRIBED = 8,
    /// A subscriber ended cleanly.
    CONDUIT_REPORTED_UNSUBSCRIBED = 9,
    /// A subscriber died.
    CONDUIT_REPORTED_SUBSCRIBER_DIED = 10,
    /// The publisher has not sent for longer than it has promised: see
    /// `conduit_publisher_options`.
    CONDUIT_REPORTED_OVERDUE = 11,
    /// The publisher sends again.
    CONDUIT_REPORTED_RESUMED = 12,
    /// The registry is newer than this library and reports a kind that the library does not know.
    CONDUIT_REPORTED_UNKNOWN = 13,
}

/// The kinds in the order of their numbers.
pub(crate) const KINDS: [(EventKind, ReportedCode); 13] = [
    (EventKind::Present, ReportedCode::CONDUIT_REPORTED_PRESENT),
    (EventKind::SubscriberPresent, ReportedCode::CONDUIT_REPORTED_SUBSCRIBER_PRESENT),
    (EventKind::Published, ReportedCode::CONDUIT_REPORTED_PUBLISHED),
    (EventKind::Closed, ReportedCode::CONDUIT_REPORTED_CLOSED),
    (EventKind::Kept, ReportedCode::CONDUIT_REPORTED_KEPT),
    (EventKind::Died, ReportedCode::CONDUIT_REPORTED_DIED),
    (EventKind::Unlinked, ReportedCode::CONDUIT_REPORTED_UNLINKED),
    (EventKind::Removed, ReportedCode::CONDUIT_REPORTED_REMOVED),
    (EventKind::Subscribed, ReportedCode::CONDUIT_REPORTED_SUBSCRIBED),
    (EventKind::Unsubscribed, ReportedCode::CONDUIT_REPORTED_UNSUBSCRIBED),
    (EventKind::SubscriberDied, ReportedCode::CONDUIT_REPORTED_SUBSCRIBER_DIED),
    (EventKind::Overdue, ReportedCode::CONDUIT_REPORTED_OVERDUE),
    (EventKind::Resumed, ReportedCode::CONDUIT_REPORTED_RESUMED),
];

/// Something that happened. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct ReportedRecord {
    /// To which topic or raw region.
    pub topic: *const c_char,
    /// By which process: command name of the owner, the subscriber or the remover; NULL if it is
    /// not known.
    pub program: *const c_char,
    /// When: milliseconds since the epoch.
    pub time_ms: u64,
    /// What.
    pub kind: ReportedCode,
    /// Process id; 0 if it is not known.
    pub pid: u32,
    /// User id; 0 if the process id is not known.
    pub uid: u32,
    /// Whether how the process died is known: the members below.
    pub has_death: bool,
    /// Whether it left a core dump.
    pub core_dumped: bool,
    /// The code that it exited with; -1 if that is not known.
    pub exit_code: i32,
    /// The signal that killed it; 0 if none did, or that is not known.
    pub signal: i32,
    /// Sequence number of its last message; UINT64_MAX if there was none.
    pub last_sequence: u64,
    /// How old the last message was, in nanoseconds; UINT64_MAX if that is not known.
    pub last_message_age_ns: u64,
    /// Number of its subscribers at that time.
    pub subscribers: usize,
    /// The subscribers: as many pointers as `subscribers` says.
    pub subscriber_list: *const *const SubscriberRecord,
}

/// An event with everything that its record points to.
#[derive(Debug)]
pub(crate) struct ReportedEvent {
    pub(crate) record: ReportedRecord,
    _subscribers: SubscriberList,
    _texts: CTexts,
}

impl ReportedEvent {
    pub(crate) fn new(event: &RegistryEvent) -> Self {
        let mut texts = CTexts::default();
        let (process, death) = (event.process.as_ref(), event.death.as_ref());
        let subscribers = SubscriberList::new(death.map_or(&[], |death| &death.subscribers), &mut texts);
        let known = KINDS.iter().find(|(kind, _)| *kind == event.kind);
        let record = ReportedRecord {
            topic: texts.add(&event.topic),
            program: texts.add_some(process.map(|process| process.program.as_str())),
            time_ms: event.time_ms,
            kind: known.map_or(ReportedCode::CONDUIT_REPORTED_UNKNOWN, |&(_, code)| code),
            pid: process.map_or(0, |process| process.pid),
            uid: process.map_or(0, |process| process.uid),
            has_death: death.is_some(),
            core_dumped: death.and_then(|death| death.core_dumped).unwrap_or(false),
            exit_code: death.and_then(|death| death.exit_code).unwrap_or(-1),
            signal: death.and_then(|death| death.signal).unwrap_or(0),
            last_sequence: death.and_then(|death| death.last_sequence).unwrap_or(u64::MAX),
            last_message_age_ns: death.and_then(|death| death.last_message_age_ns).unwrap_or(u64::MAX),
            subscribers: subscribers.records().len(),
            subscriber_list: subscribers.as_ptr(),
        };
        Self { record, _subscribers: subscribers, _texts: texts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_have_their_numbers_and_those_of_the_future_are_unknown() {
        assert_eq!(KINDS.len(), EventKind::ALL.len());
        for (number, (kind, code)) in KINDS.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert_eq!(ReportedEvent::new(&RegistryEvent::new(kind.clone(), "imu", 7)).record.kind, *code);
        }
        let future = RegistryEvent::new(EventKind::Unknown("hibernated".into()), "imu", 7);
        let event = ReportedEvent::new(&future);
        assert_eq!(event.record.kind, ReportedCode::CONDUIT_REPORTED_UNKNOWN);
        assert!(event.record.program.is_null() && !event.record.has_death);
    }
}
