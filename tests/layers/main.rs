//! Checks the structure of the source code: imports run downward, modules form no cycles, functions
//! and files are short, `unsafe` is confined. `rules.txt` holds the rules; this program only
//! applies them. It parses the sources, so paths in function bodies count like `use` lines.
//!
//! `cargo test -p conduitd --test layers` lists every violation: file, line, import, and broken
//! rule.

#![allow(unreachable_pub, reason = "not a library")]

mod imports;
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
