//! Commands whose reader leaves while there is nothing to write.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conduit::Publisher;

use crate::harness::{Daemon, World, wait_for, wait_until};

/// What a shell reports for a process that SIGPIPE ended.
const BROKEN_PIPE: i32 = 141;

#[test]
fn a_reader_that_leaves_ends_every_command_on_a_quiet_topic() {
    let world = World::with_daemon();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("quiet").unwrap();
    publisher.send(b"first").unwrap();
    let region = world.region("quiet");
    let subscribers = || region.counters().unwrap().subscribers.len();
    for arguments in [
        &["echo", "quiet", "--follow"][..],
        &["echo", "quiet", "--from", "latest", "--no-follow"],
        &["echo", "*", "--csv"],
        &["echo", "none", "--follow"],
        &["watch"],
        &["hz", "quiet"],
        &["bw", "quiet"],
        &["delay", "quiet"],
    ] {
        let mut command = world.conduit(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        match arguments[0] {
            "echo" | "delay" if arguments[1] != "none" => wait_until("the subscriber", || subscribers() == 1),
            "watch" => assert_ne!(output.read_line(&mut line).unwrap(), 0),
            _ => {
                BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
                assert!(line.contains("no new messages") || line.contains("waiting for it"), "{line}");
            }
        }
        drop(output);
        let status = wait_for(&format!("the end of {arguments:?}"), || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(BROKEN_PIPE), "{arguments:?}");
        wait_until("its record to be free", || subscribers() == 0);
    }
    let script = format!("'{}' echo quiet --from latest --follow | head -1", env!("CARGO_BIN_EXE_conduit"));
    let mut shell = Daemon::from(world.command("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap());
    wait_until("the pipe to end", || !shell.is_running());
}

#[test]
fn a_registry_that_hangs_up_is_not_stormed() {
    let world = World::new();
    let listener = UnixListener::bind(world.socket()).unwrap();
    let accepted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let accepted = &accepted;
        scope.spawn(move || listener.incoming().take_while(|_| accepted.fetch_add(1, Ordering::Relaxed) < 500).count());
        let mut child = world.conduit(&["watch"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the first connections", || accepted.load(Ordering::Relaxed) >= 3);
        std::thread::sleep(Duration::from_secs(3));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let connections = accepted.swap(500, Ordering::Relaxed);
        drop(std::os::unix::net::UnixStream::connect(world.socket()));
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(connections < 30, "{connections} connections in three seconds");
    });
}
