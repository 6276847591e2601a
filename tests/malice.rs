//! What a process with write access to a region cannot do, whatever it writes: crash the daemon,
//! make it delete another topic, or block the publisher. (It can corrupt the messages of that topic
//! and so its subscribers, and by truncating the file it can kill every process that has it
//! mapped.)

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use conduit::internal::ReapRegion;
use conduit::internal::shm::lock::{LockByte, OWNER};
use conduit::registry::RegionState;
use conduit::{CreateError, LoanError, OpenError, Publisher, ShmRegion, Start, Subscriber};
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::libc;
use nix::sys::signal::Signal;

use crate::harness::{DEADLINE, Peer, Random, World, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

/// Geometry of the attacked region.
const SLOTS: u64 = 4;
const SLOT_BYTES: u64 = 1280;
const REGION_BYTES: u64 = 4096 + SLOTS * SLOT_BYTES;

/// Offsets in the control page (see `libconduit/src/ring/layout.rs`).
const PRODUCER_AT: u64 = 64;
const CONSUMERS_AT: u64 = 128;
const TYPE_NAME_AT: u64 = 192;
const RECORDS_AT: u64 = 256;
/// The control page is followed by the states of all slots, then their headers and payloads.
const STATES_AT: u64 = 4096;
const STATE_BYTES: u64 = 128;
const HEADER_BYTES: u64 = 64;
/// The byte of the owner lock (see `libconduit/src/shm/lock.rs`).
const OWNER_AT: libc::off_t = 1 << 62;

fn state_at(slot: u64) -> u64 {
    STATES_AT + slot * STATE_BYTES
}

fn header_at(slot: u64) -> u64 {
    STATES_AT + SLOTS * STATE_BYTES + slot * (SLOT_BYTES - STATE_BYTES)
}

/// A world with an attacked topic and another one that must not be affected.
struct Attack {
    world: World,
    victim: Peer,
    /// The attacked region, as the attacker opened it.
    file: File,
    bystanders: [Peer; 2],
}

impl Attack {
    fn new() -> Self {
        let world = World::with_daemon();
        let mut victim = world.peer();
        victim.order(Publish("victim", SLOTS as u32, (SLOT_BYTES - STATE_BYTES - HEADER_BYTES) as usize));
        let file = File::options().read(true).write(true).open(world.path_of("victim")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), REGION_BYTES);
        let publisher = world.publisher("other", 16, 1000);
        let mut subscriber = world.subscriber("other");
        subscriber.tell(Drain);
        wait_until("both to be listed", || world.list().len() == 2);
        Self { world, victim, file, bystanders: [publisher, subscriber] }
    }

    /// Checks that the daemon answers and the other topic is unchanged.
    fn look_around(&mut self) {
        let listed = self.world.list();
        let other = listed.iter().find(|topic| topic.name == "other").expect("the other topic is listed");
        assert_eq!(
            (&other.state, other.publisher.as_ref().unwrap().pid),
            (&RegionState::Live, self.bystanders[0].pid())
        );
        assert_eq!(other.subscribers.len(), 1);
        for topic in ["victim", "other"] {
            let _ = self.world.client().describe(&topic.parse().unwrap());
        }
        // A watcher receives the snapshot and disconnects.
        self.world.client().watch().unwrap().next().unwrap().unwrap();
        self.bystanders[0].order(Send(1, 1000));
    }

    /// Kills the publisher of the attacked topic: it is reaped, its name can be used again, and
    /// everything else continues.
    fn ends_well(mut self) {
        let started = Instant::now();
        self.victim.signal(Signal::SIGKILL);
        self.world.wait_until_gone("victim");
        // The daemon probes a lock every half second, and allows a lock to outlive its process by a
        // quarter.
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        wait_until("the list to forget it", || self.world.list().len() == 1);
        let mut successor = self.world.publisher("victim", 4, 100);
        successor.order(Send(3, 100));
        successor.order(Unpublish);
        assert!(self.world.daemon().is_running());
        self.look_around();
        let [mut publisher, subscriber] = self.bystanders;
        publisher.order(Send(10, 1000));
        let published: u64 = publisher.ask(Published).number();
        publisher.order(Unpublish);
        let drained = subscriber.answer().drained();
        assert_eq!((drained.received + drained.lost, drained.torn), (published, 0), "{drained:?}");
        self.world.wait_until_empty();
    }
}

