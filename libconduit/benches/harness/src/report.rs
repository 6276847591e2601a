//! The table: medians over the repeats, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::duel::{Column, Footprint, Measured, Rate};
use super::plan::{Goal, Plan, Row};
use super::statistics::{Figures, median};
use super::transport::Result;

/// A cache line that takes less than this for one way: the host has put the cores near each other.
const NEAR_NS: f64 = 100.0;
/// So many repeats in the near state are enough to leave the others out.
const ENOUGH_NEAR: usize = 3;

/// Below the table: what the figures are.
const READING: &str = "\
Two processes, each kept on a core of its own, take turns of some milliseconds. Durations are p50 (p99, p99.9), of one way \
half of a round trip; nothing is trimmed; each is the median over the repeats. In every time measured there is one look at \
the clock, back to back one in 256 messages; the p50 is taken between the clock's steps. Ratios are those of the p50, or of \
rates, of one repeat, and again the median. Limits: a cache line handed over and back by polling, a futex by blocking, as \
many buffers as the ring has slots filled and read; one look at the clock, a line transferred or a futex woken to publish; \
a cache line per message; an empty program. Near says in how many repeats a cache line took less than 100 ns to the other \
core; if there are three, only they count. Everything received was compared with what was sent.";

/// A row and what came of it, by repeat.
pub struct Line<'a> {
    pub row: &'a Row,
    pub repeats: Vec<Measured>,
}

