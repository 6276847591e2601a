//! Conduit as a transport.

use std::marker::PhantomData;

use conduit::zerocopy::FromBytes;
use conduit::{Domain, Message, OpenError, Publisher, PublisherBuilder, Subscriber, SubscriberBuilder};

use crate::Result;
use crate::site::BenchSite;
use crate::transport::{Carries, Publish, Receive, TopicOptions, Transport};

/// Conduit, whose subscribers receive in some way.
pub struct Conduit<W = InPlace> {
    domain: Domain,
    _way: PhantomData<W>,
}

/// Messages are read in their slots, held by samples.
pub enum InPlace {}

/// Messages are read in their slots, lent to a function.
pub enum Lent {}

/// Messages are copied out of their slots.
pub enum CopiedOut {}

/// Messages that are sent at once, at most.
const LONGEST_BATCH: usize = 64;

/// `None` if the topic or region does not exist yet.
pub(crate) fn if_found<T>(opened: std::result::Result<T, OpenError>) -> Result<Option<T>> {
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(OpenError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl<W: 'static> Transport for Conduit<W> {
    const NAME: &'static str = "Conduit";

    fn new(site: &BenchSite) -> Result<Self> {
        Ok(Self { domain: site.domain(), _way: PhantomData })
    }
}

impl<W> Conduit<W> {
    fn create<P: Message + ?Sized>(
        &self,
        builder: PublisherBuilder<P>,
        topic: &str,
        options: TopicOptions,
    ) -> Result<Publisher<P>> {
        let mut builder = builder.domain(&self.domain).time_stamps(!options.is_unstamped);
        if let Some(depth) = options.depth {
            builder = builder.slots(u32::try_from(depth)?);
        }
        if let Some(messages) = options.retain {
            builder = builder.retain(messages);
        }
        Ok(builder.create(topic)?)
    }

    fn open<P: Message + ?Sized>(
        &self,
        builder: SubscriberBuilder<P>,
        topic: &str,
    ) -> Result<Option<WaySubscriber<W, P>>> {
        let opened = if_found(builder.domain(&self.domain).open(topic))?;
        Ok(opened.map(|subscriber| WaySubscriber { subscriber, _way: PhantomData }))
    }
}

impl<W: 'static, const N: usize> Carries<[u64; N]> for Conduit<W>
where
    WaySubscriber<W, [u64; N]>: Receive<[u64; N]>,
{
    type Publisher = ArrayPublisher<N>;
    type Subscriber = WaySubscriber<W, [u64; N]>;

    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Self::Publisher> {
        let publisher = self.create(Publisher::builder(), topic, options)?;
        Ok(ArrayPublisher { publisher, batch: Box::new([[0; N]; LONGEST_BATCH]) })
    }

    fn subscriber(&self, topic: &str, options: TopicOptions) -> Result<Option<Self::Subscriber>> {
        self.open(Subscriber::builder().copy_samples(options.copies_batches), topic)
    }
}

/// A publisher of arrays.
pub struct ArrayPublisher<const N: usize> {
    publisher: Publisher<[u64; N]>,
    /// Messages to send at once.
    batch: Box<[[u64; N]; LONGEST_BATCH]>,
}

/// A publisher of slices of one length.
pub struct SlicePublisher {
    publisher: Publisher<[u64]>,
    words: usize,
}

impl Carries<[u64]> for Conduit {
    type Publisher = SlicePublisher;
    type Subscriber = WaySubscriber<InPlace, [u64]>;

    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<SlicePublisher> {
        let mut builder = Publisher::builder();
        if options.words > 0 {
            builder = builder.capacity(options.words * size_of::<u64>());
        }
        Ok(SlicePublisher { publisher: self.create(builder, topic, options)?, words: options.words })
    }

    fn subscriber(&self, topic: &str, _options: TopicOptions) -> Result<Option<Self::Subscriber>> {
        self.open(Subscriber::builder(), topic)
    }
}

/// A subscriber that receives in some way.
pub struct WaySubscriber<W, P: ?Sized> {
    subscriber: Subscriber<P>,
    _way: PhantomData<W>,
}

impl<const N: usize> Publish<[u64; N]> for ArrayPublisher<N> {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut [u64; N])) -> Result<()> {
        let mut loan = self.publisher.loan()?;
        fill(&mut loan);
        loan.publish();
        Ok(())
    }

    #[inline]
    fn publish_batch(&mut self, count: usize, mut fill: impl FnMut(&mut [u64; N])) -> Result<()> {
        for at in (0..count).step_by(LONGEST_BATCH) {
            let batch = &mut self.batch[..LONGEST_BATCH.min(count - at)];
            batch.iter_mut().for_each(&mut fill);
            let sent = self.publisher.send_batch(&*batch)?;
            if sent != batch.len() {
                return Err(format!("only {sent} of {} messages were sent", batch.len()).into());
            }
        }
        Ok(())
    }
}

impl Publish<[u64]> for SlicePublisher {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut [u64])) -> Result<()> {
        let mut loan = self.publisher.loan_slice(self.words)?;
        fill(&mut loan);
        loan.publish();
        Ok(())
    }
}

/// Implements [`Receive`]: how a message is received by polling, and by sleeping.
macro_rules! receives {
    ([$($bounds:tt)*], $way:ty, ($subscriber:ident, $read:ident): $poll:expr, $sleep:expr) => {
        impl<P: $($bounds)*> Receive<P> for WaySubscriber<$way, P> {
            #[inline]
            fn poll<R>(&mut self, $read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
                let $subscriber = &mut self.subscriber;
                Ok($poll)
            }

            #[inline]
            fn sleep<R>(&mut self, $read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
                let $subscriber = &mut self.subscriber;
                Ok(Some($sleep))
            }

            #[inline]
            fn batch(&mut self, most: usize, mut read: impl FnMut(&P)) -> Result<()> {
                self.subscriber.try_recv_batch(most, |message| read(&message))?;
                Ok(())
            }
        }
    };
}

receives!(
    [Message + ?Sized], InPlace,
    (subscriber, read): subscriber.try_recv()?.map(|sample| read(&sample)), read(&*subscriber.recv()?)
);
receives!(
    [Message + ?Sized], Lent,
    (subscriber, read): subscriber.try_recv_with(|message| read(&message))?, subscriber.recv_with(|message| read(&message))?
);
receives!(
    [Message + FromBytes], CopiedOut,
    (subscriber, read): subscriber.try_recv_copy()?.map(|message| read(&message)), read(&*subscriber.recv_copy()?)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_any_size_is_sent_in_order() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let domain = Domain::new(directory.path()).without_registry();
        let transport = Conduit::<InPlace> { domain: domain.clone(), _way: PhantomData };
        let options = TopicOptions { depth: Some(256), ..TopicOptions::default() };
        let mut publisher = Carries::<[u64; 1]>::publisher(&transport, "batches", options).unwrap();
        let mut subscriber = Subscriber::<[u64; 1]>::builder().domain(&domain).open("batches").unwrap();
        for count in [0, 1, LONGEST_BATCH, LONGEST_BATCH + 1, 3 * LONGEST_BATCH] {
            let (mut index, mut received) = (0, Vec::new());
            let fill = |message: &mut [u64; 1]| {
                *message = [index];
                index += 1;
            };
            publisher.publish_batch(count, fill).unwrap();
            subscriber.try_recv_batch(1000, |message| received.push(message[0])).unwrap();
            assert_eq!(received, Vec::from_iter(0..count as u64));
        }
    }
}
