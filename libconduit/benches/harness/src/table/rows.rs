//! The rows of the table and their goals.

use super::fan_out::FanOutPlan;
use super::plan::Plan;
use super::waiting::{WaitPlan, Waiting};
use super::works::{LatencyPlan, LatencyReference, PublishingPlan, ReceivingWay, RowWork, ThroughputPlan};
use crate::Wait;
use crate::contestants::publishing::Audience;
use crate::contestants::stream::StreamBatches;
use crate::machine::ByVendor;

/// What is wanted of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// At most so many times the limit; of rates, at least.
    OfLimit(f64),
    /// At most so many times the peer of this name.
    OfPeer(&'static str, f64),
    /// At most so many times the reference, which is called so.
    OfReference(f64, &'static str),
    /// At most so many nanoseconds.
    AtMost(ByVendor),
    /// At most so many nanoseconds more than the limit.
    OverLimit(ByVendor),
    /// At least so many messages per second.
    AtLeast(f64),
    /// At most one file of so many bytes, and a descriptor per side.
    OneFile(u64),
    /// Every message is received.
    NothingLost,
}

/// Rows that are measured alike, and a table of their own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowGroup {
    /// Where its rows' names start.
    pub(super) id: &'static str,
    /// Head of its table's first column.
    pub(super) work: &'static str,
    /// What its rows have as a reference.
    pub(super) reference: &'static str,
}

impl RowGroup {
    const fn new(id: &'static str, work: &'static str, reference: &'static str) -> Self {
        Self { id, work, reference }
    }
}

#[rustfmt::skip]
pub(super) const GROUPS: [RowGroup; 12] = [
    RowGroup::new("small", "one way, polling", ""),
    RowGroup::new("bytes", "one way, all bytes, polling", ""),
    RowGroup::new("buffers", "one way, all bytes, no library", ""),
    RowGroup::new("header", "one way, header only, polling", "64 B"),
    RowGroup::new("behind", "a subscriber that falls behind", ""),
    RowGroup::new("sleep", "one way, blocking", ""),
    RowGroup::new("pairs", "one way, 64 B, polling", "the first pair"),
    RowGroup::new("publish", "publish 64 B", ""),
    RowGroup::new("rate", "64 B messages per second", ""),
    RowGroup::new("fan-out", "publish 64 B to", "one subscriber"),
    RowGroup::new("cost", "cost", ""),
    RowGroup::new("wait", "ways to wait", ""),
];

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    /// What it is called on the command line: a group, and what is special.
    pub(super) id: String,
    /// What is special, in words.
    pub(super) title: String,
    pub(super) plan: Plan,
    /// How long to measure in one repeat.
    pub(super) seconds: f64,
    pub(super) goals: Vec<Goal>,
    /// Of layouts of regions before the present one.
    pub(super) earlier_goals: Vec<Goal>,
}

impl TableRow {
    pub(super) fn is_of(&self, group: &RowGroup) -> bool {
        self.id.split('/').next() == Some(group.id)
    }

    pub(super) fn has_goals(&self) -> bool {
        !self.goals.is_empty() || !self.earlier_goals.is_empty()
    }
}

/// All rows, in the table's order.
pub(super) fn all() -> Vec<TableRow> {
    let mut rows = [
        latency_rows(),
        behind_rows(),
        buffer_rows(),
        pair_rows(),
        publishing_rows(),
        throughput_rows(),
        fan_out_rows(),
        cost_rows(),
        wait_rows(),
    ]
    .concat();
    for row in &mut rows {
        row.earlier_goals.extend(EARLIER_GOALS.iter().filter(|(id, _)| row.id == *id).map(|(_, goal)| *goal));
    }
    rows
}

/// Goals of layout 2, by the rows' ids.
const EARLIER_GOALS: [(&str, Goal); 6] = [
    ("small/64B/inplace", Goal::OfPeer(ICEORYX, 0.3)),
    ("header/12MiB", Goal::OfReference(1.1, "64 B")),
    ("sleep/64B/allbytes", Goal::OfLimit(1.05)),
    ("publish/polling/10us", Goal::AtMost(ByVendor { amd: 80.0, intel: 80.0 })),
    ("fan-out/8/poll", Goal::OfReference(1.5, "one subscriber")),
    ("cost/start", Goal::OverLimit(ByVendor { amd: 300e3, intel: 300e3 })),
];

