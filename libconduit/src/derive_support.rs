//! What `#[derive(Message)]` expands to: internal.

use std::marker::PhantomData;
use std::num::{NonZero, Wrapping};

use zerocopy::{FromBytes, Immutable, KnownLayout, TryFromBytes, Unalign, byteorder};

use crate::message::Message;
use crate::shape::Shape;

/// The shape of any type, whether it is a message or not.
#[derive(Debug)]
pub struct Of<T>(PhantomData<T>);

impl<T: FromBytes + KnownLayout + Immutable> Of<T> {
    /// See [`Message::view`]. All bytes are valid.
    #[inline(always)]
    pub fn view(bytes: &[u8]) -> Option<&T> {
        T::ref_from_bytes(bytes).ok()
    }

    /// See [`Message::view_slice`]. All bytes are valid.
    #[inline(always)]
    pub fn view_slice(bytes: &[u8]) -> Option<&[T]> {
        // With the number of elements, for types of size 0 have no other.
        <[T]>::ref_from_bytes_with_elems(bytes, bytes.len().checked_div(size_of::<T>()).unwrap_or(0)).ok()
    }
}

/// How types are viewed of which some bytes are not valid.
pub trait Checked: Sized {
    /// See [`Message::view`].
    fn view(bytes: &[u8]) -> Option<&Self::Viewed>;

    /// See [`Message::view_slice`].
    fn view_slice(bytes: &[u8]) -> Option<&[Self::Viewed]>;

    /// The type that `Of` stands for.
    type Viewed;
}

impl<T: TryFromBytes + KnownLayout + Immutable> Checked for Of<T> {
    type Viewed = T;

    #[inline(always)]
    fn view(bytes: &[u8]) -> Option<&T> {
        T::try_ref_from_bytes(bytes).ok()
    }

    #[inline(always)]
    fn view_slice(bytes: &[u8]) -> Option<&[T]> {
        <[T]>::try_ref_from_bytes_with_elems(bytes, bytes.len().checked_div(size_of::<T>()).unwrap_or(0)).ok()
    }
}

impl<T: Message> Of<T> {
    /// The shape of a message type. Method resolution prefers this inherent function to that of
    /// [`Unknown`].
    pub fn shape() -> Shape {
        T::shape()
    }
}

/// The shape of types that are not messages: their bytes.
pub trait Unknown {
    /// The shape.
    fn shape() -> Shape;
}

impl<T> Unknown for Of<T> {
    fn shape() -> Shape {
        Shape::bytes(size_of::<T>() as u64)
    }
}

/// A type whose layout is the same in all programs. It says nothing of what its bytes mean.
#[diagnostic::on_unimplemented(
    message = "the layout of `{Self}` is up to the compiler, so it cannot be a field of a message",
    note = "derive `conduit::Message` for it, with `#[repr(C)]`; or, if it has a fixed layout already, mark the field with `#[message(fixed_layout)]`"
)]
pub trait FixedLayout {}

/// Compiles if the layout of the type is fixed.
pub const fn has_fixed_layout<T: FixedLayout>() {}

macro_rules! fixed {
    ($($fixed:ty)*) => {$(impl FixedLayout for $fixed {})*};
}
fixed!(bool u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);
// No messages, since they have no names that other languages know.
fixed!(u128 i128 usize isize char);

macro_rules! fixed_non_zero {
    ($($number:ty)*) => {$(
        impl FixedLayout for NonZero<$number> {}
        // It is documented that zero stands for `None`.
        impl FixedLayout for Option<NonZero<$number>> {}
    )*};
}
fixed_non_zero!(u8 u16 u32 u64 i8 i16 i32 i64 u128 i128 usize isize);

macro_rules! fixed_of {
    ($($fixed:ident)*) => {$(impl<O> FixedLayout for byteorder::$fixed<O> {})*};
}
fixed_of!(U16 U32 U64 U128 I16 I32 I64 I128 F32 F64);

impl FixedLayout for () {}
impl<T: FixedLayout, const N: usize> FixedLayout for [T; N] {}
impl<T: FixedLayout> FixedLayout for Wrapping<T> {}
impl<T: FixedLayout> FixedLayout for Unalign<T> {}
impl<T: ?Sized> FixedLayout for PhantomData<T> {}
