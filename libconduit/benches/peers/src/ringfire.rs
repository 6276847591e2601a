//! ringfire: a ring in shared memory that writes the stamp of a message beside its payload.
//! Messages are copied in and out. Subscribers poll.

use std::path::PathBuf;

use conduit_bench::Result;
use conduit_bench::site::BenchSite;
use conduit_bench::transport::{Carries, Publish, Receive, SmallMessage, TopicOptions, Transport};
use ringfire::{RingConsumer, RingProducer};

/// As many slots as a topic of Conduit has by default.
const DEFAULT_SLOTS: u64 = 16;

/// Its rings are files in the directory of the run.
pub(crate) struct Ringfire {
    directory: PathBuf,
}

impl Ringfire {
    fn path(&self, topic: &str) -> PathBuf {
        self.directory.join(format!("ringfire.{}", topic.replace('/', ".")))
    }
}

impl Transport for Ringfire {
    const NAME: &'static str = "ringfire 0.5";

    fn new(site: &BenchSite) -> Result<Self> {
        Ok(Self { directory: site.directory.clone() })
    }
}

impl Carries<SmallMessage> for Ringfire {
    type Publisher = Produces;
    type Subscriber = Consumes;

    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Produces> {
        let slots = options.depth.unwrap_or(DEFAULT_SLOTS);
        Ok(Produces(RingProducer::create(self.path(topic), slots)?))
    }

    fn subscriber(&self, topic: &str, _options: TopicOptions) -> Result<Option<Consumes>> {
        // A ring that is being created is refused like one that does not exist.
        let attached = RingConsumer::builder().start_from_head().attach(self.path(topic));
        Ok(attached.ok().map(Consumes))
    }
}

/// The writing end of a ring.
pub(crate) struct Produces(RingProducer<SmallMessage>);

/// The reading end of a ring.
pub(crate) struct Consumes(RingConsumer<SmallMessage>);

impl Publish<SmallMessage> for Produces {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut SmallMessage)) -> Result<()> {
        let mut message = [0; 8];
        fill(&mut message);
        self.0.push(&message);
        Ok(())
    }

    #[inline]
    fn publish_batch(&mut self, count: usize, mut fill: impl FnMut(&mut SmallMessage)) -> Result<()> {
        let mut messages = [[0; 8]; 64];
        for at in (0..count).step_by(messages.len()) {
            let batch = &mut messages[..(count - at).min(64)];
            batch.iter_mut().for_each(&mut fill);
            self.0.push_batch(batch);
        }
        Ok(())
    }
}

impl Receive<SmallMessage> for Consumes {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&SmallMessage) -> R) -> Result<Option<R>> {
        Ok(self.0.try_recv().map(|message| read(&message)))
    }

    fn sleep<R>(&mut self, _read: impl FnOnce(&SmallMessage) -> R) -> Result<Option<R>> {
        Err("subscribers of ringfire are measured only while they poll".into())
    }

    #[inline]
    fn batch(&mut self, most: usize, read: impl FnMut(&SmallMessage)) -> Result<()> {
        let mut messages = [[0; 8]; 64];
        let most = most.min(messages.len());
        let received = self.0.recv_batch(&mut messages[..most]);
        messages[..received].iter().for_each(read);
        Ok(())
    }
}
