//! Signals end every verb, whatever becomes of its output; and outputs that fail change no exit
//! code but that of what could not be printed.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{FlowArg, LocalFlags, tcflow, tcgetattr};
use nix::unistd::{Pid, pipe};

use crate::harness::{World, wait_for, wait_until};

const PANICKED: i32 = 101;
/// Verbs that run until they are ended.
const ENDLESS: [&[&str]; 10] = [
    &["pub", "mine", "--text", "x", "--keep"],
    &["pub", "held", "--text", "x", "--rate", "1000", "--count", "1000000"],
    &["echo", "scan", "--follow"],
    &["echo", "never", "--follow"],
    &["hz", "scan"],
    &["bw", "scan"],
    &["delay", "scan"],
    &["watch"],
    &["wait", "never"],
    &["bench", "--time", "10m"],
];

/// An output, and what it needs to stay as it is.
struct Sink(&'static str, OwnedFd, Option<OwnedFd>);

/// A pipe that is full, and that nobody reads.
fn full_pipe() -> Sink {
    let (reader, writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut file = File::from(writer);
    while file.write(&[b'.'; 4096]).is_ok() {}
    while file.write(b".").is_ok() {}
    let writer = OwnedFd::from(file);
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    Sink("full pipe", writer, Some(reader))
}

/// A terminal on which somebody has pressed Ctrl-S.
fn stopped_terminal() -> Sink {
    let pty = openpty(None, None).unwrap();
    tcflow(&pty.slave, FlowArg::TCOOFF).unwrap();
    Sink("stopped terminal", pty.slave, Some(pty.master))
}

fn closed_pipe() -> Sink {
    Sink("closed pipe", pipe().unwrap().1, None)
}

fn full_device() -> Sink {
    Sink("full device", File::options().write(true).open("/dev/full").unwrap().into(), None)
}

fn start(world: &World, arguments: &[&str], sink: &Sink) -> Child {
    let output = || Stdio::from(sink.1.try_clone().unwrap());
    world.conduit(arguments).stdin(Stdio::null()).stdout(output()).stderr(output()).spawn().unwrap()
}

/// Waits until processes have prepared for signals, or have ended. Some never prepare, so it waits
/// 300 ms for all of them together.
fn let_them_start<'a>(children: impl IntoIterator<Item = &'a mut Child>) {
    let patience = Instant::now() + Duration::from_millis(300);
    for child in children {
        let status = format!("/proc/{}/status", child.id());
        loop {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or("0").trim();
            let is_ready = u64::from_str_radix(blocked, 16).unwrap() & (1 << (Signal::SIGTERM as i32 - 1)) != 0;
            if is_ready || child.try_wait().unwrap().is_some() || Instant::now() >= patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn signals_end_every_verb_whose_output_is_stuck() {
    // Side by side, since most of the time is spent waiting: verbs that cannot print end after a
    // second.
    let sinks = [full_pipe(), stopped_terminal(), closed_pipe(), full_device()];
    std::thread::scope(|scope| {
        for sink in &sinks {
            scope.spawn(|| signals_end_every_verb_at(sink));
        }
    });
}

fn signals_end_every_verb_at(sink: &Sink) {
    let world = World::with_daemon();
    let _traffic = world.traffic("scan", 500);
    for (round, signal) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().enumerate() {
        let mut children: Vec<_> =
            ENDLESS.iter().map(|arguments| (arguments, start(&world, arguments, sink))).collect();
        let_them_start(children.iter_mut().map(|(_, child)| child));
        // Some have something to write only now.
        std::thread::sleep(Duration::from_millis(100 * round as u64));
        for (_, child) in &children {
            let _ = kill(Pid::from_raw(child.id() as i32), signal);
        }
        for (arguments, child) in &mut children {
            let status = wait_for(&format!("{arguments:?} at a {} to end", sink.0), || child.try_wait().unwrap());
            // Where writing fails, it may have ended before.
            let is_stuck = sink.2.is_some();
            let is_by_signal = status.signal() == Some(signal as i32);
            assert!(
                is_by_signal || !is_stuck && status.code().is_some_and(|code| code != PANICKED),
                "{arguments:?} at a {}: {status}",
                sink.0
            );
        }
    }
}

#[test]
fn signals_end_a_publisher_that_cannot_say_that_its_directory_is_gone() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        for sink in [closed_pipe(), full_pipe(), full_device()] {
            let world = World::new();
            let directory = world.path().join("shm");
            std::fs::create_dir(&directory).unwrap();
            let output = || Stdio::from(sink.1.try_clone().unwrap());
            let mut command = world.conduit(&["pub", "scan", "--text", "x", "--keep"]);
            command.env("CONDUIT_SHM_DIR", &directory).env("RUST_LOG", "trace").stdout(output()).stderr(output());
            let mut publisher = command.stdin(Stdio::null()).spawn().unwrap();
            wait_until("the topic", || directory.join("conduit_scan").exists());
            let_them_start([&mut publisher]);
            std::fs::remove_dir_all(&directory).unwrap();
            kill(Pid::from_raw(publisher.id() as i32), signal).unwrap();
            let status = wait_for("its end", || publisher.try_wait().unwrap());
            assert_eq!(status.signal(), Some(signal as i32), "{}: {status}", sink.0);
        }
    }
}

#[test]
fn signals_end_top_on_a_terminal_that_nobody_reads() {
    let world = World::with_daemon();
    let _traffic = world.traffic("scan", 500);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = world.conduit(&["top", "-d", "0.1"]);
        command.env("TERM", "xterm-256color").stdin(stdio()).stdout(stdio()).stderr(stdio());
        let mut top = command.spawn().unwrap();
        let has_echo = || tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO);
        wait_until("raw mode", || !has_echo());
        tcflow(&pty.slave, FlowArg::TCOOFF).unwrap();
        // Long enough for a drawing to begin.
        std::thread::sleep(Duration::from_millis(500));
        kill(Pid::from_raw(top.id() as i32), signal).unwrap();
        let status = wait_for("top to end", || top.try_wait().unwrap());
        assert_eq!(status.signal(), Some(signal as i32), "{status}");
        assert!(has_echo(), "the terminal is given back");
    }
}

