//! Publishing a topic.

mod builder;
mod loan;

use std::fmt;
use std::marker::PhantomData;

pub use builder::PublisherBuilder;
pub use loan::Loan;
use zerocopy::{FromBytes, FromZeros};

use crate::error::{LoanError, SendError};
use crate::fault::{self, Step};
use crate::inspect::Region;
use crate::inspect::reaping::ReapRegion;
use crate::message::{Kind, Message};
use crate::registry::Lease;
use crate::ring::geometry::Geometry;
use crate::ring::memory::Memory;
use crate::ring::slot::claim::{ClaimError, Claimed, ClaimedRun};
use crate::ring::slot::mapped::MappedRing;
use crate::ring::writer::{Intervention, Writer};
use crate::shm::cancellation::Uncancelled;
use crate::shm::clock::coarse_now;
use crate::shm::dir::{DirLocation, FileId};
use crate::shm::dying::dying;
use crate::{TopicName, TypeInfo};

/// The publisher of a topic, which no other process can publish meanwhile.
///
/// Publishing never blocks, never allocates, and makes no system call unless a subscriber is
/// asleep. When the publisher is dropped, the topic is closed, sleeping subscribers wake with
/// [`RecvError::PublisherGone`](crate::RecvError::PublisherGone), and the region's name is removed.
/// Samples that subscribers hold stay valid.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// use conduit::Publisher;
///
/// let mut publisher = Publisher::<[u8]>::builder().slots(8).capacity(1 << 20)
///     # .domain(&domain)
///     .create("camera/front")?;
/// publisher.send(b"small, copied into its slot")?;
/// let mut frame = publisher.loan_slice(640 * 480)?; // written in place
/// frame.fill(127);
/// frame.publish();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a publisher that is dropped closes its topic"]
pub struct Publisher<T: ?Sized> {
    writer: Writer<MappedRing>,
    topic: TopicName,
    location: DirLocation,
    id: FileId,
    lease: Lease,
    time_stamps: bool,
    /// The type, if it was given at run time: then `T` is `[u8]`.
    message: Option<TypeInfo>,
    /// Whether an error has reported to the caller that the topic lost its name.
    is_unlink_reported: bool,
    discarded_loans: u64,
    _sends: PhantomData<fn(&T)>,
}

