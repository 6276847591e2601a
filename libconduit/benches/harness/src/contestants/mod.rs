//! What is measured, over any transport, and the limits beside.

pub mod limits;
pub mod publishing;
pub mod round_trips;
pub mod stream;
pub mod threads;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use crate::partner::retry;
use crate::pattern::{self, END, Touch};
use crate::site::BenchSite;
use crate::transport::{Carries, Publish, Receive, TopicOptions, WordMessage};
use crate::turns::Counts;
use crate::{BenchSide, Result, Wait};

/// Polls between two calls of `check`.
const SPINS: u32 = 4096;

/// One process's end of a topic there and a topic back.
pub struct DuplexChannel<T: Carries<M>, M: ?Sized> {
    /// Of the topic there in the first process, of the topic back in the second one.
    pub publisher: T::Publisher,
    /// Of the other topic.
    pub subscriber: T::Subscriber,
    // Dropped after the ports that were made with it.
    _transport: T,
}

/// A channel that several contestants use in turn.
pub type SharedChannel<T, M> = Rc<RefCell<DuplexChannel<T, M>>>;

impl<T: Carries<M>, M: WordMessage + ?Sized> DuplexChannel<T, M> {
    /// Creates one topic and waits for the other one. Both processes open their channels in the
    /// same order.
    pub fn open(site: &BenchSite, side: BenchSide, name: &str, options: TopicOptions) -> Result<SharedChannel<T, M>> {
        let transport = T::new(site)?;
        let (there, back) = (format!("{name}/there"), format!("{name}/back"));
        let (sends, receives) = if side == BenchSide::First { (there, back) } else { (back, there) };
        let publisher = transport.publisher(&sends, options)?;
        let subscriber = retry(&receives, || transport.subscriber(&receives, options))?;
        Ok(Rc::new(RefCell::new(Self { publisher, subscriber, _transport: transport })))
    }

    /// Sends the message of this index.
    #[inline]
    pub fn send(&mut self, index: u64, touch: Touch) -> Result<()> {
        self.publisher.publish(|message| pattern::write(index, touch.of_mut(message.as_mut())))
    }

    /// Sends the messages of these indices at once.
    #[inline]
    pub fn send_batch(&mut self, mut indices: Range<u64>, touch: Touch) -> Result<()> {
        let count = indices.clone().count();
        self.publisher.publish_batch(count, |message| {
            indices.by_ref().take(1).for_each(|index| pattern::write(index, touch.of_mut(message.as_mut())));
        })
    }
}

/// Sends the last message of a turn, which says how many there were.
pub fn send_end<M: WordMessage + ?Sized>(publisher: &mut impl Publish<M>, sent: u64) -> Result<()> {
    publisher.publish(|message| message.as_mut().iter_mut().zip([END, sent]).for_each(|(word, value)| *word = value))
}

/// Waits for the next message. `check` is called now and then; its error ends the waiting.
#[inline]
pub fn receive<M: ?Sized, R>(
    subscriber: &mut impl Receive<M>,
    wait: Wait,
    mut check: impl FnMut() -> Result<()>,
    mut read: impl FnMut(&M) -> R,
) -> Result<R> {
    loop {
        match wait {
            Wait::Poll => {
                for _ in 0..SPINS {
                    if let Some(read) = subscriber.poll(&mut read)? {
                        return Ok(read);
                    }
                }
            }
            Wait::Sleep => {
                if let Some(read) = subscriber.sleep(&mut read)? {
                    return Ok(read);
                }
            }
        }
        check()?;
    }
}

/// Counts the messages of a turn and those that are missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageCounter {
    /// Index of the next message.
    pub expected: u64,
    /// What was counted.
    pub counts: Counts,
}

impl MessageCounter {
    /// Counts a message after checking its words; returns whether it is the last one.
    #[inline]
    pub fn count(&mut self, words: &[u64], touch: Touch) -> Result<bool> {
        let is_last = self.count_index(words[0], words.get(1).copied().unwrap_or_default())?;
        if !is_last {
            pattern::check(words[0], touch.of(words))?;
        }
        Ok(is_last)
    }

    /// Counts a message by its index; returns whether it is the last one, which says how many were
    /// `sent`.
    #[inline]
    pub fn count_index(&mut self, index: u64, sent: u64) -> Result<bool> {
        let is_last = index == END;
        let index = if is_last { sent } else { index };
        if index < self.expected {
            return Err(format!("message {index} comes after message {}", self.expected - 1).into());
        }
        self.counts.lost += index - self.expected;
        self.expected = index;
        if !is_last {
            self.counts.received += 1;
            self.expected += 1;
        }
        Ok(is_last)
    }

    /// Receives until the last message.
    pub fn count_all<M: WordMessage + ?Sized>(subscriber: &mut impl Receive<M>, wait: Wait) -> Result<Counts> {
        let mut counter = Self::default();
        let mut count = |message: &M| counter.count(message.as_ref(), Touch::Whole);
        while !receive(subscriber, wait, || Ok(()), &mut count)?? {}
        Ok(counter.counts)
    }
}

/// Fails unless every message sent was received or counted as lost.
pub fn verify(sent: u64, counts: Counts) -> Result<()> {
    let Counts { received, lost } = counts;
    if received + lost == sent {
        return Ok(());
    }
    Err(format!("of {sent} messages {received} arrived and {lost} were lost: this must not happen, please report it")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_messages_are_counted_and_reordered_ones_refused() {
        let message = |index| {
            let mut words = [0; 8];
            pattern::write(index, &mut words);
            words
        };
        let mut counter = MessageCounter::default();
        for index in [0, 1, 4] {
            assert!(!counter.count(&message(index), Touch::Whole).unwrap());
        }
        assert!(counter.count(&message(4), Touch::Whole).is_err());
        assert!(counter.count(&[END, 7, 0, 0, 0, 0, 0, 0], Touch::Whole).unwrap());
        assert_eq!(counter.counts, Counts { received: 3, lost: 4 });
        verify(7, counter.counts).unwrap();
        assert!(verify(8, counter.counts).is_err());
    }
}
