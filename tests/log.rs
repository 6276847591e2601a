//! The daemon serves, reaps and ends although nobody reads its log, or none can be written.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::sys::termios::{FlowArg, tcflow};

use crate::harness::{Daemon, World, need_root, wait_for, wait_until};
use crate::protocol::Order::Churn;
use crate::protocol::{Answer, End};

/// More topics than any pipe, terminal or socket buffers lines for.
const MANY: u64 = 1500;
/// Enough where nothing buffers lines.
const SOME: u64 = 100;

fn conduitd(world: &World) -> Command {
    let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
    command.args(["--config", "/dev/null"]).stdin(Stdio::null());
    command
}

/// Starts a daemon whose log nobody reads, and has it do everything that it logs.
fn serve(world: &World, command: &mut Command, topics: u64) -> Daemon {
    let mut daemon = Daemon::from(command.spawn().unwrap());
    wait_until("the daemon to answer", || {
        assert!(daemon.is_running());
        conduit::registry::Client::connect(&world.domain()).is_ok_and(|mut client| client.list().is_ok())
    });
    let mut peer = world.peer();
    peer.order(Churn("churn", topics));
    let publisher = world.publisher("scan", 16, 100);
    let subscriber = world.sleeper("scan");
    publisher.kill();
    subscriber.expect(Answer::Gone(End::Died));
    world.wait_until_gone("scan");
    assert_eq!(world.list().len(), 0);
    daemon
}

/// SIGTERM ends it, whatever became of its log.
fn end(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    wait_until("the daemon to end", || !daemon.is_running());
    assert_eq!(daemon.wait(), Some(0));
}

/// Whether a number of lines is reported as dropped.
fn tells_of_dropped_lines(text: &str) -> bool {
    text.contains("lines of the log were dropped")
}

#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    let world = World::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let daemon = serve(&world, conduitd(&world).env("RUST_LOG", "debug").stderr(writer), MANY);
    // Whoever reads again is told what is missing.
    let text = std::thread::spawn(move || {
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while !tells_of_dropped_lines(&text) {
            let len = reader.read(&mut chunk).unwrap();
            assert!(len > 0, "the log ended: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..len]));
        }
        (text, reader)
    });
    let (text, reader) = text.join().unwrap();
    assert!(text.lines().any(|line| line.contains("ready")), "what was logged first is kept");
    assert!(world.client().status().unwrap().log_lines_dropped.is_some_and(|count| count > 0));
    let doctor = world.conduit(&["doctor", "--json"]).output().unwrap().stdout;
    let doctor: serde_json::Value = serde_json::from_slice(&doctor).unwrap();
    let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["id"] == "daemon-log").unwrap();
    assert_eq!(check["state"], "warning", "{check}");
    end(daemon);
    drop(reader);
}

