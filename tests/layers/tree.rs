//! The modules of one crate, the names that they define, and the modules that paths refer to.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Ident, Item, UseTree};

use crate::sources::{Sources, child_files};

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
                Item::Mod(child) => {
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
                Item::Use(it) => module.add_use(&it.tree, Vec::new()),
                // An exported macro belongs to the root; any other has no path.
                Item::Macro(it) => module.items.extend(it.ident.as_ref().map(ToString::to_string)),
                item => module.items.extend(name_of(item).map(ToString::to_string)),
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

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of this crate, by its path in the tree.
    Module(String),
    /// Another crate, a primitive type, or a local variable.
    Other(String),
}

/// How many re-exports are followed; only a cycle has more.
const MOST_REEXPORTS: usize = 16;

impl Tree {
    /// Resolves the path `segments` in `module`. Follows re-exports to the defining module.
    pub fn resolve(&self, module: &str, segments: &[String]) -> Option<Target> {
        self.follow(module, segments, MOST_REEXPORTS)
    }

    fn follow(&self, module: &str, segments: &[String], left: usize) -> Option<Target> {
        let left = left.checked_sub(1)?;
        let first = segments.first()?.as_str();
        let mut rest = &segments[1..];
        let mut here = match first {
            "crate" | "$crate" => String::new(),
            "self" => module.to_owned(),
            "super" => {
                let mut here = parent(module)?.to_owned();
                while rest.first().is_some_and(|it| it == "super") {
                    here = parent(&here)?.to_owned();
                    rest = &rest[1..];
                }
                here
            }
            _ => {
                // A child, an item or an import of this module, otherwise another crate.
                let known = self.modules.get(module)?;
                let is_import = known.uses.get(first).is_some_and(|path| path != segments);
                if !self.modules.contains_key(&join(module, first)) && !known.items.contains(first) && !is_import {
                    return Some(Target::Other(first.to_owned()));
                }
                rest = segments;
                module.to_owned()
            }
        };
        while let Some(next) = rest.first() {
            let child = join(&here, next);
            if self.modules.contains_key(&child) {
                here = child;
                rest = &rest[1..];
                continue;
            }
            let known = self.modules.get(&here)?;
            if known.items.contains(next) {
                break;
            }
            if let Some(path) = known.uses.get(next).filter(|path| *path != segments || here != module) {
                let path: Vec<_> = path.iter().chain(&rest[1..]).cloned().collect();
                return self.follow(&here, &path, left);
            }
            let through_globs = known.globs.iter().filter_map(|glob| {
                let path: Vec<_> = glob.iter().chain(rest).cloned().collect();
                self.follow(&here, &path, left).filter(|it| self.defines(it, next))
            });
            return through_globs.chain([Target::Module(here.clone())]).next();
        }
        Some(Target::Module(here))
    }

    fn defines(&self, target: &Target, name: &str) -> bool {
        let Target::Module(path) = target else { return false };
        self.modules.get(path).is_some_and(|module| module.items.contains(name))
    }
}

fn parent(module: &str) -> Option<&str> {
    (!module.is_empty()).then(|| module.rsplit_once('/').map_or("", |(parent, _)| parent))
}

pub fn name_of(item: &Item) -> Option<&Ident> {
    Some(match item {
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
    })
}

pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}
