//! The table: medians over the repeats, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::entrant::Entrant;
use super::plan::Plan;
use super::result::{Footprint, MessageRate, RowResult};
use super::rows::{Goal, TableRow};
use crate::Result;
use crate::cores::CorePair;
use crate::machine::{cpu_field, kernel_release};
use crate::statistics::{Figures, median};

/// If one way of a cache line takes less than this, the host has put the cores near each other.
const NEAR_NS: f64 = 100.0;
/// So many repeats in the near state are enough to leave the others out.
const ENOUGH_NEAR: usize = 3;

/// Below the table: how to read it.
const READING: &str = "\
Two processes, each pinned to a core of its own, take turns of some milliseconds. Durations are p50 (p99, p99.9), of one \
way half of a round trip; nothing is trimmed; each is the median over the repeats. Every time measured contains one read \
of the clock, back to back one in 256 messages; the p50 is interpolated between the clock's steps. Ratios are those of \
the p50, or of rates, within one repeat, and again the median. Limits: a cache line handed over and back by polling, a \
futex by blocking, as many buffers as the ring has slots filled and read; one read of the clock, a line transferred or a \
futex woken to publish; a cache line per message; an empty program. Near counts the repeats in which a cache line took \
less than 100 ns to the other core; if there are three, only they count. Everything received was compared with what was \
sent.";

/// A row and what came of it, by repeat.
pub(super) struct MeasuredRow<'a> {
    pub(super) row: &'a TableRow,
    pub(super) repeats: Vec<RowResult>,
}

