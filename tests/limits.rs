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

/// Whether a connection is served with more than answers; otherwise which limit refused it.
fn is_served(raw: &mut Raw) -> Result<(), (String, u64)> {
    // A refused client may get the error without a call.
    let reply = match raw.try_call("io.conduit.Registry.Release", &json!({})) {
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

/// Takes all connections that this user may have.
fn crowd(world: &World) -> Vec<Raw> {
    let mut crowd = Vec::new();
    loop {
        let mut raw = Raw::connect(world);
        match is_served(&mut raw) {
            Ok(()) => crowd.push(raw),
            Err(_) => return crowd,
        }
    }
}

#[test]
fn a_user_at_the_limit_can_still_ask() {
    let world = world(&["--max-connections-per-uid", "5"]);
    let mut publisher = world.publisher("scan", 16, 100);
    let crowd = crowd(&world);
    assert!(crowd.len() <= 4, "the publisher has one");
    for _ in 0..20 {
        assert_eq!(world.list().len(), 1);
    }
    let command = |arguments: &[&str]| {
        let output = world.conduit(arguments).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}: it was not answered by the registry");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(command(&["info", "scan"]).contains("scan"));
    command(&["deaths"]);
    let doctor = world.conduit(&["doctor", "--json"]).output().unwrap().stdout;
    let doctor: serde_json::Value = serde_json::from_slice(&doctor).unwrap();
    assert_eq!(doctor["checks"][0]["state"], "ok", "{}", doctor["checks"][0]);
    command(&["rm", "--force", "scan"]);
    assert!(!world.exists("scan"));
    publisher.order(crate::protocol::Order::Unpublish);
    // Such a connection holds nothing, and does not last.
    let refused = |method: &str, parameters| Raw::connect(&world).call(method, parameters)["error"].clone();
    let register = json!({"topic": "a", "dev": 1, "inode": 1});
    let mut hoard = Vec::new();
    crate::harness::wait_until("the limit", || {
        hoard.push(Raw::connect(&world));
        is_served(hoard.last_mut().unwrap()).is_err()
    });
    assert_eq!(refused("io.conduit.Registry.Register", &register), "io.conduit.Registry.LimitExceeded");
    let refused = world.conduit(&["watch"]).output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("the registry is too busy"), "{error}");
    let replies = Raw::connect(&world).replies();
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0]["error"], "io.conduit.Registry.LimitExceeded");
    drop((crowd, hoard));
}

#[test]
fn tools_tell_a_busy_registry_from_an_answer() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    let listener = std::os::unix::net::UnixListener::bind(world.socket()).unwrap();
    std::thread::spawn(move || {
        let refusal = json!({
            "error": "io.conduit.Registry.LimitExceeded",
            "parameters": {"what": "connections of one user", "limit": 1024},
        });
        while let Ok((mut client, _)) = listener.accept() {
            use std::io::{Read, Write};
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(format!("{refusal}\0").as_bytes());
        }
    });
    for arguments in [&["info", "scan"] as &[&str], &["list"], &["rm", "--force", "scan"]] {
        let output = world.conduit(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        let told = "the registry is too busy (too many connections of one user: the limit is 1024), reading ";
        assert!(error.contains(told), "{arguments:?}: {error}");
    }
    assert!(!world.exists("scan"));
    assert!(stderr_of(&mut world.conduit(&["deaths"]), 1).contains("the registry is too busy"));
    let doctor = world.conduit(&["doctor", "--json"]).output().unwrap().stdout;
    let doctor: serde_json::Value = serde_json::from_slice(&doctor).unwrap();
    let daemon = &doctor["checks"][0];
    assert_eq!(daemon["state"], "warning", "{daemon}");
    assert!(!daemon["remedy"].as_str().unwrap().contains("restart"), "{daemon}");
}
