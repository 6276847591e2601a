//! What was measured, and the bounds.

use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long one kind of deed took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// None if no deed succeeded.
    p50_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl Times {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        Self { p50_ms: times.get(times.len() / 2).map(ms), max_ms: times.last().map(ms) }
    }

    fn calmer(self, other: Self) -> Self {
        let less = |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).min_by(f64::total_cmp);
        Self { p50_ms: less(self.p50_ms, other.p50_ms), max_ms: less(self.max_ms, other.max_ms) }
    }

    /// The median as a multiple of the idle machine's.
    fn ratio(&self, idle: &Self) -> Option<f64> {
        Some(self.p50_ms? / idle.p50_ms?)
    }
}

/// What an honest client has measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    pub list: Times,
    pub connection: Times,
    pub create: Times,
    pub reaping: Times,
    /// Of a message to a subscriber that sleeps.
    pub delivery: Times,
    /// What went wrong: one sentence each.
    pub failures: Vec<String>,
}

impl Figures {
    /// The lesser figures of two spells: what disturbs one of them must not excuse an attack.
    pub fn calmer(self, other: Self) -> Self {
        Self {
            list: self.list.calmer(other.list),
            connection: self.connection.calmer(other.connection),
            create: self.create.calmer(other.create),
            reaping: self.reaping.calmer(other.reaping),
            delivery: self.delivery.calmer(other.delivery),
            failures: [self.failures, other.failures].concat(),
        }
    }

    fn deeds(&self) -> [(&'static str, &Times); 5] {
        [
            ("List", &self.list),
            ("connection", &self.connection),
            ("create", &self.create),
            ("reaping", &self.reaping),
            ("delivery", &self.delivery),
        ]
    }
}

/// By how much an attack may slow an honest client down.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// p50, as a multiple of the idle machine's: of the deeds in the order of the table.
    ratios: [f64; 5],
    /// The longest time in milliseconds.
    most_ms: [f64; 5],
}

const NO_BOUND: f64 = f64::INFINITY;

impl Bounds {
    pub const ALL: Self =
        Self { ratios: [3.0, 3.0, 5.0, 5.0, NO_BOUND], most_ms: [NO_BOUND, NO_BOUND, 50.0, 50.0, NO_BOUND] };
    pub const NONE: Self = Self { ratios: [NO_BOUND; 5], most_ms: [NO_BOUND; 5] };

    fn missed(&self, idle: &Figures, beside: &Figures) -> Vec<String> {
        let mut missed = Vec::new();
        let bounds = self.ratios.iter().zip(self.most_ms);
        for (((deed, beside), (_, idle)), (ratio, most_ms)) in beside.deeds().into_iter().zip(idle.deeds()).zip(bounds)
        {
            let found = beside.ratio(idle);
            // What was never done is reported as a failure.
            if let Some(found) = found.filter(|found| found > ratio) {
                missed.push(format!("{deed} takes {found:.1} times as long as idle, at most {ratio} are allowed"));
            }
            if let Some(found) = beside.max_ms.filter(|found| *found > most_ms) {
                missed.push(format!("{deed} took {found:.1} ms, at most {most_ms} are allowed"));
            }
        }
        missed
    }
}

/// What the daemon has kept after an attack.
#[derive(Clone, Debug)]
pub struct Recovery {
    pub descriptors: [usize; 2],
    pub memory_kib: [usize; 2],
    /// How long after the attack both were back; otherwise they never were.
    pub took: Option<Duration>,
}

/// The table of results, and the bounds that were missed so far.
#[derive(Debug, Default)]
pub struct Table {
    attack: String,
    missed: Vec<String>,
}

impl Table {
    pub fn begin(idle: &Figures) -> Self {
        println!("median in ms (times idle) longest in ms");
        print!("{:<50}", "beside a user who");
        idle.deeds().iter().for_each(|(deed, _)| print!("{deed:<20}"));
        println!();
        let mut table = Self::default();
        table.row("nobody", idle, idle, Bounds::ALL);
        table
    }

    /// A row of its own; `what` begins with spaces if it continues the last attack's.
    pub fn row(&mut self, what: &str, idle: &Figures, beside: &Figures, bounds: Bounds) {
        if !what.starts_with(' ') {
            self.attack = what.into();
        }
        print!("{what:<50}");
        for ((_, times), (_, idle)) in beside.deeds().into_iter().zip(idle.deeds()) {
            let text = format!("{} ({}) {}", short(times.p50_ms), short(times.ratio(idle)), short(times.max_ms));
            print!("{text:<20}");
        }
        println!();
        bounds.missed(idle, beside).iter().for_each(|sentence| self.miss(what, sentence));
        for sentence in &beside.failures {
            self.failure(what, sentence);
        }
    }

    pub fn failure(&mut self, what: &str, sentence: &str) {
        println!("  FAILED: {sentence}");
        self.miss(what, sentence);
    }

    fn miss(&mut self, what: &str, sentence: &str) {
        let continued = if what.starts_with(' ') { format!(" ({})", what.trim()) } else { String::new() };
        self.missed.push(format!("{}{continued}: {sentence}", self.attack));
    }

    pub fn recovery(&mut self, recovery: &Recovery) {
        let [before, after] = recovery.memory_kib.map(|kib| kib as f64 / 1024.0);
        let [few, many] = recovery.descriptors;
        let when = recovery.took.map_or("never back".into(), |took| format!("back after {:.1} s", took.as_secs_f64()));
        let sentence =
            format!("the daemon's memory {before:.1} MiB before, {after:.1} after; descriptors {few}, {many}; {when}");
        println!("  {sentence}");
        if recovery.took.is_none() {
            self.miss("  afterwards", &sentence);
        }
    }

    /// Prints what was missed.
    pub fn end(self) -> ExitCode {
        if self.missed.is_empty() {
            println!("all within the bounds");
            return ExitCode::SUCCESS;
        }
        println!("\n{} bounds missed:", self.missed.len());
        self.missed.iter().for_each(|sentence| println!("  {sentence}"));
        ExitCode::FAILURE
    }
}

/// Three digits, as far as they are before or right after the point; "-" for nothing.
fn short(number: Option<f64>) -> String {
    match number {
        None => "-".into(),
        Some(large) if large >= 99.95 => format!("{large:.0}"),
        Some(medium) if medium >= 9.995 => format!("{medium:.1}"),
        Some(small) => format!("{small:.2}"),
    }
}