/// Values that commonly cause overflows and off-by-one errors.
fn evil(random: &mut Random) -> u64 {
    let any = random.next();
    random.pick(&[0, 1, 2, 3, 4, 5, 1 << 31, 1 << 32, 1 << 60, 1 << 63, (1 << 63) | 1, u64::MAX, u64::MAX - 1, any])
}

/// The offset of a random word of the protocol: head, published, waiting, wake; in a record; of a
/// slot's state or header.
fn evil_place(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.pick(&[PRODUCER_AT, PRODUCER_AT + 8, CONSUMERS_AT, CONSUMERS_AT + 8]),
        1 => RECORDS_AT + random.below(60) * 64 + random.below(8) * 8,
        2 => state_at(random.below(SLOTS)),
        _ => header_at(random.below(SLOTS)) + random.below(5) * 8,
    }
}

#[test]
fn random_writes_over_all_mutable_words() {
    let seed = 17;
    let mut random = Random(seed);
    let mut attack = Attack::new();
    attack.victim.begin(EndureSending(1000));
    let mut readers: Vec<_> = (0..2).map(|_| attack.world.peer()).collect();
    for reader in &mut readers {
        reader.begin(EndureReceiving("victim"));
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut rounds = 0;
    while Instant::now() < deadline {
        for _ in 0..50 {
            let (at, word) = (evil_place(&mut random), evil(&mut random));
            attack.file.write_all_at(&word.to_ne_bytes(), at).unwrap();
        }
        if rounds % 16 == 0 {
            // All of the region except the constant part, which other tests attack.
            for (from, to) in [(PRODUCER_AT, TYPE_NAME_AT), (RECORDS_AT, REGION_BYTES)] {
                let noise: Vec<u8> = (from..to).map(|_| random.next() as u8).collect();
                attack.file.write_all_at(&noise, from).unwrap();
            }
            attack.look_around();
        }
        rounds += 1;
    }
    assert!(rounds > 10, "{rounds}");
    for reader in &mut readers {
        // It is still alive: no value made it panic.
        let answer = reader.ask(Stop);
        let Answer::Received { opened, received } = answer else { panic!("{answer:?}") };
        assert!(opened > 0 && received > 0, "{answer:?}");
    }
    let answer = attack.victim.ask(Stop);
    let Answer::Endured { sent, longest_ms, .. } = answer else { panic!("{answer:?}") };
    assert!(sent > 0, "{answer:?}");
    assert!(longest_ms < 1000, "a publisher has hung: {answer:?}");
    attack.ends_well();
}

/// Every combination of extreme words, one reader after another: start positions, messages and
/// counts.
#[test]
fn readers_survive_impossible_numbers() {
    const EXTREMES: [u64; 7] = [0, 1, 5, 1 << 63, (1 << 63) | 6, u64::MAX - 1, u64::MAX];
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<[u8]>::builder().domain(&domain).slots(2).slot_size(256).create("victim").unwrap();
    let file = File::options().write(true).open(publisher.path()).unwrap();
    let write = |at: u64, word: u64| file.write_all_at(&word.to_ne_bytes(), at).unwrap();
    // Behind two states; each slot has a payload of 64 bytes.
    let headers = || [STATES_AT + 2 * STATE_BYTES, STATES_AT + 3 * STATE_BYTES];
    for head in EXTREMES {
        for word in EXTREMES {
            for start in [Start::Next, Start::Latest, Start::Oldest] {
                write(PRODUCER_AT, head);
                write(PRODUCER_AT + 8, word);
                for at in headers() {
                    for (field, word) in [word, word, !word, word, word].into_iter().enumerate() {
                        write(at + 8 * field as u64, word);
                    }
                }
                let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).start(start).open("victim").unwrap();
                // The last number is the largest possible one.
                for number in [head, head.wrapping_add(1), word, u64::MAX, 0] {
                    for at in headers() {
                        write(at, number);
                    }
                    let sample = subscriber.try_recv().unwrap();
                    assert!(sample.is_none_or(|sample| sample.len() <= 64));
                    let _ = subscriber.recv_timeout(Duration::ZERO);
                }
            }
        }
    }
    publisher.send(b"still there").unwrap();
}

