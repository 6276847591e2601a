//! The rows of the table: what is measured, and what is wanted of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duel::{self, Measured, Wait};
use super::latency::Latency;
use super::processes::Second;
use super::transport::{All, Place, Result};

/// What both processes do for a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Plan {
    Latency(Latency),
}

impl Plan {
    /// The first process's part.
    pub(crate) fn measure<P: All>(&self, place: &Place, second: &mut Second, time: Duration) -> Result<Measured> {
        match self {
            Self::Latency(plan) => {
                let players = plan.players::<P>(place)?;
                duel::play(second, players, time, plan.turn(), plan.warm_up_rounds())
            }
        }
    }

    /// The second process's part.
    pub(crate) fn follow<P: All>(&self, place: &Place) -> Result<()> {
        match self {
            Self::Latency(plan) => duel::follow(plan.partners::<P>(place)?),
        }
    }
}

/// What a goal compares Conduit with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// So many times the limit, at most.
    OfLimit(f64),
    /// So many times the peer, at most.
    OfPeer(f64),
    /// So many times the easier work beside, at most.
    OfReference(f64),
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// For `--only`.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) plan: Plan,
    /// How long to measure in one repeat.
    pub(crate) seconds: f64,
    pub(crate) goals: Vec<Goal>,
}

/// All rows, in the table's order.
pub(crate) fn rows() -> Vec<Row> {
    latency_rows()
}

const SIZES: [(usize, &str); 6] =
    [(8, "8 B"), (64, "64 B"), (1 << 10, "1 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (12 << 20, "12 MiB")];
const LARGE: usize = 12 << 20;

fn latency_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |size: &str, plan: Latency, goals: &[Goal]| {
        let Latency { bytes, whole, wait, copied, depth, with_small } = plan;
        let touched = if bytes <= 64 || whole { "all bytes" } else { "header" };
        let (way, way_id) = match wait {
            Wait::Poll => ("polling", "poll"),
            Wait::Sleep => ("blocking", "block"),
        };
        let how = if copied { ", copied out" } else { "" };
        let slots = depth.map(|depth| format!(", {depth} slots")).unwrap_or_default();
        let mut id = format!("latency/{}/{}/{way_id}", size.replace(' ', ""), touched.split(' ').next().unwrap_or_default());
        if copied {
            id.push_str("/copied");
        }
        if let Some(depth) = depth {
            id = format!("{id}/{depth}slots");
        }
        let seconds = match (wait, whole && bytes > 1 << 20) {
            (Wait::Sleep, _) => 1.2,
            (Wait::Poll, true) => 0.8,
            (Wait::Poll, false) => 0.3 + if with_small { 0.1 } else { 0.0 },
        };
        let title = format!("one way, {size}, {touched}, {way}{how}{slots}");
        rows.push(Row { id, title, plan: Plan::Latency(plan), seconds, goals: goals.to_vec() });
    };
    let poll = |bytes, whole| Latency { bytes, whole, wait: Wait::Poll, copied: false, depth: None, with_small: false };
    for (bytes, size) in SIZES {
        if bytes > 64 {
            let plan = Latency { with_small: bytes == LARGE, ..poll(bytes, false) };
            add(size, plan, if bytes == LARGE { &[Goal::OfReference(1.1)] } else { &[] });
        }
        let goals: &[Goal] = match bytes {
            64 => &[Goal::OfLimit(1.7), Goal::OfPeer(0.3)],
            LARGE => &[Goal::OfLimit(1.05)],
            _ => &[],
        };
        add(size, poll(bytes, true), goals);
        if bytes <= 64 {
            let goals: &[Goal] = if bytes == 64 { &[Goal::OfLimit(1.4)] } else { &[] };
            add(size, Latency { copied: true, ..poll(bytes, true) }, goals);
        }
    }
    let few = Latency { depth: Some(4), ..poll(LARGE, true) };
    add("12 MiB", few, &[Goal::OfLimit(1.05)]);
    for (bytes, size, whole) in
        [(64, "64 B", true), (64 << 10, "64 KiB", true), (LARGE, "12 MiB", false), (LARGE, "12 MiB", true)]
    {
        let goals: &[Goal] = if bytes == 64 { &[Goal::OfLimit(1.05)] } else { &[] };
        add(size, Latency { wait: Wait::Sleep, ..poll(bytes, whole) }, goals);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let mut ids: Vec<_> = rows().into_iter().map(|row| row.id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
