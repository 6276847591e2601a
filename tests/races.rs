//! Many processes want the same name at the same time.

use crate::harness::World;

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
        first.tell("race scan");
        second.tell("race scan");
        let answers = [first.answer(), second.answer()];
        let won = answers.iter().filter(|answer| *answer == "won").count();
        let lost = answers.iter().filter(|answer| *answer == "lost").count();
        assert_eq!((won, lost), (1, 1), "round {round}: {answers:?}");
        first.order("unpublish");
        second.order("unpublish");
    }
    world.wait_until_empty();
}

#[test]
fn two_publishers_racing_for_an_orphan_exactly_one_wins() {
    let world = World::new();
    for round in 0..50 {
        let mut dead = world.peer();
        dead.order("publish scan 2 100");
        dead.kill();
        let (mut first, mut second) = (world.peer(), world.peer());
        first.tell("publish scan 2 100");
        second.tell("publish scan 2 100");
        let answers = [first.answer(), second.answer()];
        assert_eq!(answers.iter().filter(|answer| *answer == "ok").count(), 1, "round {round}: {answers:?}");
        assert!(answers.iter().any(|answer| answer.contains("is already published by pid")), "{answers:?}");
        first.kill();
        second.kill();
    }
}

#[test]
fn nobody_ever_sees_a_half_made_region() {
    let world = World::with_daemon();
    let (mut publisher, mut opener) = (world.peer(), world.peer());
    opener.tell("open-in-a-loop scan");
    opener.expect("opening");
    publisher.order("churn scan 1000");
    let opened: u64 = opener.ask("stop").parse().expect("no error");
    assert!(opened > 0);
    world.wait_until_empty();
}
