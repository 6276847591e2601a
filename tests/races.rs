//! Several processes create the same name at the same time.

use crate::harness::{World, wait_until};
use crate::protocol::Answer;
use crate::protocol::Order::{ChurnUntilOpened, OpenInALoop, Race, Stop, Unpublish};

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
        first.tell(Race("scan", 0));
        second.tell(Race("scan", 0));
        let answers = [first.answer(), second.answer()];
        let won = answers.iter().filter(|answer| **answer == Answer::Won).count();
        let lost = answers.iter().filter(|answer| matches!(answer, Answer::Lost(_))).count();
        assert_eq!((won, lost), (1, 1), "round {round}: {answers:?}");
        first.order(Unpublish);
        second.order(Unpublish);
    }
    world.wait_until_empty();
}

#[test]
fn two_publishers_racing_for_an_orphan_exactly_one_wins() {
    let world = World::new();
    let (mut first, mut second) = (world.peer(), world.peer());
    for round in 0..50 {
        let dead = world.publisher("scan", 2, 100);
        let region = world.region("scan");
        dead.kill();
        // Whoever reads its entry in /proc can keep its lock for a moment, longer than the
        // time-out.
        wait_until("the lock to be free", || !region.owner_lives().unwrap());
        // The loser waits for the time-out, as it would for a dying owner.
        first.tell(Race("scan", 5));
        second.tell(Race("scan", 5));
        let answers = [first.answer(), second.answer()];
        let (winner, said) = match &answers {
            [Answer::Won, Answer::Lost(said)] => (first.pid(), said),
            [Answer::Lost(said), Answer::Won] => (second.pid(), said),
            _ => panic!("round {round}: {answers:?}"),
        };
        assert!(said.contains(&format!("is already published by pid {winner} ")), "round {round}: {answers:?}");
        first.order(Unpublish);
        second.order(Unpublish);
    }
}

#[test]
fn a_region_never_appears_incomplete() {
    let world = World::with_daemon();
    let (mut publisher, mut opener) = (world.peer(), world.peer());
    opener.begin(OpenInALoop("scan"));
    publisher.order(ChurnUntilOpened("scan", 1000));
    let opened: u64 = opener.ask(Stop).number();
    assert!(opened > 0);
    world.wait_until_empty();
}
