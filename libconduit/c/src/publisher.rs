//! Publishers and their loans.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{NonNull, null, null_mut};

use conduit::{Kind, Loan, LoanError, Message, Shape, TypeInfo};

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_ERROR_LOAN_OUT, CONDUIT_ERROR_NO_LOAN, CONDUIT_ERROR_SLOTS, CONDUIT_OK};
use crate::failure::{CallFailure, call, message_call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::message_type::TypeDescription;
use crate::pointers::{self, OptionsStruct, RawBool, non_zero_ns, result, string, topic_name};

/// The one process that writes a topic.
#[derive(Debug)]
pub struct PublisherHandle(());

/// A publisher and at most one loan, which borrows it: nothing else uses the publisher meanwhile.
#[derive(Debug)]
pub(crate) struct OpenPublisher {
    loan: Option<Loan<'static, [u8]>>,
    /// From a box, which is freed by `drop`.
    publisher: NonNull<conduit::Publisher<[u8]>>,
    pub(crate) published: u64,
    capacity: usize,
    slots: u32,
    message: TypeInfo,
    topic: CString,
}

impl OpenPublisher {
    fn new(publisher: conduit::Publisher<[u8]>, message: TypeInfo) -> Self {
        Self {
            loan: None,
            published: 0,
            capacity: publisher.capacity(),
            slots: publisher.slots(),
            message,
            topic: CString::new(publisher.topic().as_str()).unwrap_or_default(),
            publisher: NonNull::from(Box::leak(Box::new(publisher))),
        }
    }

    /// The publisher, unless it has a loan.
    #[inline(always)]
    pub(crate) fn publisher(&mut self) -> Result<&mut conduit::Publisher<[u8]>, CallFailure> {
        if self.loan.is_some() {
            return Err(loan_out());
        }
        // SAFETY: `new` leaked it from a box, only `drop` frees it, and no loan borrows it.
        Ok(unsafe { self.publisher.as_mut() })
    }

    #[inline(always)]
    fn lend(&mut self, len: usize) -> Result<NonNull<u8>, CallFailure> {
        if self.loan.is_some() {
            return Err(loan_out());
        }
        // SAFETY: as in `publisher`. The reference is as long-lived as the box: `drop` ends the
        // loan before it frees the publisher, and `publisher` refuses to borrow it again meanwhile.
        let publisher: &'static mut conduit::Publisher<[u8]> = unsafe { self.publisher.as_mut() };
        let loan = self.loan.insert(publisher.loan_slice(len)?);
        Ok(NonNull::from(&mut **loan).cast())
    }

    fn truncate(&mut self, size: usize) -> Result<(), CallFailure> {
        let loan = self.loan.as_mut().ok_or_else(no_loan)?;
        if size > loan.len() {
            return Err(LoanError::MessageTooLarge { len: size, capacity: loan.len() }.into());
        }
        if !self.message.admits(size) {
            let exact = self.message.kind() == Kind::Value;
            return Err(LoanError::WrongLength { len: size, size: self.message.size(), exact }.into());
        }
        loan.truncate(size);
        Ok(())
    }
}

#[cold]
fn loan_out() -> CallFailure {
    CallFailure::new(CONDUIT_ERROR_LOAN_OUT, "the publisher has a loan; publish or discard it first")
}

#[cold]
fn no_loan() -> CallFailure {
    CallFailure::new(CONDUIT_ERROR_NO_LOAN, "the publisher has no loan; get one with conduit_publisher_loan")
}

impl Drop for OpenPublisher {
    fn drop(&mut self) {
        self.loan = None;
        // SAFETY: `new` leaked it from a box, this is the only place that frees it, and the only
        // borrow, the loan, has just ended.
        drop(unsafe { Box::from_raw(self.publisher.as_ptr()) });
    }
}

impl HandleKind for PublisherHandle {
    type State = OpenPublisher;
    const SEAL: u64 = 0xc04d_1e62_0000_0000;
    const NAME: &'static str = "a publisher";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// How to create a topic. Initialise it with CONDUIT_PUBLISHER_OPTIONS_INIT; a member that is 0 has
/// its default.
#[derive(Debug)]
#[repr(C)]
pub struct PublisherOptions {
    /// sizeof(conduit_publisher_options); set by CONDUIT_PUBLISHER_OPTIONS_INIT.
    pub struct_size: usize,
    /// Where to create it; NULL for the domain of the environment.
    pub domain: *const DomainOptions,
    /// The type of the messages; NULL for bytes.
    pub message_type: *const TypeDescription,
    /// Length of the largest message in bytes. Default: 3904, or the size of the type if that is
    /// larger.
    pub capacity: usize,
    /// Instead of `capacity`: the size of a slot in bytes, a multiple of 128; 192 bytes of it are
    /// the slot's own.
    pub slot_size: usize,
    /// How long to wait for a dying owner of the name, in nanoseconds. Default: 250 ms.
    pub takeover_timeout_ns: u64,
    /// Number of slots: 2 to 65,536, fastest if a power of two. Default: 16. It limits how far a
    /// subscriber can fall behind without loss, and how many samples all of them can hold.
    pub slots: u32,
    /// Permission bits of the region's file, such as 0640. Default: 0666 without the bits of the
    /// umask. Users who may only read the file can subscribe, and receive validated copies.
    pub mode: u32,
    /// Numeric id of the file's group, if `has_group` is set.
    pub group: u32,
    /// Whether to set the file's group. Default: the group of the process.
    pub has_group: RawBool,
    /// Whether to publish without time stamps, which saves reading the clock for each message.
    pub no_time_stamps: RawBool,
    /// Whether not to enter all of the region's memory into the process's page tables at once: it
    /// then takes page faults in the middle of the work. For large regions that are hardly used.
    pub no_prefault: RawBool,
    /// Must be 0.
    pub reserved: [u8; 1],
    /// How many subscribers can be attached at a time: up to 1,024. Default: 60, which is also the
    /// number of those that can hold samples in place; more than that must copy.
    pub max_subscribers: u32,
    /// How many messages are kept at least, once every subscriber has received them, for those that
    /// open the topic later with CONDUIT_START_LAST or CONDUIT_START_OLDEST: up to one fewer than
    /// the topic has slots, which is also what a topic of small messages keeps. Default: 1.
    pub retain: u32,
    /// What the bytes of the messages mean, of a slice those of an element, for tools that show
    /// them; NULL if that is not said. JSON such as {"type": {"struct": {"size": 24, "fields": [
    /// {"name": "gyro", "offset": 0, "type": "f64", "count": 3}]}}}. Its size is that of
    /// `message_type`.
    pub shape: *const c_char,
    /// How long the publisher promises to be silent at most, in nanoseconds. The registry reports
    /// a topic that has been silent for longer as CONDUIT_REPORTED_OVERDUE, and when it has
    /// resumed; `conduit list` shows it. It looks every 10 ms at most. Default: no promise.
    pub deadline_ns: u64,
}

// SAFETY: it is `repr(C)`, begins with its size, and pointers and integers may have any bits.
unsafe impl OptionsStruct for PublisherOptions {
    const INIT: &str = "CONDUIT_PUBLISHER_OPTIONS_INIT";
}

impl PublisherOptions {
    fn apply(
        &self,
        mut builder: conduit::PublisherBuilder<[u8]>,
    ) -> Result<conduit::PublisherBuilder<[u8]>, CallFailure> {
        if self.capacity != 0 && self.slot_size != 0 {
            return Err(CallFailure::argument("capacity and slot_size exclude each other; leave one of them 0"));
        }
        builder = builder.time_stamps(!self.no_time_stamps.get()).prefault(!self.no_prefault.get());
        if self.slots != 0 {
            builder = builder.slots(self.slots);
        }
        if self.slot_size != 0 {
            builder = builder.slot_size(self.slot_size);
        }
        if self.capacity != 0 {
            builder = builder.capacity(self.capacity);
        }
        if self.mode != 0 {
            builder = builder.mode(self.mode);
        }
        if self.has_group.get() {
            builder = builder.group(self.group);
        }
        if let Some(timeout) = non_zero_ns(self.takeover_timeout_ns) {
            builder = builder.takeover_timeout(timeout);
        }
        if let Some(deadline) = non_zero_ns(self.deadline_ns) {
            builder = builder.deadline(deadline);
        }
        if self.max_subscribers != 0 {
            builder = builder.max_subscribers(records(self.max_subscribers)?);
        }
        if self.retain != 0 {
            builder = builder.retain(u16::try_from(self.retain).unwrap_or(u16::MAX));
        }
        Ok(builder)
    }
}

/// The shape of messages of a type.
///
/// # Safety
///
/// As for [`string`], during the call.
unsafe fn shape(given: *const c_char, message: &TypeInfo) -> Result<Option<Shape>, CallFailure> {
    // SAFETY: as the caller vouches.
    let Some(text) = (unsafe { string(given) }) else { return Ok(None) };
    let parsed = serde_json::from_slice::<Shape>(text.to_bytes());
    let shape = parsed.map_err(|error| CallFailure::argument(format!("the shape is not valid: {error}")))?;
    let (size, expected) = (shape.size(), message.size());
    if size != expected {
        return Err(CallFailure::argument(format!("the shape has {size} bytes, the message type {expected}")));
    }
    Ok(Some(shape))
}

/// A number of subscribers. The library refuses those that it does not support.
fn records(max_subscribers: u32) -> Result<u16, CallFailure> {
    u16::try_from(max_subscribers).map_err(|_| {
        let message = format!("a topic cannot have {max_subscribers} subscribers; use 1 to 1024");
        CallFailure::new(CONDUIT_ERROR_SLOTS, message)
    })
}

/// Creates a topic and returns its publisher in `*publisher`, which is NULL on failure.
///
/// If a dead publisher left the topic behind, it is taken over. `options` may be NULL: the topic
/// has 16 slots for messages of up to 3904 bytes of no particular type. The caller owns the handle
/// and closes it with conduit_publisher_close().
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_ALLOWED, SLOTS, MESSAGE_TOO_LARGE (the type does not fit
/// into a slot), NO_SPACE, NO_MEMORY, FILE_SYSTEM, ALREADY_PUBLISHED, EXISTS, FOREIGN_FILE,
/// NOT_REMOVABLE, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_create(
    name: *const c_char,
    options: *const PublisherOptions,
    publisher: *mut *mut PublisherHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `publisher` is a result and `options` are options.
        let (publisher, options) =
            unsafe { (result("publisher", publisher, null_mut())?, pointers::options(options)?) };
        // SAFETY: `conduit.h`: `name` is a string, and so are those in the structures that options
        // point to.
        let (name, domain, message) =
            unsafe { (topic_name(name)?, domain(options.domain)?, TypeDescription::read(options.message_type)?) };
        let mut builder = options.apply(conduit::Publisher::<[u8]>::builder().domain(&domain))?;
        if let Some(message) = message {
            builder = builder.message_type(message);
        }
        let message = message.unwrap_or(<[u8]>::TYPE);
        // SAFETY: `conduit.h`: it is a string.
        if let Some(shape) = unsafe { shape(options.shape, &message) }? {
            builder = builder.shape(shape);
        }
        let open = OpenPublisher::new(builder.create(&name)?, message);
        *publisher = handle::open(open);
        Ok(CONDUIT_OK)
    })
}

