//! The processor cores that the two processes run on.

mod pair;

use std::fs;
use std::path::PathBuf;

use rustix::thread::{CpuSet, sched_getaffinity};
use serde::Serialize;

pub use pair::pin;

use crate::{Result, machine};

/// Cores that are compared with the first one at most.
const MOST_COMPARED: usize = 8;

/// The cores of the two processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePair {
    /// Core of the process that measures.
    pub first: usize,
    /// Core of the process that answers; the same one if there is only one.
    pub second: usize,
    /// How they are related.
    pub placement: Placement,
}

/// How two cores are related, the better ones for a measurement first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Two physical cores that share a cache.
    NearCores,
    /// Two physical cores of one socket.
    TwoCores,
    /// Two physical cores of two sockets.
    TwoSockets,
    /// The kernel does not say.
    Unknown,
    /// Two threads of one physical core.
    TwoThreadsOfOneCore,
    /// A single core.
    OneCore,
}

impl Placement {
    /// In words, after "cores 0 and 1, ".
    pub fn words(self) -> &'static str {
        match self {
            Self::NearCores => "two physical cores that share a cache",
            Self::TwoCores => "two physical cores",
            Self::TwoSockets => "on two sockets",
            Self::Unknown => "perhaps threads of one physical core",
            Self::TwoThreadsOfOneCore => "two threads of one physical core",
            Self::OneCore => "the only one",
        }
    }

    fn of(one: &CoreTopology, other: &CoreTopology) -> Self {
        if (&one.socket, &one.core) == (&other.socket, &other.core) {
            Self::TwoThreadsOfOneCore
        } else if one.caches.iter().any(|cache| other.caches.contains(cache)) {
            Self::NearCores
        } else if one.socket == other.socket {
            Self::TwoCores
        } else {
            Self::TwoSockets
        }
    }
}

/// Where the kernel says that a core is, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CoreTopology {
    socket: String,
    core: String,
    /// The level of each cache, and the cores that share it.
    caches: Vec<(String, String)>,
}

/// What is known of the cores of a machine.
trait Machine {
    /// Where a core is, if the kernel says so.
    fn topology(&self, core: usize) -> Option<CoreTopology>;

    /// What a cache line takes from one core to another, in nanoseconds; `None` if the topology can
    /// be trusted, or if that cannot be measured now.
    fn line_ns(&self, first: usize, second: usize) -> Result<Option<f64>>;
}

/// This machine.
struct ThisMachine;

impl Machine for ThisMachine {
    fn topology(&self, core: usize) -> Option<CoreTopology> {
        let directory = PathBuf::from(format!("/sys/devices/system/cpu/cpu{core}"));
        let read = |name: &str| Some(fs::read_to_string(directory.join(name)).ok()?.trim().to_owned());
        let cache = |index: usize| {
            let of_cache = |name: &str| read(&format!("cache/index{index}/{name}"));
            Some((of_cache("level")?, of_cache("shared_cpu_list")?))
        };
        let caches = (0..).map_while(cache).collect();
        Some(CoreTopology { socket: read("topology/physical_package_id")?, core: read("topology/core_id")?, caches })
    }

    fn line_ns(&self, first: usize, second: usize) -> Result<Option<f64>> {
        if machine::is_virtual() { pair::line_ns(first, second) } else { Ok(None) }
    }
}

/// Chooses two of the cores that this process may use, or checks the user's choice.
pub fn choose(wanted: Option<(usize, usize)>) -> Result<CorePair> {
    let set = sched_getaffinity(None).map_err(|error| format!("cannot read the CPU affinity: {error}"))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    choose_from(&allowed, wanted, &ThisMachine)
}

fn choose_from(allowed: &[usize], wanted: Option<(usize, usize)>, machine: &impl Machine) -> Result<CorePair> {
    let placement = |first: usize, second: usize| match (machine.topology(first), machine.topology(second)) {
        _ if first == second => Placement::OneCore,
        (Some(one), Some(other)) => Placement::of(&one, &other),
        _ => Placement::Unknown,
    };
    let (first, second) = match (wanted, allowed) {
        (Some((first, second)), _) => {
            if let Some(core) = [first, second].into_iter().find(|core| !allowed.contains(core)) {
                let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(format!("this process may not use core {core}, only {allowed}").into());
            }
            (first, second)
        }
        (None, [first, others @ ..]) => {
            let best = others.iter().map(|&other| placement(*first, other)).min();
            let equals = others.iter().copied().filter(|&other| Some(placement(*first, other)) == best);
            (*first, nearest(*first, &equals.take(MOST_COMPARED).collect::<Vec<_>>(), machine)?)
        }
        (None, []) => return Err("this process may use no core".into()),
    };
    Ok(CorePair { first, second, placement: placement(first, second) })
}

/// The core that a cache line reaches first, of several that the kernel takes to be equally far:
/// the host of a virtual machine knows better.
fn nearest(first: usize, others: &[usize], machine: &impl Machine) -> Result<usize> {
    let mut nearest = (f64::MAX, others.first().copied().unwrap_or(first));
    if others.len() > 1 {
        for &other in others {
            let Some(ns) = machine.line_ns(first, other)? else { break };
            if ns < nearest.0 {
                nearest = (ns, other);
            }
        }
    }
    Ok(nearest.1)
}

/// Parses `A,B`.
pub fn parse(text: &str) -> std::result::Result<(usize, usize), String> {
    let number = |text: &str| text.trim().parse().ok().filter(|&core: &usize| core < CpuSet::MAX_CPU);
    let cores = text.split_once(',').and_then(|(first, second)| Some((number(first)?, number(second)?)));
    cores.filter(|(first, second)| first != second).ok_or_else(|| "two different cores are something like 0,2".into())
}

impl CorePair {
    /// Whether both processes share one core.
    pub fn is_one(&self) -> bool {
        self.first == self.second
    }

    /// The numbers of the cores, without repetition.
    pub fn numbers(&self) -> Vec<usize> {
        if self.is_one() { vec![self.first] } else { vec![self.first, self.second] }
    }

    /// For a person.
    pub fn words(&self) -> String {
        let (first, second, placement) = (self.first, self.second, self.placement.words());
        if self.is_one() {
            return format!("core {first}, {placement}");
        }
        format!("cores {first} and {second}, {placement}")
    }
}

#[cfg(test)]
mod tests;
