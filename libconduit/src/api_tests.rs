//! Properties of the public API as a whole.

use crate::registry::{Client, DeathCertificate, ErrorReply, Process, RegistryCallError, RegistryError, TopicInfo};
use crate::{
    Borrowed, Copied, CreateError, Domain, Events, Loan, LoanError, MatchedTopic, OpenError, PatternSubscriber,
    Publisher, PublisherBuilder, ReadyFd, RecvError, RegionBuilder, Sample, Shape, ShmRegion, Start, Subscriber,
    SubscriberBuilder, Token, TopicName, TopicPattern, TopicSample, TypeInfo, UnlinkError, WaitError, WaitSet,
    WaitSetError, WaitSetWaker,
};

macro_rules! assert_bounds {
    ($bounds:path: $($name:ty),* $(,)?) => {
        const _: () = {
            const fn has<T: $bounds>() {}
            $(has::<$name>();)*
        };
    };
}

trait SendSync: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> SendSync for T {}

assert_bounds!(SendSync:
    Publisher<[u8]>, PublisherBuilder<u64>, Loan<'static, [u64]>, Subscriber<[u8]>, SubscriberBuilder<u64>, Sample<[u8]>,
    Copied<u64>, Borrowed<'static, u64>, WaitSet, WaitSetWaker, Events, Token, ReadyFd, RegionBuilder, Domain,
    ShmRegion, TopicName, TopicPattern, TypeInfo, Shape, Client, crate::inspect::Region, crate::inspect::Counters,
    CreateError, OpenError, LoanError, RecvError, UnlinkError, WaitError, WaitSetError, RegistryCallError, RegistryError,
    ErrorReply, TopicInfo, Process, DeathCertificate, PatternSubscriber<[u8]>, TopicSample<u64>, MatchedTopic,
);
#[cfg(feature = "async")]
assert_bounds!(SendSync: crate::AsyncSubscriber<[u8]>, crate::AsyncPatternSubscriber<[u8]>);

fn domain() -> (tempfile::TempDir, Domain) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path());
    (directory, domain)
}

#[test]
fn a_domain_takes_nothing_from_the_environment() {
    let domain = Domain::new("/somewhere");
    assert!(domain.sockets().is_empty() && !domain.any_file_system());
    assert_eq!(domain.shm_dir(), std::path::Path::new("/somewhere"));
}

#[test]
fn every_kind_of_name_is_accepted() {
    let (_directory, domain) = domain();
    let name: TopicName = "a/b".parse().unwrap();
    let _publisher = Publisher::<u64>::builder().domain(&domain).create(&name).unwrap();
    let open = || Subscriber::<u64>::builder().domain(&domain);
    assert_eq!(open().open("a/b").unwrap().topic(), &name);
    let text = String::from("a/b");
    assert_eq!(open().open(&text).unwrap().topic(), &name);
    assert_eq!(open().open(text).unwrap().topic(), &name);
    assert_eq!(open().open(name.clone()).unwrap().topic(), &name);
    assert!(matches!(open().open("a//b"), Err(OpenError::Name(_))));
}

#[test]
fn slot_size_and_capacity_exclude_each_other() {
    let (_directory, domain) = domain();
    let error = Publisher::<[u8]>::builder().domain(&domain).slot_size(4096).capacity(100).create("a").unwrap_err();
    assert!(matches!(error, CreateError::SlotSizeAndCapacity { slot_size: 4096, capacity: 100 }));
    assert!(error.to_string().contains("slot_size(4096)") && error.to_string().contains("capacity(100)"));
}

#[test]
fn a_loan_that_is_dropped_is_counted_and_sends_nothing() {
    let (_directory, domain) = domain();
    let mut publisher = Publisher::<u64>::builder().domain(&domain).create("ticks").unwrap();
    let mut loan = publisher.loan().unwrap();
    *loan = 1;
    loan.publish();
    assert_eq!((publisher.published(), publisher.discarded_loans()), (1, 0));
    drop(publisher.loan().unwrap());
    drop(publisher.loan_zeroed().unwrap());
    publisher.send(&2).unwrap();
    assert_eq!((publisher.published(), publisher.discarded_loans()), (2, 2));
}

