//! Programs that act as verbs: `conduit NAME` runs `conduit-NAME`, as git and cargo do.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

use clap::Command;
use clap_complete::engine::CompletionCandidate;
use conduit::internal::foreign_text::clean;
use nix::unistd::{AccessFlags, eaccess};

use crate::failure::Failure;
use crate::suggestion;

/// What the names of the programs begin with.
const PREFIX: &str = "conduit-";
const WRONG_USAGE: u8 = 2;

/// Replaces this process by the program `conduit-NAME`: its signals and its exit status are its
/// own.
///
/// Returns only if there is no such program or it cannot be started.
pub(crate) fn run(command: &Command, arguments: &[OsString], no_color: bool) -> Failure {
    let Some((name, arguments)) = arguments.split_first() else {
        return Failure::with_code("no verb given", WRONG_USAGE);
    };
    let Some(path) = find(name) else { return unknown(command, name) };
    let mut program = process::Command::new(&path);
    program.args(arguments);
    if no_color {
        program.env("NO_COLOR", "1");
    }
    Failure::io("run", &path)(program.exec())
}

fn unknown(command: &Command, name: &OsStr) -> Failure {
    let name = name.to_string_lossy();
    let programs = programs(command);
    let known = visible_verbs(command).chain(programs.keys().map(String::as_str));
    let hint = match suggestion::nearest(&name, known) {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None => "`conduit --help` lists the verbs".into(),
    };
    let message = format!("there is no verb {name:?}, and no program conduit-{name} on PATH or beside conduit; {hint}");
    Failure::with_code(message, WRONG_USAGE)
}

fn visible_verbs(command: &Command) -> impl Iterator<Item = &str> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name)
}

/// The directories of PATH, then the one of this program.
fn directories() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    // A relative directory would make the result depend on where `conduit` is started.
    env::split_paths(&path).filter(|directory| directory.is_absolute()).chain(beside).collect::<Vec<_>>().into_iter()
}

fn find(name: &OsStr) -> Option<PathBuf> {
    if name.is_empty() || name.as_bytes().contains(&b'/') {
        return None;
    }
    let mut file_name = OsString::from(PREFIX);
    file_name.push(name);
    directories().map(|directory| directory.join(&file_name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && eaccess(path, AccessFlags::X_OK).is_ok()
}

/// The programs that `conduit NAME` runs, by NAME. Built-in verbs take precedence and hide theirs.
pub(crate) fn programs(command: &Command) -> BTreeMap<String, PathBuf> {
    let mut programs = BTreeMap::new();
    for entry in directories().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.+".contains(char);
        let is_listed = !name.is_empty() && name.chars().all(is_plain) && command.find_subcommand(name).is_none();
        if is_listed && !programs.contains_key(name) && is_executable(&entry.path()) {
            programs.insert(name.to_owned(), entry.path());
        }
    }
    programs
}

/// The programs as candidates for a shell.
pub(crate) fn candidates(command: &Command) -> Vec<CompletionCandidate> {
    let candidate = |(name, path): (String, PathBuf)| {
        CompletionCandidate::new(name).help(Some(format!("Run {}", shown(&path)).into()))
    };
    programs(command).into_iter().map(candidate).collect()
}

/// The programs as lines for the help; empty if there are none.
pub(crate) fn help(command: &Command) -> String {
    let programs = programs(command);
    let width = programs.keys().map(String::len).max().unwrap_or(0);
    programs.iter().fold(String::new(), |lines, (name, path)| lines + &format!("\n  {name:<width$}  {}", shown(path)))
}

fn shown(path: &Path) -> String {
    clean(path.as_os_str().as_bytes())
}
