//! Properties of the public API as a whole.

use crate::registry::{Client, DeathCertificate, ErrorReply, Process, RegistryCallError, RegistryError, TopicInfo};
use crate::{
    Borrowed, Copied, CreateError, Domain, Events, Loan, LoanError, OpenError, Publisher, PublisherBuilder, ReadyFd,
    RecvError, RegionBuilder, Sample, Shape, ShmRegion, Subscriber, SubscriberBuilder, Token, TopicName, TopicPattern,
    TypeInfo, UnlinkError, WaitError, WaitSet, WaitSetError, WaitSetWaker,
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
    ErrorReply, TopicInfo, Process, DeathCertificate,
);
#[cfg(feature = "async")]
assert_bounds!(SendSync: crate::AsyncSubscriber<[u8]>);

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