#[test]
fn debug_of_an_error_is_its_sentence() {
    let error = TopicName::new("a//b").unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    let error = OpenError::from(error);
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[test]
fn a_duration_beyond_the_range_of_the_clock_is_forever() {
    use std::time::Duration;
    const FOREVER: Duration = Duration::MAX;
    let (_directory, domain) = domain();
    let create = || Publisher::<u64>::builder().domain(&domain).takeover_timeout(FOREVER).create("ticks");
    let publisher = create().unwrap();
    std::thread::scope(|scope| {
        let successor = scope.spawn(create);
        std::thread::sleep(Duration::from_millis(5));
        drop(publisher);
        assert!(successor.join().unwrap().is_ok(), "it waits for the name");
    });
    let mut publisher = create().unwrap();
    let region = ShmRegion::builder().domain(&domain).takeover_timeout(FOREVER);
    let _region = region.create("map", 1).unwrap();
    assert!(ShmRegion::wait_until_exists_in(&domain, "map", || true, Some(FOREVER)).unwrap());

    let mut subscriber = Subscriber::<u64>::builder().domain(&domain).spin(FOREVER).open("ticks").unwrap();
    for tick in 0..3 {
        publisher.send(&tick).unwrap();
    }
    assert_eq!(*subscriber.recv_timeout(FOREVER).unwrap(), 0);
    assert_eq!(*subscriber.recv_copy_timeout(FOREVER).unwrap(), 1);
    assert_eq!(subscriber.recv_batch_timeout(1, FOREVER, |_| ()).unwrap(), 1);
    assert!(subscriber.recv_timeout(Duration::from_millis(1)).is_err(), "it spins for this long");

    let mut set = WaitSet::new();
    set.add_timer(FOREVER);
    set.add_interval(FOREVER);
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap().count(), 0);
    let waker = set.waker();
    std::thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        assert_eq!(set.wait_timeout(FOREVER).unwrap().count(), 1);
    });
}

#[test]
fn a_topic_can_have_more_subscribers_than_can_pin() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    let builder = || Publisher::<u64>::builder().domain(&domain);
    let mut publisher = builder().max_subscribers(62).create("many").unwrap();
    let open = |copies| Subscriber::<u64>::builder().domain(&domain).copy_samples(copies).open("many");
    let mut copying: Vec<_> = (0..2).map(|_| open(true).unwrap()).collect();
    let mut pinning: Vec<_> = (0..60).map(|_| open(false).unwrap()).collect();
    for copies in [false, true] {
        let error = open(copies).unwrap_err().to_string();
        assert!(error.contains(if copies { "62" } else { "60" }), "{error}");
    }
    assert_eq!(publisher.subscribers().len(), 62);
    publisher.send(&7).unwrap();
    for subscriber in copying.iter_mut().chain(&mut pinning) {
        assert_eq!(*subscriber.recv().unwrap(), 7);
    }
    // One that copies uses the record of one that pins if there is no other.
    drop(pinning.pop());
    let mut last = open(true).unwrap();
    publisher.send(&8).unwrap();
    assert_eq!(*last.recv().unwrap(), 8);
    for refused in [0, 1025] {
        let error = builder().max_subscribers(refused).create("more").unwrap_err().to_string();
        assert!(error.contains(&format!("{refused} subscribers")) && error.contains("1 to 1024"), "{error}");
    }
}

#[test]
fn late_subscribers_find_what_is_retained() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    // Large enough for any processor to reuse slots.
    for (capacity, retain, kept) in [(1 << 20, 0, 1), (1 << 20, 1, 1), (1 << 20, 3, 3), (8, 1, 7), (1 << 20, 8, 7)] {
        let builder = Publisher::<[u8]>::builder().domain(&domain).slots(8).capacity(capacity).prefault(false);
        let mut publisher = builder.retain(retain).create("map").unwrap();
        for number in 0..20 {
            publisher.send(&[number]).unwrap();
        }
        let received = |start| {
            let builder = Subscriber::<[u8]>::builder().domain(&domain).prefault(false).start(start);
            let mut subscriber = builder.open("map").unwrap();
            let all = std::iter::from_fn(|| subscriber.try_recv().unwrap().map(|sample| sample[0])).collect::<Vec<_>>();
            assert_eq!(subscriber.lost(), 0);
            all
        };
        let expected: Vec<u8> = (20 - kept..20).collect();
        assert_eq!(received(Start::Oldest), expected, "{capacity} {retain}");
        assert_eq!(received(Start::Latest), [19]);
        assert_eq!(received(Start::Last(2)), expected[expected.len().saturating_sub(2)..]);
        assert!(received(Start::Last(0)).is_empty() && received(Start::Next).is_empty());
    }
}

