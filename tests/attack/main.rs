//! What an honest user notices while another user of the machine attacks the daemon.
//!
//! `.ci/deep attack`, or `cargo test -p conduitd --test attack [-- NAME ...]`, as root. Each attack
//! has a machine of its own: a directory, a daemon of root, and topics of an honest user. An
//! honest client measures how long `List`, a new connection, `create` and the reaping of a killed
//! publisher take beside the attack, which a process of a third user makes. The figures are
//! compared with those of the same machine without an attack, and with the bounds in `figures.rs`.
#![allow(missing_docs, unreachable_pub, reason = "not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report for whoever runs it")]

mod attacks;
mod figures;
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the end-to-end tests")]
#[path = "../harness/mod.rs"]
mod harness;
mod honest;
mod hostile;
mod machine;
#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../peer/protocol.rs"]
mod protocol;

use std::process::ExitCode;

use attacks::{ATTACKS, Attack, Restart};
use figures::{Bounds, Figures, Table};
use machine::Machine;

/// The user of the honest client and of the topics.
const HONEST: u32 = 65532;
/// The user who attacks.
const HOSTILE: u32 = 65533;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["role-populate"] => honest::populate(),
        ["role-publish", topic] => honest::publish(topic),
        ["role-measure", seconds] => honest::measure(seconds.parse().expect("seconds")),
        ["role-attack", name] => hostile::attack(name),
        _ => return measure(&arguments),
    }
    ExitCode::SUCCESS
}

fn measure(names: &[&str]) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("The attacks need three users: run this as root.");
        return ExitCode::from(2);
    }
    if let Some(unknown) = names.iter().find(|name| !ATTACKS.iter().any(|attack| attack.name == **name)) {
        let known: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        eprintln!("no attack is named {unknown}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let machine = Machine::start(attacks::IDLE);
    let idle = machine.measure().calmer(machine.measure());
    drop(machine);
    let mut table = Table::begin(&idle);
    for attack in ATTACKS.iter().filter(|attack| names.is_empty() || names.contains(&attack.name)) {
        run(attack, &idle, &mut table);
    }
    table.end()
}

fn run(attack: &Attack, idle: &Figures, table: &mut Table) {
    let bounds = if attack.is_bounded { Bounds::ALL } else { Bounds::NONE };
    let mut machine = Machine::start(*attack);
    machine.begin_attack();
    table.row(attack.what, idle, &machine.measure(), bounds);
    if attack.restart != Restart::Never {
        match machine.restart_daemon(attack.restart) {
            Ok(()) => table.row("  after a restart of the daemon", idle, &machine.measure(), bounds),
            Err(sentence) => table.failure("  at a restart of the daemon", &sentence),
        }
    }
    machine.end_attack();
    table.recovery(&machine.recovery());
}