/// Publishes a copy of `size` bytes. `data` may be NULL if `size` is 0.
///
/// It never blocks, does not allocate unless it fails, and makes no system call unless a subscriber
/// is asleep.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, LOAN_OUT, ALL_SLOTS_HELD, MESSAGE_TOO_LARGE,
/// WRONG_LENGTH, REMOVED, UNLINKED (once; the next call publishes to the subscribers that have the
/// topic open). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_send(
    publisher: *mut PublisherHandle,
    data: *const c_void,
    size: usize,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `publisher` is a handle, and `data` has `size` readable bytes or is
        // NULL.
        let (open, message) = unsafe { (handle::state_mut(publisher)?, pointers::message(data, size)?) };
        open.publisher()?.send(message)?;
        open.published += 1;
        Ok(CONDUIT_OK)
    })
}

/// Lends a slot, in which a message of `size` bytes is written in place, and returns its address in
/// `*data`, which is NULL on failure.
///
/// The memory is aligned to 64 bytes, for values of up to 32 bytes to 32; its contents are
/// unspecified. It belongs to the caller until
/// conduit_publisher_publish(), conduit_publisher_discard() or conduit_publisher_close(). A
/// publisher has one loan at a time.
///
/// Errors: as for conduit_publisher_send(). One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_loan(
    publisher: *mut PublisherHandle,
    size: usize,
    data: *mut *mut c_void,
) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `data` is a result and `publisher` is a handle.
        let (data, open) = unsafe { (result("data", data, null_mut())?, handle::state_mut(publisher)?) };
        *data = open.lend(size)?.as_ptr().cast();
        Ok(CONDUIT_OK)
    })
}

