//! Publishers and their loans.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{NonNull, null, null_mut};

use conduit::{CreateError, GeometryError, Loan, LoanError, Message, TypeInfo};

use crate::arguments::{self, AnyBool, DomainOptions, MessageType, Options, non_zero_ns, result, topic_name};
use crate::error::Error::{CONDUIT_ERROR_INVALID_ARGUMENT, CONDUIT_ERROR_LOAN_OUT, CONDUIT_ERROR_NO_LOAN, CONDUIT_OK};
use crate::error::{Error, Failure, call, get};
use crate::handle::{self, Kind, Pool};

/// The one process that writes a topic.
#[derive(Debug)]
pub struct Publisher(());

/// A publisher and at most one loan of it, which borrows it: while there is a loan nothing else touches the publisher.
#[derive(Debug)]
pub(crate) struct State {
    loan: Option<Loan<'static, [u8]>>,
    publisher: NonNull<conduit::Publisher<[u8]>>,
    published: u64,
    capacity: usize,
    slots: u32,
    message: TypeInfo,
    topic: CString,
}

impl State {
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

    /// The publisher, unless a loan is out.
    #[inline(always)]
    fn publisher(&mut self) -> Result<&mut conduit::Publisher<[u8]>, Failure> {
        if self.loan.is_some() {
            return Err(loan_out());
        }
        // SAFETY: it is this state's own, from a box, and no loan borrows it.
        Ok(unsafe { self.publisher.as_mut() })
    }

    #[inline(always)]
    fn lend(&mut self, len: usize) -> Result<NonNull<u8>, Failure> {
        if self.loan.is_some() {
            return Err(loan_out());
        }
        // SAFETY: as for `publisher`. The lifetime is as long as the state's: the publisher is freed after the loan (`drop`).
        let publisher: &'static mut conduit::Publisher<[u8]> = unsafe { self.publisher.as_mut() };
        let loan = self.loan.insert(publisher.loan_slice(len)?);
        Ok(NonNull::from(&mut **loan).cast())
    }
}

#[cold]
fn loan_out() -> Failure {
    Failure::new(CONDUIT_ERROR_LOAN_OUT, "a loan of this publisher is out; publish or discard it first")
}

#[cold]
fn no_loan() -> Failure {
    Failure::new(CONDUIT_ERROR_NO_LOAN, "no loan of this publisher is out; get one with conduit_publisher_loan")
}

impl Drop for State {
    fn drop(&mut self) {
        self.loan = None;
        // SAFETY: it came from a box, and nothing borrows it any more.
        drop(unsafe { Box::from_raw(self.publisher.as_ptr()) });
    }
}

impl Kind for Publisher {
    type State = State;
    const SEAL: u64 = 0xc04d_1e62_0000_0000;
    const NAME: &'static str = "a publisher";

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }
}

/// How a topic is to be made. Begin with CONDUIT_PUBLISHER_OPTIONS_INIT; a member that is 0 has its default.
#[derive(Debug)]
#[repr(C)]
pub struct PublisherOptions {
    /// sizeof(conduit_publisher_options), as CONDUIT_PUBLISHER_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Where; NULL for the environment's.
    pub domain: *const DomainOptions,
    /// Type of the messages; NULL for bytes.
    pub message_type: *const MessageType,
    /// Number of slots: a power of two from 2 to 65,536; 0 for 16. It bounds how far a subscriber can fall behind without loss,
    /// and how many samples all of them together can hold.
    pub slots: u64,
    /// Size of a slot in bytes: a multiple of 128, of which 192 are the slot's state and header; 0 for what `capacity` needs.
    pub slot_size: u64,
    /// Length of the largest message in bytes, if `slot_size` is 0; 0 for 3904 or the size of the type, whichever is more.
    pub capacity: u64,
    /// How long to wait for a dying owner of the name, in nanoseconds; 0 for 250 ms.
    pub takeover_timeout_ns: u64,
    /// Permission bits of the region's file, 0640 for example; 0 for what the process's umask leaves of 0666. Who may only read it can
    /// subscribe all the same, and gets validated copies.
    pub mode: u32,
    /// Numeric id of the file's group, if has_group is set.
    pub group: u32,
    /// Whether group is to be set.
    pub has_group: AnyBool,
    /// Publishes without time stamps, which saves one clock read per message.
    pub no_time_stamps: AnyBool,
    /// 0.
    pub reserved: [u8; 6],
}

