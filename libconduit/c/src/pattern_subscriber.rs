//! Subscribers to all topics that match a pattern.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};
use std::time::Duration;

use conduit::registry::{DeathCertificate, Process};
use conduit::{Gone, MatchedTopic, PatternEvent, PatternSubscriber, ReadyFd, TopicName, TopicSample};

use crate::error::ErrorCode::{self, CONDUIT_ERROR_IO, CONDUIT_NO_MESSAGE, CONDUIT_OK};
use crate::failure::{CallFailure, call, message_call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::pointers::{self, limit_ns, result};
use crate::records::CTexts;
use crate::sample::HeldSample;
use crate::subscriber::SubscriberOptions;
use crate::watch::pattern;

/// A reader of all topics that match a pattern.
#[derive(Debug)]
pub struct PatternHandle(());

#[derive(Debug)]
pub(crate) struct OpenPattern {
    pub(crate) subscriber: PatternSubscriber<[u8]>,
    pattern: CString,
    /// The event that C was given last, with everything that it points to.
    event: PatternEventRecord,
    /// The topic's name, with a NUL.
    topic: Vec<u8>,
    texts: CTexts,
    sources: Vec<MatchedTopicRecord>,
    source_texts: CTexts,
    /// Keeps the descriptor that C was given open.
    ready: Option<ReadyFd>,
}

impl HandleKind for PatternHandle {
    type State = OpenPattern;
    const SEAL: u64 = 0xc04d_1e6b_0000_0000;
    const NAME: &'static str = "a pattern subscriber";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// What happens to the topics of a pattern. Later versions may add kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum PatternEventCode {
    /// A message.
    CONDUIT_PATTERN_MESSAGE = 0,
    /// A topic has appeared, or has another publisher. Its messages follow.
    CONDUIT_PATTERN_CONNECTED = 1,
    /// The publisher of a topic is gone, and every message of it that was there was received.
    CONDUIT_PATTERN_LOST = 2,
    /// A topic matches, but is passed over: it has another type, or cannot be opened.
    CONDUIT_PATTERN_NOT_FOLLOWED = 3,
    /// No message of a topic that has a publisher has come within the deadline.
    CONDUIT_PATTERN_OVERDUE = 4,
    /// After OVERDUE, there are messages of the topic again.
    CONDUIT_PATTERN_RESUMED = 5,
}

/// A message or a change of a topic. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct PatternEventRecord {
    /// Of which topic.
    pub topic: *const c_char,
    /// What.
    pub kind: PatternEventCode,
    /// Of a message: which of the topic's publishers has sent it, from 1; 0 for other kinds.
    pub epoch: u32,
    /// Of CONNECTED: the publisher's command name; NULL for other kinds.
    pub program: *const c_char,
    /// Of NOT_FOLLOWED: why; NULL for other kinds.
    pub reason: *const c_char,
    /// Of CONNECTED: the publisher's process id; 0 for other kinds.
    pub pid: u32,
    /// Of CONNECTED: the publisher's user id.
    pub uid: u32,
    /// Of LOST: whether the publisher died; if not, it has closed the topic.
    pub died: bool,
    /// Of LOST: whether how it died is known: the members below.
    pub has_death: bool,
    /// Whether it left a core dump.
    pub core_dumped: bool,
    /// The code that it exited with; -1 if that is not known.
    pub exit_code: i32,
    /// The signal that killed it; 0 if none did, or that is not known.
    pub signal: i32,
    /// Of OVERDUE and RESUMED: how long there was no message, in nanoseconds; 0 for other kinds.
    pub silence_ns: u64,
}

/// A topic that a pattern subscriber has found. Later versions may add members at the end: use it
/// by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct MatchedTopicRecord {
    /// Name.
    pub topic: *const c_char,
    /// Why its messages are not received, if it has a publisher that cannot be subscribed to; NULL
    /// otherwise.
    pub refusal: *const c_char,
    /// Number of messages received, of all its publishers.
    pub received: u64,
    /// Number of messages missed, of all its publishers.
    pub lost: u64,
    /// Number of publishers it has had.
    pub epoch: u32,
    /// Whether its messages are received.
    pub is_connected: bool,
}

impl PatternEventRecord {
    fn new(kind: PatternEventCode) -> Self {
        Self {
            topic: null(),
            kind,
            epoch: 0,
            program: null(),
            reason: null(),
            pid: 0,
            uid: 0,
            died: false,
            has_death: false,
            core_dumped: false,
            exit_code: -1,
            signal: 0,
            silence_ns: 0,
        }
    }

