//! Message types, and how a region identifies them.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::foreign_text::clean_name;
use crate::shape::{Element, Shape};

/// A type that can be sent: its bytes mean the same in every process, and a region can identify it.
///
/// Derive it together with the zerocopy traits, which reject padding and pointers at compile time.
/// With `#[zerocopy(crate = "conduit::zerocopy")]` a program needs no dependency of its own on
/// zerocopy. Implemented for the primitive numbers, arrays of messages and slices of messages;
/// `[u8]` is the type for raw bytes.
///
/// ```
/// use conduit::{Message, zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout}};
///
/// #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[message(name = "lidar/Point")]
/// #[zerocopy(crate = "conduit::zerocopy")]
/// #[repr(C)]
/// struct Point { x: f32, y: f32, z: f32 }
///
/// assert_eq!(Point::TYPE.to_string(), "lidar/Point");
/// assert_eq!(<[Point]>::TYPE.to_string(), "[lidar/Point]");
/// ```
///
/// Without `#[repr(C)]` the compiler may reorder the fields, and a program in C++ would misread
/// them. So it is refused:
///
/// ```compile_fail
/// use conduit::{Message, zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout}};
///
/// #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "conduit::zerocopy")]
/// struct Point { x: f32, y: f32, z: f32 }
/// ```
/// That goes for the types of the fields, too: they are messages themselves, numbers, or arrays of
/// either. This is refused, unless `Stamp` derives `Message` and has `#[repr(C)]`:
///
/// ```compile_fail
/// use conduit::{Message, zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout}};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "conduit::zerocopy")]
/// struct Stamp { seconds: u32, nanoseconds: u32 }
///
/// #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "conduit::zerocopy")]
/// #[repr(C)]
/// struct Fix { stamp: [Stamp; 2], latitude: f64, longitude: f64 }
/// ```
///
/// A field of another type that has such a layout is marked. Tools show it as bytes:
///
/// ```
/// use conduit::{Message, zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout}};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "conduit::zerocopy")]
/// #[repr(C)]
/// struct Stamp { seconds: u32, nanoseconds: u32 }
///
/// #[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "conduit::zerocopy")]
/// #[repr(C)]
/// struct Fix { #[message(fixed_layout)] stamp: [Stamp; 2], latitude: f64, longitude: f64 }
///
/// assert_eq!(Fix::shape().to_string(), "{stamp bytes[16], latitude f64, longitude f64}");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Conduit message",
    note = "add `#[derive(conduit::Message, FromBytes, IntoBytes, KnownLayout, Immutable)]` and `#[repr(C)]` to the type"
)]
pub trait Message: TryFromBytes + IntoBytes + KnownLayout + Immutable {
    /// The type's identity, on which publisher and subscriber must agree.
    const TYPE: TypeInfo;

    /// What its bytes mean, for tools that display messages of types that they do not know; for a
    /// slice, of one element.
    fn shape() -> Shape {
        Shape::bytes(Self::TYPE.size)
    }

    /// Internal: the message that these bytes are; `None` if they are not a valid one.
    ///
    /// Values of which all bytes are valid are not checked, not even by a loop that an optimiser
    /// would remove: in an unoptimised build it takes a tenth of a microsecond per value.
    #[doc(hidden)]
    #[inline(always)]
    fn view(bytes: &[u8]) -> Option<&Self> {
        Self::try_ref_from_bytes(bytes).ok()
    }

    /// Internal: as [`view`](Self::view), of any number of values.
    #[doc(hidden)]
    #[inline(always)]
    fn view_slice(bytes: &[u8]) -> Option<&[Self]>
    where
        Self: Sized,
    {
        <[Self]>::try_ref_from_bytes(bytes).ok()
    }
}

/// Whether a message is one value or a slice of them. There is no third kind: programs may match
/// exhaustively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value of fixed size.
    Value,
    /// A slice: any number of elements, up to the slot's capacity.
    Slice,
}

/// The identity of a message type, as kept in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    pub(crate) name: TypeName,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) align: u32,
}

/// Largest alignment of a message type in bytes: payloads start on a cache line.
pub(crate) const MAX_ALIGN: usize = 64;

