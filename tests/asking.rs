//! Queries about a running system: `list`, `info`, `type`, `find`, `delay`, and `echo` in every
//! output format.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{Message, Publisher};
use serde_json::{Value, json};

use crate::harness::{World, stderr_of, stdout_of, wait_for, wait_until};
use crate::protocol::Order::Send;

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "robot/Imu")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Imu {
    stamp: u64,
    gyro: [f32; 2],
}

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "lidar/Point")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Point {
    x: i16,
    y: i16,
}

fn imu(world: &World) -> Publisher<Imu> {
    let mut publisher = Publisher::<Imu>::builder().domain(&world.domain()).create("imu").unwrap();
    for stamp in 0..3 {
        publisher.send(&Imu { stamp, gyro: [0.5, -1.25] }).unwrap();
    }
    publisher
}

/// The output of a process, line by line.
struct Lines<R>(BufReader<R>);

impl<R: Read> Lines<R> {
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

fn start(mut command: Command) -> (Child, Lines<impl Read>, Lines<impl Read>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    (child, Lines(BufReader::new(out)), Lines(BufReader::new(err)))
}

#[test]
fn fields_are_shown_in_every_format() {
    let world = World::new();
    let _publisher = imu(&world);
    let echo =
        |arguments: &[&str]| stdout_of(&mut world.conduit(&[&["echo", "imu", "--from", "oldest"], arguments].concat()));
    let yaml = echo(&["-n", "2"]);
    let documents: Vec<&str> = yaml.split("---\n").collect();
    assert!(
        documents[0].starts_with("#0: 16 bytes, age ") && documents[0].ends_with("stamp: 0\ngyro: [0.5, -1.25]\n"),
        "{yaml}"
    );
    assert!(documents[1].ends_with("stamp: 1\ngyro: [0.5, -1.25]\n") && documents.len() == 3, "{yaml}");
    assert_eq!(echo(&["--field", "gyro[1]", "--count", "2"]), "-1.25\n-1.25\n");
    let csv = echo(&["--csv", "--count", "2"]);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["sequence", "stamp_ns", "time", "stamp", "gyro[0]", "gyro[1]"]);
    assert_eq!((rows[2][0], &rows[2][3..]), ("1", ["1", "0.5", "-1.25"].as_slice()), "{csv}");
    let line: Value = serde_json::from_str(&echo(&["--json", "--once"])).unwrap();
    assert_eq!(line["value"], json!({"stamp": 0, "gyro": [0.5, -1.25]}));
    assert_eq!([&line["type"], &line["topic"]], ["robot/Imu", "imu"]);
    assert!(echo(&["--hex", "--once"]).contains("00000010"));
    let raw =
        world.conduit(&["echo", "imu", "--from", "oldest", "--raw", "--once", "--field", "gyro[1]"]).output().unwrap();
    assert_eq!(raw.stdout, (-1.25f32).to_ne_bytes());
    let error = stderr_of(&mut world.conduit(&["echo", "imu", "--field", "gyros"]), 1);
    assert!(error.contains("topic \"imu\": there is no field \"gyros\"; did you mean \"gyro\"?"), "{error}");

    let mut points = Publisher::<[Point]>::builder().domain(&world.domain()).create("points").unwrap();
    points.send(&[Point { x: 1, y: -1 }, Point { x: 2, y: -2 }]).unwrap();
    let csv = stdout_of(&mut world.conduit(&["echo", "points", "--from", "latest", "--csv", "--once"]));
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[2][3..], ["1", "2", "-2"], "{csv}");
    let field = stdout_of(&mut world.conduit(&["echo", "points", "--from", "latest", "--once", "--field", "[1].y"]));
    assert_eq!(field, "-2\n");
}

