//! The rules, as written in `rules.txt`.

/// All rules.
#[derive(Debug, Default)]
pub struct Rules {
    pub crates: Vec<Layers>,
    /// Path prefixes of files that may contain `unsafe`.
    pub unsafe_files: Vec<String>,
    pub file_lines: usize,
    pub function_lines: usize,
    pub comment_columns: usize,
    /// Path prefixes of files whose types need unique names.
    pub named_files: Vec<String>,
    /// Names that several types may share.
    pub shared_names: Vec<String>,
}

/// The modules of one crate, from top to bottom.
#[derive(Debug, Default)]
pub struct Layers {
    /// The crate's root file.
    pub root: String,
    lines: Vec<Vec<String>>,
    /// Modules whose submodules may not import each other.
    pub apart: Vec<String>,
    /// Crates, each with the one module that may name it.
    pub only: Vec<(String, String)>,
}

impl Layers {
    /// The line of a module, counted from the top; the longest matching name decides.
    pub fn line_of(&self, module: &str) -> Option<usize> {
        let lines = self.lines.iter().enumerate();
        let fitting = lines.flat_map(|(line, names)| names.iter().map(move |name| (name, line)));
        fitting.filter(|(name, _)| is_inside(module, name)).max_by_key(|(name, _)| name.len()).map(|(_, line)| line)
    }
}

/// Whether `module` is `outer` or lies in it.
pub fn is_inside(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Rules {
    /// Panics on a line that it cannot parse: the file is part of this program.
    pub fn parse(text: &str) -> Self {
        let mut rules = Self::default();
        let mut section = String::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            if !line.starts_with(' ') {
                if let [section, root] = &words[..]
                    && section == "crate"
                {
                    rules.crates.push(Layers { root: root.clone(), ..Layers::default() });
                }
                section = words[0].clone();
                continue;
            }
            match section.as_str() {
                "crate" => rules.crates.last_mut().expect("a crate").take(words),
                "unsafe" => rules.unsafe_files.extend(words),
                "names" => rules.named_files.extend(words),
                "shared" => rules.shared_names.extend(words),
                "limits" => {
                    let limit = match words[0].as_str() {
                        "file" => &mut rules.file_lines,
                        "function" => &mut rules.function_lines,
                        "comment" => &mut rules.comment_columns,
                        other => panic!("no limit is called {other}"),
                    };
                    *limit = words[1].parse().expect("a number");
                }
                other => panic!("unknown section {other} in the rules"),
            }
        }
        rules
    }
}

impl Layers {
    fn take(&mut self, words: Vec<String>) {
        match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["apart", module] => self.apart.push((*module).to_owned()),
            ["only", module, "uses", krate] => self.only.push(((*krate).to_owned(), (*module).to_owned())),
            _ => self.lines.push(words),
        }
    }
}