impl TypeInfo {
    /// A value of type `T` under a name of 1 to 64 bytes.
    ///
    /// The name identifies the type across builds and languages; Rust's own name of the type does
    /// not matter.
    ///
    /// # Panics
    ///
    /// At compile time, when used as intended for [`Message::TYPE`]: if the name is empty, longer
    /// than 64 bytes or contains NUL, or if the type is aligned to more than 64 bytes.
    pub const fn value<T>(name: &str) -> Self {
        assert!(align_of::<T>() <= MAX_ALIGN, "a message is aligned to at most 64 bytes");
        Self {
            name: TypeName::new(name),
            kind: Kind::Value,
            size: size_of::<T>() as u64,
            align: align_of::<T>() as u32,
        }
    }

    /// A slice whose elements have this type.
    ///
    /// # Panics
    ///
    /// At compile time, if the elements are slices themselves.
    pub const fn slice_of(element: Self) -> Self {
        assert!(matches!(element.kind, Kind::Value), "the elements of a slice have a fixed size");
        Self { kind: Kind::Slice, ..element }
    }

    /// A type that is known only at run time, from another language or from a file.
    ///
    /// `name` has 1 to 64 bytes of text without control characters. `size` is that of a value, or
    /// of one element of a slice, in bytes: a multiple of `align`, at least 1. `align` is a power
    /// of two, at most 64.
    ///
    /// ```
    /// use conduit::{Kind, Message, TypeInfo};
    ///
    /// assert_eq!(TypeInfo::new("u8", Kind::Slice, 1, 1)?, <[u8]>::TYPE);
    /// assert_eq!(TypeInfo::new("robot/Imu", Kind::Value, 48, 8)?.to_string(), "robot/Imu");
    /// # Ok::<(), conduit::TypeInfoError>(())
    /// ```
    pub fn new(name: &str, kind: Kind, size: u64, align: u32) -> Result<Self, TypeInfoError> {
        if !align.is_power_of_two() || align as usize > MAX_ALIGN {
            return Err(TypeInfoError::Align { align });
        }
        if size == 0 || size > isize::MAX as u64 || !size.is_multiple_of(align.into()) {
            return Err(TypeInfoError::Size { size, align });
        }
        let named = !name.contains('\0') && (1..=64).contains(&name.len());
        let name = named.then(|| TypeName::new(name)).and_then(|name| TypeName::from_region(name.0));
        Ok(Self { name: name.ok_or(TypeInfoError::Name)?, kind, size, align })
    }

    /// Whether a message of the type can have this length in bytes.
    #[inline]
    pub fn admits(&self, len: usize) -> bool {
        match self.kind {
            Kind::Value => len as u64 == self.size,
            // The header of a region may claim elements of zero bytes.
            Kind::Slice => self.size == 1 || (len as u64).checked_rem(self.size).unwrap_or(len as u64) == 0,
        }
    }

    const fn array_of<T>(element: Self) -> Self {
        Self { size: size_of::<T>() as u64, ..element }
    }

    /// The name, without the brackets of a slice, as it is in the region: UTF-8 without control
    /// characters. [`Display`](fmt::Display) is for people.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The type with the length of an array, for sentences about types that differ in it: an array
    /// of numbers has their name, and its own size.
    pub(crate) fn with_len(&self) -> String {
        let name = clean_name(self.name());
        match self.array_len() {
            Some(len) if self.kind == Kind::Slice => format!("[[{name}; {len}]]"),
            Some(len) => format!("[{name}; {len}]"),
            None => self.to_string(),
        }
    }

    /// How many numbers an array of them has; `None` if it is no such array.
    fn array_len(&self) -> Option<u64> {
        let number_bytes = match self.name() {
            "bool" | "u8" | "i8" => 1,
            "u16" | "i16" => 2,
            "u32" | "i32" | "f32" => 4,
            "u64" | "i64" | "f64" => 8,
            "u128" | "i128" => 16,
            _ => return None,
        };
        (self.size != number_bytes && self.size.is_multiple_of(number_bytes)).then(|| self.size / number_bytes)
    }

    /// One value, or a slice of them.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Size of the value, or of one element of the slice, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Alignment in bytes, at most 64.
    pub fn align(&self) -> u32 {
        self.align
    }
}

impl fmt::Display for TypeInfo {
    /// The name, in brackets for a slice. A peer may have chosen it: it is cleaned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = clean_name(self.name());
        match self.kind {
            Kind::Value => f.write_str(&name),
            Kind::Slice => write!(f, "[{name}]"),
        }
    }
}

