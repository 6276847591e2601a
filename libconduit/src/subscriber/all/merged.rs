//! The messages of many topics, in the order of their time stamps.
//!
//! For each topic there is a *key*: when its next message was published, as far as that is known.
//! The least key says from which topic to receive. A topic without a message must be looked at
//! again and again; but what it gets after the last look is newer than that, so there is no need to
//! look while there are messages that are older. A backlog is thus received with a look at its own
//! topics alone, and otherwise all topics are looked at once for each message.
//!
//! Who waits, waits at a [vacant ring](crate::ring::vacant), as a follower without a publisher
//! does. It is ended by the [lookout](crate::lookout) when a topic that matches appears, and by
//! [parkers](crate::parker) when a topic has something to receive. Before a wait, every topic is
//! armed that was not; so the ring has ended, or every topic without a message will end it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::event::{PatternEvent, TopicSample};
use super::history::{Histories, MOST_SOURCES, MatchedTopic};
use super::source::{DEFERRED, NO_MESSAGE, TopicSource};
use crate::error::{OpenError, RecvError};
use crate::inspect::open_directory;
use crate::intervals::CHECK_INTERVAL;
use crate::lookout::Vigil;
use crate::message::Message;
use crate::mutation::{mutated, step};
use crate::registry::Process;
use crate::ring::end::Gone;
use crate::ring::reader::Peeked;
use crate::ring::start::Start;
use crate::ring::vacant::VacantRing;
use crate::shm::clock::{coarse_now, coarse_tick, now_ns};
use crate::shm::dir::DirEntry;
use crate::subscriber::connection::TopicConnection;
use crate::subscriber::followed::{FollowedPublisher, certificate, now_ms};
use crate::subscriber::{NEVER, Sample, Subscriber, SubscriberBuilder};
use crate::{Domain, TopicName, TopicPattern};

/// How many topics are opened before the next message is received.
const OPENED_AT_ONCE: usize = 16;

/// A change of a topic that was not reported.
pub(super) enum TopicChange {
    Connected { topic: TopicName, publisher: Process },
    Lost { topic: TopicName, dead: FollowedPublisher, how: Gone },
    NotFollowed { topic: TopicName, reason: String },
    Resumed { topic: TopicName, after: Duration },
}

/// What is to be reported next.
pub(super) enum Next<T: ?Sized> {
    Message(TopicSample<T>),
    Change(TopicChange),
}

/// The topics that match a pattern.
pub(super) struct Merged<T: ?Sized> {
    pattern: TopicPattern,
    domain: Domain,
    /// How to open a topic.
    pub(super) builder: SubscriberBuilder<T>,
    pub(super) vacancy: VacantRing,
    vigil: Vigil,
    sources: Vec<TopicSource<T>>,
    /// Of each source.
    keys: Vec<u64>,
    histories: Histories,
    /// Topics that have appeared and were not opened yet.
    appeared: BTreeSet<TopicName>,
    changes: VecDeque<TopicChange>,
    /// When all sources were last looked at.
    looked_ns: u64,
    /// When it was last checked whether sources have ended: a tick of the coarse clock.
    tick: u64,
    last_retry: Duration,
    /// Whether the ring will be ended to try again.
    retry_is_asked: bool,
}

impl<T: ?Sized + Message> Merged<T> {
    /// Begins to look out for topics, and opens those that are there.
    pub(super) fn new(mut builder: SubscriberBuilder<T>, pattern: TopicPattern) -> Result<Self, OpenError> {
        let domain = builder.options.domain.get_or_insert_default().clone();
        let failure = |doing| OpenError::io(doing, domain.shm_dir().into());
        builder.options.follows = true;
        let vacancy = VacantRing::new().map_err(failure("wait for publishers in"))?;
        let mut vigil = Vigil::for_all(&domain, pattern.clone(), vacancy.clone());
        vigil.begin().map_err(failure("start a thread to watch"))?;
        // Taken before the directory is read: what appears from now on is found again.
        vigil.take_found();
        let mut merged = Self {
            pattern,
            vacancy,
            vigil,
            builder,
            sources: Vec::new(),
            keys: Vec::new(),
            histories: Histories::default(),
            appeared: BTreeSet::new(),
            changes: VecDeque::new(),
            looked_ns: 0,
            tick: NEVER,
            last_retry: coarse_now(),
            retry_is_asked: false,
            domain,
        };
        for topic in merged.list()? {
            merged.connect(&topic);
        }
        // Whoever appears from now on was awaited.
        step!(all_oldest, merged.builder.options.start = Start::Oldest);
        step!(all_awaited, merged.builder.options.is_awaited = true);
        Ok(merged)
    }

