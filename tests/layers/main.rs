//! The structure of the source code, as a test: imports run downward, modules form no cycle, functions and files stay
//! short, `unsafe` stays in its places. The rules are the text file `rules.txt`; this program knows only how to apply
//! them. It parses the sources, so that a path in a function body counts as much as a `use` line.
//!
//! `cargo test -p conduitd --test layers` lists every violation: file, line, what it imports, and the rule it breaks.

#![allow(unreachable_pub, reason = "nobody uses this crate")]

mod imports;
mod order;
mod paths;
mod rules;
mod size;
mod sources;
mod tree;
mod types;

#[cfg(test)]
mod broken;

use rules::Rules;
use sources::Sources;

/// One sentence per violation, in the order of files and lines.
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
fn the_sources_keep_the_rules() {
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
