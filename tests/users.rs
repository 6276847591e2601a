//! Several users: read access and removal. Becoming another user needs root.

use std::time::{Duration, Instant};

use conduit::registry::EventKind;
use conduit::{OpenError, Publisher, Subscriber};

use crate::harness::{NOBODY, World, drained, need_root, sample, wait_for, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

#[test]
fn read_only_subscribers_get_copies() {
    let world = World::with_daemon();
    let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).mode(0o444).slots(4);
    let mut publisher = publisher.create("scan").unwrap();
    // The owner may always write, so without root the test changes the mode to get a read-only
    // reader.
    let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(publisher.path(), read_only).unwrap();
    let mut reader = if nix::unistd::geteuid().is_root() { world.peer_of(NOBODY) } else { world.peer() };
    reader.order(Subscribe("scan"));
    assert_eq!(reader.ask(ZeroCopy), Answer::Flag(false));
    let mut message = [0; 100];
    for number in 0..3 {
        crate::harness::fill_pattern(number, &mut message);
        publisher.send(&message).unwrap();
        assert_eq!(reader.ask(Recv), sample(number));
    }
    wait_until("it to be listed", || world.list()[0].subscribers.iter().any(|it| it.pid == reader.pid()));
    for number in 3..10 {
        crate::harness::fill_pattern(number, &mut message);
        publisher.send(&message).unwrap();
    }
    assert_eq!(reader.ask(Recv), Answer::Sample { sequence: 7, lost: 4, is_whole: true });
    reader.tell(Drain);
    drop(publisher);
    reader.expect(drained(6, 4, End::Closed));
}

/// A reader of a read-only region cannot be woken: it looks for itself, and often.
#[test]
fn read_only_subscribers_do_not_wait_for_the_next_check() {
    let world = World::with_daemon();
    let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).mode(0o444).slots(4);
    let mut publisher = publisher.create("scan").unwrap();
    let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(publisher.path(), read_only).unwrap();
    let mut reader = if nix::unistd::geteuid().is_root() { world.peer_of(NOBODY) } else { world.peer() };
    reader.order(Subscribe("scan"));
    let mut message = [0; 100];
    let mut rounds = (0..10).map(|number| {
        reader.tell(Recv);
        // Nothing shows that it waits. If it does not yet, the round is quick in any case.
        std::thread::sleep(Duration::from_millis(20));
        crate::harness::fill_pattern(number, &mut message);
        let sent = Instant::now();
        publisher.send(&message).unwrap();
        reader.expect(sample(number));
        sent.elapsed()
    });
    // All waiters check for the end of their topic every half second.
    assert!(rounds.any(|took| took < Duration::from_millis(250)));
}

#[test]
fn subscribers_without_read_access_get_an_error() {
    need_root!("a region that one may not read");
    let world = World::new();
    let _publisher = Publisher::<[u8]>::builder().domain(&world.domain()).mode(0o600).create("scan").unwrap();
    let mut stranger = world.peer_of(NOBODY);
    let answer = stranger.ask(Subscribe("scan"));
    assert!(
        answer.failure().contains("no permission to read") && answer.failure().contains("mode() or group()"),
        "{answer:?}"
    );
    let answer = stranger.ask(Publish("scan", 2, 64));
    assert!(answer.failure().contains("is already published by another process of uid 0"), "{answer:?}");
}

#[test]
fn who_finds_a_name_taken_is_told_by_which_user() {
    need_root!("names of another user");
    let world = World::new();
    let mut stranger = world.peer_of(NOBODY);
    stranger.order(Publish("scan", 2, 64));
    let error = Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap_err().to_string();
    let owner = format!("is already published by pid {} (", stranger.pid());
    assert!(error.contains(&owner) && error.contains(&format!(") of uid {NOBODY};")), "{error}");
    std::fs::write(world.path_of("foreign"), "").unwrap();
    std::os::unix::fs::chown(world.path_of("foreign"), Some(NOBODY), None).unwrap();
    let error = Publisher::<[u8]>::builder().domain(&world.domain()).create("foreign").unwrap_err().to_string();
    let remedy = format!(", but by uid {NOBODY}; remove or rename it, or `conduit rm --force foreign`");
    assert!(error.contains(&remedy), "{error}");
}

