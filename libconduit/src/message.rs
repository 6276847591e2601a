//! Which types can be messages, and how a region names them.

use std::fmt;

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::shape::{Element, Shape};

/// A type that can be sent: its bytes mean the same in every process, and a region can name it.
///
/// Derive it together with the zerocopy traits; they reject padding and pointers at compile time. `#[zerocopy(crate = ...)]` makes
/// a dependency of your own on zerocopy unnecessary. Implemented for the
/// primitive numbers, arrays of messages and slices of messages; `[u8]` is the type for raw bytes.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Conduit message",
    note = "add `#[derive(conduit::Message, FromBytes, IntoBytes, KnownLayout, Immutable)]` and `#[repr(C)]` to the type"
)]
pub trait Message: TryFromBytes + IntoBytes + KnownLayout + Immutable {
    /// What a region says of this type; publisher and subscriber must agree on all of it.
    const TYPE: TypeInfo;

    /// What its bytes mean, for tools that show messages of types they do not know; for a slice, that of an element.
    fn shape() -> Shape {
        Shape::bytes(Self::TYPE.size)
    }
}

/// Whether a message is one value or any number of them.
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
    /// The name, not Rust's own name of the type, identifies it: it stays the same across builds and languages.
    ///
    /// # Panics
    ///
    /// At compile time, when used as intended for [`Message::TYPE`]: if the name is empty, longer than 64 bytes or
    /// contains NUL, or if the type is aligned to more than 64 bytes.
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

    const fn array_of<T>(element: Self) -> Self {
        Self { size: size_of::<T>() as u64, ..element }
    }

    /// The name, without the brackets of a slice.
    pub fn name(&self) -> &str {
        self.name.as_str()
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Value => f.write_str(self.name()),
            Kind::Slice => write!(f, "[{}]", self.name()),
        }
    }
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

    /// `None` if a peer wrote something that is no name.
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

macro_rules! primitive_messages {
    ($($primitive:ident $element:ident,)*) => {$(
        impl Message for $primitive {
            const TYPE: TypeInfo = TypeInfo::value::<Self>(stringify!($primitive));

            fn shape() -> Shape {
                Shape::one(Element::$element)
            }
        }
    )*};
}
primitive_messages!(
    bool Bool, u8 U8, u16 U16, u32 U32, u64 U64, i8 I8, i16 I16, i32 I32, i64 I64, f32 F32, f64 F64,
);

impl<T: Message, const N: usize> Message for [T; N] {
    const TYPE: TypeInfo = TypeInfo::array_of::<Self>(T::TYPE);

    fn shape() -> Shape {
        T::shape().array(N)
    }
}

impl<T: Message> Message for [T] {
    const TYPE: TypeInfo = TypeInfo::slice_of(T::TYPE);

    fn shape() -> Shape {
        T::shape()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart_by_name_kind_and_size() {
        assert_ne!(u8::TYPE, i8::TYPE);
        assert_ne!(u8::TYPE, <[u8]>::TYPE);
        assert_ne!(<[u8; 3]>::TYPE, <[u8; 4]>::TYPE);
        assert_eq!(<[u8; 3]>::TYPE.to_string(), "u8");
        assert_eq!(<[[f32; 3]]>::TYPE.size(), 12);
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
