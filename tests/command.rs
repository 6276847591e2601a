//! The `conduit` command as people and scripts use it.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::skip::{Lack, skip};
use crate::harness::{World, stderr_of, stdout_of, wait_until};
use crate::protocol::Order::*;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_demo_does_what_the_readme_says() {
    let world = World::new();
    let scan = world.path().join("scan.bin");
    std::fs::write(&scan, [7; 100_001]).unwrap();
    let output = stdout_of(
        world.conduit(&["demo", "--messages", "50", "--file", scan.to_str().unwrap()]).env_remove("CONDUIT_SOCKET"),
    );
    let line = |key: &str| {
        let line =
            output.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_else(|| panic!("{key}: {output}"));
        line.trim().to_owned()
    };
    assert!(line("messages").starts_with("50 of"), "{output}");
    assert_eq!((line("lost").as_str(), line("corrupt").as_str()), ("0", "0"));
    assert!(line("all bytes").starts_with("written in "), "{output}");
    for key in ["latency", "woken", "unlinked", "served again"] {
        line(key);
    }
    // What its rate is the rate of, and what to do next.
    assert!(output.contains("of the check") && output.contains("every bit"), "{output}");
    assert!(output.contains("Try next:") && output.contains(" bench "), "{output}");
}

#[test]
fn list_and_info_show_counters_with_and_without_daemon() {
    for daemon in [true, false] {
        let mut world = World::new();
        if daemon {
            world.start_daemon();
        }
        let mut publisher = world.publisher("front/scan", 16, 1000);
        let mut subscriber = world.subscriber("front/scan");
        publisher.order(Send(20, 1000));
        subscriber.order(Hold(2));

        let output = world.conduit(&["list", "--json"]).output().unwrap();
        assert_eq!(text(&output.stderr).contains("reading"), !daemon, "{}", text(&output.stderr));
        let mut listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut described: Value =
            serde_json::from_str(&stdout_of(&mut world.conduit(&["info", "front/scan", "--json"]))).unwrap();
        // These depend on the time of the query.
        for (topic, key) in [&mut listed[0], &mut described].into_iter().flat_map(|topic| {
            let fields = topic.as_object_mut().unwrap();
            ["last_message_age_ns", "rate_hz", "bytes_per_second"].map(|key| (fields.remove(key), key))
        }) {
            assert!(topic.is_some_and(|number| number.as_f64() >= Some(0.0)), "{key}");
        }
        for topic in [&mut listed[0], &mut described] {
            let age = topic["subscribers"][0].as_object_mut().unwrap().remove("oldest_held_age_ns");
            assert!(age.is_some_and(|age| age.as_u64() > Some(0)));
        }
        assert_eq!(listed[0], described);
        let mut expected = serde_json::json!({
            "name": "front/scan",
            "state": "live",
            "raw": false,
            "path": world.path_of("front/scan"),
            "size_bytes": 4096 + 16 * 1280,
            "slots": 16,
            "slot_bytes": 1280,
            "type": "[u8]",
            "publisher": {"pid": publisher.pid(), "uid": nix::unistd::getuid().as_raw(), "program": described["publisher"]["program"]},
            "published": 20,
            "subscribers": [{
                "pid": subscriber.pid(), "uid": nix::unistd::getuid().as_raw(),
                "program": described["subscribers"][0]["program"],
                "received": 2, "lost": 5, "held": 2, "lag": 13, "asleep": false,
            }],
        });
        if daemon {
            expected["liveness"] = "lease".into();
        }
        assert_eq!(described, expected);
        assert!(described["publisher"]["program"].as_str().unwrap().starts_with("conduit-test"));

        let table = stdout_of(&mut world.conduit(&["list"]));
        assert!(table.contains("front/scan  live"), "{table}");
        let page = stdout_of(&mut world.conduit(&["info", "front/scan"]));
        assert!(page.contains("Published:    20 messages"), "{page}");
    }
}

#[test]
fn orphans_and_retained_regions_are_listed_with_their_state() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 100);
    publisher.kill();
    let described: Value = serde_json::from_str(&stdout_of(&mut world.conduit(&["info", "scan", "--json"]))).unwrap();
    assert_eq!(described["state"], "orphaned");
    let region = conduit::ShmRegion::builder().domain(&world.domain()).create("kept", 10).unwrap();
    drop(region);
    let listed: Value = serde_json::from_str(&stdout_of(&mut world.conduit(&["list", "--json"]))).unwrap();
    assert_eq!((&listed[0]["state"], &listed[0]["slots"]), (&Value::from("kept"), &Value::Null));
}

