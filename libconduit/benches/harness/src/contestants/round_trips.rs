//! One way of a message: half of a round trip over two topics.

use super::{SharedChannel, receive, send_end};
use crate::partner::{Partner, Patience};
use crate::pattern::{self, ANSWER, END, Touch};
use crate::transport::{Carries, WordMessage};
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{Result, Wait};

/// A message there and another one back.
pub struct RoundTrips<T: Carries<M>, M: ?Sized> {
    /// The topics of both.
    pub channel: SharedChannel<T, M>,
    /// How both processes wait.
    pub wait: Wait,
    /// How much of each message is written and read.
    pub touch: Touch,
    /// Whether round trips are timed in groups, too.
    pub is_grouped: bool,
}

impl<T: Carries<M>, M: WordMessage + ?Sized> Contestant for RoundTrips<T, M> {
    fn spans(&self) -> u64 {
        2
    }

    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        let Self { wait, touch, is_grouped, ref channel } = *self;
        let channel = &mut *channel.borrow_mut();
        let mut patience = Patience::new(partner, until);
        let mut index = 0;
        let mut round = || {
            channel.send(index, touch)?;
            let read = |message: &M| pattern::check(index | ANSWER, touch.of(message.as_ref()));
            receive(&mut channel.subscriber, wait, || patience.check(), read)??;
            index += 1;
            Ok(())
        };
        // The first round waits for the other process to wake up.
        round()?;
        into.time_rounds(until, is_grouped, round)?;
        send_end(&mut channel.publisher, index)
    }

    fn answer(&mut self) -> Result<Counts> {
        let Self { wait, touch, ref channel, .. } = *self;
        let channel = &mut *channel.borrow_mut();
        let mut index = 0;
        loop {
            let read = |message: &M| match message.as_ref() {
                [END, ..] => Ok(false),
                words => pattern::check(index, touch.of(words)).map(|()| true),
            };
            if !receive(&mut channel.subscriber, wait, || Ok(()), read)?? {
                return Ok(Counts { received: index, lost: 0 });
            }
            channel.send(index | ANSWER, touch)?;
            index += 1;
        }
    }
}
