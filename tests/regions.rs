//! Raw regions: named memory that outlives the clean end of its creator, but not its death.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use conduit::registry::RegionState;
use conduit::{CreateError, OpenError, ShmRegion, UnlinkError};

use crate::harness::{World, wait_until};
use crate::protocol::Order::{CreateRegion, DropRegion};

fn builder(world: &World) -> conduit::RegionBuilder {
    ShmRegion::builder().domain(&world.domain())
}

fn wait_while(world: &World, flag: &AtomicBool, timeout: Option<Duration>) -> bool {
    let keep_waiting = || flag.load(Ordering::Acquire);
    ShmRegion::wait_until_exists_in(&world.domain(), "counter", keep_waiting, timeout).unwrap()
}

#[test]
fn a_region_is_zeroed_page_aligned_and_of_exact_size() {
    let world = World::new();
    for size in [1, 4095, 4096, 13_000_000] {
        let region = builder(&world).create("lidar", size).unwrap();
        assert_eq!(region.size(), size);
        assert_eq!(region.data() as usize % 4096, 0);
        assert_eq!(std::fs::metadata(world.path_of("lidar")).unwrap().len(), size as u64);
        assert!(std::fs::read(world.path_of("lidar")).unwrap().iter().all(|&byte| byte == 0));
        assert_eq!(ShmRegion::open_in(&world.domain(), "lidar").unwrap().size(), size);
        ShmRegion::unlink_in(&world.domain(), "lidar").unwrap();
    }
    world.wait_until_empty();
}

#[test]
fn a_second_create_fails_and_names_the_owner() {
    let world = World::new();
    let mut creator = world.peer();
    creator.order(CreateRegion("counter", 4096));
    let error = builder(&world).create("counter", 4096).unwrap_err();
    let CreateError::AlreadyPublished { owner, .. } = &error else { panic!("{error}") };
    assert_eq!(owner.pid, Some(creator.pid()));
    assert!(error.to_string().contains(&format!("pid {} (", creator.pid())), "{error}");
}

#[test]
fn a_dropped_region_stays_until_unlinked() {
    for daemon in [false, true] {
        let mut world = World::new();
        if daemon {
            world.start_daemon();
        }
        let mut creator = world.peer();
        creator.order(CreateRegion("counter", 4096));
        creator.order(DropRegion);
        creator.kill();
        if daemon {
            assert_eq!(world.list()[0].state, RegionState::Kept);
            // A daemon that starts later knows the region as well.
            world.kill_daemon();
            world.start_daemon();
            assert_eq!(world.list()[0].state, RegionState::Kept);
        }
        let error = builder(&world).create("counter", 4096).unwrap_err();
        assert!(matches!(error, CreateError::Kept { .. }), "{error}");
        assert_eq!(ShmRegion::open_in(&world.domain(), "counter").unwrap().size(), 4096);
        ShmRegion::unlink_in(&world.domain(), "counter").unwrap();
        assert!(matches!(ShmRegion::open_in(&world.domain(), "counter"), Err(OpenError::NotFound { .. })));
        assert!(matches!(ShmRegion::unlink_in(&world.domain(), "counter"), Err(UnlinkError::NotFound { .. })));
        drop(builder(&world).create("counter", 64).unwrap());
    }
}

#[test]
fn the_creators_death_orphans_a_region_with_daemon() {
    let world = World::with_daemon();
    let mut creator = world.peer();
    creator.order(CreateRegion("counter", 4096));
    let listed = world.list().remove(0);
    assert_eq!((listed.state, listed.raw, listed.size_bytes), (RegionState::Live, true, 4096));
    creator.kill();
    world.wait_until_gone("counter");
}

#[test]
fn the_creators_death_orphans_a_region_without_daemon() {
    let world = World::new();
    let mut creator = world.peer();
    creator.order(CreateRegion("counter", 4096));
    creator.kill();
    builder(&world).create("counter", 8192).unwrap();
}

#[test]
fn two_mappings_share_memory() {
    let world = World::new();
    let first = builder(&world).create("counter", 4096).unwrap();
    let second = ShmRegion::open_in(&world.domain(), "counter").unwrap();
    assert_ne!(first.data(), second.data());
    // SAFETY: both mappings are large enough and page-aligned, and are only accessed as an
    // AtomicI32.
    #[allow(unsafe_code)]
    let [first, second] = [&first, &second].map(|region| unsafe { &*region.data().cast::<AtomicI32>() });
    first.store(42, Ordering::Release);
    assert_eq!(second.load(Ordering::Acquire), 42);
}

#[test]
fn unlinking_keeps_existing_mappings() {
    let world = World::with_daemon();
    let region = builder(&world).create("counter", 4096).unwrap();
    ShmRegion::unlink_in(&world.domain(), "counter").unwrap();
    assert!(!ShmRegion::exists_in(&world.domain(), "counter").unwrap());
    // SAFETY: the mapping lives as long as `region`.
    #[allow(unsafe_code)]
    unsafe {
        *region.data() = 1;
    }
    let successor = builder(&world).create("counter", 64).unwrap();
    drop(region);
    assert!(ShmRegion::exists_in(&world.domain(), "counter").unwrap(), "the old one's end does not touch the new one");
    drop(successor);
}

#[test]
fn waiting_for_a_region_ends_on_creation_flag_or_timeout() {
    let world = World::new();
    let forever = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_while(&world, &forever, None));
        let _region = builder(&world).create("counter", 64).unwrap();
        assert!(waiter.join().unwrap());
    });
    ShmRegion::unlink_in(&world.domain(), "counter").unwrap();
    let flag = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_while(&world, &flag, None));
        flag.store(false, Ordering::Release);
        assert!(!waiter.join().unwrap());
    });
    let soon = Some(Duration::from_millis(20));
    assert!(!wait_while(&world, &forever, soon));
}

#[test]
fn topics_and_raw_regions_are_not_interchangeable() {
    let world = World::new();
    let domain = world.domain();
    let _topic = conduit::Publisher::<u64>::builder().domain(&domain).create("topic").unwrap();
    let _region = builder(&world).create("region", 100_000).unwrap();
    let error = ShmRegion::open_in(&world.domain(), "topic").unwrap_err();
    assert!(matches!(error, OpenError::Kind { .. }), "{error}");
    let error = conduit::Subscriber::<u64>::builder().domain(&domain).open("region").unwrap_err();
    assert!(matches!(error, OpenError::Kind { .. }), "{error}");
    let error = ShmRegion::unlink_in(&world.domain(), "topic").unwrap_err();
    assert!(matches!(error, UnlinkError::Live { .. }), "{error}");
}

#[test]
fn a_region_of_thirteen_megabytes_is_listed_with_its_size() {
    let world = World::with_daemon();
    let region = builder(&world).create("lidar", 13_000_000).unwrap();
    wait_until("it to be listed", || world.list().len() == 1);
    assert_eq!(world.list()[0].size_bytes, 13_000_000);
    drop(region);
}
