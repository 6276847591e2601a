//! Invalid input from users and peers: each mistake gets a clear error, and no data is lost.

use std::os::unix::fs::FileExt;

use conduit::{
    CreateError, GeometryError, LayoutError, LoanError, Message, OpenError, Publisher, ShmRegion, Subscriber,
    zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout},
};

use crate::harness::skip::{Lack, skip};
use crate::harness::{NOBODY, Peer, World, need_root};
use crate::protocol::Order::{
    CreateRegion, LimitFiles, LimitMappings, LockMemory, Publish, Send, Subscribe, UnlinkRegion,
};

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "robot/Imu")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Imu {
    gyro: [f64; 3],
}

#[test]
fn invalid_topic_names_are_refused() {
    let world = World::new();
    let domain = world.domain();
    let long = "x".repeat(300);
    for (name, complaint) in [
        ("", "cannot be empty"),
        ("/imu", "empty segment at byte 0"),
        ("a//b", "empty segment at byte 2"),
        ("--force", "begins with `-` at byte 0, like an option"),
        ("arm/-left", "begins with `-` at byte 4"),
        ("../x", "'.' at byte 0"),
        ("a b", "' ' at byte 1"),
        ("a\0b", "'\\0' at byte 1"),
        (&long, "this one has 300"),
    ] {
        let errors = [
            Publisher::<[u8]>::builder().domain(&domain).create(name).unwrap_err().to_string(),
            Subscriber::<[u8]>::builder().domain(&domain).open(name).unwrap_err().to_string(),
            ShmRegion::builder().domain(&domain).create(name, 64).unwrap_err().to_string(),
            ShmRegion::open_in(&domain, name).unwrap_err().to_string(),
            ShmRegion::exists_in(&domain, name).unwrap_err().to_string(),
            ShmRegion::unlink_in(&domain, name).unwrap_err().to_string(),
        ];
        for error in errors {
            assert!(error.contains(complaint), "{name:?}: {error}");
        }
    }
    world.wait_until_empty();
}

#[test]
fn impossible_region_sizes_are_refused() {
    let world = World::new();
    let domain = world.domain();
    let create = |size| ShmRegion::builder().domain(&domain).create("big", size).unwrap_err();
    assert!(matches!(create(0), CreateError::Size { size: 0 }));
    assert!(matches!(create(usize::MAX), CreateError::Size { .. }));
    let error = create(1 << 50);
    let CreateError::NoSpace { need, have, .. } = error else { panic!("{error}") };
    assert!(need == 1 << 50 && have > 0 && have < need);
    assert!(error.to_string().contains(&format!("need {need} bytes, have {have}")), "{error}");
    let publisher = Publisher::<[u8]>::builder().domain(&domain).slots(1024).slot_size(1 << 45);
    let error = publisher.create("big").unwrap_err();
    assert!(matches!(error, CreateError::NoSpace { .. }), "{error}");
    world.wait_until_empty();
}

#[test]
fn impossible_slots_are_refused() {
    let world = World::new();
    let builder = || Publisher::<[u8]>::builder().domain(&world.domain());
    for slots in [0, 1, (1 << 16) + 1, 1 << 17, u32::MAX] {
        let error = builder().slots(slots).create("scan").unwrap_err();
        assert!(matches!(error, CreateError::Geometry(GeometryError::Slots(_))), "{slots}: {error}");
    }
    for slot_bytes in [0, 64, 100, 128, 300, 320, usize::MAX] {
        let error = builder().slot_size(slot_bytes).create("scan").unwrap_err();
        assert!(matches!(error, CreateError::Geometry(GeometryError::SlotBytes(_))), "{slot_bytes}: {error}");
    }
    let error = builder().slots(1 << 16).slot_size(1 << 62).create("scan").unwrap_err();
    assert!(matches!(error, CreateError::Geometry(GeometryError::TooLarge { .. })), "{error}");
    let small = Publisher::<[u64; 100]>::builder().domain(&world.domain()).slot_size(256).create("scan");
    assert!(matches!(small.unwrap_err(), CreateError::SlotTooSmall { need: 800, capacity: 64, .. }));
    world.wait_until_empty();
}

#[test]
fn a_default_topic_has_69632_bytes() {
    let world = World::new();
    let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap();
    assert_eq!(std::fs::metadata(publisher.path()).unwrap().len(), 69_632);
    assert_eq!((publisher.slots(), publisher.capacity()), (16, 3904));
}

