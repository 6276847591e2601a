//! The rows of the table and their goals.

use super::fan_out::FanOutPlan;
use super::plan::{LatencyPlan, Plan, PublishingPlan, ThroughputPlan};
use super::spin::SpinPlan;
use crate::Wait;
use crate::contestants::publishing::Audience;

/// What is wanted of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// At most so many times the limit.
    OfLimit(f64),
    /// At most so many times the peer.
    OfPeer(f64),
    /// At most so many times the reference, which is called so.
    OfReference(f64, &'static str),
    /// At most so many nanoseconds.
    AtMost(f64),
    /// At most so many nanoseconds more than the limit.
    OverLimit(f64),
    /// At least so many messages per second.
    AtLeast(f64),
    /// At most one file of so many bytes, and a descriptor per side.
    OneFile(u64),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    /// For `--only`.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) plan: Plan,
    /// How long to measure in one repeat.
    pub(super) seconds: f64,
    pub(super) goals: Vec<Goal>,
}

/// All rows, in the table's order.
pub(super) fn all() -> Vec<TableRow> {
    [latency_rows(), publishing_rows(), throughput_rows(), fan_out_rows(), cost_rows(), spin_rows()].concat()
}

const LARGE: usize = 12 << 20;
const SIZES: [usize; 6] = [8, 64, 1 << 10, 64 << 10, 1 << 20, LARGE];

fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn latency_row(plan: LatencyPlan, goals: &[Goal]) -> TableRow {
    let LatencyPlan { bytes, is_whole, wait, is_copied, depth, has_reference } = plan;
    let (size, is_whole) = (size(bytes), is_whole || bytes <= 64);
    let (touched, touched_id) = if is_whole { ("all bytes", "all") } else { ("header", "header") };
    let (way, way_id) = if wait == Wait::Poll { ("polling", "poll") } else { ("blocking", "block") };
    let (copied, copied_id) = if is_copied { (", copied out", "/copied") } else { ("", "") };
    let slots = depth.map(|depth| format!(", {depth} slots")).unwrap_or_default();
    let slots_id = depth.map(|depth| format!("/{depth}slots")).unwrap_or_default();
    TableRow {
        id: format!("latency/{}/{touched_id}/{way_id}{copied_id}{slots_id}", size.replace(' ', "")),
        title: format!("one way, {size}, {touched}, {way}{copied}{slots}"),
        plan: Plan::Latency(plan),
        seconds: match wait {
            Wait::Sleep => 1.2,
            Wait::Poll if is_whole && bytes > 1 << 20 => 0.8,
            Wait::Poll if has_reference => 0.4,
            Wait::Poll => 0.3,
        },
        goals: goals.to_vec(),
    }
}

fn latency_rows() -> Vec<TableRow> {
    let (wait, depth) = (Wait::Poll, None);
    let poll = |bytes, is_whole| LatencyPlan { bytes, is_whole, wait, is_copied: false, depth, has_reference: false };
    let mut rows = Vec::new();
    for bytes in SIZES {
        if bytes == LARGE {
            let plan = LatencyPlan { has_reference: true, ..poll(bytes, false) };
            rows.push(latency_row(plan, &[Goal::OfReference(1.1, "64 B")]));
        } else if bytes > 64 {
            rows.push(latency_row(poll(bytes, false), &[]));
        }
        let goals: &[Goal] = match bytes {
            64 => &[Goal::OfLimit(1.7), Goal::OfPeer(0.3)],
            LARGE => &[Goal::OfLimit(1.05)],
            _ => &[],
        };
        rows.push(latency_row(poll(bytes, true), goals));
        if bytes <= 64 {
            let goals: &[Goal] = if bytes == 64 { &[Goal::OfLimit(1.4)] } else { &[] };
            rows.push(latency_row(LatencyPlan { is_copied: true, ..poll(bytes, true) }, goals));
        }
    }
    rows.push(latency_row(LatencyPlan { depth: Some(4), ..poll(LARGE, true) }, &[Goal::OfLimit(1.05)]));
    for (bytes, is_whole) in [(64, true), (64 << 10, true), (LARGE, false), (LARGE, true)] {
        let goals: &[Goal] = if bytes == 64 { &[Goal::OfLimit(1.05)] } else { &[] };
        rows.push(latency_row(LatencyPlan { wait: Wait::Sleep, ..poll(bytes, is_whole) }, goals));
    }
    rows
}

