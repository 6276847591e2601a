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
    /// Whether the bounds apply; the others are in the trust table.
    pub is_bounded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Never,
    /// By SIGKILL.
    Killed,
}

const fn attack(name: &'static str, what: &'static str) -> Attack {
    Attack { name, what, restart: Restart::Never, is_log_silent: false, is_bounded: true }
}

const fn with_restart(attack: Attack) -> Attack {
    Attack { restart: Restart::Killed, ..attack }
}

pub const IDLE: Attack = attack("idle", "nobody");

pub const ATTACKS: &[Attack] =
    &[with_restart(attack("links", "25,000 hard links of one region")), attack("connect", "connects and hangs up")];