#[test]
fn files_that_are_not_topics_are_refused() {
    let world = World::new();
    let domain = world.domain();
    let open = || Subscriber::<u64>::builder().domain(&domain).open("x").unwrap_err();
    let write = |bytes: &[u8]| std::fs::write(world.path_of("x"), bytes).unwrap();
    assert!(matches!(open(), OpenError::NotFound { .. }));
    for bytes in [&b""[..], b"short", &[0; 100_000]] {
        write(bytes);
        assert!(matches!(open(), OpenError::Layout { reason: LayoutError::NotATopic, .. }));
    }
    // A publisher does not overwrite such a file either.
    let error = Publisher::<u64>::builder().domain(&domain).create("x").unwrap_err();
    assert!(matches!(error, CreateError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::metadata(world.path_of("x")).unwrap().len(), 100_000);
    std::fs::remove_file(world.path_of("x")).unwrap();
    for make in [
        |path: &std::path::Path| std::fs::create_dir(path).unwrap(),
        |path: &std::path::Path| std::os::unix::fs::symlink("/dev/shm", path).unwrap(),
        |path: &std::path::Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ] {
        make(&world.path_of("x"));
        let error = open();
        assert!(matches!(error, OpenError::Kind { .. }), "{error}");
        let error = Publisher::<u64>::builder().domain(&domain).create("x").unwrap_err();
        assert!(matches!(error, CreateError::Foreign { .. }), "{error}");
        std::fs::remove_dir(world.path_of("x")).or_else(|_| std::fs::remove_file(world.path_of("x"))).unwrap();
    }
}

#[test]
fn inconsistent_headers_are_refused() {
    let world = World::with_daemon();
    let domain = world.domain();
    let publisher = Publisher::<u64>::builder().domain(&domain).create("x").unwrap();
    assert_eq!(world.list().len(), 1);
    let file = std::fs::File::options().read(true).write(true).open(publisher.path()).unwrap();
    let mut original = [0; 256];
    file.read_exact_at(&mut original, 0).unwrap();
    let open_with = |at: u64, bytes: &[u8]| {
        file.write_all_at(bytes, at).unwrap();
        let error = Subscriber::<u64>::builder().domain(&domain).open("x").unwrap_err();
        file.write_all_at(&original, 0).unwrap();
        let OpenError::Layout { reason, .. } = error else { panic!("{error}") };
        reason
    };
    let error = open_with(8, &9u32.to_ne_bytes());
    assert_eq!(error, LayoutError::Version { found: 9 });
    assert!(error.to_string().contains("version 9") && error.to_string().contains("version 3"), "{error}");
    for (at, bytes) in [(12, 17u32.to_ne_bytes()), (12, 32u32.to_ne_bytes()), (16, 64u32.to_ne_bytes())] {
        assert!(matches!(open_with(at, &bytes), LayoutError::Damaged(_)));
    }
    assert!(matches!(open_with(24, &u64::MAX.to_ne_bytes()), LayoutError::Damaged(_)));
    drop(Subscriber::<u64>::builder().domain(&domain).open("x").unwrap());
    file.set_len(5000).unwrap();
    let error = Subscriber::<u64>::builder().domain(&domain).open("x").unwrap_err();
    assert!(error.to_string().contains("the file has 5000 bytes"), "{error}");
    assert_eq!(world.list().len(), 1);
    file.set_len(4096 + 16 * 384).unwrap();
}

#[test]
fn a_message_longer_than_a_slot_is_refused() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slot_size(256).create("scan").unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap();
    assert_eq!(publisher.send(&[0; 65]), Err(LoanError::MessageTooLarge { len: 65, capacity: 64 }));
    assert_eq!(
        publisher.loan_slice(usize::MAX).map(drop),
        Err(LoanError::MessageTooLarge { len: usize::MAX, capacity: 64 })
    );
    publisher.send(&[7; 64]).unwrap();
    assert_eq!(subscriber.recv().unwrap()[..], [7; 64]);
    assert_eq!(subscriber.lost(), 0);
}

#[test]
fn a_type_mismatch_names_both_types() {
    let world = World::new();
    let domain = world.domain();
    let _publisher = Publisher::<Imu>::builder().domain(&domain).create("imu").unwrap();
    let error = Subscriber::<[u64; 3]>::builder().domain(&domain).open("imu").unwrap_err().to_string();
    assert!(
        error.contains("type robot/Imu (24 bytes, align 8), this subscriber expects [u64; 3] (24 bytes"),
        "{error}"
    );
    let raw = || Subscriber::<[u8]>::builder().domain(&domain);
    assert!(matches!(raw().open("imu"), Err(OpenError::TypeMismatch { .. })));
    assert_eq!(raw().any_type(true).open("imu").unwrap().message_type().to_string(), "robot/Imu");
}