    fn of_silence(kind: PatternEventCode, silence: Duration) -> Self {
        Self { silence_ns: u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX), ..Self::new(kind) }
    }

    fn of_loss(how: Gone, certificate: Option<&DeathCertificate>) -> Self {
        Self {
            died: how == Gone::Died,
            has_death: certificate.is_some(),
            core_dumped: certificate.and_then(|death| death.core_dumped).unwrap_or(false),
            exit_code: certificate.and_then(|death| death.exit_code).unwrap_or(-1),
            signal: certificate.and_then(|death| death.signal).unwrap_or(0),
            ..Self::new(PatternEventCode::CONDUIT_PATTERN_LOST)
        }
    }
}

impl OpenPattern {
    fn new(subscriber: PatternSubscriber<[u8]>) -> Self {
        let event = PatternEventRecord::new(PatternEventCode::CONDUIT_PATTERN_MESSAGE);
        let pattern = CString::new(subscriber.pattern().as_str()).unwrap_or_default();
        let (texts, source_texts, sources) = (CTexts::default(), CTexts::default(), Vec::new());
        Self { subscriber, pattern, event, topic: Vec::new(), texts, sources, source_texts, ready: None }
    }

    /// Keeps an event for C.
    fn keep(&mut self, topic: &TopicName, event: PatternEventRecord) -> *const PatternEventRecord {
        self.event = PatternEventRecord { topic: self.keep_topic(topic), ..event };
        &raw const self.event
    }

    /// Keeps a name for C, without allocating memory for each.
    fn keep_topic(&mut self, topic: &TopicName) -> *const c_char {
        self.topic.clear();
        self.topic.extend_from_slice(topic.as_str().as_bytes());
        self.topic.push(0);
        self.topic.as_ptr().cast()
    }

    fn connected(&mut self, publisher: &Process) -> PatternEventRecord {
        self.texts = CTexts::default();
        let program = self.texts.add(&publisher.program);
        let (pid, uid) = (publisher.pid, publisher.uid);
        PatternEventRecord { program, pid, uid, ..PatternEventRecord::new(PatternEventCode::CONDUIT_PATTERN_CONNECTED) }
    }

    fn not_followed(&mut self, reason: &str) -> PatternEventRecord {
        self.texts = CTexts::default();
        let reason = self.texts.add(reason);
        PatternEventRecord { reason, ..PatternEventRecord::new(PatternEventCode::CONDUIT_PATTERN_NOT_FOLLOWED) }
    }

    /// Hands out an event, and its message in `sample`; nothing for a kind that C does not know.
    fn hand_out(&mut self, event: PatternEvent<[u8]>, sample: &mut HeldSample) -> Option<*const PatternEventRecord> {
        let (topic, record) = match event {
            PatternEvent::Sample(message) => {
                let kind = PatternEventCode::CONDUIT_PATTERN_MESSAGE;
                let record = PatternEventRecord { epoch: message.epoch(), ..PatternEventRecord::new(kind) };
                let record = self.keep(message.topic(), record);
                sample.hold(message.into_sample());
                return Some(record);
            }
            PatternEvent::Connected { topic, publisher } => (topic, self.connected(&publisher)),
            PatternEvent::Lost { topic, how, certificate } => {
                (topic, PatternEventRecord::of_loss(how, certificate.as_ref()))
            }
            PatternEvent::NotFollowed { topic, reason } => (topic, self.not_followed(&reason)),
            PatternEvent::Overdue { topic, silence } => {
                (topic, PatternEventRecord::of_silence(PatternEventCode::CONDUIT_PATTERN_OVERDUE, silence))
            }
            PatternEvent::Resumed { topic, after } => {
                (topic, PatternEventRecord::of_silence(PatternEventCode::CONDUIT_PATTERN_RESUMED, after))
            }
            _ => return None,
        };
        Some(self.keep(&topic, record))
    }

    /// Hands out a message in `sample`, and the name of its topic.
    fn hand_out_message(&mut self, message: TopicSample<[u8]>, sample: &mut HeldSample) -> *const c_char {
        let topic = self.keep_topic(message.topic());
        sample.hold(message.into_sample());
        topic
    }

