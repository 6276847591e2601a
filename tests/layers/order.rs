//! The rules for imports.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Import;
use crate::rules::{Layers, is_inside};
use crate::tree::Tree;

/// Imports from a module in a higher layer, and modules that are in no layer.
pub fn upward(layers: &Layers, tree: &Tree, imports: &[Import]) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, module) in tree.modules.iter().filter(|(path, module)| module.unit == **path) {
        let name = tree.name(path);
        if layers.line_of(name).is_none() {
            violations.push(format!("{}:1: module {name} is in no layer of the rules", module.file));
        }
    }
    // One violation per pair of modules, at the first of their imports.
    let mut pairs: BTreeMap<_, Vec<&Import>> = BTreeMap::new();
    for import in imports {
        let Some(to) = &import.to else { continue };
        let (from, to) = (tree.name(&import.from), tree.name(to));
        if let (Some(from_line), Some(to_line)) = (layers.line_of(from), layers.line_of(to))
            && to_line < from_line
        {
            pairs.entry((from, to)).or_default().push(import);
        }
    }
    for ((from, to), imports) in pairs {
        let Import { file, line, path, .. } = imports[0];
        let more = if imports.len() > 1 { format!(", also {} others", imports.len() - 1) } else { String::new() };
        violations.push(format!("{file}:{line}: upward: `{path}`{more}: {to} is above {from}"));
    }
    violations
}

/// Modules that import each other, directly or through others: one violation per import that closes
/// a cycle.
pub fn cycles(_: &Layers, tree: &Tree, imports: &[Import]) -> Vec<String> {
    let mut edges: BTreeMap<&str, BTreeMap<&str, &Import>> = BTreeMap::new();
    for import in imports {
        if let Some(to) = &import.to {
            edges.entry(&import.from).or_default().entry(to).or_insert(import);
        }
    }
    let reached: BTreeMap<_, _> = edges.keys().map(|module| (*module, reachable(&edges, module))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|it| it.contains(to));
    let mut violations = Vec::new();
    for (from, targets) in &edges {
        for (to, import) in targets {
            if reaches(to, from) {
                let members: Vec<_> = reached
                    .keys()
                    .filter(|it| reaches(from, it) && reaches(it, from))
                    .map(|it| tree.name(it))
                    .collect();
                let Import { file, line, path, .. } = import;
                let (from, to) = (tree.name(from), tree.name(to));
                let members = members.join(", ");
                violations.push(format!("{file}:{line}: cycle: `{path}`: {from} imports {to}, in {{{members}}}"));
            }
        }
    }
    violations
}

fn reachable<'a>(edges: &BTreeMap<&'a str, BTreeMap<&'a str, &Import>>, start: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut left: Vec<_> = edges.get(start).into_iter().flat_map(BTreeMap::keys).copied().collect();
    while let Some(next) = left.pop() {
        if seen.insert(next) {
            left.extend(edges.get(next).into_iter().flat_map(BTreeMap::keys).copied());
        }
    }
    seen
}

/// Imports between modules that the rules keep apart.
pub fn between_siblings(layers: &Layers, _: &Tree, imports: &[Import]) -> Vec<String> {
    let mut violations = Vec::new();
    for outer in &layers.apart {
        let child = |module: &str| {
            let rest = module.strip_prefix(outer)?.strip_prefix('/')?;
            Some(rest.split('/').next().unwrap_or(rest).to_owned())
        };
        for import in imports {
            let Import { file, line, path, from, .. } = import;
            if let (Some(from), Some(to)) = (child(from), import.to.as_deref().and_then(child))
                && from != to
            {
                violations.push(format!("{file}:{line}: apart: `{path}`: {outer}/{from} imports {outer}/{to}"));
            }
        }
    }
    violations
}

/// Crates that only one module may name.
pub fn forbidden_crates(layers: &Layers, tree: &Tree, imports: &[Import]) -> Vec<String> {
    let mut violations = Vec::new();
    for (krate, module) in &layers.only {
        for import in imports.iter().filter(|it| it.krate.as_ref() == Some(krate)) {
            let Import { file, line, path, from, .. } = import;
            if !is_inside(tree.name(from), module) {
                violations.push(format!("{file}:{line}: crate: `{path}`: only {module} uses the crate {krate}"));
            }
        }
    }
    violations
}
