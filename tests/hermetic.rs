//! The tests themselves: they inherit nothing from whoever runs them, and leave nothing behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, World, wait_until};
use crate::protocol::Order::{ForkIdle, Publish};
use crate::protocol::{Answer, ForkBy};

/// Signals that end programs under test.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

#[test]
fn programs_under_test_ignore_no_signal() {
    let mut world = World::with_daemon();
    let peer = world.peer();
    let conduit = Daemon::from(world.conduit(&["wait", "none"]).spawn().unwrap());
    for pid in [world.daemon().pid(), peer.pid(), conduit.pid()] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        let ignored: Vec<_> = ENDING.into_iter().filter(|signal| ignored >> (*signal as i32 - 1) & 1 == 1).collect();
        assert_eq!(ignored, [], "{status}");
    }
}

/// A shell ignores SIGINT and SIGQUIT for what it starts with `&`, and `nohup` ignores SIGHUP.
#[test]
fn who_runs_the_tests_may_ignore_signals() {
    let mut runner = Command::new("sh");
    runner.args(["-c", "trap '' HUP INT QUIT TERM; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    runner.args(["--exact", "hermetic::programs_under_test_ignore_no_signal"]);
    let output = runner.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_test_that_fails_leaves_no_process() {
    let (sender, started) = mpsc::channel::<(Child, Vec<u64>)>();
    let test = std::thread::spawn(move || {
        let world = World::with_daemon();
        // What nobody waits for and nobody kills, and what that has started.
        let mut forgotten = world.command("sh");
        forgotten.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(Stdio::piped());
        let mut forgotten = forgotten.spawn().unwrap();
        let mut grandchild = String::new();
        BufReader::new(forgotten.stdout.take().unwrap()).read_line(&mut grandchild).unwrap();
        let mut publisher = world.peer();
        publisher.order(Publish("scan", 16, 100));
        let Answer::Number(child) = publisher.ask(ForkIdle(ForkBy::Fork)) else { panic!("it forks") };
        sender.send((forgotten, vec![child, grandchild.trim().parse().unwrap(), publisher.pid().into()])).unwrap();
        panic!("on purpose");
    });
    assert!(test.join().is_err());
    let (mut forgotten, others) = started.recv().unwrap();
    wait_until("what it started to end", || forgotten.try_wait().unwrap().is_some());
    let is_running = |pid: &u64| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") ") && !stat.contains(") Z ")
    };
    wait_until("what that started to end", || !others.iter().any(is_running));
}