    /// Keeps what is known of the topics for C, and returns their number.
    fn keep_sources(&mut self) -> usize {
        let mut texts = CTexts::default();
        let record = |source: MatchedTopic| MatchedTopicRecord {
            topic: texts.add(source.topic.as_str()),
            refusal: texts.add_some(source.refusal.as_deref()),
            received: source.received,
            lost: source.lost,
            epoch: source.epoch,
            is_connected: source.is_connected,
        };
        self.sources = self.subscriber.sources().into_iter().map(record).collect();
        self.source_texts = texts;
        self.sources.len()
    }
}

/// Subscribes to all topics whose names match a pattern (see conduit_pattern_matches()), as they
/// come and go, and returns the subscriber in `*subscriber`, which is NULL on failure.
///
/// Among the messages that can be received, the one with the oldest time stamp is received first; a
/// topic that has none is not waited for. The topics that match now are received from `start` on;
/// from those that appear later every message is received. A pattern that matches nothing waits,
/// and a topic that cannot be opened is no error: it is reported by
/// conduit_pattern_subscriber_recv_event(). A message wakes two threads.
///
/// `options` are for each topic, and may be NULL; `follow` is implied. With `any_type` topics of
/// all types are received from. Each topic has a mapping and two descriptors; there are 4,096 at
/// most.
/// The caller owns the handle and closes it with conduit_pattern_subscriber_close().
///
/// Errors: INVALID_ARGUMENT (also for a pattern that is not valid), IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_open(
    pattern: *const c_char,
    options: *const SubscriberOptions,
    subscriber: *mut *mut PatternHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a result and `options` are options.
        let (subscriber, options) =
            unsafe { (result("subscriber", subscriber, null_mut())?, pointers::options(options)?) };
        // SAFETY: `conduit.h`: `pattern` is a string, and so are those in the structures that
        // options point to.
        let (pattern, builder) = unsafe { (self::pattern(pattern)?, options.builder()?) };
        let opened = builder.open_all(pattern.ok_or_else(|| CallFailure::null("pattern"))?)?;
        *subscriber = handle::open(OpenPattern::new(opened));
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message of any topic into `*sample`, and sleeps until there is one or
/// `timeout_ns` nanoseconds have passed; CONDUIT_FOREVER is no limit. Returns in `*topic` the name
/// of the message's topic, which is valid until the next call with this subscriber; NULL on
/// failure. `topic` may be NULL. Signals do not interrupt it.
///
/// After TOO_MANY_HELD and INVALID_MESSAGE, which concern one topic, the next call continues with
/// the others.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, SAMPLE_HELD, TIMED_OUT, INVALID_MESSAGE,
/// TOO_MANY_HELD, NOT_FOLLOWED (a thread could not be started). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_recv(
    subscriber: *mut PatternHandle,
    timeout_ns: u64,
    sample: *mut HeldSample,
    topic: *mut *const c_char,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle, `sample` a sample, and `topic` a result.
        let (open, sample, topic) =
            unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?, topic_result(topic)?) };
        let received = match limit_ns(timeout_ns) {
            Some(timeout) => open.subscriber.recv_timeout(timeout)?,
            None => open.subscriber.recv()?,
        };
        let name = open.hand_out_message(received, sample);
        topic.into_iter().for_each(|topic| *topic = name);
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message of any topic into `*sample` if there is one, or else returns
/// CONDUIT_NO_MESSAGE; see conduit_pattern_subscriber_recv().
///
/// Errors: as for that, without TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_try_recv(
    subscriber: *mut PatternHandle,
    sample: *mut HeldSample,
    topic: *mut *const c_char,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle, `sample` a sample, and `topic` a result.
        let (open, sample, topic) =
            unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?, topic_result(topic)?) };
        let Some(received) = open.subscriber.try_recv()? else { return Ok(CONDUIT_NO_MESSAGE) };
        let name = open.hand_out_message(received, sample);
        topic.into_iter().for_each(|topic| *topic = name);
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message, or learns of the next change of a topic, and sleeps until there is
/// one or `timeout_ns` nanoseconds have passed; CONDUIT_FOREVER is no limit. Returns in `*event`
/// what it is, which is valid until the next call with this subscriber; NULL on failure. If it is
/// a message, `*sample` holds it.
///
/// A topic's changes are reported in order with its messages. When a publisher has died, this asks
/// the registry how, for 100 ms at most.
///
/// Errors: as for conduit_pattern_subscriber_recv(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_recv_event(
    subscriber: *mut PatternHandle,
    timeout_ns: u64,
    sample: *mut HeldSample,
    event: *mut *const PatternEventRecord,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle, `sample` a sample, and `event` a result.
        let (open, sample, event) =
            unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?, result("event", event, null())?) };
        loop {
            let received = match limit_ns(timeout_ns) {
                Some(timeout) => open.subscriber.recv_event_timeout(timeout)?,
                None => open.subscriber.recv_event()?,
            };
            if let Some(record) = open.hand_out(received, sample) {
                *event = record;
                return Ok(CONDUIT_OK);
            }
        }
    })
}

