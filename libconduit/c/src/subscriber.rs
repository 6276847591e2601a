//! Subscribers and their samples.

use std::ffi::{CString, c_char, c_void};
use std::mem::align_of;
use std::ptr::{null, null_mut};
use std::time::Duration;

use conduit::{Kind as MessageKind, Start};

use crate::arguments::{self, AnyBool, AnyKind, DomainOptions, MessageType, Options, TypeKind, result, topic_name};
use crate::error::Error::{CONDUIT_ERROR_NO_SAMPLE, CONDUIT_ERROR_SAMPLE_HELD, CONDUIT_NO_MESSAGE, CONDUIT_OK};
use crate::error::{Error, Failure, call, get};
use crate::handle::{self, Kind, Pool};

/// A reader of a topic.
#[derive(Debug)]
pub struct Subscriber(());

#[derive(Debug)]
pub(crate) struct State {
    subscriber: conduit::Subscriber<[u8]>,
    topic: CString,
    type_name: CString,
}

impl Kind for Subscriber {
    type State = State;
    const SEAL: u64 = 0xc04d_1e63_0000_0000;
    const NAME: &'static str = "a subscriber";

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }
}

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(C)]
pub enum StartAt {
    /// With the first message published from now on.
    CONDUIT_START_NEXT = 0,
    /// With the newest message that is kept, if there is one.
    CONDUIT_START_LATEST = 1,
    /// With the oldest message that is kept, if there is one.
    CONDUIT_START_OLDEST = 2,
}

/// A start as C passes it: any number.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct AnyStart(u32);

/// How a topic is to be read. Begin with CONDUIT_SUBSCRIBER_OPTIONS_INIT; a member that is 0 has its default.
#[derive(Debug)]
#[repr(C)]
pub struct SubscriberOptions {
    /// sizeof(conduit_subscriber_options), as CONDUIT_SUBSCRIBER_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Where; NULL for the environment's.
    pub domain: *const DomainOptions,
    /// The type that the messages must have; NULL for bytes.
    pub message_type: *const MessageType,
    /// How long to look for a message again and again before going to sleep, in nanoseconds; CONDUIT_FOREVER never sleeps. A message
    /// that comes meanwhile is there some 100 ns later instead of tens of microseconds, for the price of a processor core.
    pub spin_ns: u64,
    /// Where to start; by default with the next message to be published.
    pub start: AnyStart,
    /// Receives validated copies instead of reading in place: for programs that may be stopped at any moment, and then must not keep a
    /// slot from the publisher. A message that is overwritten while it is copied is lost, and counted. A copy is allocated.
    pub copy_samples: AnyBool,
    /// Accepts messages of any type and length; `message_type` is ignored.
    pub any_type: AnyBool,
    /// 0.
    pub reserved: [u8; 2],
}

// SAFETY: the size comes first, the rest takes any bytes.
unsafe impl Options for SubscriberOptions {
    const INIT: &str = "CONDUIT_SUBSCRIBER_OPTIONS_INIT";
}

/// A message as a subscriber holds it. While it is held its slot is not overwritten.
///
/// Begin with CONDUIT_SAMPLE_INIT, receive into it, and release it. It may outlive the subscriber and the topic, be released on
/// another thread, and be moved by assignment if the old copy is forgotten (set to CONDUIT_SAMPLE_INIT): two copies of it must not
/// both be released.
#[derive(Debug)]
#[repr(C)]
pub struct Sample {
    /// The message, aligned to 64 bytes; it must not be written.
    pub data: *const c_void,
    /// Length of the message in bytes.
    pub size: usize,
    /// The message's number, from 0 at the topic's creation and without gaps at the publisher.
    pub sequence: u64,
    /// How many messages this subscriber missed between the one before and this one.
    pub lost: u64,
    /// When it was published: CLOCK_MONOTONIC in nanoseconds; 0 if the publisher has time stamps off.
    pub stamp_ns: u64,
    /// The library's own.
    pub reserved: [u64; 16],
}

/// In `reserved[0]` of a structure that holds a sample.
const HELD: u64 = 0xc04d_1e64_5a3e_11ed;

