use proptest::prelude::*;

use conduit::registry::RegistryError;

use super::*;

fn process(pid: u32) -> Process {
    Process::new(pid, 1000, "node")
}

fn key(name: &str, ino: u64) -> Key {
    (topic(name), file(ino))
}

fn file(ino: u64) -> FileId {
    FileId { dev: 1, ino }
}

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn plain(ino: u64) -> Appearance {
    Appearance { file: file(ino), uid: 1000, is_kept: false, claimed: Some(process(99)) }
}

fn published() -> RegistryState {
    let mut registry = RegistryState::default();
    registry.register(1, process(10), topic("a"), file(5)).unwrap();
    let changes = registry.appeared(&topic("a"), plain(5));
    let event = Change::Event { kind: EventKind::Published, topic: topic("a"), process: Some(process(10)) };
    assert_eq!(changes, [event], "the process of the lease, not the claimed one");
    registry
}

#[test]
fn the_death_of_an_announced_owner_is_proof() {
    let mut registry = published();
    let owner = Suspect { process: Some(process(10)), connection: Some(1), is_proven: true };
    assert_eq!(registry.ended(1), [Change::Reap { key: key("a", 5), owner }]);
    assert_eq!(registry.ended(1), [], "only once");
    assert_eq!(registry.lock_is_free(&key("a", 5)), [], "it is being reaped already");
    registry.reaped(&key("a", 5));
    assert_eq!(registry.topics().count(), 0);
}

#[test]
fn a_late_registration_proves_nothing() {
    let mut registry = RegistryState::default();
    registry.appeared(&topic("a"), plain(5));
    assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))]);
    registry.register(1, process(10), topic("a"), file(5)).unwrap();
    assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))], "its lock still decides");
    let changes = registry.ended(1);
    assert!(matches!(&changes[..], [Change::Reap { owner: Suspect { is_proven: false, .. }, .. }]));
    registry.survived(&key("a", 5));
    assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))]);
}

#[test]
fn a_process_without_a_visible_pid_is_identified_by_its_claim() {
    let mut registry = RegistryState::default();
    let unseen = Process::new(0, 1000, String::new());
    registry.register(1, unseen.clone(), topic("a"), file(5)).unwrap();
    registry.appeared(&topic("a"), plain(5));
    assert_eq!(registry.topic(&topic("a")).unwrap().owner, Some(&process(99)));
    // Nor when it registers late.
    registry.appeared(&topic("b"), plain(6));
    registry.register(2, unseen, topic("b"), file(6)).unwrap();
    assert_eq!(registry.topic(&topic("b")).unwrap().owner, Some(&process(99)));
}

#[test]
fn an_announcement_by_another_user_does_not_count() {
    let stranger = {
        let mut it = process(66);
        it.uid = 65534;
        it
    };
    let mut registry = RegistryState::default();
    // The first announcement, but not by the file's owner.
    registry.register(6, stranger.clone(), topic("a"), file(5)).unwrap();
    registry.register(7, process(10), topic("a"), file(5)).unwrap();
    registry.appeared(&topic("a"), plain(5));
    assert_eq!(registry.topics().next().unwrap().owner, Some(&process(10)));
    assert_eq!(registry.ended(6), [], "its end is not reported");
    assert!(matches!(&registry.ended(7)[..], [Change::Reap { owner: Suspect { is_proven: true, .. }, .. }]));

    let mut registry = RegistryState::default();
    registry.appeared(&topic("a"), plain(5));
    let error = registry.register(6, stranger, topic("a"), file(5)).unwrap_err();
    assert_eq!(error, RegistryError::NotOwner { topic: "a".into(), uid: 1000 });
}

#[test]
fn two_names_of_one_file_are_two_topics() {
    let mut registry = published();
    registry.appeared(&topic("link"), plain(5));
    assert_eq!(registry.watched_by_lock(), [(topic("link"), file(5))]);
    registry.vanished(&key("link", 5), Fate::Moved);
    assert_eq!(registry.file_of(&topic("a")), Some(file(5)));
    assert!(registry.knows(&(topic("a"), file(5))) && !registry.knows(&(topic("link"), file(5))));
    assert!(matches!(&registry.ended(1)[..], [Change::Reap { .. }]));
}

#[test]
fn the_death_of_an_unlinked_owner_is_noticed() {
    let mut registry = published();
    registry.vanished(&key("a", 5), Fate::Alive);
    registry.appeared(&topic("a"), plain(6));
    assert!(registry.knows(&(topic("a"), file(5))));
    let changes = registry.ended(1);
    assert!(matches!(&changes[..], [Change::Reap { owner: Suspect { is_proven: true, .. }, .. }]), "{changes:?}");
    registry.reaped(&key("a", 5));
    assert!(!registry.knows(&(topic("a"), file(5))) && registry.knows(&(topic("a"), file(6))));
}