    /// The topics of the directory that match.
    fn list(&self) -> Result<BTreeSet<TopicName>, OpenError> {
        let directory = open_directory(&self.domain)?;
        let entries = directory.entries().map_err(OpenError::io("read", directory.path().into()))?;
        let topics = entries.into_iter().filter_map(|entry| match entry {
            DirEntry::Region(topic) => Some(topic),
            _ => None,
        });
        Ok(topics.filter(|topic| self.pattern.matches(topic)).collect())
    }

    /// Opens topics that have appeared, a few at a time: other topics have messages meanwhile.
    #[cold]
    fn discover(&mut self) {
        if self.vigil.has_found() {
            let found = self.vigil.take_found();
            self.appeared.extend(found.names);
            if found.are_unknown {
                // Without the directory there are no topics: it is watched for.
                step!(all_listed, self.appeared.extend(self.list().unwrap_or_default()));
            }
        }
        for _ in 0..OPENED_AT_ONCE {
            let Some(topic) = self.appeared.pop_first() else { break };
            self.connect(&topic);
        }
    }

    #[cold]
    fn retry(&mut self) {
        let now = coarse_now();
        if now.saturating_sub(self.last_retry) < CHECK_INTERVAL || self.sources.len() >= MOST_SOURCES {
            return;
        }
        self.last_retry = now;
        for topic in self.histories.take_retries() {
            self.connect(&topic);
        }
    }

    /// Opens a topic, unless it is open.
    fn connect(&mut self, topic: &TopicName) {
        let history = self.histories.get(topic);
        // When it ends, its successor is looked for.
        if history.is_some_and(|history| history.is_connected) {
            return;
        }
        let mut options = self.builder.options.clone();
        options.epoch = history.map_or(0, |history| history.epoch) + 1;
        options.shape = history.and_then(|history| history.shape.clone());
        let connected = if self.sources.len() < MOST_SOURCES {
            options.connect(topic, T::TYPE)
        } else {
            Err(OpenError::TooManyTopics { limit: MOST_SOURCES })
        };
        if let Err(error) = connected.and_then(|connection| self.add(topic, connection)) {
            let region = open_directory(&self.domain).ok().and_then(|directory| directory.id_of(topic).ok().flatten());
            if let Some(reason) = self.histories.refuse(topic, &error, region) {
                self.changes.push_back(TopicChange::NotFollowed { topic: topic.clone(), reason });
            }
        }
    }

    fn add(&mut self, topic: &TopicName, connection: TopicConnection) -> Result<(), OpenError> {
        let TopicConnection { reader, record, watched, layout, shape } = connection;
        let mut subscriber = self.builder.subscriber(reader, watched, topic.clone(), layout.message);
        subscriber.pins = record.filter(|_| !self.builder.options.copies);
        let publisher = FollowedPublisher { publisher: layout.publisher(), time_ms: now_ms() };
        let process = publisher.publisher.clone();
        let failure = OpenError::io("start a thread to wait for", topic.as_str().into());
        let mut source =
            TopicSource::new(subscriber, Arc::new(topic.clone()), publisher, &self.vacancy).map_err(failure)?;
        source.topic = self.histories.connect(topic, shape);
        self.sources.push(source);
        self.keys.push(NO_MESSAGE);
        // It is not armed.
        self.vacancy.end();
        self.changes.push_back(TopicChange::Connected { topic: topic.clone(), publisher: process });
        Ok(())
    }

