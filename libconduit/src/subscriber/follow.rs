//! Following a topic from publisher to publisher.
//!
//! # States
//!
//! *Connected*: the subscriber has the ring of a publisher, as one that does not follow has.
//! *Vacant*: it has a [ring of its own](crate::ring::vacant) that nobody writes, which is its place
//! in wait sets, parkers and `recv` until a publisher appears. The end of a ring leads from one to
//! the other:
//!
//! - the end of a publisher's ring, when every message was received, to *vacant*. The publisher,
//!   the daemon, the next publisher or a look at the owner lock has ended it, as ever;
//! - the end of the vacant ring, which means that somebody may have appeared, to *connected*, if a
//!   topic can be opened. If not, the end is taken back, and the subscriber waits on.
//!
//! The subscriber's own calls take these steps ([`Subscriber::move_on`]), where a subscriber that
//! does not follow would report the end: nothing is added to the path of a message. A thread that
//! all share ([`lookout`](crate::lookout)) only ends vacant rings, and so wakes who sleeps there.
//!
//! # Races
//!
//! - *The name appears between two looks.* The thread watches the directory before the subscriber
//!   takes the end of the vacant ring back, and that comes before it looks for the name. So a name
//!   that is not found ends the ring when it appears.
//! - *It appears incomplete.* It does not: a region is locked and readable before it has its name.
//! - *The name is still that of the last publisher*, dead or closing. Opening it fails, since the
//!   owner lock is free or the ring has ended; its successor appears under the name anew.
//! - *A publisher comes and goes between two looks.* Nobody could have received from it. One whose
//!   ring had not ended when it was opened is received from to its end, also if that comes before
//!   the subscriber has attached; one that had is the last publisher, which is about to go.
//! - *The publisher lives, but another has its name now.* Its messages are received until it ends.
//!
//! # Identity
//!
//! What tells publishers apart is that this subscriber has opened another region: it counts them
//! ([`Sample::epoch`](super::Sample::epoch)). The inode of the region would not do, since some file
//! systems use one again at once, nor would a number in the region, which the next publisher could
//! only continue if it found the last region.

use std::sync::Arc;
use std::time::Duration;

use super::connection::TopicConnection;
use super::followed::{Follow, FollowedPublisher, certificate, now_ms};
use super::{NEVER, Sample, Subscriber, SubscriberBuilder};
use crate::TopicName;
use crate::error::{OpenError, RecvError};
use crate::lookout::Vigil;
use crate::message::Message;
use crate::mutation::step;
use crate::registry::{DeathCertificate, Process};
use crate::ring::end::Gone;
use crate::ring::start::Start;
use crate::ring::vacant::VacantRing;
use crate::watched::{Seat, Watched};

/// A message, a change of the publisher, or of its punctuality: see
/// [`Subscriber::recv_event`](Subscriber::recv_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum TopicEvent<T: ?Sized> {
    /// A message.
    Sample(Sample<T>),
    /// The subscriber has a publisher now. Its messages follow.
    Connected {
        /// The publisher, as it says itself.
        publisher: Process,
    },
    /// The publisher is gone, and every message of it that was there was received.
    Lost {
        /// Whether it closed the topic or died.
        how: Gone,
        /// How it died, if the registry knows.
        certificate: Option<DeathCertificate>,
    },
    /// No message has come within the [deadline](SubscriberBuilder::deadline).
    Overdue {
        /// How long there has been none.
        silence: Duration,
    },
    /// After [`Overdue`](Self::Overdue), there are messages again.
    Resumed {
        /// How long there was none.
        after: Duration,
    },
}

