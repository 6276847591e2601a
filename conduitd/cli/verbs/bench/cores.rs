//! Which processor cores the two processes run on.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::failure::Failure;

/// Where the two processes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cores {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) placement: Placement,
}

/// How the two cores lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Placement {
    TwoCores,
    TwoSockets,
    /// The kernel does not say.
    Unknown,
    TwoThreadsOfOneCore,
    OneCore,
}

impl Placement {
    /// In words, after "cores 0 and 1".
    pub(super) fn words(self) -> &'static str {
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
type Place = (String, String);

/// Chooses two of the cores that this process may use, or checks the user's choice.
pub(super) fn choose(wanted: Option<(usize, usize)>) -> Result<Cores, Failure> {
    let set = sched_getaffinity(None).map_err(|error| Failure::new(format_args!("can not ask for cores: {error}")))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    choose_from(&allowed, wanted, place)
}

fn place(core: usize) -> Option<Place> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/{name}")).ok()?;
        Some(text.trim().to_owned())
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

fn choose_from(
    allowed: &[usize],
    wanted: Option<(usize, usize)>,
    place: impl Fn(usize) -> Option<Place>,
) -> Result<Cores, Failure> {
    let placement = |first: usize, second: usize| match (place(first), place(second)) {
        _ if first == second => Placement::OneCore,
        (Some(one), Some(other)) if one == other => Placement::TwoThreadsOfOneCore,
        (Some(one), Some(other)) if one.0 == other.0 => Placement::TwoCores,
        (Some(_), Some(_)) => Placement::TwoSockets,
        _ => Placement::Unknown,
    };
    let (first, second) = match wanted {
        Some((first, second)) => {
            if let Some(core) = [first, second].into_iter().find(|core| !allowed.contains(core)) {
                let allowed = list(allowed);
                return Err(Failure::new(format_args!("this process may not use core {core}, only {allowed}")));
            }
            (first, second)
        }
        None => {
            let Some((&first, others)) = allowed.split_first() else {
                return Err(Failure::new("this process may use no core"));
            };
            (first, others.iter().copied().min_by_key(|&other| placement(first, other)).unwrap_or(first))
        }
    };
    Ok(Cores { first, second, placement: placement(first, second) })
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Keeps the calling thread on a core.
pub(super) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| Failure::new(format_args!("can not run on core {core}: {error}")))
}

/// Reads `A,B`.
pub(super) fn parse(text: &str) -> Result<(usize, usize), String> {
    let number = |text: &str| text.trim().parse().ok().filter(|&core: &usize| core < CpuSet::MAX_CPU);
    let cores = text.split_once(',').and_then(|(first, second)| Some((number(first)?, number(second)?)));
    cores.filter(|(first, second)| first != second).ok_or_else(|| "two different cores are something like 0,2".into())
}

impl Cores {
    pub(super) fn is_one(&self) -> bool {
        self.first == self.second
    }

    pub(super) fn numbers(&self) -> Vec<usize> {
        if self.is_one() { vec![self.first] } else { vec![self.first, self.second] }
    }

    /// For a person.
    pub(super) fn words(&self) -> String {
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
    fn machine(core: usize) -> Option<Place> {
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
    fn the_users_choice_counts_if_it_is_allowed() {
        let cores = choose_from(&[0, 1, 2], Some((1, 0)), machine).unwrap();
        assert_eq!((cores.first, cores.second, cores.placement), (1, 0, Placement::TwoThreadsOfOneCore));
        let Err(Failure::Error { message, .. }) = choose_from(&[0, 2], Some((0, 1)), machine) else { panic!() };
        assert_eq!(message, "this process may not use core 1, only 0, 2");
    }

    #[test]
    fn cores_on_the_command_line_are_two() {
        assert_eq!(parse("0,2"), Ok((0, 2)));
        assert!(["", "1", "1,1", "1,2,3", "-1,0", "0,99999999", "a,b"].iter().all(|text| parse(text).is_err()));
    }
}
