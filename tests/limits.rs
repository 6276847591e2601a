//! The daemon's limits, as the limited client and the other clients see them.

use serde_json::json;

use crate::harness::skip::{self, Lack};
use crate::harness::{NOBODY, Raw, World, stderr_of};
use crate::protocol::Order::{Publish, UnlinkByRegistry};

fn world(arguments: &[&'static str]) -> World {
    let mut world = World::new();
    world.daemon_arguments = arguments.to_vec();
    world.start_daemon();
    world
}

/// Whether a connection is served; otherwise which limit refused it.
fn is_served(raw: &mut Raw) -> Result<(), (String, u64)> {
    // A refused client gets the error without a call.
    let reply = match raw.try_call("io.conduit.Registry.List", &json!({})) {
        Some(reply) => reply,
        None => raw.reply(),
    };
    match reply["error"].as_str() {
        None => Ok(()),
        Some("io.conduit.Registry.LimitExceeded") => {
            let parameters = &reply["parameters"];
            Err((parameters["what"].as_str().unwrap().into(), parameters["limit"].as_u64().unwrap()))
        }
        Some(other) => panic!("{other}"),
    }
}

/// Connects until one connection is refused, and once more after another was closed.
fn fill(world: &World, room: usize, refusal: (&str, u64)) {
    let mut crowd: Vec<Raw> = Vec::new();
    // The connection that waited for the daemon's start may still be closing.
    while crowd.len() < room {
        let mut raw = Raw::connect(world);
        if is_served(&mut raw).is_ok() {
            crowd.push(raw);
        }
    }
    let refused = is_served(&mut Raw::connect(world)).unwrap_err();
    assert_eq!((refused.0.as_str(), refused.1), refusal);
    assert!(crowd.iter_mut().all(|raw| is_served(raw).is_ok()), "the others do not suffer");
    crowd.pop();
    crate::harness::wait_until("a place to be free again", || is_served(&mut Raw::connect(world)).is_ok());
}

#[test]
fn connections_are_limited() {
    let world = world(&["--max-connections", "5", "--max-connections-per-uid", "5"]);
    fill(&world, 5, ("connections", 5));
}

#[test]
fn connections_of_one_user_are_limited() {
    let world = world(&["--max-connections", "9", "--max-connections-per-uid", "4"]);
    fill(&world, 4, ("connections of one user", 4));
    if nix::unistd::geteuid().is_root() {
        let _crowd: Vec<Raw> = (0..4).map(|_| Raw::connect(&world)).collect();
        let mut stranger = world.peer_of(NOBODY);
        // The limit is per user: another user can still register a lease.
        stranger.order(Publish("scan", 16, 100));
        stranger.order(UnlinkByRegistry("scan"));
    } else {
        skip::report(&Lack::Root, "another user beside the crowd");
    }
}

#[test]
fn messages_are_limited() {
    let world = world(&["--max-message-bytes", "300"]);
    let call = json!({"method": "io.conduit.Registry.List"}).to_string();
    let message = |len: usize| format!("{call:len$}\0");
    let mut raw = Raw::connect(&world);
    raw.send(message(300).as_bytes());
    assert!(raw.reply().get("error").is_none());
    raw.send(message(301).as_bytes());
    let refused = raw.reply();
    assert_eq!(refused["parameters"], json!({"what": "bytes in a message", "limit": 300}));
    assert!(raw.is_hung_up());
}

#[test]
fn invalid_limits_are_usage_errors() {
    let world = World::new();
    for (flag, value) in [("--max-connections", "0"), ("--max-queued-events", "many"), ("--max-message-bytes", "-1")] {
        assert!(
            stderr_of(world.command(env!("CARGO_BIN_EXE_conduitd")).args([flag, value]), 2).contains(value),
            "{flag} {value}"
        );
    }
}
