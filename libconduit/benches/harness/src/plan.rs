//! The rows of the table: what is measured, and what is wanted of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::costs;
use super::duel::{self, Measured, Wait};
use super::fan_out::FanOut;
use super::latency::Latency;
use super::processes::Second;
use super::publish::{Audience, Publishing};
use super::spin::Spin;
use super::throughput::Throughput;
use super::transport::{All, Place, Result};

/// What both processes do for a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Plan {
    Latency(Latency),
    Publishing(Publishing),
    Throughput(Throughput),
    FanOut(FanOut),
    Spin(Spin),
    /// From the start of a process to its first message.
    Start,
    Footprint,
}

/// Messages before anything counts, where nothing else is to be warmed up than a ring of the default size.
const WARM_UP: u64 = 64;

impl Plan {
    /// The first process's part.
    pub fn measure<P: All>(&self, place: &Place, second: &mut Second, time: Duration) -> Result<Measured> {
        match self {
            Self::Latency(plan) => {
                duel::play(second, plan.players::<P>(place)?, time, plan.turn(), plan.warm_up_rounds())
            }
            Self::Publishing(plan) => duel::play(second, plan.players::<P>(place)?, time, plan.turn(), WARM_UP),
            Self::Throughput(plan) => duel::play(second, plan.players::<P>(place)?, time, Throughput::TURN, 1024),
            Self::FanOut(plan) => duel::play(second, plan.players::<P>(place)?, time, plan.turn(), WARM_UP),
            Self::Spin(plan) => plan.measure(place, second, time),
            Self::Footprint => costs::footprints::<P>(place, second),
            Self::Start => costs::time_to_first::<P>(place, time),
        }
    }

    /// The second process's part.
    pub fn follow<P: All>(&self, place: &Place) -> Result<()> {
        match self {
            Self::Latency(plan) => duel::follow(plan.partners::<P>(place)?),
            Self::Publishing(plan) => duel::follow(plan.partners::<P>(place)?),
            Self::Throughput(plan) => duel::follow(plan.partners::<P>(place)?),
            Self::FanOut(plan) => duel::follow(plan.partners::<P>(place)?),
            Self::Spin(plan) => plan.follow(place),
            Self::Footprint => costs::follow::<P>(place),
            Self::Start => Ok(()),
        }
    }
}

/// What is wanted of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So many times the limit, at most.
    OfLimit(f64),
    /// So many times the peer, at most.
    OfPeer(f64),
    /// So many times what is measured beside, at most, which is called so.
    OfReference(f64, &'static str),
    /// So many nanoseconds, at most.
    AtMost(f64),
    /// So many nanoseconds more than the limit, at most.
    OverLimit(f64),
    /// So many messages per second, at least.
    AtLeast(f64),
    /// One file of so many bytes, and a descriptor per side, at most.
    OneFile(u64),
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// For `--only`.
    pub id: String,
    pub title: String,
    pub plan: Plan,
    /// How long to measure in one repeat.
    pub seconds: f64,
    pub goals: Vec<Goal>,
}

