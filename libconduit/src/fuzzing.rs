//! The entry point of the fuzzer; compiled for it alone.

use std::io::Write;

use crate::inspect::Region;
use crate::inspect::reaping::ReapRegion;
use crate::ring::header::Layout;
use crate::ring::layout::CONTROL_BYTES;
use crate::shm::dir::{DirEntry, ReapLock, ShmDir};
use crate::{Domain, Subscriber, TopicName};

/// Writes these bytes as a topic's region, and uses it as the daemon, the command and a subscriber
/// do.
///
/// The first two bytes choose its contents and length; bytes that the input lacks are those of a
/// valid topic.
pub fn region(data: &[u8]) {
    let Some((choice, data)) = data.split_first_chunk::<2>() else { return };
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let domain = Domain::new(directory.path()).without_registry();
    let publisher = crate::Publisher::<[u8]>::builder().domain(&domain).slots(4).capacity(64).create("valid");
    let mut publisher = publisher.expect("a topic");
    for number in 0..u64::from(choice[0] % 8) {
        publisher.send(&number.to_le_bytes()).expect("it was just made");
    }
    let mut bytes = std::fs::read(publisher.path()).expect("its region");
    drop(publisher);
    let common = data.len().min(bytes.len());
    // A zero in the input keeps the valid byte, so that the fuzzer need not guess the magic.
    for (byte, new) in bytes.iter_mut().zip(&data[..common]) {
        *byte ^= new;
    }
    if choice[1] < 128 {
        bytes.truncate(usize::from(choice[1]) * 40);
    }
    let name: TopicName = "lie".parse().expect("a name");
    let shm = ShmDir::open(&domain).expect("the directory");
    let mut file = std::fs::File::create_new(shm.path_of(&name)).expect("a new file");
    file.write_all(&bytes).expect("room");
    let _ = Layout::check(&bytes[..bytes.len().min(CONTROL_BYTES)], bytes.len() as u64);
    if let Ok(region) = Region::open_even_damaged(&shm, &name) {
        let _ = (region.claimed_owner(), region.is_intact(), region.is_kept(), region.owner_lives());
        let topic = region.describe();
        assert!(topic.rate_hz.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
        let _ = region.try_reap_lock(ReapLock::Read, false);
        let _ = region.mark_orphaned();
    }
    // Locked by this process, so that its owner seems alive.
    let locked = std::fs::File::options().read(true).write(true).open(shm.path_of(&name)).expect("our own file");
    assert!(crate::shm::lock::OWNER.try_write(&locked).expect("a lock"));
    if bytes.len() >= CONTROL_BYTES
        && let Ok(mut subscriber) =
            Subscriber::<[u8]>::builder().domain(&domain).start(crate::Start::Oldest).open(&name)
    {
        for _ in 0..16 {
            match subscriber.try_recv() {
                Ok(Some(sample)) => drop(sample.iter().map(|byte| u64::from(*byte)).sum::<u64>()),
                Ok(None) | Err(_) => break,
            }
        }
    }
    let text = String::from_utf8_lossy(data);
    let _ = (TopicName::new(&text), DirEntry::parse(&text));
}