impl<T: ?Sized> SubscriberBuilder<T> {
    /// Follows the topic: [`open`](Self::open) does not wait for a publisher, and the subscriber
    /// connects to the next publisher when one has gone.
    ///
    /// [`PublisherGone`](RecvError::PublisherGone) is not reported then. The blocking calls sleep
    /// until a publisher has come and sent something, and wait sets, futures and descriptors wake
    /// for its first message. Who wants to know of the changes calls
    /// [`recv_event`](Subscriber::recv_event).
    ///
    /// The first publisher's messages are received from [`start`](Self::start) on, if it exists
    /// when the topic is opened. Of those that appear later every message is: one that was
    /// overwritten before it could be received counts as lost. [`sample.epoch()`](Sample::epoch)
    /// tells the publishers apart; sequence numbers begin anew with each.
    ///
    /// A publisher whose messages have another type or other fields is reported once, as
    /// [`TypeChanged`](RecvError::TypeChanged); one that cannot be opened for another reason as
    /// [`NotFollowed`](RecvError::NotFollowed). The subscriber waits for the next one, and tries
    /// twice a second to open one that it may be able to open later.
    ///
    /// Waiting for a publisher costs a thread of the library and a descriptor, for all subscribers
    /// of a process together. The thread sleeps until the shared-memory directory changes.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// use conduit::{Publisher, Subscriber};
    ///
    /// let mut camera = Subscriber::<u64>::builder().follow()
    ///     # .domain(&domain)
    ///     .open("camera")?;
    /// # let publishing = std::thread::spawn(move || -> Result<(), conduit::CreateError> {
    /// #     for _ in 0..2 {
    /// #         let mut publisher = Publisher::<u64>::builder().domain(&domain).create("camera")?;
    /// #         publisher.send(&7).unwrap();
    /// #         while publisher.subscribers().iter().all(|subscriber| subscriber.received == 0) {
    /// #             std::thread::yield_now();
    /// #         }
    /// #     }
    /// #     Ok(())
    /// # });
    /// for image in camera.iter() {
    ///     let image = image?;
    ///     println!("{image:?}, message {} of publisher {}", image.sequence(), image.epoch());
    ///     # if image.epoch() == 2 { break }
    /// }
    /// # publishing.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn follow(mut self) -> Self {
        self.options.follows = true;
        self
    }

    pub(super) fn open_following(mut self, topic: TopicName) -> Result<Subscriber<T>, OpenError>
    where
        T: Message,
    {
        let domain = self.options.domain.get_or_insert_default().clone();
        let failure = |doing| OpenError::io(doing, domain.shm_dir().into());
        let vacancy = VacantRing::new().map_err(failure("wait for publishers in"))?;
        let reader = vacancy.reader();
        let vacant = Watched::vacant(reader.sleeper()).with_deadline(self.options.deadline);
        let vacant = Arc::new(vacant);
        let mut vigil = Vigil::new(&domain, &topic, vacancy.clone());
        vigil.begin().map_err(failure("start a thread to watch"))?;
        let message = self.options.expected.unwrap_or(T::TYPE);
        self.options.epoch = 0;
        let follow = Follow {
            vacancy: vacancy.clone(),
            vacant: Arc::clone(&vacant),
            vigil,
            seat: Arc::new(Seat::new(Arc::clone(&vacant))),
            earlier: [0; 3],
            connected: None,
            is_connection_new: false,
            lost: None,
            refusal: None,
            options: self.options.clone(),
        };
        let mut subscriber = self.subscriber(reader, vacant, topic, message);
        subscriber.follow = Some(Box::new(follow));
        if let Some(Err(_)) = subscriber.follow_with(Subscriber::connect) {
            // The first call that receives finds it again, and reports it.
            vacancy.end();
            if let Some(follow) = &mut subscriber.follow {
                follow.refusal = None;
            }
        }
        // Whoever appears from now on was awaited.
        if let Some(follow) = &mut subscriber.follow {
            step!(follow_oldest, follow.options.start = Start::Oldest);
            step!(follow_awaited, follow.options.is_awaited = true);
        }
        Ok(subscriber)
    }
}

impl<T: ?Sized> Subscriber<T> {
    /// Which of its publishers this subscriber has or, if it has none, had: 0 before the first one,
    /// 1 for the first, and one more for each other one. Without
    /// [`follow`](SubscriberBuilder::follow), there is one publisher, the first.
    pub fn epoch(&self) -> u32 {
        self.follow.as_ref().map_or(1, |follow| follow.options.epoch)
    }

    /// Whether there is a publisher, as far as this subscriber knows: it notices a change when it
    /// receives.
    pub fn is_connected(&self) -> bool {
        self.follow.as_ref().is_none_or(|follow| follow.connected.is_some())
    }
}