const ICEORYX: &str = "iceoryx2";
const RINGFIRE: &str = "ringfire";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const LARGE: usize = 12 * MIB;

fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= MIB => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}

fn latency_row(group: &str, plan: LatencyPlan, goals: &[Goal]) -> TableRow {
    let LatencyPlan { bytes, is_whole, wait, way, depth, retain, reference } = plan;
    let mut title = vec![size(bytes)];
    // The group says the rest.
    title.extend((bytes <= 64 && group == "small").then(|| way.words().into()));
    title.extend((group == "sleep").then(|| if is_whole { "all bytes" } else { "header" }.into()));
    title.extend(depth.map(|depth| format!("{depth} slots")));
    title.extend(retain.map(|messages| format!("retain {messages}")));
    let id: String = title.iter().map(|part| format!("/{}", part.replace([' ', ','], ""))).collect();
    TableRow {
        id: format!("{group}{id}"),
        title: title.join(", "),
        plan: Plan::Turns(RowWork::Latency(plan)),
        seconds: match wait {
            Wait::Sleep => 1.2,
            Wait::Poll if is_whole && bytes > MIB => 0.8,
            Wait::Poll if reference.is_some() || bytes > 64 => 0.4,
            Wait::Poll => 0.3,
        },
        goals: goals.to_vec(),
        earlier_goals: Vec::new(),
    }
}

#[rustfmt::skip]
fn latency_rows() -> Vec<TableRow> {
    let poll = LatencyPlan::filled;
    let unretained = |bytes| LatencyPlan { retain: Some(0), ..poll(bytes) };
    let header = |bytes| LatencyPlan { is_whole: false, ..poll(bytes) };
    let lent = |bytes| LatencyPlan { way: ReceivingWay::Lent, ..poll(bytes) };
    let copied = |bytes| LatencyPlan { way: ReceivingWay::CopiedOut, ..poll(bytes) };
    let blocking = |plan| LatencyPlan { wait: Wait::Sleep, ..plan };
    let beside_small = LatencyPlan { reference: Some(LatencyReference::Small), ..header(LARGE) };
    let (limit, peer) = (Goal::OfLimit(1.05), Goal::OfPeer(ICEORYX, 0.95));
    let ringfire = Goal::OfPeer(RINGFIRE, 1.0);
    [
        ("small", poll(8), &[][..]),
        ("small", copied(8), &[]),
        ("small", poll(64), &[Goal::OfLimit(1.45), ringfire]),
        ("small", lent(64), &[Goal::OfLimit(1.45), ringfire]),
        ("small", copied(64), &[Goal::OfLimit(1.2), ringfire]),
        ("bytes", poll(KIB), &[]),
        ("bytes", poll(64 * KIB), &[limit, peer]),
        ("bytes", poll(256 * KIB), &[limit, peer]),
        ("bytes", poll(MIB), &[limit, peer]),
        ("bytes", poll(4 * MIB), &[limit, peer]),
        ("bytes", poll(LARGE), &[peer]),
        ("bytes", unretained(4 * MIB), &[peer]),
        ("bytes", unretained(LARGE), &[peer]),
        ("header", header(KIB), &[]),
        ("header", header(64 * KIB), &[]),
        ("header", header(MIB), &[]),
        ("header", beside_small, &[]),
        ("sleep", blocking(poll(64)), &[]),
        ("sleep", blocking(poll(64 * KIB)), &[]),
        ("sleep", blocking(header(LARGE)), &[]),
        ("sleep", blocking(poll(LARGE)), &[]),
    ]
    .map(|(group, plan, goals)| latency_row(group, plan, goals))
    .into()
}

fn behind_rows() -> Vec<TableRow> {
    let row = |bytes| TableRow {
        id: format!("behind/{}", size(bytes).replace(' ', "")),
        title: format!("{}, by 1 to 15 messages, 16 slots", size(bytes)),
        plan: Plan::Behind { bytes },
        seconds: 0.0,
        goals: vec![Goal::NothingLost],
        earlier_goals: Vec::new(),
    };
    [64, MIB].map(row).into()
}

