//! Receiving messages that are lent to a function.

use std::time::Duration;

use super::{Borrowed, Subscriber};
use crate::Message;
use crate::error::RecvError;
use crate::mutation::mutated;
use crate::ring::attached::AttachedReader;
use crate::ring::copy::Line;
use crate::ring::reader::{CopyTo, Pin, Received};
use crate::ring::slot::sample::{LentMessage, view_copy};

impl<T: ?Sized + Message> Subscriber<T> {
    /// Passes the next message to `read`, if there is one, and returns what that returns.
    ///
    /// The message is held only while `read` runs. That spares the reference to the region that a
    /// [`Sample`](super::Sample) has, and a held slot cannot be forgotten. If `read` panics, the
    /// message is received and released all the same.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # use conduit::{Publisher, Subscriber};
    /// # let mut publisher = Publisher::<[f32]>::builder().domain(&domain).create("scan")?;
    /// # let mut subscriber = Subscriber::<[f32]>::builder().domain(&domain).open("scan")?;
    /// publisher.send(&[2.0, 0.5, 1.0])?;
    /// let nearest = subscriber.try_recv_with(|scan| scan.iter().copied().reduce(f32::min))?;
    /// assert_eq!(nearest, Some(Some(0.5)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv); `read` is not called then.
    #[inline(always)]
    pub fn try_recv_with<R>(&mut self, read: impl FnOnce(Borrowed<'_, T>) -> R) -> Result<Option<R>, RecvError> {
        self.lend_next(&mut Some(read))
    }

    /// Passes the next message to `read`, sleeping until there is one; see
    /// [`try_recv_with`](Self::try_recv_with).
    #[inline]
    pub fn recv_with<R>(&mut self, read: impl FnOnce(Borrowed<'_, T>) -> R) -> Result<R, RecvError> {
        let mut read = Some(read);
        self.wait(|subscriber| subscriber.lend_next(&mut read), |_| None)
    }

    /// Passes the next message to `read`, sleeping until there is one or the timeout expires.
    pub fn recv_with_timeout<R>(
        &mut self,
        timeout: Duration,
        read: impl FnOnce(Borrowed<'_, T>) -> R,
    ) -> Result<R, RecvError> {
        let mut read = Some(read);
        self.wait_for(timeout, |subscriber| subscriber.lend_next(&mut read), |_| None)
    }

    #[inline(always)]
    fn lend_next<R, F: FnOnce(Borrowed<'_, T>) -> R>(&mut self, read: &mut Option<F>) -> Result<Option<R>, RecvError> {
        // The common case, as in `try_recv`.
        if let Some(record) = self.pins
            && let AttachedReader::Writable(reader) = &mut self.reader
            && (self.beacon.is_none() || mutated!(lend_past_beacon))
            && (!reader.memory().is_foreign() || mutated!(lend_in_child))
            && (self.share.has_room() || mutated!(lend_past_share))
            && let Some(message) = reader.receive(&mut Pin { record })
        {
            return self.lend_pinned(record, message, read);
        }
        self.check_and_lend(read)
    }

    #[inline(never)]
    fn check_and_lend<R, F: FnOnce(Borrowed<'_, T>) -> R>(
        &mut self,
        read: &mut Option<F>,
    ) -> Result<Option<R>, RecvError> {
        if let Some(record) = self.pins {
            return match self.receive_with(&mut Pin { record })? {
                Some(message) => self.lend_pinned(record, message, read),
                None => Ok(None),
            };
        }
        let mut lines: Vec<Line> = Vec::new();
        let Some(message) = self.receive_with(&mut CopyTo(&mut lines))? else { return Ok(None) };
        match view_copy(&lines, message.len) {
            Ok(value) if self.admits(&message) => Ok(read.take().map(|read| read(Borrowed { value, message }))),
            _ => Err(self.invalid(&message)),
        }
    }

    #[inline(always)]
    fn lend_pinned<R, F: FnOnce(Borrowed<'_, T>) -> R>(
        &self,
        record: usize,
        message: Received,
        read: &mut Option<F>,
    ) -> Result<Option<R>, RecvError> {
        // Only a reader of writable memory pins.
        let AttachedReader::Writable(reader) = &self.reader else { return Ok(None) };
        match LentMessage::pinned(reader.memory(), record, &message) {
            Ok(lent) if self.admits(&message) => Ok(read.take().map(|read| read(Borrowed { value: &lent, message }))),
            _ => Err(self.invalid(&message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use crate::{Domain, Kind, Message, Publisher, RecvError, Subscriber, TypeInfo};

    #[test]
    fn a_message_is_lent_once_and_released() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let mut publisher = Publisher::<[u64]>::builder().domain(&domain).slots(2).create("ticks").unwrap();
        for copies in [false, true] {
            let builder = Subscriber::<[u64]>::builder().domain(&domain).copy_samples(copies);
            let mut subscriber = builder.open("ticks").unwrap();
            assert_eq!(subscriber.try_recv_with(|_| unreachable!("there is none")).unwrap(), None::<()>);
            let timed_out = subscriber.recv_with_timeout(Duration::ZERO, |_| unreachable!("there is none"));
            assert!(matches!(timed_out, Err::<(), _>(RecvError::TimedOut { .. })));
            // More than there are slots: none stays held.
            for tick in 0..5 {
                publisher.send(&[tick, 7]).unwrap();
                let lent = subscriber.recv_with(|ticks| (ticks[0], ticks.len(), ticks.lost())).unwrap();
                assert_eq!(lent, (tick, 2, 0));
                publisher.send(&[tick]).unwrap();
                let panicked = catch_unwind(AssertUnwindSafe(|| subscriber.recv_with(|_| panic!("in the reader"))));
                assert!(panicked.is_err());
            }
            assert_eq!((subscriber.received(), subscriber.lost()), (10, 0));
        }
    }

    #[test]
    fn a_length_of_no_value_is_not_lent() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let pair = TypeInfo::new("test/Pair", Kind::Value, 8, 4).unwrap();
        let publisher = Publisher::<[u8]>::builder().domain(&domain).message_type(pair);
        let mut publisher = publisher.create("pairs").unwrap();
        for copies in [false, true] {
            let builder = Subscriber::<[u8]>::builder().domain(&domain).message_type(pair).copy_samples(copies);
            let mut subscriber = builder.open("pairs").unwrap();
            let mut loan = publisher.loan_slice(8).unwrap();
            loan.truncate(7);
            loan.publish();
            let lent = subscriber.try_recv_with(|_| unreachable!("it is no pair"));
            assert!(matches!(lent, Err::<Option<()>, _>(RecvError::Invalid { .. })));
            publisher.send(&[1; 8]).unwrap();
            assert_eq!(subscriber.try_recv_with(|pair| pair.len()).unwrap(), Some(8));
        }
    }

    #[test]
    fn bytes_that_are_no_slice_are_released() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let publisher = Publisher::<[u8]>::builder().domain(&domain).message_type(<[u64]>::TYPE).slots(4);
        let mut publisher = publisher.create("words").unwrap();
        let mut subscriber = Subscriber::<[u64]>::builder().domain(&domain).open("words").unwrap();
        // More than there are slots: none stays held.
        for _ in 0..8 {
            let mut loan = publisher.loan_slice(8).unwrap();
            loan.truncate(7);
            loan.publish();
            let lent = subscriber.try_recv_with(|_| unreachable!("it is no word"));
            assert!(matches!(lent, Err::<Option<()>, _>(RecvError::Invalid { .. })));
        }
    }
}
