//! What one user causes at the daemon is bounded, and costs other users little.

use std::os::unix::fs::MetadataExt;

use conduit::{Domain, ShmRegion};
use serde_json::json;

use crate::harness::{Raw, World, wait_until};

/// Raw regions whose creator lives in this process, without the daemon's knowledge.
fn regions(world: &World, count: usize) -> Vec<ShmRegion> {
    let silent = Domain::new(world.path()).without_registry();
    let create = |number| ShmRegion::builder().domain(&silent).create(format!("region/{number}"), 100).unwrap();
    (0..count).map(create).collect()
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn late_registrations_of_live_regions_that_hang_up_occupy_no_threads() {
    let mut world = World::with_daemon();
    let regions = regions(&world, 200);
    wait_until("them to be listed", || world.list().len() == regions.len());
    let pid = world.daemon().pid();
    let registered: Vec<Raw> = (0..regions.len())
        .map(|number| {
            let name = format!("region/{number}");
            let file = std::fs::metadata(world.path_of(&name)).unwrap();
            let mut raw = Raw::connect(&world);
            let parameters = json!({"topic": name, "dev": file.dev(), "inode": file.ino()});
            let reply = raw.call("io.conduit.Registry.Register", &parameters);
            assert!(reply.get("error").is_none(), "{reply}");
            raw
        })
        .collect();
    drop(registered);
    let publisher = world.publisher("innocent", 16, 100);
    publisher.kill();
    let mut most = 0;
    wait_until("the innocent topic to be removed", || {
        most = most.max(threads(pid));
        !world.exists("innocent")
    });
    assert!(most < 40, "{most} threads");
    assert_eq!(world.list().len(), regions.len(), "the others live");
}
