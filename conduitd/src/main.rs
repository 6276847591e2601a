//! The program `conduitd`.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use conduit::Domain;
use conduitd::{Config, DaemonOptions, Limits, StartError};
use lexopt::ValueExt;

const HELP: &str = "\
The registry of Conduit's topics; removes the regions of crashed publishers.

Usage: conduitd [--socket PATH] [--shm-dir PATH] [--config PATH] [LIMITS]

Options:
      --socket PATH   Where to listen. Default: the socket that systemd passes,
                      else $CONDUIT_SOCKET, else for root
                      /run/conduit/registry.sock, for others
                      $XDG_RUNTIME_DIR/conduit/registry.sock
      --shm-dir PATH  The directory of the regions. Default: $CONDUIT_SHM_DIR,
                      else /dev/shm
      --config PATH   Who may publish which names; see the README. Default:
                      /etc/conduit/conduitd.toml. Without that file everybody
                      may publish any free name
      --check-config  Check the file with these rules, and exit

Limits, so that one client's excess is not another's loss:
      --max-connections N          Clients in all. Default: 4096
      --max-connections-per-uid N  Clients of one user. Default: 1024
      --max-regions-per-uid N      Names of one user's regions; further ones are
                                   counted, not tracked. Default: 1024
      --max-message-bytes N        Longest message of a client. Default: 65536
      --max-queued-events N        Events that may wait for a watcher which has
                                   read nothing for a second. Default: 256
Publishers and subscribers take a connection each. If the limit of open files
(LimitNOFILE=, ulimit -n) is low, no user may have more connections than are
left for the others; the log says so.

  -h, --help          Print help
  -V, --version       Print version

RUST_LOG sets the log level (default: info). The log goes to the journal with
fields if standard error is connected to it, else as lines to standard error.
What nobody reads in time is dropped and counted. Lines of one kind that one
user causes are limited to 1000 in 30 s, unless RUST_LOG asks for more than info.
SIGTERM and SIGINT stop the daemon; topics continue without it. SIGHUP reloads
the rules; if they are invalid it logs that and keeps the old ones.
Under systemd it reports its state, feeds the watchdog, and has its clients'
connections kept while it is restarted.

Exit codes: 0 stopped by a signal, 1 could not start (or --check-config found
an error), 2 wrong usage, 3 another process listens on the socket, 4 another
daemon serves the directory.

Example: conduitd --socket /tmp/registry.sock --shm-dir /dev/shm
";

/// What a shell reports for a process that was killed by SIGPIPE.
const BROKEN_PIPE: u8 = 128 + 13;

fn main() -> ExitCode {
    match parse() {
        Ok(Task::Run(options)) => run(&options),
        Ok(Task::Check(config)) => check(&config),
        Ok(Task::Print(text)) => print(&text),
        Err(error) => {
            report(format_args!("{error}\nTry 'conduitd --help'."));
            ExitCode::from(2)
        }
    }
}

fn run(options: &DaemonOptions) -> ExitCode {
    let log = match conduitd::start_logging() {
        Ok(log) => log,
        Err(error) => {
            report(format_args!("cannot start to log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match conduitd::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.failure(&error.to_string());
            ExitCode::from(match error {
                StartError::SocketInUse { .. } => 3,
                StartError::DirectoryInUse { .. } => 4,
                StartError::NoSocket => 2,
                _ => 1,
            })
        }
    }
}

fn check(config: &Config) -> ExitCode {
    match config.check() {
        Ok(rules) => print(&format!("ok, {rules} rule{}\n", if rules == 1 { "" } else { "s" })),
        Err(error) => {
            report(error);
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that leaves early is no error to report.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            report(format_args!("cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error, before there is a log. If that fails, there is nowhere to
/// report it.
fn report(what: impl Display) {
    let _ = writeln!(io::stderr(), "conduitd: {what}");
}

enum Task {
    Print(String),
    Check(Config),
    Run(DaemonOptions),
}

fn parse() -> Result<Task, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut socket, mut shm_dir) = (None, None);
    let mut limits = Limits::default();
    let mut config = Config::IfPresent(Config::DEFAULT_PATH.into());
    let mut check = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("socket") => socket = Some(PathBuf::from(parser.value()?)),
            Long("shm-dir") => shm_dir = Some(PathBuf::from(parser.value()?)),
            Long("config") => config = Config::Required(parser.value()?.into()),
            Long("check-config") => check = true,
            Long("max-connections") => limits.connections = at_least_one(&mut parser)?,
            Long("max-connections-per-uid") => limits.connections_per_uid = at_least_one(&mut parser)?,
            Long("max-regions-per-uid") => limits.regions_per_uid = at_least_one(&mut parser)?,
            Long("max-message-bytes") => limits.message_bytes = at_least_one(&mut parser)?,
            Long("max-queued-events") => limits.queued_events = at_least_one(&mut parser)?,
            Short('h') | Long("help") => return Ok(Task::Print(HELP.into())),
            Short('V') | Long("version") => {
                return Ok(Task::Print(format!("conduitd {}\n", env!("CARGO_PKG_VERSION"))));
            }
            other => return Err(other.unexpected()),
        }
    }
    if check {
        return Ok(Task::Check(config));
    }
    let domain = Domain::from_env();
    let shm_dir = shm_dir.unwrap_or_else(|| domain.shm_dir().into());
    Ok(Task::Run(DaemonOptions { socket, shm_dir, limits, config }))
}

fn at_least_one(parser: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse::<u32>() {
        Ok(number @ 1..) => Ok(number as usize),
        Ok(0) => Err("must be at least 1".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}
