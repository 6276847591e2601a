//! The mutations that the sources name, and the reasons that some may survive.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    pub name: String,
    /// File and line.
    pub place: String,
    /// Why no test need find it.
    pub reason: Option<String>,
}

/// All mutations of the library, in the order of their places. Or what is wrong with their names, a
/// sentence on each line.
pub fn of_library() -> Result<Vec<Mutation>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
    let mut files = Vec::new();
    collect(&root.join("libconduit/src"), &mut files);
    files.sort();
    let texts = files.iter().map(|path| {
        let name = path.strip_prefix(root).expect("a path in the workspace").display().to_string();
        (name, std::fs::read_to_string(path).expect("a file of the workspace"))
    });
    // The file of the macros has examples, and tests repeat the names of what they stand for.
    of_texts(texts.filter(|(name, _)| !name.ends_with("src/mutation.rs") && !name.contains("/tests")))
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The mutations of files, given by name and text.
pub fn of_texts(texts: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Mutation>, String> {
    let mut mutations: Vec<Mutation> = Vec::new();
    let mut reasons = BTreeMap::new();
    let mut faults = String::new();
    for (file, text) in texts {
        for (at, name) in names_in(&without_comments(&text)) {
            let place = format!("{file}:{}", 1 + text[..at].matches('\n').count());
            match mutations.iter().find(|it| it.name == name) {
                Some(other) => _ = writeln!(faults, "{place}: {name} is also the name of {}", other.place),
                None => mutations.push(Mutation { name, place, reason: None }),
            }
        }
        reasons.extend(reasons_in(&text).map(|(name, reason)| (name, (file.clone(), reason))));
    }
    for mutation in &mut mutations {
        mutation.reason = reasons.remove(&mutation.name).map(|(_, reason)| reason);
    }
    for (name, (file, _)) in reasons {
        _ = writeln!(faults, "{file}: a reason for {name} to survive, but there is no such mutation");
    }
    if faults.is_empty() { Ok(mutations) } else { Err(faults) }
}

/// The text with blanks in the place of comments.
fn without_comments(text: &str) -> String {
    let blank =
        |line: &str| line.split_once("//").map(|(code, comment)| code.to_owned() + &" ".repeat(comment.len() + 2));
    text.split_inclusive('\n')
        .map(|line| blank(line.trim_end_matches('\n')).map_or_else(|| line.to_owned(), |blanked| blanked + "\n"))
        .collect()
}

/// Where each macro is used, and the names that it stands for.
fn names_in(text: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("!(") {
        let word_at = text[..at].rfind(|c: char| !is_of_word(c)).map_or(0, |before| before + 1);
        let end = text[at..].find(')').map_or(text.len(), |end| at + end);
        let mut words = text[at + 2..end].split(|c: char| !is_of_word(c)).filter(|word| !word.is_empty());
        let (Some(label), order, of) = (words.next(), words.next(), words.next()) else { continue };
        match &text[word_at..at] {
            "mutated" => names.push((at, label.to_owned())),
            "step" => names.push((at, format!("{label}_left_out"))),
            "order" => {
                let weaker: &[&str] = match (order, of) {
                    (Some("SeqCst"), Some("load")) => &["acquire", "relaxed"],
                    (Some("SeqCst"), Some("fence")) => &["acqrel", "acquire", "release"],
                    (Some("SeqCst"), _) => &["acqrel", "acquire", "release", "relaxed"],
                    (Some("AcqRel"), _) => &["acquire", "release", "relaxed"],
                    _ => &["relaxed"],
                };
                names.extend(weaker.iter().map(|weaker| (at, format!("{label}_{weaker}"))));
            }
            _ => {}
        }
    }
    names
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Comments of the form `// survives NAME: REASON`, which may go on for lines.
fn reasons_in(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut lines = text.lines().map(str::trim).peekable();
    std::iter::from_fn(move || {
        let begin = lines.by_ref().find_map(|line| line.strip_prefix("// survives "))?;
        let (name, reason) = begin.split_once(": ").unwrap_or((begin, ""));
        let mut reason = reason.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("// ") && !line.starts_with("// survives ")) {
            reason += &more[2..];
        }
        Some((name.to_owned(), reason))
    })
}
