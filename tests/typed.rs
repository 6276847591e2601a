//! `conduit pub` of messages that are given as YAML or JSON.

use std::io::Write;
use std::process::{Child, Stdio};

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};
use conduit::{Message, Publisher, Start, Subscriber};
use serde_json::Value;

use crate::harness::{World, stderr_of, stdout_of, wait_until};

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "robot/Imu")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Imu {
    stamp: u64,
    gyro: [f32; 2],
}

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[message(name = "lidar/Point")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Point {
    x: i16,
    y: i16,
}

#[derive(Message, TryFromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(u8)]
enum Mode {
    Idle,
    Driving = 7,
}

/// A field of each kind, under names that mean something in YAML.
#[derive(Message, TryFromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[message(name = "test/Everything")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Everything {
    on: u64,
    no: i64,
    null: f64,
    doubles: [f64; 2],
    y: f32,
    unsigned: u32,
    signed: i32,
    n: u16,
    small: i16,
    points: [Point; 2],
    byte: u8,
    tiny: i8,
    is_true: bool,
    mode: Mode,
    name: [u8; 8],
    flags: [bool; 4],
}

fn everything() -> [Everything; 3] {
    let zero = Everything {
        on: 0,
        no: 0,
        null: 0.0,
        doubles: [0.0; 2],
        y: 0.0,
        unsigned: 0,
        signed: 0,
        n: 0,
        small: 0,
        points: [Point { x: 0, y: 0 }; 2],
        byte: 0,
        tiny: 0,
        is_true: false,
        mode: Mode::Idle,
        name: [0; 8],
        flags: [false; 4],
    };
    let most = Everything {
        on: u64::MAX,
        no: i64::MIN,
        null: f64::MAX,
        doubles: [f64::MIN_POSITIVE, -0.0],
        y: 1e-7,
        unsigned: u32::MAX,
        signed: i32::MIN,
        n: u16::MAX,
        small: i16::MIN,
        points: [Point { x: i16::MAX, y: -1 }, Point { x: 1, y: i16::MIN }],
        byte: u8::MAX,
        tiny: i8::MIN,
        is_true: true,
        mode: Mode::Driving,
        name: *b"\x1b'\"\n\0#: ",
        flags: [true, false, true, false],
    };
    let odd = Everything { null: 1e16, doubles: [0.1, 5e-324], y: 16_777_216.0, ..most };
    [zero, most, odd]
}

/// Starts `conduit pub` of a type, which stays until it is killed, with this on standard input.
fn publish(world: &World, arguments: &[&str], input: &str) -> Child {
    let mut command = world.conduit(&["pub", "--keep"]);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child
}

fn wait_for_messages(world: &World, topic: &str, messages: u64) {
    wait_until("the messages", || {
        let counters = world.exists(topic).then(|| world.region(topic).counters()).flatten();
        counters.is_some_and(|it| it.published == messages)
    });
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_echo_prints_is_published_again_bit_by_bit() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<Everything>::builder().domain(&domain).create("all").unwrap();
    let mut messages = everything().to_vec();
    let special = |null| Everything { null, doubles: [null; 2], y: null as f32, ..messages[1] };
    for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(special) {
        messages.push(special);
    }
    messages.iter().for_each(|message| publisher.send(message).unwrap());
    for (topic, format) in [("copy/json", &["--json"][..]), ("copy/yaml", &[])] {
        let count = messages.len();
        let count_text = count.to_string();
        let arguments = [&["echo", "all", "--from", "oldest", "--count", &count_text], format].concat();
        let printed = stdout_of(&mut world.conduit(&arguments));
        let copier = publish(&world, &[topic, "--type-of", "all"], &printed);
        wait_for_messages(&world, topic, count as u64);
        let subscriber = Subscriber::<Everything>::builder().domain(&domain).start(Start::Oldest);
        let mut subscriber = subscriber.open(topic).unwrap();
        for message in &messages {
            assert_eq!(subscriber.recv().unwrap().as_bytes(), message.as_bytes(), "{printed}");
        }
        end(copier);
    }
}

