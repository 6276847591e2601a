//! Which two processor cores the two processes run on.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::transport::Result;

/// Those that the caller wants, or the first one allowed and one that is no thread of the same core, if there is one.
pub fn choose(wanted: Option<(usize, usize)>) -> Result<(usize, usize)> {
    let set = sched_getaffinity(None)?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    choose_from(&allowed, wanted, place)
}

/// Socket and core of a processor, as the kernel numbers them.
fn place(core: usize) -> Option<(String, String)> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/{name}")).ok()?;
        Some(text.trim().to_owned())
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

fn choose_from(
    allowed: &[usize],
    wanted: Option<(usize, usize)>,
    place: impl Fn(usize) -> Option<(String, String)>,
) -> Result<(usize, usize)> {
    if let Some((first, second)) = wanted {
        return match [first, second].into_iter().find(|core| !allowed.contains(core)) {
            Some(core) => Err(format!("this process may not use core {core}, only {allowed:?}").into()),
            None => Ok((first, second)),
        };
    }
    let [first, others @ ..] = allowed else { return Err("this process may use no core".into()) };
    let distance = |other: usize| match (place(*first), place(other)) {
        (Some(one), Some(other)) if one == other => 3,
        (Some(one), Some(other)) if one.0 == other.0 => 0,
        (Some(_), Some(_)) => 1,
        _ => 2,
    };
    let second = others.iter().copied().min_by_key(|&other| distance(other));
    second
        .map(|second| (*first, second))
        .ok_or_else(|| "two cores are needed, and this process may use only one".into())
}

/// Keeps the calling thread on a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| format!("can not run on core {core}: {error}").into())
}

/// Reads `A,B`.
pub fn parse(text: &str) -> std::result::Result<(usize, usize), String> {
    let number = |text: &str| text.trim().parse().ok().filter(|&core: &usize| core < CpuSet::MAX_CPU);
    let cores = text.split_once(',').and_then(|(first, second)| Some((number(first)?, number(second)?)));
    cores.filter(|(first, second)| first != second).ok_or_else(|| "two different cores are something like 0,2".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two cores of two threads: 0 and 1 are the first core, as on many machines.
    fn machine(core: usize) -> Option<(String, String)> {
        Some(((core / 4).to_string(), (core / 2 % 2).to_string()))
    }

    #[test]
    fn two_physical_cores_of_one_socket_are_preferred() {
        for (allowed, expected) in [(&[0, 1, 2, 4][..], (0, 2)), (&[0, 1, 4], (0, 4)), (&[0, 1], (0, 1))] {
            assert_eq!(choose_from(allowed, None, machine).unwrap(), expected);
        }
        assert!(choose_from(&[0], None, machine).is_err());
    }

    #[test]
    fn the_callers_choice_counts_if_it_is_allowed() {
        assert_eq!(choose_from(&[0, 1, 2], Some((1, 0)), machine).unwrap(), (1, 0));
        assert!(choose_from(&[0, 2], Some((0, 1)), machine).is_err());
        assert_eq!(parse("0,2"), Ok((0, 2)));
        assert!(["", "1", "1,1", "1,2,3", "-1,0", "a,b"].iter().all(|text| parse(text).is_err()));
    }
}