#[test]
fn any_number_of_slots_will_do() {
    let (_directory, domain) = domain();
    for slots in (2..20).chain([100, 65_535]) {
        let builder = Publisher::<u64>::builder().domain(&domain).slots(slots);
        let mut publisher = builder.create("any").unwrap();
        let open = || Subscriber::<u64>::builder().domain(&domain).open("any").unwrap();
        let (mut in_place, mut copying, mut slow) = (open(), open(), open());
        let mut sent = 0;
        // Several times around, one by one and in batches.
        while sent < 3 * u64::from(slots) {
            let batch: Vec<u64> = (sent..sent + (1 + sent % 3).min(u64::from(slots) - 1)).collect();
            sent += publisher.send_batch(&batch).unwrap() as u64;
            for number in batch {
                assert_eq!(*in_place.recv().unwrap(), number, "{slots} slots");
                assert_eq!(*copying.recv_copy().unwrap(), number, "{slots} slots");
            }
        }
        let oldest = slow.recv().unwrap();
        assert_eq!((*oldest, slow.lost()), (sent + 1 - u64::from(slots), *oldest), "{slots} slots");
    }
}

#[test]
fn a_batch_ends_at_a_message_that_cannot_be_sent() {
    let (_directory, domain) = domain();
    let builder = Publisher::<[u8]>::builder().domain(&domain).slots(4).capacity(100);
    let mut publisher = builder.create("batches").unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).max_held(4).open("batches").unwrap();
    let large = [0; 5000];
    assert_eq!(publisher.send_batch([&b"a"[..], b"bc", &large, b"d"]).unwrap(), 2);
    assert!(matches!(publisher.send_batch([&large[..], b"d"]), Err(LoanError::MessageTooLarge { len: 5000, .. })));
    assert_eq!(publisher.send_batch([]).unwrap(), 0);
    let held = [subscriber.recv().unwrap(), subscriber.recv().unwrap()];
    assert_eq!([&*held[0], &*held[1]], [&b"a"[..], b"bc"]);
    // The two slots that are left take turns, whatever the batch's length.
    assert_eq!(publisher.send_batch([&b"e"[..]; 9]).unwrap(), 9);
    let all = [subscriber.recv().unwrap(), subscriber.try_recv().unwrap().expect("two were kept")];
    assert_eq!(all[1].sequence(), 10);
    assert!(matches!(publisher.send_batch([&b"f"[..]; 9]), Err(LoanError::AllSlotsHeld { slots: 4 })));
    assert_eq!(publisher.published(), 11);
}

#[test]
fn a_batch_that_ends_early_leaves_older_messages_as_they_were() {
    let (_directory, domain) = domain();
    let builder = Publisher::<[u64]>::builder().domain(&domain).slots(16).capacity(64);
    let mut publisher = builder.create("batches").unwrap();
    let mut subscriber = Subscriber::<[u64]>::builder().domain(&domain).open("batches").unwrap();
    for number in 1..=15 {
        publisher.send(&[number; 8]).unwrap();
    }
    // Eight slots are claimed for it, and one is filled.
    let mut batch = [&[0; 2000][..]; 8];
    batch[0] = &[16; 8];
    assert_eq!(publisher.send_batch(batch).unwrap(), 1);
    let received: Vec<_> =
        std::iter::from_fn(|| subscriber.try_recv().unwrap().map(|sample| sample.to_vec())).collect();
    assert_eq!(received, Vec::from_iter((2..=16).map(|number| vec![number; 8])));
    assert_eq!(subscriber.lost(), 1);
}
