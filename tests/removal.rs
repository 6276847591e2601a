//! Removal of regions through the registry, with and without force.

use conduit::registry::RegistryCallError;
use conduit::registry::{EventKind, RegistryError};
use conduit::{Domain, ShmRegion};

use crate::harness::{NOBODY, World, need_root, wait_until};
use crate::protocol::Order::{Publish, Send, UnlinkByRegistry, Unpublish};
use crate::protocol::{Answer, End};

fn unlink(world: &World, topic: &str, force: bool) -> Result<(), RegistryError> {
    world.client().unlink(&topic.parse().unwrap(), force).map_err(|error| match error {
        RegistryCallError::Refused(reply) => reply.known().unwrap(),
        error => panic!("{error}"),
    })
}

#[test]
fn a_live_topic_is_removed_only_by_force_and_its_clients_are_notified() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let sleeper = world.sleeper("scan");
    let error = unlink(&world, "scan", false).unwrap_err();
    let RegistryError::TopicInUse { owner, .. } = &error else { panic!("{error}") };
    assert!(owner.contains(&publisher.pid().to_string()), "{error}");
    assert!(world.exists("scan"));

    let mut events = world.client().watch().unwrap();
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Present);
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::SubscriberPresent);
    unlink(&world, "scan", true).unwrap();
    assert!(!world.exists("scan"));
    sleeper.expect(Answer::Gone(End::Closed));
    assert!(publisher.ask(Send(1, 10)).failure().starts_with("the topic was removed from outside"));
    // The order varies, and the subscriber may detach in between.
    let mut ends = events.map(|event| event.unwrap()).filter(|event| event.kind != EventKind::Unsubscribed);
    let mut ends = [ends.next().unwrap(), ends.next().unwrap()];
    ends.sort_by_key(|event| event.kind == EventKind::Removed);
    assert_eq!(ends.each_ref().map(|event| event.kind.clone()), [EventKind::Closed, EventKind::Removed]);
    let by = ends.map(|event| event.process.unwrap().pid);
    assert_eq!(by, [publisher.pid(), std::process::id()]);

    publisher.order(Unpublish);
    publisher.order(Publish("scan", 16, 100));
    publisher.order(Send(1, 10));
    assert_eq!(world.list().len(), 1);
}

#[test]
fn regions_without_owner_are_removed_without_force() {
    let world = World::with_daemon();
    drop(ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap());
    unlink(&world, "map", false).unwrap();
    assert!(!world.exists("map"));
    let missing = unlink(&world, "map", true).unwrap_err();
    assert_eq!(missing, RegistryError::TopicNotFound { topic: "map".into() });
    // An orphan whose death the registry may or may not have noticed.
    let publisher = world.publisher("scan", 16, 100);
    publisher.kill();
    let removed = unlink(&world, "scan", false);
    assert!(matches!(removed, Ok(()) | Err(RegistryError::TopicNotFound { .. })), "{removed:?}");
    assert!(!world.exists("scan"));
}

#[test]
fn removing_a_live_raw_region_removes_only_its_name() {
    let world = World::with_daemon();
    let region = ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap();
    assert!(matches!(unlink(&world, "map", false), Err(RegistryError::TopicInUse { .. })));
    unlink(&world, "map", true).unwrap();
    assert!(!world.exists("map"));
    assert_eq!(region.size(), 100);
}

#[test]
fn only_the_owners_user_may_remove_a_topic() {
    need_root!("removal by another user");
    let world = World::with_daemon();
    let _publisher = world.publisher("scan", 16, 100);
    let mut stranger = world.peer_of(NOBODY);
    let refused = stranger.ask(UnlinkByRegistry("scan"));
    assert_eq!(refused.failure(), "topic \"scan\" belongs to uid 0; only that user's processes can do this");
    assert!(world.exists("scan"));
    let mut theirs = world.peer_of(NOBODY);
    theirs.order(Publish("theirs", 16, 100));
    stranger.order(UnlinkByRegistry("theirs"));
    assert!(!world.exists("theirs"));
}

#[test]
fn a_daemon_that_may_not_write_a_region_can_close_it() {
    need_root!("a daemon of another user");
    let world = World::new();
    let mut daemon = world.daemon_with_one_right();
    // The daemon may read the file, but does not own it and may not write it.
    let domain = Domain::new(world.path()).with_socket(world.socket());
    let builder = conduit::Publisher::<[u8]>::builder().domain(&domain).mode(0o644);
    let mut publisher = builder.create("scan").unwrap();
    let sleeper = world.sleeper("scan");
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    unlink(&world, "scan", true).unwrap();
    sleeper.expect(Answer::Gone(End::Closed));
    assert_eq!(publisher.send(b"x"), Err(conduit::LoanError::Removed));
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644, "as it was before");
    wait_until("the name to go", || !world.exists("scan"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
