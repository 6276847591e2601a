//! `conduit echo` of several topics and of patterns.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};

use conduit::Publisher;
use serde_json::Value;

use crate::harness::{DEADLINE, World, stderr_of, stdout_of, wait_for, wait_until};
use crate::protocol::Order::Send;

fn create(world: &World, topic: &str) -> Publisher<[u8]> {
    Publisher::builder().domain(&world.domain()).create(topic).unwrap()
}

/// A command that runs, and the lines it prints.
struct Running {
    child: Child,
    out: Lines,
    err: Lines,
}

/// Lines as they are printed.
struct Lines(Receiver<String>);

impl Lines {
    fn new(output: impl Read + std::marker::Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self(lines)
    }

    fn next(&self) -> String {
        self.0.recv_timeout(DEADLINE).expect("a line")
    }
}

impl Running {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let mut command = world.conduit(&[&["echo"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, out: Lines::new(out), err: Lines::new(err) }
    }

    fn json(&mut self) -> Value {
        let line = self.out.next();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn notice(&mut self) -> String {
        self.err.next()
    }

    fn code(&mut self) -> Option<i32> {
        wait_for("the end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn each_message_says_which_topic_it_is_of() {
    let world = World::new();
    let mut publishers = ["camera/front", "camera/rear", "imu"].map(|topic| create(&world, topic));
    for publisher in &mut publishers {
        let text = format!("on {}", publisher.topic());
        publisher.send(text.as_bytes()).unwrap();
    }
    let echo = |arguments: &[&str]| {
        stdout_of(&mut world.conduit(&[&["echo", "--from", "oldest", "--count", "3"], arguments].concat()))
    };
    let sorted = |printed: &str| {
        let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let all = ["camera/front", "camera/rear", "imu"];
    for arguments in [&["camera/*", "imu"][..], &["**"], &["imu", "camera/rear", "camera/front", "imu"]] {
        let printed = echo(&[arguments, &["--json"]].concat());
        let mut topics: Vec<(String, String)> = printed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| (line["topic"].as_str().unwrap().into(), line["text"].as_str().unwrap().into()))
            .collect();
        topics.sort();
        assert_eq!(topics, all.map(|topic| (topic.to_owned(), format!("on {topic}"))), "{arguments:?}");
    }
    let yaml = echo(&["**"]);
    for topic in all {
        assert!(yaml.contains(&format!("# {topic} #0: ")), "{yaml}");
        assert!(yaml.contains(&format!("\n{topic}: \"on {topic}\"\n---\n")), "{yaml}");
    }
    let csv = sorted(&echo(&["**", "--csv"]));
    assert_eq!(csv[3], "topic,sequence,stamp_ns,time,text,hex");
    assert!(csv[0].starts_with("camera/front,0,") && csv[0].ends_with("Z,on camera/front,"), "{csv:?}");

    let said = stderr_of(&mut world.conduit(&["echo", "**", "--raw"]), 2);
    assert!(said.contains("--raw has no place for the names"), "{said}");
    let said = stderr_of(&mut world.conduit(&["echo", "lidar/*"]), 1);
    assert!(said.contains("no live topic matches \"lidar/*\""), "{said}");
    let said = stderr_of(&mut world.conduit(&["echo", "imu", "imo"]), 1);
    assert!(said.contains("\"imo\"") && said.contains("did you mean \"imu\"?"), "{said}");
    let said = stderr_of(&mut world.conduit(&["echo", "imu", "camera/*", "--timeout", "0.1"]), 1);
    assert!(said.contains("no message on \"imu\", \"camera/*\" within 100ms"), "{said}");
    stderr_of(&mut world.conduit(&["echo", "a//b"]), 1);
    stderr_of(&mut world.conduit(&["echo"]), 2);
}

#[test]
fn a_table_of_topics_with_other_fields_is_refused() {
    let world = World::new();
    let _bytes = create(&world, "a/bytes");
    let _number = Publisher::<u64>::builder().domain(&world.domain()).create("a/number").unwrap();
    let said = stderr_of(&mut world.conduit(&["echo", "a/*", "--csv"]), 1);
    assert!(said.contains("topic \"a/number\": its messages have other fields than those before"), "{said}");
}

#[test]
fn topics_that_appear_later_match_and_come_back() {
    let world = World::with_daemon();
    let mut echo = Running::start(&world, &["camera/*", "imu", "--follow", "--json"]);
    assert!(echo.notice().contains("there is no topic \"imu\" yet; waiting for it"));
    for (topic, text) in [("camera/front", "1"), ("imu", "2"), ("camera/rear", "3")] {
        let mut publisher = create(&world, topic);
        // Nothing is missed, although nobody waits for the subscriber.
        publisher.send(text.as_bytes()).unwrap();
        let line = echo.json();
        assert_eq!([&line["topic"], &line["text"]], [topic, text]);
        drop(publisher);
        assert!(echo.notice().contains(&format!("\"{topic}\" closed the topic; waiting for the next one")));
    }
    let _deeper = create(&world, "camera/front/left").send(b"no");
    let mut again = create(&world, "imu");
    again.send(b"4").unwrap();
    assert_eq!(echo.json()["text"], "4");
    assert!(echo.notice().contains("\"imu\" is published again"));
}

#[test]
fn a_dead_publisher_s_successor_is_printed_without_a_daemon() {
    let world = World::new();
    world.publisher("scan", 16, 100).kill();
    let said = stderr_of(&mut world.conduit(&["echo", "sc*"]), 1);
    assert!(said.contains("no live topic matches \"sc*\""), "{said}");
    let mut echo = Running::start(&world, &["scan", "--follow", "--json"]);
    let said = echo.notice();
    assert!(said.contains("the publisher of topic \"scan\" is dead; waiting for a new one"), "{said}");
    let mut next = create(&world, "scan");
    next.send(b"alive").unwrap();
    assert_eq!(echo.json()["text"], "alive");
}

#[test]
fn it_ends_with_the_last_publisher() {
    let world = World::with_daemon();
    let mut first = world.publisher("a", 16, 100);
    let mut second = world.publisher("b", 16, 100);
    first.order(Send(1, 100));
    let mut echo = Running::start(&world, &["?", "--from", "oldest", "--json", "--no-follow"]);
    assert_eq!(echo.json()["topic"], "a");
    first.kill();
    assert!(echo.notice().contains("the publisher of \"a\" died"));
    second.order(Send(1, 100));
    assert_eq!(echo.json()["topic"], "b");
    drop(second);
    assert_eq!(echo.code(), Some(3));
}

#[test]
fn a_flood_does_not_silence_the_others() {
    let world = World::new();
    let mut quiet = create(&world, "quiet");
    let mut flood = world.publisher("flood", 64, 100);
    flood.begin(crate::protocol::Order::Stream(100));
    let mut echo = Running::start(&world, &["flood", "quiet", "--json"]);
    let region = world.region("quiet");
    wait_until("the subscriber", || region.counters().unwrap().subscribers.len() == 1);
    quiet.send(b"here").unwrap();
    wait_until("the quiet topic's message", || echo.json()["topic"] == "quiet");
}

#[test]
fn nothing_wakes_it_while_nothing_happens() {
    let world = World::with_daemon();
    let echo = Running::start(&world, &["imu", "camera/*", "--follow"]);
    let switches = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", echo.child.id())).unwrap();
        let of = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            line.trim().parse::<u64>().unwrap()
        };
        tasks.map(|task| of(task.unwrap())).sum::<u64>()
    };
    let mut before = switches();
    wait_until("it to be at rest", || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        let was = std::mem::replace(&mut before, switches());
        was == before
    });
}
