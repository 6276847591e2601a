//! Unique names for the types of the workspace.

use std::collections::BTreeMap;

use syn::Item;
use syn::visit::{self, Visit};

use crate::rules::Rules;
use crate::sources::Sources;
use crate::tree::name_of;

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

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if matches!(item, Item::Enum(_) | Item::Struct(_) | Item::Trait(_) | Item::Type(_) | Item::Union(_))
            && let Some(ident) = name_of(item)
        {
            self.0.push((ident.to_string(), ident.span().start().line));
        }
        visit::visit_item(self, item);
    }
}