impl<T: ?Sized + Message> Publisher<T> {
    /// Sends a copy of a message.
    #[inline(always)]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        let stamped = self.time_stamps;
        let bytes = message.as_bytes();
        self.check(bytes.len())?;
        let geometry = self.writer.memory().geometry();
        let claimed = Claimed::new(&mut self.writer, bytes.len());
        let mut claimed = claimed.map_err(|error| loan_error(&error, geometry, bytes.len()))?;
        claimed.copy_from_slice(bytes);
        claimed.publish(|| loan::stamp(stamped));
        Ok(())
    }

    /// Sends a copy of a message with a stamp of its own, as a hostile publisher can.
    #[cfg(test)]
    pub(crate) fn send_stamped(&mut self, message: &T, stamp_ns: u64) -> Result<(), SendError> {
        let bytes = message.as_bytes();
        let geometry = self.writer.memory().geometry();
        let claimed = Claimed::new(&mut self.writer, bytes.len());
        let mut claimed = claimed.map_err(|error| loan_error(&error, geometry, bytes.len()))?;
        claimed.copy_from_slice(bytes);
        claimed.publish(|| stamp_ns);
        Ok(())
    }

    /// Sends copies of many messages in a row. Returns how many were sent.
    ///
    /// For high rates: chunks of up to 64 messages, and up to half the slots, share what each call
    /// of [`send`](Self::send) costs anew, such as a memory fence, the look for sleeping
    /// subscribers and the time stamp. Subscribers receive each message as soon as it is written;
    /// those that sleep are woken once per chunk. Large messages, whose copies take longer than all
    /// that, are sent one by one.
    ///
    /// # Errors
    ///
    /// As for `send`, and then none was sent. A message that cannot be sent, because it is too
    /// large or because every slot is held, ends the batch after those before it: then the number
    /// is smaller than that of the messages, and sending the next one reports the reason.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # use conduit::{Publisher, Subscriber};
    /// # let mut publisher = Publisher::<[f32; 3]>::builder().domain(&domain).create("wind")?;
    /// # let mut subscriber = Subscriber::<[f32; 3]>::builder().domain(&domain).open("wind")?;
    /// let readings = [[1.0, 2.0, 0.0], [1.1, 2.0, 0.0], [1.2, 1.9, 0.0]];
    /// assert_eq!(publisher.send_batch(&readings)?, 3);
    /// assert_eq!(subscriber.recv()?[0], 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send_batch<'m>(
        &mut self,
        messages: impl IntoIterator<Item = &'m T, IntoIter: ExactSizeIterator>,
    ) -> Result<usize, SendError>
    where
        T: 'm,
    {
        let mut messages = messages.into_iter();
        self.check_publisher()?;
        let (stamped, description) = (self.time_stamps, self.message);
        let geometry = self.writer.memory().geometry();
        let mut run = ClaimedRun::new(&mut self.writer, messages.len());
        let mut sent = 0;
        let failed = messages.try_for_each(|message| {
            let bytes = message.as_bytes();
            check_len(description.as_ref(), bytes.len())?;
            run.send(bytes, || loan::stamp(stamped)).map_err(|error| loan_error(&error, geometry, bytes.len()))?;
            sent += 1;
            Ok(())
        });
        if sent > 0 { Ok(sent) } else { failed.map(|()| 0) }
    }

    /// Checks that a message of this length can be sent, and that the topic is still this
    /// publisher's.
    #[inline(always)]
    fn check(&mut self, len: usize) -> Result<(), LoanError> {
        check_len(self.message.as_ref(), len)?;
        self.check_publisher()
    }

    #[inline(always)]
    fn check_publisher(&mut self) -> Result<(), LoanError> {
        if self.writer.memory().is_foreign() || self.writer.take_woken() || self.writer.intervention().is_some() {
            self.check_topic()?;
        }
        Ok(())
    }

    /// Checks the lease and the name. Publishing makes no system call unless a subscriber is
    /// asleep, so this runs after a wake-up only, or if something has happened to the topic.
    #[cold]
    fn check_topic(&mut self) -> Result<(), LoanError> {
        if self.writer.memory().is_foreign() {
            return Err(LoanError::Forked);
        }
        let _uncancelled = Uncancelled::new();
        if self.lease.renew_if_due(coarse_now()) && !self.has_its_name() {
            self.writer.note_unlinked();
        }
        match self.writer.intervention() {
            None => Ok(()),
            Some(Intervention::Ended) => Err(LoanError::Removed),
            Some(Intervention::Unlinked) if self.is_unlink_reported => Ok(()),
            Some(Intervention::Unlinked) => {
                self.is_unlink_reported = true;
                Err(LoanError::Unlinked)
            }
        }
    }

    /// If the lookup fails, the name is assumed to be intact.
    fn has_its_name(&self) -> bool {
        let found = self.location.open().and_then(|directory| directory.id_of(&self.topic));
        !found.is_ok_and(|found| found != Some(self.id))
    }

    #[inline(always)]
    fn loan_as<'a, U: ?Sized>(
        &'a mut self,
        len: usize,
        cast: impl FnOnce(Claimed<'a, [u8]>) -> Result<Claimed<'a, U>, ClaimError>,
    ) -> Result<Loan<'a, U>, LoanError> {
        self.check(len)?;
        let geometry = self.writer.memory().geometry();
        let claimed = Claimed::new(&mut self.writer, len).and_then(cast);
        let claimed = claimed.map_err(|error| loan_error(&error, geometry, len))?;
        Ok(Loan::new(claimed, self.time_stamps, &mut self.discarded_loans))
    }
}

