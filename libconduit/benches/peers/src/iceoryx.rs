//! iceoryx2, used as its documentation shows: samples are loaned, written in place, sent, and read in place; who sleeps
//! has an event service beside, which the publisher notifies.

use std::fmt::Debug;
use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{Config, IceoryxSend, LogLevel, Node, NodeBuilder, SignalHandlingMode, ipc, set_log_level};
use iceoryx2::service::port_factory::event;

use conduit_bench::costs::files_below;
use conduit_bench::transport::{Carries, Place, Publish, Receive, Result, Shape, Transport};

/// How long a subscriber sleeps before it asks whether to go on.
const NAP: Duration = Duration::from_millis(500);

pub(crate) struct Iceoryx {
    node: Node<ipc::Service>,
}

/// The names of its files begin with that of the directory, which is nobody else's.
fn prefix(place: &Place) -> String {
    let name = place.directory.file_name().unwrap_or_default();
    format!("{}.", name.to_string_lossy())
}

/// Its shared memory is where all of shared memory is, whatever its root is.
fn in_shared_memory(place: &Place) -> impl Iterator<Item = DirEntry> + use<> {
    let prefix = prefix(place);
    let all = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    all.filter(move |entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

impl Transport for Iceoryx {
    const PEER: Option<&'static str> = Some("iceoryx2 0.10");

    fn new(place: &Place) -> Result<Self> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let directory = place.directory.join("iceoryx2");
        config.global.set_root_path(&directory.to_str().ok_or("the directory's name is not text")?.try_into()?);
        config.global.prefix = prefix(place).as_str().try_into()?;
        let node = NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled).create()?;
        Ok(Self { node })
    }

    fn files(place: &Place) -> Result<Vec<u64>> {
        let mut found = files_below(&place.directory)?;
        found.extend(in_shared_memory(place).map(|entry| entry.metadata().map_or(0, |data| data.blocks() * 512)));
        Ok(found)
    }

    fn clean(place: &Place) {
        for entry in in_shared_memory(place) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Iceoryx {
    /// The service that wakes the subscribers of a topic, if they sleep.
    fn bell(&self, topic: &str, shape: Shape) -> Result<Option<event::PortFactory<ipc::Service>>> {
        if !shape.sleepers {
            return Ok(None);
        }
        let mut builder = self.node.service_builder(&topic.try_into()?).event();
        if let Some(subscribers) = shape.subscribers {
            // One node per subscriber, and one of the publisher.
            builder = builder.max_listeners(subscribers).max_nodes(subscribers + 1);
        }
        Ok(Some(builder.open_or_create()?))
    }
}

/// Makes the service of a topic, the same way on both sides: of arrays or of slices, whose builders differ in type only.
macro_rules! service {
    ($node:expr, $topic:expr, $shape:expr, $message:ty) => {{
        let mut builder = $node.service_builder(&$topic.try_into()?).publish_subscribe::<$message>();
        if let Some(depth) = $shape.depth {
            builder = builder.subscriber_max_buffer_size(usize::try_from(depth)?);
        }
        if let Some(subscribers) = $shape.subscribers {
            builder = builder.max_subscribers(subscribers).max_nodes(subscribers + 1);
        }
        builder.open_or_create()?
    }};
}

pub(crate) struct Sends<M: Debug + IceoryxSend + ?Sized + 'static> {
    publisher: Publisher<ipc::Service, M, ()>,
    bell: Option<Notifier<ipc::Service>>,
    words: usize,
}

pub(crate) struct Receives<M: Debug + IceoryxSend + ?Sized + 'static> {
    subscriber: Subscriber<ipc::Service, M, ()>,
    bell: Option<Listener<ipc::Service>>,
}

impl<const N: usize> Carries<[u64; N]> for Iceoryx {
    type Publisher = Sends<[u64; N]>;
    type Subscriber = Receives<[u64; N]>;

