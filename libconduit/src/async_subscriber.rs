//! Subscribing from asynchronous programs.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::error::{OpenError, RecvError, no_thread};
use crate::message::Message;
use crate::parker::Ticket;
use crate::{IntoTopicName, Sample, Subscriber, TopicEvent};

/// A [`Subscriber`] for asynchronous programs, on tokio or any other executor. Requires the feature
/// `async`.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
/// use conduit::{AsyncSubscriber, RecvError, Subscriber};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # /*
/// let mut subscriber = AsyncSubscriber::<u64>::open("ticks")?;
/// # */
/// # let subscriber = Subscriber::<u64>::builder().domain(&domain).open("ticks")?;
/// # let mut subscriber = subscriber.into_async()?;
/// # publisher.send(&7)?;
/// # drop(publisher);
/// loop {
///     match subscriber.recv().await {
///         Ok(sample) => println!("{} #{} lost {}", *sample, sample.sequence(), sample.lost()),
///         Err(RecvError::PublisherGone { .. }) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is also a [`Stream`] of samples and errors. After [`PublisherGone`](RecvError::PublisherGone)
/// or [`Forked`](RecvError::Forked) the stream ends. That of a subscriber that
/// [follows](crate::SubscriberBuilder::follow) its topic does not.
///
/// A thread of the library sleeps on behalf of all asynchronous subscribers of the process and
/// wakes their tasks: one for every 127 of them, or one for each where the kernel (before Linux
/// 5.16) or a sandbox lacks `futex_waitv(2)`. It starts with the first subscriber, ends with the
/// last, and costs nothing while nothing is published. A message that has already arrived is
/// received without it. Opening a topic makes a few system calls and one call to the daemon; a task
/// may block for the some ten microseconds that this takes.
///
/// A task that always finds a message never yields. A task that receives from a flooded topic
/// should yield regularly, to be fair to the other tasks of its thread (`tokio::task::yield_now`).
#[derive(Debug)]
#[must_use = "an asynchronous subscriber that is dropped receives nothing"]
pub struct AsyncSubscriber<T: ?Sized> {
    ticket: Ticket,
    subscriber: Subscriber<T>,
    is_armed: bool,
    has_ended: bool,
}

impl<T: ?Sized> AsyncSubscriber<T> {
    /// Makes a subscriber asynchronous.
    ///
    /// # Errors
    ///
    /// If a thread that waits for it cannot be started.
    pub fn new(subscriber: Subscriber<T>) -> io::Result<Self> {
        let ticket = Ticket::new(Arc::clone(subscriber.watched())).map_err(no_thread)?;
        Ok(Self { ticket, subscriber, is_armed: false, has_ended: false })
    }

    /// The subscriber inside, for its topic and its counters.
    pub fn get_ref(&self) -> &Subscriber<T> {
        &self.subscriber
    }

    /// The subscriber inside, to receive batches or copies after [`ready`](Self::ready).
    pub fn get_mut(&mut self) -> &mut Subscriber<T> {
        &mut self.subscriber
    }

    /// Waits until there is something to receive, a message or the end of the topic, without
    /// receiving it.
    ///
    /// Cancel-safe, like [`recv`](Self::recv). In a forked process it does not wait; the next call
    /// returns the error.
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("ticks")?;
    /// # let subscriber = conduit::Subscriber::<u64>::builder().domain(&domain).open("ticks")?;
    /// # let mut subscriber = subscriber.into_async()?;
    /// # publisher.send(&7)?;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// subscriber.ready().await;
    /// let mut sum = 0;
    /// subscriber.get_mut().try_recv_batch(100, |tick| sum += *tick)?;
    /// # assert_eq!(sum, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ready(&mut self) -> Ready<'_, T> {
        Ready { subscriber: self }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.subscriber.watched().sleeper().is_foreign() {
            self.is_armed = true;
            self.ticket.move_to(self.subscriber.watched());
            if !self.ticket.arm(context.waker()) {
                return Poll::Pending;
            }
        }
        self.disarm();
        Poll::Ready(())
    }

    /// The blocking subscriber, which continues where this one was.
    pub fn into_inner(self) -> Subscriber<T> {
        self.subscriber
    }
}