#[test]
fn echo_prints_text_and_reports_losses() {
    let world = World::with_daemon();
    let mut publisher = Publisher::<[u8]>::builder().slots(2).domain(&world.domain()).create("chatter").unwrap();
    publisher.send(b"hello").unwrap();
    let said = stdout_of(&mut world.conduit(&["echo", "chatter", "--from", "latest", "--once"]));
    assert!(said.starts_with("#0: 5 bytes") && said.ends_with("\nhello\n"), "{said}");
    // Nothing reads the output of `echo`, so it blocks and falls far behind.
    for (arguments, is_told) in [(&["--raw"][..], true), (&["--raw", "--no-lost-messages"], false)] {
        let (mut echo, _out, mut err) = start(world.conduit(&[&["echo", "chatter"], arguments].concat()));
        world.wait_until_asleep("chatter", 1);
        let message = vec![b'x'; 3900];
        let region = world.region("chatter");
        let has_lost = || region.counters().unwrap().subscribers.iter().any(|(_, one)| one.lost > 0);
        wait_until("a loss", || {
            publisher.send(&message).unwrap();
            publisher.send(&message).unwrap();
            publisher.send(&message).unwrap();
            has_lost()
        });
        if is_told {
            assert!(err.next().contains(" lost before #"), "the loss is reported");
        }
        echo.kill().unwrap();
        let mut rest = String::new();
        err.0.read_to_string(&mut rest).unwrap();
        assert!(is_told || rest.is_empty(), "{rest}");
        echo.wait().unwrap();
        wait_until("its record to be free", || region.counters().unwrap().subscribers.is_empty());
    }
}

#[test]
fn echo_follow_continues_with_the_next_publisher() {
    let world = World::with_daemon();
    let (mut echo, mut out, mut err) = start(world.conduit(&["echo", "scan", "--follow", "--csv", "--count", "3"]));
    assert_eq!(err.next(), "conduit: there is no topic \"scan\" yet; waiting for it");
    let mut publisher = world.publisher("scan", 16, 100);
    world.wait_until_asleep("scan", 1);
    publisher.order(Send(1, 100));
    assert_eq!(out.next(), "sequence,stamp_ns,time,text,hex");
    assert!(out.next().starts_with("0,"));
    publisher.kill();
    assert!(err.next().contains("died"), "it says so");
    let mut publisher = world.publisher("scan", 16, 100);
    publisher.order(Send(2, 100));
    assert!(err.next().contains("\"scan\" is published again: "), "it says so");
    wait_for("the end after three messages", || echo.try_wait().unwrap());
}

#[test]
fn list_type_and_find_accept_the_options_of_ros2() {
    let world = World::with_daemon();
    let _imu = imu(&world);
    let _front = Publisher::<[u8]>::builder().domain(&world.domain()).create("camera/front").unwrap();
    let list = |arguments: &[&str]| stdout_of(&mut world.conduit(&[&["list"], arguments].concat()));
    assert_eq!(list(&["-t"]), "camera/front [[u8]]\nimu [robot/Imu]\n");
    assert_eq!(list(&["--count"]), "2\n");
    assert_eq!(list(&["-c", "camera/**"]), "1\n");
    let table = list(&["camera/*"]);
    assert!(table.contains("camera/front  live") && !table.contains("imu"), "{table}");
    let table = list(&["-v"]);
    assert!(table.lines().next().unwrap().ends_with("BANDWIDTH  LAST MESSAGE  LOST  LIVENESS  PATH"), "{table}");
    assert!(table.contains(world.path_of("imu").to_str().unwrap()), "{table}");
    assert_eq!(stdout_of(&mut world.conduit(&["type", "imu"])), "robot/Imu\n");
    assert_eq!(stdout_of(&mut world.conduit(&["find", "robot/Imu"])), "imu\n");
    let json = |arguments: &[&str]| serde_json::from_str::<Value>(&stdout_of(&mut world.conduit(arguments))).unwrap();
    assert_eq!(json(&["find", "robot/Imu", "--json"]), json!(["imu"]));
    let shape = json(&["info", "imu", "--json"])["shape"].clone();
    assert_eq!(
        json(&["type", "imu", "--json"]),
        json!({"topic": "imu", "type": "robot/Imu", "size": 16, "align": 8, "shape": shape})
    );
    stderr_of(&mut world.conduit(&["find", "robot/Odometry"]), 1);
    let error = stderr_of(&mut world.conduit(&["type", "imuu"]), 1);
    assert!(error.contains("did you mean \"imu\"?"), "{error}");
    let error = stderr_of(&mut world.conduit(&["list", "a//b"]), 2);
    assert!(error.contains("empty segment"), "{error}");
}

