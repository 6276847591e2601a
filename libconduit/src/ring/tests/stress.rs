//! The ring in real memory under load: for ThreadSanitizer (see `.ci/deep`), and briefly in the
//! ordinary suite. All threads share one mapping, since a sanitizer cannot relate two.
//!
//! `CONDUIT_STRESS_MESSAGES` is the number of messages.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use crate::ring::copy::Line;
use crate::ring::end::Gone;
use crate::ring::geometry::Geometry;
use crate::ring::layout::READERS;
use crate::ring::memory::{Memory, ReaderMemory};
use crate::ring::reader::{CopyTo, Pin, Reader, ReceiveMode, Received};
use crate::ring::reuse::Reuse;
use crate::ring::slot::claim::Claimed;
use crate::ring::slot::mapped::MappedRing;
use crate::ring::slot::sample::HeldMessage;
use crate::ring::start::Start;
use crate::ring::writer::Writer;
use crate::shm::descriptor::Descriptor;
use crate::shm::lock::LockByte;
use crate::shm::map::{Mapping, ReadOnly};
use crate::shm::open::{Access, reopen};
use crate::shm::region_file::RegionFile;

const SLOTS: u32 = 8;
const WORDS: usize = 24;

const BOTH: [Reuse; 2] = [Reuse::Oldest, Reuse::Newest { retain: 1 }];

/// A ring whose records all belong to living subscribers.
struct Bench {
    ring: Arc<MappedRing>,
    reuse: Reuse,
    _locked: OwnedFd,
}

impl Bench {
    fn new(reuse: Reuse) -> Self {
        let geometry = Geometry::new(SLOTS, 192 + 8 * WORDS as u64).unwrap();
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(geometry.region_bytes()).unwrap();
        let file = Descriptor::open(|| std::io::Result::Ok(file.into())).unwrap();
        let locked = reopen(&file, Access::ReadWrite).unwrap();
        for record in 0..geometry.records() {
            assert!(LockByte::record(record).try_write(&locked).unwrap());
        }
        let len = NonZeroUsize::new(geometry.region_bytes() as usize).unwrap();
        let mapping = Mapping::new(&file, len).unwrap();
        Self {
            reuse,
            ring: Arc::new(MappedRing::new(mapping, geometry, RegionFile::new(file, None).unwrap())),
            _locked: locked,
        }
    }

    fn reader(&self, record: Option<usize>) -> Reader<MappedRing> {
        Reader::new(Arc::clone(&self.ring), record, Start::Next)
    }

    /// Publishes in runs of 1 to 11 messages.
    fn publish_runs(&self, messages: u64) {
        let mut writer = Writer::new(Arc::clone(&self.ring), self.reuse);
        let mut next = 0;
        while next < messages {
            let wanted = (next % 11 + 1).min(messages - next);
            let mut run = writer.run(wanted);
            for number in next..next + wanted {
                let (slot, _) = run.slot().unwrap();
                let payload = self.ring.payload(slot).as_ptr().cast::<u64>();
                for at in 0..WORDS {
                    // SAFETY: within the payload, aligned, and only accessed atomically while the
                    // slot cannot be pinned.
                    unsafe { AtomicU64::from_ptr(payload.add(at)) }.store(word(number, at), Relaxed);
                }
                run.publish(8 * WORDS, number);
            }
            next += wanted;
            std::thread::yield_now();
        }
        writer.close();
    }

    fn publish(&self, messages: u64, fill: impl Fn(u64, &mut [u64])) {
        let mut writer = Writer::new(Arc::clone(&self.ring), self.reuse);
        for number in 0..messages {
            let mut claimed = Claimed::new(&mut writer, 8 * WORDS).unwrap();
            fill(number, <[u64]>::mut_from_bytes(&mut claimed).unwrap());
            claimed.publish(|| number);
            if number.is_multiple_of(64) {
                // Lets the readers fall asleep now and then.
                std::thread::yield_now();
            }
        }
        writer.close();
    }
}

fn messages() -> u64 {
    std::env::var("CONDUIT_STRESS_MESSAGES").map_or(50_000, |messages| messages.parse().unwrap())
}

