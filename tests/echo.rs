//! What `conduit echo` prints, read back by the programs that it is for.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{Message, Publisher};
use nix::fcntl::OFlag;
use serde_json::{Value, json};

use crate::harness::skip::{Lack, skip};
use crate::harness::{Daemon, World, stderr_of, stdout_of, wait_until};

/// Eight values of whatever type a test says.
#[derive(Clone, Copy, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Eight {
    values: [f64; 8],
}

#[derive(Clone, Copy, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Pair {
    a: f64,
    b: f64,
}

#[derive(Clone, Copy, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct OtherPair {
    a: f64,
    other: f64,
}

/// What a Python program prints that gets a text on standard input; `None` if Python or a module is
/// missing.
fn python(modules: &str, program: &str, input: &str) -> Option<Value> {
    let is_there = Command::new("python3").args(["-c", &format!("import {modules}")]).output();
    is_there.ok().filter(|output| output.status.success())?;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input).unwrap();
    let program =
        format!("import sys, json, {modules}\ntext = open(sys.argv[1], encoding='utf-8', newline='')\n{program}");
    let printed = stdout_of(Command::new("python3").args(["-c", &program]).arg(file.path()));
    Some(serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}\n{input}")))
}

/// Publishes eight values with names of their own and keeps them.
fn publish(world: &World, topic: &str, names: [&str; 8], values: [f64; 8]) -> Publisher<Eight> {
    let mut publisher = Publisher::<Eight>::builder().domain(&world.domain()).create(topic).unwrap();
    let field = |(index, name): (usize, &&str)| json!({"name": name, "offset": index * 8, "type": "f64"});
    let fields: Vec<Value> = names.iter().enumerate().map(field).collect();
    let shape = json!({"type": {"struct": {"size": 64, "fields": fields}}}).to_string();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(world.path_of(topic), "user.conduit.shape", shape.as_bytes(), flags).unwrap();
    publisher.send(&Eight { values }).unwrap();
    publisher
}

fn echo(world: &World, arguments: &[&str]) -> String {
    stdout_of(&mut world.conduit(&[&["echo", "--from", "oldest"], arguments].concat()))
}

/// A number as Python prints it, with which JSON has no trouble.
const DOCUMENTS: &str =
    "print(json.dumps([[[name, type(name).__name__, repr(value)] for name, value in document.items()]
    for document in yaml.safe_load_all(text) if document is not None]))";

#[test]
fn yaml_is_read_back_by_yaml_1_1_with_the_same_names_and_types() {
    let world = World::new();
    let names: [[&str; 8]; 4] = [
        ["on", "null", "yes", "0o17", "1_000", "1:30", "2026-11-27", "~"],
        ["=", "<<", "a b", "- a", "größe", "a: b", "a #b", "-"],
        ["0", "0x1f", ".inf", ".nan", "{", "'\"\\", "y", "190:20:30.15"],
        ["日本", "1.", "0b1", "?", "🚀", "&a", "*a", "!!str"],
    ];
    let values = [1e-7, 1e16, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.5e300, -0.0, 5e-324];
    let expected = ["1e-07", "1e+16", "inf", "-inf", "nan", "1.5e+300", "-0.0", "5e-324"];
    for names in names {
        let _publisher = publish(&world, "values", names, values);
        let printed = echo(&world, &["values", "--once"]);
        let Some(read) = python("yaml", DOCUMENTS, &printed) else {
            skip!(Lack::Software("the Python module yaml"), "YAML as others read it");
        };
        let documents: Vec<[Value; 3]> = serde_json::from_value(read[0].clone()).unwrap();
        let same: Vec<_> =
            names.iter().zip(expected).map(|(name, value)| [json!(name), json!("str"), json!(value)]).collect();
        assert_eq!(documents, same, "{printed}");
        assert!(printed.chars().all(|char| !char.is_control() || char == '\n'), "{printed:?}");
    }
}