fn buffer_rows() -> Vec<TableRow> {
    let row = |bytes| TableRow {
        id: format!("buffers/{}", size(bytes).replace(' ', "")),
        title: size(bytes),
        plan: Plan::Turns(RowWork::Buffers { bytes }),
        seconds: 0.5,
        goals: Vec::new(),
        earlier_goals: Vec::new(),
    };
    [64 * KIB, 256 * KIB, MIB, 4 * MIB, LARGE].map(row).into()
}

fn pair_rows() -> Vec<TableRow> {
    let row = |(pairs, which): (u32, &str), way: ReceivingWay| {
        let how = way.words();
        let reference = Some(LatencyReference::FirstPair { pairs });
        TableRow {
            id: format!("pairs/{which}/{}", how.replace(' ', "")),
            title: format!("{which} pair of topics of a process, {how}"),
            plan: Plan::Turns(RowWork::Latency(LatencyPlan { way, reference, ..LatencyPlan::filled(64) })),
            seconds: 0.4,
            goals: vec![Goal::OfReference(1.05, "the first pair")],
            earlier_goals: Vec::new(),
        }
    };
    [(2, "second"), (3, "third")]
        .into_iter()
        .flat_map(|pair| [ReceivingWay::InPlace, ReceivingWay::CopiedOut].map(|way| row(pair, way)))
        .collect()
}

fn publishing_rows() -> Vec<TableRow> {
    let row = |(audience, period_us, is_unstamped, depth, goal): (_, Option<u64>, bool, Option<u64>, Option<Goal>)| {
        let (who, who_id) = match audience {
            Audience::Nobody => ("no subscriber", "nobody"),
            Audience::Polling => ("a polling subscriber", "polling"),
            Audience::Sleeping => ("a sleeping subscriber", "sleeping"),
            Audience::Absent => ("a subscriber that does not receive", "absent"),
        };
        let when = period_us.map_or_else(|| "back to back".into(), |period| format!("one every {period} us"));
        let when_id = period_us.map_or_else(|| "back-to-back".into(), |period| format!("{period}us"));
        let (stamps, stamps_id) = if is_unstamped { (", without time stamps", "/unstamped") } else { ("", "") };
        let slots = depth.map(|depth| format!(", {depth} slots")).unwrap_or_default();
        TableRow {
            id: format!("publish/{who_id}/{when_id}{stamps_id}{}", slots.replace(", ", "/").replace(' ', "")),
            title: format!("{who}, {when}{stamps}{slots}"),
            plan: Plan::Turns(RowWork::Publishing(PublishingPlan { audience, period_us, is_unstamped, depth })),
            seconds: if period_us.is_some_and(|period| period > 10) { 0.5 } else { 0.25 },
            goals: goal.into_iter().collect(),
            earlier_goals: Vec::new(),
        }
    };
    let stamped = Some(Goal::OverLimit(ByVendor { amd: 9.0, intel: 14.0 }));
    let unstamped = Some(Goal::AtMost(ByVendor { amd: 7.0, intel: 10.0 }));
    let rows = [
        (Audience::Nobody, None, false, None, stamped),
        (Audience::Nobody, None, false, Some(1024), stamped),
        (Audience::Nobody, None, true, None, unstamped),
        (Audience::Nobody, None, true, Some(1024), unstamped),
        (Audience::Nobody, Some(10), false, None, None),
        (Audience::Polling, None, false, None, None),
        (Audience::Polling, Some(10), false, None, None),
        (Audience::Sleeping, None, false, None, None),
        (Audience::Sleeping, Some(10), false, None, None),
        (Audience::Sleeping, Some(200), false, None, None),
        (Audience::Absent, None, false, None, None),
        (Audience::Absent, Some(10), false, None, None),
    ];
    rows.into_iter().map(row).collect()
}