impl<T: ?Sized + Message> AsyncSubscriber<T> {
    /// Opens a topic; the first message received is the next one published.
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::open`], and [`OpenError::Io`] if a thread that waits for it cannot be
    /// started.
    pub fn open(name: impl IntoTopicName) -> Result<Self, OpenError> {
        let subscriber = Subscriber::<T>::open(name)?;
        let path = subscriber.topic().as_str().into();
        Self::new(subscriber).map_err(OpenError::io("start a thread to wait for", path))
    }

    /// Receives the next message, waiting until there is one.
    ///
    /// Cancel-safe: dropping the future loses no message and leaves nothing registered.
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::recv`].
    pub fn recv(&mut self) -> Recv<'_, T> {
        Recv { subscriber: self }
    }

    /// Receives the next message if there is one.
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::try_recv`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Sample<T>>, RecvError> {
        self.subscriber.try_recv()
    }

    /// Polls [`recv`](Self::recv), for futures written by hand. The context of the last poll is the
    /// one that is woken.
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Sample<T>, RecvError>> {
        self.poll_by(context, Subscriber::try_recv)
    }

    /// Receives the next message or change of the publisher, waiting until there is one; see
    /// [`Subscriber::try_recv_event`]. When a publisher has died, a task may block for up to 100 ms
    /// while the registry is asked how.
    ///
    /// Cancel-safe, like [`recv`](Self::recv).
    ///
    /// ```
    /// # let directory = tempfile::tempdir_in("/dev/shm")?;
    /// # let domain = conduit::Domain::new(directory.path()).without_registry();
    /// # let publisher = conduit::Publisher::<u64>::builder().domain(&domain);
    /// # let mut publisher = publisher.create("camera")?;
    /// use conduit::{Subscriber, TopicEvent};
    ///
    /// let camera = Subscriber::<u64>::builder().follow()
    ///     # .domain(&domain)
    ///     .open("camera")?;
    /// let mut camera = camera.into_async()?;
    /// # publisher.send(&7)?;
    /// # drop(publisher);
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// loop {
    ///     match camera.recv_event().await? {
    ///         TopicEvent::Sample(image) => println!("{image:?}"),
    ///         TopicEvent::Connected { publisher } => println!("{publisher} publishes"),
    ///         TopicEvent::Lost { how, .. } => println!("no images for now: the publisher {how}"),
    ///         _ => {}
    ///     }
    ///     # if !camera.get_ref().is_connected() { break }
    /// }
    /// # Ok::<(), conduit::RecvError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::recv_event`].
    pub fn recv_event(&mut self) -> RecvEvent<'_, T> {
        RecvEvent { subscriber: self }
    }

    /// Polls [`recv_event`](Self::recv_event), as [`poll_recv`](Self::poll_recv) polls `recv`.
    ///
    /// # Errors
    ///
    /// As for [`Subscriber::recv_event`].
    pub fn poll_recv_event(&mut self, context: &mut Context<'_>) -> Poll<Result<TopicEvent<T>, RecvError>> {
        self.poll_by(context, Subscriber::try_recv_event)
    }

    fn poll_by<R>(
        &mut self,
        context: &mut Context<'_>,
        mut try_recv: impl FnMut(&mut Subscriber<T>) -> Result<Option<R>, RecvError>,
    ) -> Poll<Result<R, RecvError>> {
        let received = loop {
            match try_recv(&mut self.subscriber) {
                Ok(Some(received)) => break Ok(received),
                Err(error) => break Err(error),
                Ok(None) if self.poll_ready(context).is_pending() => return Poll::Pending,
                Ok(None) => {}
            }
        };
        self.disarm();
        Poll::Ready(received)
    }
}

impl<T: ?Sized> AsyncSubscriber<T> {
    fn disarm(&mut self) {
        if self.is_armed {
            self.is_armed = false;
            self.ticket.disarm();
        }
    }
}

impl<T: ?Sized> Subscriber<T> {
    /// Makes this subscriber asynchronous. Requires the feature `async`.
    ///
    /// # Errors
    ///
    /// If a thread that waits for it cannot be started.
    pub fn into_async(self) -> io::Result<AsyncSubscriber<T>> {
        AsyncSubscriber::new(self)
    }
}

impl<T: ?Sized + Message> Stream for AsyncSubscriber<T> {
    type Item = Result<Sample<T>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.poll_recv(context).map(|received| {
            self.has_ended = matches!(received, Err(RecvError::PublisherGone { .. } | RecvError::Forked));
            Some(received)
        })
    }
}

impl<T: ?Sized + Message> FusedStream for AsyncSubscriber<T> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

/// The future of [`AsyncSubscriber::recv`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Recv<'a, T: ?Sized> {
    subscriber: &'a mut AsyncSubscriber<T>,
}

impl<T: ?Sized + Message> Future for Recv<'_, T> {
    type Output = Result<Sample<T>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.subscriber.poll_recv(context)
    }
}

impl<T: ?Sized> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        self.subscriber.disarm();
    }
}

/// The future of [`AsyncSubscriber::recv_event`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct RecvEvent<'a, T: ?Sized> {
    subscriber: &'a mut AsyncSubscriber<T>,
}

impl<T: ?Sized + Message> Future for RecvEvent<'_, T> {
    type Output = Result<TopicEvent<T>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.subscriber.poll_recv_event(context)
    }
}

impl<T: ?Sized> Drop for RecvEvent<'_, T> {
    fn drop(&mut self) {
        self.subscriber.disarm();
    }
}

/// The future of [`AsyncSubscriber::ready`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Ready<'a, T: ?Sized> {
    subscriber: &'a mut AsyncSubscriber<T>,
}

impl<T: ?Sized> Future for Ready<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.subscriber.poll_ready(context)
    }
}

impl<T: ?Sized> Drop for Ready<'_, T> {
    fn drop(&mut self) {
        self.subscriber.disarm();
    }
}

#[cfg(test)]
mod tests;
