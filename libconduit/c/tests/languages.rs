//! What Rust has, C and C++ have: the table in `README.md` names every function of each, and
//! nothing that is not there.
#![allow(missing_docs, reason = "a test")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{PACKAGE, library};

const README: &str = include_str!("../README.md");
const HEADING: &str = "## What each language has";
/// The public types of the Rust library whose methods do something. The others are plain data.
const TYPES: [&str; 24] = [
    "AsyncPatternSubscriber",
    "AsyncSubscriber",
    "Client",
    "Copied",
    "Domain",
    "Loan",
    "PatternSubscriber",
    "Publisher",
    "PublisherBuilder",
    "Region",
    "RegionBuilder",
    "RegistryEvents",
    "Sample",
    "Shape",
    "ShmRegion",
    "Stop",
    "Subscriber",
    "SubscriberBuilder",
    "TopicName",
    "TopicPattern",
    "TopicSample",
    "TypeInfo",
    "WaitSet",
    "WaitSetWaker",
];

/// A row: what it names in each column, in backquotes, and whether the columns say anything.
#[derive(Debug)]
struct Row {
    line: String,
    names: [Vec<String>; 3],
}

/// The table with this heading.
fn table() -> Vec<Row> {
    let section = README.split_once(HEADING).expect(HEADING).1;
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let lines = section.lines().filter(|line| line.starts_with("| "));
    let rows = lines.skip(1).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names = <[&str; 3]>::try_from(cells).unwrap_or_else(|cells| panic!("three columns: {cells:?}"));
        let quoted = |cell: &str| {
            assert!(!cell.is_empty(), "say why not: {line}");
            cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches("()").to_owned()).collect()
        };
        Row { line: line.to_owned(), names: names.map(quoted) }
    });
    rows.collect()
}

/// The names in a column that a predicate accepts, each with its row.
fn column(rows: &[Row], at: usize, wanted: impl Fn(&str) -> bool) -> BTreeMap<&str, &str> {
    let all = rows.iter().flat_map(|row| row.names[at].iter().map(|name| (name.as_str(), row.line.as_str())));
    all.filter(|(name, _)| wanted(name)).collect()
}

#[test]
fn every_function_of_c_is_in_the_table_and_every_one_in_the_table_is_exported() {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<&str> = output.lines().filter_map(|line| line.split(' ').next_back()).collect();
    let rows = table();
    let header = include_str!("../include/conduit.h");
    let is_structure = |name: &str| header.contains(&format!("\ntypedef struct {name} "));
    let named = column(&rows, 1, |name| name.starts_with("conduit_") && !is_structure(name));
    for (name, row) in &named {
        assert!(exported.contains(name), "the library exports no {name}: {row}");
    }
    let missing: Vec<_> = exported.iter().filter(|name| !named.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{HEADING:?} of README.md lacks {missing:?}");
}

/// The sources below a directory whose names end so.
fn sources(directory: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The type that a line at the left margin implements, unless it implements a trait.
fn implemented(line: &str) -> Option<&str> {
    let mut rest = line.strip_prefix("impl")?;
    let mut depth = 0;
    let generics = rest.char_indices().take_while(|&(_, character)| {
        depth += i32::from(character == '<') - i32::from(character == '>');
        depth > 0 || character == '>'
    });
    let len = generics.count();
    rest = rest[len..].trim_start();
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    (!line.contains(" for ")).then(|| rest.split(|character| !is_name(character)).next()).flatten()
}

/// The public methods of the types above, and the public functions of `inspect`.
fn rust_functions() -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    for (path, text) in sources(&Path::new(PACKAGE).join("../src"), ".rs") {
        let mut of = None;
        let mut is_hidden = false;
        for line in text.lines() {
            if line.starts_with("impl") {
                of = implemented(line).filter(|name| TYPES.contains(name));
            }
            let (margin, scope) = match of {
                _ if line.starts_with("pub ") && path.ends_with("inspect/mod.rs") => ("", Some("inspect")),
                of => ("    ", of),
            };
            let public = line.strip_prefix(margin).and_then(|line| line.strip_prefix("pub "));
            let function = public
                .map(|line| line.trim_start_matches("const ").trim_start_matches("async "))
                .and_then(|it| it.strip_prefix("fn "));
            if let (Some(function), Some(scope), false) = (function, scope, is_hidden) {
                let name = function.split(['(', '<']).next().unwrap();
                functions.insert(format!("{scope}::{name}"));
            }
            is_hidden = line.trim() == "#[doc(hidden)]" || (is_hidden && line.trim().starts_with('#'));
        }
    }
    functions
}

#[test]
fn every_method_of_rust_is_in_the_table_and_every_one_in_the_table_exists() {
    let functions = rust_functions();
    assert!(functions.contains("Publisher::send") && functions.contains("inspect::list"), "{functions:?}");
    let rows = table();
    let named = column(&rows, 0, |name| name.contains("::"));
    for (name, row) in &named {
        assert!(functions.contains(*name), "there is no {name} in Rust: {row}");
    }
    let missing: Vec<_> = functions.iter().filter(|name| !named.contains_key(name.as_str())).collect();
    assert!(
        missing.is_empty(),
        "{HEADING:?} of README.md lacks {missing:?}: say how C and C++ do it, or why they need not"
    );
}

#[test]
fn every_member_of_cpp_in_the_table_is_declared_by_its_class() {
    let headers = sources(&Path::new(PACKAGE).join("include/conduit"), ".hpp");
    let classes: BTreeMap<&str, String> = headers
        .iter()
        .flat_map(|(_, text)| {
            let begins = text.match_indices("\nclass ").chain(text.match_indices("\nstruct "));
            begins.filter_map(|(at, keyword)| {
                let rest = &text[at + keyword.len()..];
                let name = rest.split(|character: char| !character.is_alphanumeric()).next()?;
                // Not one that is only announced.
                rest[name.len()..].starts_with(' ').then_some(())?;
                Some((name, rest.split_once("\n};")?.0.to_owned()))
            })
        })
        .collect();
    let functions: String = headers.iter().map(|(_, text)| text.as_str()).collect();
    let rows = table();
    for (name, row) in column(&rows, 2, |name| !name.starts_with("std::")) {
        let is_declared = match name.split_once("::") {
            Some((class, member)) => classes.get(class).is_some_and(|body| declares(body, member)),
            None => classes.contains_key(name) || declares(&functions, name),
        };
        assert!(is_declared, "conduit.hpp declares no {name}: {row}");
    }
}

/// Whether a text declares a function, or a member with this name.
fn declares(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        before.ends_with([' ', '*', '&']) && after.starts_with(['(', ';', ' ', ','])
    })
}
