//! Where messages are copied to.

use zerocopy::{FromBytes, IntoBytes};

/// A cache line of a copied payload: aligned for any message type.
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u64; 8]);

/// Where a message is copied to.
pub(crate) trait CopyTarget {
    /// Room for a message of `len` bytes; `None` if the target has another size, or too little.
    fn room(&mut self, len: usize) -> Option<&mut [u8]>;
}

impl CopyTarget for Vec<Line> {
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let lines = len.div_ceil(size_of::<Line>());
        if self.len() != lines {
            self.resize(lines, Line([0; 8]));
        }
        self.as_mut_slice().as_mut_bytes().get_mut(..len)
    }
}

/// Room for one message of known size.
pub(crate) struct Value<'a, T>(pub(crate) &'a mut T);

impl<T: FromBytes + IntoBytes> CopyTarget for Value<'_, T> {
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        (len == size_of::<T>()).then(|| self.0.as_mut_bytes())
    }
}

/// Memory of the caller, for a message of any length that fits.
pub(crate) struct Buffer<'a>(pub(crate) &'a mut [u8]);

impl CopyTarget for Buffer<'_> {
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.get_mut(..len)
    }
}