#[test]
fn echo_raw_prints_exactly_what_pub_sends() {
    let world = World::with_daemon();
    let mut publisher = world.conduit(&["pub", "lines", "--wait-matching-subscribers", "1"]);
    let mut publisher = publisher.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    wait_until("the topic", || world.exists("lines"));
    let echo =
        world.conduit(&["echo", "lines", "--raw"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(input, "first\nsecond").unwrap();
    drop(input);
    assert!(publisher.wait().unwrap().success());
    let output = echo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "firstsecond");
    assert!(text(&output.stderr).contains("closed"), "{}", text(&output.stderr));
}

#[test]
fn a_hex_dump_has_the_format_of_hexdump() {
    let world = World::new();
    let file = world.path().join("message");
    let bytes: Vec<u8> = (0..=255).chain([0; 100]).collect();
    std::fs::write(&file, &bytes).unwrap();
    let mut publisher =
        world.conduit(&["pub", "dump", "--file", file.to_str().unwrap(), "--wait-matching-subscribers", "1"]);
    let publisher = publisher.spawn().unwrap();
    wait_until("the topic", || world.exists("dump"));
    let output = stdout_of(&mut world.conduit(&["echo", "dump", "--count", "1"]));
    let (header, dump) = output.split_once('\n').unwrap();
    assert!(header.starts_with("#0: 356 bytes, age "), "{header}");
    assert!(dump.contains("\n*\n") && dump.ends_with("00000164\n"), "{dump}");
    drop(publisher.wait_with_output());
    let Ok(known) = Command::new("hexdump").arg("-C").arg(&file).output() else {
        skip!(Lack::Software("hexdump"), "the comparison with hexdump");
    };
    assert_eq!(dump, text(&known.stdout));
}

#[test]
fn echo_reports_the_publishers_death() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    let echo = world.conduit(&["echo", "scan"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.wait_until_asleep("scan", 1);
    publisher.kill();
    let output = echo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("died"), "{}", text(&output.stderr));
}

#[test]
fn watch_prints_a_line_for_every_event() {
    let world = World::with_daemon();
    let mut watch = world.conduit(&["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut publisher = world.publisher("early", 16, 100);
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    // The event is `present` or `published`, depending on which starts first.
    assert_eq!(next()["topic"], "early");
    publisher.order(Send(7, 100));
    publisher.kill();
    let died = next();
    assert_eq!((&died["kind"], &died["death"]["last_sequence"]), (&Value::from("died"), &Value::from(6)));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn deaths_lists_death_certificates_but_not_clean_ends() {
    let world = World::with_daemon();
    let deaths = |arguments: &[&str]| stdout_of(&mut world.conduit(&[&["deaths"], arguments].concat()));
    assert_eq!(deaths(&[]), "");
    for topic in ["first", "second"] {
        let mut publisher = world.publisher(topic, 16, 100);
        publisher.order(Send(3, 100));
        publisher.kill();
        world.wait_until_gone(topic);
    }
    let mut closed = world.publisher("third", 16, 100);
    closed.order(Unpublish);
    wait_until("both certificates", || deaths(&["--json"]).lines().count() == 2);
    let output = deaths(&["--json"]);
    let certificates: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(certificates.iter().map(|it| it["topic"].as_str().unwrap()).collect::<Vec<_>>(), ["first", "second"]);
    assert!(certificates.iter().all(|it| it["death"]["last_sequence"] == 2));
    let lines = deaths(&[]);
    // When it was, also if the clock is set afterwards.
    let is_absolute = |line: &str| line.starts_with("20") && line.contains("Z (") && line.contains(" s ago)  ");
    assert!(lines.lines().all(|line| is_absolute(line) && line.contains("after message #2")), "{lines}");
}

#[test]
fn whoever_sees_a_name_disappear_is_told_of_the_death() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    // Nobody waits for the process yet, so the certificate waits for its exit status.
    publisher.signal(Signal::SIGKILL);
    world.wait_until_gone("scan");
    assert!(stdout_of(&mut world.conduit(&["deaths"])).contains("scan"));
}

#[test]
fn mistakes_get_exit_codes_and_explanations() {
    let mut world = World::with_daemon();
    let _publisher = world.publisher("front/scan", 16, 100);
    for (arguments, code, complaint) in [
        (&["info", "front/scam"][..], 1, "did you mean \"front/scan\"?"),
        (&["info", "/x"], 1, "empty segment"),
        (&["echo", "nothing"], 1, "\"nothing\" does not exist"),
        (&["pub", "front/scan", "--text", "x"], 1, "is already published by pid"),
        (&["pub", "x", "--text", "x", "--slots", "1"], 1, "use 2 to 65536"),
        (&["pub", "x", "--text", "x", "--slot-size", "1"], 1, "a slot cannot have 1 bytes"),
        (&["pub", "x", "--file", "/does/not/exist"], 1, "/does/not/exist"),
        (&["pub", "x", "--text", "123456789", "--slot-size", "256", "--count", "0"], 2, "--count"),
        (&["frobnicate"], 2, "frobnicate"),
        (&["list", "--xyz"], 2, "--xyz"),
        (&["list", "a//b"], 2, "pattern \"a//b\" is invalid at byte"),
        (&["deaths", "a//b"], 2, "pattern \"a//b\" is invalid at byte"),
        (&["watch", "a//b"], 2, "pattern \"a//b\" is invalid at byte"),
        (&["top", "a//b"], 2, "pattern \"a//b\" is invalid at byte"),
    ] {
        let error = stderr_of(&mut world.conduit(arguments), code);
        assert!(error.contains(complaint), "{arguments:?}: {error}");
    }
    world.kill_daemon();
    let error = stderr_of(&mut world.conduit(&["watch"]), 1);
    assert!(error.contains("no registry at") && error.contains("start conduitd"), "{error}");
}

#[test]
fn a_line_longer_than_a_slot_is_refused_after_sending_those_before() {
    let world = World::new();
    let mut publisher = world.conduit(&["pub", "lines", "--slot-size", "256", "--wait-matching-subscribers", "1"]);
    let mut publisher = publisher.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    wait_until("the topic", || world.exists("lines"));
    let mut subscriber = world.subscriber("lines");
    writeln!(input, "short\n{}", "x".repeat(65)).unwrap();
    drop(input);
    let output = publisher.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a message of 65 bytes does not fit a slot, which holds 64"));
    assert!(text(&output.stderr).trim_end().ends_with("(--slot-size 384)"), "{}", text(&output.stderr));
    let drained = subscriber.ask(Drain).drained();
    assert_eq!((drained.received, drained.lost), (1, 0));
}

#[test]
fn a_closed_pipe_causes_no_error_message() {
    let world = World::with_daemon();
    let script = format!(
        "'{conduit}' list --json | true; '{conduit}' --help | head -1",
        conduit = env!("CARGO_BIN_EXE_conduit")
    );
    let output = world.command("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn help_of_every_verb_has_an_example() {
    let world = World::new();
    for verb in ["demo", "list", "info", "pub", "echo", "watch", "deaths", "doctor", "bench"] {
        let help = stdout_of(&mut world.conduit(&[verb, "--help"]));
        assert!(help.contains(&format!("\n  conduit {verb}")) || help.contains(&format!("| conduit {verb}")), "{help}");
    }
    let help = stdout_of(world.command(env!("CARGO_BIN_EXE_conduitd")).arg("--help"));
    assert!(help.contains("--shm-dir") && help.contains("Exit codes"), "{help}");
    stderr_of(world.command(env!("CARGO_BIN_EXE_conduitd")).arg("--nonsense"), 2);
}

#[test]
fn the_examples_work_as_two_processes() {
    let examples = std::path::Path::new(env!("CARGO_BIN_EXE_conduit")).with_file_name("examples");
    if !examples.join("counter").exists() {
        skip!(Lack::Software("examples, which `cargo test --workspace` builds"), "the examples");
    }
    let world = World::new();
    let example = |name: &str, argument: &str| stdout_of(world.command(examples.join(name)).arg(argument));
    example("counter", "write");
    assert_eq!(example("counter", "read").trim(), "42");
    assert_eq!(std::fs::metadata(world.path_of("counter")).unwrap().len(), 4096);
    example("counter", "unlink");
    example("point_cloud", "write");
    assert!(example("point_cloud", "read").contains("verified 1000000 points"));
    assert_eq!(std::fs::metadata(world.path_of("lidar")).unwrap().len(), 13_000_000);
    example("point_cloud", "unlink");
    world.wait_until_empty();

    let mut watchdog = world.command(examples.join("watchdog"));
    let mut watchdog = watchdog.arg("1").stdout(Stdio::piped()).spawn().unwrap();
    let mut follower = world.command(examples.join("follow"));
    let follower = follower.arg("150").stdout(Stdio::piped()).spawn().unwrap();
    let receives = || {
        let counters = world.region("imu").counters().unwrap();
        counters.subscribers.iter().any(|(_, subscriber)| subscriber.received > 0)
    };
    let publisher = || world.command(examples.join("imu_publisher")).stdout(Stdio::null()).spawn().unwrap();
    let mut first = publisher();
    wait_until("the topic to be followed", || world.exists("imu") && receives());
    first.kill().unwrap();
    first.wait().unwrap();
    let mut publisher = publisher();
    let followed = follower.wait_with_output().unwrap();
    let followed = text(&followed.stdout);
    assert!(followed.contains("the publisher died; waiting for the next one"), "{followed}");
    assert!(followed.ends_with("received 150 from 2 publishers, lost 0\n"), "{followed}");
    // It may have begun too late to see that there was no publisher.
    wait_until("the watchdog to see a silence and its end", || {
        for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
            kill(Pid::from_raw(publisher.id() as i32), signal).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        watchdog.try_wait().unwrap().is_some()
    });
    let seen = text(&watchdog.wait_with_output().unwrap().stdout).to_owned();
    assert!(seen.contains(": stopping the motors\nmeasurements again, after "), "{seen}");
    let mut subscriber = world.command(examples.join("imu_subscriber"));
    let subscriber = subscriber.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a message to be received", receives);
    let recorded = world.path().join("recorded");
    let mut recorder = world.command(examples.join("record"));
    let topics = stdout_of(recorder.arg(&recorded).args(["i*", "100"]));
    assert!(topics.contains("imu: imu_publisher") && topics.contains("imu: received 100, lost 0"), "{topics}");
    let recorded = std::fs::read(recorded).unwrap();
    assert!(recorded.starts_with(b"imu ") && recorded.len() > 100 * 48, "{} bytes", recorded.len());
    let used = example("control_loop", "200");
    assert!(used.contains("used ") && !used.contains("used 0 "), "{used}");
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    let output = subscriber.wait_with_output().unwrap();
    assert!(text(&output.stderr).contains("the publisher of topic \"imu\" died"), "{}", text(&output.stderr));
}

#[test]
fn without_daemon_a_program_warns_once() {
    let world = World::new();
    let output = world.conduit(&["pub", "x", "--text", "x"]).output().unwrap();
    assert!(output.status.success());
    let warnings = text(&output.stderr).lines().filter(|line| line.contains("no registry at")).count();
    assert_eq!(warnings, 1, "{}", text(&output.stderr));
}

#[test]
fn a_user_daemon_is_found_in_the_runtime_directory() {
    use std::os::unix::process::CommandExt;
    let world = World::new();
    let as_user = |program: &str, arguments: &[&str]| {
        let mut command = world.command(program);
        command.args(arguments).env_remove("CONDUIT_SOCKET").env("XDG_RUNTIME_DIR", world.path());
        if nix::unistd::geteuid().is_root() {
            command.uid(crate::harness::NOBODY).gid(crate::harness::NOBODY);
        }
        command
    };
    let mut daemon = as_user(env!("CARGO_BIN_EXE_conduitd"), &[]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the socket", || world.path().join("conduit/registry.sock").exists());
    wait_until("an answer", || {
        let output = as_user(env!("CARGO_BIN_EXE_conduit"), &["list", "--json"]).output().unwrap();
        text(&output.stdout).trim() == "[]" && output.stderr.is_empty()
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let error = stderr_of(as_user(env!("CARGO_BIN_EXE_conduitd"), &[]).env_remove("XDG_RUNTIME_DIR"), 2);
    assert!(error.contains("give --socket or set XDG_RUNTIME_DIR"), "{error}");
}
