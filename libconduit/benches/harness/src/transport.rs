//! What is compared: everything that carries messages from one process to another.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// Where the processes of one measurement meet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Theirs alone, in shared memory.
    pub directory: PathBuf,
    /// Who takes memory first: pages that are taken at different times are not equally fast.
    pub limits_first: bool,
}

/// How a topic is made and used. What is not said is the transport's default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Of the longest message.
    pub words: usize,
    /// How many messages may lie between publisher and subscriber.
    pub depth: Option<u64>,
    /// Subscribers sleep, so the publisher has to wake them.
    pub sleepers: bool,
    /// If there are more than the usual few.
    pub subscribers: Option<usize>,
    pub without_stamps: bool,
}

/// What carries messages.
pub trait Transport: Sized + 'static {
    /// Its name and version; `None` if there is nothing to compare with.
    const PEER: Option<&'static str>;

    fn new(place: &Place) -> Result<Self>;

    /// The bytes that each of its files occupies.
    fn files(place: &Place) -> Result<Vec<u64>> {
        super::costs::files_below(&place.directory)
    }

    /// What a run left outside its directory is removed.
    fn clean(_place: &Place) {}
}

/// A transport of messages of a type: an array or a slice of words.
pub trait Carries<P: ?Sized>: Transport {
    type Publisher: Publish<P>;
    type Subscriber: Receive<P>;

    fn publisher(&self, topic: &str, shape: Shape) -> Result<Self::Publisher>;

    /// `None` if there is no such topic yet.
    fn subscriber(&self, topic: &str, shape: Shape) -> Result<Option<Self::Subscriber>>;
}

pub trait Publish<P: ?Sized> {
    /// Sends a message that `fill` writes where it lies. What it does not write is whatever was there.
    fn publish(&mut self, fill: impl FnOnce(&mut P)) -> Result<()>;
}

pub trait Receive<P: ?Sized> {
    /// Reads the next message where it lies, if there is one.
    fn poll<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>>;

    /// The same, but sleeps until there is one, or for a good while.
    fn sleep<R>(&mut self, read: impl FnOnce(&P) -> R) -> Result<Option<R>>;

    /// Reads as many messages as there are, but no more than `most`; returns how many.
    fn batch(&mut self, most: usize, mut read: impl FnMut(&P)) -> Result<usize> {
        for received in 0..most {
            if self.poll(&mut read)?.is_none() {
                return Ok(received);
            }
        }
        Ok(most)
    }
}

/// Everything that the measurements send.
pub trait All: Carries<[u64; 1]> + Carries<[u64; 8]> + Carries<[u64; 128]> + Carries<[u64]> {}

impl<T: Carries<[u64; 1]> + Carries<[u64; 8]> + Carries<[u64; 128]> + Carries<[u64]>> All for T {}

/// A message of words.
pub trait Words: AsRef<[u64]> + AsMut<[u64]> + 'static {}

impl<P: AsRef<[u64]> + AsMut<[u64]> + ?Sized + 'static> Words for P {}