#[test]
fn group_members_get_access() {
    need_root!("another group");
    let world = World::new();
    let publisher = Publisher::<[u8]>::builder().domain(&world.domain()).mode(0o660).group(NOBODY);
    let mut publisher = publisher.create("scan").unwrap();
    let mut member = world.peer_of(NOBODY);
    member.order(Subscribe("scan"));
    assert_eq!(member.ask(ZeroCopy), Answer::Flag(true));
    publisher.send(&[]).unwrap();
    assert_eq!(member.ask(Recv), sample(0));
}

#[test]
fn a_root_daemon_removes_another_users_orphan() {
    need_root!("another user's orphan");
    let world = World::with_daemon();
    let mut events = world.client().watch().unwrap();
    let mut publisher = world.peer_of(NOBODY);
    publisher.order(Publish("scan", 16, 100));
    assert_eq!(world.list()[0].publisher.as_ref().unwrap().uid, NOBODY);
    publisher.kill();
    world.wait_until_gone("scan");
    let died = wait_for("the event", || events.next().unwrap().ok().filter(|event| event.kind == EventKind::Died));
    assert_eq!(died.process.unwrap().uid, NOBODY);
}

#[test]
fn cap_fowner_is_enough_for_a_daemon() {
    need_root!("a daemon of another user");
    let world = World::new();
    let mut daemon = world.daemon_with_one_right();
    // The daemon may read the file, but does not own it and may not write it: it cannot even mark
    // it.
    let publisher = world.publisher("scan", 16, 100);
    let sleeper = world.sleeper("scan");
    publisher.kill();
    sleeper.expect(Answer::Gone(End::Died));
    world.wait_until_gone("scan");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn without_daemon_another_users_orphan_is_an_error() {
    need_root!("another user's orphan");
    let mut world = World::new();
    let dead = world.publisher("scan", 16, 100);
    dead.kill();
    let mut stranger = world.peer_of(NOBODY);
    let answer = stranger.ask(Publish("scan", 16, 100));
    assert!(
        answer.failure().contains("is an orphan of a dead publisher of uid 0") && answer.failure().contains("conduitd"),
        "{answer:?}"
    );
    let error = Subscriber::<[u8]>::builder().domain(&world.domain()).open("scan").unwrap_err();
    assert!(matches!(error, OpenError::Orphaned { .. }), "{error}");
    world.start_daemon();
    stranger.order(Publish("scan", 16, 100));
}

#[test]
fn another_users_claim_does_not_get_a_topic_reaped() {
    need_root!("another user's claim");
    let world = World::with_daemon();
    let mut stranger = world.peer_of(NOBODY);
    let probe = world.path().join("probe");
    let next = std::os::unix::fs::MetadataExt::ino(&std::fs::File::create(&probe).unwrap().metadata().unwrap());
    let dev = world
        .shm()
        .id_of(&"x".parse().unwrap())
        .unwrap()
        .map_or_else(|| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(world.path()).unwrap()), |id| id.dev);
    // Inode numbers of a tmpfs are easy to guess.
    stranger.order(Claim("scan", dev, next + 1, 60));
    let mut publisher = world.publisher("scan", 16, 100);
    assert_eq!(world.list()[0].publisher.as_ref().unwrap().pid, publisher.pid());
    let mut events = world.client().watch().unwrap();
    events.next().unwrap().unwrap();
    stranger.kill();
    // The end of the false claims causes no event: the next one is the publisher's own.
    publisher.order(Send(1, 10));
    publisher.order(Unpublish);
    assert_eq!(events.next().unwrap().unwrap().kind, EventKind::Closed);
}

