//! Conduit itself.

use conduit::zerocopy::FromBytes;
use conduit::{Domain, Message, OpenError, Publisher, PublisherBuilder, Subscriber, SubscriberBuilder};

use super::transport::{Carries, Place, Publish, Receive, Result, Shape, Transport};

/// Samples are read where they lie.
pub struct Conduit {
    domain: Domain,
}

/// Messages are copied out of their slots.
pub struct Copied(Conduit);

impl Transport for Conduit {
    const PEER: Option<&'static str> = None;

    fn new(place: &Place) -> Result<Self> {
        Ok(Self { domain: Domain::new(&place.directory).without_registry() })
    }
}

impl Transport for Copied {
    const PEER: Option<&'static str> = None;

    fn new(place: &Place) -> Result<Self> {
        Conduit::new(place).map(Self)
    }
}

impl Conduit {
    fn create<P: Message + ?Sized>(
        &self,
        builder: PublisherBuilder<P>,
        topic: &str,
        shape: Shape,
    ) -> Result<Publisher<P>> {
        let mut builder = builder.domain(&self.domain).time_stamps(!shape.without_stamps);
        if let Some(depth) = shape.depth {
            builder = builder.slots(u32::try_from(depth)?);
        }
        Ok(builder.create(topic)?)
    }

    fn open<P: Message + ?Sized>(&self, builder: SubscriberBuilder<P>, topic: &str) -> Result<Option<Subscriber<P>>> {
        match builder.domain(&self.domain).open(topic) {
            Ok(subscriber) => Ok(Some(subscriber)),
            Err(OpenError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl<const N: usize> Carries<[u64; N]> for Conduit {
    type Publisher = Publisher<[u64; N]>;
    type Subscriber = Subscriber<[u64; N]>;

    fn publisher(&self, topic: &str, shape: Shape) -> Result<Self::Publisher> {
        self.create(Publisher::builder(), topic, shape)
    }

    fn subscriber(&self, topic: &str, _shape: Shape) -> Result<Option<Self::Subscriber>> {
        self.open(Subscriber::builder(), topic)
    }
}

/// A publisher of messages of one length.
pub struct Slices {
    publisher: Publisher<[u64]>,
    words: usize,
}

impl Carries<[u64]> for Conduit {
    type Publisher = Slices;
    type Subscriber = Subscriber<[u64]>;

    fn publisher(&self, topic: &str, shape: Shape) -> Result<Slices> {
        let builder = Publisher::builder().capacity(shape.words * size_of::<u64>());
        Ok(Slices { publisher: self.create(builder, topic, shape)?, words: shape.words })
    }

    fn subscriber(&self, topic: &str, _shape: Shape) -> Result<Option<Self::Subscriber>> {
        self.open(Subscriber::builder(), topic)
    }
}

/// What copies every message out.
pub struct Copying<P>(Subscriber<P>);

impl<const N: usize> Carries<[u64; N]> for Copied {
    type Publisher = Publisher<[u64; N]>;
    type Subscriber = Copying<[u64; N]>;

    fn publisher(&self, topic: &str, shape: Shape) -> Result<Self::Publisher> {
        Carries::<[u64; N]>::publisher(&self.0, topic, shape)
    }

    fn subscriber(&self, topic: &str, _shape: Shape) -> Result<Option<Self::Subscriber>> {
        let opened = self.0.open(Subscriber::builder(), topic)?;
        Ok(opened.map(Copying))
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

impl Publish<[u64]> for Slices {
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
    fn batch(&mut self, most: usize, mut read: impl FnMut(&P)) -> Result<usize> {
        Ok(self.try_recv_batch(most, |message| read(&message))?)
    }
}

impl<P: Message + FromBytes> Receive<P> for Copying<P> {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
        Ok(self.0.try_recv_copy()?.map(|message| read(&message)))
    }

    #[inline]
    fn sleep<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>> {
        Ok(Some(read(&*self.0.recv_copy()?)))
    }
}