// SAFETY: the size comes first, the rest takes any bytes.
unsafe impl Options for PublisherOptions {
    const INIT: &str = "CONDUIT_PUBLISHER_OPTIONS_INIT";
}

/// Creates a topic. A name that a dead publisher left is taken over.
///
/// `options` may be NULL: 16 slots for messages of up to 3904 bytes. The handle in `*publisher` is the caller's, to be closed with
/// conduit_publisher_close(); NULL on failure.
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_ALLOWED, SLOTS, MESSAGE_TOO_LARGE (the type does not fit the slots), NO_SPACE, NO_MEMORY,
/// FILE_SYSTEM, ALREADY_PUBLISHED, EXISTS, FOREIGN_FILE, NOT_REMOVABLE, IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_create(
    name: *const c_char,
    options: *const PublisherOptions,
    publisher: *mut *mut Publisher,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (publisher, options) = unsafe { (result(publisher, null_mut())?, arguments::options(options)?) };
        // SAFETY: the contract of the ABI.
        let (name, domain, message) = unsafe {
            (topic_name(name)?, arguments::domain(options.domain)?, MessageType::read(options.message_type)?)
        };
        let mut builder =
            conduit::Publisher::<[u8]>::builder().domain(&domain).time_stamps(!options.no_time_stamps.get());
        if let Some(message) = message {
            builder = builder.message_type(message);
        }
        if options.slots != 0 {
            let slots =
                u32::try_from(options.slots).map_err(|_| CreateError::from(GeometryError::Slots(options.slots)))?;
            builder = builder.slots(slots);
        }
        if options.slot_size != 0 {
            builder = builder.slot_size(options.slot_size as usize);
        } else if options.capacity != 0 {
            builder = builder.capacity(options.capacity as usize);
        }
        if options.mode != 0 {
            builder = builder.mode(options.mode);
        }
        if options.has_group.get() {
            builder = builder.group(options.group);
        }
        if let Some(timeout) = non_zero_ns(options.takeover_timeout_ns) {
            builder = builder.takeover_timeout(timeout);
        }
        *publisher = handle::open(State::new(builder.create(&name)?, message.unwrap_or(<[u8]>::TYPE)));
        Ok(CONDUIT_OK)
    })
}

/// Sends a copy of `size` bytes. `data` may be NULL if `size` is 0.
///
/// Never blocks, never allocates if it succeeds, and makes no system call unless a subscriber sleeps.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, LOAN_OUT, ALL_SLOTS_HELD, MESSAGE_TOO_LARGE, WRONG_LENGTH, REMOVED, UNLINKED (once:
/// who goes on publishes to the subscribers that are there). One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_send(publisher: *mut Publisher, data: *const c_void, size: usize) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let state = unsafe { handle::get_mut(publisher) }?;
        let message = if size == 0 {
            &[][..]
        } else if data.is_null() || size > isize::MAX as usize {
            return Err(Failure::new(
                CONDUIT_ERROR_INVALID_ARGUMENT,
                format!("the message is NULL or of {size} bytes"),
            ));
        } else {
            // SAFETY: the caller says that so many bytes can be read.
            unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) }
        };
        state.publisher()?.send(message)?;
        state.published += 1;
        Ok(CONDUIT_OK)
    })
}