impl<T: ?Sized + Message> Subscriber<T> {
    /// Receives the next message, or learns of the next change of the publisher, if there is one.
    ///
    /// For subscribers that [follow](SubscriberBuilder::follow) or have a
    /// [deadline](SubscriberBuilder::deadline); of others, it is [`try_recv`](Self::try_recv).
    /// Changes are reported in order with the messages, unless calls that receive only messages
    /// have passed them over. Wait sets, futures and descriptors report what this call returns,
    /// except the connection that `open` has made.
    ///
    /// When a publisher has died, this asks the registry how, and waits for 100 ms at most until it
    /// knows.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    pub fn try_recv_event(&mut self) -> Result<Option<TopicEvent<T>>, RecvError> {
        loop {
            if let Some(event) = self.take_event() {
                return Ok(Some(event));
            }
            match self.try_recv() {
                Ok(Some(sample)) => return Ok(Some(TopicEvent::Sample(sample))),
                Ok(None) => {}
                Err(RecvError::Overdue { silence, .. }) => return Ok(Some(TopicEvent::Overdue { silence })),
                Err(error) => return Err(error),
            }
            if self.follow.as_ref().is_none_or(|follow| !follow.has_event()) {
                return Ok(None);
            }
        }
    }

    /// Receives the next message or change of the publisher, sleeping until there is one; see
    /// [`try_recv_event`](Self::try_recv_event).
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let publisher = conduit::Publisher::<u64>::builder().domain(&domain);
    /// # let mut publisher = publisher.create("camera")?;
    /// use conduit::{Gone, Subscriber, TopicEvent};
    ///
    /// let mut camera = Subscriber::<u64>::builder().follow()
    ///     # .domain(&domain)
    ///     .open("camera")?;
    /// # publisher.send(&7)?;
    /// # drop(publisher);
    /// loop {
    ///     match camera.recv_event()? {
    ///         TopicEvent::Sample(image) => println!("{image:?}"),
    ///         TopicEvent::Connected { publisher } => println!("{publisher} publishes"),
    ///         TopicEvent::Lost { how: Gone::Closed, .. } => println!("no images for now"),
    ///         TopicEvent::Lost { certificate, .. } => println!("it died: {certificate:?}"),
    ///         _ => {}
    ///     }
    ///     # if !camera.is_connected() { break }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn recv_event(&mut self) -> Result<TopicEvent<T>, RecvError> {
        self.wait(Self::try_recv_event, |_| None)
    }

    /// Receives the next message or change of the publisher, sleeping until there is one or the
    /// timeout expires.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn recv_event_timeout(&mut self, timeout: Duration) -> Result<TopicEvent<T>, RecvError> {
        self.wait_for(timeout, Self::try_recv_event, |_| None)
    }

    fn take_event(&mut self) -> Option<TopicEvent<T>> {
        if let Some(event) = self.take_change() {
            return Some(event);
        }
        if !self.has_deadline || self.reader.is_foreign() {
            return None;
        }
        let after = self.watched.take_resumed()?;
        Some(TopicEvent::Resumed { after })
    }

    fn take_change(&mut self) -> Option<TopicEvent<T>> {
        let follow = self.follow.as_mut()?;
        if let Some((connected, how)) = follow.lost.take() {
            let certificate = match how {
                Gone::Died => certificate(follow.options.domain.as_ref()?, &self.topic, &connected),
                Gone::Closed => None,
            };
            return Some(TopicEvent::Lost { how, certificate });
        }
        let connected = follow.connected.as_ref()?;
        let is_new = std::mem::take(&mut follow.is_connection_new);
        is_new.then(|| TopicEvent::Connected { publisher: connected.publisher.clone() })
    }

    /// The ring has ended: goes from a publisher's to the vacant one, and from that to a
    /// publisher's, if there is one. If this subscriber does not follow, that is the error.
    ///
    /// There may be a message afterwards, also if there is none at once.
    #[cold]
    pub(super) fn move_on(&mut self, how: Gone) -> Result<(), RecvError> {
        let moved = self.follow_with(|subscriber, follow| {
            if let Some(connected) = follow.connected.take() {
                subscriber.disconnect(follow);
                step!(follow_lost, follow.lost = Some((connected, how)));
                follow.is_connection_new = false;
            }
            let connected = subscriber.connect(follow);
            if let Some(beacon) = &mut subscriber.beacon {
                step!(follow_beacon, beacon.move_to(&subscriber.watched));
            }
            connected
        });
        moved.unwrap_or_else(|| Err(RecvError::PublisherGone { topic: self.topic.clone(), how }))
    }

    /// Does something to a subscriber that follows, besides what it follows with.
    fn follow_with<R>(&mut self, action: impl FnOnce(&mut Self, &mut Follow) -> R) -> Option<R> {
        let mut follow = self.follow.take()?;
        let result = action(self, &mut follow);
        self.follow = Some(follow);
        Some(result)
    }

    /// From a publisher's ring to the vacant one.
    fn disconnect(&mut self, follow: &mut Follow) {
        let counts = [self.reader.received(), self.reader.lost(), self.reader.skipped()];
        for (earlier, count) in follow.earlier.iter_mut().zip(counts) {
            step!(follow_counts, *earlier = earlier.saturating_add(count));
        }
        self.reader.detach();
        self.watched.leave();
        self.reader = follow.vacancy.reader();
        self.pins = None;
        step!(silence_of_vacant, follow.vacant.continue_silence_of(&self.watched));
        self.watched = Arc::clone(&follow.vacant);
        step!(follow_seat_vacant, follow.seat.set(&self.watched));
    }

    /// From the vacant ring to a publisher's, if there is one.
    fn connect(&mut self, follow: &mut Follow) -> Result<(), RecvError> {
        self.tick = NEVER;
        follow.vacant.begin_again();
        if let Err(error) = follow.vigil.begin() {
            // So that the next call tries again.
            follow.vacancy.end();
            let reason = format!("cannot start a thread to wait for it: {error}");
            return Err(RecvError::NotFollowed { topic: self.topic.clone(), reason });
        }
        follow.options.epoch += 1;
        let result = follow.options.connect(&self.topic, T::TYPE);
        let TopicConnection { reader, record, watched, layout, shape } = match result {
            Ok(connection) => connection,
            Err(error) => {
                follow.options.epoch -= 1;
                return follow.refuse(&self.topic, error);
            }
        };
        follow.vigil.rest();
        follow.refusal = None;
        if follow.options.shape.is_none() {
            follow.options.shape = shape;
        }
        follow.connected = Some(FollowedPublisher { publisher: layout.publisher(), time_ms: now_ms() });
        step!(follow_connected, follow.is_connection_new = true);
        self.pins = record.filter(|_| !follow.options.copies);
        self.share.renew(reader.slots());
        self.reader = reader;
        step!(silence_of_next, watched.continue_silence_of(&self.watched));
        self.watched = watched;
        self.message = layout.message;
        step!(follow_seat_connected, follow.seat.set(&self.watched));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
