//! photon-ring: a ring in the memory of one process, for its threads, that writes the stamp of a
//! message beside its payload. Messages are copied in and out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use conduit_bench::Result;
use conduit_bench::site::BenchSite;
use conduit_bench::transport::{Carries, Publish, Receive, SmallMessage, TopicOptions, Transport};
use photon_ring::{Publisher, Subscribable, Subscriber, channel};

/// As many slots as a topic of Conduit has by default.
const DEFAULT_SLOTS: u64 = 16;

/// The rings that wait for their subscriber, by the directory of the run and the topic.
static RINGS: LazyLock<Mutex<HashMap<(PathBuf, String), Subscribable<SmallMessage>>>> = LazyLock::new(Mutex::default);

/// The rings of a run.
pub(crate) struct Photon {
    directory: PathBuf,
}

impl Transport for Photon {
    const NAME: &'static str = "photon-ring 3.0";

    fn new(site: &BenchSite) -> Result<Self> {
        Ok(Self { directory: site.directory.clone() })
    }
}

impl Carries<SmallMessage> for Photon {
    type Publisher = Publishes;
    type Subscriber = Subscribes;

    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Publishes> {
        let slots = usize::try_from(options.depth.unwrap_or(DEFAULT_SLOTS))?;
        let (publisher, ring) = channel(slots);
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        rings.insert((self.directory.clone(), topic.into()), ring);
        Ok(Publishes(publisher))
    }

    fn subscriber(&self, topic: &str, _options: TopicOptions) -> Result<Option<Subscribes>> {
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.remove(&(self.directory.clone(), topic.into()));
        Ok(ring.map(|ring| Subscribes(ring.subscribe())))
    }
}

/// The writing end of a ring.
pub(crate) struct Publishes(Publisher<SmallMessage>);

/// The reading end of a ring.
pub(crate) struct Subscribes(Subscriber<SmallMessage>);

impl Publish<SmallMessage> for Publishes {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut SmallMessage)) -> Result<()> {
        let mut message = [0; 8];
        fill(&mut message);
        self.0.publish(message);
        Ok(())
    }
}

impl Receive<SmallMessage> for Subscribes {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&SmallMessage) -> R) -> Result<Option<R>> {
        // Loss moves the subscriber on; the next call finds a message.
        Ok(self.0.try_recv().ok().map(|message| read(&message)))
    }

    fn sleep<R>(&mut self, _read: impl FnOnce(&SmallMessage) -> R) -> Result<Option<R>> {
        Err("subscribers of photon-ring are measured only while they poll".into())
    }
}
