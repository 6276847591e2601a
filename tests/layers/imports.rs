//! The imports of a crate's modules: every path in code that is not test code, including macros.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{ItemUse, Stmt, UseTree, Visibility};

use crate::sources::{Sources, is_for_tests};
use crate::tree::{Target, Tree, join};

/// A path in one module that names another module or another crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub file: String,
    pub line: usize,
    /// The path as written.
    pub path: String,
    /// The module whose file contains it.
    pub from: String,
    /// The module whose file defines the named item; `None` if that is another crate.
    pub to: Option<String>,
    /// The other crate that it names, if any.
    pub krate: Option<String>,
}

/// All imports of a crate, sorted, except those of a module by itself.
pub fn of(sources: &Sources, tree: &Tree) -> Vec<Import> {
    let mut found = BTreeSet::new();
    for (path, module) in &tree.modules {
        if module.unit != *path {
            continue;
        }
        let Some(source) = sources.get(&module.file) else { continue };
        let mut collector = Collector { tree, file: &module.file, unit: path, module: path.clone(), found: &mut found };
        collector.visit_file(&source.syntax);
    }
    found.into_iter().collect()
}

struct Collector<'a> {
    tree: &'a Tree,
    file: &'a str,
    unit: &'a str,
    /// The module that contains the visited code; below `unit` in inline modules.
    module: String,
    found: &'a mut BTreeSet<Import>,
}

impl Collector<'_> {
    fn note(&mut self, line: usize, segments: &[String]) {
        let (to, krate) = match self.tree.resolve(&self.module, segments) {
            Some(Target::Module(module)) => {
                let unit = &self.tree.modules[&module].unit;
                if unit == self.unit {
                    return;
                }
                (Some(unit.clone()), None)
            }
            Some(Target::Other(krate)) => (None, Some(krate)),
            None => return,
        };
        let path = segments.join("::");
        self.found.insert(Import { file: self.file.to_owned(), line, path, from: self.unit.to_owned(), to, krate });
    }

    /// Notes each name of a `use`, except re-exports from this module's own submodules.
    fn note_use(&mut self, tree: &UseTree, mut prefix: Vec<String>, is_export: bool) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.note_use(&path.tree, prefix, is_export);
                return;
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, prefix.clone(), is_export));
                return;
            }
            UseTree::Name(name) if name.ident == "self" => {}
            UseTree::Name(name) => prefix.push(name.ident.to_string()),
            UseTree::Rename(name) => prefix.push(name.ident.to_string()),
            UseTree::Glob(_) => {}
        }
        let own = match self.tree.resolve(&self.module, &prefix) {
            Some(Target::Module(target)) => self.unit.is_empty() || target.starts_with(&format!("{}/", self.unit)),
            _ => false,
        };
        if !(is_export && own) {
            self.note(line, &prefix);
        }
    }

    /// Notes paths in the arguments or the definition of a macro.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note_path(line, &std::mem::take(&mut path));
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                _ => {
                    self.note_path(line, &std::mem::take(&mut path));
                    colons = 0;
                }
            }
            if let TokenTree::Group(group) = token {
                self.note_tokens(group.stream());
            }
        }
        self.note_path(line, &path);
    }

    fn note_path(&mut self, line: usize, segments: &[String]) {
        // A single name comes from a `use` line, which is noted itself.
        if segments.len() > 1 {
            self.note(line, segments);
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if !matches!(statement, Stmt::Local(local) if is_for_tests(&local.attrs)) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() {
            let inner = join(&self.module, &module.ident.to_string());
            let outer = std::mem::replace(&mut self.module, inner);
            visit::visit_item_mod(self, module);
            self.module = outer;
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.note_use(&item.tree, Vec::new(), !matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_none() {
            self.note_path(path.span().start().line, &segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.note_tokens(call.tokens.clone());
    }

    // Neither is an import: `pub(in crate::a)`, `#[derive(..)]`.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}
