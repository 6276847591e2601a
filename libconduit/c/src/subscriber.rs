//! Subscribers.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};
use std::time::Duration;

use conduit::{ReadyFd, Spin, Start, SubscriberBuilder};

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_ERROR_IO, CONDUIT_NO_MESSAGE, CONDUIT_OK};
use crate::failure::{CallFailure, call, message_call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::message_type::TypeDescription;
use crate::pointers::{self, OptionsStruct, RawBool, limit_ns, result, topic_name};
use crate::sample::HeldSample;
use crate::stop::{self, StopHandle};
use crate::topic_event::LastEvent;

/// A reader of a topic.
#[derive(Debug)]
pub struct SubscriberHandle(());

#[derive(Debug)]
pub(crate) struct OpenSubscriber {
    pub(crate) subscriber: conduit::Subscriber<[u8]>,
    topic: CString,
    type_name: CString,
    /// Keeps the descriptor that C was given open.
    ready: Option<ReadyFd>,
    pub(crate) event: LastEvent,
}

impl HandleKind for SubscriberHandle {
    type State = OpenSubscriber;
    const SEAL: u64 = 0xc04d_1e63_0000_0000;
    const NAME: &'static str = "a subscriber";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum StartCode {
    /// With the first message that is published after it is opened.
    CONDUIT_START_NEXT = 0,
    /// With the newest message that the topic still has, if there is one.
    CONDUIT_START_LATEST = 1,
    /// With the oldest message that the topic still has, if there is one.
    CONDUIT_START_OLDEST = 2,
    /// With the oldest of as many of the newest messages as `last` says, or of as many as the topic
    /// still has, if there are any.
    CONDUIT_START_LAST = 3,
}

/// A start as C passes it: any number.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct RawStart(i32);

/// How to read a topic. Initialise it with CONDUIT_SUBSCRIBER_OPTIONS_INIT; a member that is 0 has
/// its default.
#[derive(Debug)]
#[repr(C)]
pub struct SubscriberOptions {
    /// sizeof(conduit_subscriber_options); set by CONDUIT_SUBSCRIBER_OPTIONS_INIT.
    pub struct_size: usize,
    /// Where to look for the topic; NULL for the domain of the environment.
    pub domain: *const DomainOptions,
    /// The type that the messages must have; NULL for bytes.
    pub message_type: *const TypeDescription,
    /// How long to poll for a message before going to sleep, in nanoseconds; CONDUIT_FOREVER never
    /// sleeps. A message that arrives while the subscriber polls is received some 100 ns later
    /// instead of tens of microseconds, at the price of a busy processor core. Default: no polling.
    pub spin_ns: u64,
    /// Where to start. Default: with the next message that is published.
    pub start: RawStart,
    /// Whether to receive validated copies instead of reading in place. For programs that may be
    /// stopped at any moment and must not hold a slot then. A message that is overwritten while it
    /// is copied counts as lost. Each copy is allocated.
    pub copy_samples: RawBool,
    /// Whether to accept messages of any type and length; `message_type` is ignored.
    pub any_type: RawBool,
    /// Whether to poll for as long as a wake-up takes, while messages come faster than that, and
    /// otherwise not at all; `spin_ns` is ignored. The subscriber measures both as it waits.
    pub adaptive_spin: RawBool,
    /// Whether not to enter all of the region's memory into the process's page tables at once: it
    /// then takes page faults in the middle of the work. For large regions that are hardly used.
    pub no_prefault: RawBool,
    /// With how many messages to start, if `start` is CONDUIT_START_LAST.
    pub last: u32,
    /// Whether to follow the topic: opening it does not wait for a publisher, and the subscriber
    /// connects to the next publisher when one has gone. PUBLISHER_CLOSED and PUBLISHER_DIED are
    /// not returned then. A publisher with another type is TYPE_MISMATCH, once. Who wants to know
    /// of the changes calls conduit_subscriber_recv_event().
    pub follow: RawBool,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// How many samples may be held at once; 0 for half of the topic's slots. Receiving another one
    /// is CONDUIT_ERROR_TOO_MANY_HELD, and the message stays where it is. Copies do not count.
    pub max_held: u32,
    /// Must be 0.
    pub reserved_word: u32,
    /// How long no message may come, in nanoseconds: then the call that finds none returns
    /// CONDUIT_ERROR_OVERDUE, once per silence, and the next one waits on. Calls that sleep, wait
    /// sets and descriptors wake for it. Measured from the time stamp of the last message.
    /// Default, and with CONDUIT_FOREVER: any time.
    /// conduit_subscriber_recv_event() reports silences as events instead.
    pub deadline_ns: u64,
    /// What ends the calls that wait, from another thread or on a signal; NULL for nothing. The
    /// subscriber keeps it: the handle may be closed.
    pub stop: *const StopHandle,
}

// SAFETY: it is `repr(C)`, begins with its size, and pointers and integers may have any bits.
unsafe impl OptionsStruct for SubscriberOptions {
    const INIT: &str = "CONDUIT_SUBSCRIBER_OPTIONS_INIT";
}

impl SubscriberOptions {
    fn spin(&self) -> Spin {
        match limit_ns(self.spin_ns) {
            _ if self.adaptive_spin.get() => Spin::Adaptive,
            limit => limit.unwrap_or(Duration::MAX).into(),
        }
    }

    fn start(&self) -> Result<Start, CallFailure> {
        match self.start.0 {
            0 => Ok(Start::Next),
            1 => Ok(Start::Latest),
            2 => Ok(Start::Oldest),
            3 => Ok(Start::Last(self.last)),
            other => Err(CallFailure::argument(format!(
                "{other} is not a start; use CONDUIT_START_NEXT, CONDUIT_START_LATEST, CONDUIT_START_OLDEST \
                 or CONDUIT_START_LAST"
            ))),
        }
    }

    /// A subscriber with these options.
    ///
    /// # Safety
    ///
    /// The options point to structures that follow the rules of the contract.
    pub(crate) unsafe fn builder(&self) -> Result<SubscriberBuilder<[u8]>, CallFailure> {
        // SAFETY: as the caller vouches.
        let (domain, message) = unsafe { (domain(self.domain)?, TypeDescription::read(self.message_type)?) };
        let mut builder = conduit::Subscriber::<[u8]>::builder()
            .domain(&domain)
            .start(self.start()?)
            .spin(self.spin())
            .prefault(!self.no_prefault.get())
            .copy_samples(self.copy_samples.get());
        // SAFETY: as the caller vouches.
        if let Some(stop) = unsafe { stop::given(self.stop) }? {
            builder = builder.stop(&stop);
        }
        if self.max_held != 0 {
            builder = builder.max_held(self.max_held);
        }
        if let Some(deadline) = limit_ns(self.deadline_ns).filter(|deadline| !deadline.is_zero()) {
            builder = builder.deadline(deadline);
        }
        if self.any_type.get() {
            builder = builder.any_type(true);
        } else if let Some(message) = message {
            builder = builder.message_type(message);
        }
        Ok(if self.follow.get() { builder.follow() } else { builder })
    }
}

/// Opens a topic for reading and returns a subscriber in `*subscriber`, which is NULL on failure.
///
/// `options` may be NULL: the topic must be one of bytes, and the first message is the next that is
/// published. The caller owns the handle and closes it with conduit_subscriber_close().
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, LAYOUT, WRONG_KIND, TYPE_MISMATCH,
/// ORPHANED, TOO_MANY_SUBSCRIBERS, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_open(
    name: *const c_char,
    options: *const SubscriberOptions,
    subscriber: *mut *mut SubscriberHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a result and `options` are options.
        let (subscriber, options) =
            unsafe { (result("subscriber", subscriber, null_mut())?, pointers::options(options)?) };
        // SAFETY: `conduit.h`: `name` is a string, and so are those in the structures that options
        // point to.
        let (name, builder) = unsafe { (topic_name(name)?, options.builder()?) };
        let opened = builder.open(&name)?;
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let (topic, type_name) = (text(opened.topic().as_str()), text(opened.message_type().name()));
        *subscriber = handle::open(OpenSubscriber {
            subscriber: opened,
            topic,
            type_name,
            ready: None,
            event: LastEvent::default(),
        });
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message into `*sample`, and sleeps until there is one.
///
/// Signals do not interrupt it, but the `stop` of its options does, with CONDUIT_ERROR_STOPPED, as
/// every function of a subscriber that sleeps. On success `*sample`, which must be initialised,
/// holds the message until conduit_sample_release(); on failure it holds none.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, SAMPLE_HELD, PUBLISHER_CLOSED, PUBLISHER_DIED,
/// OVERDUE, INVALID_MESSAGE, STOPPED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv(
    subscriber: *mut SubscriberHandle,
    sample: *mut HeldSample,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle and `sample` a sample.
        let (open, sample) = unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?) };
        sample.hold(open.subscriber.recv()?);
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message into `*sample`, and sleeps until there is one or `timeout_ns`
/// nanoseconds have passed; CONDUIT_FOREVER is no limit. Signals do not interrupt it.
///
/// Errors: as for conduit_subscriber_recv(), and TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv_timeout(
    subscriber: *mut SubscriberHandle,
    timeout_ns: u64,
    sample: *mut HeldSample,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle and `sample` a sample.
        let (open, sample) = unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?) };
        sample.hold(match limit_ns(timeout_ns) {
            Some(timeout) => open.subscriber.recv_timeout(timeout)?,
            None => open.subscriber.recv()?,
        });
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message into `*sample` if there is one, or else returns CONDUIT_NO_MESSAGE.
/// Does not allocate unless samples are copied.
///
/// Errors: as for conduit_subscriber_recv(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_try_recv(
    subscriber: *mut SubscriberHandle,
    sample: *mut HeldSample,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle and `sample` a sample.
        let (open, sample) = unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?) };
        match open.subscriber.try_recv()? {
            Some(received) => sample.hold(received),
            None => return Ok(CONDUIT_NO_MESSAGE),
        }
        Ok(CONDUIT_OK)
    })
}

