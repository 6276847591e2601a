//! The entry points of the fuzzer; compiled for it alone.

use std::io::Write;

use crate::foreign_text::{clean, clean_name, is_clean};
use crate::inspect::Region;
use crate::inspect::reaping::ReapRegion;
use crate::model::TopicInfo;
use crate::registry::protocol::{DeathList, EventReply, TopicList, TopicReply};
use crate::registry::reply::{decode, decode_as};
use crate::registry::{RegistryCallError, RegistryStatus};
use crate::ring::header::Layout;
use crate::ring::layout::PAGE_BYTES;
use crate::shm::dir::{DirEntry, ReapLock, ShmDir};
use crate::{Domain, Shape, Subscriber, TopicName};

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
    let _ = Layout::check(&bytes[..bytes.len().min(PAGE_BYTES)], bytes.len() as u64);
    if let Ok(region) = Region::open_even_damaged(&shm, &name) {
        let _ = (region.claimed_owner(), region.is_intact(), region.is_kept(), region.owner_lives());
        let topic = region.describe();
        assert!(topic.rate_hz.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
        check(&topic);
        let _ = region.try_reap_lock(ReapLock::Read, false);
        let _ = region.mark_orphaned();
    }
    // Locked by this process, so that its owner seems alive.
    let locked = std::fs::File::options().read(true).write(true).open(shm.path_of(&name)).expect("our own file");
    assert!(crate::shm::lock::OWNER.try_write(&locked).expect("a lock"));
    if bytes.len() >= PAGE_BYTES
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

/// Decodes bytes as a registry's reply, as a shape and as a name, and checks that what comes out is
/// clean and bounded.
pub fn reply(data: &[u8]) {
    for cleaned in [clean(data), clean_name(data)] {
        assert!(is_clean(&cleaned) && clean(&cleaned) == cleaned && cleaned.len() <= 4096);
    }
    if let Ok(shape) = serde_json::from_slice::<Shape>(data) {
        assert!(shape.value_count() <= shape.size().saturating_add(1024));
        assert!(shape.to_string().chars().all(|c| c != '\n' && !c.is_control()));
    }
    let parameters = match decode(data) {
        Ok((parameters, _)) => parameters,
        Err(RegistryCallError::Refused(reply)) => {
            assert!(is_clean(&reply.name) && !reply.to_string().contains(char::is_control));
            return;
        }
        Err(_) => return,
    };
    let list = serde_json::from_value::<TopicList>(parameters.clone()).ok();
    let topics = list.map(|list| list.topics);
    assert_eq!(topics, decode_as::<TopicList>(data).ok().map(|list| list.topics));
    if let Some(topics) = topics {
        topics.iter().for_each(check);
    }
    if let Ok(TopicReply { topic }) = serde_json::from_value(parameters.clone()) {
        check(&topic);
    }
    if let Ok(EventReply { event }) = serde_json::from_value(parameters.clone()) {
        assert!(is_clean(&event.topic) && is_clean(event.kind.as_str()));
    }
    let _ = serde_json::from_value::<DeathList>(parameters.clone());
    if let Ok(status) = serde_json::from_value::<RegistryStatus>(parameters) {
        assert!(is_clean(&status.version) && is_clean(&status.shm_dir));
    }
}

fn check(topic: &TopicInfo) {
    let names = [Some(&topic.name), Some(&topic.path), topic.message_type.as_ref(), topic.refusal.as_ref()];
    let programs = topic.publisher.iter().map(|process| &process.program);
    let programs = programs.chain(topic.subscribers.iter().map(|subscriber| &subscriber.program));
    assert!(names.into_iter().flatten().chain(programs).all(|text| is_clean(text)));
    assert!(is_clean(topic.state.as_str()));
}
