use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;

use conduit::internal::shm::dir::{ReapLock, ShmDir};
use conduit::registry::{EventKind, Liveness, Process, RegistryError};
use conduit::{Domain, Publisher, ShmRegion, Subscriber, TopicName};
use tokio::task::LocalSet;

use super::*;
use crate::directory::DirectoryWatch;
use crate::peer::PeerProcess;
use crate::reaping::{Reaper, reap};
use crate::watchers::EventFilter;

/// A hub that looks after a directory of the test's own.
pub(crate) struct TestHub {
    directory: tempfile::TempDir,
    pub(crate) hub: Rc<Hub>,
}

impl TestHub {
    pub(crate) fn new(reaper: Reaper) -> Self {
        let directory = tempfile::Builder::new().prefix(".conduit-test-").tempdir_in("/dev/shm").unwrap();
        let shm = Arc::new(ShmDir::open(&Domain::new(directory.path())).unwrap());
        let watch = DirectoryWatch::new(&shm).unwrap();
        let (processes, _) = ProcessWatch::start(&watch, None).unwrap();
        let parts = Directory::new(shm, watch, ReapLock::Write);
        let supervisor = Rc::new(Supervisor::none());
        let resources = Resources { limits: Limits::default(), descriptors: Descriptors::new(1024) };
        let hub = Hub::new(parts, resources, Policy::default(), processes, Reaping::new(reaper), supervisor);
        Self { directory, hub }
    }

    fn domain(&self) -> Domain {
        Domain::new(self.directory.path()).without_registry()
    }

    pub(crate) fn publish(&self) -> Publisher<u32> {
        Publisher::builder().domain(&self.domain()).create("a").unwrap()
    }
}

pub(crate) fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test());
}

pub(crate) fn topic() -> TopicName {
    "a".parse().unwrap()
}

fn this_user() -> Process {
    Process::new(std::process::id(), nix::unistd::geteuid().as_raw(), "test")
}

#[test]
fn a_topic_is_listed_from_its_first_name_to_its_last() {
    run(async || {
        let test = TestHub::new(reap);
        assert!(matches!(test.hub.describe(&topic()), Err(RegistryError::TopicNotFound { .. })));
        let publisher = test.publish();
        let described = test.hub.describe(&topic()).unwrap();
        assert_eq!((described.name.as_str(), described.liveness), ("a", Some(Liveness::Lock)));
        assert_eq!(test.hub.status(0).await.topics, 1);
        let admission = test.hub.accounts.admit(0).unwrap();
        let charges = [admission.charge(), admission.charge()];
        let mut watch = test.hub.watch((1, 0), EventFilter::default(), charges, Instant::now()).await.unwrap();
        drop(publisher);
        assert_eq!(test.hub.status(0).await.topics, 0);
        assert!(!watch.events.take().is_empty(), "the close is reported");
        assert!(test.hub.topics.keys().is_empty(), "and its region is unmapped");
    });
}

#[test]
fn a_live_topic_is_unlinked_only_by_force() {
    run(async || {
        let test = TestHub::new(reap);
        let _publisher = test.publish();
        let error = test.hub.unlink(&this_user(), &topic(), false).await.unwrap_err();
        assert!(matches!(error, RegistryError::TopicInUse { .. }), "{error:?}");
        let mut stranger = this_user();
        stranger.uid = 4321;
        let error = test.hub.unlink(&stranger, &topic(), true).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotOwner { .. }), "{error:?}");
        test.hub.unlink(&this_user(), &topic(), true).await.unwrap();
        assert!(test.hub.describe(&topic()).is_err());
    });
}

#[test]
fn a_kept_region_is_unlinked_without_force() {
    run(async || {
        let test = TestHub::new(reap);
        drop(ShmRegion::builder().domain(&test.domain()).create("a", 4096).unwrap());
        assert!(!test.hub.reap_if_dead(&topic()), "it has no owner that could be dead");
        test.hub.unlink(&this_user(), &topic(), false).await.unwrap();
        assert!(test.hub.describe(&topic()).is_err());
    });
}

