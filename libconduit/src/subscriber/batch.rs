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
            self.batch(&mut Pin { record }, max, |subscriber, _, message| {
                let AttachedReader::Writable(reader) = &subscriber.reader else { return Err(Invalid) };
                let lent = LentMessage::pinned(reader.memory(), record, &message)?;
                subscriber.check_len(&message)?;
                each(Borrowed { value: &lent, message });
                Ok(())
            })
        } else {
            let mut lines: Vec<Line> = Vec::new();
            self.batch(&mut CopyTo(&mut lines), max, |subscriber, copy, message| {
                let value = view_copy(copy.0, message.len)?;
                subscriber.check_len(&message)?;
                each(Borrowed { value, message });
                Ok(())
            })
        }
    }

    #[inline(always)]
    fn check_len(&self, message: &Received) -> Result<(), Invalid> {
        if self.admits(message) { Ok(()) } else { Err(Invalid) }
    }

    /// Passes up to `max` messages to `lend`, the first of which may be the end. `None`: there was
    /// no message.
    #[inline(always)]
    fn batch<M: AttachedMode>(
        &mut self,
        mode: &mut M,
        max: usize,
        mut lend: impl FnMut(&Self, &M, Received) -> Result<(), Invalid>,
    ) -> Result<Option<usize>, RecvError> {
        let Some(mut message) = self.receive_with(mode)? else { return Ok(None) };
        let mut count = 1;
        loop {
            let lent = lend(self, mode, message);
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
    use crate::{Domain, Kind, Publisher, RecvError, Subscriber, TypeInfo};

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
    fn a_length_of_no_value_ends_a_batch_and_is_released() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let pair = TypeInfo::new("test/Pair", Kind::Value, 8, 4).unwrap();
        let publisher = Publisher::<[u8]>::builder().domain(&domain).message_type(pair).slots(4);
        let mut publisher = publisher.create("pairs").unwrap();
        for copies in [false, true] {
            let builder = Subscriber::<[u8]>::builder().domain(&domain).message_type(pair).copy_samples(copies);
            let mut subscriber = builder.open("pairs").unwrap();
            let is_refused = |result| matches!(result, Err(RecvError::Invalid { .. }));
            // More than there are slots: none stays held.
            for _ in 0..8 {
                publisher.send(&[1; 8]).unwrap();
                let mut loan = publisher.loan_slice(8).unwrap();
                loan.truncate(7);
                loan.publish();
                publisher.send(&[2; 8]).unwrap();
                let mut lens = Vec::new();
                assert!(is_refused(subscriber.try_recv_batch(9, |pair| lens.push(pair.len()))));
                assert_eq!(lens, [8], "what was before it");
                assert_eq!(subscriber.try_recv_batch(9, |pair| assert_eq!(*pair, [2; 8])).unwrap(), 1);
                let mut loan = publisher.loan_slice(8).unwrap();
                loan.truncate(0);
                loan.publish();
                let second = std::time::Duration::from_secs(1);
                assert!(is_refused(subscriber.recv_batch_timeout(9, second, |_| unreachable!("it is no pair"))));
            }
            assert_eq!((subscriber.received(), subscriber.lost()), (32, 0));
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
