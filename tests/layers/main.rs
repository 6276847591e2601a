//! Checks the structure of the source code: imports run downward, modules form no cycles,
//! functions, files and lines of comments are short, `unsafe` is confined. `rules.txt` holds the
//! rules; this program only applies them. It parses the sources, so paths in function bodies count
//! like `use` lines.
//!
//! `cargo test -p conduitd --test layers` lists every violation: file, line, import, and broken
//! rule.

#![allow(unreachable_pub, reason = "not a library")]

mod imports;
#[path = "../mutations/names.rs"]
mod mutations;
mod order;
mod rules;
mod size;
mod sources;
mod tree;
mod types;

#[cfg(test)]
mod broken;

use rules::Rules;
use sources::Sources;

/// One sentence per violation, sorted by file and line.
fn check(sources: &Sources, rules: &Rules) -> Vec<String> {
    let mut violations = Vec::new();
    for krate in &rules.crates {
        let tree = tree::Tree::of_crate(sources, &krate.root);
        let imports = imports::of(sources, &tree);
        violations.extend(order::upward(krate, &tree, &imports));
        violations.extend(order::cycles(krate, &tree, &imports));
        violations.extend(order::between_siblings(krate, &tree, &imports));
        violations.extend(order::forbidden_crates(krate, &tree, &imports));
    }
    violations.extend(size::long_files(sources, rules));
    violations.extend(size::long_functions(sources, rules));
    violations.extend(size::long_comments(sources, rules));
    violations.extend(size::misplaced_unsafe(sources, rules));
    violations.extend(types::shared_names(sources, rules));
    violations.sort_by_cached_key(|it| {
        let mut parts = it.splitn(3, ':');
        let file = parts.next().unwrap_or_default().to_owned();
        (file, parts.next().and_then(|line| line.parse::<usize>().ok()))
    });
    violations
}

#[test]
fn the_sources_follow_the_rules() {
    let sources = Sources::of_workspace();
    let rules = Rules::parse(include_str!("rules.txt"));
    let violations = check(&sources, &rules);
    assert!(
        violations.is_empty(),
        "{} violations of tests/layers/rules.txt:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn every_mutation_has_a_name_of_its_own() {
    let mutations = mutations::of_library().unwrap_or_else(|faults| panic!("{faults}"));
    assert!(mutations.len() > 50, "{} mutations", mutations.len());
}

#[test]
fn mutations_are_found_in_text() {
    let text = "
        // survives w7_acquire: herd7 alone can tell,
        // and it does.
        if waiting.swap(0, order!(w7, AcqRel)) != 0 && !mutated!(no_wake) { // mutated!(not_this)
            step!(w8, wake.fetch_add(
                1, order!(w8, Release)));
        } else if position.load(order!(r3, SeqCst load)) != 0 && load() {
            fence(order!(w3, SeqCst fence));
        }
        assert!(x);
        // survives w9_left_out: no reason.
        step!(w8, wake());";
    let faults = mutations::of_texts([("a.rs".to_owned(), text.to_owned())]).unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "a.rs:12: w8_left_out is also the name of a.rs:5",
            "a.rs: a reason for w9_left_out to survive, but there is no such mutation"
        ]
    );
    let text = text.rsplit_once("        // survives").unwrap().0;
    let mutations = mutations::of_texts([("a.rs".to_owned(), text.to_owned())]).unwrap();
    let names: Vec<_> = mutations.iter().map(|it| it.name.as_str()).collect();
    let expected = "w7_acquire w7_release w7_relaxed no_wake w8_left_out w8_relaxed r3_acquire r3_relaxed \
                    w3_acqrel w3_acquire w3_release";
    assert_eq!(names.join(" "), expected);
    assert_eq!(mutations[0].reason.as_deref(), Some("herd7 alone can tell, and it does."));
    assert_eq!((mutations[1].reason.as_deref(), mutations[1].place.as_str()), (None, "a.rs:4"));
}
