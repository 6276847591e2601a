//! The attacks that are measured.

/// An attack, and the machine on which it is made.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// An argument of this program, and of the process that attacks.
    pub name: &'static str,
    /// For the table.
    pub what: &'static str,
    /// Whether the daemon is restarted in the middle.
    pub restart: Restart,
    /// Whether the daemon's log is a pipe that nobody reads.
    pub is_log_silent: bool,
    /// Whether the bounds apply. What they do not apply to is in ARCHITECTURE.md, "Trust".
    pub is_bounded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Never,
    /// Killed with SIGKILL, and started again at once.
    Killed,
    /// Ended by SIGTERM, and started again when the attacker has had time to take its names.
    Stopped,
}

const fn attack(name: &'static str, what: &'static str) -> Attack {
    Attack { name, what, restart: Restart::Never, is_log_silent: false, is_bounded: true }
}

const fn with_restart(attack: Attack) -> Attack {
    Attack { restart: Restart::Killed, ..attack }
}

pub const IDLE: Attack = attack("idle", "nobody");

pub const ATTACKS: &[Attack] = &[
    // Names.
    with_restart(attack("links", "25,000 hard links of one region")),
    with_restart(attack("names", "10,000 regions")),
    attack("rename", "renames a region in a loop"),
    with_restart(attack("link", "links and unlinks a region in a loop")),
    Attack { is_log_silent: true, ..attack("log", "has a line logged in a loop, and nobody reads the log") },
    Attack { restart: Restart::Stopped, ..attack("guard", "1,000 files where daemons look for each other") },
    attack("sparse", "publishes 1 GiB of holes"),
    // Calls.
    attack("connect", "connects and hangs up in a loop"),
    attack("crowd", "takes every connection it can get"),
    attack("shutdown", "calls and shuts down in a loop"),
    attack("unread", "calls on 1,000 connections and does not read"),
    attack("watchers", "1,000 watchers with long patterns, and events"),
    with_restart(attack("release", "Release in a loop, beside 9,000 locked regions")),
    attack("register", "registers 500 live links late and hangs up"),
    attack("dump", "dumps core in a loop"),
    attack("attach", "attaches to regions that it may not open"),
    // Memory and locks of regions that it may read.
    attack("locks", "read locks on every byte of every topic"),
    Attack { is_bounded: false, ..attack("requeue", "moves sleepers off the wake word") },
    Attack { is_bounded: false, ..attack("waiters", "2,000 threads asleep on the wake word") },
];
