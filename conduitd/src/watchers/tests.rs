use conduit::internal::protocol::{END, Reply};
use conduit::internal::shm::dir::FileId;
use conduit::registry::Process;

use super::*;
use crate::descriptors::Descriptors;
use crate::limits::{Accounts, Admission, Limits};
use crate::registry::Appearance;

fn user() -> Admission {
    Accounts::new(Limits::default(), Descriptors::new(1024)).admit(1).unwrap()
}

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

impl EventFilter {
    fn admits(&self, kind: &EventKind, topic: &TopicName) -> bool {
        self.admits_kind(kind) && self.admits_topic(topic)
    }
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

/// All replies of a snapshot, decoded.
fn whole(mut snapshot: WatchSnapshot, filter: &EventFilter) -> Vec<(EventKind, String)> {
    std::iter::from_fn(|| snapshot.take(filter)).flat_map(|encoded| decode(&encoded)).collect()
}

#[test]
fn a_watch_begins_with_a_snapshot_and_continues_with_events() {
    let (watchers, user) = (Watchers::new(8), user());
    let registry = registry_with(&["a", "b"]);
    let start = |connection, filter: &EventFilter| {
        let charges = [user.charge(), user.charge()];
        watchers.start(connection, filter.clone(), charges, &registry, Instant::now()).unwrap()
    };
    let of_b = filter(Some("b"), None);
    let EventStream { snapshot: all, events: mut all_events } = start(1, &filter(None, None));
    let EventStream { snapshot: b_only, events: mut b_events } = start(2, &of_b);
    let expected = |kind, name: &str| (kind, name.to_owned());
    let [a, b] = ["a", "b"].map(|name| expected(EventKind::Present, name));
    let [sub_a, sub_b] = ["a", "b"].map(|name| expected(EventKind::SubscriberPresent, name));
    assert_eq!(whole(all, &filter(None, None)), [a, b.clone(), sub_a, sub_b.clone()]);
    assert_eq!(whole(b_only, &of_b), [b, sub_b]);

    watchers.publish(&topic("a"), &event(EventKind::Closed, &topic("a"), None));
    assert_eq!(decode(&all_events.take()), [expected(EventKind::Closed, "a")]);
    assert!(b_events.take().is_empty(), "its filter does not admit the event");
    watchers.remove(1);
    assert!(!wait(&mut all_events));
}

/// Whether there are events; they have been queued already.
fn wait(events: &mut EventReceiver) -> bool {
    events.set_ready(true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(events.wait())
}

fn publish(watchers: &Watchers, count: usize) {
    for _ in 0..count {
        watchers.publish(&topic("a"), &event(EventKind::Closed, &topic("a"), None));
    }
}

#[test]
fn events_that_are_not_sent_yet_are_not_held_against_a_reader() {
    let (watchers, user) = (Watchers::new(2), user());
    let mut events = watchers.resume(1, EventFilter::default(), user.charge());
    publish(&watchers, 2 * BURST + 1);
    assert_eq!(watchers.queues.borrow().len(), 1);
    assert!(wait(&mut events));
    assert_eq!(decode(&events.take()).len(), 2 * BURST + 1);
    publish(&watchers, 1);
    assert_eq!(decode(&events.take()).len(), 1);
}

#[test]
fn a_client_that_does_not_read_is_cut_off_after_what_was_queued() {
    let (watchers, user) = (Watchers::new(2), user());
    let mut slow = watchers.resume(1, EventFilter::default(), user.charge());
    slow.set_stuck(true);
    publish(&watchers, 2 * BURST + 1);
    assert!(watchers.queues.borrow().is_empty());
    assert!(wait(&mut slow));
    assert_eq!(decode(&slow.take()).len(), 2 * BURST);
    assert!(!wait(&mut slow));

    let slower = watchers.resume(2, EventFilter::default(), user.charge());
    slower.0.stuck_since.set(Instant::now().checked_sub(STUCK_PATIENCE));
    publish(&watchers, 3);
    assert_eq!((watchers.queues.borrow().len(), slower.0.events.borrow().len()), (0, 2));
}

#[test]
fn the_watchers_of_one_user_take_turns() {
    let (watchers, user) = (Watchers::new(8), user());
    let resume = |id| {
        let events = watchers.resume(id, EventFilter::default(), user.charge());
        events.set_ready(true);
        events
    };
    let mut streams = [1, 2, 3].map(resume);
    publish(&watchers, 1);
    publish(&watchers, 1);
    let has_turn = |streams: &[EventReceiver]| streams.iter().map(|it| it.0.has_turn.get()).collect::<Vec<_>>();
    let mut served = [0; 3];
    for _ in 0..3 {
        let turns = has_turn(&streams);
        let at = turns.iter().position(|&has| has).unwrap();
        assert_eq!(turns.iter().filter(|&&has| has).count(), 1, "one at a time: {turns:?}");
        served[at] += decode(&streams[at].take()).len();
        streams[at].pass_turn();
    }
    assert_eq!((served, has_turn(&streams)), ([2; 3], vec![false; 3]));
    streams[0].set_stuck(true);
    publish(&watchers, 1);
    assert!(!streams[0].0.has_turn.get(), "others do not wait for one whose client does not read");
    let mut sent = 0;
    while let Some(at) = has_turn(&streams).iter().position(|&has| has) {
        sent += decode(&streams[at].take()).len();
        streams[at].pass_turn();
    }
    assert_eq!(sent, 2);
    streams[0].set_stuck(false);
    assert_eq!(has_turn(&streams), [true, false, false]);
    streams[0].take();
    streams[0].pass_turn();

    publish(&watchers, 1);
    let at = has_turn(&streams).iter().position(|&has| has).unwrap();
    watchers.remove([1, 2, 3][at]);
    streams[at] = resume(4);
    assert_eq!(has_turn(&streams).iter().filter(|&&has| has).count(), 1, "a watcher that leaves passes its turn");
}

#[test]
fn long_patterns_are_charged() {
    let (watchers, user) = (Watchers::new(8), user());
    let long = filter(Some(&format!("{}a", "a/".repeat(490))), None);
    let registry = RegistryState::default();
    let start = |id| watchers.start(id, long.clone(), [user.charge(), user.charge()], &registry, Instant::now());
    let started: Vec<_> = (0..200).map_while(|id| start(id).ok()).collect();
    assert!((10..100).contains(&started.len()), "{}", started.len());
    drop(started);
    watchers.queues.borrow_mut().clear();
    assert!(start(300).is_ok());
}

#[test]
fn the_unread_events_of_all_watchers_of_a_user_are_limited() {
    let (watchers, user) = (Watchers::new(usize::MAX), user());
    let _streams = [1, 2].map(|connection| watchers.resume(connection, EventFilter::default(), user.charge()));
    publish(&watchers, (4 << 20) / EVENT_BYTES / 2 + 1);
    assert!(watchers.queues.borrow().len() < 2);
}
