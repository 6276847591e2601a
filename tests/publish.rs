//! `conduit pub` of bytes: from files, lines and records, at a rate.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use conduit::inspect::MessageHeader;
use conduit::{Start, Subscriber};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::harness::{Daemon, World, stderr_of, wait_for, wait_until};

/// Runs a command with this on standard input; returns its exit code and standard error.
fn feed(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read all of it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Publishes, and keeps the topic; returns its messages.
fn messages_of(world: &World, arguments: &[&str], input: &[u8], count: u64) -> Vec<Vec<u8>> {
    let mut command = world.conduit(&["pub", "data", "--keep"]);
    let mut child = command.args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let publisher = Daemon::from(child);
    wait_until("the messages", || published(world, "data") == count);
    let subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).start(Start::Oldest);
    let mut subscriber = subscriber.open("data").unwrap();
    let messages = (0..count).map(|_| subscriber.recv().unwrap().to_vec()).collect();
    drop(publisher);
    std::fs::remove_file(world.path_of("data")).unwrap();
    messages
}

fn published(world: &World, topic: &str) -> u64 {
    let counters = world.exists(topic).then(|| world.region(topic).counters()).flatten();
    counters.map_or(0, |counters| counters.published)
}

#[test]
fn files_are_read_as_far_as_they_are_messages() {
    let world = World::new();
    let path = world.path().join("file");
    std::fs::write(&path, [7; 10_000]).unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(messages_of(&world, &["--file", file], b"", 1), [vec![7; 10_000]]);
    assert_eq!(messages_of(&world, &["--file", "-"], b"two\nlines\n", 1), [b"two\nlines\n"]);
    let kernel = messages_of(&world, &["--file", "/proc/version"], b"", 1);
    assert!(kernel[0].starts_with(b"Linux version"), "its length is 0 until it is read");
    let room = "--slot-size";
    let sparse = world.path().join("sparse");
    std::fs::File::create(&sparse).unwrap().set_len(1 << 50).unwrap();
    for (arguments, complaint) in [
        (
            &["--file", "/dev/zero"][..],
            "/dev/zero does not end after 67108864 bytes; for a longer message give a larger",
        ),
        (&["--file", "/dev/zero", room, "4096"], "/dev/zero does not end after 4096 bytes"),
        (&["--file", file, room, "4096"], "has 10000 bytes, which is too much for slots of 4096 (--slot-size 12288)"),
        (&["--file", sparse.to_str().unwrap()], "has 1.0 PiB: 16 slots for it take 16.0 PiB, "),
        (&["--file", world.path().to_str().unwrap()], "it is a directory; --file publishes files"),
        (&["--file", "/nowhere"], "cannot read /nowhere: No such file"),
    ] {
        let said = stderr_of(world.conduit(&["pub", "data"]).args(arguments), 1);
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
    assert!(!world.exists("data"));
}

#[test]
fn inputs_that_do_not_end_are_refused() {
    let world = World::new();
    let endless = std::fs::File::open("/dev/zero").unwrap();
    let said = stderr_of(world.conduit(&["pub", "data"]).stdin(endless), 1);
    assert!(said.contains("message 1 of standard input: ") && said.contains("(--slot-size "), "{said}");
}

#[test]
fn a_pipe_without_a_writer_keeps_nobody_from_interrupting() {
    let world = World::new();
    let fifo = world.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = world.conduit(&["pub", "data", "--file", fifo.to_str().unwrap()]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal as i32));
    }
}

#[test]
fn records_hold_any_bytes() {
    let world = World::new();
    let input = b"\x03\0\0\0a\nb\0\0\0\0\x01\0\0\0\xff";
    assert_eq!(messages_of(&world, &["--length-prefixed"], input, 3), [&b"a\nb"[..], b"", b"\xff"]);
    for (input, complaint) in [
        (&b"\x03\0\0\0ab"[..], "standard input ends in the middle of message 1"),
        (b"\0\0\0\0\x01\0", "standard input ends in the middle of message 2"),
        (b"\xff\xff\xff\xff", "message 1 of standard input: "),
    ] {
        let (code, said) = feed(&mut world.conduit(&["pub", "data", "--length-prefixed"]), input);
        assert!(code == Some(1) && said.contains(complaint), "{input:?}: {said}");
    }
}

/// The schedule is one of 3 s; if a late message delayed the others, the stop would be added.
#[test]
fn a_stop_is_caught_up_with() {
    let world = World::new();
    let arguments = ["pub", "data", "--text", "x", "--rate", "200", "--count", "600", "--slots", "1024", "--keep"];
    let child = world.conduit(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let _publisher = Daemon::from(child);
    wait_until("some messages", || published(&world, "data") > 50);
    kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill(pid, Signal::SIGCONT).unwrap();
    wait_until("all messages", || published(&world, "data") == 600);
    let (headers, _) = world.region("data").messages_since(0).unwrap();
    let stamps: Vec<u64> = headers.iter().filter_map(|header: &MessageHeader| header.stamp_ns).collect();
    let took = Duration::from_nanos(stamps[599] - stamps[0]);
    assert!((Duration::from_millis(2900)..Duration::from_millis(4400)).contains(&took), "{took:?}");
}

#[test]
fn a_rate_that_cannot_be_met_is_reported() {
    let world = World::new();
    let rate = ["pub", "data", "--text", "x", "--rate", "1e9", "--count", "1000000"];
    let Output { status, stderr, .. } = world.conduit(&rate).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    let expected = "Hz instead of 1000000000 Hz; this machine is too slow, or subscribers hold the slots";
    assert!(status.success() && said.contains("published 1000000 messages at ") && said.contains(expected), "{said}");
}
