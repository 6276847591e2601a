//! Receiving from many topics in asynchronous programs.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use super::{PatternEvent, PatternSubscriber, TopicSample};
use crate::error::{RecvError, no_thread};
use crate::message::Message;
use crate::parker::Ticket;

/// A [`PatternSubscriber`] for asynchronous programs, on tokio or any other executor. Requires the
/// feature `async`. What [`AsyncSubscriber`](crate::AsyncSubscriber) says holds for it, too.
///
/// ```
/// # let directory = tempfile::tempdir_in("/dev/shm")?;
/// # let domain = conduit::Domain::new(directory.path()).without_registry();
/// # let mut publisher = conduit::Publisher::<u64>::builder().domain(&domain).create("tf/arm")?;
/// use conduit::Subscriber;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let mut transforms = Subscriber::<u64>::builder()
///     # .domain(&domain)
///     .open_all("tf/**")?
///     .into_async()?;
/// # publisher.send(&7)?;
/// let message = transforms.recv().await?;
/// println!("{}: {}", message.topic(), **message);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is also a [`Stream`] of messages and errors, which ends in a forked process only.
#[derive(Debug)]
#[must_use = "an asynchronous subscriber that is dropped receives nothing"]
pub struct AsyncPatternSubscriber<T: ?Sized> {
    ticket: Ticket,
    subscriber: PatternSubscriber<T>,
    is_armed: bool,
    has_ended: bool,
}

/// Leaves nothing registered when a future is dropped.
struct DisarmAtEnd<'a, T: ?Sized>(&'a mut AsyncPatternSubscriber<T>);

impl<T: ?Sized> Drop for DisarmAtEnd<'_, T> {
    fn drop(&mut self) {
        self.0.disarm();
    }
}

impl<T: ?Sized> PatternSubscriber<T> {
    /// Makes this subscriber asynchronous. Requires the feature `async`.
    ///
    /// # Errors
    ///
    /// If a thread that waits for it cannot be started.
    pub fn into_async(self) -> io::Result<AsyncPatternSubscriber<T>> {
        let ticket = Ticket::new(Arc::clone(self.watched())).map_err(no_thread)?;
        Ok(AsyncPatternSubscriber { ticket, subscriber: self, is_armed: false, has_ended: false })
    }
}

impl<T: ?Sized> AsyncPatternSubscriber<T> {
    /// The subscriber inside, for its topics and counters.
    pub fn get_ref(&self) -> &PatternSubscriber<T> {
        &self.subscriber
    }

    /// The blocking subscriber, which continues where this one was.
    pub fn into_inner(self) -> PatternSubscriber<T> {
        self.subscriber
    }

    fn disarm(&mut self) {
        if self.is_armed {
            self.is_armed = false;
            self.ticket.disarm();
        }
    }
}

impl<T: ?Sized + Message> AsyncPatternSubscriber<T> {
    /// Receives the next message, waiting until there is one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As for [`PatternSubscriber::recv`].
    pub async fn recv(&mut self) -> Result<TopicSample<T>, RecvError> {
        let guard = DisarmAtEnd(self);
        poll_fn(|context| guard.0.poll_with(context, PatternSubscriber::try_recv)).await
    }

    /// Receives the next message or change of a topic, waiting until there is one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As for [`PatternSubscriber::recv_event`].
    pub async fn recv_event(&mut self) -> Result<PatternEvent<T>, RecvError> {
        let guard = DisarmAtEnd(self);
        poll_fn(|context| guard.0.poll_with(context, PatternSubscriber::try_recv_event)).await
    }

    fn poll_with<R>(
        &mut self,
        context: &mut Context<'_>,
        receive: impl Fn(&mut PatternSubscriber<T>) -> Result<Option<R>, RecvError>,
    ) -> Poll<Result<R, RecvError>> {
        loop {
            if let Some(received) = receive(&mut self.subscriber).transpose() {
                self.disarm();
                return Poll::Ready(received);
            }
            self.is_armed = true;
            if !self.ticket.arm(context.waker()) {
                return Poll::Pending;
            }
        }
    }
}

impl<T: ?Sized + Message> Stream for AsyncPatternSubscriber<T> {
    type Item = Result<TopicSample<T>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.poll_with(context, PatternSubscriber::try_recv).map(|received| {
            self.has_ended = matches!(received, Err(RecvError::Forked));
            Some(received)
        })
    }
}

impl<T: ?Sized + Message> FusedStream for AsyncPatternSubscriber<T> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}
