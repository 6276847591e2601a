//! Many messages at once.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::Subscriber;
use super::sample::message_accessors;
use crate::Message;
use crate::error::RecvError;
use crate::mutation::step;
use crate::ring::attached::{AttachedMode, AttachedReader};
use crate::ring::copy::Line;
use crate::ring::reader::{CopyTo, Pin, Received};
use crate::ring::slot::sample::{Invalid, LentMessage, view_copy};

/// A message that is lent, until the function that it is passed to returns.
pub struct Borrowed<'a, T: ?Sized> {
    pub(super) value: &'a T,
    pub(super) message: Received,
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
    /// Receives up to `max` messages that have arrived, and passes each to `each`. Returns their
    /// number.
    ///
    /// For high rates: the subscriber publishes its own progress once per batch, and holds each
    /// message only while `each` runs. Loss is counted as exactly as by
    /// [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// As for `try_recv`. A message that is not a valid value of the type ends the batch after
    /// those before it.
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

    /// Receives up to `max` messages, sleeping until there is one; see
    /// [`try_recv_batch`](Self::try_recv_batch).
    pub fn recv_batch(&mut self, max: usize, mut each: impl FnMut(Borrowed<'_, T>)) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        self.wait(|subscriber| subscriber.try_batch(max, &mut each), |_| None)
    }

    /// Receives up to `max` messages, sleeping until there is one or the timeout expires.
    pub fn recv_batch_timeout(
        &mut self,
        max: usize,
        timeout: Duration,
        mut each: impl FnMut(Borrowed<'_, T>),
    ) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        self.wait_for(timeout, |subscriber| subscriber.try_batch(max, &mut each), |_| None)
    }

    #[inline]
    fn try_batch(&mut self, max: usize, each: &mut impl FnMut(Borrowed<'_, T>)) -> Result<Option<usize>, RecvError> {
        if max == 0 {
            return Ok(None);
        }
        if let Some(record) = self.pins {
            self.batch(&mut Pin { record }, max, |reader, _, message| {
                let AttachedReader::Writable(reader) = reader else { return Err(Invalid) };
                let lent = LentMessage::pinned(reader.memory(), record, &message)?;
                each(Borrowed { value: &lent, message });
                Ok(())
            })
        } else {
            let mut lines: Vec<Line> = Vec::new();
            self.batch(&mut CopyTo(&mut lines), max, |_, copy, message| {
                each(Borrowed { value: view_copy(copy.0, message.len)?, message });
                Ok(())
            })
        }
    }

    /// Passes up to `max` messages to `lend`, the first of which may be the end. `None`: there was
    /// no message.
    #[inline(always)]
    fn batch<M: AttachedMode>(
        &mut self,
        mode: &mut M,
        max: usize,
        mut lend: impl FnMut(&AttachedReader, &M, Received) -> Result<(), Invalid>,
    ) -> Result<Option<usize>, RecvError> {
        let Some(mut message) = self.receive_with(mode)? else { return Ok(None) };
        let mut count = 1;
        loop {
            let lent = lend(&self.reader, mode, message);
            if lent.is_ok()
                && count < max
                && let Some(next) = self.reader.receive_next(mode)
            {
                message = next;
                count += 1;
                continue;
            }
            step!(batch_progress, self.reader.note_progress());
            if self.beacon.is_some() {
                step!(batch_beacon, self.settle_beacon(None));
            }
            return if lent.is_ok() { Ok(Some(count)) } else { Err(self.invalid(&message)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Domain, Publisher, Subscriber};

    #[test]
    fn an_empty_batch_returns_while_a_message_waits() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
        for copies in [false, true] {
            let builder = Subscriber::<u64>::builder().domain(&domain).copy_samples(copies);
            let mut subscriber = builder.open("ticks").unwrap();
            publisher.send(&7).unwrap();
            assert_eq!(subscriber.try_recv_batch(0, |_| unreachable!("a batch of none")).unwrap(), 0);
            assert_eq!(subscriber.try_recv_batch(1, |tick| assert_eq!(*tick, 7)).unwrap(), 1);
        }
    }

    #[test]
    fn a_batch_holds_no_slot_when_it_returns() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
        let mut subscriber = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        // More than any ring has slots.
        for tick in 0..2000 {
            publisher.send(&tick).unwrap();
            assert_eq!(subscriber.try_recv_batch(1, |found| assert_eq!(*found, tick)).unwrap(), 1);
        }
    }
}
