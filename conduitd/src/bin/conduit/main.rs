//! The `conduit` command: a demonstration of the whole, and the tools to look at topics, write them and read them.

mod deaths;
mod demo;
mod doctor;
mod echo;
mod failure;
mod hexdump;
mod info;
mod list;
mod output;
mod publish;
mod signals;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use failure::Failure;

const EXIT_CODES: &str = "\
Environment:
  CONDUIT_SHM_DIR  directory of the regions (default: /dev/shm)
  CONDUIT_SOCKET   socket of the registry (default: the user's, then the system's)
  RUST_LOG         what the library logs to standard error (default: warn)

Exit codes:
  0  success
  1  error, told on standard error; `conduit doctor`: warnings
  2  wrong usage; `conduit doctor`: problems
  3  `conduit echo`: the publisher died";

/// Publish/subscribe through shared memory on one machine.
#[derive(Debug, Parser)]
#[command(name = "conduit", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Args),
    List(list::Args),
    Info(info::Args),
    Pub(publish::Args),
    Echo(echo::Args),
    Watch(watch::Args),
    Deaths(deaths::Args),
    Doctor(doctor::Args),
    #[command(hide = true)]
    DemoPublisher(demo::publisher::Args),
    #[command(hide = true)]
    DemoSubscriber(demo::subscriber::Args),
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    log_to_stderr();
    let done = match &verb {
        Verb::Demo(args) => demo::run(args),
        Verb::List(args) => list::run(args),
        Verb::Info(args) => info::run(args),
        Verb::Pub(args) => publish::run(args),
        Verb::Echo(args) => echo::run(args),
        Verb::Watch(args) => watch::run(args),
        Verb::Deaths(args) => deaths::run(args),
        Verb::Doctor(args) => return doctor::run(args).unwrap_or_else(Failure::exit),
        Verb::DemoPublisher(args) => demo::publisher::run(args),
        Verb::DemoSubscriber(args) => demo::subscriber::run(args),
    };
    done.map_or_else(Failure::exit, |()| ExitCode::SUCCESS)
}

fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .without_time()
        .compact()
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_a_user_sees_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("conduit {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