#[test]
fn an_unlinked_region_without_a_lease_is_polled_by_its_lock() {
    let mut registry = RegistryState::default();
    registry.appeared(&topic("a"), plain(5));
    registry.vanished(&key("a", 5), Fate::Alive);
    assert_eq!(registry.topics().count(), 0);
    assert_eq!(registry.unlinked().map(|it| (it.name.clone(), it.file)).collect::<Vec<_>>(), [(topic("a"), file(5))]);
    assert_eq!(registry.watched_by_lock(), [(topic("a"), file(5))]);
    assert!(matches!(&registry.lock_is_free(&key("a", 5))[..], [Change::Reap { .. }]));
    registry.reaped(&key("a", 5));
    assert_eq!(registry.unlinked().count(), 0);
}

#[test]
fn a_name_that_is_given_back_is_tracked_once() {
    let mut registry = published();
    registry.vanished(&key("a", 5), Fate::Alive);
    registry.appeared(&topic("a"), plain(5));
    registry.kept(&key("a", 5));
    registry.ended(1);
    assert!(registry.nameless.is_empty(), "found by fuzzing: a region that nothing would free");
}

#[test]
fn one_file_has_one_registrant_and_one_connection_one_lease() {
    let mut registry = published();
    let error = registry.register(2, process(11), topic("a"), file(5)).unwrap_err();
    assert_eq!(error, RegistryError::AlreadyRegistered { topic: "a".into(), pid: 10, program: "node".into() });
    assert_eq!(registry.register(1, process(10), topic("a"), file(5)), Ok(()), "repeated");
    let error = registry.register(1, process(10), topic("b"), file(6)).unwrap_err();
    assert_eq!(error, RegistryError::LeaseInUse { topic: "a".into() });
}

#[test]
fn the_old_owner_of_a_reused_name_is_reaped() {
    let mut registry = published();
    let changes = registry.vanished(&key("a", 5), Fate::Dead);
    assert!(matches!(&changes[..], [Change::Reap { owner: Suspect { is_proven: true, .. }, .. }]));
    registry.appeared(&topic("a"), plain(6));
    registry.reaped(&key("a", 5));
    assert_eq!(registry.file_of(&topic("a")), Some(file(6)), "the successor stays");
    assert_eq!(registry.ended(1), [], "the dead owner's connection holds no lease");
}

#[test]
fn the_end_of_a_topic_is_reported_by_its_fate() {
    for (fate, kind) in [(Fate::Closed, EventKind::Closed), (Fate::Alive, EventKind::Unlinked)] {
        let mut registry = published();
        let changes = registry.vanished(&key("a", 5), fate);
        assert_eq!(changes, [Change::Event { kind, topic: topic("a"), process: Some(process(10)) }]);
    }
}

#[test]
fn a_name_never_seen_is_reported_if_it_was_announced() {
    let mut registry = RegistryState::default();
    assert_eq!(registry.came_and_went(&topic("a")), []);
    registry.register(1, process(10), topic("a"), file(5)).unwrap();
    let event = |kind| Change::Event { kind, topic: topic("a"), process: Some(process(10)) };
    assert_eq!(registry.came_and_went(&topic("a")), [EventKind::Published, EventKind::Closed].map(event));
    assert_eq!(registry.topics().count(), 0);
}

#[test]
fn subscribers_come_and_go() {
    let mut registry = published();
    let event = |kind| Change::Event { kind, topic: topic("a"), process: Some(process(20)) };
    assert_eq!(registry.attach(2, process(20), topic("a"), file(5), Some(3)), Ok(vec![event(EventKind::Subscribed)]));
    assert_eq!(registry.subscribers_of(file(5)).collect::<Vec<_>>(), [(Some(3), &process(20))]);
    assert_eq!(registry.release(2), [event(EventKind::Unsubscribed)]);
    registry.attach(3, process(20), topic("a"), file(5), None).unwrap();
    let died = Change::SubscriberDied { topic: topic("a"), process: process(20), connection: 3 };
    assert_eq!(registry.ended(3), [died]);
    assert_eq!(registry.subscribers_of(file(5)).count(), 0);
}

#[test]
fn a_kept_region_is_never_reaped() {
    let mut registry = published();
    registry.release(1);
    let kept = Change::Event { kind: EventKind::Kept, topic: topic("a"), process: Some(process(10)) };
    assert_eq!(registry.kept(&key("a", 5)), [kept]);
    assert_eq!(registry.lock_is_free(&key("a", 5)), []);
    assert_eq!(registry.kept(&key("a", 5)), []);
}

proptest! {
    #[test]
    fn no_interleaving_leaves_state_behind(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise::run(&bytes);
    }
}
