//! What an earlier run of the same test programs has found out, so that one that was interrupted
//! continues, and one for a few mutations does not measure all tests again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// A file in the folder that cargo gives to tests.
pub struct File {
    path: PathBuf,
    pub known: Known,
}

/// What is known of these programs, and of no others.
#[derive(Default, Serialize, Deserialize)]
pub struct Known {
    /// Length and time of change of each.
    programs: BTreeMap<PathBuf, (u64, u64)>,
    pub tests: Vec<Measured>,
    /// The rows of mutations that were accounted for: seconds, how, and which test.
    pub rows: BTreeMap<String, (f64, String, String)>,
}

/// A test without a mutation.
#[derive(Clone, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub program: PathBuf,
    pub seconds: f64,
    pub reached: BTreeSet<String>,
}

impl File {
    /// Forgets the tests of programs that have changed; and all rows, if one has.
    pub fn of(programs: &[PathBuf]) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations.json");
        let before = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut known: Known = before.unwrap_or_default();
        let programs = programs.iter().map(|program| (program.clone(), stamp(program))).collect();
        if known.programs != programs {
            known.tests.retain(|test| programs.get(&test.program) == known.programs.get(&test.program));
            known.rows.clear();
            known.programs = programs;
        }
        Self { path, known }
    }

    pub fn save(&self) {
        let text = serde_json::to_vec_pretty(&self.known).expect("paths are text");
        if let Err(error) = std::fs::write(&self.path, text) {
            eprintln!("{}: {error}; the next run begins anew", self.path.display());
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn stamp(program: &Path) -> (u64, u64) {
    let metadata = std::fs::metadata(program).expect("a program that was just built");
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    (metadata.len(), changed.unwrap_or_default().as_nanos() as u64)
}