type Held = conduit::Sample<[u8]>;
const _: () = assert!(size_of::<Held>() <= 15 * 8 && align_of::<Held>() <= 8);

impl Sample {
    #[inline(always)]
    fn hold(&mut self, held: Held) {
        self.data = held.as_ptr().cast();
        self.size = held.len();
        self.sequence = held.sequence();
        self.lost = held.lost();
        self.stamp_ns = held.stamp_ns().unwrap_or(0);
        // SAFETY: there is room for it, and it is aligned (see above).
        unsafe { (&raw mut self.reserved[1]).cast::<Held>().write(held) };
        self.reserved[0] = HELD;
    }
}

/// Where a sample is to be put.
///
/// # Safety
///
/// The pointer is NULL or points to an initialised sample that nobody else uses now.
#[inline(always)]
unsafe fn place<'a>(sample: *mut Sample) -> Result<&'a mut Sample, Failure> {
    // SAFETY: the caller's word.
    match unsafe { sample.as_mut() } {
        Some(sample) if sample.reserved[0] != HELD => Ok(sample),
        sample => Err(no_place(sample.is_some())),
    }
}

#[cold]
fn no_place(is_held: bool) -> Failure {
    if is_held {
        Failure::new(
            CONDUIT_ERROR_SAMPLE_HELD,
            "the structure holds a sample; release it with conduit_sample_release first",
        )
    } else {
        Failure::null("the sample")
    }
}

/// Opens a topic.
///
/// `options` may be NULL: bytes, from the next message on. The handle in `*subscriber` is the caller's, to be closed with
/// conduit_subscriber_close(); NULL on failure.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, LAYOUT, WRONG_KIND, TYPE_MISMATCH, ORPHANED, TOO_MANY_SUBSCRIBERS, IO.
/// Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_open(
    name: *const c_char,
    options: *const SubscriberOptions,
    subscriber: *mut *mut Subscriber,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (subscriber, options) = unsafe { (result(subscriber, null_mut())?, arguments::options(options)?) };
        // SAFETY: the contract of the ABI.
        let (name, domain, message) = unsafe {
            (topic_name(name)?, arguments::domain(options.domain)?, MessageType::read(options.message_type)?)
        };
        let mut builder = conduit::Subscriber::<[u8]>::builder().domain(&domain).start(match options.start.0 {
            0 => Start::Next,
            1 => Start::Latest,
            2 => Start::Oldest,
            other => return Err(Failure::argument(format!("{other} is no place to start"))),
        });
        if options.any_type.get() {
            builder = builder.any_type(true);
        } else if let Some(message) = message {
            builder = builder.message_type(message);
        }
        builder = builder.spin(arguments::limit_ns(options.spin_ns).unwrap_or(Duration::MAX));
        if options.copy_samples.get() {
            builder = builder.copy_samples(true);
        }
        let opened = builder.open(&name)?;
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let (topic, type_name) = (text(opened.topic().as_str()), text(opened.message_type().name()));
        *subscriber = handle::open(State { subscriber: opened, topic, type_name });
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message, sleeping until there is one. Signals do not end the wait: who wants to be stopped waits with a timeout.
///
/// On success `*sample` holds the message, to be released with conduit_sample_release(); on failure it holds none. It must be
/// initialised.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, SAMPLE_HELD, PUBLISHER_CLOSED, PUBLISHER_DIED, INVALID_MESSAGE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv(subscriber: *mut Subscriber, sample: *mut Sample) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (state, sample) = unsafe { (handle::get_mut(subscriber)?, place(sample)?) };
        sample.hold(state.subscriber.recv()?);
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message, sleeping until there is one or `timeout_ns` nanoseconds are over; CONDUIT_FOREVER is no limit. Signals do
/// not end the wait.
///
/// Errors: as for conduit_subscriber_recv(), and TIMED_OUT. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv_timeout(
    subscriber: *mut Subscriber,
    timeout_ns: u64,
    sample: *mut Sample,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (state, sample) = unsafe { (handle::get_mut(subscriber)?, place(sample)?) };
        sample.hold(match arguments::limit_ns(timeout_ns) {
            Some(timeout) => state.subscriber.recv_timeout(timeout)?,
            None => state.subscriber.recv()?,
        });
        Ok(CONDUIT_OK)
    })
}

