//! What is compared: everything that carries messages from one process to another.

use crate::Result;
use crate::site::BenchSite;

/// How a topic is created and used. What is not specified is the transport's default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopicOptions {
    /// Words of the longest message; 0 for a topic of slices of the default length.
    pub words: usize,
    /// How many messages fit between publisher and subscriber.
    pub depth: Option<u64>,
    /// Whether subscribers copy batches of messages out, where a transport has a choice.
    pub copies_batches: bool,
    /// Whether subscribers sleep, so that the publisher has to wake them.
    pub has_sleepers: bool,
    /// How many subscribers there are, if more than the usual few.
    pub subscribers: Option<usize>,
    /// Whether messages carry no time stamps, where a transport has a choice.
    pub is_unstamped: bool,
    /// How many messages are kept for subscribers that join later, where a transport has a choice.
    pub retain: Option<u16>,
}

/// Something that carries messages.
pub trait Transport: Sized + 'static {
    /// Its name, and its version if it is not Conduit.
    const NAME: &'static str;

    /// Opens it for a measurement in a directory.
    fn new(site: &BenchSite) -> Result<Self>;

    /// The bytes that each of its files occupies.
    fn files(site: &BenchSite) -> Result<Vec<u64>> {
        Ok(files_below(&site.directory)?)
    }

    /// Removes what a run left outside its directory.
    fn clean(_site: &BenchSite) {}
}

/// The bytes that each file below a directory occupies.
pub fn files_below(directory: &std::path::Path) -> std::io::Result<Vec<u64>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(metadata.blocks() * 512);
        }
    }
    Ok(found)
}

/// A transport of messages of a type: an array or a slice of words.
pub trait Carries<M: ?Sized>: Transport {
    /// Sends messages of a topic.
    type Publisher: Publish<M>;
    /// Receives messages of a topic.
    type Subscriber: Receive<M>;

    /// Creates a topic.
    fn publisher(&self, topic: &str, options: TopicOptions) -> Result<Self::Publisher>;

    /// Opens a topic; `None` if it does not exist yet.
    fn subscriber(&self, topic: &str, options: TopicOptions) -> Result<Option<Self::Subscriber>>;
}

/// The sending end of a topic.
pub trait Publish<M: ?Sized> {
    /// Sends a message that `fill` writes in place. Words that it does not write have any value.
    fn publish(&mut self, fill: impl FnOnce(&mut M)) -> Result<()>;

    /// Sends so many messages that `fill` writes one after the other, at once if the transport can.
    #[inline]
    fn publish_batch(&mut self, count: usize, mut fill: impl FnMut(&mut M)) -> Result<()> {
        for _ in 0..count {
            self.publish(&mut fill)?;
        }
        Ok(())
    }
}

/// The receiving end of a topic.
pub trait Receive<M: ?Sized> {
    /// Reads the next message in place, if there is one.
    fn poll<R>(&mut self, read: impl FnOnce(&M) -> R) -> Result<Option<R>>;

    /// The same, but sleeps until there is one, or for a while.
    fn sleep<R>(&mut self, read: impl FnOnce(&M) -> R) -> Result<Option<R>>;

    /// Reads the messages that have arrived, at most so many.
    fn batch(&mut self, most: usize, mut read: impl FnMut(&M)) -> Result<()> {
        for _ in 0..most {
            if self.poll(&mut read)?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// A transport of everything that the table's rows send.
pub trait CarriesAll: Carries<[u64; 1]> + Carries<SmallMessage> + Carries<[u64; 128]> + Carries<[u64]> {}

impl<T: Carries<[u64; 1]> + Carries<SmallMessage> + Carries<[u64; 128]> + Carries<[u64]>> CarriesAll for T {}

/// A message of 64 bytes.
pub type SmallMessage = [u64; 8];

/// A message of words.
pub trait WordMessage: AsRef<[u64]> + AsMut<[u64]> + 'static {}

impl<M: AsRef<[u64]> + AsMut<[u64]> + ?Sized + 'static> WordMessage for M {}
