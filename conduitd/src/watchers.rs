//! Owns the watchers: each one's filter and queue of unread events, and the snapshot that watchers
//! of everything share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use conduit::internal::foreign_text::{clean, clean_name};
use conduit::internal::protocol::{EventReply, encode_continued};
use conduit::registry::{EventKind, RegistryError, RegistryEvent};
use conduit::{TopicName, TopicPattern};
use tokio::sync::mpsc;

use crate::event_log::event;
use crate::registry::{ConnectionId, RegistryState};
use crate::shared_answer::SharedAnswer;

/// Which events a watcher receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    /// `None`: those of all topics.
    pub(crate) topics: Option<TopicPattern>,
    /// `None`: all kinds.
    pub(crate) kinds: Option<Vec<EventKind>>,
}

impl EventFilter {
    /// Checks the parameters of `Watch`.
    pub(crate) fn new(pattern: Option<&str>, kinds: Option<Vec<EventKind>>) -> Result<Self, RegistryError> {
        let topics = pattern.map(TopicPattern::new).transpose();
        let topics = topics.map_err(|error| RegistryError::InvalidTopic {
            topic: clean_name(pattern.unwrap_or_default()),
            reason: clean(error.to_string()),
        })?;
        Ok(Self { topics, kinds })
    }

    fn admits_everything(&self) -> bool {
        self.kinds.is_none() && self.topics.is_none()
    }

    fn admits(&self, kind: &EventKind, topic: &TopicName) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
            && self.topics.as_ref().is_none_or(|topics| topics.matches(topic))
    }
}

/// Encoded events, each of which several watchers may share.
pub(crate) type EventReceiver = mpsc::Receiver<Rc<[u8]>>;

/// What a watcher receives: the snapshot first, then the events since.
pub(crate) struct EventStream {
    /// Encoded replies, one after the other.
    pub(crate) snapshot: Rc<Vec<u8>>,
    pub(crate) events: EventReceiver,
}

struct EventQueue {
    filter: EventFilter,
    events: mpsc::Sender<Rc<[u8]>>,
}

/// All watchers, by their connections.
pub(crate) struct Watchers {
    queues: RefCell<HashMap<ConnectionId, EventQueue>>,
    /// Events that a watcher may leave unread.
    queue_limit: usize,
    /// Invalid when the registry has changed.
    pub(crate) full_snapshot: SharedAnswer,
}

impl Watchers {
    pub(crate) fn new(queue_limit: usize) -> Self {
        Self { queues: RefCell::default(), queue_limit, full_snapshot: SharedAnswer::default() }
    }

    /// Starts a watch. Its snapshot and its events are atomic: nothing else runs in between.
    ///
    /// `asked`: when the client sent its call; a snapshot computed since may be shared.
    pub(crate) fn start(
        &self,
        connection: ConnectionId,
        filter: EventFilter,
        registry: &RegistryState,
        asked: Instant,
    ) -> EventStream {
        let snapshot = if filter.admits_everything() {
            self.full_snapshot.get_or_make(asked, || snapshot(registry, &filter))
        } else {
            Rc::new(snapshot(registry, &filter))
        };
        EventStream { snapshot, events: self.resume(connection, filter) }
    }

    /// Continues a watch of the previous daemon, which has sent the snapshot.
    pub(crate) fn resume(&self, connection: ConnectionId, filter: EventFilter) -> EventReceiver {
        let (sender, events) = mpsc::channel(self.queue_limit);
        self.queues.borrow_mut().insert(connection, EventQueue { filter, events: sender });
        events
    }

    /// Queues an event for every watcher whose filter admits it. A watcher whose queue is full is
    /// removed; its connection ends when it has sent the queue.
    pub(crate) fn publish(&self, topic: &TopicName, event: &RegistryEvent) {
        let mut encoded: Option<Rc<[u8]>> = None;
        self.queues.borrow_mut().retain(|connection, queue| {
            if !queue.filter.admits(&event.kind, topic) {
                return true;
            }
            let encoded = encoded.get_or_insert_with(|| encode_continued(&EventReply { event: event.clone() }).into());
            let keeps_up = queue.events.try_send(Rc::clone(encoded)).is_ok();
            if !keeps_up {
                tracing::warn!(connection, "a watcher that does not read its events is disconnected");
            }
            keeps_up
        });
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.queues.borrow_mut().remove(&connection);
    }
}