/// Receives the newest message into `*sample`, and skips those before it. Returns
/// CONDUIT_NO_MESSAGE if there is none that is newer than the last one received.
///
/// For loops with a rhythm of their own that act on the present state. Messages that are passed
/// over count as skipped and not as lost. However far behind the subscriber is, this takes about as
/// long as conduit_subscriber_try_recv(). Does not allocate unless samples are copied.
///
/// Errors: as for conduit_subscriber_recv(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_latest(
    subscriber: *mut SubscriberHandle,
    sample: *mut HeldSample,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `subscriber` is a handle and `sample` a sample.
        let (open, sample) = unsafe { (handle::state_mut(subscriber)?, HeldSample::empty(sample)?) };
        match open.subscriber.latest()? {
            Some(received) => sample.hold(received),
            None => return Ok(CONDUIT_NO_MESSAGE),
        }
        Ok(CONDUIT_OK)
    })
}

/// Returns the number of messages received so far.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_received(subscriber: *const SubscriberHandle) -> u64 {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, 0, |open| open.subscriber.received()) }
}

/// Returns the number of messages missed so far. Together with those received and those skipped it
/// is the number of messages published since the start.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_lost(subscriber: *const SubscriberHandle) -> u64 {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, 0, |open| open.subscriber.lost()) }
}

