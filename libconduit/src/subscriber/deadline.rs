//! A deadline: learning that no message comes.

use std::time::Duration;

use super::SubscriberBuilder;

impl<T: ?Sized> SubscriberBuilder<T> {
    /// Reports when no message has come for this long.
    ///
    /// The first call that finds no message after that returns
    /// [`Overdue`](crate::RecvError::Overdue), once per silence: the subscriber is as it was, and
    /// the next call waits on. [`recv_event`](crate::Subscriber::recv_event) returns
    /// [`TopicEvent::Overdue`](crate::TopicEvent::Overdue) instead, and
    /// [`Resumed`](crate::TopicEvent::Resumed) before the message that ends the silence. Calls that
    /// sleep, [wait sets](crate::WaitSet), futures and [descriptors](crate::ReadyFd) wake for it,
    /// without another thread. A message costs nothing more; looking in vain reads the clock.
    ///
    /// A silence begins with the time stamp of the last message, or when the topic was opened. Of
    /// a publisher without [time stamps](crate::PublisherBuilder::time_stamps) it begins with the
    /// first look that finds no message after the last one. With
    /// [`follow`](SubscriberBuilder::follow), it lasts while there is no publisher and until the
    /// first message of the next one. Time that the machine is suspended for does not count.
    ///
    /// `Duration::MAX`, or anything that the clock will not reach, never passes; zero is an error
    /// of [`open`](Self::open). A deadline that is shorter than the one that the
    /// [publisher](crate::PublisherBuilder::deadline) keeps reports a silence between messages.
    ///
    /// A watchdog on silence:
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # fn stop_motors() {}
    /// use std::time::Duration;
    ///
    /// use conduit::{RecvError, Subscriber};
    ///
    /// let imu = Subscriber::<f64>::builder().follow().deadline(Duration::from_millis(100));
    /// # let imu = imu.domain(&domain);
    /// for measured in imu.open("imu")?.iter() {
    ///     if let Err(RecvError::Overdue { .. }) = measured { stop_motors() }
    ///     # break;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }
}

#[cfg(test)]
mod tests;
