//! The labels in the sources: which pairs need a test, and which orderings the tests must have.

use std::fs;
use std::path::{Path, PathBuf};

use super::pair::{Order, Pair, Step};

/// Lines below a comment with a label within which the step has its ordering.
const REACH: usize = 5;

/// An ordering in the code: `order!(w6, Release)`, or those of the first line below a comment that
/// begins with a label and that has any.
struct Labelled {
    label: String,
    order: Order,
    place: String,
}

/// The pairs of the protocol's table that no test has in two of its steps.
pub fn pairs_without_test(pairs: &[Pair]) -> Vec<String> {
    let protocol = fs::read_to_string(sources().join("ring/mod.rs")).expect("the protocol");
    let wanted = table_of_pairs(&protocol);
    assert!(wanted.len() > 5, "the table of orderings is not found in ring/mod.rs");
    let has = |pair: &Pair, label: &str| pair.steps().any(|step| step.labels.iter().any(|it| it == label));
    let has_test = |wanted: &String| pairs.iter().any(|pair| wanted.split('-').all(|label| has(pair, label)));
    wanted.into_iter().filter(|wanted| !has_test(wanted)).collect()
}

/// `W1-R5` for a row whose first cells are `W1 acquire` and `R5 release`; each with each, if a cell
/// has several labels, and the first alone if the second has none.
fn table_of_pairs(protocol: &str) -> Vec<String> {
    let rows = protocol.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.skip_while(|row| !row.starts_with("label ")).skip(1).filter_map(|row| row.split_once(" | "));
    let mut pairs = Vec::new();
    for (first, rest) in rows {
        let second = rest.split_once(" | ").map_or(rest, |(second, _)| second);
        for label in labels_in(first) {
            let partners = labels_in(second);
            pairs.extend(partners.iter().map(|partner| format!("{label}-{partner}")));
            if partners.is_empty() {
                pairs.push(label.to_owned());
            }
        }
    }
    pairs
}

fn labels_in(text: &str) -> Vec<&str> {
    text.split(|it: char| !it.is_ascii_alphanumeric()).filter(|word| is_label(word)).collect()
}

/// A capital letter and a digit.
fn is_label(word: &str) -> bool {
    matches!(word.as_bytes(), [b'A'..=b'Z', b'0'..=b'9'])
}

/// Where tests and code differ: orderings that no test has, and those of a step.
pub fn differences(pairs: &[Pair]) -> Vec<String> {
    let texts = texts();
    let in_code: Vec<_> = texts.iter().flat_map(|(path, text)| labelled(path, text)).collect();
    assert!(in_code.len() > 20, "the orderings are not found in the sources");
    let has = |step: &Step, label: &str| step.labels.iter().any(|it| it.eq_ignore_ascii_case(label));
    let mut differences = Vec::new();
    for Labelled { label, order, place } in &in_code {
        if *order != Order::Relaxed && !pairs.iter().any(|pair| pair.steps().any(|step| has(step, label))) {
            differences.push(format!("{place}: no test has {label}"));
        }
    }
    for (pair, step) in pairs.iter().flat_map(|pair| pair.steps().map(move |step| (pair, step))) {
        for label in &step.labels {
            if !texts.iter().any(|(_, text)| text.contains(label.as_str())) {
                differences.push(format!("{}: {label} is not in the sources", pair.name));
            }
        }
        // A label may have several places.
        let places: Vec<_> = in_code.iter().filter(|code| has(step, &code.label)).collect();
        if !places.is_empty() && places.iter().all(|code| code.order != step.order) {
            let Labelled { label, order, place } = places[0];
            differences.push(format!("{}: {label} is {:?}, but {order:?} in {place}", pair.name, step.order));
        }
    }
    differences
}

fn labelled(path: &str, text: &str) -> Vec<Labelled> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut labelled = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let place = format!("{path}, line {}", index + 1);
        let mut add = |label: &str, order| {
            // `h1_of_sleeper` is another place of `h1`.
            let label = label.split("_of_").next().unwrap_or(label).to_owned();
            labelled.push(Labelled { label, order, place: place.clone() });
        };
        if let Some(comment) = line.strip_prefix("// ") {
            let label = comment.split(|it: char| !is_of_word(it)).next().filter(|word| is_label(word));
            let mut below = lines[index + 1..].iter().take(REACH).map(|line| orderings(line));
            for order in below.find(|orders| !orders.is_empty()).unwrap_or_default() {
                label.into_iter().for_each(|label| add(label, order));
            }
        } else if !line.starts_with("//") {
            for macro_use in line.split("order!(").skip(1) {
                let label = macro_use.split(',').next().unwrap_or_default();
                orderings(macro_use).into_iter().take(1).for_each(|order| add(label, order));
            }
        }
    }
    labelled
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The orderings in a line of code.
fn orderings(line: &str) -> Vec<Order> {
    let words = line.split(|it: char| !is_of_word(it)).filter(|_| !line.starts_with("//"));
    let ordering = |word| match word {
        "Relaxed" => Some(Order::Relaxed),
        "Acquire" => Some(Order::Acquire),
        "Release" => Some(Order::Release),
        "AcqRel" => Some(Order::AcqRel),
        "SeqCst" => Some(Order::SeqCst),
        _ => None,
    };
    words.filter_map(ordering).collect()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All sources but for tests: path and text.
fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut folders = vec![sources()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                texts.push((path.display().to_string(), text));
            }
        }
    }
    // The file of the macros has examples.
    texts.retain(|(path, _)| !path.contains("/tests") && !path.ends_with("src/mutation.rs"));
    texts
}
