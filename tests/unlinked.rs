//! The name of a live topic is removed: by logind when its user's last session ends, or by `rm`.

use conduit::registry::{EventKind, RegionState};
use conduit::{Domain, LoanError, Publisher, ShmRegion};

use crate::harness::{World, sample, wait_until};
use crate::protocol::Order::{Published, Recv, Send};
use crate::protocol::{Answer, End};

#[test]
fn an_unlinked_topic_is_listed_and_its_publisher_notified_once() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut subscriber = world.subscriber("scan");
    publisher.order(Send(1, 100));
    let events = world.watch();
    events.find("it to be there", |event| event.kind == EventKind::SubscriberPresent);
    std::fs::remove_file(world.path_of("scan")).unwrap();
    let unlinked = events.find("its name to go", |event| event.kind == EventKind::Unlinked);
    assert_eq!(unlinked.process.unwrap().pid, publisher.pid());
    let topics = world.list();
    assert_eq!((topics.len(), &topics[0].state, topics[0].subscribers.len()), (1, &RegionState::Unlinked, 1));
    let reason = topics[0].unlinked.clone().unwrap();
    assert!(reason.contains("rm") || reason.contains("logind"), "{reason}");
    let described = world.client().describe(&"scan".parse().unwrap()).unwrap();
    assert_eq!((described.state, described.unlinked), (RegionState::Unlinked, Some(reason)));
    world.wait_until_logged("topic \"scan\" was unlinked");

    // The daemon sets the flag asynchronously to the event, and there may be more messages until
    // then than slots: so each is received before the next.
    let mut received = 0..;
    let mut receive = || assert_eq!(subscriber.ask(Recv), sample(received.next().unwrap()));
    receive();
    wait_until("the publisher to be notified", || {
        let answer = publisher.ask(Send(1, 100));
        let is_told = answer.failure().starts_with("the topic's name was removed, by logind");
        assert!(answer == Answer::Done || is_told, "{answer:?}");
        if !is_told {
            receive();
        }
        is_told
    });
    publisher.order(Send(1, 100));
    receive();
    assert_eq!(publisher.ask(Published).number(), received.start);

    // A successor takes the name; both topics are listed.
    let _successor = world.publisher("scan", 16, 100);
    let states: Vec<_> = world.list().iter().map(|topic| topic.state.clone()).collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&RegionState::Live) && states.contains(&RegionState::Unlinked), "{states:?}");
    let pid = publisher.pid();
    publisher.kill();
    let died = events.find("the end of the first", |event| event.kind == EventKind::Died);
    assert_eq!(died.process.unwrap().pid, pid);
    assert_eq!(subscriber.ask(Recv), Answer::Gone(End::Died));
    wait_until("one to be left", || world.list().len() == 1);
    assert_eq!(world.list()[0].state, RegionState::Live);
}

#[test]
fn unlinking_a_topic_without_lease_is_noticed() {
    let world = World::with_daemon();
    let silent = Domain::new(world.path()).without_registry();
    let mut publisher = Publisher::<[u8]>::builder().domain(&silent).create("scan").unwrap();
    wait_until("it to be listed", || world.list().len() == 1);
    std::fs::remove_file(world.path_of("scan")).unwrap();
    wait_until("its name to be missed", || world.list().iter().any(|topic| topic.state == RegionState::Unlinked));
    wait_until("the publisher to be notified", || publisher.send(b"x") == Err(LoanError::Unlinked));
    publisher.send(b"x").unwrap();
    drop(publisher);
    wait_until("it to be forgotten", || world.list().is_empty());
}

#[test]
fn without_a_daemon_a_publisher_that_wakes_a_subscriber_notices() {
    let world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    let mut subscriber = world.subscriber("scan");
    std::fs::remove_file(world.path_of("scan")).unwrap();
    wait_until("the publisher to find out", || {
        subscriber.tell(Recv);
        let answer = publisher.ask(Send(1, 100));
        if answer != Answer::Done {
            publisher.order(Send(1, 100));
        }
        let received = subscriber.answer();
        assert!(matches!(received, Answer::Sample { is_whole: true, .. }), "{received:?}");
        answer.failure().starts_with("the topic's name was removed")
    });
}

#[test]
fn an_unlinked_raw_region_is_listed_while_its_creator_lives() {
    let world = World::with_daemon();
    let region = ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap();
    wait_until("it to be listed", || world.list().len() == 1);
    std::fs::remove_file(world.path_of("map")).unwrap();
    wait_until("its name to be missed", || world.list().iter().any(|topic| topic.state == RegionState::Unlinked));
    drop(region);
    wait_until("it to be forgotten", || world.list().is_empty());
}
