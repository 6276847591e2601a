//! Owns the watchers: each one's filter and queue of unread events, and the snapshot that watchers
//! of everything share.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use conduit::internal::foreign_text::{clean, clean_name};
use conduit::internal::protocol::{EventReply, encode_continued};
use conduit::registry::{EventKind, RegistryError, RegistryEvent};
use conduit::{TopicName, TopicPattern};
use tokio::sync::Notify;

use crate::event_log::event;
use crate::limits::Charge;
use crate::registry::{ConnectionId, RegistryState};
use crate::shared_answer::SharedAnswer;

/// How long a client may read nothing before more unread events than the limit cut it off.
const STUCK_PATIENCE: Duration = Duration::from_secs(1);
/// So many times the limit may wait for a client whose socket is full since a moment ago; so many
/// times that again for one whose events are not even sent yet.
const BURST: usize = 4;
/// What an unread event is charged with: it is shared by all watchers.
const EVENT_BYTES: usize = 64;
/// What an event of a snapshot takes.
const CANDIDATE_BYTES: usize = 256;
/// The length of a pattern that is not charged for, and what each further byte takes.
const FREE_PATTERN_BYTES: usize = 64;
const COMPILED_BYTES: usize = 64;
/// Events that are sent at once, in bytes; and how long they are matched before other work has its
/// turn.
const BATCH_BYTES: usize = 16 << 10;
const SLICE: Duration = Duration::from_micros(200);

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

    /// The memory of a long pattern: each segment is compiled.
    fn bytes(&self) -> usize {
        let pattern = self.topics.as_ref().map_or(0, |topics| topics.as_str().len());
        pattern.saturating_sub(FREE_PATTERN_BYTES) * COMPILED_BYTES
    }

    fn admits_kind(&self, kind: &EventKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
    }

    fn admits_topic(&self, topic: &TopicName) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.matches(topic))
    }
}

/// An event and its encoding, which the watchers share.
struct QueuedEvent {
    topic: TopicName,
    encoded: Vec<u8>,
}

/// The unread events of one watcher.
struct EventQueue {
    filter: EventFilter,
    events: RefCell<VecDeque<Rc<QueuedEvent>>>,
    /// The memory of the events.
    charge: RefCell<Charge>,
    /// Since when the client's socket takes no more; `None` while it does.
    stuck_since: Cell<Option<Instant>>,
    is_cut_off: Cell<bool>,
    /// Its connection can send now: it does not wait for its client, nor send the snapshot.
    is_ready: Cell<bool>,
    /// It waits for its turn, or has it.
    is_queued: Cell<bool>,
    has_turn: Cell<bool>,
    deliveries: Rc<Deliveries>,
    changed: Notify,
}

/// The watchers of one user who have events to be sent. They take turns: an event for a thousand
/// watchers of one user wakes one of them.
#[derive(Default)]
struct Deliveries {
    waiting: RefCell<VecDeque<Weak<EventQueue>>>,
    is_busy: Cell<bool>,
}

impl Deliveries {
    fn request(&self, queue: &Rc<EventQueue>) {
        if !queue.is_ready.get() || queue.events.borrow().is_empty() {
            return;
        }
        if !queue.is_queued.replace(true) {
            self.waiting.borrow_mut().push_back(Rc::downgrade(queue));
        }
        if !self.is_busy.get() {
            self.next();
        }
    }

    /// Gives the turn to the next watcher.
    fn next(&self) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            self.is_busy.set(next.is_some());
            match next.map(|queue| queue.upgrade()) {
                None => return,
                Some(None) => {}
                Some(Some(queue)) => {
                    queue.has_turn.set(true);
                    return queue.changed.notify_one();
                }
            }
        }
    }
}

/// What a watcher receives: the snapshot first, then the events since.
pub(crate) struct EventStream {
    pub(crate) snapshot: WatchSnapshot,
    pub(crate) events: EventReceiver,
}

/// The topics and subscribers at the start of a watch.
pub(crate) enum WatchSnapshot {
    /// All, as encoded replies, one after the other.
    Whole(Rc<Vec<u8>>),
    /// Those that a pattern must still be matched with.
    Candidates { events: VecDeque<RegistryEvent>, _memory: Charge },
}

