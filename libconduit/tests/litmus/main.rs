//! Litmus tests of the acquire/release pairs: for each, whether a bad outcome is possible as the
//! code stands, and with the pair's orderings weakened. A loom model runs the code, but not every
//! weak behaviour; a litmus test is a few steps by hand, under all of them.
//!
//! A file of `pairs/` is one test, named after the pair's labels: a register is the thread's own,
//! all other words are shared. Its lines:
//!
//! | line | |
//! |---|---|
//! | `# ...` | comment |
//! | `start state=1, head=0` | values at the start; words that are left out have 0 |
//! | `thread writer` | begins a thread |
//! | `W6: store head 1 release` | a labelled step, in the strength that it has in the code |
//! | `r0 = load head acquire` | a step without a label, which leaves its result in a register |
//! | `r0 = read payload`, `write payload 1` | accesses that are not atomic |
//! | `when r0 is 1`, `when r0 is-not 1` | ends the thread otherwise |
//! | `bad reader.r0=1, head=0` | an outcome that must not be; several lines: any of them |
//! | `form as it stands: never never ...` | what must come out, by [`MODELS`](herd::MODELS) |
//! | `form W6 relaxed, C1 left out: ...` | the same with weakened steps |
//!
//! Other steps are `swap`, `fetch_add`, `fetch_or`, `fetch_and`, `compare_exchange` (its failure is
//! relaxed, and ends the thread) and `fence`. Several labels before a step are those of several
//! places in the code. An outcome counts if every thread comes to its end.
//!
//! The columns of a form are the models of C11 (Batty et al. 2016) and RC11 (Lahav et al. 2017),
//! and AArch64 with and without LSE ([`aarch64`]). Where a weakened form is never wrong by a model,
//! the ordering is for the sake of the others; Rust promises no more than C11.
//!
//! `cargo test -p libconduit --test litmus` checks that the files are complete and fit the code.
//! `.ci/deep litmus` runs them with [herd7](https://github.com/herd/herdtools7), if that is there.
#![allow(clippy::print_stdout, reason = "a report for whoever runs it")]
#![allow(unreachable_pub, reason = "not a library")]

mod aarch64;
mod c11;
mod herd;
mod labels;
mod pair;

use std::fs;
use std::path::Path;

use herd::MODELS;
use pair::{Form, Pair};

fn pairs() -> Vec<Pair> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/litmus/pairs");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let parse = |path: &Path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        Pair::parse(&name, &fs::read_to_string(path).expect("a text")).unwrap_or_else(|error| panic!("{error}"))
    };
    files.iter().map(|path| parse(path)).collect()
}

/// Prints a row of the table. Returns what differs.
fn check(pair: &Pair, form: &Form) -> Vec<String> {
    let weakened = pair.in_form(form);
    let mut row = String::new();
    let mut differences = Vec::new();
    for (model, expected) in MODELS.iter().zip(form.expected) {
        let verdict = model.verdict(&weakened);
        let name = verdict.as_ref().map_or("error", |verdict| verdict.name());
        row += &format!(" {name:9}");
        if verdict != Ok(expected) {
            let error = verdict.err().unwrap_or_default();
            differences.push(format!("{} ({}), {}: {name} {error}", pair.name, form.name, model.name));
        }
    }
    println!("{:30} {:48}{row}", pair.name, form.name);
    differences
}

#[test]
#[ignore = "needs herd7: .ci/deep litmus"]
fn herd7_agrees() {
    let names = MODELS.map(|model| format!(" {:9}", model.name)).concat();
    println!("{:30} {:48}{names}", "pair", "form");
    let pairs = pairs();
    let forms = pairs.iter().flat_map(|pair| pair.forms.iter().map(move |form| (pair, form)));
    let differences: Vec<_> = forms.flat_map(|(pair, form)| check(pair, form)).collect();
    assert!(differences.is_empty(), "unlike the files:\n{}", differences.join("\n"));
}

#[test]
fn each_pair_of_the_protocol_has_a_test() {
    assert_eq!(labels::pairs_without_test(&pairs()), [""; 0]);
}

#[test]
fn the_tests_have_the_orderings_of_the_code() {
    assert_eq!(labels::differences(&pairs()), [""; 0]);
}