    /// Every message of a topic was received, and no more will follow: goes to its next publisher,
    /// if there is one.
    #[cold]
    fn end(&mut self, index: usize, how: Gone) {
        let source = self.sources.swap_remove(index);
        self.keys.swap_remove(index);
        let TopicSource { subscriber, topic, publisher, .. } = source;
        let history = self.histories.change(&topic);
        history.is_connected = false;
        step!(all_received, history.received = history.received.saturating_add(subscriber.received()));
        step!(all_lost, history.lost = history.lost.saturating_add(subscriber.lost()));
        drop(subscriber);
        self.changes.push_back(TopicChange::Lost { topic: TopicName::clone(&topic), dead: publisher, how });
        step!(all_successor, self.connect(&topic));
        if self.histories.retry {
            // There is room for another one.
            self.last_retry = Duration::ZERO;
        }
    }

    /// The next message or change. `waits` if the caller is about to wait for one at the vacant
    /// ring, which is `hub`'s.
    pub(super) fn next(&mut self, hub: &mut Subscriber<T>, waits: bool) -> Result<Option<Next<T>>, RecvError> {
        if hub.reader.is_foreign() {
            return Err(RecvError::Forked);
        }
        if self.vigil.has_found() || !self.appeared.is_empty() {
            self.discover();
        }
        if self.histories.retry {
            self.retry();
        }
        let mut has_looked = false;
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(Some(Next::Change(change)));
            }
            let oldest = self.keys.iter().copied().enumerate().min_by_key(|&(_, key)| key);
            let (index, key) = oldest.unwrap_or((0, NO_MESSAGE));
            // What came after the last look is newer.
            if key > self.looked_ns && !has_looked {
                has_looked = true;
                self.look(hub.reader.has_ended().is_some());
            } else if key == NO_MESSAGE && self.appeared.is_empty() {
                break;
            } else if key == NO_MESSAGE {
                self.discover();
                has_looked = false;
            } else if let Some(resumed) = self.resumed(index) {
                return Ok(Some(Next::Change(resumed)));
            } else if let Some(sample) = self.take(index)? {
                hub.reader.count_received();
                return Ok(Some(Next::Message(sample)));
            }
        }
        if waits {
            self.prepare_to_wait(hub)?;
        }
        Ok(None)
    }

    /// That a topic's message ends a silence which was reported.
    fn resumed(&self, index: usize) -> Option<TopicChange> {
        let TopicSource { subscriber, topic, .. } = &self.sources[index];
        let after = if subscriber.has_deadline { subscriber.watched.take_resumed() } else { None };
        after.map(|after| TopicChange::Resumed { topic: TopicName::clone(topic), after })
    }

    /// Looks at the topics that had no message at the last look, and at those whose message could
    /// not be received.
    fn look(&mut self, was_woken: bool) {
        self.looked_ns = now_ns();
        let tick = coarse_tick();
        let is_due = was_woken || tick != self.tick;
        self.tick = tick;
        for index in (0..self.sources.len()).rev() {
            if self.keys[index] < DEFERRED {
                continue;
            }
            self.keys[index] = self.sources[index].peek(self.looked_ns);
            if self.keys[index] == NO_MESSAGE && is_due {
                self.check_end(index);
            }
        }
    }

    /// Checks whether a topic without a message has ended.
    fn check_end(&mut self, index: usize) {
        match self.sources[index].subscriber.try_recv() {
            // Something has come meanwhile.
            Ok(Some(sample)) => self.put_back(index, sample),
            Ok(None) | Err(RecvError::TooManyHeld { .. }) => {}
            Err(RecvError::PublisherGone { how, .. }) => self.end(index, how),
            Err(error) => {
                self.keys[index] = self.looked_ns;
                self.sources[index].ahead = Some(Err(error));
            }
        }
    }

    /// Keeps a sample that was received too early until it is its turn.
    fn put_back(&mut self, index: usize, sample: Sample<T>) {
        self.keys[index] = self.key_of(index, &sample);
        self.sources[index].ahead = Some(Ok(sample));
    }

    fn key_of(&mut self, index: usize, sample: &Sample<T>) -> u64 {
        let message = Peeked { position: sample.sequence(), stamp_ns: sample.held.stamp_ns() };
        self.sources[index].key_of(message, self.looked_ns)
    }

    /// Receives from a topic; nothing, if its message was overwritten and another topic's turn is
    /// next, or if it has ended.
    fn take(&mut self, index: usize) -> Result<Option<TopicSample<T>>, RecvError> {
        if let Some(ahead) = self.sources[index].ahead.take() {
            self.keys[index] = self.sources[index].peek(self.looked_ns);
            return ahead.map(|sample| Some(self.message(index, sample)));
        }
        match self.sources[index].subscriber.try_recv() {
            Ok(Some(sample)) => {
                let key = if sample.held.stamp_ns() == 0 { 0 } else { self.key_of(index, &sample) };
                let is_later = |(other, &of_other): (usize, &u64)| other != index && of_other < key;
                if key > self.keys[index] && self.keys.iter().enumerate().any(is_later) {
                    // The message that was looked at is lost.
                    step!(all_put_back, {
                        self.put_back(index, sample);
                        return Ok(None);
                    });
                }
                self.keys[index] = self.sources[index].peek(self.looked_ns);
                Ok(Some(self.message(index, sample)))
            }
            Ok(None) => {
                self.keys[index] = NO_MESSAGE;
                Ok(None)
            }
            Err(RecvError::PublisherGone { how, .. }) => {
                self.end(index, how);
                Ok(None)
            }
            Err(error) => {
                // The other topics come first next time.
                let is_full = matches!(error, RecvError::TooManyHeld { .. }) && !mutated!(all_full_first);
                self.keys[index] = if is_full { DEFERRED } else { self.sources[index].peek(self.looked_ns) };
                Err(error)
            }
        }
    }

    fn message(&self, index: usize, sample: Sample<T>) -> TopicSample<T> {
        TopicSample { topic: Arc::clone(&self.sources[index].topic), sample }
    }

    /// Takes the end of the vacant ring back, unless there is something to receive.
    fn prepare_to_wait(&mut self, hub: &mut Subscriber<T>) -> Result<(), RecvError> {
        if hub.reader.has_ended().is_some() {
            hub.watched.begin_again();
            // From here on, whatever comes ends it again.
            if let Err(error) = self.vigil.begin() {
                self.vacancy.end();
                let reason = format!("cannot start a thread to wait for topics: {error}");
                return Err(RecvError::NotFollowed { topic: hub.topic.clone(), reason });
            }
            self.retry_is_asked = false;
        }
        if self.histories.retry && !self.retry_is_asked {
            self.retry_is_asked = true;
            step!(all_retry_later, self.vigil.try_later());
        }
        let mut is_ready = self.vigil.has_found();
        for source in &self.sources {
            is_ready |= source.arm();
        }
        if is_ready {
            self.vacancy.end();
        }
        if hub.beacon.is_some() {
            hub.settle_beacon(None);
        }
        Ok(())
    }

    /// What to report of a change.
    pub(super) fn event(&self, change: TopicChange) -> PatternEvent<T> {
        match change {
            TopicChange::Connected { topic, publisher } => PatternEvent::Connected { topic, publisher },
            TopicChange::NotFollowed { topic, reason } => PatternEvent::NotFollowed { topic, reason },
            TopicChange::Resumed { topic, after } => PatternEvent::Resumed { topic, after },
            TopicChange::Lost { topic, dead, how } => {
                let certificate = match how {
                    Gone::Died => certificate(&self.domain, &topic, &dead),
                    Gone::Closed => None,
                };
                PatternEvent::Lost { topic, how, certificate }
            }
        }
    }
}

impl<T: ?Sized> Merged<T> {
    /// Every topic that is known.
    pub(super) fn topics(&self) -> Vec<MatchedTopic> {
        let of_source = |it: &TopicSource<T>| (Arc::clone(&it.topic), (it.subscriber.received(), it.subscriber.lost()));
        let counts: BTreeMap<_, _> = self.sources.iter().map(of_source).collect();
        let topics = self.histories.iter().map(|(topic, history)| {
            let (received, lost) = counts.get(topic).copied().unwrap_or_default();
            MatchedTopic {
                topic: TopicName::clone(topic),
                is_connected: history.is_connected,
                epoch: history.epoch,
                received: history.received.saturating_add(received),
                lost: history.lost.saturating_add(lost),
                refusal: history.refusal().map(String::from),
            }
        });
        topics.collect()
    }

    /// How many topics are received from.
    pub(super) fn connected(&self) -> usize {
        self.sources.len()
    }
}
