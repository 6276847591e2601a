//! Receiving the newest message: for control loops, which need the present state and no history.

use zerocopy::FromBytes;

use super::{Copied, Sample, Subscriber};
use crate::Message;
use crate::error::RecvError;
use crate::ring::copy::{Line, Value};
use crate::ring::reader::{CopyTo, Newest, Pin};

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives the newest message, and skips those before it. `None`: there is none that is newer
    /// than the last one received.
    ///
    /// For loops with a rhythm of their own that act on the present state. Messages that are passed
    /// over count as [`skipped`](Self::skipped) and not as [`lost`](Self::lost), also if they had
    /// been overwritten. However far behind the subscriber is, this takes about as long as
    /// [`try_recv`](Self::try_recv); it allocates no memory if samples are
    /// [read in place](Self::is_zero_copy), and makes a system call only while there is no message,
    /// twice a second, to check that the publisher lives. The publisher never waits for it.
    ///
    /// The first message is the first one published after the topic was opened; with
    /// [`Start::Latest`](crate::Start::Latest) it may be the last one published before.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # use conduit::{Publisher, Subscriber};
    /// # let mut publisher = Publisher::<f64>::builder().domain(&domain).create("speed")?;
    /// # let mut subscriber = Subscriber::<f64>::builder().domain(&domain).open("speed")?;
    /// for speed in [0.1, 0.2, 0.3] {
    ///     publisher.send(&speed)?;
    /// }
    /// let speed = subscriber.latest()?.expect("three were sent");
    /// assert_eq!((*speed, speed.sequence(), speed.lost()), (0.3, 2, 0));
    /// assert_eq!((subscriber.skipped(), subscriber.lost()), (2, 0));
    /// assert!(subscriber.latest()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv). A topic that has ended is reported once its last
    /// message was received.
    pub fn latest(&mut self) -> Result<Option<Sample<T>>, RecvError> {
        let mut lines: Vec<Line> = Vec::new();
        let received = match self.pins {
            Some(record) => self.receive_with(&mut Newest(Pin { record }))?,
            None => self.receive_with(&mut Newest(CopyTo(&mut lines)))?,
        };
        received.map(|message| self.sample(&message, lines)).transpose()
    }
}

impl<T: Message + FromBytes> Subscriber<T> {
    /// Receives a copy of the newest message, and skips those before it: see
    /// [`latest`](Self::latest) and [`try_recv_copy`](Self::try_recv_copy). Allocates no memory.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # use conduit::{Publisher, Start, Subscriber};
    /// # let mut publisher = Publisher::<f64>::builder().domain(&domain).create("speed")?;
    /// # let subscriber = Subscriber::<f64>::builder().domain(&domain).start(Start::Latest);
    /// # let mut subscriber = subscriber.open("speed")?;
    /// # publisher.send(&0.1)?;
    /// let mut speed = 0.0;
    /// for _ in 0..3 {
    ///     if let Some(newer) = subscriber.latest_copy()? {
    ///         speed = *newer;
    ///     }
    ///     // Act on the speed, new or not.
    ///     # assert_eq!(speed, 0.1);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`latest`](Self::latest).
    pub fn latest_copy(&mut self) -> Result<Option<Copied<T>>, RecvError> {
        let mut value = T::new_zeroed();
        let received = self.receive_with(&mut Newest(CopyTo(&mut Value(&mut value))))?;
        received.map(|message| self.copied(value, &message)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Domain, Gone, Publisher, RecvError, Subscriber};

    /// The newest message of a subscriber, by either call.
    fn newest(subscriber: &mut Subscriber<u64>, by_copy: bool) -> Option<(u64, u64)> {
        if by_copy {
            subscriber.latest_copy().unwrap().map(|copied| (*copied, copied.lost()))
        } else {
            subscriber.latest().unwrap().map(|sample| (*sample, sample.lost()))
        }
    }

    /// In place, as copies that samples hold, and as copies.
    const FORMS: [(bool, bool); 3] = [(false, false), (true, false), (false, true)];

    #[test]
    fn what_lies_before_the_newest_message_is_skipped_and_not_lost() {
        for (copies, by_copy) in FORMS {
            let directory = tempfile::tempdir_in("/dev/shm").unwrap();
            let domain = Domain::new(directory.path()).without_registry();
            let mut publisher = Publisher::<u64>::builder().domain(&domain).slots(4).create("ticks").unwrap();
            let mut subscriber =
                Subscriber::<u64>::builder().domain(&domain).copy_samples(copies).open("ticks").unwrap();
            let counts = |it: &Subscriber<u64>| (it.received(), it.lost(), it.skipped());
            assert_eq!(newest(&mut subscriber, by_copy), None);
            (0..3).for_each(|tick| publisher.send(&tick).unwrap());
            assert_eq!(newest(&mut subscriber, by_copy), Some((2, 0)));
            assert_eq!(newest(&mut subscriber, by_copy), None);
            assert_eq!(counts(&subscriber), (1, 0, 2));
            // Overwritten or not.
            (3..20).for_each(|tick| publisher.send(&tick).unwrap());
            assert_eq!(newest(&mut subscriber, by_copy), Some((19, 0)));
            assert_eq!(counts(&subscriber), (2, 0, 18));
            // Beside calls that lose them.
            (20..30).for_each(|tick| publisher.send(&tick).unwrap());
            assert_eq!(subscriber.try_recv().unwrap().map(|sample| (*sample, sample.lost())), Some((27, 7)));
            assert_eq!(newest(&mut subscriber, by_copy), Some((29, 0)));
            assert_eq!(counts(&subscriber), (4, 7, 19));
            publisher.send(&30).unwrap();
            drop(publisher);
            assert_eq!(newest(&mut subscriber, by_copy), Some((30, 0)));
            let end = subscriber.latest().map(|_| ()).unwrap_err();
            assert!(matches!(end, RecvError::PublisherGone { how: Gone::Closed, .. }));
            assert_eq!(counts(&subscriber), (5, 7, 19));
        }
    }

    #[test]
    fn the_newest_message_is_found_whose_ring_is_held() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let mut publisher = Publisher::<u64>::builder().domain(&domain).slots(4).create("ticks").unwrap();
        let [mut holder, mut subscriber] =
            [0, 1].map(|_| Subscriber::<u64>::builder().domain(&domain).max_held(3).open("ticks").unwrap());
        (0..3).for_each(|tick| publisher.send(&tick).unwrap());
        let held: Vec<_> = (0..3).map(|_| holder.recv().unwrap()).collect();
        // One slot is left, for every message from now on.
        for tick in 3..100 {
            publisher.send(&tick).unwrap();
            if tick % 7 == 0 {
                assert_eq!(newest(&mut subscriber, false), Some((tick, 0)));
            }
        }
        assert_eq!((subscriber.received(), subscriber.lost()), (14, 0));
        assert_eq!(held.iter().map(|sample| **sample).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn the_newest_message_of_a_batch_is_the_last_one() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
        let mut subscriber = Subscriber::<u64>::builder().domain(&domain).open("ticks").unwrap();
        let ready = subscriber.ready_fd().unwrap();
        assert_eq!(publisher.send_batch(&[0, 1, 2, 3, 4]).unwrap(), 5);
        assert_eq!(newest(&mut subscriber, false), Some((4, 0)));
        let mut descriptors = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&ready), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut descriptors, nix::poll::PollTimeout::ZERO).unwrap(), 0, "nothing is left");
    }
}
