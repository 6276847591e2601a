//! The table: medians over the repeats, as Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use super::entrant::Entrant;
use super::goals;
use super::measured::{MeasuredRow, duration, ratio_cell, table, without_clock};
use super::options::TableOptions;
use super::plan::Plan;
use super::rows::{GROUPS, RowGroup};
use crate::Result;
use crate::cores::CorePair;
use crate::machine::{cpu_field, is_virtual, kernel_release};
use crate::statistics::{Figures, median};

/// Below the table: how to read it.
const READING: &str = "\
Two processes, each pinned to a core of its own, take turns of some milliseconds. Durations are p50 (p99, p99.9), of one \
way half of a round trip; nothing is trimmed; each is the median over the repeats. Every time measured contains one read \
of the clock, back to back one in 256 messages; the p50 is interpolated between the clock's steps. Ratios are those of \
the p50, or of rates, within one repeat, and again the median. Limits: a cache line handed over and back by polling, a \
futex by blocking, two buffers (or as many as the ring has slots) filled and read; one read of the clock, a line \
transferred or a futex woken to publish; a cache line per message; an empty program. Near counts the repeats in which \
the host had the cores near each other: if the times of a cache line fall into two groups, those of the faster one; if \
there are three, only they count, else only the others. Everything received was compared with what was sent.";

