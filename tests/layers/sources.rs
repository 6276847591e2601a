//! The parsed Rust files of the workspace, and which of them are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::{Attribute, ImplItem, Item};

/// All files by their path from the workspace root.
pub struct Sources {
    files: BTreeMap<String, Source>,
    tests: BTreeSet<String>,
}

pub struct Source {
    pub text: String,
    /// The parsed text without items that are compiled for tests only.
    pub syntax: syn::File,
}

impl Sources {
    /// All Rust files in the folders of the workspace's packages and tests.
    pub fn of_workspace() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
        let mut texts = Vec::new();
        for folder in ["conduitd", "libconduit", "tests"] {
            collect(root, &root.join(folder), &mut texts);
        }
        Self::new(texts)
    }

    /// Parses files given by path and text.
    pub fn new(texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let parse = |(path, text): (String, String)| {
            let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
            (path, Source { text, syntax })
        };
        let mut files: BTreeMap<_, _> = texts.into_iter().map(parse).collect();
        let mut tests: BTreeSet<_> = files.keys().filter(|path| is_named_like_a_test(path)).cloned().collect();
        for (path, source) in &files {
            for item in &source.syntax.items {
                if let Item::Mod(module) = item
                    && module.content.is_none()
                    && is_for_tests(&module.attrs)
                {
                    let [file, folder] = child_files(path, &module.ident.to_string());
                    let folder = folder.trim_end_matches("mod.rs").to_owned();
                    tests.extend(files.keys().filter(|it| **it == file || it.starts_with(&folder)).cloned());
                }
            }
        }
        files.values_mut().for_each(|source| remove_tests(&mut source.syntax.items));
        Self { files, tests }
    }

    pub fn get(&self, path: &str) -> Option<&Source> {
        self.files.get(path)
    }

    pub fn is_test(&self, path: &str) -> bool {
        self.tests.contains(path)
    }

    /// All files.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.files.iter().map(|(path, source)| (path.as_str(), source))
    }

    /// All files that are not tests.
    pub fn products(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.files.iter().filter(|(path, _)| !self.is_test(path)).map(|(path, source)| (path.as_str(), source))
    }
}

fn collect(root: &Path, folder: &Path, texts: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                collect(root, &path, texts);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("a path in the workspace").to_str().expect("a name in UTF-8");
            texts.push((name.to_owned(), std::fs::read_to_string(&path).expect("a file of the workspace")));
        }
    }
}

fn is_named_like_a_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// The two possible files of a module that `file` declares.
pub fn child_files(file: &str, name: &str) -> [String; 2] {
    let (folder, stem) = file.rsplit_once('/').unwrap_or(("", file));
    let stem = stem.trim_end_matches(".rs");
    let folder = if ["mod", "lib", "main"].contains(&stem) { folder.to_owned() } else { format!("{folder}/{stem}") };
    [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

/// Whether an item is compiled for tests only.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
        let condition = list.tokens.to_string();
        let words: Vec<_> = condition.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        list.path.is_ident("cfg") && words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any")
    })
}

/// Removes items that are compiled for tests only.
fn remove_tests(items: &mut Vec<Item>) {
    items.retain(|item| !is_for_tests(attributes_of(item)));
    for item in items {
        match item {
            Item::Mod(module) => module.content.iter_mut().for_each(|(_, items)| remove_tests(items)),
            Item::Impl(block) => {
                block.items.retain(|item| !matches!(item, ImplItem::Fn(function) if is_for_tests(&function.attrs)));
            }
            _ => {}
        }
    }
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::ForeignMod(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}
