//! Receiving by copy: for small messages the fastest way.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use zerocopy::FromBytes;

use super::Subscriber;
use super::sample::message_accessors;
use crate::Message;
use crate::error::RecvError;
use crate::mutation::mutated;
use crate::ring::attached::AttachedReader;
use crate::ring::copy::Value;
use crate::ring::reader::{CopyTo, Received};

/// A message that was copied out of its slot: no other process can see or change it, and the
/// publisher can reuse the slot.
#[derive(Clone, Copy)]
#[must_use = "a message that is dropped unread is received all the same"]
pub struct Copied<T> {
    value: T,
    sequence: u64,
    lost: u64,
    stamp_ns: u64,
}

impl<T> Copied<T> {
    message_accessors!(|copied: &Self| copied.sequence, |copied: &Self| copied.lost, |copied: &Self| copied.stamp_ns);

    #[inline(always)]
    pub(super) fn new(value: T, message: &Received) -> Self {
        let &Received { sequence, lost, stamp_ns, .. } = message;
        Self { value, sequence, lost, stamp_ns }
    }

    /// The message itself.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Copied<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Copied<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Message + FromBytes> Subscriber<T> {
    /// Receives a copy of the next message if there is one.
    ///
    /// For messages of up to a few hundred bytes this is faster than reading them in place, since
    /// it writes nothing that the publisher has to read. A message that is overwritten while it is
    /// copied is lost, and counted.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # use conduit::{Publisher, Subscriber};
    /// # let mut publisher = Publisher::<[f32; 3]>::builder().domain(&domain).create("wind")?;
    /// # let mut subscriber = Subscriber::<[f32; 3]>::builder().domain(&domain).open("wind")?;
    /// publisher.send(&[1.0, 2.0, 0.0])?;
    /// let wind = subscriber.try_recv_copy()?.expect("it was just sent");
    /// assert_eq!(wind[1], 2.0);
    /// assert_eq!(wind.sequence(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn try_recv_copy(&mut self) -> Result<Option<Copied<T>>, RecvError> {
        if let AttachedReader::Writable(reader) = &mut self.reader
            && (self.beacon.is_none() || mutated!(copy_past_beacon))
            && (!reader.memory().is_foreign() || mutated!(copy_in_child))
        {
            let mut value = T::new_zeroed();
            if let Some(message) = reader.receive(&mut CopyTo(&mut Value(&mut value))) {
                return if message.len == size_of::<T>() {
                    Ok(Some(Copied::new(value, &message)))
                } else {
                    Err(self.invalid(&message))
                };
            }
        }
        self.check_and_recv_copy()
    }

    #[inline(never)]
    fn check_and_recv_copy(&mut self) -> Result<Option<Copied<T>>, RecvError> {
        let mut value = T::new_zeroed();
        let received = self.receive_with(&mut CopyTo(&mut Value(&mut value)))?;
        received.map(|message| self.copied(value, &message)).transpose()
    }

    /// A message that was copied to `value`, if it has its length.
    pub(super) fn copied(&self, value: T, message: &Received) -> Result<Copied<T>, RecvError> {
        if message.len == size_of::<T>() { Ok(Copied::new(value, message)) } else { Err(self.invalid(message)) }
    }

    /// Receives a copy of the next message, sleeping until there is one.
    #[inline]
    pub fn recv_copy(&mut self) -> Result<Copied<T>, RecvError> {
        self.wait(Self::try_recv_copy, Copied::stamp_ns)
    }

    /// Receives a copy of the next message, sleeping until there is one or the timeout expires.
    pub fn recv_copy_timeout(&mut self, timeout: Duration) -> Result<Copied<T>, RecvError> {
        self.wait_for(timeout, Self::try_recv_copy, Copied::stamp_ns)
    }
}