#[test]
fn yaml_has_a_document_per_message_also_of_fields() {
    let world = World::new();
    let mut publisher = Publisher::<Eight>::builder().domain(&world.domain()).create("values").unwrap();
    for number in 0..3 {
        publisher.send(&Eight { values: [f64::from(number); 8] }).unwrap();
    }
    let program = "print(json.dumps([document for document in yaml.safe_load_all(text) if document is not None]))";
    for (field, expected) in [
        (&[][..], json!([0.0, 1.0, 2.0].map(|number| json!({"values": vec![number; 8]})))),
        (&["--field", "values"], json!([0.0, 1.0, 2.0].map(|number| vec![number; 8]))),
    ] {
        let printed = echo(&world, &[&["values", "--count", "3"], field].concat());
        let Some(read) = python("yaml", program, &printed) else {
            skip!(Lack::Software("the Python module yaml"), "YAML as others read it");
        };
        assert_eq!(read, expected, "{printed}");
    }
    let lines = echo(&world, &["values", "--count", "3", "--field", "values[0]"]);
    assert_eq!(lines, "0.0\n1.0\n2.0\n");
}

#[test]
fn a_table_is_read_back_by_python_without_loss() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("mixed").unwrap();
    let messages: [&[u8]; 9] = [
        b"ff01",
        b"\xff\x01",
        b"",
        b"a \"b\", c",
        b"\x1b[2J\0",
        b"two\nlines\r",
        b" ",
        "点\u{202e}\u{9b}".as_bytes(),
        b"-",
    ];
    for message in messages {
        publisher.send(message).unwrap();
    }
    let printed = echo(&world, &["mixed", "--csv", "--count", "9"]);
    assert!(printed.chars().all(|char| !char.is_control() || char == '\n'), "{printed:?}");
    let program = "print(json.dumps([(row['text'], row['hex']) for row in csv.DictReader(text)]))";
    let Some(read) = python("csv", program, &printed) else {
        skip!(Lack::Software("python3"), "CSV as others read it")
    };
    let read: Vec<(String, String)> = serde_json::from_value(read).unwrap();
    let bytes = |(text, hex): &(String, String)| {
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        assert!(text.is_empty() || hex.is_empty());
        [text.as_bytes(), &pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<_>>()].concat()
    };
    assert_eq!(read.iter().map(bytes).collect::<Vec<_>>(), messages);

    let values = [1e-7, 1e16, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.5e300, -0.0, 5e-324];
    let _publisher = publish(&world, "values", ["a", "b,", "\"c\"", "d e", "größe", "=f", "'g", "h.i"], values);
    let program = "print(json.dumps([[(name, repr(float(row[name]))) for name in list(row)[3:]] for row in csv.DictReader(text)]))";
    let read = python("csv", program, &echo(&world, &["values", "--csv", "--once"])).unwrap();
    let expected = json!([[
        ["a", "1e-07"],
        ["b,", "1e+16"],
        ["\"c\"", "inf"],
        ["d e", "-inf"],
        ["größe", "nan"],
        ["=f", "1.5e+300"],
        ["'g", "-0.0"],
        ["h.i", "5e-324"]
    ]]);
    assert_eq!(read, expected);
}

#[test]
fn json_keeps_every_byte_and_has_no_control_characters() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("mixed").unwrap();
    let text = "a\x7f\u{9b}2J\u{202e}\x1b\0\"é🚀";
    publisher.send(text.as_bytes()).unwrap();
    let printed = echo(&world, &["mixed", "--json", "--once"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["text"], text);
    assert!(printed.chars().all(|char| !char.is_control() || char == '\n'), "{printed:?}");
}