#[test]
fn closing_a_topic_full_of_noise() {
    let mut random = Random(18);
    for _ in 0..20 {
        let mut attack = Publisher::<[u8]>::builder();
        let world = World::new();
        attack = attack.domain(&world.domain()).slots(SLOTS as u32).capacity(1000);
        let mut publisher = attack.create("victim").unwrap();
        let file = File::options().write(true).open(publisher.path()).unwrap();
        let noise: Vec<u8> = (0..REGION_BYTES).map(|_| random.next() as u8).collect();
        file.write_all_at(&noise, 0).unwrap();
        let _ = publisher.send(b"anything");
        let _ = publisher.subscribers();
        drop(publisher);
        world.wait_until_empty();
    }
}

#[test]
fn overwriting_the_identity() {
    for damage in [[0; 64], [0xFF; 64]] {
        let mut attack = Attack::new();
        attack.file.write_all_at(&damage, 0).unwrap();
        attack.look_around();
        attack.victim.order(Send(3, 1000));
        attack.ends_well();
    }
}

#[test]
fn overwriting_the_identity_before_the_daemon_starts() {
    let mut attack = Attack::new();
    attack.file.write_all_at(&[0; 64], 0).unwrap();
    attack.world.kill_daemon();
    attack.world.start_daemon();
    attack.bystanders[0].order(Send(1, 1000));
    attack.ends_well();
}

#[test]
fn changing_the_mark_of_a_topic() {
    for mark in ["kept", "raw 1 init", "nonsense", ""] {
        let mut attack = Attack::new();
        rustix::fs::fsetxattr(&attack.file, "user.conduit", mark.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
        attack.look_around();
        attack.victim.order(Send(3, 1000));
        attack.ends_well();
    }
}

/// Truncating a file kills processes that access the mapping with SIGBUS, here the publisher when
/// it sends. The daemon maps no region that it inspects. Truncated memory cannot be restored for
/// its users.
#[test]
fn truncating_growing_and_punching_the_file() {
    type Damage = fn(&File);
    let damages: [Damage; 6] = [
        |file| file.set_len(0).unwrap(),
        |file| file.set_len(100).unwrap(),
        |file| file.set_len(4096).unwrap(),
        |file| file.set_len(REGION_BYTES + 4096).unwrap(),
        |file| file.set_len(1 << 40).unwrap(),
        |file| {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(file, hole, 0, REGION_BYTES as i64).unwrap();
        },
    ];
    for damage in damages {
        let mut attack = Attack::new();
        damage(&attack.file);
        attack.look_around();
        attack.victim.tell(Send(1, 1000));
        attack.look_around();
        attack.ends_well();
    }
}

/// Memory that a file of the shared-memory directory has.
fn reserved_bytes(file: &File) -> u64 {
    512 * std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap())
}

#[test]
fn a_region_with_holes_takes_no_memory_of_its_readers() {
    const SIZE: u64 = 1 << 30;
    let world = World::new();
    let domain = world.domain();
    // A valid header, a lock and a mark: all but the memory.
    let publisher = Publisher::<[u8]>::builder().slots(2).domain(&domain).create("scan").unwrap();
    let mut header = [0; 4096];
    File::open(publisher.path()).unwrap().read_exact_at(&mut header, 0).unwrap();
    header[16..24].copy_from_slice(&((SIZE - 4096) / 2).to_ne_bytes());
    let make = |name: &str, mark: &[u8]| {
        let file = File::options().read(true).write(true).create_new(true).open(world.path_of(name)).unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(&header, 0).unwrap();
        rustix::fs::fsetxattr(&file, "user.conduit", mark, rustix::fs::XattrFlags::empty()).unwrap();
        assert!(OWNER.try_write(&file).unwrap());
        file
    };
    let (topic, raw) = (make("sparse", b"topic"), make("raw", b"raw 1 nobody"));
    let open = |copies| Subscriber::<[u8]>::builder().copy_samples(copies).domain(&domain).open("sparse");
    for error in [open(false).unwrap_err(), open(true).unwrap_err(), ShmRegion::open_in(&domain, "raw").unwrap_err()] {
        assert!(error.to_string().contains("of its 1073741824 bytes have memory"), "{error}");
    }
    for verb in [&["echo", "sparse", "--last"][..], &["info", "sparse"], &["list"], &["hz", "sparse"], &["info", "raw"]]
    {
        let _ = world.conduit(verb).stdin(std::process::Stdio::null()).output().unwrap();
    }
    assert!(reserved_bytes(&topic) < 1 << 20 && reserved_bytes(&raw) < 1 << 20);
}