#[test]
fn a_publisher_does_not_wait_for_whoever_reads_its_remarks() {
    let world = World::with_daemon();
    for sink in [full_pipe(), stopped_terminal()] {
        let stuck = Stdio::from(sink.1.try_clone().unwrap());
        // It cannot be met, which there is nobody to tell.
        let arguments = ["pub", "scan", "--text", "x", "--rate", "1e9", "--count", "1000000"];
        let mut publisher = world.conduit(&arguments).env("RUST_LOG", "trace").stderr(stuck).spawn().unwrap();
        let status = wait_for("the publisher to end", || publisher.try_wait().unwrap());
        assert!(status.success(), "{}: {status}", sink.0);
    }
}

/// Runs a command in a shell with this redirection; returns its exit code and standard output.
fn run(world: &World, program: &str, arguments: &str, redirection: &str) -> (i32, String) {
    let script = format!("exec \"$0\" {arguments} {redirection}");
    let output = world.command("sh").args(["-c", &script, program]).stdin(Stdio::null()).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_standard_error_that_fails_changes_no_exit_code() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    let conduit = env!("CARGO_BIN_EXE_conduit");
    for redirection in ["2> /dev/full", "2>&-", "2> /dev/full <&-", "2>&- <&-"] {
        for (arguments, code) in [
            ("wait nope --timeout 0", 1),
            ("wait scan", 0),
            ("info nope", 1),
            ("rm nope", 1),
            ("rm nope nowhere", 1),
            ("rm -- --force", 1),
            ("echo nope", 1),
            ("echo scan --timeout 0.01", 1),
            ("delay nope --frobnicate", 2),
            ("frobnicate", 2),
            ("deaths", 1),
            ("watch", 1),
            ("pub scan --text x", 1),
            ("pub a//b --text x", 1),
            ("pub other --file /nowhere", 1),
            ("gc", 0),
            ("list", 0),
            ("find nothing", 1),
            ("bench --time 0.1", 2),
        ] {
            let (found, said) = run(&world, conduit, arguments, redirection);
            assert_eq!(found, code, "{arguments} {redirection}");
            assert!(arguments != "list" || said.contains("scan"), "the answer is there: {said}");
        }
        let (found, _) = run(&world, env!("CARGO_BIN_EXE_conduitd"), "--frobnicate", redirection);
        assert_eq!(found, 2, "conduitd {redirection}");
    }
}

#[test]
fn a_standard_output_that_fails_is_an_error() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    let (conduit, daemon) = (env!("CARGO_BIN_EXE_conduit"), env!("CARGO_BIN_EXE_conduitd"));
    let verbs =
        ["--help", "--version", "pub --help", "list", "list --json", "info scan", "type scan --json", "gc --json"];
    let more = ["doctor", "doctor --json", "completions bash", "top --once -d 0.1", "find '[u8]'"];
    for (program, arguments) in
        verbs.into_iter().chain(more).map(|it| (conduit, it)).chain([(daemon, "--help"), (daemon, "--version")])
    {
        let (code, _) = run(&world, program, arguments, "> /dev/full");
        assert_eq!(code, 1, "{program} {arguments}");
        let (code, _) = run(&world, program, arguments, "> /dev/full 2> /dev/full");
        assert_eq!(code, 1, "{program} {arguments}");
        // The reader has gone before the first line.
        let script =
            format!("(exec 3>&1; trap '' PIPE; sleep 0.05; exec \"$0\" {arguments}) | true; exit ${{PIPESTATUS[0]}}");
        let status = world.command("bash").args(["-c", &script, program]).status().unwrap();
        let allowed = 128 + Signal::SIGPIPE as i32;
        assert!([Some(allowed), Some(0)].contains(&status.code()), "{program} {arguments}: {status}");
    }
}

/// How many descriptors a process may be started without.
#[test]
fn closed_descriptors_are_no_harm() {
    let world = World::new();
    let _publisher = world.publisher("scan", 16, 100);
    for redirection in [">&-", "<&-", ">&- 2>&- <&-"] {
        for arguments in ["list", "info scan", "wait scan", "gc", "pub other --text x", "rm --force nothing || true"] {
            let (code, _) =
                run(&world, env!("CARGO_BIN_EXE_conduit"), arguments.trim_end_matches(" || true"), redirection);
            assert_ne!(code, PANICKED, "{arguments} {redirection}");
        }
    }
    assert!(Path::new(&world.path_of("scan")).exists());
}