/// All of it, or the tables of goals.
pub(super) fn markdown(rows: &[MeasuredRow<'_>], cores: &CorePair, options: &TableOptions) -> String {
    let mut text = format!("{}\n\n", machine(rows, cores));
    let vendor_id = cpu_field("vendor_id").unwrap_or_default();
    if options.goals {
        goals::tables(&mut text, rows, &vendor_id);
        text.push_str(READING);
        text.push('\n');
        return text;
    }
    for group in &GROUPS {
        let (waits, works): (Vec<_>, Vec<_>) =
            rows.iter().filter(|row| row.row.is_of(group)).partition(|row| matches!(row.row.plan, Plan::Wait(_)));
        let cells = |row: &MeasuredRow<'_>, entrant: Entrant| row.cell(entrant);
        let ratio = |row: &MeasuredRow<'_>, to: Entrant| row.ratio(to);
        let title = |row: &MeasuredRow<'_>| row.row.title.clone();
        compare(&mut text, group, &works, title, cells, ratio, |row| Some([row.near(), row.goals(&vendor_id)]));
        let heads = [group.work, "p50", "p99", "p99.9", "processor time per message", "of its core", "near"];
        table(&mut text, &heads, waits.iter().filter_map(|row| row.wait_cells()));
    }
    text.push_str(READING);
    text.push_str("\n\n");
    let unclocked: Vec<_> = rows.iter().filter(|row| row.unclocked(Entrant::Ours).is_some()).collect();
    let group = RowGroup { id: "", work: "without a read of the clock in each round trip", reference: "another" };
    let cells = |row: &MeasuredRow<'_>, entrant| row.unclocked(entrant).map_or_else(|| "-".into(), duration);
    let ratio = |row: &MeasuredRow<'_>, to| row.ratio_of(to, without_clock);
    let name = |row: &MeasuredRow<'_>| row.row.id.clone();
    compare(&mut text, &group, &unclocked, name, cells, ratio, |_| None);
    if options.percentiles {
        let heads = ["row", "who", "p50", "p90", "p99", "p99.9", "max", "mean", "count"];
        table(&mut text, &heads, rows.iter().flat_map(all_figures));
    }
    text
}

/// Adds a table of rows side by side: a column for everybody measured in one of them, and after all
/// but one how Conduit compares.
fn compare(
    text: &mut String,
    group: &RowGroup,
    rows: &[&MeasuredRow<'_>],
    title: impl Fn(&MeasuredRow<'_>) -> String,
    cell: impl Fn(&MeasuredRow<'_>, Entrant) -> String,
    ratio: impl Fn(&MeasuredRow<'_>, Entrant) -> Option<f64>,
    ends: impl Fn(&MeasuredRow<'_>) -> Option<[String; 2]>,
) {
    let everybody: BTreeSet<Entrant> = rows.iter().flat_map(|row| row.entrants()).collect();
    let name = |entrant: &Entrant| match *entrant {
        Entrant::Line | Entrant::Between => None,
        Entrant::Limit => Some("limit".into()),
        Entrant::RingLimit => Some("limit, all slots".into()),
        Entrant::Reference => Some(group.reference.into()),
        Entrant::Ours => Some("Conduit".into()),
        Entrant::Buffers(_) | Entrant::Peer(_) => Some(entrant.to_string()),
    };
    // Conduit stands between what is no competitor and the peers.
    let beside = everybody.range(..=Entrant::Ours).map(|entrant| (*entrant, false));
    let compared = [Entrant::Limit, Entrant::Reference].into_iter().filter(|entrant| everybody.contains(entrant));
    let peers = everybody.iter().filter(|entrant| matches!(entrant, Entrant::Peer(_)));
    let columns: Vec<(Entrant, bool)> = beside
        .chain(compared.map(|entrant| (entrant, true)))
        .chain(peers.flat_map(|peer| [(*peer, false), (*peer, true)]))
        .filter(|(entrant, _)| name(entrant).is_some())
        .collect();
    let mut heads = vec![group.work.to_owned()];
    heads.extend(columns.iter().filter_map(|(entrant, is_ratio)| {
        Some(match entrant {
            _ if !is_ratio => name(entrant)?,
            Entrant::Limit => "to the limit".into(),
            Entrant::Peer(name) => format!("to {}", name.split(' ').next().unwrap_or(name)),
            _ => format!("to {}", name(entrant)?),
        })
    }));
    let has_ends = rows.first().is_some_and(|row| ends(row).is_some());
    heads.extend(["near", "goal"].into_iter().filter(|_| has_ends).map(String::from));
    let cells = |row: &&MeasuredRow<'_>| {
        let mut cells = vec![title(row)];
        cells.extend(columns.iter().map(|&(entrant, is_ratio)| match is_ratio {
            false => cell(row, entrant),
            true => ratio_cell(ratio(row, entrant)),
        }));
        cells.extend(ends(row).into_iter().flatten());
        cells
    };
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    table(text, &heads, rows.iter().map(cells));
}

/// A row of percentiles for each entrant.
fn all_figures(line: &MeasuredRow<'_>) -> Vec<Vec<String>> {
    let row = |entrant: Entrant| {
        let figures: [fn(&Figures) -> f64; 6] =
            [|all| all.p50, |all| all.p90, |all| all.p99, |all| all.p999, |all| all.max, |all| all.mean];
        let values = figures.map(|figure| line.figure(entrant, figure).map(duration));
        let mut cells = vec![line.row.id.clone(), entrant.to_string()];
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
    line.entrants().into_iter().filter_map(row).collect()
}

/// What was measured in each repeat.
pub(super) fn json(rows: &[MeasuredRow<'_>]) -> Result<String> {
    let repeats: BTreeMap<_, _> = rows.iter().map(|row| (&row.row.id, &row.repeats)).collect();
    Ok(serde_json::to_string_pretty(&repeats)?)
}

/// What a cache line takes, in each state.
fn line_words(rows: &[MeasuredRow<'_>]) -> Option<String> {
    let of = |is_near: bool| {
        let of_row = |row: &MeasuredRow<'_>| -> Vec<f64> {
            let repeats = row.repeats.iter().filter(|measured| row.is_near(measured) == is_near);
            repeats.filter_map(|measured| measured.line_ns).collect()
        };
        median(rows.iter().flat_map(of_row)).map(duration)
    };
    match (of(true), of(false)) {
        (Some(near), Some(far)) => Some(format!("{near} near and {far} far")),
        (near, far) => near.or(far),
    }
}

/// Where and when.
fn machine(rows: &[MeasuredRow<'_>], cores: &CorePair) -> String {
    let model = cpu_field("model name").unwrap_or_else(|| "unknown processor".into());
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = line_words(rows).map(|line| format!("; a cache line takes {line}")).unwrap_or_default();
    let date = Command::new("date").arg("+%F").output().map(|output| output.stdout).unwrap_or_default();
    format!(
        "{}, {model}, {} processors{}, Linux {}, {}{line}.",
        String::from_utf8_lossy(&date).trim(),
        info.lines().filter(|line| line.starts_with("processor")).count(),
        if is_virtual() { " of a virtual machine" } else { "" },
        kernel_release(),
        cores.words(),
    )
}

#[cfg(test)]
mod tests;
