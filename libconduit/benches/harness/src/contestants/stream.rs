//! Messages in a row: with a window, so that none is lost, or as fast as the publisher can.

use std::time::Instant;

use super::{DuplexChannel, MessageCounter, SharedChannel, receive, send_end, verify};
use crate::partner::{Partner, Patience};
use crate::pattern::Touch;
use crate::transport::{Carries, Publish as _, Receive as _, WordMessage};
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{Result, Wait};

/// Messages that are sent between two reads of the clock without a window.
const STEP: u64 = 64;
/// Messages that are received at once, at most.
const BATCH: usize = 64;

/// A stream of messages that are written and read whole.
pub struct MessageStream<T: Carries<M>, M: ?Sized> {
    channel: SharedChannel<T, M>,
    window: Option<u64>,
    is_batched: bool,
    /// Messages of this turn.
    sent: u64,
}

impl<T: Carries<M>, M: WordMessage + ?Sized> MessageStream<T, M> {
    /// With at most `window` messages in flight, which are never lost, or without a window.
    /// Messages are received one by one, or as many at once as have arrived.
    pub fn new(channel: SharedChannel<T, M>, window: Option<u64>, is_batched: bool) -> Self {
        Self { channel, window, is_batched, sent: 0 }
    }

    /// Messages that are acknowledged at once; the publisher sends multiples of it.
    fn step(&self) -> u64 {
        self.window.map_or(STEP, |window| window.div_ceil(4))
    }
}

impl<T: Carries<M>, M: WordMessage + ?Sized> Contestant for MessageStream<T, M> {
    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let (step, window) = (self.step(), self.window.unwrap_or(u64::MAX));
        let channel = &mut *self.channel.borrow_mut();
        let mut patience = Patience::new(partner, until);
        let (mut sent, mut received) = (0, 0);
        let mut wait_for_room = |channel: &mut DuplexChannel<T, M>, in_flight: u64, sent: u64| {
            while sent - received > in_flight {
                let receipt = |message: &M| message.as_ref()[0];
                received = receive(&mut channel.subscriber, Wait::Poll, || patience.check(), receipt)?;
            }
            Result::Ok(())
        };
        let begun = Instant::now();
        loop {
            for _ in 0..step {
                wait_for_room(channel, window - 1, sent)?;
                channel.send(sent, Touch::Whole)?;
                sent += 1;
            }
            if until.is_over(sent, Instant::now()) {
                break;
            }
        }
        if self.window.is_some() {
            wait_for_room(channel, 0, sent)?;
        }
        into.messages += sent;
        into.ns += begun.elapsed().as_nanos() as u64;
        self.sent = sent;
        send_end(&mut channel.publisher, sent)
    }

    fn answer(&mut self) -> Result<Counts> {
        let (step, has_window) = (self.step(), self.window.is_some());
        let channel = &mut *self.channel.borrow_mut();
        if !has_window && !self.is_batched {
            return MessageCounter::count_all(&mut channel.subscriber, Wait::Poll);
        }
        let (mut counter, mut acknowledged) = (MessageCounter::default(), 0);
        loop {
            let mut outcome = Ok(false);
            let take = |message: &M| {
                if let Ok(false) = outcome {
                    outcome = counter.count(message.as_ref(), Touch::Whole);
                }
            };
            if self.is_batched {
                channel.subscriber.batch(BATCH, take)?;
            } else {
                channel.subscriber.poll(take)?;
            }
            let Counts { received, lost } = counter.counts;
            if outcome? {
                return Ok(counter.counts);
            }
            if has_window && lost > 0 {
                return Err(format!("{lost} messages were lost in spite of the window").into());
            }
            if has_window && received >= acknowledged + step {
                acknowledged = received / step * step;
                channel.publisher.publish(|receipt| receipt.as_mut()[0] = acknowledged)?;
            }
        }
    }

    fn verify(&mut self, counts: Counts) -> Result<()> {
        verify(self.sent, counts)
    }
}
