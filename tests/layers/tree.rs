//! The modules of one crate and the names that they define.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, UseTree};

use crate::sources::{Sources, child_files, is_for_tests};

/// The modules by their path, `a/b`; the root has the empty path.
#[derive(Default)]
pub struct Tree {
    pub modules: BTreeMap<String, Module>,
}

/// A module, in its own file or inline.
#[derive(Default)]
pub struct Module {
    pub file: String,
    /// The module whose file contains this one: itself, unless it is inline.
    pub unit: String,
    /// The names that `use` lines import, each with its path as written.
    pub uses: BTreeMap<String, Vec<String>>,
    /// The paths of glob imports, as written.
    pub globs: Vec<Vec<String>>,
    /// The items that this module defines.
    pub items: BTreeSet<String>,
}

impl Tree {
    pub fn of_crate(sources: &Sources, root: &str) -> Self {
        let mut tree = Self::default();
        tree.add_file(sources, root, "");
        tree
    }

    /// The name of a module in messages and rules.
    pub fn name<'a>(&'a self, module: &'a str) -> &'a str {
        let file = || self.modules.get("").map_or("", |root| root.file.as_str());
        match module {
            "" => file().rsplit('/').next().unwrap_or_default().trim_end_matches(".rs"),
            module => module,
        }
    }

    fn add_file(&mut self, sources: &Sources, file: &str, module: &str) {
        // A crate that does not exist has no modules.
        if let Some(source) = sources.get(file) {
            self.add_items(sources, &source.syntax.items, file, module, module);
        }
    }

    fn add_items(&mut self, sources: &Sources, items: &[Item], file: &str, path: &str, unit: &str) {
        let mut module = Module { file: file.to_owned(), unit: unit.to_owned(), ..Module::default() };
        for item in items {
            match item {
                Item::Mod(child) if !is_for_tests(&child.attrs) => {
                    let name = child.ident.to_string();
                    let child_path = join(path, &name);
                    match &child.content {
                        Some((_, items)) => self.add_items(sources, items, file, &child_path, unit),
                        None => {
                            if let Some(file) = child_files(file, &name).iter().find(|it| sources.get(it).is_some()) {
                                self.add_file(sources, file, &child_path);
                            }
                        }
                    }
                }
                Item::Use(it) if !is_for_tests(&it.attrs) => module.add_use(&it.tree, Vec::new()),
                // An exported macro belongs to the root; any other has no path.
                Item::Macro(it) => module.items.extend(it.ident.as_ref().map(ToString::to_string)),
                item => module.items.extend(name_of(item)),
            }
        }
        self.modules.insert(path.to_owned(), module);
    }
}

impl Module {
    fn add_use(&mut self, tree: &UseTree, mut prefix: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_use(&path.tree, prefix);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(tree, prefix.clone())),
            UseTree::Glob(_) => self.globs.push(prefix),
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = prefix.last().cloned() {
                    self.uses.insert(last, prefix);
                }
            }
            UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.uses.insert(name.ident.to_string(), prefix);
            }
            UseTree::Rename(name) => {
                if name.ident != "self" {
                    prefix.push(name.ident.to_string());
                }
                self.uses.insert(name.rename.to_string(), prefix);
            }
        }
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::TraitAlias(it) => &it.ident,
        Item::Type(it) => &it.ident,
        Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}
