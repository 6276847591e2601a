//! Several processes create the same name at the same time.

use crate::harness::World;
use crate::protocol::Answer;
use crate::protocol::Order::{Churn, OpenInALoop, Publish, Race, Stop, Unpublish};

#[test]
fn two_publishers_racing_for_one_name_1000_times_with_daemon() {
    race(&World::with_daemon());
}

#[test]
fn two_publishers_racing_for_one_name_1000_times_without_daemon() {
    race(&World::new());
}

fn race(world: &World) {
    let (mut first, mut second) = (world.peer(), world.peer());
    for round in 0..1000 {
        first.tell(Race("scan"));
        second.tell(Race("scan"));
        let answers = [first.answer(), second.answer()];
        let won = answers.iter().filter(|answer| **answer == Answer::Won).count();
        let lost = answers.iter().filter(|answer| **answer == Answer::Lost).count();
        assert_eq!((won, lost), (1, 1), "round {round}: {answers:?}");
        first.order(Unpublish);
        second.order(Unpublish);
    }
    world.wait_until_empty();
}

#[test]
fn two_publishers_racing_for_an_orphan_exactly_one_wins() {
    let world = World::new();
    for round in 0..50 {
        let dead = world.publisher("scan", 2, 100);
        dead.kill();
        let (mut first, mut second) = (world.peer(), world.peer());
        first.tell(Publish("scan", 2, 100));
        second.tell(Publish("scan", 2, 100));
        let answers = [first.answer(), second.answer()];
        assert_eq!(answers.iter().filter(|answer| **answer == Answer::Done).count(), 1, "round {round}: {answers:?}");
        assert!(answers.iter().any(|answer| answer.failure().contains("is already published by pid")), "{answers:?}");
        first.kill();
        second.kill();
    }
}

#[test]
fn a_region_never_appears_incomplete() {
    let world = World::with_daemon();
    let (mut publisher, mut opener) = (world.peer(), world.peer());
    opener.begin(OpenInALoop("scan"));
    publisher.order(Churn("scan", 1000));
    let opened: u64 = opener.ask(Stop).number();
    assert!(opened > 0);
    world.wait_until_empty();
}
