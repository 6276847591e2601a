//! Messages in a row: with a window, so that none is lost, or as fast as the publisher can.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{MessageCounter, SharedChannel, send_end, verify};
use crate::limits::StreamReceipts;
use crate::partner::{Partner, Patience};
use crate::pattern::Touch;
use crate::transport::{Carries, Receive as _, WordMessage};
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{Result, Wait};

/// Messages that are sent between two reads of the clock without a window.
const STEP: u64 = 64;
/// Messages that are received at once, at most.
const BATCH: usize = 64;
/// Looks at the receipts between two calls of `check`.
const SPINS: u32 = 4096;

/// How far the publisher may be ahead of the subscriber.
pub struct StreamWindow {
    /// At most so many messages are in flight, which the ring holds: none is lost.
    pub messages: u64,
    /// How the publisher learns that they were received.
    pub receipts: StreamReceipts,
}

/// Which messages a stream's two ends handle many at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamBatches {
    /// The publisher sends as many at once as it sends between two looks at the window.
    pub sent: bool,
    /// The subscriber receives as many at once as have arrived.
    pub received: bool,
}

/// A stream of messages that are written and read whole.
pub struct MessageStream<T: Carries<M>, M: ?Sized> {
    channel: SharedChannel<T, M>,
    window: Option<StreamWindow>,
    batches: StreamBatches,
    /// Messages of this turn.
    sent: u64,
    /// Messages of earlier turns.
    before: u64,
}

impl<T: Carries<M>, M: WordMessage + ?Sized> MessageStream<T, M> {
    /// Over the topic there of a channel, with or without a window.
    pub fn new(channel: SharedChannel<T, M>, window: Option<StreamWindow>, batches: StreamBatches) -> Self {
        Self { channel, window, batches, sent: 0, before: 0 }
    }

    /// Messages that are acknowledged at once; the publisher sends multiples of it.
    fn step(&self) -> u64 {
        self.window.as_ref().map_or(STEP, |window| window.messages.div_ceil(4))
    }
}

impl StreamWindow {
    /// Waits until no more than so many of the messages sent in all are in flight.
    #[inline]
    fn wait(&self, in_flight: u64, sent: u64, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        while (0..SPINS).all(|_| sent - self.receipts.received() > in_flight) {
            check()?;
        }
        Ok(())
    }
}

impl<T: Carries<M>, M: WordMessage + ?Sized> Contestant for MessageStream<T, M> {
    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let (step, before) = (self.step(), self.before);
        let channel = &mut *self.channel.borrow_mut();
        let mut patience = Patience::new(partner, until);
        let mut sent = 0;
        let begun = Instant::now();
        loop {
            let at_once = if self.batches.sent { step } else { 1 };
            for _ in 0..step / at_once {
                if let Some(window) = &self.window {
                    window.wait(window.messages - at_once, before + sent, || patience.check())?;
                }
                if self.batches.sent {
                    channel.send_batch(sent..sent + step, Touch::Whole)?;
                } else {
                    channel.send(sent, Touch::Whole)?;
                }
                sent += at_once;
            }
            if until.is_over(sent, Instant::now()) {
                break;
            }
        }
        if let Some(window) = &self.window {
            window.wait(0, before + sent, || patience.check())?;
        }
        into.add_messages(sent, begun.elapsed().as_nanos() as u64);
        self.sent = sent;
        self.before += sent;
        send_end(&mut channel.publisher, sent)
    }

    fn answer(&mut self) -> Result<Counts> {
        let (step, before) = (self.step(), self.before);
        let channel = &mut *self.channel.borrow_mut();
        if self.window.is_none() && !self.batches.received {
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
            if self.batches.received {
                channel.subscriber.batch(BATCH, take)?;
            } else {
                channel.subscriber.poll(take)?;
            }
            let Counts { received, lost } = counter.counts;
            if outcome? {
                self.before += received;
                return Ok(counter.counts);
            }
            let Some(window) = &self.window else { continue };
            if lost > 0 {
                return Err(format!("{lost} messages were lost in spite of the window").into());
            }
            if received >= acknowledged + step {
                acknowledged = received / step * step;
                window.receipts.acknowledge(before + acknowledged);
            }
        }
    }

    fn verify(&mut self, counts: Counts) -> Result<()> {
        verify(self.sent, counts)
    }
}