#[test]
fn a_hostile_reader_cannot_keep_a_dead_subscribers_slots() {
    let world = World::new();
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(2).create("scan").unwrap();
    let mut subscriber = world.subscriber("scan");
    for message in [b"a", b"b"] {
        publisher.send(message).unwrap();
        subscriber.order(Hold(1));
    }
    subscriber.kill();
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    assert!(conduit::internal::shm::lock::LockByte::record(0).try_read(&file).unwrap());
    publisher.send(b"c").unwrap();
}

#[test]
fn a_hostile_reader_cannot_keep_subscribers_away() {
    use conduit::internal::shm::lock::LockByte;
    let world = World::new();
    let mut publisher = world.publisher("scan", 16, 100);
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    for (number, byte) in [LockByte::record, LockByte::attached].into_iter().enumerate() {
        for record in 0..60 {
            assert!(byte(record).try_read(&file).unwrap());
        }
        let mut subscriber = world.subscriber("scan");
        // Without a record it can only copy, and is not counted.
        assert_eq!(subscriber.ask(ZeroCopy), Answer::Flag(false));
        publisher.order(Send(1, 100));
        assert_eq!(subscriber.ask(Recv), sample(number as u64));
        for record in 0..60 {
            byte(record).unlock(&file);
        }
    }
    assert_eq!(world.subscriber("scan").ask(ZeroCopy), Answer::Flag(true));
}

#[test]
fn a_hostile_reader_cannot_keep_an_orphan_alive() {
    let world = World::with_daemon();
    let publisher = world.publisher("scan", 16, 100);
    let sleeper = world.sleeper("scan");
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    assert!(conduit::internal::shm::lock::OWNER.try_read(&file).is_ok_and(|locked| !locked), "the owner holds it");
    publisher.kill();
    // From now on the read lock is available; the daemon may be faster.
    let _ = conduit::internal::shm::lock::OWNER.try_read(&file);
    sleeper.expect(Answer::Gone(End::Died));
    world.wait_until_gone("scan");
}

#[test]
fn a_hostile_reader_cannot_keep_a_publisher_from_restarting() {
    let world = World::new();
    let publisher = world.publisher("scan", 16, 100);
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    publisher.kill();
    for lock in [conduit::internal::shm::lock::OWNER, conduit::internal::shm::lock::REMOVER] {
        assert!(lock.try_read(&file).unwrap());
    }
    let mut successor = world.publisher("scan", 16, 100);
    let sleeper = world.sleeper("scan");
    successor.order(Send(1, 10));
    sleeper.expect(sample(0));
    // Without patience, too; and tools.
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    successor.kill();
    for lock in [conduit::internal::shm::lock::OWNER, conduit::internal::shm::lock::REMOVER] {
        assert!(lock.try_read(&file).unwrap());
    }
    let patience = std::time::Duration::ZERO;
    let builder = Publisher::<u64>::builder().domain(&world.domain()).takeover_timeout(patience);
    drop(builder.create("scan").unwrap());
    let publisher = world.publisher("scan", 16, 100);
    let file = std::fs::File::open(world.path_of("scan")).unwrap();
    publisher.kill();
    assert!(conduit::internal::shm::lock::OWNER.try_read(&file).unwrap());
    assert!(world.conduit(&["gc"]).status().unwrap().success());
    assert!(!world.exists("scan"));
}

#[test]
fn the_owner_may_write_whatever_the_mode_or_umask() {
    let world = World::new();
    let script =
        format!("umask 0777; exec '{}' pub scan --text x --wait-matching-subscribers 1", env!("CARGO_BIN_EXE_conduit"));
    let mut publisher = world.command("sh").args(["-c", &script]).spawn().unwrap();
    wait_until("the topic", || world.exists("scan"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(world.path_of("scan")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    drop(Publisher::<u64>::builder().domain(&world.domain()).mode(0o440).create("scan").unwrap());
}
