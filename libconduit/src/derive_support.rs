//! What `#[derive(Message)]` expands to: internal.

use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, KnownLayout, TryFromBytes};

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
