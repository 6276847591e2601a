//! Messages as an iterator.

use std::fmt;
use std::iter::FusedIterator;

use super::{Sample, Subscriber};
use crate::error::RecvError;
use crate::message::Message;

/// The messages of a subscriber: see [`Subscriber::iter`].
#[must_use = "iterators receive nothing unless they are used"]
pub struct Iter<'a, T: ?Sized> {
    subscriber: &'a mut Subscriber<T>,
    has_ended: bool,
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// The messages as they come, each received as by [`recv`](Self::recv).
    ///
    /// Errors that are no end, such as [`Overdue`](RecvError::Overdue), are items like messages. It
    /// ends after [`PublisherGone`](RecvError::PublisherGone), or never if the subscriber
    /// [follows](super::SubscriberBuilder::follow) its topic. It also ends, without an error, when
    /// the subscriber is [stopped](super::SubscriberBuilder::stop).
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
    /// # let mut subscriber = conduit::Subscriber::<u64>::builder().domain(&domain).open("ticks")?;
    /// # publisher.send_batch(&[1, 2, 3])?;
    /// # drop(publisher);
    /// let ticks: Vec<u64> = subscriber.iter().flatten().map(|tick| *tick).collect();
    /// assert_eq!(ticks, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { subscriber: self, has_ended: false }
    }
}

impl<T: ?Sized + Message> Iterator for Iter<'_, T> {
    type Item = Result<Sample<T>, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.has_ended, || self.subscriber.recv())
    }
}

/// The next item of an iterator over messages, unless it `has_ended`.
pub(super) fn next<S>(
    has_ended: &mut bool,
    receive: impl FnOnce() -> Result<S, RecvError>,
) -> Option<Result<S, RecvError>> {
    if *has_ended {
        return None;
    }
    let received = receive();
    let is_stopped = matches!(received, Err(RecvError::Stopped { .. }));
    *has_ended = is_stopped || matches!(received, Err(RecvError::PublisherGone { .. } | RecvError::Forked));
    (!is_stopped).then_some(received)
}

impl<T: ?Sized + Message> FusedIterator for Iter<'_, T> {}

impl<'a, T: ?Sized + Message> IntoIterator for &'a mut Subscriber<T> {
    type Item = Result<Sample<T>, RecvError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: ?Sized> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(&self.subscriber).finish()
    }
}
