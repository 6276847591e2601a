//! The registry's protocol, as well-behaved and misbehaving clients see it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use conduit::internal::ReapRegion;
use serde_json::{Value, json};

use crate::harness::skip::{Lack, skip};
use crate::harness::{Raw, World, wait_until};
use crate::protocol::Order::{CreateRegion, Publish, Rename, Send, UnlinkRegion};

#[test]
fn the_service_describes_itself() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    let info = raw.call("org.varlink.service.GetInfo", &json!({}));
    assert_eq!(info["parameters"]["product"], "conduitd");
    for interface in info["parameters"]["interfaces"].as_array().unwrap() {
        let reply = raw.call("org.varlink.service.GetInterfaceDescription", &json!({"interface": interface}));
        let description = reply["parameters"]["description"].as_str().unwrap();
        assert!(description.contains(&format!("interface {}", interface.as_str().unwrap())));
    }
}

#[test]
fn a_program_whose_name_is_no_text_has_a_name() {
    let world = World::with_daemon();
    // The kernel keeps 15 bytes, the last of them half a character.
    for (index, (name, shown)) in [("ääääääää", r"äääääää\xc3"), ("a\u{202e}b", r"a\u{202e}b")].into_iter().enumerate()
    {
        let mut peer = world.peer();
        peer.order(Rename(name.into()));
        let (topic, region) = (format!("scan{index}"), format!("map{index}"));
        peer.order(Publish(&topic, 16, 100));
        peer.order(CreateRegion(&region, 4096));
        for name in [&topic, &region] {
            let listed = world.list().into_iter().find(|one| &one.name == name).unwrap();
            assert_eq!(listed.publisher.unwrap().program, shown, "what the kernel says");
            assert_eq!(world.region(name).claimed_owner().program.as_deref(), Some(shown), "what the region says");
        }
        peer.order(UnlinkRegion(&region));
    }
}

#[test]
fn errors_have_names_and_fields() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    let ours = |name: &str| format!("io.conduit.Registry.{name}");
    let theirs = |name: &str| format!("org.varlink.service.{name}");
    for (method, parameters, error, field, value) in [
        (ours("Describe"), json!({"topic": "x"}), ours("TopicNotFound"), "topic", "x"),
        (ours("Describe"), json!({"topic": "/x"}), ours("InvalidTopic"), "topic", "/x"),
        (ours("Nothing"), json!({}), theirs("MethodNotFound"), "method", "io.conduit.Registry.Nothing"),
        ("what".into(), json!({}), theirs("MethodNotFound"), "method", "what"),
        ("a.b.C".into(), json!({}), theirs("InterfaceNotFound"), "interface", "a.b"),
    ] {
        let reply = raw.call(&method, &parameters);
        assert_eq!((&reply["error"], &reply["parameters"][field]), (&json!(error), &json!(value)), "{reply}");
    }
    for (method, parameters, name) in [
        ("Describe", json!({}), "topic"),
        ("Describe", json!({"topic": 7}), "topic"),
        ("Describe", json!({"topic": "x", "more": 1}), "more"),
        ("Register", json!({"topic": "x", "dev": -1, "inode": 1}), "dev"),
        ("List", json!({"x": 1}), "x"),
    ] {
        let reply = raw.call(&ours(method), &parameters);
        assert_eq!(reply["error"], json!(theirs("InvalidParameter")), "{method} {parameters}: {reply}");
        assert_eq!(reply["parameters"], json!({ "parameter": name }), "its name alone");
    }
    assert_eq!(raw.call(&ours("Watch"), &json!({}))["error"], json!(theirs("ExpectedMore")));
}

