//! Unique names for the types of the workspace.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Ident, Item};

use crate::imports::attributes_of;
use crate::rules::Rules;
use crate::sources::{Sources, is_for_tests};

pub fn shared_names(sources: &Sources, rules: &Rules) -> Vec<String> {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_counted = |path: &str| rules.named_files.iter().any(|prefix| path.starts_with(prefix));
    for (path, source) in sources.products().filter(|(path, _)| is_counted(path)) {
        let mut names = Names(Vec::new());
        names.visit_file(&source.syntax);
        for (name, line) in names.0 {
            by_name.entry(name).or_default().push(format!("{path}:{line}"));
        }
    }
    let shared = by_name.into_iter().filter(|(name, places)| places.len() > 1 && !rules.shared_names.contains(name));
    let mut violations = Vec::new();
    for (name, places) in shared {
        for place in &places {
            let others: Vec<_> = places.iter().filter(|it| *it != place).map(String::as_str).collect();
            violations.push(format!("{place}: name: another type is called {name}: {}", others.join(", ")));
        }
    }
    violations
}

struct Names(Vec<(String, usize)>);

impl Names {
    fn note(&mut self, ident: &Ident) {
        self.0.push((ident.to_string(), ident.span().start().line));
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes_of(item)) {
            return;
        }
        match item {
            Item::Enum(it) => self.note(&it.ident),
            Item::Struct(it) => self.note(&it.ident),
            Item::Trait(it) => self.note(&it.ident),
            Item::Type(it) => self.note(&it.ident),
            Item::Union(it) => self.note(&it.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }
}