/// Found by reading: a reaper that panicked left its region `dying` for ever, and `Unlink` polled
/// for ever.
#[test]
fn a_reaper_that_panics_leaves_its_region_to_the_next_poll() {
    run(async || {
        let test = TestHub::new(|_, _| panic!("on purpose"));
        let _publisher = test.publish();
        test.hub.settle(&topic());
        let file = test.hub.registry.borrow().file_of(&topic()).unwrap();
        let suspected = test.hub.registry.borrow_mut().lock_is_free(&(topic(), file));
        test.hub.carry_out(suspected);
        assert!(test.hub.registry.borrow().is_dying(&(topic(), file)));
        let (user, topic) = (this_user(), topic());
        let unlinked = test.hub.unlink(&user, &topic, true);
        let unlinked = tokio::time::timeout(std::time::Duration::from_secs(30), unlinked).await;
        unlinked.expect("the panic is reported").unwrap();
        assert!(!test.hub.registry.borrow().knows(&(topic, file)));
        assert_eq!(test.hub.reaping.reaped.get(), 0);
    });
}

#[test]
fn a_task_that_is_dropped_leaves_its_region_to_the_next_poll() {
    let test = TestHub::new(reap);
    let publisher = test.publish();
    let file = std::cell::OnceCell::new();
    run(async || {
        test.hub.settle(&topic());
        let file = *file.get_or_init(|| test.hub.registry.borrow().file_of(&topic()).unwrap());
        let suspected = test.hub.registry.borrow_mut().lock_is_free(&(topic(), file));
        test.hub.carry_out(suspected);
        assert!(test.hub.registry.borrow().is_dying(&(topic(), file)));
    });
    let registry = test.hub.registry.borrow();
    assert!(!registry.is_dying(&(topic(), *file.get().unwrap())) && registry.watches_locks());
    drop(publisher);
}

#[test]
fn a_subscriber_that_cannot_exist_is_refused() {
    run(async || {
        let test = TestHub::new(reap);
        let _publisher = test.publish();
        let _subscriber: Subscriber<u32> = Subscriber::builder().domain(&test.domain()).open("a").unwrap();
        let path = test.hub.directory.shm.path_of(&topic());
        let set_mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let file = test.hub.directory.shm.id_of(&topic()).unwrap().unwrap();
        let peer = |uid, gid| PeerProcess { process: Process::new(7, uid, "node"), pidfd: None, gids: vec![gid] };
        let owner = peer(nix::unistd::geteuid().as_raw(), 4321);
        let attach = |connection, peer: &PeerProcess, record| {
            let attached = test.hub.attach(connection, peer, topic(), file, record);
            attached.map(drop).map_err(|error| error.to_string())
        };
        attach(1, &owner, Some(0)).unwrap();
        attach(2, &owner, None).unwrap();
        let refused = attach(3, &owner, Some(7)).unwrap_err();
        assert!(refused.ends_with("nobody holds the record that it names"), "{refused}");
        let stranger = peer(4321, 4321);
        for (mode, record, reason) in [(0o600, None, "may not read"), (0o644, Some(0), "may not write")] {
            set_mode(mode);
            let refused = attach(4, &stranger, record).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        attach(4, &stranger, None).unwrap();
        set_mode(0o660);
        let member = peer(4321, nix::unistd::getegid().as_raw());
        attach(5, &member, Some(0)).unwrap();
        assert_eq!(test.hub.describe(&topic()).unwrap().subscribers.len(), 3, "one record, and two that only read");
    });
}

#[test]
fn deaths_are_remembered_and_reported() {
    run(async || {
        let test = TestHub::new(reap);
        test.hub.report_death(EventKind::Died, topic(), Some(this_user()), None);
        while test.hub.log.deaths().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(test.hub.log.deaths()[0].process, Some(this_user()));
    });
}