/// Receives the next message, or learns of the next change of a topic, if there is one, or else
/// returns CONDUIT_NO_MESSAGE; see conduit_pattern_subscriber_recv_event().
///
/// Errors: as for that, without TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_try_recv_event(
    subscriber: *mut PatternHandle,
    sample: *mut HeldSample,
    event: *mut *const PatternEventRecord,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle, `sample` a sample, and `event` a result.
        let (open, sample, event) =
            unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?, result("event", event, null())?) };
        while let Some(received) = open.subscriber.try_recv_event()? {
            if let Some(record) = open.hand_out(received, sample) {
                *event = record;
                return Ok(CONDUIT_OK);
            }
        }
        Ok(CONDUIT_NO_MESSAGE)
    })
}

/// A result that is not asked for if it is NULL.
///
/// # Safety
///
/// As for [`result`].
unsafe fn topic_result<'a>(topic: *mut *const c_char) -> Result<Option<&'a mut *const c_char>, CallFailure> {
    if topic.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller vouches.
    unsafe { result("topic", topic, null()) }.map(Some)
}

/// Returns the number of messages received so far, from all topics.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_received(subscriber: *const PatternHandle) -> u64 {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, 0, |open| open.subscriber.received()) }
}

/// Returns the pattern. The string is valid until the subscriber is closed.
///
/// NULL on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_pattern(subscriber: *const PatternHandle) -> *const c_char {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, null(), |open| open.pattern.as_ptr()) }
}

/// Notes what is known of each topic that was found, for conduit_pattern_subscriber_source(), and
/// returns their number in `*count`; 0 on failure.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_sources(
    subscriber: *mut PatternHandle,
    count: *mut usize,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `count` is a result and `subscriber` is a handle.
        let (count, open) = unsafe { (result("count", count, 0)?, handle::state_mut(subscriber)?) };
        *count = open.keep_sources();
        Ok(CONDUIT_OK)
    })
}

/// Returns one of the topics that conduit_pattern_subscriber_sources() has noted, in the order of
/// their names. It is valid until that is called again or the subscriber is closed.
///
/// NULL on failure. Errors: INVALID_HANDLE, FORKED, INVALID_ARGUMENT (there are not so many).
/// Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_source(
    subscriber: *const PatternHandle,
    index: usize,
) -> *const MatchedTopicRecord {
    crate::failure::get(null(), || {
        // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
        let open = unsafe { handle::state(subscriber) }?;
        let count = open.sources.len();
        let source = open.sources.get(index);
        source.map(std::ptr::from_ref).ok_or_else(|| CallFailure::argument(format!("{index} is not below {count}")))
    })
}

/// Returns in `*descriptor` a file descriptor that is readable while there is something to receive;
/// -1 on failure. See conduit_subscriber_ready_fd(); this one stays readable until
/// conduit_pattern_subscriber_try_recv() or conduit_pattern_subscriber_try_recv_event() has
/// returned CONDUIT_NO_MESSAGE.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, IO. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_ready_fd(
    subscriber: *mut PatternHandle,
    descriptor: *mut c_int,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `descriptor` is a result and `subscriber` is a handle.
        let (descriptor, open) = unsafe { (result("descriptor", descriptor, -1)?, handle::state_mut(subscriber)?) };
        let ready = open.subscriber.ready_fd().map_err(|error| CallFailure::of(CONDUIT_ERROR_IO, &error))?;
        *descriptor = open.ready.insert(ready).as_raw_fd();
        Ok(CONDUIT_OK)
    })
}

/// Ends the subscription and frees the handle. NULL is accepted and does nothing. Samples that are
/// held stay valid.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_pattern_subscriber_close(subscriber: *mut PatternHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `subscriber` is a handle.
    unsafe { handle::close(subscriber) }
}
