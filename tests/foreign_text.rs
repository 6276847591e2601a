//! Whatever another process says: its name, its region, its reply or its call. None of it controls
//! the terminal or forges a line, whichever output it reaches.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output, Stdio};

use conduit::Publisher;
use conduit::internal::foreign_text::is_shown;
use conduit::registry::EventKind;
use rustix::fs::{XattrFlags, setxattr};
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Daemon, Peer, Raw, World, stderr_of, stdout_of, wait_until};
use crate::protocol::Order::{Publish, Recv, Rename, Send, Subscribe};

/// Names as short as the kernel's, 15 bytes.
const HOSTILE: [&str; 5] = [
    "\x1b[2J\x1b[H\x07\x7f\x08",
    "x\nmap live\r\t",
    "\u{9b}\u{202e}a\u{2066}b\u{200b}",
    "\u{2028}x  live  ",
    "\u{301}a\u{301}\u{301}\u{301}\u{301}\u{301}",
];

/// Every verb that prints what others say, for a topic.
const VERBS: [&[&str]; 22] = [
    &["list"],
    &["list", "--verbose"],
    &["list", "--show-types"],
    &["list", "--json"],
    &["info", "imu"],
    &["info", "imu", "--verbose"],
    &["info", "imu", "--json"],
    &["info", "missing"],
    &["type", "imu"],
    &["type", "imu", "--json"],
    &["find", "[u8]"],
    &["deaths"],
    &["deaths", "--json"],
    &["top", "--once", "--interval", "100ms"],
    &["top", "--once", "--interval", "100ms", "--json"],
    &["rm", "imu"],
    &["wait", "imu", "--subscribers", "60", "--timeout", "0"],
    &["gc", "--dry-run"],
    &["gc", "--dry-run", "--json"],
    &["doctor"],
    &["doctor", "--json"],
    &["echo", "imu", "--once", "--from", "latest", "--timeout", "0"],
];

/// Ways to print a message.
const ECHOES: [&[&str]; 4] = [&[], &["--json"], &["--csv"], &["--hex"]];

#[track_caller]
fn assert_clean(what: &str, output: &[u8]) {
    let text = std::str::from_utf8(output).unwrap_or_else(|error| panic!("{what}: {error}"));
    let bad = text.chars().find(|c| !is_shown(*c) && *c != '\n');
    assert_eq!(bad, None, "{what}: {text:?}");
}

/// Runs a command whose output must be clean; returns what it printed.
#[track_caller]
fn clean_output(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let started = std::time::Instant::now();
    let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let reader = |pipe: Box<dyn std::io::Read + std::marker::Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut { pipe }, &mut bytes).map(|_| bytes)
        })
    };
    let (stdout, stderr) =
        (reader(Box::new(child.stdout.take().unwrap())), reader(Box::new(child.stderr.take().unwrap())));
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("{what} does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let Output { stdout, stderr, .. } = Output {
        status: child.wait().unwrap(),
        stdout: stdout.join().unwrap().unwrap(),
        stderr: stderr.join().unwrap().unwrap(),
    };
    assert_clean(&what, &stdout);
    assert_clean(&what, &stderr);
    assert!(!String::from_utf8_lossy(&stderr).contains("panicked"), "{what}");
    String::from_utf8(stdout).unwrap()
}

