//! Conduit as a transport.

use conduit::zerocopy::FromBytes;
use conduit::{Domain, Message, OpenError, Publisher, PublisherBuilder, Subscriber, SubscriberBuilder};

use crate::Result;
use crate::site::BenchSite;
use crate::transport::{Carries, Publish, Receive, TopicOptions, Transport};

/// Conduit; messages are read in place, or copied out of their slots.
pub struct Conduit<const IS_COPIED: bool = false> {
    domain: Domain,
}

/// `None` if the topic or region does not exist yet.
pub(crate) fn if_found<T>(opened: std::result::Result<T, OpenError>) -> Result<Option<T>> {
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(OpenError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl<const IS_COPIED: bool> Transport for Conduit<IS_COPIED> {
    const NAME: &'static str = "Conduit";

    fn new(site: &BenchSite) -> Result<Self> {
        Ok(Self { domain: site.domain() })
    }
}

impl<const IS_COPIED: bool> Conduit<IS_COPIED> {
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
        Ok(builder.create(topic)?)
    }

    fn open<P: Message + ?Sized>(&self, builder: SubscriberBuilder<P>, topic: &str) -> Result<Option<Subscriber<P>>> {
        if_found(builder.domain(&self.domain).open(topic))
    }
}

impl<const N: usize> Carries<[u64; N]> for Conduit {
    type Publisher = Publisher<[u64; N]>;
    type Subscriber = Subscriber<[u64; N]>;

    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Self::Publisher> {
        self.create(Publisher::builder(), topic, options)
    }

    fn subscriber(&self, topic: &str, _options: TopicOptions) -> Result<Option<Self::Subscriber>> {
        self.open(Subscriber::builder(), topic)
    }
}

/// A publisher of slices of one length.
pub struct SlicePublisher {
    publisher: Publisher<[u64]>,
    words: usize,
}

impl Carries<[u64]> for Conduit {
    type Publisher = SlicePublisher;
    type Subscriber = Subscriber<[u64]>;

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

/// A subscriber that copies every message out of its slot.
pub struct CopyingSubscriber<P>(Subscriber<P>);

impl<const N: usize> Carries<[u64; N]> for Conduit<true> {
    type Publisher = Publisher<[u64; N]>;
    type Subscriber = CopyingSubscriber<[u64; N]>;

    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Self::Publisher> {
        self.create(Publisher::builder(), topic, options)
    }

    fn subscriber(&self, topic: &str, options: TopicOptions) -> Result<Option<Self::Subscriber>> {
        // Batches are copied out only for those who receive nothing in place.
        let builder = Subscriber::builder().copy_samples(options.is_batched);
        Ok(self.open(builder, topic)?.map(CopyingSubscriber))
    }
}

impl<P: Message + FromBytes> Publish<P> for Publisher<P> {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut P)) -> Result<()> {
        let mut loan = self.loan()?;
        fill(&mut loan);
        loan.publish();
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

impl<P: Message + ?Sized> Receive<P> for Subscriber<P> {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
        Ok(self.try_recv()?.map(|sample| read(&sample)))
    }

    #[inline]
    fn sleep<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
        Ok(Some(read(&*self.recv()?)))
    }

    #[inline]
    fn batch(&mut self, most: usize, mut read: impl FnMut(&P)) -> Result<()> {
        self.try_recv_batch(most, |message| read(&message))?;
        Ok(())
    }
}

impl<P: Message + FromBytes> Receive<P> for CopyingSubscriber<P> {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
        Ok(self.0.try_recv_copy()?.map(|message| read(&message)))
    }

    #[inline]
    fn sleep<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
        Ok(Some(read(&*self.0.recv_copy()?)))
    }

    #[inline]
    fn batch(&mut self, most: usize, mut read: impl FnMut(&P)) -> Result<()> {
        self.0.try_recv_batch(most, |message| read(&message))?;
        Ok(())
    }
}
