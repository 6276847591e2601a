//! What happens to a topic besides its messages, as structures for C.

use std::ffi::c_char;
use std::ptr::{from_ref, null};
use std::time::Duration;

use conduit::Gone;
use conduit::registry::{DeathCertificate, EventKind, Process, RegistryEvent};

use crate::records::CTexts;
use crate::reported::{ReportedEvent, ReportedRecord};

/// What a subscriber receives, messages and changes. Later versions may add kinds: ignore those
/// that are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum TopicEventCode {
    /// A message, which the sample holds.
    CONDUIT_TOPIC_SAMPLE = 0,
    /// The subscriber has a publisher now, whose messages follow.
    CONDUIT_TOPIC_CONNECTED = 1,
    /// The publisher is gone, and every message of it that was there was received.
    CONDUIT_TOPIC_LOST = 2,
    /// No message has come within the subscriber's deadline. Reported once per silence.
    CONDUIT_TOPIC_OVERDUE = 3,
    /// Messages come again after a silence that was reported: the next event is a message.
    CONDUIT_TOPIC_RESUMED = 4,
}

/// What a subscriber has received. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct TopicEventRecord {
    /// What.
    pub kind: TopicEventCode,
    /// CONDUIT_TOPIC_CONNECTED: process id of the publisher, as it says itself.
    pub pid: u32,
    /// CONDUIT_TOPIC_CONNECTED: its user id.
    pub uid: u32,
    /// CONDUIT_TOPIC_LOST: whether the publisher died. If not, it closed the topic.
    pub died: bool,
    /// CONDUIT_TOPIC_CONNECTED: the publisher's command name; NULL for other kinds.
    pub program: *const c_char,
    /// CONDUIT_TOPIC_LOST: how it died, if the registry knows, or else NULL. Its members about the
    /// process and the time are not set, those about the death and the subscribers are.
    pub death: *const ReportedRecord,
    /// CONDUIT_TOPIC_OVERDUE: how long there has been no message, in nanoseconds.
    /// CONDUIT_TOPIC_RESUMED: how long the silence has lasted.
    pub silence_ns: u64,
}

/// The last event of a subscriber, with everything that its record points to.
#[derive(Debug)]
pub(crate) struct LastEvent {
    record: TopicEventRecord,
    _death: Option<Box<ReportedEvent>>,
    _texts: CTexts,
}

impl Default for LastEvent {
    fn default() -> Self {
        Self::new(TopicEventCode::CONDUIT_TOPIC_SAMPLE)
    }
}

impl LastEvent {
    fn new(kind: TopicEventCode) -> Self {
        let record =
            TopicEventRecord { kind, pid: 0, uid: 0, died: false, program: null(), death: null(), silence_ns: 0 };
        Self { record, _death: None, _texts: CTexts::default() }
    }

    pub(crate) fn connected(publisher: &Process) -> Self {
        let mut event = Self::new(TopicEventCode::CONDUIT_TOPIC_CONNECTED);
        (event.record.pid, event.record.uid) = (publisher.pid, publisher.uid);
        event.record.program = event._texts.add(&publisher.program);
        event
    }

    pub(crate) fn lost(topic: &str, how: Gone, certificate: Option<DeathCertificate>) -> Self {
        let mut event = Self::new(TopicEventCode::CONDUIT_TOPIC_LOST);
        event.record.died = how == Gone::Died;
        let death = certificate.map(|certificate| {
            let report = RegistryEvent::new(EventKind::Died, topic, 0).with_death(Some(certificate));
            Box::new(ReportedEvent::new(&report))
        });
        // A box, so that its address stays when the event is moved.
        event.record.death = death.as_ref().map_or(null(), |death| from_ref(&death.record));
        event._death = death;
        event
    }

    /// Of a silence: it has begun, or ended.
    pub(crate) fn silence(kind: TopicEventCode, silence: Duration) -> Self {
        let mut event = Self::new(kind);
        event.record.silence_ns = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
        event
    }

    /// Valid until `self` is moved or changed.
    pub(crate) fn as_ptr(&self) -> *const TopicEventRecord {
        &raw const self.record
    }
}