fn word(number: u64, at: usize) -> u64 {
    (number ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn check(message: &Received, bytes: &[u8]) {
    let words = <[u64]>::ref_from_bytes(bytes).unwrap();
    assert_eq!((words.len(), message.stamp_ns), (WORDS, message.sequence));
    for (at, found) in words.iter().enumerate() {
        assert_eq!(*found, word(message.sequence, at), "word {at} of message {}", message.sequence);
    }
}

/// Receives until the topic is closed. Every message is accounted for.
fn read_all<R: ReaderMemory, M: ReceiveMode<R>>(
    mut reader: Reader<R>,
    messages: u64,
    mut mode: M,
    mut use_it: impl FnMut(&Reader<R>, &M, Received),
) {
    loop {
        match reader.receive_or_end(&mut mode, || Some(false)) {
            Ok(Some(received)) => use_it(&reader, &mode, received),
            Ok(None) => {
                reader.sleep(Duration::from_secs(1), None);
            }
            Err(how) => {
                assert_eq!(how, Gone::Closed);
                break;
            }
        }
    }
    assert_eq!(reader.received() + reader.lost(), messages);
}

fn read_pinned(reader: Reader<MappedRing>, record: usize, hold: usize, messages: u64) {
    let mut kept = VecDeque::new();
    read_all(reader, messages, Pin { record }, |reader, _, message| {
        let held = HeldMessage::<[u8]>::pinned(reader.memory(), record, &message).unwrap();
        check(&message, &held);
        kept.push_back((message, held));
        if kept.len() > hold {
            let (message, held) = kept.pop_front().unwrap();
            check(&message, &held);
        }
    });
}

fn read_copies<R: ReaderMemory>(reader: Reader<R>, messages: u64) {
    let mut lines: Vec<Line> = Vec::new();
    read_all(reader, messages, CopyTo(&mut lines), |_, copy, message| {
        check(&message, &copy.0.as_slice().as_bytes()[..message.len]);
    });
}

#[test]
fn readers_that_pin() {
    for reuse in BOTH {
        let (bench, messages) = (Bench::new(reuse), messages());
        std::thread::scope(|scope| {
            for (record, hold) in [(0, 0), (1, 1), (59, 2)] {
                // Attached before the first message is sent.
                let reader = bench.reader(Some(record));
                scope.spawn(move || read_pinned(reader, record, hold, messages));
            }
            scope.spawn(|| bench.publish(messages, fill));
        });
        assert!((0..SLOTS).all(|slot| bench.ring.state(slot).load(Relaxed) & READERS == 0));
    }
}

fn fill(number: u64, words: &mut [u64]) {
    for (at, into) in words.iter_mut().enumerate() {
        *into = word(number, at);
    }
}

/// A message may be overwritten while it is copied, and then the copy is thrown away. To the
/// language that is a race between the publisher's plain writes and the reader's atomic loads; here
/// the publisher writes atomically as well, so that a sanitizer sees everything else.
#[test]
fn readers_that_copy() {
    for reuse in BOTH {
        let (bench, messages) = (Bench::new(reuse), messages());
        std::thread::scope(|scope| {
            for record in [None, Some(3)] {
                let reader = bench.reader(record);
                scope.spawn(move || read_copies(reader, messages));
            }
            let reader = bench.reader(Some(7));
            scope.spawn(move || read_pinned(reader, 7, 1, messages));
            scope.spawn(|| bench.publish(messages, fill_atomically));
        });
    }
}

/// The same of messages that are published in runs.
#[test]
fn readers_of_runs() {
    for reuse in BOTH {
        let (bench, messages) = (Bench::new(reuse), messages());
        std::thread::scope(|scope| {
            for record in [None, Some(3)] {
                let reader = bench.reader(record);
                scope.spawn(move || read_copies(reader, messages));
            }
            let reader = bench.reader(Some(7));
            scope.spawn(move || read_pinned(reader, 7, 1, messages));
            scope.spawn(|| bench.publish_runs(messages));
        });
        assert!((0..SLOTS).all(|slot| bench.ring.state(slot).load(Relaxed) & READERS == 0));
    }
}

#[test]
fn a_reader_of_a_read_only_mapping() {
    let (bench, messages) = (Bench::new(Reuse::Oldest), messages());
    let geometry = bench.ring.geometry();
    let len = NonZeroUsize::new(geometry.region_bytes() as usize).unwrap();
    let file = Descriptor::open(|| bench.ring.file().with(|file| file.try_clone_to_owned())).unwrap();
    let mapping = Mapping::<ReadOnly>::new(&file, len).unwrap();
    let ring = MappedRing::new(mapping, geometry, RegionFile::new(file, None).unwrap());
    let reader = Reader::new(Arc::new(ring), None, Start::Next);
    std::thread::scope(|scope| {
        scope.spawn(move || read_copies(reader, messages));
        scope.spawn(|| bench.publish(messages, fill_atomically));
    });
}

/// Fills a message while readers may copy it.
fn fill_atomically(number: u64, words: &mut [u64]) {
    for (at, into) in words.iter_mut().enumerate() {
        // SAFETY: aligned and valid, and only accessed atomically while the slot cannot be pinned.
        unsafe { AtomicU64::from_ptr(into) }.store(word(number, at), Relaxed);
    }
}
