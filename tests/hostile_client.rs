//! Hostile clients of the registry: they may harm their own topics, but not those of others.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use conduit::registry::RegionState;
use conduit::{Domain, Publisher};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::json;

use crate::harness::skip::{self, Lack};
use crate::harness::{DEADLINE, NOBODY, Raw, World, wait_until};
use crate::protocol::Order::{HalfOpen, Publish, Send, UnlinkByRegistry};

fn register(raw: &mut Raw, topic: &str, file: &std::fs::Metadata) -> serde_json::Value {
    raw.call("io.conduit.Registry.Register", &json!({"topic": topic, "dev": file.dev(), "inode": file.ino()}))
}

/// Checks that the daemon still serves a topic from creation to removal.
fn serves(world: &World) {
    let publisher = world.publisher("innocent", 16, 100);
    assert!(world.list().iter().any(|topic| topic.name == "innocent" && topic.state == RegionState::Live));
    publisher.kill();
    world.wait_until_gone("innocent");
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Peak memory of the daemon in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn files_that_are_not_regions_are_never_removed() {
    let world = World::with_daemon();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), world.path_of("link")).unwrap();
    nix::unistd::mkfifo(&world.path_of("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    std::fs::create_dir(world.path_of("directory")).unwrap();
    let mut names = vec!["link", "fifo", "directory"];
    File::create(world.path_of("mount")).unwrap();
    let mounted = mount(Some(elsewhere.path()), &world.path_of("mount"), None::<&str>, MsFlags::MS_BIND, None::<&str>);
    if mounted.is_ok() {
        names.push("mount");
    } else {
        skip::report(&Lack::Root, "a mount in the directory");
    }
    for name in &names {
        let mut raw = Raw::connect(&world);
        register(&mut raw, name, &std::fs::symlink_metadata(world.path_of(name)).unwrap());
        drop(raw);
    }
    serves(&world);
    assert!(world.list().is_empty());
    for name in &names {
        assert!(std::fs::symlink_metadata(world.path_of(name)).is_ok(), "{name}");
    }
    assert!(elsewhere.path().exists());
    if mounted.is_ok() {
        umount(&world.path_of("mount")).unwrap();
    }
}

#[test]
fn a_file_replaced_after_its_announcement_is_not_confused_with_it() {
    let world = World::with_daemon();
    let announced = tempfile::tempfile_in(world.path()).unwrap();
    let mut raw = Raw::connect(&world);
    register(&mut raw, "scan", &announced.metadata().unwrap());
    // Another file gets the name.
    let mut publisher = world.publisher("scan", 16, 100);
    let listed = world.list();
    assert_eq!(listed[0].publisher.as_ref().unwrap().pid, publisher.pid());
    drop(raw);
    serves(&world);
    publisher.order(Send(1, 10));
    assert!(world.exists("scan"));
}

#[test]
fn a_region_of_eight_exabytes_is_listed() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    let file = File::options().write(true).open(world.path_of("scan")).unwrap();
    file.set_len(i64::MAX as u64).unwrap();
    assert_eq!(world.list()[0].size_bytes, i64::MAX as u64);
    serves(&world);
    publisher.kill();
    world.wait_until_gone("scan");
}

