//! Orders that follow a topic from publisher to publisher.

use conduit::{Gone, Subscriber, TopicEvent};

use crate::pattern::is_pattern;
use crate::protocol::{Answer, Followed};
use crate::{Outcome, State};

impl State {
    pub fn follow(&mut self, topic: &str) -> Outcome {
        self.subscriber = Some(Subscriber::builder().follow().open(topic)?);
        Ok(Answer::Done)
    }

    /// Receives until `count` publishers were lost, each of which has sent so many messages.
    pub fn follow_through(&mut self, count: u64, messages: u64) -> Outcome {
        let subscriber = self.subscriber()?;
        let mut followed = Followed::default();
        let (before, mut next) = (subscriber.epoch() - u32::from(subscriber.is_connected()), None);
        for epoch in before + 1..=before + count as u32 {
            let mut is_connected = false;
            loop {
                match subscriber.recv_event()? {
                    TopicEvent::Connected { .. } => {
                        followed.wrong += u64::from(is_connected);
                        (is_connected, next) = (true, Some(0));
                    }
                    TopicEvent::Sample(sample) => {
                        let (number, is_whole) = (sample.sequence(), is_pattern(sample.sequence(), &sample));
                        let is_right = Some(number) == next && sample.epoch() == epoch && is_whole;
                        followed.wrong += u64::from(!is_right);
                        next = Some(number + 1);
                    }
                    TopicEvent::Lost { how, certificate } => {
                        followed.wrong += u64::from(next != Some(messages) || !is_connected);
                        followed.died += u64::from(how == Gone::Died);
                        followed.certified += u64::from(certificate.is_some_and(|it| it.signal == Some(9)));
                        break;
                    }
                    event => return Err(format!("{event:?}").into()),
                }
            }
        }
        (followed.received, followed.lost) = (subscriber.received(), subscriber.lost());
        Ok(Answer::Followed(followed))
    }
}
