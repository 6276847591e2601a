//! Asks herd7.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use super::aarch64::{self, Instructions};
use super::c11;
use super::pair::Pair;

/// The models that each test is run in, in the order of a form's verdicts.
pub const MODELS: [Model; 4] = [
    Model { name: "C11", cat: "c11_partialSC.cat", program: c11::program },
    Model { name: "RC11", cat: "rc11.cat", program: c11::program },
    Model { name: "LSE", cat: "aarch64.cat", program: |pair| aarch64::program(pair, Instructions::Lse) },
    Model { name: "LL/SC", cat: "aarch64.cat", program: |pair| aarch64::program(pair, Instructions::LoadLinked) },
];

pub struct Model {
    pub name: &'static str,
    /// The file of herd7 that has it.
    cat: &'static str,
    program: fn(&Pair) -> String,
}

/// Whether a bad outcome is possible. In the models of C11, a data race is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Never,
    Sometimes,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Sometimes => "sometimes",
        }
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Never, Self::Sometimes].into_iter().find(|it| it.name() == text).ok_or(format!("{text} is no verdict"))
    }
}

impl Model {
    /// What it says of a test.
    ///
    /// # Errors
    ///
    /// If herd7 cannot be run, or does not accept the test: the test, and what it says.
    pub fn verdict(&self, pair: &Pair) -> Result<Verdict, String> {
        let program = (self.program)(pair);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.litmus", std::process::id()));
        fs::write(&file, &program).map_err(|error| format!("{}: {error}", file.display()))?;
        let output = Command::new("herd7").args(["-model", self.cat]).arg(&file).output();
        let output = output.map_err(|error| format!("herd7 cannot be run: {error}"))?;
        let _ = fs::remove_file(&file);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        read(&said, pair.threads.len()).ok_or_else(|| format!("{}: herd7 says\n{said}\nof\n{program}", self.name))
    }
}

/// Reads what herd7 prints. `None` also if there is an error, or if never all threads come to their
/// ends, where no outcome would count.
fn read(said: &str, threads: usize) -> Option<Verdict> {
    let observation = said.lines().find(|line| line.starts_with("Observation "))?;
    let is_race = said.lines().any(|line| line == "Flag *undef*");
    let is_end = |state: &str, thread| {
        [c11::DONE, aarch64::DONE].iter().any(|done| state.contains(&format!("{thread}:{done}=1;")))
    };
    let has_ends = said.lines().any(|state| (0..threads).all(|thread| is_end(state, thread)));
    match observation.split_whitespace().nth(2)? {
        _ if !has_ends || said.contains("Warning:") => None,
        "Never" if !is_race => Some(Verdict::Never),
        "Never" | "Sometimes" | "Always" => Some(Verdict::Sometimes),
        _ => None,
    }
}