/// All rows, in the table's order.
pub fn rows() -> Vec<Row> {
    [latency_rows(), publishing_rows(), throughput_rows(), fan_out_rows(), cost_rows(), spin_rows()].concat()
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
        let mut id =
            format!("latency/{}/{}/{way_id}", size.replace(' ', ""), touched.split(' ').next().unwrap_or_default());
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
            add(size, plan, if bytes == LARGE { &[Goal::OfReference(1.1, "64 B")] } else { &[] });
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

fn publishing_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |audience, period_us: Option<u64>, without_stamps, goals: &[Goal]| {
        let (who, who_id) = match audience {
            Audience::Nobody => ("nobody listens", "nobody"),
            Audience::Polling => ("a subscriber polls", "polling"),
            Audience::Sleeping => ("a subscriber sleeps", "sleeping"),
            Audience::Absent => ("a subscriber is attached but absent", "absent"),
        };
        let when = period_us.map_or_else(|| "back to back".into(), |period| format!("one every {period} us"));
        let stamps = if without_stamps { ", time stamps off" } else { "" };
        let when_id = period_us.map_or_else(|| "back-to-back".into(), |period| format!("{period}us"));
        let mut id = format!("publish/{who_id}/{when_id}");
        if without_stamps {
            id.push_str("/unstamped");
        }
        let title = format!("publish 64 B, {who}, {when}{stamps}");
        let plan = Plan::Publishing(Publishing { audience, period_us, without_stamps });
        let seconds = if period_us.is_some_and(|period| period > 10) { 0.5 } else { 0.25 };
        rows.push(Row { id, title, plan, seconds, goals: goals.to_vec() });
    };
    add(Audience::Nobody, None, false, &[Goal::AtMost(35.0)]);
    add(Audience::Nobody, None, true, &[Goal::AtMost(10.0)]);
    add(Audience::Nobody, Some(10), false, &[]);
    add(Audience::Polling, None, false, &[]);
    add(Audience::Polling, Some(10), false, &[Goal::AtMost(80.0)]);
    add(Audience::Sleeping, None, false, &[]);
    add(Audience::Sleeping, Some(10), false, &[]);
    add(Audience::Sleeping, Some(200), false, &[]);
    add(Audience::Absent, None, false, &[]);
    add(Audience::Absent, Some(10), false, &[]);
    rows
}

fn throughput_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (lossless, way, way_id) in [(true, "lossless window of 256", "window"), (false, "free running", "free")] {
        for (batched, copied, how, how_id) in [
            (false, false, "one by one", "one"),
            (false, true, "one by one, copied out", "copied"),
            (true, false, "received in batches", "batch"),
        ] {
            let least = lossless.then_some(Goal::AtLeast(if batched { 20e6 } else { 10e6 }));
            rows.push(Row {
                id: format!("throughput/{way_id}/{how_id}"),
                title: format!("64 B messages per second, {way}, {how}"),
                plan: Plan::Throughput(Throughput { lossless, batched, copied }),
                seconds: 0.4,
                goals: least.into_iter().collect(),
            });
        }
    }
    rows
}

fn fan_out_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (wait, way, way_id) in [(Wait::Poll, "polling", "poll"), (Wait::Sleep, "sleeping", "block")] {
        for subscribers in [1, 2, 4, 8, 32] {
            let goal = (wait == Wait::Poll && subscribers == 8).then_some(Goal::OfReference(1.5, "one subscriber"));
            rows.push(Row {
                id: format!("fan-out/{subscribers}/{way_id}"),
                title: format!("publish 64 B to {subscribers} {way}"),
                plan: Plan::FanOut(FanOut { subscribers, wait }),
                seconds: 0.3 + if wait == Wait::Sleep { 0.3 } else { 0.0 },
                goals: goal.into_iter().collect(),
            });
        }
    }
    rows
}

fn cost_rows() -> Vec<Row> {
    let row = |id: &str, title: &str, plan, seconds, goal| Row {
        id: id.into(),
        title: title.into(),
        plan,
        seconds,
        goals: vec![goal],
    };
    vec![
        row("start", "start of a process to its first message", Plan::Start, 0.5, Goal::OverLimit(300e3)),
        row("memory", "memory of a default topic with one subscriber", Plan::Footprint, 0.0, Goal::OneFile(69_632)),
    ]
}

fn spin_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for period_us in [20, 100, 1000] {
        for spin_us in [0, 10, 50, 100, 1000] {
            rows.push(Row {
                id: format!("spin/{spin_us}us/{period_us}us"),
                title: format!("one message every {period_us} us, spin {spin_us} us"),
                plan: Plan::Spin(Spin { spin_us, period_us }),
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
    fn every_row_has_a_name_of_its_own() {
        let mut ids: Vec<_> = rows().into_iter().map(|row| row.id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