    fn publisher(&self, topic: &str, shape: Shape) -> Result<Self::Publisher> {
        let publisher = service!(self.node, topic, shape, [u64; N]).publisher_builder().create()?;
        let bell = self.bell(topic, shape)?.map(|bell| bell.notifier_builder().create()).transpose()?;
        Ok(Sends { publisher, bell, words: N })
    }

    fn subscriber(&self, topic: &str, shape: Shape) -> Result<Option<Self::Subscriber>> {
        let subscriber = service!(self.node, topic, shape, [u64; N]).subscriber_builder().create()?;
        let bell = self.bell(topic, shape)?.map(|bell| bell.listener_builder().create()).transpose()?;
        Ok(Some(Receives { subscriber, bell }))
    }
}

impl Carries<[u64]> for Iceoryx {
    type Publisher = Sends<[u64]>;
    type Subscriber = Receives<[u64]>;

    fn publisher(&self, topic: &str, shape: Shape) -> Result<Self::Publisher> {
        let service = service!(self.node, topic, shape, [u64]);
        let publisher = service.publisher_builder().initial_max_slice_len(shape.words).create()?;
        let bell = self.bell(topic, shape)?.map(|bell| bell.notifier_builder().create()).transpose()?;
        Ok(Sends { publisher, bell, words: shape.words })
    }

    fn subscriber(&self, topic: &str, shape: Shape) -> Result<Option<Self::Subscriber>> {
        let subscriber = service!(self.node, topic, shape, [u64]).subscriber_builder().create()?;
        let bell = self.bell(topic, shape)?.map(|bell| bell.listener_builder().create()).transpose()?;
        Ok(Some(Receives { subscriber, bell }))
    }
}

fn ring(bell: Option<&Notifier<ipc::Service>>) -> Result<()> {
    if let Some(bell) = bell {
        bell.notify()?;
    }
    Ok(())
}

impl<const N: usize> Publish<[u64; N]> for Sends<[u64; N]> {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut [u64; N])) -> Result<()> {
        let sample = self.publisher.loan_uninit()?;
        // SAFETY: shared memory is zeroed at first, and any bytes are valid words.
        let mut sample = unsafe { sample.assume_init() };
        fill(sample.payload_mut());
        sample.send()?;
        ring(self.bell.as_ref())
    }
}

impl Publish<[u64]> for Sends<[u64]> {
    #[inline]
    fn publish(&mut self, fill: impl FnOnce(&mut [u64])) -> Result<()> {
        let sample = self.publisher.loan_slice_uninit(self.words)?;
        // SAFETY: shared memory is zeroed at first, and any bytes are valid words.
        let mut sample = unsafe { sample.assume_init() };
        fill(sample.payload_mut());
        sample.send()?;
        ring(self.bell.as_ref())
    }
}

/// Waits for the bell, which may have rung for a message that has already been received.
fn listen(bell: Option<&Listener<ipc::Service>>) -> Result<()> {
    let bell = bell.ok_or("nobody would wake this subscriber")?;
    bell.timed_wait(|_| (), NAP)?;
    Ok(())
}

impl<const N: usize> Receive<[u64; N]> for Receives<[u64; N]> {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&[u64; N]) -> R) -> Result<Option<R>> {
        Ok(self.subscriber.receive()?.map(|sample| read(&sample)))
    }

    #[inline]
    fn sleep<R>(&mut self, read: impl FnOnce(&[u64; N]) -> R) -> Result<Option<R>> {
        if let Some(sample) = self.subscriber.receive()? {
            return Ok(Some(read(&sample)));
        }
        listen(self.bell.as_ref())?;
        self.poll(read)
    }
}

impl Receive<[u64]> for Receives<[u64]> {
    #[inline]
    fn poll<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<Option<R>> {
        Ok(self.subscriber.receive()?.map(|sample| read(&sample)))
    }

    #[inline]
    fn sleep<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<Option<R>> {
        if let Some(sample) = self.subscriber.receive()? {
            return Ok(Some(read(&sample)));
        }
        listen(self.bell.as_ref())?;
        self.poll(read)
    }
}