#[test]
fn a_table_has_one_header_whoever_publishes() {
    let world = World::with_daemon();
    let publish = |number| {
        let mut publisher = Publisher::<Pair>::builder().domain(&world.domain()).create("values").unwrap();
        publisher.send(&Pair { a: 0.0, b: number }).unwrap();
        publisher
    };
    let first = publish(1.0);
    let file = world.path().join("table.csv");
    let lines = || std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let start = || {
        let mut command = world.conduit(&["echo", "values", "--csv", "--follow", "--from", "oldest"]);
        command.stdout(File::create(&file).unwrap()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let echo = Daemon::from(start());
    wait_until("the first row", || lines().len() == 2);
    drop(first);
    let second = publish(2.0);
    wait_until("the next publisher's row", || lines().len() == 3);
    assert!(lines()[0].starts_with("sequence,") && lines()[2].ends_with(",2.0"), "{:?}", lines());
    drop((echo, second));

    let third = publish(3.0);
    let echo = start();
    wait_until("the first row", || lines().len() == 2);
    drop(third);
    let _fourth = Publisher::<OtherPair>::builder().domain(&world.domain()).create("values").unwrap();
    let output = echo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("a table cannot change its columns"), "{said}");
    assert_eq!(lines().len(), 2);
}

/// Runs a command until it has written more than this number of lines, or ends. Returns how often
/// it wrote, and how many bytes.
fn writes(mut command: Command, least_lines: usize) -> (usize, usize) {
    // In such a pipe each write is a packet, and those of more than a page are several.
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_DIRECT | OFlag::O_CLOEXEC).unwrap();
    let _child = Daemon::from(command.stdout(writer).spawn().unwrap());
    drop(command);
    let (mut output, mut buffer) = (File::from(reader), vec![0; 1 << 16]);
    let (mut writes, mut lines, mut len) = (0, 0, 0);
    while lines <= least_lines {
        let Ok(count @ 1..) = output.read(&mut buffer) else { break };
        writes += 1;
        len += count;
        lines += buffer[..count].iter().filter(|&&byte| byte == b'\n').count();
    }
    assert!(lines >= least_lines, "{lines} lines");
    (writes, len)
}

#[test]
fn long_output_takes_few_system_calls() {
    let world = World::with_daemon();
    let cloud = vec![Eight { values: [0.1; 8] }; 20_000];
    let builder = Publisher::<[Eight]>::builder().domain(&world.domain()).slots(2).capacity(size_of_val(&cloud[..]));
    let mut publisher = builder.create("cloud").unwrap();
    publisher.send(&cloud).unwrap();
    let mut bytes = Publisher::<[u8]>::builder().domain(&world.domain()).capacity(200_000).create("bytes").unwrap();
    bytes.send(&(0..200_000u32).map(|number| (number / 16) as u8).collect::<Vec<_>>()).unwrap();
    let builder = Publisher::<u64>::builder().domain(&world.domain()).slots(1024);
    let mut many = builder.create("many").unwrap();
    (0..1000).for_each(|number| many.send(&number).unwrap());
    let create =
        |number| Publisher::<u64>::builder().domain(&world.domain()).create(format!("topic/{number}").as_str());
    let _others: Vec<_> = (0..200).map(|number| create(number).unwrap()).collect();
    for (arguments, least_lines) in [
        ("echo cloud --from oldest --csv", 20_000),
        ("echo cloud --from oldest", 100),
        ("echo cloud --from oldest --full-length", 20_000),
        ("echo bytes --from oldest --hex", 10_000),
        ("echo many --from oldest --json", 990),
        ("list", 200),
        ("list --json", 200),
        ("list --show-types", 200),
        ("find u64", 200),
        ("top --once --interval 0.1", 200),
        ("watch", 200),
    ] as [(&str, usize); 11]
    {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let (writes, len) = writes(world.conduit(&arguments), least_lines - 1);
        assert!(writes <= 20 + len / 4000, "{arguments:?}: {writes} writes of {len} bytes");
    }
}

#[test]
fn a_wrong_use_is_refused() {
    let world = World::new();
    let _publisher = publish(&world, "values", ["a", "b", "c", "d", "e", "f", "g", "h"], [1.0; 8]);
    let said = stderr_of(&mut world.conduit(&["echo", "values", "--field", "x", "--timeout", "1"]), 1);
    assert!(said.contains("there is no field \"x\""), "{said}");
}
