//! Types of messages.

use std::ffi::{CStr, c_char};
use std::ptr::null;

use conduit::{Kind, TypeInfo};

use crate::failure::CallFailure;
use crate::pointers::string;

/// Whether a message is one value or a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum KindCode {
    /// One value: every message has the size of the type.
    CONDUIT_VALUE = 0,
    /// A slice: the length of a message is a multiple of the size of an element, or 0.
    CONDUIT_SLICE = 1,
}

/// A kind as C passes it: any number.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct RawKind(i32);

/// The type of a topic's messages. Publisher and subscriber must agree on all of it.
///
/// The name identifies the type across programs and languages, for example "robot/Imu". It has 1 to
/// 64 bytes of UTF-8 without control characters. In Rust the same type is a #[repr(C)] structure
/// with #[message(name = "robot/Imu")]. This structure never gets more members.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TypeDescription {
    /// The name. As an argument it is read during the call only.
    pub name: *const c_char,
    /// Whether messages are values or slices of them.
    pub kind: RawKind,
    /// Alignment in bytes: a power of two, at most 64. Messages are aligned for their type.
    pub align: u32,
    /// Size of the value, or of one element of the slice, in bytes: a multiple of the alignment
    /// and not 0.
    pub size: usize,
}

impl TypeDescription {
    /// What functions that return a type leave behind if they fail.
    pub(crate) const NONE: Self = Self { name: null(), kind: RawKind(0), align: 0, size: 0 };

    /// A type for C, with a name that lives as long as the caller documents.
    pub(crate) fn new(name: &CStr, message: &TypeInfo) -> Self {
        let kind = match message.kind() {
            Kind::Value => KindCode::CONDUIT_VALUE,
            Kind::Slice => KindCode::CONDUIT_SLICE,
        };
        Self {
            name: name.as_ptr(),
            kind: RawKind(kind as i32),
            align: message.align(),
            size: usize::try_from(message.size()).unwrap_or(usize::MAX),
        }
    }

    /// The type in the options of a publisher or subscriber; `None` for NULL, which means bytes.
    ///
    /// # Safety
    ///
    /// `given` is NULL or points to a readable type, which need not be aligned; its name is as for
    /// [`string`], during the call.
    pub(crate) unsafe fn read(given: *const Self) -> Result<Option<TypeInfo>, CallFailure> {
        if given.is_null() {
            return Ok(None);
        }
        // SAFETY: it is not NULL, the caller vouches for the rest, and any bits are a valid value.
        let given = unsafe { given.read_unaligned() };
        // SAFETY: as the caller vouches.
        let Some(name) = (unsafe { string(given.name) }) else {
            return Err(CallFailure::argument("the name of the message type is NULL"));
        };
        let Ok(name) = name.to_str() else {
            return Err(CallFailure::argument("the name of the message type is not UTF-8"));
        };
        let kind = match given.kind.0 {
            0 => Kind::Value,
            1 => Kind::Slice,
            other => {
                return Err(CallFailure::argument(format!(
                    "{other} is not a kind of message type; use CONDUIT_VALUE or CONDUIT_SLICE"
                )));
            }
        };
        Ok(Some(TypeInfo::new(name, kind, given.size as u64, given.align)?))
    }
}