/// Receives the next message if there is one, else returns CONDUIT_NO_MESSAGE. Does not allocate, if samples are read in place.
///
/// Errors: as for conduit_subscriber_recv(). One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_try_recv(subscriber: *mut Subscriber, sample: *mut Sample) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (state, sample) = unsafe { (handle::get_mut(subscriber)?, place(sample)?) };
        match state.subscriber.try_recv()? {
            Some(held) => sample.hold(held),
            None => return Ok(CONDUIT_NO_MESSAGE),
        }
        Ok(CONDUIT_OK)
    })
}

/// Releases a sample: its data is not to be read any more, and the structure can be received into again. NULL is no error.
///
/// Errors: NO_SAMPLE (it was released before, or never held). Thread-safe for different samples.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_sample_release(sample: *mut Sample) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let Some(sample) = (unsafe { sample.as_mut() }) else { return Ok(CONDUIT_OK) };
        if sample.reserved[0] != HELD {
            return Err(no_sample());
        }
        sample.reserved[0] = 0;
        sample.data = null();
        sample.size = 0;
        // SAFETY: `hold` put it there, and since the mark is gone it is taken out once.
        unsafe { (&raw mut sample.reserved[1]).cast::<Held>().drop_in_place() };
        Ok(CONDUIT_OK)
    })
}

#[cold]
fn no_sample() -> Failure {
    Failure::new(
        CONDUIT_ERROR_NO_SAMPLE,
        "the structure holds no sample: it was released before, or nothing was received",
    )
}

/// Messages received so far; 0, with INVALID_HANDLE or FORKED, if there is no subscriber.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_received(subscriber: *const Subscriber) -> u64 {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(subscriber) }?.subscriber.received()))
}

/// Messages missed so far; with those received it adds up to what was published since the start. 0, with INVALID_HANDLE or FORKED, if there
/// is no subscriber.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_lost(subscriber: *const Subscriber) -> u64 {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(subscriber) }?.subscriber.lost()))
}

/// Whether messages are read in place. If not, they are validated copies: this user may only read the region, or wanted them. False,
/// with INVALID_HANDLE or FORKED, if there is no subscriber.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_is_zero_copy(subscriber: *const Subscriber) -> bool {
    // SAFETY: the contract of the ABI.
    get(false, || Ok(unsafe { handle::get(subscriber) }?.subscriber.is_zero_copy()))
}

/// The topic's name, valid until the subscriber is closed; NULL, with INVALID_HANDLE or FORKED, if there is no subscriber.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_topic(subscriber: *const Subscriber) -> *const c_char {
    // SAFETY: the contract of the ABI.
    get(null(), || Ok(unsafe { handle::get(subscriber) }?.topic.as_ptr()))
}

/// The type of the topic's messages, as the publisher named it. Its name is valid until the subscriber is closed.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED; `*message_type` is then all zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_type(
    subscriber: *const Subscriber,
    message_type: *mut MessageType,
) -> Error {
    call(|| {
        let none = MessageType { name: null(), kind: AnyKind(0), align: 0, size: 0 };
        // SAFETY: the contract of the ABI.
        let (place, state) = unsafe { (result(message_type, none)?, handle::get(subscriber)?) };
        let message = state.subscriber.message_type();
        let kind = match message.kind() {
            MessageKind::Value => TypeKind::CONDUIT_VALUE,
            MessageKind::Slice => TypeKind::CONDUIT_SLICE,
        };
        *place = MessageType {
            name: state.type_name.as_ptr(),
            kind: AnyKind(kind as u32),
            align: message.align(),
            size: usize::try_from(message.size()).unwrap_or(usize::MAX),
        };
        Ok(CONDUIT_OK)
    })
}

/// Ends the subscription. Samples that are held stay valid. NULL is no error. In a forked child it only frees the child's handle.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_close(subscriber: *mut Subscriber) -> Error {
    // SAFETY: the contract of the ABI.
    call(|| unsafe { handle::close(subscriber) }.map(|()| CONDUIT_OK))
}