#[test]
fn info_shows_the_last_death() {
    let world = World::with_daemon();
    let mut publisher = world.publisher("imu", 16, 100);
    let subscriber = world.subscriber("imu");
    publisher.order(Send(5, 100));
    let pid = publisher.pid();
    publisher.kill();
    world.wait_until_gone("imu");
    // The error says that the topic is gone and why.
    let error = stderr_of(&mut world.conduit(&["info", "imu"]), 1);
    let expected = format!("({pid}) was killed by SIGKILL, ");
    assert!(
        error.contains("; its publisher ") && error.contains(&expected) && error.contains("; that was at 20"),
        "{error}"
    );
    let _publisher = imu(&world);
    let page = stdout_of(&mut world.conduit(&["info", "imu"]));
    assert!(
        page.contains("Last death:   ") && page.contains(&expected) && page.contains("; it had 1 subscriber"),
        "{page}"
    );
    assert!(!page.contains("Fields:"), "{page}");
    let page = stdout_of(&mut world.conduit(&["info", "imu", "-v"]));
    assert!(page.contains("Fields:       {stamp u64, gyro f32[2]}\n"), "{page}");
    assert!(
        page.contains("Access:       mode 0") && page.contains("Subscribed when the last publisher died:\n"),
        "{page}"
    );
    assert!(page.contains(&subscriber.pid().to_string()), "{page}");
    let info: Value = serde_json::from_str(&stdout_of(&mut world.conduit(&["info", "imu", "--json"]))).unwrap();
    assert_eq!(info["last_death"]["death"]["signal"], 9);
    assert_eq!(info["shape"]["type"]["struct"]["fields"][1]["name"], "gyro");
    let deaths = stdout_of(&mut world.conduit(&["deaths", "i*"]));
    assert!(deaths.contains(&expected) && deaths.contains("after message #4"), "{deaths}");
    assert_eq!(stdout_of(&mut world.conduit(&["deaths", "camera/*"])), "");
}

#[test]
fn delay_is_the_age_of_a_message_when_it_arrives() {
    let world = World::with_daemon();
    let _publisher = world.traffic("scan", 200);
    let said = stdout_of(&mut world.conduit(&["delay", "scan", "--count", "1"]));
    let lines: Vec<&str> = said.lines().collect();
    let mean: f64 = lines[0].strip_prefix("average delay: ").unwrap().parse().unwrap();
    assert!(mean > 0.0 && mean < 1.0, "{said}");
    assert!(
        lines[1].starts_with("\tmin: ") && lines[1].contains("s std dev: ") && lines[1].contains("s window: "),
        "{said}"
    );
    let json = stdout_of(&mut world.conduit(&["delay", "scan", "none", "--count", "1", "--json", "-w", "10"]));
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["topic"], &report["window"]), (&json!("scan"), &json!(10)));
    assert!(report["delay_s"]["min"].as_f64() <= report["delay_s"]["max"].as_f64(), "{json}");
    // Its subscribers are gone as well.
    let region = world.region("scan");
    wait_until("no subscriber", || region.counters().unwrap().subscribers.is_empty());

    let mut silent = Publisher::<[u8]>::builder().time_stamps(false).domain(&world.domain()).create("silent").unwrap();
    let (mut delay, _out, mut err) = start(world.conduit(&["delay", "silent"]));
    world.wait_until_asleep("silent", 1);
    silent.send(b"x").unwrap();
    // On a busy machine a second without a message may pass before.
    let reason = std::iter::repeat_with(|| err.next()).find(|line| !line.contains("no new messages")).unwrap();
    assert!(reason.contains("time stamps off"), "{reason}");
    assert_eq!(delay.wait().unwrap().code(), Some(1));
}