impl MeasuredRow<'_> {
    /// The repeats that count.
    fn counting(&self) -> Vec<&RowResult> {
        let near: Vec<_> = self.repeats.iter().filter(|measured| is_near(measured)).collect();
        if near.len() >= ENOUGH_NEAR.min(self.repeats.len()) { near } else { self.repeats.iter().collect() }
    }

    /// How many of the repeats were near.
    fn near(&self) -> String {
        if self.repeats.iter().all(|measured| measured.line_ns.is_none()) {
            return "-".into();
        }
        let near = self.repeats.iter().filter(|measured| is_near(measured)).count();
        format!("{near}/{}", self.repeats.len())
    }

    /// The median over the repeats that count.
    fn median(&self, value: impl Fn(&RowResult) -> Option<f64>) -> Option<f64> {
        median(self.counting().into_iter().filter_map(value))
    }

    fn figure(&self, entrant: Entrant, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        self.median(|measured| measured.columns.get(&entrant).map(&figure))
    }

    fn p50(&self, entrant: Entrant) -> Option<f64> {
        self.figure(entrant, |figures| figures.median)
    }

    fn rate(&self, entrant: Entrant) -> Option<f64> {
        self.median(|measured| Some(received_per_second(measured.rates.get(&entrant)?)))
    }

    /// How much of what was sent was lost.
    fn lost(&self, entrant: Entrant) -> Option<f64> {
        self.median(|measured| {
            let rate = measured.rates.get(&entrant)?;
            Some(rate.lost as f64 / rate.sent.max(1) as f64)
        })
    }

    fn footprint(&self, entrant: Entrant) -> Option<Footprint> {
        self.repeats.iter().find_map(|measured| measured.footprints.get(&entrant).copied())
    }

    /// The median of what Conduit is of another, each within a repeat.
    fn ratio(&self, to: Entrant) -> Option<f64> {
        self.ratio_of(to, |measured, entrant| {
            let p50 = measured.columns.get(&entrant).map(|figures| figures.median);
            p50.or_else(|| measured.rates.get(&entrant).map(received_per_second))
        })
    }

    fn ratio_of(&self, to: Entrant, value: impl Fn(&RowResult, Entrant) -> Option<f64>) -> Option<f64> {
        self.median(|measured| Some(value(measured, Entrant::Ours)? / value(measured, to)?))
    }

    fn cell(&self, entrant: Entrant) -> String {
        if let Some(footprint) = self.footprint(entrant) {
            return footprint.words();
        }
        if let Some(rate) = self.rate(entrant) {
            let lost = self.lost(entrant).filter(|&lost| lost >= 0.005);
            let lost = lost.map(|lost| format!(" received, {:.0} % lost", lost * 100.0)).unwrap_or_default();
            return format!("{:.1} M/s{lost}", rate / 1e6);
        }
        let figure = |figure: fn(&Figures) -> f64| self.figure(entrant, figure).map(duration).unwrap_or_default();
        match self.p50(entrant) {
            None => "-".into(),
            Some(p50) if entrant == Entrant::Limit => duration(p50),
            Some(p50) => format!("{} ({}, {})", duration(p50), figure(|all| all.p99), figure(|all| all.p999)),
        }
    }

    /// The limit, or what stands in its place.
    fn limit(&self) -> (String, String) {
        let beside = self.p50(Entrant::Reference);
        match (self.cell(Entrant::Limit), beside) {
            (none, Some(beside)) if none == "-" => {
                (format!("{} for one", duration(beside)), ratio_cell(self.ratio(Entrant::Reference)))
            }
            (limit, _) => (limit, ratio_cell(self.ratio(Entrant::Limit))),
        }
    }

    /// The medians of means of some round trips in a row, where those were measured.
    fn without_clock(&self) -> Option<Vec<String>> {
        let one = |measured: &RowResult, entrant| measured.columns.get(&entrant)?.without_clock;
        let cell = |entrant| self.median(|measured| one(measured, entrant)).map_or_else(|| "-".into(), duration);
        let ratio = |to| ratio_cell(self.ratio_of(to, one));
        self.median(|measured| one(measured, Entrant::Ours))?;
        let [limit, ours, peer] = [Entrant::Limit, Entrant::Ours, Entrant::Peer];
        Some(vec![self.row.title.clone(), cell(limit), cell(ours), ratio(limit), cell(peer), ratio(peer)])
    }

    /// The row of the first table.
    fn work_cells(&self) -> Vec<String> {
        let (limit, to_limit) = self.limit();
        let (ours, peer, to_peer) =
            (self.cell(Entrant::Ours), self.cell(Entrant::Peer), ratio_cell(self.ratio(Entrant::Peer)));
        vec![self.row.title.clone(), limit, ours, to_limit, peer, to_peer, self.near(), self.goals()]
    }

    /// The row of the second table, of subscribers that spin.
    fn spin_cells(&self) -> Option<Vec<String>> {
        let Plan::Spin(plan) = &self.row.plan else { return None };
        let figures: [fn(&Figures) -> f64; 3] = [|all| all.p50, |all| all.p99, |all| all.p999];
        let [p50, p99, p999] =
            figures.map(|figure| self.figure(Entrant::Ours, figure).map(duration).unwrap_or_default());
        let cpu_ns = self.median(|result| result.cpu_ns).unwrap_or_default();
        let share = format!("{:.0} %", cpu_ns / (plan.period_us as f64 * 10.0));
        Some(vec![self.row.title.clone(), p50, p99, p999, duration(cpu_ns), share, self.near()])
    }

    /// Each goal with how far it was met.
    fn goals(&self) -> String {
        self.row.goals.iter().filter_map(|goal| self.verdict(*goal)).collect::<Vec<_>>().join("; ")
    }

    fn verdict(&self, goal: Goal) -> Option<String> {
        let at_most =
            |most: f64, ratio: f64, what: &str| (ratio <= most, format!("{most}x {what}"), format!("{ratio:.2}x"));
        let (is_met, goal, found) = match goal {
            Goal::OfLimit(most) => at_most(most, self.ratio(Entrant::Limit)?, "the limit"),
            Goal::OfPeer(most) => at_most(most, self.ratio(Entrant::Peer)?, "the peer"),
            Goal::OfReference(most, what) => at_most(most, self.ratio(Entrant::Reference)?, what),
            Goal::AtMost(most) => {
                let p50 = self.p50(Entrant::Ours)?;
                (p50 <= most, duration(most), duration(p50))
            }
            Goal::OverLimit(most) => {
                let p50 = |measured: &RowResult, entrant| Some(measured.columns.get(&entrant)?.median);
                let over = self.median(|all| Some(p50(all, Entrant::Ours)? - p50(all, Entrant::Limit)?))?;
                (over <= most, format!("{} over the limit", duration(most)), duration(over))
            }
            Goal::AtLeast(least) => {
                let rate = self.rate(Entrant::Ours)?;
                (rate >= least, format!("{:.0} M/s", least / 1e6), format!("{:.1} M/s", rate / 1e6))
            }
            Goal::OneFile(bytes) => {
                let found = self.footprint(Entrant::Ours)?;
                let few = found.publisher_descriptors.max(found.subscriber_descriptors) <= 1;
                let goal = Footprint { files: 1, bytes, publisher_descriptors: 1, subscriber_descriptors: 1 };
                (found.files <= 1 && found.bytes <= bytes && few, goal.words(), found.words())
            }
        };
        Some(format!("{goal}: {}, {found}", if is_met { "met" } else { "**missed**" }))
    }
}

