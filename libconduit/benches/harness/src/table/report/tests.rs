//! Tests of the report.

use super::*;

fn row(goals: &[Goal]) -> TableRow {
    TableRow { id: "id".into(), title: "work".into(), plan: Plan::Start, seconds: 1.0, goals: goals.to_vec() }
}

fn figures(median: f64) -> Figures {
    let [p99, p999, max] = [2.0, 3.0, 4.0].map(|times| times * median);
    Figures { median, p50: median, p90: median, p99, p999, max, mean: median, count: 10, without_clock: None }
}

fn measured(line: f64, limit: f64, ours: f64) -> RowResult {
    let columns = [(Entrant::Limit, figures(limit)), (Entrant::Ours, figures(ours))].into();
    RowResult { line_ns: Some(line), columns, ..RowResult::default() }
}

#[test]
fn repeats_in_the_far_state_count_only_if_there_are_few_others() {
    let row = row(&[Goal::OfLimit(1.7), Goal::OfPeer(0.3)]);
    let near = [measured(60.0, 60.0, 90.0), measured(60.0, 60.0, 96.0), measured(60.0, 60.0, 120.0)];
    let far = [measured(200.0, 200.0, 600.0), measured(200.0, 200.0, 600.0)];
    let mut line = MeasuredRow { row: &row, repeats: [&near[..], &far].concat() };
    assert_eq!((line.ratio(Entrant::Limit), line.near()), (Some(1.6), "3/5".into()));
    assert_eq!(line.cell(Entrant::Ours), "96 ns (192 ns, 288 ns)");
    assert_eq!(line.goals(), "1.7x the limit: met, 1.60x", "there is no peer");
    line.repeats = [&near[1..], &far].concat();
    assert_eq!((line.ratio(Entrant::Limit), line.near()), (Some(2.5), "2/4".into()));
    assert_eq!(line.goals(), "1.7x the limit: **missed**, 2.50x");
}

#[test]
fn ratios_are_of_one_repeat() {
    let row = row(&[Goal::AtMost(200.0), Goal::OverLimit(100.0)]);
    let repeats = vec![measured(60.0, 100.0, 150.0), measured(60.0, 10.0, 160.0), measured(60.0, 100.0, 130.0)];
    let line = MeasuredRow { row: &row, repeats };
    assert_eq!(line.ratio(Entrant::Limit), Some(1.5));
    assert_eq!(line.goals(), "200 ns: met, 150 ns; 100 ns over the limit: met, 50 ns");
}

#[test]
fn what_is_lost_was_not_received() {
    let row = row(&[Goal::AtLeast(10e6)]);
    let rate = |lost| MessageRate { per_second: 12e6, sent: 100, received: 100 - lost, lost };
    let with = |lost| RowResult { rates: [(Entrant::Ours, rate(lost))].into(), ..RowResult::default() };
    let line = MeasuredRow { row: &row, repeats: vec![with(25)] };
    assert_eq!(line.cell(Entrant::Ours), "9.0 M/s received, 25 % lost");
    assert_eq!(line.goals(), "10 M/s: **missed**, 9.0 M/s");
    assert_eq!(MeasuredRow { row: &row, repeats: vec![with(0)] }.cell(Entrant::Ours), "12.0 M/s");
}

#[test]
fn a_topic_is_one_file() {
    let row = row(&[Goal::OneFile(69_632)]);
    let goals = |files, bytes, subscriber_descriptors| {
        let footprint = Footprint { files, bytes, publisher_descriptors: 1, subscriber_descriptors };
        let footprints = [(Entrant::Ours, footprint)].into();
        MeasuredRow { row: &row, repeats: vec![RowResult { footprints, ..RowResult::default() }] }.goals()
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