/// Why a type cannot be a message type.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeInfoError {
    /// The name is empty, too long or not text.
    #[error("a type's name has 1 to 64 bytes of text without control characters")]
    Name,
    /// The size is not possible.
    #[error(
        "a type of {size} bytes aligned to {align} is not possible; the size is a multiple of the alignment and not 0"
    )]
    Size {
        /// The size asked for in bytes.
        size: u64,
        /// The alignment asked for in bytes.
        align: u32,
    },
    /// The alignment is not a power of two, or too large.
    #[error("an alignment of {align} bytes is not possible; use a power of two up to 64")]
    Align {
        /// The alignment asked for in bytes.
        align: u32,
    },
}

/// A type name as it lies in the region: up to 64 bytes, the rest NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeName(pub(crate) [u8; 64]);

impl TypeName {
    const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        assert!(!name.is_empty() && name.len() <= 64, "a type name has 1 to 64 bytes");
        let mut bytes = [0; 64];
        let mut at = 0;
        while at < name.len() {
            assert!(name[at] != 0, "a type name has no NUL");
            bytes[at] = name[at];
            at += 1;
        }
        Self(bytes)
    }

    /// `None` if a peer wrote something that is not a name.
    pub(crate) fn from_region(bytes: [u8; 64]) -> Option<Self> {
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(64);
        let is_name = len > 0
            && bytes[len..].iter().all(|&byte| byte == 0)
            && std::str::from_utf8(&bytes[..len]).is_ok_and(|name| !name.contains(char::is_control));
        is_name.then_some(Self(bytes))
    }

    fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(64);
        std::str::from_utf8(&self.0[..len]).unwrap_or("?")
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Message for bool {
    const TYPE: TypeInfo = TypeInfo::value::<Self>("bool");

    fn shape() -> Shape {
        Shape::one(Element::Bool)
    }
}

macro_rules! numbers {
    ($($number:ident $element:ident,)*) => {$(
        impl Message for $number {
            const TYPE: TypeInfo = TypeInfo::value::<Self>(stringify!($number));

            fn shape() -> Shape {
                Shape::one(Element::$element)
            }

            #[inline(always)]
            fn view_slice(bytes: &[u8]) -> Option<&[Self]> {
                <[Self]>::ref_from_bytes(bytes).ok()
            }
        }
    )*};
}
numbers!(u8 U8, u16 U16, u32 U32, u64 U64, i8 I8, i16 I16, i32 I32, i64 I64, f32 F32, f64 F64,);

impl<T: Message, const N: usize> Message for [T; N] {
    const TYPE: TypeInfo = TypeInfo::array_of::<Self>(T::TYPE);

    fn shape() -> Shape {
        T::shape().array(N)
    }

    #[inline(always)]
    fn view(bytes: &[u8]) -> Option<&Self> {
        // First, so that what follows has a known length.
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        T::view_slice(bytes)?.try_into().ok()
    }

    #[inline(always)]
    fn view_slice(bytes: &[u8]) -> Option<&[Self]> {
        let (arrays, rest) = T::view_slice(bytes)?.as_chunks();
        rest.is_empty().then_some(arrays)
    }
}

impl<T: Message> Message for [T] {
    const TYPE: TypeInfo = TypeInfo::slice_of(T::TYPE);

    fn shape() -> Shape {
        T::shape()
    }

    #[inline(always)]
    fn view(bytes: &[u8]) -> Option<&Self> {
        T::view_slice(bytes)
    }
}