impl Footprint {
    fn words(&self) -> String {
        let Self { files, bytes, publisher_descriptors, subscriber_descriptors } = self;
        let plural = if *files == 1 { "" } else { "s" };
        format!(
            "{files} file{plural}, {} KiB, {publisher_descriptors} + {subscriber_descriptors} descriptors",
            bytes / 1024
        )
    }
}

fn ratio_cell(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"))
}

fn received_per_second(rate: &MessageRate) -> f64 {
    rate.per_second * (1.0 - rate.lost as f64 / rate.sent.max(1) as f64)
}

fn is_near(measured: &RowResult) -> bool {
    measured.line_ns.is_none_or(|ns| ns < NEAR_NS)
}

/// A duration in nanoseconds, with two or three digits and a unit.
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
pub(super) fn markdown(
    rows: &[MeasuredRow<'_>],
    peer: Option<&str>,
    cores: &CorePair,
    has_percentiles: bool,
) -> String {
    let mut text = format!("{}\n\n", machine(cores));
    let (spins, works): (Vec<_>, Vec<_>) = rows.iter().partition(|row| matches!(row.row.plan, Plan::Spin(_)));
    let peer = peer.unwrap_or("no peer");
    let heads = ["work", "limit", "libconduit", "to the limit", peer, "to the peer", "near", "goal"];
    table(&mut text, &heads, works.iter().map(|row| row.work_cells()));
    let heads = ["spin, then sleep", "p50", "p99", "p99.9", "processor time per message", "of its core", "near"];
    table(&mut text, &heads, spins.iter().filter_map(|row| row.spin_cells()));
    let work = "without a read of the clock in each round trip";
    let heads = [work, "limit", "libconduit", "to the limit", "peer", "to the peer"];
    table(&mut text, &heads, works.iter().filter_map(|row| row.without_clock()));
    if has_percentiles {
        let heads = ["work", "who", "p50", "p90", "p99", "p99.9", "max", "mean", "count"];
        table(&mut text, &heads, rows.iter().flat_map(all_figures));
    }
    text.push_str(READING);
    text.push('\n');
    text
}

/// Adds a table, unless it would be empty.
fn table(text: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for cells in rows {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
}

/// A row of percentiles for each entrant.
fn all_figures(line: &MeasuredRow<'_>) -> Vec<Vec<String>> {
    let entrants = [Entrant::Limit, Entrant::Reference, Entrant::Ours, Entrant::Peer];
    let row = |entrant: Entrant| {
        let figures: [fn(&Figures) -> f64; 6] =
            [|all| all.p50, |all| all.p90, |all| all.p99, |all| all.p999, |all| all.max, |all| all.mean];
        let values = figures.map(|figure| line.figure(entrant, figure).map(duration));
        let mut cells = vec![line.row.title.clone(), entrant.to_string()];
        cells.extend(values.into_iter().collect::<Option<Vec<_>>>()?);
        cells.push(
            line.counting()
                .iter()
                .filter_map(|all| all.columns.get(&entrant))
                .map(|all| all.count)
                .sum::<u64>()
                .to_string(),
        );
        Some(cells)
    };
    entrants.into_iter().filter_map(row).collect()
}

/// What was measured in each repeat.
pub(super) fn json(rows: &[MeasuredRow<'_>]) -> Result<String> {
    let repeats: BTreeMap<_, _> = rows.iter().map(|row| (&row.row.id, &row.repeats)).collect();
    Ok(serde_json::to_string_pretty(&repeats)?)
}

/// Where and when.
fn machine(cores: &CorePair) -> String {
    let model = cpu_field("model name").unwrap_or_else(|| "unknown processor".into());
    let is_virtual = cpu_field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let date = Command::new("date").arg("+%F").output().map(|output| output.stdout).unwrap_or_default();
    format!(
        "{}, {model}, {} processors{}, Linux {}, cores {} and {}.",
        String::from_utf8_lossy(&date).trim(),
        info.lines().filter(|line| line.starts_with("processor")).count(),
        if is_virtual { " of a virtual machine" } else { "" },
        kernel_release(),
        cores.first,
        cores.second,
    )
}

#[cfg(test)]
mod tests;
