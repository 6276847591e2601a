//! Records in mapped memory: who has signed them, and who may clear what their holders left.

use std::cell::Cell;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::ring::geometry::Geometry;
use crate::ring::layout::{NO_CURSOR, Record};
use crate::ring::memory::{Memory, WritableMemory};
use crate::ring::slot::mapped::{HeldRecord, MappedRing};
use crate::shm::atomics::Native;
use crate::shm::descriptor::Descriptor;
use crate::shm::lock::LockByte;
use crate::shm::map::Mapping;
use crate::shm::region_file::RegionFile;

const SLOTS: u32 = 2;
const RECORD: usize = 3;

/// A region's file, which anybody can map or lock.
struct Place(tempfile::NamedTempFile);

impl Place {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        file.as_file().set_len(geometry().region_bytes()).unwrap();
        Self(file)
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(self.0.path()).unwrap()
    }

    fn map(&self) -> Mapping {
        Mapping::new(self.open(), NonZeroUsize::new(geometry().region_bytes() as usize).unwrap()).unwrap()
    }

    fn ring(&self) -> MappedRing {
        let file = Descriptor::open(|| std::io::Result::Ok(self.open().into())).unwrap();
        MappedRing::new(self.map(), geometry(), RegionFile::new(file, None).unwrap())
    }
}

fn geometry() -> Geometry {
    Geometry::new(SLOTS, 256).unwrap()
}

/// Everything but the signature: pid, uid and cursor.
fn counters(record: &Record<Native>) -> [u64; 6] {
    let [received, lost] = [&record.received, &record.lost].map(|counter| counter.load(Relaxed));
    let [a, b, c] = record.reserved.each_ref().map(|word| word.load(Relaxed).into());
    [received, lost, a, b, c, record.flags.load(Relaxed).into()]
}

#[test]
fn a_signature_leaves_nothing_of_the_previous_one() {
    let place = Place::new();
    let ring = place.ring();
    let record = ring.record(RECORD);
    for counter in [&record.received, &record.lost, &record.cursor] {
        counter.store(7, Relaxed);
    }
    for word in [&record.pid, &record.uid, &record.flags].into_iter().chain(&record.reserved) {
        word.store(7, Relaxed);
    }
    let signed = place.ring().with_record(HeldRecord::new(RECORD, place.map()), 1234, 1000, [b'x'; 16]);
    assert_eq!((record.pid.load(Relaxed), record.uid.load(Relaxed)), (1234, 1000));
    assert_eq!(record.program.each_ref().map(|word| word.load(Relaxed)), [u64::from_ne_bytes([b'x'; 8]); 2]);
    assert_eq!(record.cursor.load(Relaxed), NO_CURSOR, "it relies on no message");
    assert_eq!(counters(record), [0; 6]);
    record.cursor.store(5, Relaxed);
    drop(signed);
    assert_eq!((record.pid.load(Relaxed), record.cursor.load(Relaxed)), (0, NO_CURSOR));
}

/// A record is cleared under its lock, so that nobody can claim it meanwhile, and only then.
#[test]
fn the_record_of_the_dead_is_locked_while_it_is_cleared() {
    let place = Place::new();
    let ring = place.ring();
    let lock = LockByte::record(RECORD);
    let other = place.open();
    let (was_run, was_locked) = (Cell::new(false), Cell::new(false));
    let clear = || {
        was_run.set(true);
        was_locked.set(!lock.try_write(&other).unwrap());
    };
    // Its holder is alive.
    assert!(lock.try_write(&other).unwrap());
    ring.if_dead(RECORD, clear);
    assert!(!was_run.get());
    lock.unlock(&other);
    ring.if_dead(RECORD, clear);
    assert!(was_run.get() && was_locked.get());
    assert!(lock.try_write(&other).unwrap(), "it can be claimed again");
}

#[test]
fn a_sleeper_sleeps_until_it_is_woken() {
    let place = Place::new();
    let ring = place.ring();
    let begun = Instant::now();
    ring.sleep(0, Duration::from_millis(50), None);
    assert!(begun.elapsed() >= Duration::from_millis(50), "it was not woken");
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| ring.sleep(0, Duration::from_secs(20), None));
        let begun = Instant::now();
        // It may not sleep yet.
        while !sleeper.is_finished() {
            ring.wake_all();
            assert!(begun.elapsed() < Duration::from_secs(10), "it is not woken");
            std::thread::yield_now();
        }
    });
}