impl WatchSnapshot {
    /// Takes the next replies that the filter admits, for a moment; `None` after the last.
    pub(crate) fn take(&mut self, filter: &EventFilter) -> Option<Rc<Vec<u8>>> {
        match self {
            Self::Whole(encoded) if encoded.is_empty() => None,
            Self::Whole(encoded) => Some(std::mem::take(encoded)),
            Self::Candidates { events, .. } if events.is_empty() => None,
            Self::Candidates { events, .. } => {
                let began = Instant::now();
                let mut encoded = Vec::new();
                while encoded.len() < BATCH_BYTES
                    && began.elapsed() < SLICE
                    && let Some(event) = events.pop_front()
                {
                    if event.topic.parse().is_ok_and(|topic| filter.admits_topic(&topic)) {
                        encoded.extend(encode_continued(&EventReply { event }));
                    }
                }
                Some(Rc::new(encoded))
            }
        }
    }
}

/// The reading end of a watcher's queue.
pub(crate) struct EventReceiver(Rc<EventQueue>);

impl EventReceiver {
    /// Waits until there are events, and it is the user's turn to have them sent, until
    /// [`pass_turn`](Self::pass_turn). Returns `false` after the last, if the watcher was cut off.
    pub(crate) async fn wait(&mut self) -> bool {
        loop {
            let queue = &self.0;
            if queue.has_turn.get() && !queue.events.borrow().is_empty() {
                return true;
            }
            if queue.events.borrow().is_empty() {
                self.pass_turn();
                if queue.is_cut_off.get() {
                    return false;
                }
            }
            queue.changed.notified().await;
        }
    }

    /// Gives the turn to another watcher of the user's, if this one has it.
    pub(crate) fn pass_turn(&self) {
        let queue = &self.0;
        if !queue.has_turn.replace(false) {
            return;
        }
        queue.is_queued.set(false);
        queue.deliveries.is_busy.set(false);
        queue.deliveries.request(queue);
        if !queue.deliveries.is_busy.get() {
            queue.deliveries.next();
        }
    }

    /// Takes the next events that the filter admits, encoded, at most [`BATCH_BYTES`] and for a
    /// moment: patterns are matched here, where each user's watchers have their turn.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let began = Instant::now();
        let mut batch = Vec::new();
        let mut events = self.0.events.borrow_mut();
        while batch.len() < BATCH_BYTES
            && let Some(event) = events.pop_front()
        {
            if self.0.filter.admits_topic(&event.topic) {
                batch.extend_from_slice(&event.encoded);
            }
            if began.elapsed() >= SLICE {
                break;
            }
        }
        // Fewer bytes are never refused.
        let _ = self.0.charge.borrow_mut().set(self.0.filter.bytes() + events.len() * EVENT_BYTES);
        batch
    }

    /// Notes whether the client's socket takes no more.
    pub(crate) fn set_stuck(&self, is_stuck: bool) {
        self.0.stuck_since.set(is_stuck.then(Instant::now));
        self.set_ready(!is_stuck);
    }

    /// Notes whether events can be sent now.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.0.is_ready.set(is_ready);
        self.0.deliveries.request(&self.0);
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        self.0.events.borrow_mut().clear();
        self.pass_turn();
    }
}

impl EventQueue {
    fn cut_off(&self) {
        self.is_cut_off.set(true);
        self.changed.notify_one();
    }

    /// Adds an event; `false` if the client leaves too many unread. One that reads is not judged by
    /// how many events there are at once.
    fn push(self: &Rc<Self>, event: &Rc<QueuedEvent>, limit: usize) -> bool {
        let mut events = self.events.borrow_mut();
        let most = match self.stuck_since.get() {
            Some(since) if since.elapsed() >= STUCK_PATIENCE => limit,
            Some(_) => limit.saturating_mul(BURST),
            None => limit.saturating_mul(BURST * BURST),
        };
        let has_room = events.len() < most;
        if !has_room || self.charge.borrow_mut().set(self.filter.bytes() + (events.len() + 1) * EVENT_BYTES).is_err() {
            return false;
        }
        events.push_back(Rc::clone(event));
        drop(events);
        self.deliveries.request(self);
        true
    }
}

/// All watchers, by their connections.
pub(crate) struct Watchers {
    queues: RefCell<HashMap<ConnectionId, Rc<EventQueue>>>,
    deliveries: RefCell<HashMap<u32, Weak<Deliveries>>>,
    /// Events that a watcher may leave unread.
    queue_limit: usize,
    /// Invalid when the registry has changed.
    pub(crate) full_snapshot: SharedAnswer,
}

