//! Many messages at once.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::Subscriber;
use super::sample::message_accessors;
use crate::Message;
use crate::error::RecvError;
use crate::ring::copy::Line;
use crate::ring::reader::{Reader, Received};
use crate::ring::slot::{Invalid, Lent, MappedRing, view_copy};

/// A message of a batch, lent until the function that it is passed to returns.
pub struct Borrowed<'a, T: ?Sized> {
    value: &'a T,
    message: Received,
}

impl<T: ?Sized> Borrowed<'_, T> {
    message_accessors!(
        |borrowed: &Self| borrowed.message.sequence,
        |borrowed: &Self| borrowed.message.lost,
        |borrowed: &Self| borrowed.message.stamp_ns
    );
}

impl<T: ?Sized> Deref for Borrowed<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Borrowed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives the messages that are there, `max` at most, and passes each to `each`. Returns how many.
    ///
    /// For high rates: the publisher's progress is not looked at, the own is told once for all of them, and a message is held no longer than
    /// `each` looks at it.
    /// What was lost is counted as exactly as by [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// As `try_recv`. A message that is no value of the type ends the batch after those before it.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
    /// # let mut subscriber = conduit::Subscriber::<u64>::builder().domain(&domain).open("ticks")?;
    /// for tick in 1..=4 {
    ///     publisher.send(&tick)?;
    /// }
    /// let mut sum = 0;
    /// assert_eq!(subscriber.try_recv_batch(100, |tick| sum += *tick)?, 4);
    /// assert_eq!(sum, 1 + 2 + 3 + 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&mut self, max: usize, mut each: impl FnMut(Borrowed<'_, T>)) -> Result<usize, RecvError> {
        let received = self.try_batch(max, &mut each)?;
        Ok(received.unwrap_or(0))
    }

    /// Receives the messages that are there, `max` at most, sleeping until there is one; see
    /// [`try_recv_batch`](Self::try_recv_batch).
    pub fn recv_batch(&mut self, max: usize, mut each: impl FnMut(Borrowed<'_, T>)) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        self.wait(|subscriber| subscriber.try_batch(max, &mut each))
    }

    /// The same, sleeping until there is one or the time is up.
    pub fn recv_batch_timeout(
        &mut self,
        max: usize,
        timeout: Duration,
        mut each: impl FnMut(Borrowed<'_, T>),
    ) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        self.wait_for(timeout, |subscriber| subscriber.try_batch(max, &mut each))
    }

    #[inline]
    fn try_batch(&mut self, max: usize, each: &mut impl FnMut(Borrowed<'_, T>)) -> Result<Option<usize>, RecvError> {
        let pins = self.pins;
        let mut invalid = None;
        let received = self.receive_with(|reader| {
            let count = match pins {
                Some(record) => lend_pinned(reader, record, max, each, &mut invalid),
                None => lend_copies(reader, max, each, &mut invalid),
            };
            (count > 0).then_some(count)
        })?;
        match invalid {
            None => Ok(received),
            Some(message) => Err(self.invalid(&message)),
        }
    }
}

#[inline]
fn lend_pinned<T: ?Sized + Message>(
    reader: &mut Reader<Arc<MappedRing>>,
    record: usize,
    max: usize,
    each: &mut impl FnMut(Borrowed<'_, T>),
    invalid: &mut Option<Received>,
) -> usize {
    reader.receive_batch(max, |reader| {
        let message = reader.receive_pinned_of_batch()?;
        match Lent::pinned(reader.memory(), record, &message) {
            Ok(lent) => each(Borrowed { value: &lent, message }),
            Err(Invalid) => *invalid = Some(message),
        }
        Some(invalid.is_none())
    })
}

fn lend_copies<T: ?Sized + Message>(
    reader: &mut Reader<Arc<MappedRing>>,
    max: usize,
    each: &mut impl FnMut(Borrowed<'_, T>),
    invalid: &mut Option<Received>,
) -> usize {
    let mut lines: Vec<Line> = Vec::new();
    reader.receive_batch(max, |reader| {
        let message = reader.receive_copy_of_batch(&mut lines)?;
        match view_copy(&lines, message.len) {
            Ok(value) => each(Borrowed { value, message }),
            Err(Invalid) => *invalid = Some(message),
        }
        Some(invalid.is_none())
    })
}
