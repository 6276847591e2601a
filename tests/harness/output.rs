//! Commands that run to their end, and commands that publish for other tests.

use std::process::{Command, Output};

use conduit::inspect::Region;

use super::{Daemon, World};

/// Runs a command that must succeed; returns its standard output.
#[track_caller]
pub fn stdout_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs a command that must fail with this exit code; returns its standard error.
#[track_caller]
pub fn stderr_of(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {stderr}");
    stderr
}

impl World {
    /// Publishes 500 bytes at this rate in Hz, less often on a busy machine, until it is dropped.
    pub fn traffic(&self, topic: &str, rate_hz: u32) -> Daemon {
        self.traffic_in(topic, rate_hz, 16)
    }

    /// The same, of a topic that keeps this many messages.
    pub fn traffic_in(&self, topic: &str, rate_hz: u32, slots: u32) -> Daemon {
        let (text, rate, slots) = ("x".repeat(500), rate_hz.to_string(), slots.to_string());
        let arguments = ["pub", topic, "--text", &text, "--rate", &rate, "--count", "1000000", "--slots", &slots];
        let publisher = self.conduit(&arguments).spawn().unwrap().into();
        stdout_of(&mut self.conduit(&["wait", topic]));
        publisher
    }
}

/// The time stamps in nanoseconds of all messages of a topic that has kept them all, by sequence
/// number. What a rate has to be follows from them, however busy the machine is.
pub fn all_stamps(region: &Region) -> Vec<u64> {
    let (messages, _) = region.messages_since(0).unwrap();
    assert!(messages.iter().enumerate().all(|(sequence, message)| message.sequence == sequence as u64));
    messages.iter().map(|message| message.stamp_ns.unwrap()).collect()
}