#[test]
fn a_message_that_is_no_call_names_what_is_wrong() {
    let world = World::with_daemon();
    for (message, member) in [
        (r#"["io.conduit.Registry.List"]"#, "method"),
        (r#"["io.conduit.Registry.List", {}, false, false]"#, "method"),
        (r#"{"method": "io.conduit.Registry.List", "parameters": []}"#, "parameters"),
        (r#"{"method": "io.conduit.Registry.List", "more": null}"#, "more"),
        (r#"{"method": "io.conduit.Registry.List", "oneway": true, "more": true}"#, "more"),
        (r#"{"method": "io.conduit.Registry.List", "method": "io.conduit.Registry.Status"}"#, "method"),
        (r#"{"method": "io.conduit.Registry.Unlink", "parameters": {"topic": "a", "topic": "b"}}"#, "topic"),
        (r#"{"method": "io.conduit.Registry.List", "priority": 1}"#, "priority"),
    ] {
        let mut raw = Raw::connect(&world);
        raw.send(format!("{message}\0").as_bytes());
        let expected = json!({"error": "org.varlink.service.InvalidParameter", "parameters": {"parameter": member}});
        assert_eq!(raw.reply(), expected, "{message}");
        assert!(raw.is_hung_up());
    }
    let mut raw = Raw::connect(&world);
    raw.send(b"{\"method\": \"io.conduit.Registry.List\", \"upgrade\": true}\0");
    assert_eq!(raw.reply()["error"], "org.varlink.service.MethodNotImplemented");
    raw.send(b"{\"method\": \"io.conduit.Registry.List\", \"parameters\": null, \"upgrade\": false}\0");
    assert_eq!(raw.reply()["parameters"]["topics"], json!([]));
}

#[test]
fn a_watcher_that_says_no_more_still_listens() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    raw.send(b"{\"method\": \"io.conduit.Registry.Watch\", \"more\": true}\0");
    raw.0.shutdown(std::net::Shutdown::Write).unwrap();
    let mut publishers = Vec::new();
    for number in 0..3 {
        publishers.push(world.publisher(&format!("scan{number}"), 16, 100));
        let event = &raw.reply()["parameters"]["event"];
        assert_eq!((&event["kind"], &event["topic"]), (&json!("published"), &json!(format!("scan{number}"))));
    }
    let clients = || world.client().status().unwrap().clients;
    let with_watcher = clients();
    drop(raw);
    wait_until("its connection to end, although nothing happens", || clients() < with_watcher);
}

#[test]
fn a_call_of_a_client_that_says_no_more_is_answered() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    raw.send(b"{\"method\": \"io.conduit.Registry.List\"}\0{\"method\": \"io.conduit.Registry.Status\"}\0");
    raw.0.shutdown(std::net::Shutdown::Write).unwrap();
    let replies = raw.replies();
    assert_eq!((replies.len(), &replies[0]["parameters"]["topics"]), (2, &json!([])));
}

#[test]
fn oneway_calls_are_not_answered() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    raw.send(b"{\"method\":\"io.conduit.Registry.List\",\"oneway\":true}\0");
    raw.send(b"{\"method\":\"io.conduit.Registry.Nothing\",\"oneway\":true}\0");
    let reply = raw.call("org.varlink.service.GetInfo", &json!({}));
    assert_eq!(reply["parameters"]["product"], "conduitd");
}

#[test]
fn invalid_frames_get_an_error_and_a_disconnect() {
    let mut world = World::with_daemon();
    for garbage in [&b"garbage\0"[..], b"\0", b"[1,2]\0", b"{\"method\":1}\0", b"\xff\xfe\0", b"{}\0"] {
        let mut raw = Raw::connect(&world);
        raw.send(garbage);
        assert_eq!(raw.reply()["error"], "org.varlink.service.InvalidParameter", "{garbage:?}");
        assert!(raw.is_hung_up());
    }
    assert!(world.daemon().is_running());
}

#[test]
fn an_incomplete_frame_does_not_affect_others() {
    let mut world = World::with_daemon();
    let mut half = Raw::connect(&world);
    half.send(b"{\"method\":\"io.conduit.Reg");
    assert_eq!(world.list(), []);
    half.send(b"istry.List\"}\0{\"method\":\"io.con");
    assert_eq!(half.reply()["parameters"]["topics"], json!([]));
    drop(half);
    assert_eq!(world.list(), []);
    assert!(world.daemon().is_running());
}

#[test]
fn an_endless_frame_is_cut_off_at_the_limit() {
    let mut world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    let chunk = vec![b'x'; 1 << 20];
    let sent = (0..1024).take_while(|_| raw.0.write_all(&chunk).is_ok()).count();
    assert!(sent < 8, "{sent} MiB were taken");
    assert_eq!(world.list(), []);
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon().pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident_kib < 64 << 10, "{resident_kib} KiB");
}

#[test]
fn a_message_over_the_limit_gets_an_error() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    let reply = raw.call("io.conduit.Registry.Describe", &json!({"topic": "x".repeat(70_000)}));
    assert_eq!(reply["error"], "io.conduit.Registry.LimitExceeded");
    assert_eq!(reply["parameters"]["limit"], 65_536);
    assert!(raw.is_hung_up());
}

#[test]
fn registering_another_owners_topic_has_no_effect() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("scan", 16, 100);
    wait_until("it to be listed", || world.list().len() == 1);
    let id = world.region("scan").id();
    let parameters = json!({"topic": "scan", "dev": id.dev, "inode": id.ino});
    let mut raw = Raw::connect(&world);
    let reply = raw.call("io.conduit.Registry.Register", &parameters);
    assert_eq!(reply["error"], "io.conduit.Registry.AlreadyRegistered");
    assert_eq!(reply["parameters"]["pid"], json!(publisher.pid()));
    drop(raw);
    // A request to reap a live topic has no effect either.
    let mut raw = Raw::connect(&world);
    assert_eq!(raw.call("io.conduit.Registry.Reap", &json!({"topic": "scan"}))["parameters"]["reaped"], json!(false));
    publisher.order(Send(1, 10));
    assert_eq!(world.list()[0].publisher.as_ref().unwrap().pid, publisher.pid());
}

#[test]
fn a_false_owner_that_disconnects_does_not_end_the_topic() {
    let mut world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    world.start_daemon();
    let id = world.region("scan").id();
    let mut raw = Raw::connect(&world);
    let reply = raw.call("io.conduit.Registry.Register", &json!({"topic": "scan", "dev": id.dev, "inode": id.ino}));
    assert_eq!(reply["error"], Value::Null, "a late registration is taken on trust");
    let mut events = world.client().watch().unwrap();
    events.next().unwrap().unwrap();
    drop(raw);
    // Longer than the daemon would wait for the lock if a pidfd reported the death.
    std::thread::sleep(Duration::from_millis(600));
    publisher.order(Send(1, 10));
    assert!(world.exists("scan"));
    publisher.kill();
    world.wait_until_gone("scan");
    assert_eq!(events.next().unwrap().unwrap().kind, conduit::registry::EventKind::Died);
}

#[test]
fn buffered_calls_of_one_client_do_not_delay_others() {
    let world = World::with_daemon();
    let mut flood = Raw::connect(&world);
    let call = b"{\"method\":\"io.conduit.Registry.List\"}\0";
    flood.0.set_nonblocking(true).unwrap();
    // The replies are never read.
    while flood.0.write(call).is_ok() {}
    assert_eq!(world.list(), []);
}

#[test]
fn attaching_to_a_missing_topic_is_refused() {
    let world = World::with_daemon();
    let mut raw = Raw::connect(&world);
    let reply = raw.call("io.conduit.Registry.Attach", &json!({"topic": "x", "dev": 1, "inode": 1}));
    assert_eq!(reply["error"], "io.conduit.Registry.TopicNotFound");
}

#[test]
fn one_user_cannot_take_all_connections() {
    let mut world = World::new();
    let script = format!("ulimit -n 200; exec '{}'", env!("CARGO_BIN_EXE_conduitd"));
    let mut daemon = world.command("bash").args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the daemon to listen", || UnixStream::connect(world.socket()).is_ok());
    // Of 200 descriptors 104 are shared; one user gets no more than are left for the others.
    let mut crowd: Vec<Raw> = (0..100).map(|_| Raw::connect(&world)).collect();
    let mut refused = 0;
    for raw in &mut crowd {
        raw.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut reply = [0; 64];
        let len = raw.0.read(&mut reply).unwrap_or(0);
        refused += usize::from(reply[..len].starts_with(b"{\"parameters\":{\"limit\":52"));
    }
    // Beyond its share, four connections may still ask questions.
    assert!(refused >= 44, "{refused}");
    // A topic created meanwhile gets no lease, but is still listed.
    let publisher = world.publisher("scan", 16, 100);
    drop(crowd);
    wait_until("the topic to be listed", || world.client().list().is_ok_and(|topics| topics.len() == 1));
    publisher.kill();
    world.wait_until_gone("scan");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    world.start_daemon();
}

#[test]
fn the_python_client_can_list_describe_and_watch() {
    let has_client = Command::new("python3").args(["-c", "import varlink"]).output();
    if !has_client.is_ok_and(|output| output.status.success()) {
        skip!(Lack::Software("the Python module varlink (pip install varlink)"), "the Python client");
    }
    let world = World::with_daemon();
    let publisher = world.publisher("front/scan", 16, 100);
    let address = format!("unix:{}", world.socket().display());
    let varlink = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-m", "varlink.cli"]).args(arguments);
        command
    };
    let call = |method: &str, parameters: &str| {
        let output =
            varlink(&["call", &format!("{address}/io.conduit.Registry.{method}"), parameters]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(call("List", "{}")["topics"][0]["publisher"]["pid"], json!(publisher.pid()));
    let described = call("Describe", r#"{"topic":"front/scan"}"#);
    assert_eq!((&described["topic"]["slots"], &described["topic"]["type"]), (&json!(16), &json!("[u8]")));
    let output = varlink(&["help", &format!("{address}/io.conduit.Registry")]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("-> (event: Event)"));

    let mut watch = varlink(&["call", "-m", &format!("{address}/io.conduit.Registry.Watch"), "{}"]);
    let mut watch = watch.env("PYTHONUNBUFFERED", "1").stdout(Stdio::piped()).spawn().unwrap();
    let mut output = watch.stdout.take().unwrap();
    let mut seen = String::new();
    let mut read_until = |text: &str| {
        while !seen.contains(text) {
            let mut bytes = [0; 4096];
            let count = output.read(&mut bytes).unwrap();
            assert!(count > 0, "the stream ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    read_until("\"present\"");
    publisher.kill();
    read_until("\"died\"");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