/// Lends a slot to write a message of `size` bytes in place: `*data` points to as many bytes, aligned to 64, whose contents are
/// unspecified. NULL on failure.
///
/// The memory is the caller's until conduit_publisher_publish() or conduit_publisher_discard(); one loan can be out at a time.
///
/// Errors: as for conduit_publisher_send(). One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_loan(
    publisher: *mut Publisher,
    size: usize,
    data: *mut *mut c_void,
) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (data, state) = unsafe { (result(data, null_mut())?, handle::get_mut(publisher)?) };
        *data = state.lend(size)?.as_ptr().cast();
        Ok(CONDUIT_OK)
    })
}

/// Shortens the message that is being written to its first `size` bytes.
///
/// Errors: INVALID_HANDLE, FORKED, NO_LOAN, MESSAGE_TOO_LARGE (the loan is smaller), WRONG_LENGTH. On an error the loan stays as it
/// was. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_truncate(publisher: *mut Publisher, size: usize) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let state = unsafe { handle::get_mut(publisher) }?;
        let loan = state.loan.as_mut().ok_or_else(no_loan)?;
        if size > loan.len() {
            return Err(LoanError::MessageTooLarge { len: size, capacity: loan.len() }.into());
        }
        if !state.message.admits(size) {
            let exact = state.message.kind() == conduit::Kind::Value;
            return Err(LoanError::WrongLength { len: size, size: state.message.size(), exact }.into());
        }
        loan.truncate(size);
        Ok(CONDUIT_OK)
    })
}

/// Publishes the message that was written into the loan. Its memory is not the caller's any more.
///
/// Errors: INVALID_HANDLE, FORKED, NO_LOAN. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_publish(publisher: *mut Publisher) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let state = unsafe { handle::get_mut(publisher) }?;
        state.loan.take().ok_or_else(no_loan)?.publish();
        state.published += 1;
        Ok(CONDUIT_OK)
    })
}

/// Gives the loan back unseen. Its memory is not the caller's any more.
///
/// Errors: INVALID_HANDLE, FORKED, NO_LOAN. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_discard(publisher: *mut Publisher) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let state = unsafe { handle::get_mut(publisher) }?;
        state.loan.take().ok_or_else(no_loan)?;
        Ok(CONDUIT_OK)
    })
}

/// Messages published so far, which is the sequence number of the next; 0, with INVALID_HANDLE or FORKED, if there is no publisher.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_published(publisher: *const Publisher) -> u64 {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(publisher) }?.published))
}

/// Largest message in bytes; 0, with INVALID_HANDLE or FORKED, if there is no publisher.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_capacity(publisher: *const Publisher) -> usize {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(publisher) }?.capacity))
}

/// Number of slots; 0, with INVALID_HANDLE or FORKED, if there is no publisher.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_slots(publisher: *const Publisher) -> u32 {
    // SAFETY: the contract of the ABI.
    get(0, || Ok(unsafe { handle::get(publisher) }?.slots))
}

/// The topic's name, valid until the publisher is closed; NULL, with INVALID_HANDLE or FORKED, if there is no publisher.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_topic(publisher: *const Publisher) -> *const c_char {
    // SAFETY: the contract of the ABI.
    get(null(), || Ok(unsafe { handle::get(publisher) }?.topic.as_ptr()))
}

/// Counts in `*count` the subscribers that live now; 0 on failure. Costs some system calls: meant for flow control and reports, not for
/// every message.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, LOAN_OUT. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_subscribers(publisher: *mut Publisher, count: *mut usize) -> Error {
    call(|| {
        // SAFETY: the contract of the ABI.
        let (count, state) = unsafe { (result(count, 0)?, handle::get_mut(publisher)?) };
        *count = state.publisher()?.subscribers().len();
        Ok(CONDUIT_OK)
    })
}

/// Closes the topic: a loan that is out is discarded, the region's name is removed, and sleeping subscribers wake with
/// CONDUIT_ERROR_PUBLISHER_CLOSED once they have received what is left. What they hold stays valid. NULL is no error. In a forked child it
/// only frees the child's handle.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_publisher_close(publisher: *mut Publisher) -> Error {
    // SAFETY: the contract of the ABI.
    call(|| unsafe { handle::close(publisher) }.map(|()| CONDUIT_OK))
}
