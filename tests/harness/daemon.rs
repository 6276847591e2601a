//! Daemons under test, and the events that they report.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use conduit::registry::{Client, RegistryEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::World;
use super::wait::{DEADLINE, wait_for, wait_until};

/// A running `conduitd`; killed when dropped.
pub struct Daemon {
    child: Child,
}

impl From<Child> for Daemon {
    fn from(child: Child) -> Self {
        Self { child }
    }
}

impl Daemon {
    pub fn start(world: &World) -> Self {
        Self::wait_until_up(world, Self::spawn(world, None))
    }

    pub(super) fn wait_until_up(world: &World, daemon: Self) -> Self {
        wait_until("the daemon to listen", || Client::connect(&world.domain()).is_ok_and(|mut it| it.list().is_ok()));
        daemon
    }

    pub(super) fn spawn(world: &World, fault: Option<&str>) -> Self {
        let mut command = world.command(env!("CARGO_BIN_EXE_conduitd"));
        command.envs(fault.map(|fault| ("CONDUIT_FAULT", fault)));
        Self::run(world, command)
    }

    pub(super) fn run(world: &World, mut command: Command) -> Self {
        // The rules for names of this machine must not apply.
        let config = world.config();
        command.arg("--config").arg(if config.exists() { &config } else { Path::new("/dev/null") });
        command.args(&world.daemon_arguments);
        let log = std::fs::File::options().append(true).create(true).open(world.path().join("daemon.log")).unwrap();
        Self { child: command.stdin(Stdio::null()).stderr(log).spawn().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until an injected fault has killed the daemon.
    pub fn wait_until_killed(mut self) {
        let status = wait_for("the daemon to kill itself", || self.child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9));
    }

    /// Waits for its end after a signal; returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events that a watcher has received.
pub struct Events(pub(super) Receiver<RegistryEvent>);

impl Events {
    /// Returns the next event that `is_wanted` accepts; drops those before it.
    pub fn find(&self, what: &str, mut is_wanted: impl FnMut(&RegistryEvent) -> bool) -> RegistryEvent {
        let deadline = Instant::now() + DEADLINE;
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(event) if is_wanted(&event) => return event,
                Ok(event) => others.push(event),
                Err(error) => panic!("waited in vain for {what} ({error}), saw {others:?}"),
            }
        }
    }

    /// All events received so far and not returned yet.
    pub fn so_far(&self) -> Vec<RegistryEvent> {
        self.0.try_iter().collect()
    }
}
