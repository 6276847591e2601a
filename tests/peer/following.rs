//! Orders that follow topics from publisher to publisher.

use std::collections::BTreeMap;

use conduit::{Gone, PatternEvent, RecvError, Stop, Subscriber, TopicEvent, TopicName};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::pattern::is_pattern;
use crate::protocol::{Answer, Followed};
use crate::{Outcome, State, answer};

impl State {
    pub fn follow(&mut self, topic: &str) -> Outcome {
        self.subscriber = Some(Subscriber::builder().follow().open(topic)?);
        Ok(Answer::Done)
    }

    pub fn follow_until_terminated(&mut self, topic: &str) -> Outcome {
        let stop = Stop::on_termination()?;
        self.subscriber = Some(Subscriber::builder().follow().stop(&stop).open(topic)?);
        Ok(Answer::Done)
    }

    pub fn receive_until_stopped(&mut self) -> Outcome {
        answer(&Answer::Began);
        let subscriber = self.subscriber()?;
        let is_received = subscriber.iter().all(|sample| sample.is_ok());
        let is_stopped = matches!(subscriber.recv(), Err(RecvError::Stopped { .. }));
        Ok(Answer::Flag(is_received && is_stopped))
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

    pub fn follow_all(&mut self, pattern: &str) -> Outcome {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        self.all = Some(Subscriber::builder().open_all(pattern)?);
        Ok(Answer::Done)
    }

    /// Receives until `count` publishers were lost, each of which has sent so many messages.
    pub fn follow_all_through(&mut self, count: u64, messages: u64) -> Outcome {
        let all = self.all.as_mut().ok_or("no subscriber to all topics")?;
        let mut followed = Followed::default();
        let mut lost_publishers = 0;
        // Of each topic: its epoch and, if it is connected, the next message.
        let mut topics: BTreeMap<TopicName, (u32, Option<u64>)> = BTreeMap::new();
        while lost_publishers < count {
            match all.recv_event()? {
                PatternEvent::Connected { topic, .. } => {
                    let (epoch, next) = topics.entry(topic).or_default();
                    followed.wrong += u64::from(next.is_some());
                    (*epoch, *next) = (*epoch + 1, Some(0));
                }
                PatternEvent::Sample(message) => {
                    let (epoch, next) = topics.get_mut(message.topic()).ok_or("a message before its topic")?;
                    let (number, is_whole) = (message.sequence(), is_pattern(message.sequence(), &message));
                    let is_right = Some(number) == *next && message.epoch() == *epoch && is_whole;
                    followed.wrong += u64::from(!is_right);
                    *next = Some(number + 1);
                }
                PatternEvent::Lost { topic, how, certificate } => {
                    let (_, next) = topics.get_mut(&topic).ok_or("a loss before the topic")?;
                    followed.wrong += u64::from(*next != Some(messages));
                    *next = None;
                    followed.died += u64::from(how == Gone::Died);
                    followed.certified += u64::from(certificate.is_some_and(|it| it.signal == Some(9)));
                    lost_publishers += 1;
                }
                event => return Err(format!("{event:?}").into()),
            }
        }
        let sources = all.sources();
        (followed.received, followed.lost) = (all.received(), sources.iter().map(|source| source.lost).sum());
        let received: u64 = sources.iter().map(|source| source.received).sum();
        followed.wrong += u64::from(received != followed.received);
        Ok(Answer::Followed(followed))
    }
}