/// Returns the number of messages that conduit_subscriber_latest() and
/// conduit_subscriber_latest_copy() have passed over so far, whether or not they were still there.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_skipped(subscriber: *const SubscriberHandle) -> u64 {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, 0, |open| open.subscriber.skipped()) }
}

/// Returns whether messages are read in place. If not, they are validated copies: `copy_samples`
/// was set, or this user may only read the region.
///
/// False on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_is_zero_copy(subscriber: *const SubscriberHandle) -> bool {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, false, |open| open.subscriber.is_zero_copy()) }
}

/// Returns which of its publishers the subscriber has or, if it has none, had: 1 for the first, and
/// one more for each other one; 0 before the first one. Without `follow` there is one, the first.
/// Sequence numbers begin anew with each.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_epoch(subscriber: *const SubscriberHandle) -> u32 {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, 0, |open| open.subscriber.epoch()) }
}

/// Returns whether there is a publisher, as far as the subscriber knows: it notices a change when
/// it receives.
///
/// False on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_is_connected(subscriber: *const SubscriberHandle) -> bool {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, false, |open| open.subscriber.is_connected()) }
}

/// Returns the name of the topic. The string is valid until the subscriber is closed.
///
/// NULL on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_topic(subscriber: *const SubscriberHandle) -> *const c_char {
    // SAFETY: `conduit.h`: `subscriber` is a handle that does not change during the call.
    unsafe { handle::property(subscriber, null(), |open| open.topic.as_ptr()) }
}

/// Returns the type of the topic's messages, as its publisher declared it, in `*message_type`.
///
/// The name in it is valid until the subscriber is closed. On failure all its members are 0.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_type(
    subscriber: *const SubscriberHandle,
    message_type: *mut TypeDescription,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `message_type` is a result, and `subscriber` a handle that does not
        // change during the call.
        let (message_type, open) =
            unsafe { (result("message_type", message_type, TypeDescription::NONE)?, handle::state(subscriber)?) };
        *message_type = TypeDescription::new(&open.type_name, &open.subscriber.message_type());
        Ok(CONDUIT_OK)
    })
}

/// Returns in `*descriptor` a file descriptor that is readable while there is something to receive,
/// for poll(2), epoll(7) and event loops of other libraries; -1 on failure. Every call returns the
/// same one.
///
/// It belongs to the subscriber, which closes it: never read from it, write to it or close it. It
/// is readable while a message waits, and for good once the topic has ended. The functions that
/// receive clear it when they have received the last message or found none. An edge-triggered loop
/// (EPOLLET) receives until CONDUIT_NO_MESSAGE. Rarely, it is readable and there is no message.
///
/// While there is nothing to receive, one thread of the library sleeps for up to 127 descriptors.
/// In a forked child it means nothing.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, IO (too many open files, or a thread could not
/// be started). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_ready_fd(
    subscriber: *mut SubscriberHandle,
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

/// Ends the subscription and frees the handle. NULL is accepted and does nothing.
///
/// Samples that are held stay valid. In a forked child it only frees the child's copy of the
/// handle.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_close(subscriber: *mut SubscriberHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `subscriber` is a handle.
    unsafe { handle::close(subscriber) }
}
