//! The programs of the guide: they run as they are, and are as short as promised.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use conduit::Publisher;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::skip::{Lack, skip};
use crate::harness::{World, wait_until};

/// A program of the guide that runs.
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(world: &World, path: &PathBuf) -> Self {
        Self::spawn(&mut world.command(path))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line of its output, without its end; empty if the program has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` if the examples were not built.
fn program(name: &str) -> Option<PathBuf> {
    let examples = std::path::Path::new(env!("CARGO_BIN_EXE_conduit")).with_file_name("examples");
    Some(examples.join(name)).filter(|path| path.exists())
}

macro_rules! program {
    ($name:literal) => {
        match program($name) {
            Some(path) => path,
            None => skip!(Lack::Software("examples, which `cargo test --workspace` builds"), $name),
        }
    };
}

fn publisher(world: &World) -> Publisher<[f64; 6]> {
    Publisher::builder().domain(&world.domain()).create("imu").unwrap()
}

fn wait_until_attached(world: &World) {
    wait_until("the program to attach", || {
        world.region("imu").counters().is_some_and(|counters| !counters.subscribers.is_empty())
    });
}

/// The lines of a program's `main`, without what every program needs: the braces around it and the
/// success at its end.
fn lines(source: &str) -> usize {
    let (_, main) = source.split_once("fn main()").unwrap();
    let body = main.trim_end().strip_suffix('}').unwrap().lines().skip(1);
    body.filter(|line| !["", "Ok(())"].contains(&line.trim())).count()
}

#[test]
fn the_programs_are_short() {
    let most = [
        (include_str!("../libconduit/examples/guide/follow.rs"), 3),
        (include_str!("../libconduit/examples/guide/control_loop.rs"), 8),
        (include_str!("../libconduit/examples/guide/watchdog.rs"), 4),
        (include_str!("../libconduit/examples/guide/record.rs"), 12),
        (include_str!("../libconduit/examples/guide/service.rs"), 8),
    ];
    for (source, most) in most {
        assert!(lines(source) <= most, "{} lines instead of {most}:\n{source}", lines(source));
    }
}

#[test]
fn follow() {
    let path = program!("guide_follow");
    let world = World::with_daemon();
    let mut program = Program::start(&world, &path);
    for round in [1.0, 2.0] {
        let mut publisher = publisher(&world);
        wait_until_attached(&world);
        publisher.send(&[round; 6]).unwrap();
        assert_eq!(program.line(), format!("{:?}", [round; 6]));
    }
}

#[test]
fn control_loop() {
    let path = program!("guide_control_loop");
    let world = World::with_daemon();
    let mut program = Program::start(&world, &path);
    for round in [1.0, 2.0] {
        let mut publisher = publisher(&world);
        wait_until_attached(&world);
        publisher.send(&[round; 6]).unwrap();
        assert_eq!(program.line(), format!("command -{round:.3}"));
    }
}

#[test]
fn watchdog() {
    let path = program!("guide_watchdog");
    let world = World::with_daemon();
    let mut program = Program::start(&world, &path);
    assert_eq!(program.line(), "stop the motors", "there is no publisher");
    let mut publisher = publisher(&world);
    wait_until_attached(&world);
    for _ in 0..2 {
        publisher.send(&[0.0; 6]).unwrap();
        assert_eq!(program.line(), "stop the motors", "it does not send");
    }
}

#[test]
fn record() {
    let path = program!("guide_record");
    let world = World::with_daemon();
    let file = world.path().join("recording");
    let mut imu = publisher(&world);
    let _program = Program::spawn(world.command(path).arg(&file));
    wait_until_attached(&world);
    imu.send(&[1.5; 6]).unwrap();
    let mut log = Publisher::<[u8]>::builder().domain(&world.domain()).create("log/arm").unwrap();
    log.send(b"ready").unwrap();
    let recording = || std::fs::read(&file).unwrap();
    wait_until("both messages to be recorded", || recording().ends_with(b" 5\nready"));
    let first = [&b" 48\n"[..], 1.5_f64.to_ne_bytes().repeat(6).as_slice(), b"log/arm Some("].concat();
    let recording = recording();
    assert!(recording.starts_with(b"imu Some("));
    assert!(recording.windows(first.len()).any(|part| part == first));
}

#[test]
fn service() {
    let path = program!("guide_service");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::with_daemon();
        let mut program = Program::start(&world, &path);
        let mut publisher = publisher(&world);
        wait_until_attached(&world);
        publisher.send(&[1.0; 6]).unwrap();
        assert_eq!(program.line(), format!("{:?}", [1.0; 6]));
        kill(Pid::from_raw(program.child.id() as i32), signal).unwrap();
        assert_eq!(program.line(), "stopped");
        assert!(program.child.wait().unwrap().success());
    }
}
