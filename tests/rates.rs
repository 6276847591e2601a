//! `conduit hz` and `conduit bw`: they report what was published and do not subscribe.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Daemon, World, stderr_of, stdout_of};
use crate::protocol::Order::Stream;

#[test]
fn rates_and_sizes_are_right_and_the_format_is_that_of_ros2() {
    let world = World::new();
    let _publisher = world.traffic("scan", 200);
    let region = world.region("scan");
    // The reference is the real rate, because a busy machine slows the publisher down.
    let published = || (region.counters().unwrap().published, Instant::now());
    let begun = published();
    let said = stdout_of(&mut world.conduit(&["hz", "scan", "--count", "3"]));
    let ended = published();
    let truth = (ended.0 - begun.0) as f64 / (ended.1 - begun.1).as_secs_f64();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    let rate: f64 = lines[4].strip_prefix("average rate: ").unwrap().parse().unwrap();
    assert!((rate / truth - 1.0).abs() < 0.02, "{truth}: {said}");
    let spread = lines[5];
    assert!(spread.starts_with("\tmin: ") && spread.contains("s max: ") && spread.contains("s std dev: "), "{said}");
    let window: u64 = spread.split_whitespace().last().unwrap().parse().unwrap();
    assert!(window <= ended.0 - begun.0 && window > 100, "{said}");

    let said = stdout_of(&mut world.conduit(&["bw", "scan", "--count", "1", "--window", "50"]));
    assert!(said.contains("kB/s from 50 messages\n\tMessage size mean: 500 B min: 500 B max: 500 B"), "{said}");
    // The command has not subscribed.
    assert_eq!(region.counters().unwrap().subscribers.len(), 0);
}

#[test]
fn several_topics_are_a_table_and_json_is_an_object_per_line() {
    let world = World::new();
    let _publishers = [world.traffic("a/b", 200), world.traffic("c", 200)];
    let said = stdout_of(&mut world.conduit(&["hz", "a/b", "c", "none", "--count", "1"]));
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["TOPIC", "RATE_HZ", "MIN_S", "MAX_S", "STD_DEV_S", "WINDOW"], "{said}");
    assert_eq!([lines[1][0], lines[2][0]], ["a/b", "c"]);
    assert_eq!(lines[3], ["none", "-", "-", "-", "-", "0"]);

    let said = stdout_of(&mut world.conduit(&["hz", "a/b", "c", "--count", "1", "--json"]));
    let reports: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2);
    for (report, topic) in reports.iter().zip(["a/b", "c"]) {
        assert_eq!(report["topic"], topic);
        let number = |pointer: &str| report.pointer(pointer).unwrap().as_f64().unwrap();
        assert!((number("/bytes_per_second") / number("/rate_hz") - 500.0).abs() < 1e-6, "{report}");
        assert_eq!([number("/length_bytes/min"), number("/length_bytes/max")], [500.0; 2]);
        let mean = number("/interval_s/mean");
        assert!((number("/interval_s/min")..=number("/interval_s/max")).contains(&mean), "{report}");
        assert!(number("/window") > 50.0, "{report}");
    }
}

#[test]
fn a_restarted_publisher_is_measured_from_zero() {
    let world = World::with_daemon();
    let first = world.traffic("scan", 200);
    let mut child = world.conduit(&["hz", "scan", "--count", "4", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    drop(first);
    world.wait_until_gone("scan");
    // Much longer than the interval between messages: a gap that was counted would be visible.
    std::thread::sleep(Duration::from_millis(700));
    let _second = world.traffic("scan", 200);
    output.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    let longest = |line: &str| serde_json::from_str::<Value>(line).unwrap()["interval_s"]["max"].as_f64().unwrap();
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.lines().all(|line| longest(line) < 0.6), "{said}");
}

#[test]
fn hz_reports_that_it_waits_and_refuses_raw_regions() {
    let world = World::new();
    let mut waiting = world.conduit(&["hz", "none"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut line).unwrap();
    drop(Daemon::from(waiting));
    assert_eq!(line, "conduit: no publisher, waiting for one\n");

    drop(conduit::ShmRegion::builder().domain(&world.domain()).create("map", 100).unwrap());
    for (topic, expected) in [("map", "a topic"), ("a//b", "topic")] {
        let said = stderr_of(&mut world.conduit(&["hz", topic]), 1);
        assert!(said.contains(expected), "{said}");
    }
    // Slots that are overwritten before they can be read do not distort the rate.
    let mut publisher = world.publisher("fast", 2, 100);
    publisher.begin(Stream(100));
    let region = world.region("fast");
    let (before, begun) = (region.counters().unwrap().published, Instant::now());
    let said = stdout_of(&mut world.conduit(&["hz", "fast", "--count", "2", "--json"]));
    let truth = (region.counters().unwrap().published - before) as f64 / begun.elapsed().as_secs_f64();
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let rate = report["rate_hz"].as_f64().unwrap();
    assert!((rate / truth - 1.0).abs() < 0.2, "{truth}: {said}");
}
