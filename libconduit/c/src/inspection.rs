//! Looking at a region from outside, without mapping it.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use conduit::inspect::Region;

use crate::domain::{DomainOptions, domain};
use crate::error::ErrorCode::{self, CONDUIT_ERROR_IO, CONDUIT_ERROR_WRONG_KIND, CONDUIT_OK};
use crate::failure::{CallFailure, call};
use crate::handle::{self, HandleKind, HandlePool};
use crate::message_type::TypeDescription;
use crate::pointers::{object, result, results, topic_name};
use crate::records::{ListedTopic, TopicRecord};
use crate::shape::{ShapeRecord, ShapeTree};

/// A region that is looked at from outside.
#[derive(Debug)]
pub struct InspectionHandle(());

#[derive(Debug)]
pub(crate) struct OpenInspection {
    region: Region,
    type_name: CString,
    shape: Option<ShapeTree>,
    described: Option<Box<ListedTopic>>,
}

impl HandleKind for InspectionHandle {
    type State = OpenInspection;
    const SEAL: u64 = 0xc04d_1e68_0000_0000;
    const NAME: &'static str = "an inspection";

    fn pool() -> &'static HandlePool {
        static POOL: HandlePool = HandlePool::new();
        &POOL
    }
}

/// What a topic says of a message that it keeps: everything but the message. This structure never
/// gets more members.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HeaderRecord {
    /// Sequence number of the message: the first of a topic has 0.
    pub sequence: u64,
    /// When it was published, as nanoseconds of CLOCK_MONOTONIC; 0 if the publisher has time stamps
    /// turned off.
    pub stamp_ns: u64,
    /// Length of the message in bytes.
    pub size: u64,
}

/// Who may use the file of a region. This structure never gets more members.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AccessRecord {
    /// User id of the file's owner.
    pub uid: u32,
    /// Numeric id of the file's group.
    pub gid: u32,
    /// Its permission bits, such as 0640.
    pub mode: u32,
}

impl OpenInspection {
    /// Writes the headers of messages that are kept from a position on, and returns their number
    /// and the position after the last of them.
    fn headers(&self, position: u64, room: &mut [MaybeUninit<HeaderRecord>]) -> Result<(usize, u64), CallFailure> {
        let (headers, next) = self.region.messages_since(position).ok_or_else(|| not_a_topic(&self.region))?;
        let count = headers.len().min(room.len());
        for (header, room) in headers.iter().zip(&mut *room) {
            let stamp_ns = header.stamp_ns.unwrap_or(0);
            room.write(HeaderRecord { sequence: header.sequence, stamp_ns, size: header.len_bytes });
        }
        Ok((count, headers.get(count).map_or(next, |first_left_out| first_left_out.sequence)))
    }
}

#[cold]
fn not_a_topic(region: &Region) -> CallFailure {
    let message = format!("\"{}\" is a raw region, or its file is damaged: only topics have messages", region.topic());
    CallFailure::new(CONDUIT_ERROR_WRONG_KIND, message)
}

/// Opens the region of a topic or raw region to look at it, and returns it in `*inspection`, which
/// is NULL on failure. `domain` may be NULL.
///
/// It is read and not mapped: that costs its owner nothing, and needs no registry. The topic may be
/// closed or orphaned. The caller owns the handle and closes it with conduit_inspection_close().
///
/// Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, LAYOUT, WRONG_KIND (a file that Conduit
/// did not create), IO. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_open(
    name: *const c_char,
    domain: *const DomainOptions,
    inspection: *mut *mut InspectionHandle,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `inspection` is a result, `name` a string and `domain` are options.
        let (inspection, name, domain) =
            unsafe { (result("inspection", inspection, null_mut())?, topic_name(name)?, self::domain(domain)?) };
        let region = Region::open(&domain, &name)?;
        let type_name = region.message_type().map(|message| CString::new(message.name()).unwrap_or_default());
        let shape = region.shape().as_ref().map(ShapeTree::new);
        let open = OpenInspection { region, type_name: type_name.unwrap_or_default(), shape, described: None };
        *inspection = handle::open(open);
        Ok(CONDUIT_OK)
    })
}