#[test]
fn holding_every_slot() {
    let mut attack = Attack::new();
    for state in [1, (1 << 60) - 1, 1 << 59] {
        for slot in 0..SLOTS {
            attack.file.write_all_at(&u64::to_ne_bytes(state), state_at(slot)).unwrap();
        }
        // No process has claimed these records: the publisher frees what they appear to hold.
        attack.victim.order(Send(10, 1000));
    }
    let holder = attack.world.subscriber("victim");
    for slot in 0..SLOTS {
        attack.file.write_all_at(&u64::to_ne_bytes(1), state_at(slot)).unwrap();
    }
    // The slot that it had claimed earlier.
    attack.victim.order(Send(1, 1000));
    // This record is claimed: the publisher gets an error.
    let answer = attack.victim.ask(Send(1, 1000));
    assert!(answer.failure().contains("all 4 slots are held"), "{answer:?}");
    holder.kill();
    attack.victim.order(Send(10, 1000));
    attack.ends_well();
}

#[test]
fn taking_every_lock() {
    for exclusive in [false, true] {
        let mut attack = Attack::new();
        for record in 0..60 {
            let lock = LockByte::record(record);
            let taken = if exclusive { lock.try_write(&attack.file) } else { lock.try_read(&attack.file) };
            assert!(taken.unwrap());
        }
        for slot in 0..SLOTS {
            attack.file.write_all_at(&u64::to_ne_bytes((1 << 60) - 1), state_at(slot)).unwrap();
        }
        // The slot that it had claimed earlier.
        attack.victim.order(Send(1, 1000));
        let answer = attack.victim.ask(Send(1, 1000));
        // The holder of a write lock counts as a subscriber, the holder of a read lock does not.
        assert_eq!(answer.failure().contains("all 4 slots are held"), exclusive, "{answer:?}");
        let opened = Subscriber::<[u8]>::builder().domain(&attack.world.domain()).open("victim");
        match opened {
            Err(error) => assert!(exclusive && matches!(error, OpenError::TooManySubscribers { .. }), "{error}"),
            // Who may only read can hold read locks, and must not be able to refuse.
            Ok(mut subscriber) => {
                assert!(!exclusive && !subscriber.is_zero_copy());
                attack.victim.order(Send(1, 1000));
                assert_eq!(subscriber.recv_timeout(DEADLINE).unwrap().len(), 1000);
            }
        }
        attack.look_around();
        // Takes the owner lock as soon as the owner is dead; the daemon may be faster.
        let file = attack.file.try_clone().unwrap();
        let grab = std::thread::spawn(move || {
            let taken = || if exclusive { OWNER.try_write(&file) } else { OWNER.try_read(&file) };
            wait_until("the owner to die", || taken().unwrap());
        });
        attack.ends_well();
        grab.join().unwrap();
    }
}

