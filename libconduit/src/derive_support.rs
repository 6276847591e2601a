//! What `#[derive(Message)]` expands to: internal.

use std::marker::PhantomData;

use crate::message::Message;
use crate::shape::Shape;

/// The shape of any type, whether it is a message or not.
#[derive(Debug)]
pub struct Of<T>(PhantomData<T>);

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
