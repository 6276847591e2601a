//! `conduit completions`: what a shell needs to complete the command line, names of topics included.

use std::ffi::OsStr;
use std::io::Write;

use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use conduit::internal::shm::dir::{DirEntry, ShmDir};
use conduit::{Domain, TopicName};

use crate::Cli;
use crate::failure::Failure;

/// The variable by which a shell asks for candidates.
const VARIABLE: &str = "COMPLETE";

/// Print the completions of a shell.
///
/// The Debian package has them where bash, zsh and fish look; this is for other installations. Names of topics are completed too: the
/// shell asks `conduit` itself, which looks into the directory of the regions.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  source <(conduit completions bash)
  conduit completions fish > ~/.config/fish/completions/conduit.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    std::io::stdout().write_all(&script(args.shell)?).map_err(Failure::Output)
}

/// What a shell has to source.
pub(crate) fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    let name = shell.to_string();
    let shells = Shells::builtins();
    let completer = shells.completer(&name).ok_or_else(|| Failure::new(format_args!("nobody knows {name}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "conduit", "conduit", "conduit", &mut script).map_err(Failure::new)?;
    Ok(script)
}

/// Gives a shell its candidates, and ends, if that is what the process was started for.
pub(crate) fn answer_a_shell() {
    // What goes wrong must not be printed into somebody's command line.
    if std::env::var_os(VARIABLE).is_some() {
        let _ = CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(std::env::args_os(), None);
        std::process::exit(0);
    }
}

/// Names of topics and raw regions that begin so. The directory alone is asked: it is fast, and needs no daemon.
pub(crate) fn topics(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_str().unwrap_or_default();
    let entries = ShmDir::open(&Domain::from_env()).and_then(|directory| directory.entries()).unwrap_or_default();
    let name = |entry| if let DirEntry::Region(topic) = entry { Some(topic) } else { None };
    let mut names: Vec<TopicName> = entries.into_iter().filter_map(name).collect();
    names.sort();
    names.iter().map(TopicName::as_str).filter(|name| name.starts_with(start)).map(CompletionCandidate::new).collect()
}