#[rustfmt::skip]
fn throughput_rows() -> Vec<TableRow> {
    let [singly, received, both] = [(false, false), (false, true), (true, true)]
        .map(|(sent, received)| StreamBatches { sent, received });
    let (one, many) = (&[Goal::AtLeast(15e6)][..], &[Goal::AtLeast(30e6), Goal::OfLimit(0.3)][..]);
    let ways = [
        (singly, ReceivingWay::InPlace, "one by one", "one", one),
        (singly, ReceivingWay::Lent, "one by one, lent", "one-lent", one),
        (singly, ReceivingWay::CopiedOut, "one by one, copied out", "one-copied", one),
        (received, ReceivingWay::InPlace, "received in batches", "batch", &[]),
        (received, ReceivingWay::CopiedOut, "received in batches, copied out", "batch-copied", &[]),
        (both, ReceivingWay::InPlace, "sent and received in batches", "batches", &[]),
        (both, ReceivingWay::CopiedOut, "sent and received in batches, copied out", "batches-copied", many),
    ];
    let row = |is_lossless: bool, (batches, way, how, how_id, goals): (_, _, _, _, &[Goal])| {
        let (pace, pace_id) = if is_lossless { ("lossless window of 256", "window") } else { ("free running", "free") };
        TableRow {
            id: format!("rate/{pace_id}/{how_id}"),
            title: format!("{pace}, {how}"),
            plan: Plan::Turns(RowWork::Throughput(ThroughputPlan { is_lossless, batches, way })),
            seconds: 0.4,
            goals: if is_lossless { goals.to_vec() } else { Vec::new() },
            earlier_goals: Vec::new(),
        }
    };
    [true, false].into_iter().flat_map(|is_lossless| ways.map(|way| row(is_lossless, way))).collect()
}

fn fan_out_rows() -> Vec<TableRow> {
    let mut rows = Vec::new();
    for (wait, way, way_id, seconds) in [(Wait::Poll, "polling", "poll", 0.3), (Wait::Sleep, "sleeping", "block", 0.6)]
    {
        for subscribers in [1, 2, 4, 8, 32] {
            let most = match (wait, subscribers) {
                (Wait::Sleep, 32) => Some(1.5),
                (Wait::Sleep, 8) => Some(1.2),
                _ => None,
            };
            rows.push(TableRow {
                id: format!("fan-out/{subscribers}/{way_id}"),
                title: format!("{subscribers} {way}"),
                plan: Plan::Turns(RowWork::FanOut(FanOutPlan { subscribers, wait, period_us: None })),
                seconds,
                goals: most.map(|most| Goal::OfReference(most, "one subscriber")).into_iter().collect(),
                earlier_goals: Vec::new(),
            });
        }
    }
    rows
}

fn cost_rows() -> Vec<TableRow> {
    let row = |id: &str, title: &str, plan, seconds, goal: Option<Goal>| {
        let (id, title) = (id.into(), title.into());
        TableRow { id, title, plan, seconds, goals: goal.into_iter().collect(), earlier_goals: Vec::new() }
    };
    let (small, default) = (Plan::Footprint { is_default: false }, Plan::Footprint { is_default: true });
    vec![
        row("cost/start", "start of a process to its first message", Plan::Start, 0.5, None),
        row("cost/memory/64B", "memory of a topic of 64 B messages", small, 0.0, Some(Goal::OneFile(12 << 10))),
        row("cost/memory/bytes", "memory of a topic of bytes", default, 0.0, Some(Goal::OneFile(69_632))),
    ]
}

fn wait_rows() -> Vec<TableRow> {
    let fixed = [10, 50, 100, 1000].map(|us| Waiting::Spin { us });
    let ways = [Waiting::Block].into_iter().chain(fixed).chain([Waiting::Adaptive]);
    let row = |period_us, waiting| {
        let (way, way_id) = match waiting {
            Waiting::Block => ("block".into(), "block".into()),
            Waiting::Spin { us } => (format!("spin {us} us"), format!("spin{us}us")),
            Waiting::Adaptive => ("adaptive".into(), "adaptive".into()),
        };
        TableRow {
            id: format!("wait/{period_us}us/{way_id}"),
            title: format!("one message every {period_us} us, {way}"),
            plan: Plan::Wait(WaitPlan { waiting, period_us }),
            seconds: 0.3,
            goals: Vec::new(),
            earlier_goals: Vec::new(),
        }
    };
    [5, 20, 100, 1000].into_iter().flat_map(|period_us| ways.clone().map(move |way| row(period_us, way))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_an_id_of_its_own_in_one_group() {
        let rows = all();
        let mut ids: Vec<_> = rows.iter().map(|row| &row.id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for row in &rows {
            assert_eq!(GROUPS.iter().filter(|group| row.is_of(group)).count(), 1, "{}", row.id);
        }
        for group in &GROUPS {
            assert!(rows.iter().any(|row| row.is_of(group)), "{}", group.id);
        }
        for (id, _) in EARLIER_GOALS {
            assert!(rows.iter().any(|row| row.id == id), "{id}");
        }
    }
}
