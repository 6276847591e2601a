//! The processor cores that the two processes run on.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::Result;

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
            Self::TwoCores => "two physical cores",
            Self::TwoSockets => "on two sockets",
            Self::Unknown => "perhaps threads of one physical core",
            Self::TwoThreadsOfOneCore => "two threads of one physical core",
            Self::OneCore => "the only one",
        }
    }
}

/// Socket and core of a processor, as the kernel numbers them.
type CoreId = (String, String);

/// Chooses two of the cores that this process may use, or checks the user's choice.
pub fn choose(wanted: Option<(usize, usize)>) -> Result<CorePair> {
    let set = sched_getaffinity(None).map_err(|error| format!("cannot read the CPU affinity: {error}"))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    choose_from(&allowed, wanted, core_id)
}

fn core_id(core: usize) -> Option<CoreId> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/{name}")).ok()?;
        Some(text.trim().to_owned())
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

fn choose_from(
    allowed: &[usize],
    wanted: Option<(usize, usize)>,
    core_id: impl Fn(usize) -> Option<CoreId>,
) -> Result<CorePair> {
    let placement = |first: usize, second: usize| match (core_id(first), core_id(second)) {
        _ if first == second => Placement::OneCore,
        (Some(one), Some(other)) if one == other => Placement::TwoThreadsOfOneCore,
        (Some(one), Some(other)) if one.0 == other.0 => Placement::TwoCores,
        (Some(_), Some(_)) => Placement::TwoSockets,
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
            let second = others.iter().min_by_key(|&&other| placement(*first, other)).unwrap_or(first);
            (*first, *second)
        }
        (None, []) => return Err("this process may use no core".into()),
    };
    Ok(CorePair { first, second, placement: placement(first, second) })
}

/// Keeps the calling thread on a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| format!("cannot run on core {core}: {error}").into())
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
mod tests {
    use super::*;

    /// Two sockets of two cores of two threads: 0 and 1 are the first core, as on many machines.
    fn machine(core: usize) -> Option<CoreId> {
        Some(((core / 4).to_string(), (core / 2 % 2).to_string()))
    }

    #[test]
    fn two_physical_cores_of_one_socket_are_preferred() {
        for (allowed, expected, placement) in [
            (&[0, 1, 2, 3, 4, 5][..], (0, 2), Placement::TwoCores),
            (&[0, 1, 4, 5], (0, 4), Placement::TwoSockets),
            (&[0, 1], (0, 1), Placement::TwoThreadsOfOneCore),
            (&[3], (3, 3), Placement::OneCore),
        ] {
            let cores = choose_from(allowed, None, machine).unwrap();
            assert_eq!(((cores.first, cores.second), cores.placement), (expected, placement), "{allowed:?}");
        }
        assert!(choose_from(&[], None, machine).is_err());
        assert_eq!(choose_from(&[4, 7], None, |_| None).unwrap().placement, Placement::Unknown);
    }

    #[test]
    fn the_users_choice_is_taken_if_it_is_allowed() {
        let cores = choose_from(&[0, 1, 2], Some((1, 0)), machine).unwrap();
        assert_eq!((cores.first, cores.second, cores.placement), (1, 0, Placement::TwoThreadsOfOneCore));
        let error = choose_from(&[0, 2], Some((0, 1)), machine).unwrap_err();
        assert_eq!(error.to_string(), "this process may not use core 1, only 0, 2");
    }

    #[test]
    fn two_different_cores_are_parsed() {
        assert_eq!(parse("0,2"), Ok((0, 2)));
        assert!(["", "1", "1,1", "1,2,3", "-1,0", "0,99999999", "a,b"].iter().all(|text| parse(text).is_err()));
    }
}
