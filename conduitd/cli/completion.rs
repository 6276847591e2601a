//! What a shell needs to complete command lines. It asks `conduit` itself, so that topics are
//! completed too.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use conduit::{Domain, TopicName};

use crate::failure::Failure;
use crate::source::region_names;

/// The environment variable by which a shell asks for candidates.
const VARIABLE: &str = "COMPLETE";

/// The script that a shell sources.
pub(crate) fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    let name = shell.to_string();
    let shells = Shells::builtins();
    let completer = shells.completer(&name).ok_or_else(|| Failure::new(format_args!("{name} is not supported")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "conduit", "conduit", "conduit", &mut script).map_err(Failure::new)?;
    Ok(script)
}

/// If a shell started this process to get candidates, prints them and exits.
pub(crate) fn answer_shell(command: fn() -> Command) {
    if env::var_os(VARIABLE).is_none() {
        return;
    }
    // Nothing is known about an external verb's arguments: the shell completes file names.
    if !is_after_external_verb(&command()) {
        // Errors must not appear in the user's command line.
        let _ = CompleteEnv::with_factory(command).var(VARIABLE).try_complete(env::args_os(), None);
    }
    std::process::exit(0);
}

/// Whether the word to be completed is an argument of an external verb.
fn is_after_external_verb(command: &Command) -> bool {
    // The shell passes `-- conduit WORD...`, and which of these is to be completed unless it is the
    // last.
    let words: Vec<OsString> = env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let index = env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    let before = words.iter().take(index.unwrap_or(words.len().saturating_sub(1))).skip(1);
    let verb = before.map(|word| word.to_string_lossy()).find(|word| !word.starts_with('-'));
    verb.is_some_and(|verb| command.find_subcommand(&*verb).is_none())
}

/// Names of topics and raw regions that begin so. Read from the directory: that is fast and needs
/// no daemon.
pub(crate) fn topics(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_str().unwrap_or_default();
    let names = region_names(&Domain::from_env());
    names.iter().map(TopicName::as_str).filter(|name| name.starts_with(start)).map(CompletionCandidate::new).collect()
}
