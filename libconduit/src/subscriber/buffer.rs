//! Receiving copies of messages of any length into memory of the caller.

use std::time::Duration;

use super::{Copied, Subscriber};
use crate::error::RecvError;
use crate::ring::copy::Buffer;
use crate::ring::reader::{CopyTo, Newest, Received};

impl Subscriber<[u8]> {
    /// Copies the next message to the beginning of `buffer`, if there is one, and returns its
    /// length. Allocates no memory.
    ///
    /// For messages of up to a few hundred bytes this is faster than reading them in place; see
    /// [`try_recv_copy`](Subscriber::try_recv_copy), which does the same for types of fixed size.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # use conduit::{Publisher, Subscriber};
    /// # let mut publisher = Publisher::<[u8]>::builder().domain(&domain).create("log")?;
    /// # let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).open("log")?;
    /// publisher.send(b"ready")?;
    /// let mut buffer = [0; 128];
    /// let len = subscriber.try_recv_into(&mut buffer)?.expect("it was just sent");
    /// assert_eq!(&buffer[..*len], b"ready");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Subscriber::try_recv), and [`TooLong`](RecvError::TooLong).
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Option<Copied<usize>>, RecvError> {
        let received = self.receive_with(&mut CopyTo(&mut Buffer(buffer)))?;
        received.map(|message| self.copied_into(buffer.len(), &message)).transpose()
    }

    /// Copies the newest message to the beginning of `buffer`, and skips those before it: see
    /// [`latest`](Subscriber::latest) and [`try_recv_into`](Self::try_recv_into).
    ///
    /// # Errors
    ///
    /// As for [`try_recv_into`](Self::try_recv_into).
    pub fn latest_into(&mut self, buffer: &mut [u8]) -> Result<Option<Copied<usize>>, RecvError> {
        let received = self.receive_with(&mut Newest(CopyTo(&mut Buffer(buffer))))?;
        received.map(|message| self.copied_into(buffer.len(), &message)).transpose()
    }

    /// Copies the next message to the beginning of `buffer`, sleeping until there is one; see
    /// [`try_recv_into`](Self::try_recv_into).
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Copied<usize>, RecvError> {
        self.wait(|subscriber| subscriber.try_recv_into(buffer), Copied::stamp_ns)
    }

    /// Copies the next message to the beginning of `buffer`, sleeping until there is one or the
    /// timeout expires; see [`try_recv_into`](Self::try_recv_into).
    pub fn recv_into_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Copied<usize>, RecvError> {
        self.wait_for(timeout, |subscriber| subscriber.try_recv_into(buffer), Copied::stamp_ns)
    }

    fn copied_into(&self, capacity: usize, message: &Received) -> Result<Copied<usize>, RecvError> {
        let &Received { sequence, len, .. } = message;
        if !self.admits(message) {
            Err(self.invalid(message))
        } else if len > capacity {
            Err(RecvError::TooLong { topic: self.topic.clone(), sequence, len, capacity })
        } else {
            Ok(Copied::new(len, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Domain, Gone, Kind, Publisher, RecvError, Subscriber, TypeInfo};

    #[test]
    fn messages_of_any_length_are_copied_or_too_long() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        for copies in [false, true] {
            let mut publisher = Publisher::<[u8]>::builder().domain(&domain).slots(4).create("log").unwrap();
            let builder = Subscriber::<[u8]>::builder().domain(&domain).copy_samples(copies);
            let mut subscriber = builder.open("log").unwrap();
            let mut buffer = [b'.'; 8];
            assert!(subscriber.try_recv_into(&mut buffer).unwrap().is_none());
            let timed_out = subscriber.recv_into_timeout(&mut buffer, Duration::ZERO).unwrap_err();
            assert!(matches!(timed_out, RecvError::TimedOut { .. }));
            // More than there are slots: none stays held.
            for number in 0..10 {
                publisher.send(b"ready").unwrap();
                let copied = subscriber.recv_into(&mut buffer).unwrap();
                assert_eq!((*copied, copied.sequence(), copied.lost()), (5, 3 * number, 0));
                assert!(copied.stamp_ns().is_some());
                assert_eq!(&buffer, b"ready...");
                publisher.send(b"123456789").unwrap();
                let too_long = subscriber.try_recv_into(&mut buffer).unwrap_err();
                assert!(too_long.to_string().contains("has 9 bytes, the buffer 8"), "{too_long}");
                publisher.send(b"").unwrap();
                assert_eq!(*subscriber.try_recv_into(&mut []).unwrap().unwrap(), 0);
            }
            assert_eq!((subscriber.received(), subscriber.lost()), (30, 0));
            (0..9).for_each(|number| publisher.send(&[number; 8]).unwrap());
            assert_eq!(*subscriber.latest_into(&mut buffer).unwrap().unwrap(), 8);
            assert_eq!((buffer, subscriber.skipped()), ([8; 8], 8));
            assert!(subscriber.latest_into(&mut buffer).unwrap().is_none());
            drop(publisher);
            let gone = subscriber.recv_into(&mut buffer).unwrap_err();
            assert!(matches!(gone, RecvError::PublisherGone { how: Gone::Closed, .. }));
        }
    }

    #[test]
    fn a_length_of_no_value_is_not_copied() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let pair = TypeInfo::new("test/Pair", Kind::Value, 8, 4).unwrap();
        let publisher = Publisher::<[u8]>::builder().domain(&domain).message_type(pair);
        let mut publisher = publisher.create("pairs").unwrap();
        let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).message_type(pair).open("pairs").unwrap();
        for latest in [false, true] {
            let mut loan = publisher.loan_slice(8).unwrap();
            loan.truncate(7);
            loan.publish();
            let mut buffer = [0; 8];
            let copied =
                if latest { subscriber.latest_into(&mut buffer) } else { subscriber.try_recv_into(&mut buffer) };
            assert!(matches!(copied, Err(RecvError::Invalid { .. })));
        }
    }
}