/// The topics and subscribers of now, as encoded events.
fn snapshot(registry: &RegistryState, filter: &EventFilter) -> Vec<u8> {
    let topics = registry.topics().map(|topic| (EventKind::Present, topic.name, topic.owner));
    let subscribers = registry.subscribers();
    let subscribers = subscribers.map(|(topic, process)| (EventKind::SubscriberPresent, topic, Some(process)));
    let mut encoded = Vec::new();
    for (kind, topic, process) in topics.chain(subscribers) {
        if filter.admits(&kind, topic) {
            encoded.extend(encode_continued(&EventReply { event: event(kind, topic, process.cloned()) }));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use conduit::internal::protocol::{END, Reply};
    use conduit::internal::shm::dir::FileId;
    use conduit::registry::Process;

    use super::*;
    use crate::registry::Appearance;

    fn topic(name: &str) -> TopicName {
        name.parse().unwrap()
    }

    fn filter(topics: Option<&str>, kinds: Option<&[EventKind]>) -> EventFilter {
        EventFilter::new(topics, kinds.map(<[_]>::to_vec)).unwrap()
    }

    fn registry_with(names: &[&str]) -> RegistryState {
        let mut registry = RegistryState::default();
        for (ino, name) in (1..).zip(names) {
            let file = FileId { dev: 1, ino };
            registry.appeared(&topic(name), Appearance { file, uid: 0, is_kept: false, claimed: None });
            let process = Process::new(7, 0, "node");
            registry.attach(100 + ino, process, topic(name), file, None).unwrap();
        }
        registry
    }

    /// The kinds and topics of encoded events.
    fn decode(encoded: &[u8]) -> Vec<(EventKind, String)> {
        let messages = encoded.split(|byte| *byte == END).filter(|message| !message.is_empty());
        let decode = |message| {
            let reply: Reply = serde_json::from_slice(message).unwrap();
            assert!(reply.continues);
            let EventReply { event } = serde_json::from_value(reply.parameters).unwrap();
            (event.kind, event.topic)
        };
        messages.map(decode).collect()
    }

    #[test]
    fn a_filter_admits_kinds_and_topics() {
        let all = filter(None, None);
        assert!(all.admits_everything() && all.admits(&EventKind::Died, &topic("a")));
        let deaths = filter(Some("camera/*"), Some(&[EventKind::Died]));
        assert!(!deaths.admits_everything());
        assert!(deaths.admits(&EventKind::Died, &topic("camera/front")));
        assert!(!deaths.admits(&EventKind::Closed, &topic("camera/front")));
        assert!(!deaths.admits(&EventKind::Died, &topic("lidar")));
        assert!(!filter(None, Some(&[])).admits(&EventKind::Died, &topic("a")), "no kind is wanted");
        assert!(matches!(EventFilter::new(Some("a//b"), None), Err(RegistryError::InvalidTopic { .. })));
    }

    #[test]
    fn a_watch_begins_with_a_snapshot_and_continues_with_events() {
        let watchers = Watchers::new(8);
        let registry = registry_with(&["a", "b"]);
        let mut all = watchers.start(1, filter(None, None), &registry, Instant::now());
        let mut of_b = watchers.start(2, filter(Some("b"), None), &registry, Instant::now());
        let expected = |kind, name: &str| (kind, name.to_owned());
        let [a, b] = ["a", "b"].map(|name| expected(EventKind::Present, name));
        let [sub_a, sub_b] = ["a", "b"].map(|name| expected(EventKind::SubscriberPresent, name));
        assert_eq!(decode(&all.snapshot), [a, b.clone(), sub_a, sub_b.clone()]);
        assert_eq!(decode(&of_b.snapshot), [b, sub_b]);

        watchers.publish(&topic("a"), &event(EventKind::Closed, &topic("a"), None));
        assert_eq!(decode(&all.events.try_recv().unwrap()), [expected(EventKind::Closed, "a")]);
        assert!(of_b.events.try_recv().is_err(), "its filter does not admit the event");
        watchers.remove(1);
        assert!(matches!(all.events.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }

    #[test]
    fn an_event_is_encoded_once_for_all() {
        let watchers = Watchers::new(8);
        let [mut one, mut other] = [1, 2].map(|connection| watchers.resume(connection, EventFilter::default()));
        watchers.publish(&topic("a"), &event(EventKind::Closed, &topic("a"), None));
        assert!(Rc::ptr_eq(&one.try_recv().unwrap(), &other.try_recv().unwrap()));
    }

    #[test]
    fn a_watcher_with_a_full_queue_is_removed_after_what_was_queued() {
        let watchers = Watchers::new(2);
        let mut slow = watchers.resume(1, EventFilter::default());
        for _ in 0..3 {
            watchers.publish(&topic("a"), &event(EventKind::Closed, &topic("a"), None));
        }
        assert!(watchers.queues.borrow().is_empty());
        assert!(slow.try_recv().is_ok() && slow.try_recv().is_ok());
        assert!(matches!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }
}
