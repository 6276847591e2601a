//! The table: medians over the repeats, as Markdown.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::duel::{Column, Measured};
use super::plan::{Goal, Row};
use super::statistics::{Figures, median};

/// A cache line that takes less than this for one way: the host has put the cores near each other.
const NEAR_NS: f64 = 100.0;
/// So many repeats in the near state are enough to leave the others out.
const ENOUGH_NEAR: usize = 3;

/// A row and what came of it, by repeat.
pub(crate) struct Line<'a> {
    pub(crate) row: &'a Row,
    pub(crate) repeats: Vec<Measured>,
}

impl Line<'_> {
    /// The repeats that count, and whether all of them were near.
    fn counting(&self) -> Vec<&Measured> {
        let near: Vec<_> = self.repeats.iter().filter(|measured| is_near(measured)).collect();
        if near.len() >= ENOUGH_NEAR.min(self.repeats.len()) { near } else { self.repeats.iter().collect() }
    }

    fn near(&self) -> usize {
        self.repeats.iter().filter(|measured| is_near(measured)).count()
    }

    /// The median over the repeats that count.
    fn median(&self, value: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        median(self.counting().into_iter().filter_map(value))
    }

    /// The median of what one column is of another, each within a repeat.
    fn ratio(&self, of: Column, to: Column) -> Option<f64> {
        let p50 = |measured: &Measured, column| Some(measured.columns.get(&column)?.p50);
        self.median(|measured| Some(p50(measured, of)? / p50(measured, to)?))
    }

    fn figure(&self, column: Column, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        self.median(|measured| measured.columns.get(&column).map(&figure))
    }

    fn cell(&self, column: Column) -> String {
        let figure = |figure: fn(&Figures) -> f64| self.figure(column, figure).map(duration).unwrap_or_default();
        match self.figure(column, |figures| figures.p50) {
            None => "-".into(),
            Some(p50) if column == Column::Limit => duration(p50),
            Some(p50) => format!("{} ({}, {})", duration(p50), figure(|all| all.p99), figure(|all| all.p999)),
        }
    }

    fn ratio_cell(&self, to: Column) -> String {
        self.ratio(Column::Ours, to).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"))
    }

    /// Each goal with how far it was met.
    fn goals(&self) -> String {
        let verdict = |goal: &Goal| match *goal {
            Goal::OfLimit(most) => self.verdict(Column::Limit, most, "the limit"),
            Goal::OfPeer(most) => self.verdict(Column::Peer, most, "the peer"),
            Goal::OfReference(most) => self.verdict(Column::Reference, most, "64 B"),
        };
        self.row.goals.iter().filter_map(verdict).collect::<Vec<_>>().join("; ")
    }

    fn verdict(&self, to: Column, most: f64, what: &str) -> Option<String> {
        let ratio = self.ratio(Column::Ours, to)?;
        let word = if ratio <= most { "met" } else { "**missed**" };
        Some(format!("{most}x {what}: {word}, {ratio:.2}x"))
    }
}

fn is_near(measured: &Measured) -> bool {
    measured.line_ns.is_none_or(|ns| ns < NEAR_NS)
}

/// A duration in nanoseconds, with three digits and a unit.
fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999_500.0 => (ns / 1e3, "us"),
        ns if ns < 999_500_000.0 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = match value {
        value if value < 9.995 && unit != "ns" => 2,
        value if value < 99.95 && (unit != "ns" || value < 9.95) => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// All of it.
pub(crate) fn markdown(lines: &[Line<'_>], peer: Option<&str>, cores: (usize, usize)) -> String {
    let mut text = format!("{}\n\n", machine(cores));
    let peer_name = peer.unwrap_or("no peer");
    let _ = writeln!(
        text,
        "| work | limit | libconduit {} | to the limit | {peer_name} | to the peer | near | goal |\n|---|---|---|---|---|---|---|---|",
        env!("CARGO_PKG_VERSION")
    );
    for line in lines {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {}/{} | {} |",
            line.row.title,
            line.cell(Column::Limit),
            line.cell(Column::Ours),
            line.ratio_cell(Column::Limit),
            line.cell(Column::Peer),
            line.ratio_cell(Column::Peer),
            line.near(),
            line.repeats.len(),
            line.goals(),
        );
    }
    text
}

/// What was measured in each repeat.
pub(crate) fn json(lines: &[Line<'_>]) -> super::transport::Result<String> {
    let lines: std::collections::BTreeMap<_, _> = lines.iter().map(|line| (&line.row.id, &line.repeats)).collect();
    Ok(serde_json::to_string_pretty(&lines)?)
}

/// Where and when.
fn machine((first, second): (usize, usize)) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let model = field("model name").unwrap_or_else(|| "unknown processor".into());
    let virtual_machine = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let processors = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let date = Command::new("date").arg("+%F").output().map(|output| output.stdout).unwrap_or_default();
    format!(
        "{}, {model}, {processors} processors{}, Linux {}, cores {first} and {second}.",
        String::from_utf8_lossy(&date).trim(),
        if virtual_machine { " of a virtual machine" } else { "" },
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let expected = [
            (0.0, "0.0 ns"),
            (8.94, "8.9 ns"),
            (65.4, "65 ns"),
            (999.4, "999 ns"),
            (999.6, "1.00 us"),
            (27_840.0, "27.8 us"),
            (999_600.0, "1.00 ms"),
            (1_190_000.0, "1.19 ms"),
            (12_345_000_000.0, "12.3 s"),
        ];
        for (ns, text) in expected {
            assert_eq!(duration(ns), text);
        }
    }
}