#[test]
fn invalid_values_of_a_type_are_errors() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<bool>::builder().domain(&domain).create("flag").unwrap();
    let mut subscriber = Subscriber::<bool>::builder().domain(&domain).open("flag").unwrap();
    publisher.send(&true).unwrap();
    publisher.send(&false).unwrap();
    let file = std::fs::File::options().write(true).open(publisher.path()).unwrap();
    // The payload of the first slot: behind the states of all slots and its own entry.
    file.write_all_at(&[2], 4096 + 16 * 128 + 32).unwrap();
    let error = subscriber.recv().unwrap_err();
    assert!(error.to_string().contains("message 0 on topic \"flag\" is not a valid bool"), "{error}");
    assert!(!*subscriber.recv().unwrap());
}

#[test]
fn a_second_publisher_gets_the_pid_of_the_first() {
    let world = World::new();
    let mut first = world.publisher("scan", 16, 100);
    let error = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap_err().to_string();
    assert!(error.starts_with(&format!("topic \"scan\" is already published by pid {} (", first.pid())), "{error}");
    first.order(Send(1, 10));
}

#[test]
fn a_missing_or_non_tmpfs_directory_is_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let is_tmpfs =
        nix::sys::statfs::statfs(elsewhere.path()).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC;
    let domain = conduit::Domain::new(elsewhere.path()).without_registry();
    let created = Publisher::<[u8]>::builder().domain(&domain).create("scan");
    assert_eq!(matches!(created, Err(CreateError::NotShared { .. })), !is_tmpfs, "{created:?}");
    let domain = conduit::Domain::new(elsewhere.path().join("missing")).without_registry();
    let error = Publisher::<[u8]>::builder().domain(&domain).create("scan").unwrap_err();
    assert!(error.to_string().contains("missing") && error.to_string().contains("directory must exist"), "{error}");
}

#[test]
fn a_full_directory_is_an_error_at_creation() {
    // Mounting a tmpfs needs root; without it only the size check is tested.
    need_root!("a full directory");
    let world = World::new();
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs {dir} && CONDUIT_SHM_DIR={dir} {conduit} pub big --text x --slots 16 --slot-size 131072; \
         code=$?; ls {dir}; exit $code",
        dir = world.path().display(),
        conduit = env!("CARGO_BIN_EXE_conduit"),
    );
    let mut command = world.command("unshare");
    let output = command.args(["-m", "bash", "-c", &script]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("need 2101248 bytes, have 1048576"), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "no file is left behind");
}

/// Limits of a process are no lack of room: each has a sentence of its own.
#[test]
fn limits_of_the_process_are_named() {
    let world = World::new();
    let mut limited = world.peer();
    limited.order(LimitFiles(16 << 10));
    // The signal would have killed it.
    for _ in 0..2 {
        let failed = limited.ask(Publish("scan", 16, 4000));
        assert!(failed.failure().contains("raise the limit (ulimit -f"), "{failed:?}");
    }
    limited.order(CreateRegion("small", 16 << 10));
    limited.order(UnlinkRegion("small"));

    let mut publisher = world.peer();
    publisher.order(Publish("large", 16, 4 << 20));
    // Root may lock what it likes.
    let is_root = nix::unistd::geteuid().is_root();
    let mut locking = if is_root { world.peer_of(NOBODY) } else { world.peer() };
    locking.order(LockMemory(8 << 20));
    let mut small = world.peer();
    small.order(LimitMappings(32 << 20));
    for (peer, remedy) in [(&mut locking, "raise the limit (ulimit -l"), (&mut small, "(ulimit -v")] {
        for order in [Publish("scan", 16, 4 << 20), Subscribe("large")] {
            let failed = peer.ask(order.clone());
            assert!(failed.failure().contains(remedy), "{order:?}: {failed:?}");
        }
    }
    drop(publisher);
}

#[test]
fn a_directory_without_inodes_is_not_called_full() {
    let world = World::new();
    let mounted = r#"mount -t tmpfs -o nr_inodes=1 none "$CONDUIT_SHM_DIR" && exec "$0""#;
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", mounted, Peer::PROGRAM]);
    let can_mount = std::process::Command::new("unshare").args(["--mount", "true"]).output();
    if !can_mount.is_ok_and(|output| output.status.success()) {
        skip!(Lack::Namespaces(&["--mount"]), "a directory without inodes");
    }
    let failed = Peer::run(command, None).ask(Publish("scan", 16, 100));
    assert!(failed.failure().contains("no inodes left"), "{failed:?}");
}