/// What a command reports, however it ends.
fn stderr_of_any(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

/// Runs the verbs side by side, since some take their time.
fn run_all_verbs(world: &World) {
    std::thread::scope(|scope| {
        for verb in VERBS {
            scope.spawn(|| run_verb(world, verb));
        }
    });
}

fn run_verb(world: &World, verb: &[&str]) {
    let printed = clean_output(&mut world.conduit(verb));
    if verb.contains(&"--json") && !printed.is_empty() {
        let is_json = printed.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(is_json || serde_json::from_str::<Value>(&printed).is_ok(), "{verb:?}: {printed}");
    }
}

fn hostile_peer(world: &World, name: &str) -> Peer {
    let mut peer = world.peer();
    peer.order(Rename(name.into()));
    peer
}

/// What `watch` prints until it has printed so many lines.
fn watched(world: &World, arguments: &[&str], lines: usize) -> String {
    let file = world.path().join("watched");
    let output = File::create(&file).unwrap();
    let mut command = world.conduit(arguments);
    let _watch = Daemon::from(command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap());
    let read = || std::fs::read(&file).unwrap();
    wait_until("the lines", || read().iter().filter(|byte| **byte == b'\n').count() >= lines);
    assert_clean(&format!("{arguments:?}"), &read());
    String::from_utf8(read()).unwrap()
}

#[test]
fn the_name_of_a_program_controls_no_output() {
    for name in HOSTILE {
        let world = World::with_daemon();
        let dead = {
            let mut dead = hostile_peer(&world, name);
            dead.order(Publish("imu", 16, 100));
            dead
        };
        let mut mourner = hostile_peer(&world, name);
        mourner.order(Subscribe("imu"));
        dead.kill();
        world.wait_until_gone("imu");
        drop(mourner);
        let mut publisher = hostile_peer(&world, name);
        publisher.order(Publish("imu", 16, 100));
        publisher.order(Send(1, 100));
        let mut subscriber = hostile_peer(&world, name);
        subscriber.order(Subscribe("imu"));
        subscriber.tell(Recv);
        world.wait_until_asleep("imu", 1);
        run_all_verbs(&world);
        let table = clean_output(&mut world.conduit(&["list", "--no-color"]));
        assert_eq!(table.lines().count(), 2, "{name:?} forges a row: {table}");
        let row = table.lines().nth(1).unwrap();
        assert_eq!(row.split("  ").filter(|cell| !cell.is_empty()).count(), 8, "{name:?} forges a column: {row}");
        assert_eq!(clean_output(&mut world.conduit(&["deaths"])).lines().count(), 1);
        let events = watched(&world, &["watch"], 2);
        assert_eq!(events.lines().count(), 2, "{events}");
        watched(&world, &["watch", "--json"], 2);
        assert_clean("the log", world.log().as_bytes());
        assert!(world.log().lines().all(|line| line.starts_with("20")), "a forged line: {}", world.log());
        // Without a daemon the region tells the name.
        let mut world = world;
        world.kill_daemon();
        run_all_verbs(&world);
    }
}

/// The header of a region: where the owner's program and the name of the type are.
const PROGRAM_AT: u64 = 48;
const TYPE_NAME_AT: u64 = 192;
const PRODUCER_AT: u64 = 64;

#[test]
fn what_a_region_says_controls_no_output() {
    let mut world = World::with_daemon();
    let domain = world.domain();
    for (number, name) in HOSTILE.iter().enumerate() {
        let mut publisher = Publisher::<[u8]>::builder().domain(&domain).create("imu").unwrap();
        publisher.send(format!("said {name}").as_bytes()).unwrap();
        let file = File::options().write(true).open(world.path_of("imu")).unwrap();
        for (at, len) in [(PROGRAM_AT, 16), (TYPE_NAME_AT, 64)] {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(len, 0);
            file.write_all_at(&bytes, at).unwrap();
        }
        let shape = json!({"type": {"struct": {"size": 1, "fields": [{"name": name, "offset": 0, "type": "u8"}]}}});
        setxattr(world.path_of("imu"), "user.conduit.shape", shape.to_string().as_bytes(), XattrFlags::empty())
            .unwrap();
        let raw = world.path_of("raw");
        std::fs::write(&raw, "raw").unwrap();
        let mark = format!("raw {} {name}", std::process::id());
        setxattr(&raw, "user.conduit", mark.as_bytes(), XattrFlags::empty()).unwrap();
        run_all_verbs(&world);
        for format in ECHOES {
            clean_output(
                &mut world
                    .conduit(&[&["echo", "imu", "--once", "--from", "latest", "--timeout", "5s"], format].concat()),
            );
        }
        assert_clean("the log", world.log().as_bytes());
        if number == 0 {
            world.kill_daemon();
            run_all_verbs(&world);
            world.start_daemon();
        }
        drop(publisher);
        wait_until("the raw region to go", || !raw.exists() || std::fs::remove_file(&raw).is_ok());
    }
}

#[test]
fn the_name_of_a_file_controls_no_output() {
    for with_daemon in [false, true] {
        let mut world = World::new();
        for name in HOSTILE {
            for file in [format!("conduit_{name}"), format!(".conduit_imu~{name}"), format!(".conduit_{name}~1-1-1")] {
                std::fs::write(world.path().join(file), "").unwrap();
            }
        }
        if with_daemon {
            world.start_daemon();
        }
        run_all_verbs(&world);
        clean_output(&mut world.conduit(&["gc"]));
        clean_output(&mut world.conduit(&["gc", "--json"]));
        assert_clean("the log", world.log().as_bytes());
    }
}

#[test]
fn names_in_the_environment_control_no_output() {
    let world = World::with_daemon();
    let hostile = world.path().join("\x1b[2J\u{202e}\nx");
    let more: [&[&str]; 3] = [&["watch"], &["hz", "imu"], &["pub", "imu", "--text", "x"]];
    for verb in VERBS.iter().chain(&more) {
        clean_output(world.conduit(verb).env("CONDUIT_SHM_DIR", &hostile).env("CONDUIT_SOCKET", hostile.join("sock")));
    }
    for verb in ["\x1b[2J", "a\nb", "\u{202e}"] {
        clean_output(&mut world.conduit(&[verb]));
        clean_output(&mut world.conduit(&["list", verb]));
        clean_output(&mut world.conduit(&["hz", "imu", "--count", verb]));
        clean_output(&mut world.conduit(&["info", "imu", &format!("--{verb}")]));
        clean_output(&mut world.conduit(&["info", verb]));
    }
    std::fs::create_dir(&hostile).unwrap();
    let socket = hostile.join("sock");
    let mut daemon = world.command(env!("CARGO_BIN_EXE_conduitd"));
    daemon.env("CONDUIT_SHM_DIR", &hostile).env("CONDUIT_SOCKET", &socket).args(["--config", "/dev/null"]);
    let log = world.path().join("log");
    let daemon = Daemon::from(daemon.stderr(File::create(&log).unwrap()).spawn().unwrap());
    wait_until("the daemon to listen", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    drop(daemon);
    assert_clean("the log", &std::fs::read(log).unwrap());
}

/// A reply to every method, in which each text is this one and each number that one.
fn lie(method: &str, text: &str, number: u64) -> Vec<Value> {
    let process = json!({"pid": number >> 32, "uid": number >> 32, "program": text});
    let subscriber = json!({"pid": number >> 32, "uid": 7, "program": text, "received": number, "lost": number,
        "held": number >> 32, "lag": number, "asleep": true});
    let death = json!({"signal": 77, "exit_code": -7, "core_dumped": true, "last_sequence": number,
        "last_message_age_ns": number, "subscribers": [subscriber, subscriber]});
    let topic = |name: &str| {
        json!({"name": name, "state": text, "refusal": text, "unlinked": text, "raw": false, "path": text,
            "size_bytes": number, "slots": number >> 32, "slot_bytes": number, "type": text, "publisher": process,
            "liveness": text, "published": number, "rate_hz": number as f64 * 1e280, "bytes_per_second": 1e308,
            "last_message_age_ns": number, "subscribers": [subscriber, subscriber], text: text})
    };
    let event = json!({"kind": text, "topic": text, "time_ms": number, "process": process, "death": death});
    let parameters = match method {
        "Status" => json!({"version": text, "pid": number >> 32, "uid": 7, "shm_dir": text, "dev": number,
            "inode": number, "supervised": true, "topics": number, "clients": number, "reaped": number}),
        "List" => json!({"topics": [topic("imu"), topic(text)]}),
        "Describe" => json!({"topic": topic(text)}),
        "Deaths" => json!({"deaths": [event, event]}),
        "Watch" => return vec![json!({"parameters": {"event": event}, "continues": true}); 3],
        _ => {
            let parameters = json!({"topic": text, "owner": text, "reason": text, "what": text, "limit": number});
            return vec![json!({"error": format!("io.conduit.Registry.{text}"), "parameters": parameters})];
        }
    };
    vec![json!({"parameters": parameters})]
}

#[test]
fn what_a_registry_replies_controls_no_output() {
    for number in [u64::MAX, 0, 1 << 63] {
        let world = World::new();
        world.fake_registry(move |method| lie(method, &HOSTILE.concat(), number));
        run_all_verbs(&world);
        watched(&world, &["watch"], 3);
        watched(&world, &["watch", "--json"], 3);
    }
    // As many marks on a character as fit into a reply, and very long lines.
    for text in ["\u{301}".repeat(100_000), "日".repeat(100_000)] {
        let world = World::new();
        world.fake_registry(move |method| lie(method, &text, 1));
        let table = clean_output(&mut world.conduit(&["list", "-v"]));
        assert!(table.lines().all(|line| line.chars().count() < 8000), "{}", table.len());
    }
}

#[test]
fn errors_of_a_registry_control_no_output() {
    for error in ["TopicInUse", "Failed", "NotAllowed", "InvalidTopic", "TopicNotFound"] {
        let world = World::new();
        world.fake_registry(move |_| {
            let text = HOSTILE.concat();
            let parameters = json!({"topic": text, "owner": text, "reason": text, "rule": text});
            vec![json!({"error": format!("io.conduit.Registry.{error}"), "parameters": parameters})]
        });
        clean_output(&mut world.conduit(&["rm", "imu"]));
        clean_output(&mut world.conduit(&["info", "imu"]));
        clean_output(&mut world.conduit(&["pub", "imu", "--text", "x", "--once"]));
    }
}

#[test]
fn what_a_client_asks_comes_back_clean_and_short() {
    let world = World::with_daemon();
    for text in [HOSTILE.concat(), "x".repeat(50_000), "\x1b".repeat(9000)] {
        for (method, parameters) in [
            (text.clone(), json!({})),
            (format!("{text}.x"), json!({})),
            (format!("io.conduit.Registry.{text}"), json!({})),
            ("io.conduit.Registry.Describe".into(), json!({"topic": text})),
            ("io.conduit.Registry.Describe".into(), json!({ text.clone(): 1 })),
            ("io.conduit.Registry.Watch".into(), json!({"topic": text, "kinds": [text]})),
            ("org.varlink.service.GetInterfaceDescription".into(), json!({"interface": text})),
        ] {
            let mut raw = Raw::connect(&world);
            let reply = raw.call(&method, &parameters);
            let error = reply["error"].as_str().unwrap_or_else(|| panic!("{reply}"));
            assert_clean(error, error.as_bytes());
            for (name, value) in reply["parameters"].as_object().unwrap() {
                assert_clean(name, value.to_string().replace('\\', "").as_bytes());
                assert!(value.to_string().len() < 1000, "{value}");
            }
        }
    }
    assert_clean("the log", world.log().as_bytes());
}

/// A reply of a registry that is newer: values, members and errors that do not exist yet.
fn future(method: &str) -> Vec<Value> {
    let process = json!({"pid": 7, "program": "imu", "container": "x"});
    let topic = json!({"name": "imu", "state": "hibernating", "type": "u64", "liveness": "heartbeat",
        "publisher": process, "encryption": {"key": 7}, "path": "/dev/shm/conduit_imu"});
    let event = |kind: &str| {
        json!({"parameters": {"event": {"kind": kind, "topic": "imu", "process": process, "host": "b"}},
            "continues": true, "priority": 1})
    };
    match method {
        "List" => vec![json!({"parameters": {"topics": [topic], "next": 2}})],
        "Describe" => vec![json!({"parameters": {"topic": topic}})],
        "Deaths" => vec![json!({"parameters": {"deaths": [
            {"kind": "died", "topic": "imu", "time_ms": 5, "process": process, "death": {"cause": {"oom": true}}},
            {"kind": "evicted", "topic": "imu", "time_ms": 5}]}})],
        "Status" => vec![json!({"parameters": {"version": "9.0.0", "pid": 7, "mood": "fine"}})],
        // The second event has a topic of another type.
        "Watch" => vec![
            event("migrated"),
            json!({"parameters": {"event": {"kind": "died", "topic": ["imu", 2]}}, "continues": true}),
            event("died"),
        ],
        _ => vec![json!({"error": "io.conduit.Registry.Hibernating", "parameters": {"topic": "imu"}})],
    }
}

#[test]
fn every_verb_understands_a_registry_of_the_future() {
    let world = World::new();
    world.fake_registry(future);
    let said = |arguments: &[&str]| stdout_of(&mut world.conduit(arguments));
    assert!(said(&["list"]).contains("imu   hibernating  u64"), "{}", said(&["list"]));
    assert!(said(&["list", "-v"]).contains("heartbeat"));
    assert!(said(&["info", "imu"]).contains("State:        hibernating"));
    assert!(said(&["info", "imu"]).contains("Liveness:     heartbeat"));
    assert_eq!(said(&["type", "imu"]), "u64\n");
    assert_eq!(said(&["find", "u64"]), "imu\n");
    assert!(said(&["deaths"]).lines().next().unwrap().ends_with("imu  imu (7) died"), "{}", said(&["deaths"]));
    assert!(said(&["top", "--once", "--interval", "100ms"]).contains("imu    hibernating"));
    let info: Value = serde_json::from_str(&said(&["info", "imu", "--json"])).unwrap();
    assert_eq!((&info["state"], &info["liveness"]), (&json!("hibernating"), &json!("heartbeat")));
    let events = watched(&world, &["watch"], 3);
    assert!(
        events.contains("  migrated ") && events.contains("  died "),
        "goes on after what it does not know: {events}"
    );
    assert!(stderr_of(&mut world.conduit(&["rm", "imu"]), 1).contains("io.conduit.Registry.Hibernating"));
    run_all_verbs(&world);
    // The library's calls, too.
    let kinds: Vec<_> = world.client().watch().unwrap().take(3).map(|event| event.map(|event| event.kind)).collect();
    assert_eq!(kinds[0].as_ref().unwrap(), &EventKind::Unknown("migrated".into()));
    assert!(kinds[1].is_err() && kinds[2].as_ref().unwrap() == &EventKind::Died, "{kinds:?}");
}

#[test]
fn a_registry_that_cannot_answer_is_not_believed() {
    for (error, parameters) in [
        ("io.conduit.Registry.Hibernating", json!({"topic": "imu"})),
        ("io.conduit.Registry.LimitExceeded", json!({"what": "connections of a user", "limit": 7})),
        ("org.varlink.service.MethodNotFound", json!({"method": "io.conduit.Registry.Describe"})),
        ("org.varlink.service.InvalidParameter", json!({"parameter": "topic"})),
    ] {
        let world = World::new();
        let _publisher = Publisher::<u64>::builder().domain(&world.domain()).create("imu").unwrap();
        world.fake_registry(move |_| vec![json!({"error": error, "parameters": parameters})]);
        for (verb, expected) in [("type", "u64\n"), ("info", "Type:         u64"), ("list", "imu   live   u64")] {
            let arguments = if verb == "list" { vec![verb] } else { vec![verb, "imu"] };
            let Output { status, stdout, stderr } = world.conduit(&arguments).output().unwrap();
            let (said, notice) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
            assert!(status.success() && said.contains(expected), "{verb}, {error}: {said}{notice}");
            assert!(notice.contains(", reading "), "{notice}");
        }
    }
    // What is no reply at all.
    for reply in [json!([]), json!([{"parameters": {}}]), json!("x"), json!({"parameters": {"topics": 7}}), json!(null)]
    {
        let world = World::new();
        let _publisher = Publisher::<u64>::builder().domain(&world.domain()).create("imu").unwrap();
        world.fake_registry(move |_| vec![reply.clone()]);
        for arguments in [&["type", "imu"][..], &["list"], &["info", "imu"]] {
            assert!(stdout_of(&mut world.conduit(arguments)).contains("u64"));
        }
    }
}

/// The shape of a message of 8 bytes that claims what it is not.
fn lying_shapes() -> Vec<String> {
    let of = |field: &str| format!(r#"{{"type": {{"struct": {{"size": 8, "fields": [{field}]}}}}}}"#);
    let nothing = r#"{"struct": {"size": 0, "fields": []}}"#;
    let nested = r#"{"struct": {"size": 8, "fields": [{"name": "a", "offset": 0, "type": "#;
    vec![
        of(&format!(r#"{{"name": "a", "offset": 0, "type": {nothing}, "count": {}}}"#, 1u64 << 63)),
        of(&format!(r#"{{"name": "a", "offset": 0, "type": {{"bytes": {{"size": 0}}}}, "count": {}}}"#, u64::MAX)),
        of(&format!(r#"{{"name": "a", "offset": 0, "type": "u64", "count": {}}}"#, 1u64 << 61)),
        of(r#"{"name": "a", "offset": 18446744073709551615, "type": "u8"}"#),
        of(r#"{"name": "a", "offset": 0, "type": "u64"}, {"name": "a", "offset": 8, "type": "u64"}"#),
        of(r#"{"name": "a", "offset": 0, "type": "u64"}, {"name": "b", "offset": 4, "type": "u32"}"#),
        of(r#"{"name": "a", "offset": 0, "type": "u128"}"#),
        format!(r#"{{"type": {nothing}, "count": {}}}"#, u64::MAX),
        format!(r#"{{"type": {}"u64"{}}}"#, nested.repeat(500), "}]}}".repeat(500)),
        "[".repeat(60_000),
        format!(r#"{{"type": "u64", "count": {}}}"#, "9".repeat(60_000)),
        "x".repeat(60_000),
        "\u{7f}\x1b[2J".into(),
    ]
}

#[test]
fn a_shape_that_lies_delays_no_verb() {
    let world = World::new();
    let mut publisher = Publisher::<u64>::builder().domain(&world.domain()).create("imu").unwrap();
    publisher.send(&7).unwrap();
    for shape in lying_shapes() {
        setxattr(world.path_of("imu"), "user.conduit.shape", shape.as_bytes(), XattrFlags::empty()).unwrap();
        for verb in [&["info", "imu", "-v"][..], &["type", "imu", "--json"]] {
            let said = clean_output(&mut world.conduit(verb));
            assert!(!said.contains("Fields") && !said.contains("fields"), "{said}");
        }
        for format in ECHOES {
            clean_output(
                &mut world
                    .conduit(&[&["echo", "imu", "--once", "--from", "latest", "--timeout", "5s"], format].concat()),
            );
        }
        clean_output(&mut world.conduit(&["echo", "imu", "--once", "--from", "latest", "--field", "a[3]"]));
    }
}

#[test]
fn a_message_that_lies_about_itself_panics_no_verb() {
    // Where the header of the first of two slots is; behind the position are what it skips, the
    // sequence number, the time stamp and the length.
    const HEADER_AT: u64 = 4096 + 2 * 128;
    let world = World::new();
    for number in [u64::MAX, 1 << 63, 1, 0] {
        let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(2).create("imu").unwrap();
        publisher.send(b"x").unwrap();
        let file = File::options().write(true).open(world.path_of("imu")).unwrap();
        for at in [16, 24, 32] {
            file.write_all_at(&number.to_ne_bytes(), HEADER_AT + at).unwrap();
            for format in [&[][..], &["--json"], &["--csv"]] {
                let echo = ["echo", "imu", "--once", "--from", "latest", "--timeout", "200ms"];
                clean_output(&mut world.conduit(&[&echo[..], format].concat()));
            }
            for verb in [&["list", "-v"][..], &["info", "imu"], &["top", "--once", "--interval", "100ms"]] {
                clean_output(&mut world.conduit(verb));
            }
        }
    }
}

#[test]
fn numbers_that_a_region_cannot_mean_panic_no_verb() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(2).create("imu").unwrap();
    publisher.send(b"x").unwrap();
    let file = File::options().write(true).open(world.path_of("imu")).unwrap();
    for number in [u64::MAX, 1 << 63, 3] {
        for at in (PRODUCER_AT..PRODUCER_AT + 64).step_by(8).chain((4096..4096 + 512).step_by(8)) {
            file.write_all_at(&number.to_ne_bytes(), at).unwrap();
        }
        run_all_verbs(&world);
        for verb in ["hz", "bw", "delay"] {
            let mut command = world.command("timeout");
            command.args(["0.5", env!("CARGO_BIN_EXE_conduit"), verb, "imu", "--count", "1", "--json"]);
            assert!(!stderr_of_any(&mut command).contains("panicked"), "{verb} {number}");
        }
    }
}
