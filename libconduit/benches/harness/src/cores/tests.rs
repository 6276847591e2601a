//! Tests of the choice of cores.

use super::*;

/// Two sockets of two cores of two threads: 0 and 1 are the first core, as on many machines.
struct Usual;

impl Machine for Usual {
    fn topology(&self, core: usize) -> Option<CoreTopology> {
        let (socket, core) = ((core / 4).to_string(), (core / 2 % 2).to_string());
        Some(CoreTopology { caches: vec![("1".into(), format!("{socket}/{core}"))], socket, core })
    }

    fn line_ns(&self, _first: usize, _second: usize) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// A socket of eight cores without threads, four of which share a cache of the third level.
struct Complexes {
    /// Whether the kernel knows of the caches.
    has_caches: bool,
    is_virtual: bool,
}

impl Machine for Complexes {
    fn topology(&self, core: usize) -> Option<CoreTopology> {
        let first = core / 4 * 4;
        let caches = [("2".into(), core.to_string()), ("3".into(), format!("{first}-{}", first + 3))];
        let caches = if self.has_caches { caches.into() } else { Vec::new() };
        Some(CoreTopology { socket: "0".into(), core: core.to_string(), caches })
    }

    fn line_ns(&self, first: usize, second: usize) -> Result<Option<f64>> {
        Ok(self.is_virtual.then_some(if first / 4 == second / 4 { 60.0 } else { 200.0 }))
    }
}

/// Nothing is known.
struct Silent;

impl Machine for Silent {
    fn topology(&self, _core: usize) -> Option<CoreTopology> {
        None
    }

    fn line_ns(&self, _first: usize, _second: usize) -> Result<Option<f64>> {
        Ok(None)
    }
}

fn chosen(allowed: &[usize], machine: &impl Machine) -> (usize, usize, Placement) {
    let CorePair { first, second, placement } = choose_from(allowed, None, machine).unwrap();
    (first, second, placement)
}

#[test]
fn two_physical_cores_of_one_socket_are_preferred() {
    for (allowed, expected) in [
        (&[0, 1, 2, 3, 4, 5][..], (0, 2, Placement::TwoCores)),
        (&[0, 1, 4, 5], (0, 4, Placement::TwoSockets)),
        (&[0, 1], (0, 1, Placement::TwoThreadsOfOneCore)),
        (&[3], (3, 3, Placement::OneCore)),
    ] {
        assert_eq!(chosen(allowed, &Usual), expected, "{allowed:?}");
    }
    assert!(choose_from(&[], None, &Usual).is_err());
    assert_eq!(chosen(&[4, 7], &Silent), (4, 7, Placement::Unknown));
}

#[test]
fn cores_that_share_a_cache_are_preferred() {
    let known = Complexes { has_caches: true, is_virtual: false };
    assert_eq!(chosen(&[3, 4, 5, 2], &known), (3, 2, Placement::NearCores));
    assert_eq!(chosen(&[3, 4, 5], &known), (3, 4, Placement::TwoCores));
}

#[test]
fn what_a_virtual_machine_hides_is_measured() {
    let hidden = Complexes { has_caches: false, is_virtual: true };
    assert_eq!(chosen(&[3, 4, 5, 2], &hidden), (3, 2, Placement::TwoCores));
    let trusted = Complexes { has_caches: false, is_virtual: false };
    assert_eq!(chosen(&[3, 4, 5, 2], &trusted), (3, 4, Placement::TwoCores));
}

#[test]
fn the_users_choice_is_taken_if_it_is_allowed() {
    let cores = choose_from(&[0, 1, 2], Some((1, 0)), &Usual).unwrap();
    assert_eq!((cores.first, cores.second, cores.placement), (1, 0, Placement::TwoThreadsOfOneCore));
    let error = choose_from(&[0, 2], Some((0, 1)), &Usual).unwrap_err();
    assert_eq!(error.to_string(), "this process may not use core 1, only 0, 2");
}

#[test]
fn two_different_cores_are_parsed() {
    assert_eq!(parse("0,2"), Ok((0, 2)));
    assert!(["", "1", "1,1", "1,2,3", "-1,0", "0,99999999", "a,b"].iter().all(|text| parse(text).is_err()));
}

#[test]
fn a_line_between_two_cores_is_measured() {
    let cores = choose(None).unwrap();
    if !cores.is_one() {
        let ns = pair::line_ns(cores.first, cores.second).unwrap();
        assert!(ns.is_none_or(|ns| ns > 1.0), "{ns:?}: only busy cores cannot be measured");
    }
}