fn publishing_rows() -> Vec<TableRow> {
    let row = |(audience, period_us, is_unstamped, most_ns): (_, Option<u64>, bool, Option<f64>)| {
        let (who, who_id) = match audience {
            Audience::Nobody => ("nobody listens", "nobody"),
            Audience::Polling => ("a subscriber polls", "polling"),
            Audience::Sleeping => ("a subscriber sleeps", "sleeping"),
            Audience::Absent => ("a subscriber is attached but absent", "absent"),
        };
        let when = period_us.map_or_else(|| "back to back".into(), |period| format!("one every {period} us"));
        let when_id = period_us.map_or_else(|| "back-to-back".into(), |period| format!("{period}us"));
        let (stamps, stamps_id) = if is_unstamped { (", time stamps off", "/unstamped") } else { ("", "") };
        TableRow {
            id: format!("publish/{who_id}/{when_id}{stamps_id}"),
            title: format!("publish 64 B, {who}, {when}{stamps}"),
            plan: Plan::Publishing(PublishingPlan { audience, period_us, is_unstamped }),
            seconds: if period_us.is_some_and(|period| period > 10) { 0.5 } else { 0.25 },
            goals: most_ns.map(Goal::AtMost).into_iter().collect(),
        }
    };
    let rows = [
        (Audience::Nobody, None, false, Some(35.0)),
        (Audience::Nobody, None, true, Some(10.0)),
        (Audience::Nobody, Some(10), false, None),
        (Audience::Polling, None, false, None),
        (Audience::Polling, Some(10), false, Some(80.0)),
        (Audience::Sleeping, None, false, None),
        (Audience::Sleeping, Some(10), false, None),
        (Audience::Sleeping, Some(200), false, None),
        (Audience::Absent, None, false, None),
        (Audience::Absent, Some(10), false, None),
    ];
    rows.into_iter().map(row).collect()
}

fn throughput_rows() -> Vec<TableRow> {
    let mut rows = Vec::new();
    for (is_lossless, way, way_id) in [(true, "lossless window of 256", "window"), (false, "free running", "free")] {
        for (is_batched, is_copied, how, how_id) in [
            (false, false, "one by one", "one"),
            (false, true, "one by one, copied out", "copied"),
            (true, false, "received in batches", "batch"),
        ] {
            let least = is_lossless.then_some(Goal::AtLeast(if is_batched { 20e6 } else { 10e6 }));
            rows.push(TableRow {
                id: format!("throughput/{way_id}/{how_id}"),
                title: format!("64 B messages per second, {way}, {how}"),
                plan: Plan::Throughput(ThroughputPlan { is_lossless, is_batched, is_copied }),
                seconds: 0.4,
                goals: least.into_iter().collect(),
            });
        }
    }
    rows
}

fn fan_out_rows() -> Vec<TableRow> {
    let mut rows = Vec::new();
    for (wait, way, way_id, seconds) in [(Wait::Poll, "polling", "poll", 0.3), (Wait::Sleep, "sleeping", "block", 0.6)]
    {
        for subscribers in [1, 2, 4, 8, 32] {
            let goal = (wait == Wait::Poll && subscribers == 8).then_some(Goal::OfReference(1.5, "one subscriber"));
            rows.push(TableRow {
                id: format!("fan-out/{subscribers}/{way_id}"),
                title: format!("publish 64 B to {subscribers} {way}"),
                plan: Plan::FanOut(FanOutPlan { subscribers, wait }),
                seconds,
                goals: goal.into_iter().collect(),
            });
        }
    }
    rows
}

fn cost_rows() -> Vec<TableRow> {
    let row = |id: &str, title: &str, plan, seconds, goal| {
        let (id, title) = (id.into(), title.into());
        TableRow { id, title, plan, seconds, goals: vec![goal] }
    };
    vec![
        row("start", "start of a process to its first message", Plan::Start, 0.5, Goal::OverLimit(300e3)),
        row("memory", "memory of a default topic with one subscriber", Plan::Footprint, 0.0, Goal::OneFile(69_632)),
    ]
}

fn spin_rows() -> Vec<TableRow> {
    let mut rows = Vec::new();
    for period_us in [20, 100, 1000] {
        for spin_us in [0, 10, 50, 100, 1000] {
            rows.push(TableRow {
                id: format!("spin/{spin_us}us/{period_us}us"),
                title: format!("one message every {period_us} us, spin {spin_us} us"),
                plan: Plan::Spin(SpinPlan { spin_us, period_us }),
                seconds: 0.3,
                goals: Vec::new(),
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_an_id_of_its_own() {
        let mut ids: Vec<_> = all().into_iter().map(|row| row.id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
