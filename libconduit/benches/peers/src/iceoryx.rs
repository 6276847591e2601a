//! iceoryx2, used as its documentation shows: samples are loaned, written in place, sent, and read
//! in place. Beside the topic of a subscriber that sleeps there is an event service, which the
//! publisher notifies.

use std::fmt::Debug;
use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use conduit_bench::Result;
use conduit_bench::site::BenchSite;
use conduit_bench::transport::{Carries, Publish, Receive, TopicOptions, Transport, files_below};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{Config, IceoryxSend, LogLevel, Node, NodeBuilder, SignalHandlingMode, ipc, set_log_level};
use iceoryx2::service::port_factory::event;

/// How long a subscriber sleeps before its caller decides whether to continue.
const NAP: Duration = Duration::from_millis(500);

/// A node of iceoryx2.
pub(crate) struct Iceoryx {
    node: Node<ipc::Service>,
}

/// The prefix of the names of its files: the name of the directory, which is unique.
fn prefix(site: &BenchSite) -> String {
    let name = site.directory.file_name().unwrap_or_default();
    format!("{}.", name.to_string_lossy())
}

/// Its files in shared memory, which it places beside its root.
fn in_shared_memory(site: &BenchSite) -> impl Iterator<Item = DirEntry> + use<> {
    let prefix = prefix(site);
    let all = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    all.filter(move |entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

impl Transport for Iceoryx {
    const NAME: &'static str = "iceoryx2 0.10";

    fn new(site: &BenchSite) -> Result<Self> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let directory = site.directory.join("iceoryx2");
        config.global.set_root_path(&directory.to_str().ok_or("the directory's name is not text")?.try_into()?);
        config.global.prefix = prefix(site).as_str().try_into()?;
        let node = NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled).create()?;
        Ok(Self { node })
    }

    fn files(site: &BenchSite) -> Result<Vec<u64>> {
        let mut found = files_below(&site.directory)?;
        found.extend(in_shared_memory(site).map(|entry| entry.metadata().map_or(0, |data| data.blocks() * 512)));
        Ok(found)
    }

    fn clean(site: &BenchSite) {
        for entry in in_shared_memory(site) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Iceoryx {
    /// The service that wakes the subscribers of a topic, if they sleep.
    fn bell(&self, topic: &str, options: TopicOptions) -> Result<Option<event::PortFactory<ipc::Service>>> {
        if !options.has_sleepers {
            return Ok(None);
        }
        let mut builder = self.node.service_builder(&topic.try_into()?).event();
        if let Some(subscribers) = options.subscribers {
            // One node per subscriber, and one of the publisher.
            builder = builder.max_listeners(subscribers).max_nodes(subscribers + 1);
        }
        Ok(Some(builder.open_or_create()?))
    }
}

/// A publisher, and what wakes its subscribers.
pub(crate) struct Sends<M: Debug + IceoryxSend + ?Sized + 'static> {
    publisher: Publisher<ipc::Service, M, ()>,
    bell: Option<Notifier<ipc::Service>>,
    words: usize,
}

/// A subscriber, and what wakes it.
pub(crate) struct Receives<M: Debug + IceoryxSend + ?Sized + 'static> {
    subscriber: Subscriber<ipc::Service, M, ()>,
    bell: Option<Listener<ipc::Service>>,
}

impl<M: Debug + IceoryxSend + ?Sized> Receives<M> {
    /// Waits for the bell, which may have rung for a message that has already been received.
    fn listen(&self) -> Result<()> {
        self.bell.as_ref().ok_or("nobody would wake this subscriber")?.timed_wait(|_| (), NAP)?;
        Ok(())
    }
}

/// Opens or creates the service of a topic.
macro_rules! service {
    ($node:expr, $topic:expr, $options:expr, $message:ty) => {{
        let mut builder = $node.service_builder(&$topic.try_into()?).publish_subscribe::<$message>();
        if let Some(depth) = $options.depth {
            builder = builder.subscriber_max_buffer_size(usize::try_from(depth)?);
        }
        if let Some(subscribers) = $options.subscribers {
            builder = builder.max_subscribers(subscribers).max_nodes(subscribers + 1);
        }
        builder.open_or_create()?
    }};
}

/// Implements [`Carries`] for arrays or slices, which differ in types and names only: how a
/// publisher is created for a number of words, and how a message is loaned. Services are created in
/// the same way on both sides.
macro_rules! carries {
    ([$($generics:tt)*], $message:ty, $words:ident, $builder:ident => $create:expr, $publisher:ident => $loan:expr) => {
        impl<$($generics)*> Carries<$message> for Iceoryx {
            type Publisher = Sends<$message>;
            type Subscriber = Receives<$message>;

            fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Self::Publisher> {
                let service = service!(self.node, topic, options, $message);
                let ($builder, $words) = (service.publisher_builder(), options.words);
                let publisher = $create.create()?;
                let bell = self.bell(topic, options)?.map(|bell| bell.notifier_builder().create()).transpose()?;
                Ok(Sends { publisher, bell, words: $words })
            }

            fn subscriber(&self, topic: &str, options: TopicOptions) -> Result<Option<Self::Subscriber>> {
                let subscriber = service!(self.node, topic, options, $message).subscriber_builder().create()?;
                let bell = self.bell(topic, options)?.map(|bell| bell.listener_builder().create()).transpose()?;
                Ok(Some(Receives { subscriber, bell }))
            }
        }

        impl<$($generics)*> Publish<$message> for Sends<$message> {
            #[inline]
            fn publish(&mut self, fill: impl FnOnce(&mut $message)) -> Result<()> {
                let ($publisher, $words) = (&self.publisher, self.words);
                let sample = $loan?;
                // SAFETY: shared memory is zeroed when it is created, and any bytes are valid
                // words.
                let mut sample = unsafe { sample.assume_init() };
                fill(sample.payload_mut());
                sample.send()?;
                if let Some(bell) = &self.bell {
                    bell.notify()?;
                }
                Ok(())
            }
        }

        impl<$($generics)*> Receive<$message> for Receives<$message> {
            #[inline]
            fn poll<R>(&mut self, read: impl FnOnce(&$message) -> R) -> Result<Option<R>> {
                Ok(self.subscriber.receive()?.map(|sample| read(&sample)))
            }

            #[inline]
            fn sleep<R>(&mut self, read: impl FnOnce(&$message) -> R) -> Result<Option<R>> {
                if let Some(sample) = self.subscriber.receive()? {
                    return Ok(Some(read(&sample)));
                }
                self.listen()?;
                self.poll(read)
            }
        }
    };
}

carries!([const N: usize], [u64; N], _words, builder => builder, publisher => publisher.loan_uninit());
carries!(
    [],
    [u64],
    words,
    builder => builder.initial_max_slice_len(words),
    publisher => publisher.loan_slice_uninit(words)
);
