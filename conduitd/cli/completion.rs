//! What a shell needs to complete command lines. It asks `conduit` itself, so that topics are
//! completed too.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use conduit::inspect::Region;
use conduit::shape::Element;
use conduit::{Domain, Kind, Shape, TopicName, TopicPattern};

use crate::failure::Failure;
use crate::source::region_names;

/// The environment variable by which a shell asks for candidates.
const VARIABLE: &str = "COMPLETE";
/// How many topics are asked for their fields, and how many fields are offered.
const MOST_TOPICS: usize = 8;
const MOST_FIELDS: usize = 500;
/// How many elements of an array are offered.
const MOST_ELEMENTS: u64 = 8;

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
    // The shell says which word is to be completed unless it is the last.
    let words = words();
    let index = env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    let before = words.iter().take(index.unwrap_or(words.len().saturating_sub(1))).skip(1);
    let verb = before.map(|word| word.to_string_lossy()).find(|word| !word.starts_with('-'));
    verb.is_some_and(|verb| command.find_subcommand(&*verb).is_none())
}

/// The command line: the shell passes `-- conduit WORD...`.
fn words() -> Vec<OsString> {
    env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// Names of topics and raw regions that begin so. Read from the directory: that is fast and needs
/// no daemon.
pub(crate) fn topics(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_str().unwrap_or_default();
    let names = region_names(&Domain::from_env());
    names.iter().map(TopicName::as_str).filter(|name| name.starts_with(start)).map(CompletionCandidate::new).collect()
}

/// Paths to values inside the messages of the topics on the command line that begin so.
pub(crate) fn fields(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_str().unwrap_or_default();
    let domain = Domain::from_env();
    let is_named = |topic: &TopicName| {
        let matches = |word: &OsString| TopicPattern::new(&word.to_string_lossy()).is_ok_and(|it| it.matches(topic));
        words().iter().skip(1).any(matches)
    };
    let mut paths = BTreeSet::new();
    let topics = region_names(&domain).into_iter().filter(is_named).take(MOST_TOPICS);
    for region in topics.filter_map(|topic| Region::open(&domain, &topic).ok()) {
        let is_slice = region.message_type().is_some_and(|it| it.kind() == Kind::Slice);
        if let Some(shape) = region.shape() {
            let of_list = if is_slice { "[0]" } else { "" };
            add_paths(&shape, of_list.into(), start, &mut paths);
        }
    }
    paths.into_iter().map(CompletionCandidate::new).collect()
}

/// Adds a path and those that it leads to.
fn add_paths(shape: &Shape, path: String, start: &str, paths: &mut BTreeSet<String>) {
    let is_on_the_way = path.starts_with(start) || start.starts_with(&path);
    // A shell inserts what is offered as it is: nothing in it may mean anything to a shell.
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte));
    if !is_on_the_way || !is_plain || paths.len() >= MOST_FIELDS {
        return;
    }
    match (&shape.element, shape.count) {
        (element, Some(count)) => {
            let element = Shape::one(element.clone());
            (0..count.min(MOST_ELEMENTS)).for_each(|at| add_paths(&element, format!("{path}[{at}]"), start, paths));
        }
        (Element::Struct { fields, .. }, None) => {
            let dot = if path.is_empty() { "" } else { "." };
            fields.iter().for_each(|it| add_paths(&it.shape, format!("{path}{dot}{}", it.name), start, paths));
        }
        _ => {}
    }
    if !path.is_empty() && path.starts_with(start) {
        paths.insert(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(shape: &Shape, path: &str, start: &str) -> Vec<String> {
        let mut paths = BTreeSet::new();
        add_paths(shape, path.into(), start, &mut paths);
        paths.into_iter().collect()
    }

    #[test]
    fn paths_lead_into_structures_and_arrays() {
        let point = || Shape::structure(2, [("x", 0, Shape::one(Element::U8)), ("y", 1, Shape::one(Element::U8))]);
        let shape =
            Shape::structure(8, [("at", 0, point()), ("corners", 2, point().array(2)), ("id", 6, Shape::bytes(2))]);
        assert_eq!(paths(&shape, "", "a"), ["at", "at.x", "at.y"]);
        assert_eq!(paths(&shape, "", "corners[1]."), ["corners[1].x", "corners[1].y"]);
        assert_eq!(paths(&shape, "", "").len(), 3 + 2 + 2 + 4);
        assert_eq!(paths(&point(), "[0]", ""), ["[0]", "[0].x", "[0].y"]);
        assert_eq!(paths(&shape, "", "z"), [""; 0]);
    }

    #[test]
    fn what_a_shell_would_run_is_not_offered() {
        let shape =
            Shape::structure(2, [("$(reboot)", 0, Shape::one(Element::U8)), ("ok", 1, Shape::one(Element::U8))]);
        assert_eq!(paths(&shape, "", ""), ["ok"]);
        let huge = Shape::one(Element::U8).array(1 << 40).array(1 << 20);
        assert_eq!(paths(&huge, "a", "").len(), 9);
    }
}