#[test]
fn linking_a_region_under_other_names() {
    let attack = Attack::new();
    let (victim, other) = (attack.world.path_of("victim"), attack.world.path_of("other"));
    let names = [".conduit_other~1-2-3", ".conduit_other~9", "conduit_second", ".conduit_victim~1-1-1"];
    // In two steps, because the daemon checks private names that files are renamed to, as removers
    // do.
    let give = |from: &Path, name: &str| {
        let detour = attack.world.path().join("detour");
        std::fs::hard_link(from, &detour).unwrap();
        std::fs::rename(detour, attack.world.path().join(name)).unwrap();
    };
    for name in names {
        give(&victim, name);
    }
    give(&other, ".conduit_other~4-5-6");
    give(&other, ".conduit_victim~4-5-6");
    std::os::unix::fs::symlink(&other, attack.world.path().join("conduit_third")).unwrap();
    let Attack { world, victim: publisher, mut bystanders, .. } = attack;
    let (id, dead_id) = (world.region("other").id(), world.region("victim").id());
    publisher.kill();
    // The daemon removes the dead region's names, and finishes what looks like the work of a killed
    // remover.
    let dead = names.map(|name| world.path().join(name));
    wait_until("the dead region's names to go", || {
        // (The file of the other topic, renamed back by then, may have the topic's name.)
        let victim = world.shm().id_of(&"victim".parse().unwrap()).unwrap();
        victim != Some(dead_id) && !world.exists("second") && !dead.iter().any(|path| path.exists())
    });
    assert_eq!(world.region("other").id(), id);
    bystanders[0].order(Send(3, 1000));
    assert!(world.list().iter().any(|topic| topic.name == "other" && topic.state == RegionState::Live));
}

#[test]
fn holding_the_owner_lock_of_an_orphan() {
    let world = World::new();
    let dead = world.publisher("victim", 4, 1000);
    let file = File::options().read(true).write(true).open(world.path_of("victim")).unwrap();
    dead.kill();
    assert!(OWNER.try_write(&file).unwrap());
    let started = Instant::now();
    let error = Publisher::<[u8]>::builder().domain(&world.domain()).create("victim").unwrap_err();
    assert!(matches!(error, CreateError::AlreadyPublished { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    OWNER.unlock(&file);
    let mut publisher = Publisher::<[u8]>::builder().domain(&world.domain()).slots(2).create("victim").unwrap();
    assert!(!matches!(publisher.send(b"x"), Err(LoanError::AllSlotsHeld { .. })));
}

/// A process that may write the region waits for the owner lock, and has it when the owner dies.
/// The daemon is stopped meanwhile: it might be faster.
fn inherit_the_owner_lock(world: &mut World, victim: Peer) -> File {
    let file = File::options().read(true).write(true).open(world.path_of("victim")).unwrap();
    let heir = file.try_clone().unwrap();
    let waiting = std::thread::spawn(move || {
        let (l_type, l_whence) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
        let request = libc::flock { l_type, l_whence, l_start: OWNER_AT, l_len: 1, l_pid: 0 };
        fcntl(&heir, FcntlArg::F_OFD_SETLKW(&request)).unwrap();
    });
    let waits = format!(":{} {OWNER_AT} {OWNER_AT}", file.metadata().unwrap().ino());
    wait_until("the heir to wait", || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("-> OFDLCK") && line.ends_with(&waits))
    });
    world.daemon().signal(Signal::SIGSTOP);
    victim.kill();
    waiting.join().unwrap();
    world.daemon().signal(Signal::SIGCONT);
    file
}

#[test]
fn inheriting_the_owner_lock_with_a_lease() {
    let mut world = World::with_daemon();
    let victim = world.publisher("victim", 4, 1000);
    let sleeper = world.sleeper("victim");
    let _file = inherit_the_owner_lock(&mut world, victim);
    sleeper.expect(Answer::Gone(End::Died));
    drop(world.publisher("victim", 4, 1000));
}

#[test]
fn inheriting_the_owner_lock_with_a_late_lease() {
    let mut world = World::new();
    let mut victim = world.publisher("victim", 4, 1000);
    world.start_daemon();
    // A publisher renews its lease when it wakes a subscriber, at most twice a second.
    wait_until("the lease", || {
        let sleeper = world.sleeper("victim");
        victim.order(Send(1, 1000));
        assert!(matches!(sleeper.answer(), Answer::Sample { .. }));
        // The subscriber, this test, and the publisher.
        world.client().status().unwrap().clients == 3
    });
    let sleeper = world.sleeper("victim");
    let _file = inherit_the_owner_lock(&mut world, victim);
    sleeper.expect(Answer::Gone(End::Died));
    drop(world.publisher("victim", 4, 1000));
}