impl Line<'_> {
    /// The repeats that count.
    fn counting(&self) -> Vec<&Measured> {
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
    fn median(&self, value: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        median(self.counting().into_iter().filter_map(value))
    }

    fn figure(&self, column: Column, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        self.median(|measured| measured.columns.get(&column).map(&figure))
    }

    fn p50(&self, column: Column) -> Option<f64> {
        self.figure(column, |figures| figures.median)
    }

    fn rate(&self, column: Column) -> Option<f64> {
        self.median(|measured| Some(received_per_second(measured.rates.get(&column)?)))
    }

    /// How much of what was sent was lost.
    fn lost(&self, column: Column) -> Option<f64> {
        self.median(|measured| {
            let rate = measured.rates.get(&column)?;
            Some(rate.lost as f64 / rate.sent.max(1) as f64)
        })
    }

    fn footprint(&self, column: Column) -> Option<Footprint> {
        self.repeats.iter().find_map(|measured| measured.footprints.get(&column).copied())
    }

    /// The median of what Conduit is of another, each within a repeat.
    fn ratio(&self, to: Column) -> Option<f64> {
        let value = |measured: &Measured, column| {
            let p50 = measured.columns.get(&column).map(|figures| figures.median);
            p50.or_else(|| measured.rates.get(&column).map(received_per_second))
        };
        self.median(|measured| Some(value(measured, Column::Ours)? / value(measured, to)?))
    }

    fn ratio_cell(&self, to: Column) -> String {
        self.ratio(to).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"))
    }

    fn cell(&self, column: Column) -> String {
        if let Some(footprint) = self.footprint(column) {
            return footprint.words();
        }
        if let Some(rate) = self.rate(column) {
            let lost = self.lost(column).filter(|&lost| lost >= 0.005);
            let lost = lost.map(|lost| format!(" received, {:.0} % lost", lost * 100.0)).unwrap_or_default();
            return format!("{:.1} M/s{lost}", rate / 1e6);
        }
        let figure = |figure: fn(&Figures) -> f64| self.figure(column, figure).map(duration).unwrap_or_default();
        match self.p50(column) {
            None => "-".into(),
            Some(p50) if column == Column::Limit => duration(p50),
            Some(p50) => format!("{} ({}, {})", duration(p50), figure(|all| all.p99), figure(|all| all.p999)),
        }
    }

    /// The limit, or what stands in its place.
    fn limit(&self) -> (String, String) {
        let beside = self.p50(Column::Reference);
        match (self.cell(Column::Limit), beside) {
            (none, Some(beside)) if none == "-" => {
                (format!("{} for one", duration(beside)), self.ratio_cell(Column::Reference))
            }
            (limit, _) => (limit, self.ratio_cell(Column::Limit)),
        }
    }

    /// The medians of means of some round trips in a row, where those were measured.
    fn without_clock(&self) -> Option<Vec<String>> {
        let one = |measured: &Measured, column| measured.columns.get(&column)?.without_clock;
        let cell = |column| self.median(|measured| one(measured, column)).map_or_else(|| "-".into(), duration);
        let ratio = |to| {
            let ratio = self.median(|measured| Some(one(measured, Column::Ours)? / one(measured, to)?));
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"))
        };
        self.median(|measured| one(measured, Column::Ours))?;
        let [limit, ours, peer] = [Column::Limit, Column::Ours, Column::Peer];
        Some(vec![self.row.title.clone(), cell(limit), cell(ours), ratio(limit), cell(peer), ratio(peer)])
    }

    /// Each goal with how far it was met.
    fn goals(&self) -> String {
        self.row.goals.iter().filter_map(|goal| self.verdict(*goal)).collect::<Vec<_>>().join("; ")
    }

    fn verdict(&self, goal: Goal) -> Option<String> {
        let at_most =
            |most: f64, ratio: f64, what: &str| (ratio <= most, format!("{most}x {what}"), format!("{ratio:.2}x"));
        let (is_met, goal, found) = match goal {
            Goal::OfLimit(most) => at_most(most, self.ratio(Column::Limit)?, "the limit"),
            Goal::OfPeer(most) => at_most(most, self.ratio(Column::Peer)?, "the peer"),
            Goal::OfReference(most, what) => at_most(most, self.ratio(Column::Reference)?, what),
            Goal::AtMost(most) => {
                let p50 = self.p50(Column::Ours)?;
                (p50 <= most, duration(most), duration(p50))
            }
            Goal::OverLimit(most) => {
                let p50 = |measured: &Measured, column| Some(measured.columns.get(&column)?.median);
                let over = self.median(|all| Some(p50(all, Column::Ours)? - p50(all, Column::Limit)?))?;
                (over <= most, format!("{} over the limit", duration(most)), duration(over))
            }
            Goal::AtLeast(least) => {
                let rate = self.rate(Column::Ours)?;
                (rate >= least, format!("{:.0} M/s", least / 1e6), format!("{:.1} M/s", rate / 1e6))
            }
            Goal::OneFile(bytes) => {
                let found = self.footprint(Column::Ours)?;
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

fn received_per_second(rate: &Rate) -> f64 {
    rate.per_second * (1.0 - rate.lost as f64 / rate.sent.max(1) as f64)
}

fn is_near(measured: &Measured) -> bool {
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
pub fn markdown(lines: &[Line<'_>], peer: Option<&str>, cores: (usize, usize), percentiles: bool) -> String {
    let mut text = format!("{}\n\n", machine(cores));
    let (spins, works): (Vec<_>, Vec<_>) = lines.iter().partition(|line| matches!(line.row.plan, Plan::Spin(_)));
    if !works.is_empty() {
        let peer = peer.unwrap_or("no peer");
        let heads = ["work", "limit", "libconduit", "to the limit", peer, "to the peer", "near", "goal"];
        let row = |line: &&Line<'_>| {
            let (limit, to_limit) = line.limit();
            let (ours, peer) = (line.cell(Column::Ours), line.cell(Column::Peer));
            vec![
                line.row.title.clone(),
                limit,
                ours,
                to_limit,
                peer,
                line.ratio_cell(Column::Peer),
                line.near(),
                line.goals(),
            ]
        };
        table(&mut text, &heads, works.iter().map(row));
    }
    if !spins.is_empty() {
        let heads = ["spin, then sleep", "p50", "p99", "p99.9", "processor time per message", "of its core", "near"];
        let row = |line: &&Line<'_>| {
            let figure =
                |figure: fn(&Figures) -> f64| line.figure(Column::Ours, figure).map(duration).unwrap_or_default();
            let cpu_ns = line.median(|measured| measured.cpu_ns).unwrap_or_default();
            let Plan::Spin(plan) = &line.row.plan else { return Vec::new() };
            let share = format!("{:.0} %", cpu_ns / (plan.period_us as f64 * 10.0));
            let figures = [figure(|all| all.p50), figure(|all| all.p99), figure(|all| all.p999)];
            [vec![line.row.title.clone()], figures.into(), vec![duration(cpu_ns), share, line.near()]].concat()
        };
        table(&mut text, &heads, spins.iter().map(row));
    }
    let without_clock: Vec<_> = works.iter().filter_map(|line| line.without_clock()).collect();
    if !without_clock.is_empty() {
        let work = "without a look at the clock in each round trip";
        let heads = [work, "limit", "libconduit", "to the limit", "peer", "to the peer"];
        table(&mut text, &heads, without_clock.into_iter());
    }
    if percentiles {
        table(
            &mut text,
            &["work", "who", "p50", "p90", "p99", "p99.9", "max", "mean", "count"],
            lines.iter().flat_map(all_figures),
        );
    }
    text.push_str(READING);
    text.push('\n');
    text
}

fn table(text: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for cells in rows {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
}

/// A row of percentiles for each column.
fn all_figures(line: &Line<'_>) -> Vec<Vec<String>> {
    let columns = [Column::Limit, Column::Reference, Column::Ours, Column::Peer];
    let row = |column: Column| {
        let figures: [fn(&Figures) -> f64; 6] =
            [|all| all.p50, |all| all.p90, |all| all.p99, |all| all.p999, |all| all.max, |all| all.mean];
        let values = figures.map(|figure| line.figure(column, figure).map(duration));
        let mut cells = vec![line.row.title.clone(), column.to_string()];
        cells.extend(values.into_iter().collect::<Option<Vec<_>>>()?);
        cells.push(
            line.counting()
                .iter()
                .filter_map(|all| all.columns.get(&column))
                .map(|all| all.count)
                .sum::<u64>()
                .to_string(),
        );
        Some(cells)
    };
    columns.into_iter().filter_map(row).collect()
}

/// What was measured in each repeat.
pub fn json(lines: &[Line<'_>]) -> Result<String> {
    let lines: BTreeMap<_, _> = lines.iter().map(|line| (&line.row.id, &line.repeats)).collect();
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

    fn row(goals: &[Goal]) -> Row {
        Row { id: "id".into(), title: "work".into(), plan: Plan::Start, seconds: 1.0, goals: goals.to_vec() }
    }

    fn figures(median: f64) -> Figures {
        let [p99, p999, max] = [2.0, 3.0, 4.0].map(|times| times * median);
        Figures { median, p50: median, p90: median, p99, p999, max, mean: median, count: 10, without_clock: None }
    }

    fn measured(line: f64, limit: f64, ours: f64) -> Measured {
        let columns = [(Column::Limit, figures(limit)), (Column::Ours, figures(ours))].into();
        Measured { line_ns: Some(line), columns, ..Measured::default() }
    }

    #[test]
    fn repeats_in_the_far_state_count_only_if_there_are_few_others() {
        let row = row(&[Goal::OfLimit(1.7), Goal::OfPeer(0.3)]);
        let near = [measured(60.0, 60.0, 90.0), measured(60.0, 60.0, 96.0), measured(60.0, 60.0, 120.0)];
        let far = [measured(200.0, 200.0, 600.0), measured(200.0, 200.0, 600.0)];
        let mut line = Line { row: &row, repeats: [&near[..], &far].concat() };
        assert_eq!((line.ratio(Column::Limit), line.near()), (Some(1.6), "3/5".into()));
        assert_eq!(line.cell(Column::Ours), "96 ns (192 ns, 288 ns)");
        assert_eq!(line.goals(), "1.7x the limit: met, 1.60x", "there is no peer");
        line.repeats = [&near[1..], &far].concat();
        assert_eq!((line.ratio(Column::Limit), line.near()), (Some(2.5), "2/4".into()));
        assert_eq!(line.goals(), "1.7x the limit: **missed**, 2.50x");
    }

    #[test]
    fn ratios_are_of_one_repeat() {
        let row = row(&[Goal::AtMost(200.0), Goal::OverLimit(100.0)]);
        let repeats = vec![measured(60.0, 100.0, 150.0), measured(60.0, 10.0, 160.0), measured(60.0, 100.0, 130.0)];
        let line = Line { row: &row, repeats };
        assert_eq!(line.ratio(Column::Limit), Some(1.5));
        assert_eq!(line.goals(), "200 ns: met, 150 ns; 100 ns over the limit: met, 50 ns");
    }

    #[test]
    fn what_is_lost_was_not_received() {
        let row = row(&[Goal::AtLeast(10e6)]);
        let rate = |lost| Rate { per_second: 12e6, sent: 100, received: 100 - lost, lost };
        let with = |lost| Measured { rates: [(Column::Ours, rate(lost))].into(), ..Measured::default() };
        let line = Line { row: &row, repeats: vec![with(25)] };
        assert_eq!(line.cell(Column::Ours), "9.0 M/s received, 25 % lost");
        assert_eq!(line.goals(), "10 M/s: **missed**, 9.0 M/s");
        assert_eq!(Line { row: &row, repeats: vec![with(0)] }.cell(Column::Ours), "12.0 M/s");
    }

    #[test]
    fn a_topic_is_one_file() {
        let row = row(&[Goal::OneFile(69_632)]);
        let goals = |files, bytes, subscriber_descriptors| {
            let footprint = Footprint { files, bytes, publisher_descriptors: 1, subscriber_descriptors };
            let footprints = [(Column::Ours, footprint)].into();
            Line { row: &row, repeats: vec![Measured { footprints, ..Measured::default() }] }.goals()
        };
        assert!(goals(1, 69_632, 1).contains(": met,"));
        for (files, bytes, descriptors) in [(2, 69_632, 1), (1, 69_633, 1), (1, 69_632, 2)] {
            assert!(goals(files, bytes, descriptors).contains(": **missed**,"));
        }
    }

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