#[test]
fn lists_of_any_length_are_published_again() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<[Point]>::builder().domain(&domain).create("scan").unwrap();
    let points: Vec<Point> = (0..300).map(|x| Point { x, y: -x }).collect();
    [&points[..], &[], &points[..1]].iter().for_each(|points| publisher.send(points).unwrap());
    for format in ["--json", "--full-length"] {
        let echo = ["echo", "scan", "--from", "oldest", "--count", "3", format];
        let topic = format!("copy/{}", format.trim_start_matches('-'));
        let copier = publish(&world, &[&topic, "--type-of", "scan"], &stdout_of(&mut world.conduit(&echo)));
        wait_for_messages(&world, &topic, 3);
        let subscriber = Subscriber::<[Point]>::builder().domain(&domain).start(Start::Oldest);
        let mut subscriber = subscriber.open(topic).unwrap();
        for len in [300, 0, 1] {
            let sample = subscriber.recv().unwrap();
            assert!(
                sample.len() == len
                    && sample.iter().zip(&points).all(|(one, other)| (one.x, one.y) == (other.x, other.y))
            );
        }
        end(copier);
    }
    // What was shortened is not taken for the whole.
    let mut command = world.conduit(&["pub", "copy", "--type-of", "scan", "[{x: 1}, '... and 2 more']"]);
    assert!(stderr_of(&mut command, 1).contains("[1]: expected the fields x, y, found \"... and 2 more\""));
}

#[test]
fn a_type_is_known_from_a_topic_from_a_file_and_from_what_a_dead_publisher_left() {
    let world = World::new();
    let domain = world.domain();
    let publisher = Publisher::<Imu>::builder().domain(&domain).create("imu").unwrap();
    let described = stdout_of(&mut world.conduit(&["type", "imu", "--json"]));
    let file = world.path().join("imu.json");
    std::fs::write(&file, &described).unwrap();
    let file = file.to_str().unwrap();
    let from_topic = publish(&world, &["copy", "{gyro: [0, 1.5]}", "--type-of", "imu"], "");
    wait_for_messages(&world, "copy", 1);
    drop(publisher);
    let from_file = publish(&world, &["imu", "--type", file, "{stamp: 7, gyro: [0, 1.5]}"], "");
    wait_for_messages(&world, "imu", 1);
    assert_eq!(stdout_of(&mut world.conduit(&["type", "imu", "--json"])), described, "it describes itself");
    for (topic, stamp) in [("copy", 0), ("imu", 7)] {
        let mut subscriber = Subscriber::<Imu>::builder().domain(&domain).start(Start::Latest).open(topic).unwrap();
        let imu = subscriber.recv().unwrap();
        assert_eq!((imu.stamp, imu.gyro), (stamp, [0.0, 1.5]));
    }
    end(from_topic);
    end(from_file);
    // No daemon has removed it.
    let from_orphan = publish(&world, &["imu", "gyro:\n- 1\n- -2\n", "--count", "2"], "");
    wait_for_messages(&world, "imu", 2);
    end(from_orphan);
}