impl Watchers {
    pub(crate) fn new(queue_limit: usize) -> Self {
        let (queues, deliveries, full_snapshot) = Default::default();
        Self { queues, deliveries, queue_limit, full_snapshot }
    }

    /// Starts a watch. Its snapshot and its events are atomic: nothing else runs in between.
    ///
    /// `asked`: when the client sent its call; a snapshot computed since may be shared. `charges`:
    /// for the snapshot and for the unread events.
    ///
    /// # Errors
    /// If the user has too many unread bytes.
    pub(crate) fn start(
        &self,
        connection: ConnectionId,
        filter: EventFilter,
        charges: [Charge; 2],
        registry: &RegistryState,
        asked: Instant,
    ) -> Result<EventStream, RegistryError> {
        let [mut of_snapshot, mut of_events] = charges;
        of_events.set(filter.bytes())?;
        let snapshot = if filter.admits_everything() {
            WatchSnapshot::Whole(self.full_snapshot.get_or_make(asked, || {
                snapshot(registry).flat_map(|event| encode_continued(&EventReply { event })).collect()
            }))
        } else {
            let candidates: VecDeque<_> = snapshot(registry).filter(|event| filter.admits_kind(&event.kind)).collect();
            of_snapshot.set(candidates.len() * CANDIDATE_BYTES)?;
            WatchSnapshot::Candidates { events: candidates, _memory: of_snapshot }
        };
        Ok(EventStream { snapshot, events: self.resume(connection, filter, of_events) })
    }

    /// Continues a watch of the previous daemon, which has sent the snapshot.
    pub(crate) fn resume(&self, connection: ConnectionId, filter: EventFilter, charge: Charge) -> EventReceiver {
        let (events, stuck_since, is_cut_off, is_ready, is_queued, has_turn, changed) = Default::default();
        let (deliveries, charge) = (self.deliveries_of(charge.uid()), RefCell::new(charge));
        let queue = EventQueue {
            filter,
            events,
            charge,
            stuck_since,
            is_cut_off,
            is_ready,
            is_queued,
            has_turn,
            deliveries,
            changed,
        };
        let queue = Rc::new(queue);
        self.queues.borrow_mut().insert(connection, Rc::clone(&queue));
        EventReceiver(queue)
    }

    fn deliveries_of(&self, uid: u32) -> Rc<Deliveries> {
        let mut users = self.deliveries.borrow_mut();
        if let Some(known) = users.get(&uid).and_then(Weak::upgrade) {
            return known;
        }
        users.retain(|_, user| user.strong_count() > 0);
        let new = Rc::new(Deliveries::default());
        users.insert(uid, Rc::downgrade(&new));
        new
    }

    /// Queues an event for every watcher that wants its kind. A watcher that leaves too many unread
    /// is removed; its connection ends when it has sent the queue.
    pub(crate) fn publish(&self, topic: &TopicName, event: &RegistryEvent) {
        let mut queued: Option<Rc<QueuedEvent>> = None;
        self.queues.borrow_mut().retain(|connection, queue| {
            if !queue.filter.admits_kind(&event.kind) {
                return true;
            }
            let queued = queued.get_or_insert_with(|| {
                let encoded = encode_continued(&EventReply { event: event.clone() });
                Rc::new(QueuedEvent { topic: topic.clone(), encoded })
            });
            let keeps_up = queue.push(queued, self.queue_limit);
            if !keeps_up {
                tracing::warn!(connection, "a watcher that does not read its events is disconnected");
                queue.cut_off();
            }
            keeps_up
        });
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        if let Some(queue) = self.queues.borrow_mut().remove(&connection) {
            queue.cut_off();
        }
    }
}

/// The topics and subscribers of now, as events.
fn snapshot(registry: &RegistryState) -> impl Iterator<Item = RegistryEvent> {
    let topics = registry.topics().map(|topic| (EventKind::Present, topic.name, topic.owner));
    let overdue = registry.topics().filter(|topic| topic.is_overdue);
    let overdue = overdue.map(|topic| (EventKind::Overdue, topic.name, topic.owner));
    let subscribers = registry.subscribers();
    let subscribers = subscribers.map(|(topic, process)| (EventKind::SubscriberPresent, topic, Some(process)));
    topics.chain(overdue).chain(subscribers).map(|(kind, topic, process)| event(kind, topic, process.cloned()))
}
