//! Processes that are stopped while they wait.

use nix::sys::signal::Signal;

use crate::harness::{Peer, World, wait_until};
use crate::protocol::Answer;
use crate::protocol::Order::*;

/// A peer that waits for messages of a topic.
fn waiting(world: &World, prepare: &mut dyn FnMut(&mut Peer)) -> Peer {
    let mut peer = world.peer();
    prepare(&mut peer);
    peer.order(FollowUntilTerminated("scan"));
    peer.begin(ReceiveUntilStopped);
    peer
}

fn publishing(world: &World) -> Peer {
    let mut publisher = world.peer();
    publisher.order(Publish("scan", 16, 100));
    publisher
}

#[test]
fn a_signal_ends_the_wait_for_a_message_and_the_next_one_the_process() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::new();
        let mut publisher = publishing(&world);
        let peer = waiting(&world, &mut |_| ());
        publisher.order(Send(3, 100));
        wait_until("three messages to be received", || {
            world
                .region("scan")
                .counters()
                .is_some_and(|counters| counters.subscribers.iter().any(|(_, subscriber)| subscriber.received == 3))
        });
        peer.signal(signal);
        peer.expect(Answer::Flag(true));
        assert_eq!(peer.end_by_signal(signal), Some(signal as i32));
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_publisher() {
    let world = World::new();
    let peer = waiting(&world, &mut |_| ());
    peer.signal(Signal::SIGTERM);
    peer.expect(Answer::Flag(true));
}

/// The kernel can wait for one word only: the other one is looked at.
#[test]
fn a_signal_ends_the_wait_without_futex_waitv() {
    let world = World::new();
    let _publisher = publishing(&world);
    let peer = waiting(&world, &mut |peer| peer.order(DenyWaitv));
    peer.signal(Signal::SIGTERM);
    peer.expect(Answer::Flag(true));
}

/// A signal that came before the wait.
#[test]
fn a_signal_before_the_wait_is_not_forgotten() {
    let world = World::new();
    let _publisher = publishing(&world);
    let mut peer = world.peer();
    peer.order(FollowUntilTerminated("scan"));
    peer.signal(Signal::SIGINT);
    peer.begin(ReceiveUntilStopped);
    peer.expect(Answer::Flag(true));
}