/// Shortens the message in the loan to its first `size` bytes.
///
/// Errors: INVALID_HANDLE, FORKED, NO_LOAN, MESSAGE_TOO_LARGE (the loan is smaller), WRONG_LENGTH.
/// On failure the loan does not change. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_truncate(publisher: *mut PublisherHandle, size: usize) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `publisher` is a handle.
        unsafe { handle::state_mut(publisher) }?.truncate(size)?;
        Ok(CONDUIT_OK)
    })
}

/// Publishes the message in the loan. Its memory no longer belongs to the caller.
///
/// Errors: INVALID_HANDLE, FORKED, NO_LOAN. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_publish(publisher: *mut PublisherHandle) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `publisher` is a handle.
        let open = unsafe { handle::state_mut(publisher) }?;
        open.loan.take().ok_or_else(no_loan)?.publish();
        open.published += 1;
        Ok(CONDUIT_OK)
    })
}

/// Returns the loan without publishing it. Its memory no longer belongs to the caller.
///
/// Errors: INVALID_HANDLE, FORKED, NO_LOAN. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_discard(publisher: *mut PublisherHandle) -> ErrorCode {
    message_call(|| {
        // SAFETY: `conduit.h`: `publisher` is a handle.
        let open = unsafe { handle::state_mut(publisher) }?;
        let _discarded = open.loan.take().ok_or_else(no_loan)?;
        Ok(CONDUIT_OK)
    })
}