crate::error_text::debug_as_display!(TypeInfoError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_kind_and_size_distinguish_types() {
        assert_ne!(u8::TYPE, i8::TYPE);
        assert_ne!(u8::TYPE, <[u8]>::TYPE);
        assert_ne!(<[u8; 3]>::TYPE, <[u8; 4]>::TYPE);
        assert_eq!(<[u8; 3]>::TYPE.to_string(), "u8");
        assert_eq!(<[[f32; 3]]>::TYPE.size(), 12);
    }

    #[test]
    fn a_type_given_at_run_time_equals_the_static_one_or_is_an_error() {
        let new = TypeInfo::new;
        assert_eq!(new("f64", Kind::Value, 24, 8), Ok(<[f64; 3]>::TYPE));
        assert_eq!(new("f32", Kind::Slice, 12, 4), Ok(<[[f32; 3]]>::TYPE));
        assert_eq!(new(&"x".repeat(64), Kind::Value, 64, 64).unwrap().name().len(), 64);
        for name in ["", &"x".repeat(65), "a\0b", "\0", "a\nb"] {
            assert_eq!(new(name, Kind::Value, 8, 8), Err(TypeInfoError::Name), "{name:?}");
        }
        for (size, align) in [(0, 1), (4, 8), (12, 8), (1 << 63, 1)] {
            assert_eq!(new("a", Kind::Slice, size, align), Err(TypeInfoError::Size { size, align }));
        }
        for align in [0, 3, 128] {
            assert_eq!(new("a", Kind::Value, 384, align), Err(TypeInfoError::Align { align }));
        }
    }

    #[test]
    fn lengths_follow_from_the_type() {
        let value = TypeInfo::new("a", Kind::Value, 24, 8).unwrap();
        assert!(value.admits(24) && ![0, 23, 25, 48].into_iter().any(|len| value.admits(len)));
        let slice = TypeInfo::slice_of(value);
        assert!([0, 24, 48].into_iter().all(|len| slice.admits(len)) && !slice.admits(23) && !slice.admits(36));
        assert!(<[u8]>::TYPE.admits(0) && <[u8]>::TYPE.admits(7));
        let of_nothing = TypeInfo { size: 0, ..slice };
        assert!(of_nothing.admits(0) && !of_nothing.admits(1));
    }

    #[test]
    fn arrays_are_told_apart_by_their_length() {
        assert_eq!(<[f32; 3]>::TYPE.with_len(), "[f32; 3]");
        assert_eq!(<[[u8; 4]]>::TYPE.with_len(), "[[u8; 4]]");
        assert_eq!([f32::TYPE, <[u8]>::TYPE].map(|one| one.with_len()), ["f32", "[u8]"]);
        let other = TypeInfo::new("robot/Imu", Kind::Value, 48, 8).unwrap();
        assert_eq!(other.with_len(), "robot/Imu");
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        #[derive(crate::Message, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        struct Flagged {
            is_set: [bool; 2],
            value: u8,
        }
        #[repr(align(8))]
        struct Aligned([u8; 48]);
        let Aligned(bytes) = Aligned([2; 48]);
        assert!(
            bool::view(&[2]).is_none() && <[bool; 2]>::view(&[1, 2]).is_none() && <[bool]>::view(&[1, 2]).is_none()
        );
        assert!(<[[bool; 2]]>::view(&[1, 0, 1, 2]).is_none() && <[[bool; 2]]>::view(&[1, 0, 1, 1]).is_some());
        assert!(Flagged::view(&[1, 2, 0]).is_none() && <[Flagged]>::view(&[1, 0, 2, 0, 2, 0]).is_none());
        assert!(Flagged::view(&[1, 0, 7]).is_some_and(|one| one.value == 7 && one.is_set == [true, false]));
        assert!(<[Flagged]>::view(&[1, 0, 7, 1, 1, 8]).is_some_and(|two| two[1].value == 8));
        // Length and alignment are checked always.
        assert!(<[u64]>::view(&bytes).is_some() && <[[u64; 3]]>::view(&bytes).is_some());
        assert!(<[u64; 6]>::view(&bytes).is_some() && <[[u64; 3]; 2]>::view(&bytes).is_some());
        assert!(<[u64; 5]>::view(&bytes).is_none() && <[u64]>::view(&bytes[..47]).is_none());
        assert!(<[u64]>::view(&bytes[4..44]).is_none() && <[[u64; 3]]>::view(&bytes[..40]).is_none());
        assert!(<[u8]>::view(&[]).is_some_and(<[u8]>::is_empty) && u32::view(&bytes[..5]).is_none());
    }

    #[test]
    fn names_from_regions_are_checked() {
        let mut bytes = [0; 64];
        assert_eq!(TypeName::from_region(bytes), None);
        bytes[0] = b'a';
        assert_eq!(TypeName::from_region(bytes).unwrap().as_str(), "a");
        bytes[2] = b'b';
        assert_eq!(TypeName::from_region(bytes), None, "NUL inside");
        assert_eq!(TypeName::from_region([b'x'; 64]).unwrap().as_str().len(), 64);
        assert_eq!(TypeName::from_region([0xff; 64]), None, "no UTF-8");
        assert_eq!(TypeName::from_region([b'\n'; 64]), None, "a control character");
    }
}
