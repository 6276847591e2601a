//! `conduit hz` and `conduit bw`: they report what was published and do not subscribe.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use conduit::Publisher;
use serde_json::Value;

use crate::harness::{Daemon, World, all_stamps, stderr_of, stdout_of};
use crate::protocol::Order::Stream;

#[test]
fn rates_and_sizes_are_right_and_the_format_is_that_of_ros2() {
    let world = World::new();
    let _publisher = world.traffic_in("scan", 200, 4096);
    let region = world.region("scan");
    let published = || region.counters().unwrap().published as usize;
    let begun = published();
    let said = stdout_of(&mut world.conduit(&["hz", "scan", "--count", "3"]));
    let ended = published();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    let rate: f64 = lines[4].strip_prefix("average rate: ").unwrap().parse().unwrap();
    let spread = lines[5];
    assert!(spread.starts_with("\tmin: ") && spread.contains("s max: ") && spread.contains("s std dev: "), "{said}");
    let window: usize = spread.split_whitespace().last().unwrap().parse().unwrap();
    assert!(window <= ended - begun && window > 100, "{said}");
    // Some of the messages that came meanwhile, one after the other, have this rate and spread.
    let stamps = &all_stamps(&region)[begun..ended];
    let are_measured = |stamps: &[u64]| {
        let truth = (window - 1) as f64 * 1e9 / (stamps[window - 1] - stamps[0]) as f64;
        let intervals = || stamps.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9);
        let (min, max) = (intervals().fold(f64::MAX, f64::min), intervals().fold(0.0, f64::max));
        (rate - truth).abs() < 0.001 && spread.starts_with(&format!("\tmin: {min:.6}s max: {max:.6}s "))
    };
    assert!(stamps.windows(window).any(are_measured), "{said}");

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
    assert_eq!(lines[0], ["TOPIC", "RATE_HZ", "MIN_S", "MAX_S", "STD_DEV_S", "MISSED", "GAP_S", "WINDOW"], "{said}");
    assert_eq!([lines[1][0], lines[2][0]], ["a/b", "c"]);
    assert_eq!(lines[3], ["none", "-", "-", "-", "-", "-", "-", "0"]);

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

#[test]
fn a_topic_without_time_stamps_has_a_rate_and_no_delay() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).time_stamps(false).create("bare").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                publisher.send(&[0; 500]).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let region = world.region("bare");
        let published = || (region.counters().unwrap().published, Instant::now());
        let begun = published();
        let output = world.conduit(&["hz", "bare", "--count", "2", "--timeout", "20", "--json"]).output();
        let ended = published();
        let delay = world.conduit(&["delay", "bare", "--timeout", "20"]).output();
        let bandwidth = world.conduit(&["bw", "bare", "--count", "1", "--timeout", "20"]).output();
        is_over.store(true, Ordering::Relaxed);
        let (output, delay, bandwidth) = (output.unwrap(), delay.unwrap(), bandwidth.unwrap());
        let truth = (ended.0 - begun.0) as f64 / (ended.1 - begun.1).as_secs_f64();
        let said = String::from_utf8(output.stdout).unwrap();
        let report: Value = serde_json::from_str(said.lines().last().expect("a report")).unwrap();
        let rate = report["rate_hz"].as_f64().unwrap();
        assert!((rate / truth - 1.0).abs() < 0.2, "{truth}: {said}");
        assert_eq!([&report["stamped"], &report["interval_s"]], [&Value::from(false), &Value::Null]);
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(reason.matches("time stamps off").count(), 1, "{reason}");
        assert!(String::from_utf8(bandwidth.stdout).unwrap().contains("/s from "));
        assert_eq!(delay.status.code(), Some(1));
        assert!(String::from_utf8(delay.stderr).unwrap().contains("time stamps off"));
    });
}

#[test]
fn stalls_between_bursts_are_visible() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(16).create("bursts").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                (0..100).for_each(|_| publisher.send(&[0; 500]).unwrap());
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        // Side by side, since they only wait.
        let start = |arguments: &[&str]| world.conduit(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let said = start(&["hz", "bursts", "--count", "4", "--timeout", "60"]);
        let json = start(&["hz", "bursts", "--count", "3", "--timeout", "60", "--json"]);
        let top = start(&["top", "--once", "--json", "--interval", "3"]);
        let [said, json, top] = [said, json, top].map(Child::wait_with_output);
        is_over.store(true, Ordering::Relaxed);
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("\tmissed: ") && last.contains(" messages overwritten before they were read"),
            "{said}"
        );
        let json = String::from_utf8(json.unwrap().stdout).unwrap();
        let report: Value = serde_json::from_str(json.lines().last().expect("a report")).unwrap();
        assert!(report["gap_s"].as_f64() >= Some(0.4) && report["missed"].as_u64() >= Some(84), "{report}");
        let top: Value = serde_json::from_slice(&top.unwrap().stdout).unwrap();
        // Half a second, shared by the 84 messages that nobody could see.
        let longest = top["topics"][0]["interval_ns"]["max"].as_f64();
        assert!(longest >= Some(0.4e9 / 85.0), "{top}");
    });
}

#[test]
fn a_timeout_ends_hz_bw_and_delay_with_what_there_was() {
    let world = World::new();
    let _publisher = world.traffic("scan", 200);
    let check = |verb| {
        let begun = Instant::now();
        // Long enough for messages, too short for a second.
        assert!(!stdout_of(&mut world.conduit(&[verb, "scan", "--timeout", "800ms"])).is_empty());
        assert!(begun.elapsed() >= Duration::from_millis(800));
        let said = stderr_of(&mut world.conduit(&[verb, "none", "--timeout", "0.2"]), 1);
        assert!(said.contains("nothing to report within 200 ms"), "{said}");
        let said = stderr_of(&mut world.conduit(&[verb, "scan", "--count", "100", "--timeout", "1.5s"]), 1);
        assert!(said.contains(" of 100 reports within 1.50 s"), "{said}");
        // Longer than any clock counts.
        stdout_of(&mut world.conduit(&[verb, "scan", "--count", "1", "--timeout", "1e19"]));
    };
    // Side by side, since they only wait.
    std::thread::scope(|scope| {
        for verb in ["hz", "bw", "delay"] {
            scope.spawn(move || check(verb));
        }
    });
}