/// Checks a length against a type that was given at run time.
#[inline(always)]
fn check_len(message: Option<&TypeInfo>, len: usize) -> Result<(), LoanError> {
    match message {
        Some(message) if !message.admits(len) => {
            Err(LoanError::WrongLength { len, size: message.size, exact: message.kind == Kind::Value })
        }
        _ => Ok(()),
    }
}

#[cold]
fn loan_error(error: &ClaimError, geometry: Geometry, len: usize) -> LoanError {
    match error {
        ClaimError::AllSlotsHeld => LoanError::AllSlotsHeld { slots: geometry.slots() },
        ClaimError::Size => LoanError::MessageTooLarge { len, capacity: geometry.capacity() },
    }
}

impl<T: Message + FromBytes> Publisher<T> {
    /// Loans a slot, to write a message in place. Its contents are unspecified, usually those of an
    /// older message.
    ///
    /// Types for which some bytes are invalid (a `bool`, an enum) use
    /// [`loan_zeroed`](Self::loan_zeroed) or [`send`](Self::send).
    #[inline(always)]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, LoanError> {
        self.loan_as(size_of::<T>(), Claimed::cast)
    }
}

impl<T: Message + FromZeros> Publisher<T> {
    /// Loans a slot filled with zeros, to write a message in place.
    pub fn loan_zeroed(&mut self) -> Result<Loan<'_, T>, LoanError> {
        self.loan_as(size_of::<T>(), Claimed::cast_zeroed)
    }
}

impl<E: Message + FromBytes> Publisher<[E]> {
    /// Loans a slot, to write `len` elements in place. Their values are unspecified until written.
    #[inline(always)]
    pub fn loan_slice(&mut self, len: usize) -> Result<Loan<'_, [E]>, LoanError> {
        self.loan_as(len.saturating_mul(size_of::<E>()), Claimed::cast)
    }
}

impl<T: ?Sized> Publisher<T> {
    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The absolute path of the region's file.
    pub fn path(&self) -> std::path::PathBuf {
        self.location.path_of(&self.topic)
    }

    /// Messages published so far, which is the sequence number of the next message.
    pub fn published(&self) -> u64 {
        self.writer.published()
    }

    /// Number of slots.
    pub fn slots(&self) -> u32 {
        self.writer.memory().geometry().slots()
    }

    /// Largest message in bytes.
    pub fn capacity(&self) -> usize {
        self.writer.memory().capacity()
    }

    /// Loans that were dropped without [`publish`](Loan::publish): messages that were never sent.
    pub fn discarded_loans(&self) -> u64 {
        self.discarded_loans
    }

    /// The subscribers that are attached now: they receive what is sent from now on. Those without
    /// a record in the region, because they may only read it, are not among them. Makes some system
    /// calls: meant for flow control and reports, not for every message.
    pub fn subscribers(&self) -> Vec<crate::model::SubscriberInfo> {
        let region = self.location.open().ok().and_then(|directory| Region::open_in(&directory, &self.topic).ok());
        let counters = region.filter(|region| region.id() == self.id).and_then(|region| region.counters());
        let attached = counters.map(|counters| counters.subscribers).unwrap_or_default();
        // One that is dumping core keeps its locks meanwhile.
        attached.into_iter().map(|(_, one)| one).filter(|one| dying(one.pid).is_none()).collect()
    }
}

impl<T: ?Sized> Drop for Publisher<T> {
    fn drop(&mut self) {
        if self.writer.memory().is_foreign() {
            return;
        }
        self.writer.close();
        let removed = self.location.open().and_then(|directory| directory.remove(&self.topic, self.id));
        if let Err(error) = removed {
            tracing::warn!("cannot remove {}: {error}", self.path().display());
        }
        fault::point(Step::CloseRemoved);
        self.lease.release();
        fault::point(Step::CloseReleased);
    }
}

impl<T: ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.topic).field("published", &self.published()).finish()
    }
}