#[test]
fn pub_keep_holds_the_topic_until_a_signal() {
    let world = World::with_daemon();
    let (mut publisher, _, _) = start(world.conduit(&["pub", "map", "--text", "free", "--once", "--keep"]));
    stdout_of(&mut world.conduit(&["wait", "map"]));
    let said = stdout_of(&mut world.conduit(&["echo", "map", "--from", "oldest", "--once", "--timeout", "10s"]));
    assert!(said.ends_with("\nfree\n"), "{said}");
    assert!(publisher.try_wait().unwrap().is_none());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(publisher.id() as i32), nix::sys::signal::SIGINT).unwrap();
    let status = wait_for("its end", || publisher.try_wait().unwrap());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
    world.wait_until_empty();
    assert_eq!(stdout_of(&mut world.conduit(&["deaths"])), "", "it closed the topic");
}

#[test]
fn watch_reconnects_to_a_restarted_registry() {
    let mut world = World::with_daemon();
    let (mut watch, mut out, mut err) = start(world.conduit(&["watch", "--no-color"]));
    let publisher = world.publisher("early", 16, 100);
    assert!(out.next().contains("  early  "));
    world.kill_daemon();
    assert!(err.next().contains("waiting for a registry"));
    world.start_daemon();
    assert_eq!(err.next(), "conduit: the registry is back");
    assert!(out.next().contains("present             early  "));
    publisher.kill();
    assert!(out.next().contains(" was killed by SIGKILL"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn colours_appear_only_on_terminals() {
    let world = World::new();
    let _imu = imu(&world);
    // Runs the command in a pseudo-terminal, made by `script` of util-linux.
    let terminal = |environment: &[(&str, &str)], arguments: &str| {
        let mut command = world.command("script");
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_conduit"));
        command
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR");
        stdout_of(command.envs(environment.iter().copied()).stdin(Stdio::null()))
    };
    assert!(terminal(&[], "list").contains("\x1b[32mlive\x1b[0m"));
    assert!(!terminal(&[("NO_COLOR", "1")], "list").contains('\x1b'));
    assert!(!terminal(&[], "list --no-color").contains('\x1b'));
    assert!(!terminal(&[], "--no-color list").contains('\x1b'));
    assert!(!stdout_of(&mut world.conduit(&["list"])).contains('\x1b'));
}

#[test]
fn a_thousand_topics_are_listed_quickly() {
    let world = World::with_daemon();
    let domain = world.domain();
    let topics: Vec<Publisher<[u8]>> = (0..1000)
        .map(|number| Publisher::<[u8]>::builder().slots(2).domain(&domain).create(format!("t/{number}")).unwrap())
        .collect();
    let started = Instant::now();
    let said = stdout_of(&mut world.conduit(&["list"]));
    // Not a benchmark: it only shows that nothing is quadratic.
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(said.lines().count(), 1001);
    drop(topics);
}

#[test]
fn topics_that_cannot_be_shown_get_an_explanation() {
    use std::os::unix::fs::FileExt;
    let world = World::with_daemon();
    let domain = world.domain();
    drop(conduit::ShmRegion::builder().domain(&domain).create("map", 100).unwrap());
    let _newer = Publisher::<[u8]>::builder().domain(&domain).create("newer").unwrap();
    // The version follows the magic bytes.
    let file = std::fs::File::options().write(true).open(world.path_of("newer")).unwrap();
    file.write_all_at(&99u32.to_ne_bytes(), 8).unwrap();
    std::fs::write(world.path_of("foreign"), "nobody's").unwrap();
    for verb in ["echo", "hz", "bw", "delay"] {
        for (topic, complaint) in [("map", "a topic"), ("newer", "99"), ("foreign", "conduit_foreign")] {
            let error = stderr_of(&mut world.conduit(&[verb, topic]), 1);
            assert!(error.contains(complaint), "{verb} {topic}: {error}");
        }
        let error = stderr_of(&mut world.conduit(&[verb, "a//b"]), 1);
        assert!(error.contains("a//b"), "{verb}: {error}");
    }
    std::fs::remove_file(world.path_of("foreign")).unwrap();
}
