//! Tests of the report.

use super::*;
use crate::machine::ByVendor;
use crate::table::measured::find_near;
use crate::table::result::{Footprint, MessageRate, RowResult};
use crate::table::rows::{Goal, TableRow};

fn row(goals: &[Goal]) -> TableRow {
    TableRow {
        id: "id".into(),
        title: "work".into(),
        plan: Plan::Start,
        seconds: 1.0,
        goals: goals.to_vec(),
        earlier_goals: Vec::new(),
    }
}

fn figures(median: f64) -> Figures {
    let [p99, p999, max] = [2.0, 3.0, 4.0].map(|times| times * median);
    Figures { median, p50: median, p90: median, p99, p999, max, mean: median, count: 10, without_clock: None }
}

fn measured(line: f64, limit: f64, ours: f64) -> RowResult {
    let columns = [(Entrant::Limit, figures(limit)), (Entrant::Ours, figures(ours))].into();
    RowResult { line_ns: Some(line), columns, ..RowResult::default() }
}

fn line(row: &TableRow, repeats: Vec<RowResult>) -> MeasuredRow<'_> {
    let mut rows = [MeasuredRow { row, repeats, near_ns: None }];
    find_near(&mut rows);
    let [line] = rows;
    line
}

const AMD: &str = "AuthenticAMD";

#[test]
fn repeats_of_one_state_count() {
    let row = row(&[Goal::OfLimit(1.7), Goal::OfPeer("ring", 0.3)]);
    let near = [measured(60.0, 60.0, 90.0), measured(60.0, 60.0, 96.0), measured(60.0, 60.0, 120.0)];
    let far = [measured(200.0, 200.0, 600.0), measured(200.0, 200.0, 600.0)];
    let most = line(&row, [&near[..], &far].concat());
    assert_eq!((most.ratio(Entrant::Limit), most.near()), (Some(1.6), "3/5".into()));
    assert_eq!(most.cell(Entrant::Ours), "96 ns (192 ns, 288 ns)");
    assert_eq!(most.goals(AMD), "1.7x the limit: met, 1.60x", "there is no peer");
    let few = line(&row, [&near[1..], &far].concat());
    assert_eq!((few.ratio(Entrant::Limit), few.near()), (Some(3.0), "2/4".into()));
    assert_eq!(few.goals(AMD), "1.7x the limit: **missed**, 3.00x");
}

#[test]
fn all_repeats_count_where_every_core_is_as_far() {
    let row = row(&[]);
    let repeats = [106.0, 116.0, 111.0].map(|line| measured(line, 100.0, 150.0));
    assert_eq!(line(&row, repeats.into()).near(), "3/3");
    let unknown = RowResult { line_ns: None, ..measured(0.0, 1.0, 1.0) };
    assert_eq!(line(&row, vec![unknown]).near(), "-");
}

#[test]
fn near_is_decided_over_all_rows() {
    let row = row(&[]);
    let rows = [vec![measured(60.0, 1.0, 1.0)], vec![measured(200.0, 1.0, 1.0)]];
    let mut rows = rows.map(|repeats| MeasuredRow { row: &row, repeats, near_ns: None });
    find_near(&mut rows);
    assert_eq!(line_words(&rows).unwrap(), "60 ns near and 200 ns far");
    assert_eq!(line_words(&rows[..1]).unwrap(), "60 ns");
    assert_eq!(rows.map(|row| row.near()), ["1/1", "0/1"]);
}

#[test]
fn ratios_are_of_one_repeat() {
    let (at_most, over) = (ByVendor { amd: 200.0, intel: 140.0 }, ByVendor { amd: 100.0, intel: 40.0 });
    let row = row(&[Goal::AtMost(at_most), Goal::OverLimit(over)]);
    let repeats = vec![measured(60.0, 100.0, 150.0), measured(60.0, 10.0, 160.0), measured(60.0, 100.0, 130.0)];
    let line = line(&row, repeats);
    assert_eq!(line.ratio(Entrant::Limit), Some(1.5));
    assert_eq!(line.goals(AMD), "200 ns: met, 150 ns; 100 ns over the limit: met, 50 ns");
    let missed = "140 ns: **missed**, 150 ns; 40 ns over the limit: **missed**, 50 ns";
    assert_eq!(line.goals("GenuineIntel"), missed);
    assert_eq!(line.goals("another"), "");
}