#[test]
fn documents_of_a_stream_are_messages_in_their_order() {
    let world = World::new();
    let _imu = Publisher::<Imu>::builder().domain(&world.domain()).create("imu").unwrap();
    let input = "{\"stamp\": 1}\n{stamp: 2, gyro: [.5,\n -.5]}\nstamp: 3\ngyro: [1e0, 2]\n---\n# nothing\n---\n{}\n{stamp: 99}\n";
    let copier = publish(&world, &["copy", "--type-of", "imu", "--count", "4"], input);
    wait_for_messages(&world, "copy", 4);
    let mut subscriber =
        Subscriber::<Imu>::builder().domain(&world.domain()).start(Start::Oldest).open("copy").unwrap();
    let found: Vec<_> = (0..4).map(|_| subscriber.recv().map(|imu| (imu.stamp, imu.gyro)).unwrap()).collect();
    assert_eq!(found, [(1, [0.0; 2]), (2, [0.5, -0.5]), (3, [1.0, 2.0]), (0, [0.0; 2])]);
    end(copier);

    let mut command = world.conduit(&["pub", "copy", "--type-of", "imu"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{stamp: 1}\n{stampp: 1}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "conduit: message 2 of standard input: there is no field \"stampp\"; did you mean \"stamp\"? (line 1, column 2)\n";
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn messages_that_do_not_fit_their_type_are_refused_and_no_topic_is_made() {
    let world = World::new();
    let domain = world.domain();
    let _imu = Publisher::<Imu>::builder().domain(&domain).create("imu").unwrap();
    let _bytes = Publisher::<[u8]>::builder().domain(&domain).create("bytes").unwrap();
    drop(conduit::ShmRegion::builder().domain(&domain).create("map", 64).unwrap());
    let bad_file = world.path().join("bad.json");
    std::fs::write(&bad_file, r#"{"type": "P", "shape": {"type": {"struct": {"size": 4, "fields": [{"name": "a", "offset": 2, "type": "u32"}]}}}}"#).unwrap();
    let huge_file = world.path().join("huge.json");
    std::fs::write(&huge_file, r#"{"type": "P", "shape": {"type": "u8", "count": 1099511627776}}"#).unwrap();
    let (bad_file, huge_file) = (bad_file.to_str().unwrap(), huge_file.to_str().unwrap());
    for (arguments, code, complaint) in [
        (
            &["{stamp: 1}"][..],
            1,
            "there is no topic \"x\", so the fields of its messages are not known; name a topic of the same type with --type-of",
        ),
        (
            &["{stamp: -1}", "--type-of", "imu"],
            1,
            "stamp: -1 is out of range: 0 to 18446744073709551615 (line 1, column 9)",
        ),
        (&["{stmp: 1}", "--type-of", "imu"], 1, "there is no field \"stmp\"; did you mean \"stamp\"?"),
        (&["{gyro: [1]}", "--type-of", "imu"], 1, "gyro: the list has 1 elements, 2 are needed"),
        (&["{gyro: [1, 1e39]}", "--type-of", "imu"], 1, "gyro[1]: 1e39 is out of range"),
        (&["{gyro: [1, fast]}", "--type-of", "imu"], 1, "gyro[1]: expected a number, found \"fast\""),
        (&["{", "--type-of", "imu"], 1, "this is neither YAML nor JSON"),
        (&["-5", "--type-of", "imu"], 1, "expected the fields stamp, gyro, found \"-5\""),
        (&["{a: 1}", "--type-of", "bytes"], 1, "expected a list of elements, found fields"),
        (&["{a: 1}", "--type-of", "map"], 1, "\"map\" is a raw region"),
        (&["{a: 1}", "--type-of", "nope"], 1, "there is no topic \"nope\""),
        (&["{a: 1}", "--type-of", "--force"], 2, "unexpected argument"),
        (&["{a: 1}", "--type", "/nowhere"], 1, "cannot read /nowhere"),
        (&["{a: 1}", "--type", "/dev/zero"], 1, "it has more than 1048576 bytes"),
        (&["{a: 1}", "--type", bad_file], 1, "the shape contradicts itself"),
        (&["[]", "--type", huge_file], 1, "the message has more than 67108864 bytes (--slot-size)"),
        (&["{a: 1}", "--text", "b"], 2, "cannot be used with"),
        (&["--text", "b", "--type-of", "imu"], 2, "cannot be used with"),
        (&["{}", "--type-of", "imu", "--slot-size", "256", "--slots", "1"], 1, "slots"),
    ] {
        let mut command = world.conduit(&["pub", "x"]);
        let said = stderr_of(command.args(arguments).stdin(Stdio::null()), code);
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(!world.exists("x"), "{arguments:?}");
    }
}

#[test]
fn plain_bytes_are_a_list_of_numbers() {
    let world = World::new();
    let _bytes = Publisher::<[u8]>::builder().domain(&world.domain()).create("bytes").unwrap();
    let copier = publish(&world, &["copy", "[104, 0x69]", "--type-of", "bytes"], "");
    wait_for_messages(&world, "copy", 1);
    let printed = stdout_of(&mut world.conduit(&["echo", "copy", "--from", "latest", "--once", "--json"]));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&printed["type"], &printed["text"]), (&"[u8]".into(), &"hi".into()));
    end(copier);
}