#[test]
fn unsolicited_descriptors_are_closed() {
    let mut world = World::with_daemon();
    let pid = world.daemon().pid();
    wait_until("the first client to be gone", || descriptors(pid) > 0);
    let mut raw = Raw::connect(&world);
    raw.call("io.conduit.Registry.List", &json!({}));
    let before = descriptors(pid);
    let file = File::open("/dev/null").unwrap();
    let call = b"{\"method\":\"io.conduit.Registry.List\"}\0";
    for _ in 0..50 {
        let descriptors = [file.as_raw_fd(); 100];
        let sent = sendmsg::<()>(
            raw.0.as_raw_fd(),
            &[IoSlice::new(call)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::empty(),
            None,
        );
        // Newer kernels refuse at once; older ones drop the descriptors when the message is read.
        if sent.is_ok() {
            raw.reply();
        }
    }
    assert!(descriptors(pid) <= before + 1, "{} {before}", descriptors(pid));
    serves(&world);
}

#[test]
fn a_write_lease_on_a_region_does_not_block_the_daemon() {
    let world = World::with_daemon();
    let without = Domain::new(world.path()).without_registry();
    drop(conduit::ShmRegion::builder().domain(&without).create("map", 100).unwrap());
    wait_until("it to be listed", || world.list().len() == 1);
    std::fs::rename(world.path_of("map"), world.path().join("elsewhere")).unwrap();
    wait_until("it to be forgotten", || world.list().is_empty());
    let file = File::open(world.path().join("elsewhere")).unwrap();
    // The daemon may still be closing its own descriptor.
    // SAFETY: F_SETLEASE takes an integer and no pointer.
    #[allow(unsafe_code)]
    wait_until("the lease", || unsafe {
        nix::libc::fcntl(file.as_raw_fd(), nix::libc::F_SETLEASE, nix::libc::F_WRLCK) == 0
    });
    // Breaking the lease raises SIGIO, which would end this process.
    // SAFETY: ignoring a signal installs no handler.
    #[allow(unsafe_code)]
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGIO, nix::sys::signal::SigHandler::SigIgn) }.unwrap();
    std::fs::rename(world.path().join("elsewhere"), world.path_of("map")).unwrap();
    serves(&world);
    drop(file);
    wait_until("it to be listed again", || world.list().len() == 1);
}

#[test]
fn ten_thousand_incomplete_calls_leave_room_for_other_users() {
    let mut world = World::with_daemon();
    let _publisher = world.publisher("scan", 16, 100);
    // As many as the descriptor limit of the peer allows.
    let mut crowd = world.peer();
    let count: u64 = crowd.ask(HalfOpen(10_000)).number();
    assert!(count > 900, "{count}");
    if nix::unistd::geteuid().is_root() {
        let mut other = world.peer_of(NOBODY);
        other.order(Publish("theirs", 16, 100));
        other.order(UnlinkByRegistry("theirs"));
    } else {
        skip::report(&Lack::Root, "another user beside the crowd");
    }
    let peak = peak_memory(world.daemon().pid());
    assert!(peak < 64 << 10, "{peak} KiB");
    crowd.kill();
    wait_until("the daemon to have room again", || {
        conduit::registry::Client::connect(&world.domain()).is_ok_and(|mut client| client.list().is_ok())
    });
    assert_eq!(world.list().len(), 1);
    serves(&world);
}

#[test]
fn a_message_sent_byte_by_byte_times_out() {
    let world = World::with_daemon();
    let mut slow = Raw::connect(&world);
    let started = std::time::Instant::now();
    slow.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let reply = loop {
        assert!(started.elapsed() < DEADLINE, "it is waited for");
        let _ = slow.0.write_all(b" ");
        let mut reply = vec![0; 512];
        if let Ok(len @ 1..) = slow.0.read(&mut reply) {
            reply.truncate(len - 1);
            break reply;
        }
    };
    let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["error"], "io.conduit.Registry.LimitExceeded");
    assert_eq!(reply["parameters"]["limit"], 10, "{reply}");
    serves(&world);
}

#[test]
fn clients_that_never_read_are_disconnected_and_use_little_memory() {
    let mut world = World::with_daemon();
    let publishers: Vec<Publisher<[u8]>> = (0..100)
        .map(|number| Publisher::builder().domain(&world.domain()).create(format!("topic/{number}")).unwrap())
        .collect();
    // The daemon opens their regions when it finds them.
    wait_until("the topics", || world.list().len() == publishers.len());
    let before = descriptors(world.daemon().pid());
    let calls = b"{\"method\":\"io.conduit.Registry.List\"}\0".repeat(100);
    let mut crowd: Vec<Raw> = (0..300).map(|_| Raw::connect(&world)).collect();
    for raw in &mut crowd {
        raw.0.set_nonblocking(true).unwrap();
        // As much as fits.
        let _ = raw.0.write(&calls);
    }
    serves(&world);
    // All are disconnected: by the user's budget of unread bytes, or because they have not read for
    // too long.
    wait_until("the hang-ups", || descriptors(world.daemon().pid()) < before + 10);
    let peak = peak_memory(world.daemon().pid());
    assert!(peak < 64 << 10, "{peak} KiB");
    drop(publishers);
}