#[test]
fn what_is_lost_was_not_received() {
    let row = row(&[Goal::AtLeast(10e6), Goal::OfLimit(0.5)]);
    let rate = |lost| MessageRate { per_second: 12e6, sent: 100, received: 100 - lost, lost };
    let with = |lost| RowResult {
        rates: [(Entrant::Ours, rate(lost)), (Entrant::Limit, rate(0))].into(),
        ..RowResult::default()
    };
    let lossy = line(&row, vec![with(60)]);
    assert_eq!(lossy.cell(Entrant::Ours), "4.8 M/s received, 60 % lost");
    assert_eq!(lossy.goals(AMD), "10 M/s: **missed**, 4.8 M/s; 0.5x the limit: **missed**, 0.40x");
    let lossless = line(&row, vec![with(0)]);
    assert_eq!(lossless.cell(Entrant::Ours), "12.0 M/s");
    assert_eq!(lossless.goals(AMD), "10 M/s: met, 12.0 M/s; 0.5x the limit: met, 1.00x");
}

#[test]
fn a_topic_is_one_file() {
    let row = row(&[Goal::OneFile(69_632)]);
    let goals = |files, bytes, subscriber_descriptors| {
        let footprint = Footprint { files, bytes, publisher_descriptors: 1, subscriber_descriptors };
        let footprints = [(Entrant::Ours, footprint)].into();
        line(&row, vec![RowResult { footprints, ..RowResult::default() }]).goals(AMD)
    };
    assert!(goals(1, 69_632, 1).contains(": met,"));
    for (files, bytes, descriptors) in [(2, 69_632, 1), (1, 69_633, 1), (1, 69_632, 2)] {
        assert!(goals(files, bytes, descriptors).contains(": **missed**,"));
    }
}

#[test]
fn a_table_has_a_column_for_everybody_measured() {
    let row = row(&[Goal::OfPeer("ring", 1.0)]);
    let mut with_peer = measured(60.0, 60.0, 90.0);
    with_peer.columns.insert(Entrant::Peer("ring 2.1"), figures(100.0));
    let (with, without) = (line(&row, vec![with_peer]), line(&row, vec![measured(60.0, 60.0, 90.0)]));
    let group = RowGroup { id: "cost", work: "work", reference: "" };
    let mut text = String::new();
    let ends = |row: &MeasuredRow<'_>| Some([row.near(), row.goals(AMD)]);
    let cell = |row: &MeasuredRow<'_>, entrant: Entrant| row.cell(entrant);
    let ratio = |row: &MeasuredRow<'_>, to: Entrant| row.ratio(to);
    let title = |row: &MeasuredRow<'_>| row.row.title.clone();
    compare(&mut text, &group, &[&with, &without], title, cell, ratio, ends);
    let expected = "\
| work | limit | Conduit | to the limit | ring 2.1 | to ring | near | goal |
|---|---|---|---|---|---|---|---|
| work | 60 ns | 90 ns (180 ns, 270 ns) | 1.50x | 100 ns (200 ns, 300 ns) | 0.90x | 1/1 | 1x ring: met, 0.90x |
| work | 60 ns | 90 ns (180 ns, 270 ns) | 1.50x | - | - | 1/1 |  |

";
    assert_eq!(text, expected);
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

#[test]
fn a_goal_is_a_line_of_its_own() {
    let goals = [Goal::OfLimit(1.4), Goal::OfPeer("ring", 1.0), Goal::OfPeer("absent", 1.0)];
    let mut row = TableRow { id: "rate/id".into(), earlier_goals: vec![Goal::OfLimit(2.0)], ..row(&goals) };
    let mut with_peer = measured(60.0, 60.0, 90.0);
    with_peer.columns.insert(Entrant::Peer("ring 2.1"), figures(100.0));
    let mut text = String::new();
    goals::tables(&mut text, &[line(&row, vec![with_peer])], AMD);
    let expected = "\
| work | limit | Conduit | ratio | peer | goal | met |
|---|---|---|---|---|---|---|
| 64 B messages per second: work | 60 ns | 90 ns | 1.50x | - | 1.4x the limit | **no** |
| 64 B messages per second: work | 60 ns | 90 ns | 0.90x | ring 2.1: 100 ns | 1x ring | yes |

| work, of earlier goals | limit | Conduit | ratio | peer | goal | met |
|---|---|---|---|---|---|---|
| 64 B messages per second: work | 60 ns | 90 ns | 1.50x | - | 2x the limit | yes |

";
    assert_eq!(text, expected);

    (row.goals, row.earlier_goals) = (vec![Goal::NothingLost], Vec::new());
    let lost = |lost| RowResult { lost: Some(lost), ..RowResult::default() };
    assert_eq!(line(&row, vec![lost(0), lost(0)]).goals(AMD), "nothing lost: met, 0 lost");
    assert_eq!(line(&row, vec![lost(0), lost(2)]).goals(AMD), "nothing lost: **missed**, 2 lost");
}
