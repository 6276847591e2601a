//! A row with its repeats: medians, ratios, and how they are written.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::entrant::Entrant;
use super::plan::Plan;
use super::result::{Footprint, MessageRate, RowResult};
use super::rows::TableRow;
use crate::statistics::{Figures, median, widest_gap};

/// So many repeats in the near state are enough to leave the others out.
const ENOUGH_NEAR: usize = 3;
/// Times of a cache line that differ by less than this factor are of one state.
const LEAST_GAP: f64 = 1.5;

/// A row and what came of it, by repeat.
pub(super) struct MeasuredRow<'a> {
    pub(super) row: &'a TableRow,
    pub(super) repeats: Vec<RowResult>,
    /// One way of a cache line takes less than this if the cores are near each other.
    pub(super) near_ns: Option<f64>,
}

/// Decides which repeats of all rows were near: those of the faster group, if there are two.
pub(super) fn find_near(rows: &mut [MeasuredRow<'_>]) {
    let lines = rows.iter().flat_map(|row| &row.repeats).filter_map(|measured| measured.line_ns);
    let near_ns = widest_gap(lines, LEAST_GAP);
    rows.iter_mut().for_each(|row| row.near_ns = near_ns);
}

impl MeasuredRow<'_> {
    /// The repeats that count: in one state, so that their median is of something.
    pub(super) fn counting(&self) -> Vec<&RowResult> {
        let (near, far): (Vec<_>, Vec<_>) = self.repeats.iter().partition(|measured| self.is_near(measured));
        if near.len() >= ENOUGH_NEAR.min(self.repeats.len()) { near } else { far }
    }

    /// How many of the repeats were near.
    pub(super) fn near(&self) -> String {
        if self.repeats.iter().all(|measured| measured.line_ns.is_none()) {
            return "-".into();
        }
        let near = self.repeats.iter().filter(|measured| self.is_near(measured)).count();
        format!("{near}/{}", self.repeats.len())
    }

    pub(super) fn is_near(&self, measured: &RowResult) -> bool {
        self.near_ns.is_none_or(|near_ns| measured.line_ns.is_none_or(|ns| ns < near_ns))
    }

    /// The median over the repeats that count.
    pub(super) fn median(&self, value: impl Fn(&RowResult) -> Option<f64>) -> Option<f64> {
        median(self.counting().into_iter().filter_map(value))
    }

    pub(super) fn figure(&self, entrant: Entrant, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        self.median(|measured| measured.columns.get(&entrant).map(&figure))
    }

    pub(super) fn p50(&self, entrant: Entrant) -> Option<f64> {
        self.figure(entrant, |figures| figures.median)
    }

    pub(super) fn rate(&self, entrant: Entrant) -> Option<f64> {
        self.median(|measured| Some(received_per_second(measured.rates.get(&entrant)?)))
    }

    /// How much of what was sent was lost.
    fn lost(&self, entrant: Entrant) -> Option<f64> {
        self.median(|measured| {
            let rate = measured.rates.get(&entrant)?;
            Some(rate.lost as f64 / rate.sent.max(1) as f64)
        })
    }

    pub(super) fn footprint(&self, entrant: Entrant) -> Option<Footprint> {
        self.repeats.iter().find_map(|measured| measured.footprints.get(&entrant).copied())
    }

    /// The median of what Conduit is of another, each within a repeat.
    pub(super) fn ratio(&self, to: Entrant) -> Option<f64> {
        self.ratio_of(to, |measured, entrant| {
            let p50 = measured.columns.get(&entrant).map(|figures| figures.median);
            p50.or_else(|| measured.rates.get(&entrant).map(received_per_second))
        })
    }

    pub(super) fn ratio_of(&self, to: Entrant, value: impl Fn(&RowResult, Entrant) -> Option<f64>) -> Option<f64> {
        self.median(|measured| Some(value(measured, Entrant::Ours)? / value(measured, to)?))
    }

    pub(super) fn cell(&self, entrant: Entrant) -> String {
        if let Some(footprint) = self.footprint(entrant) {
            return footprint.words();
        }
        if let Some(lost) = self.repeats.iter().filter_map(|measured| measured.lost).max() {
            return if entrant == Entrant::Ours { format!("{lost} lost") } else { "-".into() };
        }
        if let Some(rate) = self.rate(entrant) {
            let lost = self.lost(entrant).filter(|&lost| lost >= 0.005);
            let lost = lost.map(|lost| format!(" received, {:.0} % lost", lost * 100.0)).unwrap_or_default();
            return format!("{:.1} M/s{lost}", rate / 1e6);
        }
        let figure = |figure: fn(&Figures) -> f64| self.figure(entrant, figure).map(duration).unwrap_or_default();
        match self.p50(entrant) {
            None => "-".into(),
            Some(p50) if entrant < Entrant::Ours => duration(p50),
            Some(p50) => format!("{} ({}, {})", duration(p50), figure(|all| all.p99), figure(|all| all.p999)),
        }
    }

    /// The median of what this takes without a read of the clock in each round trip.
    pub(super) fn unclocked(&self, entrant: Entrant) -> Option<f64> {
        self.median(|measured| without_clock(measured, entrant))
    }

    /// The row of a subscriber that waits in some way.
    pub(super) fn wait_cells(&self) -> Option<Vec<String>> {
        let Plan::Wait(plan) = &self.row.plan else { return None };
        let figures: [fn(&Figures) -> f64; 3] = [|all| all.p50, |all| all.p99, |all| all.p999];
        let [p50, p99, p999] =
            figures.map(|figure| self.figure(Entrant::Ours, figure).map(duration).unwrap_or_default());
        let cpu_ns = self.median(|result| result.cpu_ns).unwrap_or_default();
        let share = format!("{:.0} %", cpu_ns / (plan.period_us as f64 * 10.0));
        Some(vec![self.row.title.clone(), p50, p99, p999, duration(cpu_ns), share, self.near()])
    }

    /// The entrant of this name, whatever its version.
    pub(super) fn peer(&self, name: &str) -> Option<Entrant> {
        self.entrants().into_iter().find(|entrant| matches!(entrant, Entrant::Peer(full) if full.starts_with(name)))
    }

    /// Who was measured.
    pub(super) fn entrants(&self) -> BTreeSet<Entrant> {
        let keys = |measured: &RowResult| -> Vec<Entrant> {
            let RowResult { columns, rates, footprints, .. } = measured;
            columns.keys().chain(rates.keys()).chain(footprints.keys()).copied().collect()
        };
        self.repeats.iter().flat_map(keys).collect()
    }
}

pub(super) fn without_clock(measured: &RowResult, entrant: Entrant) -> Option<f64> {
    measured.columns.get(&entrant)?.without_clock
}

impl Footprint {
    pub(super) fn words(&self) -> String {
        let Self { files, bytes, publisher_descriptors, subscriber_descriptors } = self;
        let plural = if *files == 1 { "" } else { "s" };
        format!(
            "{files} file{plural}, {} KiB, {publisher_descriptors} + {subscriber_descriptors} descriptors",
            bytes / 1024
        )
    }
}

pub(super) fn ratio_cell(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"))
}

fn received_per_second(rate: &MessageRate) -> f64 {
    rate.per_second * (1.0 - rate.lost as f64 / rate.sent.max(1) as f64)
}

/// A duration in nanoseconds, with two or three digits and a unit.
pub(super) fn duration(ns: f64) -> String {
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

/// Adds a table, unless it would be empty.
pub(super) fn table(text: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
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
