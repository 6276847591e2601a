//! What a shell needs to complete command lines. It asks `conduit` itself, so that topics are
//! completed too.

use std::ffi::OsStr;

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
pub(crate) fn answer_shell(command: fn() -> clap::Command) {
    // Errors must not appear in the user's command line.
    if std::env::var_os(VARIABLE).is_some() {
        let _ = CompleteEnv::with_factory(command).var(VARIABLE).try_complete(std::env::args_os(), None);
        std::process::exit(0);
    }
}

/// Names of topics and raw regions that begin so. Read from the directory: that is fast and needs
/// no daemon.
pub(crate) fn topics(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_str().unwrap_or_default();
    let names = region_names(&Domain::from_env());
    names.iter().map(TopicName::as_str).filter(|name| name.starts_with(start)).map(CompletionCandidate::new).collect()
}