/// Describes the region as it is now, with its owner and subscribers as they say they are, in
/// `*topic`, which is NULL on failure. It is valid until the next call of this function, or until
/// the inspection is closed.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_describe(
    inspection: *mut InspectionHandle,
    topic: *mut *const TopicRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `topic` is a result and `inspection` is a handle.
        let (topic, open) = unsafe { (result("topic", topic, null())?, handle::state_mut(inspection)?) };
        let described = open.described.insert(Box::new(ListedTopic::new(&open.region.describe())));
        *topic = &raw const described.record;
        Ok(CONDUIT_OK)
    })
}

/// Returns the type of the topic's messages, as its publisher declared it, in `*message_type`. The
/// name in it is valid until the inspection is closed. On failure all its members are 0.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, WRONG_KIND (a raw region). Thread-safe with
/// other `const` functions.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_type(
    inspection: *const InspectionHandle,
    message_type: *mut TypeDescription,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `message_type` is a result, and `inspection` a handle that does not
        // change during the call.
        let (message_type, open) =
            unsafe { (result("message_type", message_type, TypeDescription::NONE)?, handle::state(inspection)?) };
        let found = open.region.message_type().ok_or_else(|| not_a_topic(&open.region))?;
        *message_type = TypeDescription::new(&open.type_name, &found);
        Ok(CONDUIT_OK)
    })
}

/// Returns what the bytes of the topic's messages mean, as its publisher says, in `*shape`; of a
/// slice, of one element. NULL if the publisher does not say, for a raw region, and on failure. It
/// is valid until the inspection is closed.
///
/// A shape is a claim of another process, and has been checked: fields lie inside their structures,
/// structures nest at most 16 deep, and there are hardly more values than bytes.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED. Thread-safe with other `const` functions.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_shape(
    inspection: *const InspectionHandle,
    shape: *mut *const ShapeRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `shape` is a result, and `inspection` a handle that does not change
        // during the call.
        let (shape, open) = unsafe { (result("shape", shape, null())?, handle::state(inspection)?) };
        *shape = open.shape.as_ref().map_or(null(), ShapeTree::as_ptr);
        Ok(CONDUIT_OK)
    })
}

/// Writes the headers of the messages that the topic keeps from `*position` on to `headers`, oldest
/// first and at most `capacity`, and returns their number in `*count`; 0 on failure. Then
/// `*position` is where to continue. Begin with 0 for all that is kept, with UINT64_MAX for none.
///
/// Messages that are overwritten before they are read are left out.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, WRONG_KIND (a raw region). Thread-safe with
/// other `const` functions.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_messages(
    inspection: *const InspectionHandle,
    position: *mut u64,
    headers: *mut HeaderRecord,
    capacity: usize,
    count: *mut usize,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `count` is a result, `position` an initialised number, `headers` has
        // room for `capacity` headers, and `inspection` is a handle that does not change during the
        // call.
        let (count, position, headers, open) = unsafe {
            (
                result("count", count, 0)?,
                object("position", position)?,
                results("headers", headers, capacity)?,
                handle::state(inspection)?,
            )
        };
        (*count, *position) = open.headers(*position, headers)?;
        Ok(CONDUIT_OK)
    })
}

/// Returns in `*access` who may use the region's file, as it is now. On failure all its members are
/// 0.
///
/// Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, IO. Thread-safe with other `const` functions.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_access(
    inspection: *const InspectionHandle,
    access: *mut AccessRecord,
) -> ErrorCode {
    call(|| {
        let none = AccessRecord { uid: 0, gid: 0, mode: 0 };
        // SAFETY: `conduit.h`: `access` is a result, and `inspection` a handle that does not change
        // during the call.
        let (access, open) = unsafe { (result("access", access, none)?, handle::state(inspection)?) };
        let (gid, mode) = open.region.access().map_err(|error| CallFailure::of(CONDUIT_ERROR_IO, &error))?;
        *access = AccessRecord { uid: open.region.uid(), gid, mode };
        Ok(CONDUIT_OK)
    })
}

/// Closes the region and frees the handle with everything in it. NULL is accepted and does nothing.
///
/// Errors: INVALID_HANDLE. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_inspection_close(inspection: *mut InspectionHandle) -> ErrorCode {
    // SAFETY: `conduit.h`: `inspection` is a handle.
    unsafe { handle::close(inspection) }
}