#[test]
fn a_full_pipe_delays_no_end() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    end(serve(&world, conduitd(&world).env("RUST_LOG", "debug").stderr(writer), MANY));
    drop(reader);
    // Nor the end of a daemon that cannot start.
    let mut world = World::with_daemon();
    let (_reader, writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while std::io::Write::write(&mut &writer, &[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let mut second = Daemon::from(conduitd(&world).stderr(writer).spawn().unwrap());
    wait_until("the second daemon to end", || !second.is_running());
    assert_eq!(second.wait(), Some(3));
    assert!(world.daemon().is_running());
}

#[test]
fn a_terminal_whose_output_is_stopped_stops_nothing() {
    let world = World::new();
    let pty = openpty(None, None).unwrap();
    tcflow(&pty.slave, FlowArg::TCOOFF).unwrap();
    let daemon = serve(&world, conduitd(&world).stderr(pty.slave.try_clone().unwrap()), MANY);
    end(daemon);
    drop(pty);
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    for redirection in ["2>/dev/full", "2>&-", "2</dev/null"] {
        let world = World::new();
        let mut command = world.command("sh");
        let script = format!("exec \"$0\" --config /dev/null {redirection}");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_conduitd")]).stdin(Stdio::null());
        end(serve(&world, &mut command, SOME));
    }
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    end(serve(&world, conduitd(&world).stderr(writer), SOME));
}

/// Stands in for the journal's socket in the daemon's mount namespace. Standard error is the stream
/// that `$JOURNAL_STREAM` names.
fn under_a_journal(world: &World, socket: &Path) -> Command {
    let log = File::create(world.path().join("stream")).unwrap();
    let stream = log.metadata().map(|it| format!("{}:{}", it.dev(), it.ino())).unwrap();
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  ln -s \"$1\" /run/systemd/journal/socket && exec \"$0\" --config /dev/null";
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_conduitd")]).arg(socket);
    command.env("JOURNAL_STREAM", stream).stdin(Stdio::null()).stderr(log);
    command
}

#[test]
fn a_journal_that_does_not_read_stops_nothing() {
    need_root!("the socket of a journal");
    let world = World::new();
    let path = world.path().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    let daemon = serve(&world, &mut under_a_journal(&world, &path), MANY);
    let mut entry = [0; 65536];
    let mut next = || {
        let len = journal.recv(&mut entry).unwrap();
        String::from_utf8_lossy(&entry[..len]).into_owned()
    };
    journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let first = wait_for("the first entry", || Some(next()));
    for field in ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER=conduitd"] {
        assert!(first.lines().any(|line| line.starts_with(field)), "{field}: {first}");
    }
    wait_until("the dropped entries to be told", || tells_of_dropped_lines(&next()));
    end(daemon);
    assert_eq!(std::fs::read_to_string(world.path().join("stream")).unwrap(), "", "all went to the journal");
}

#[test]
fn entries_of_the_journal_have_fields() {
    need_root!("the socket of a journal");
    let world = World::new();
    let path = world.path().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let daemon = Daemon::from(under_a_journal(&world, &path).spawn().unwrap());
    wait_until("the daemon to answer", || conduit::registry::Client::connect(&world.domain()).is_ok());
    let publisher = world.publisher("front/scan", 16, 100);
    let pid = publisher.pid();
    publisher.kill();
    let mut entry = [0; 65536];
    let died = wait_for("the death", || {
        let len = journal.recv(&mut entry).unwrap();
        Some(String::from_utf8_lossy(&entry[..len]).into_owned()).filter(|it| it.contains("CONDUIT_EVENT=died"))
    });
    let owner = format!("CONDUIT_OWNER_PID={pid}");
    let expected = [
        "CONDUIT_TOPIC=front/scan",
        &owner,
        "MESSAGE_ID=585179dfe22b4b299713e96a23acbe80",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=conduitd",
    ];
    for field in expected {
        assert!(died.lines().any(|line| line == field), "{field}: {died}");
    }
    assert!(died.contains("MESSAGE=topic \"front/scan\" is gone"), "{died}");
    end(daemon);
}

#[test]
fn a_service_manager_that_does_not_read_delays_no_end() {
    let world = World::new();
    let path = world.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let mut command = conduitd(&world);
    command.env("NOTIFY_SOCKET", &path).env("FDSTORE", "1000").stderr(Stdio::null());
    let daemon = serve(&world, &mut command, MANY);
    end(daemon);
}

#[test]
fn help_and_errors_survive_an_output_that_cannot_be_written() {
    let world = World::new();
    let run = |arguments: &[&str], stdout: Stdio, stderr: Stdio| -> Output {
        let mut command = conduitd(&world);
        command.args(arguments).stdout(stdout).stderr(stderr);
        command.output().unwrap()
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for arguments in [&["--help"] as &[&str], &["--version"], &["--check-config"]] {
        let told = run(arguments, full(), Stdio::piped());
        assert_eq!(told.status.code(), Some(1), "{arguments:?}");
        let error = String::from_utf8(told.stderr).unwrap();
        assert!(error.starts_with("conduitd: cannot write to standard output: No space left"), "{error}");
        let told = run(arguments, closed(), Stdio::piped());
        assert_eq!((told.status.code(), told.stderr.len()), (Some(141), 0), "{arguments:?}");
        assert_eq!(run(arguments, full(), full()).status.code(), Some(1), "{arguments:?}");
    }
    assert_eq!(run(&["--nonsense"], Stdio::null(), full()).status.code(), Some(2));
    assert_eq!(run(&["--nonsense"], Stdio::null(), closed()).status.code(), Some(2));
    let policy = world.path().join("bad.toml");
    std::fs::write(&policy, "nonsense").unwrap();
    assert_eq!(run(&["--config", policy.to_str().unwrap()], Stdio::null(), full()).status.code(), Some(1));
}
