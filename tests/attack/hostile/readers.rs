//! Attacks by a user who may read regions, and not write them.

use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use conduit::Domain;
use conduit::internal::shm::lock::{LockByte, OWNER};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use rustix::thread::futex::{self, Flags};

use crate::machine::{say_ready, wait_for_the_end};

const RECORDS: usize = 60;
/// Offset of the wake word in a topic (see `libconduit/src/ring/layout.rs`).
const WAKE_AT: usize = 136;

/// The topics of others that have appeared since the last call, opened for reading.
fn new_topics(known: &mut HashMap<u64, ()>) -> Vec<File> {
    let entries = std::fs::read_dir(Domain::from_env().shm_dir()).into_iter().flatten().flatten();
    let regions = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"conduit_"));
    let mut files = Vec::new();
    for entry in regions {
        let Ok(metadata) = entry.metadata() else { continue };
        if known.insert(metadata.ino(), ()).is_none() {
            files.extend(File::open(entry.path()));
        }
    }
    files
}

/// Holds read locks on the bytes of the owner and of all records, as soon as they are free.
pub fn lock_everything() {
    let (mut known, mut files) = (HashMap::new(), Vec::new());
    let mut is_ready = false;
    loop {
        files.extend(new_topics(&mut known));
        for file in &files {
            let _ = OWNER.try_read(file);
            for record in 0..RECORDS {
                let _ = LockByte::record(record).try_read(file);
            }
        }
        // The files of the dead would use up this process's descriptors.
        let excess = files.len().saturating_sub(1000);
        files.drain(..excess);
        if !std::mem::replace(&mut is_ready, true) {
            say_ready();
        }
        sleep(Duration::from_millis(1));
    }
}

/// The wake word of a topic, in a mapping that this process may only read.
fn wake_word(file: &File) -> &'static AtomicU32 {
    let page = NonZeroUsize::new(4096).unwrap();
    #[allow(unsafe_code, reason = "the kernel is asked about the word's address")]
    // SAFETY: a new mapping, which is never unmapped; the word lies in it and is aligned.
    unsafe {
        let start = mmap(None, page, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0).unwrap();
        &*start.cast::<u8>().add(WAKE_AT).cast::<AtomicU32>().as_ptr()
    }
}

/// The wake words of all topics through which messages are measured, as they appear.
fn for_each_wake_word(mut deed: impl FnMut(&'static AtomicU32)) {
    let mut known = HashMap::new();
    say_ready();
    let mut words = Vec::new();
    loop {
        for file in new_topics(&mut known) {
            if file.metadata().is_ok_and(|metadata| metadata.len() > 4096) {
                words.push(wake_word(&file));
            }
        }
        words.iter().copied().for_each(&mut deed);
    }
}

pub fn requeue() {
    let elsewhere: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    for_each_wake_word(|word| {
        let _ = futex::requeue(word, Flags::empty(), 0, i32::MAX as u32, elsewhere);
    });
}

pub fn wait_with_many_threads() {
    let path = super::names::path_of("honest.busy");
    let word = wake_word(&File::open(path).unwrap());
    let asleep = Arc::new(AtomicU32::new(0));
    for _ in 0..2000 {
        let asleep = Arc::clone(&asleep);
        let sleeper = move || {
            asleep.fetch_add(1, Ordering::Relaxed);
            loop {
                let _ = futex::wait(word, Flags::empty(), word.load(Ordering::Relaxed), None);
            }
        };
        thread::Builder::new().stack_size(64 << 10).spawn(sleeper).unwrap();
    }
    while asleep.load(Ordering::Relaxed) < 2000 {
        sleep(Duration::from_millis(1));
    }
    say_ready();
    wait_for_the_end();
}
