//! Name resolution: the module or the other crate that a path refers to.

use crate::tree::{Tree, join};

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