/// Returns the number of messages published so far, which is the sequence number of the next.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_published(publisher: *const PublisherHandle) -> u64 {
    // SAFETY: `conduit.h`: `publisher` is a handle that does not change during the call.
    unsafe { handle::property(publisher, 0, |open| open.published) }
}

/// Returns the length of the largest message in bytes.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_capacity(publisher: *const PublisherHandle) -> usize {
    // SAFETY: `conduit.h`: `publisher` is a handle that does not change during the call.
    unsafe { handle::property(publisher, 0, |open| open.capacity) }
}

/// Returns the number of slots.
///
/// 0 on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_slots(publisher: *const PublisherHandle) -> u32 {
    // SAFETY: `conduit.h`: `publisher` is a handle that does not change during the call.
    unsafe { handle::property(publisher, 0, |open| open.slots) }
}

/// Returns the name of the topic. The string is valid until the publisher is closed.
///
/// NULL on failure. Errors: INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_topic(publisher: *const PublisherHandle) -> *const c_char {
    // SAFETY: `conduit.h`: `publisher` is a handle that does not change during the call.
    unsafe { handle::property(publisher, null(), |open| open.topic.as_ptr()) }
}

/// Counts the subscribers that are attached, in `*count`, which is 0 on failure: those that receive
/// what is sent from now on.
///
/// It makes several system calls: use it for flow control and reports, not for every message.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, LOAN_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_subscribers(
    publisher: *mut PublisherHandle,
    count: *mut usize,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `count` is a result and `publisher` is a handle.
        let (count, open) = unsafe { (result("count", count, 0)?, handle::state_mut(publisher)?) };
        *count = open.publisher()?.subscribers().len();
        Ok(CONDUIT_OK)
    })
}

/// Closes the topic and frees the handle. NULL is accepted and does nothing.
///
/// A loan is discarded and the region's name is removed. Subscribers receive the remaining messages
/// and then CONDUIT_ERROR_PUBLISHER_CLOSED; samples that they hold stay valid. In a forked child it
/// only frees the child's copy of the handle.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_close(publisher: *mut PublisherHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `publisher` is a handle.
    unsafe { handle::close(publisher) }
}
