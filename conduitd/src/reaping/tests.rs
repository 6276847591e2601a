use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use conduit::{Domain, Publisher, ShmRegion, Subscriber};

use super::certificate::{certify, name_subscribers};
use super::*;

/// A directory of the test's own, in shared memory.
struct TestDirectory(tempfile::TempDir);

impl TestDirectory {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix(".conduit-test-").tempdir_in("/dev/shm").unwrap())
    }

    fn domain(&self) -> Domain {
        Domain::new(self.0.path()).without_registry()
    }

    fn publish(&self) -> Publisher<u32> {
        Publisher::builder().domain(&self.domain()).create("a").unwrap()
    }

    fn case(&self, pidfd: Option<Arc<Pidfd>>) -> ReapCase {
        let proof = pidfd.map(|pidfd| Proof { pidfd, pid: 0, is_announced: true });
        let directory = Arc::new(ShmDir::open(&self.domain()).unwrap());
        let region = Region::open_even_damaged(&directory, &"a".parse().unwrap()).unwrap();
        let region = Arc::new(Charged::momentary(region));
        ReapCase { region, directory, lock: ReapLock::Write, proof }
    }

    fn has_region(&self) -> bool {
        std::fs::read_dir(self.0.path()).unwrap().count() > 0
    }
}

/// The pidfd of a process that has exited with this code.
fn exited_with(code: i32) -> Arc<Pidfd> {
    let mut child = Command::new("sh").args(["-c", &format!("exit {code}")]).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    child.wait().unwrap();
    Arc::new(Charged::momentary(pidfd))
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

#[test]
fn an_owner_that_holds_its_lock_is_alive_without_proof() {
    let directory = TestDirectory::new();
    let _publisher = directory.publish();
    assert!(matches!(reap(&directory.case(None), true), Verdict::Alive));
    assert!(directory.has_region());
}

#[test]
fn a_held_lock_does_not_hide_the_death_of_a_proven_owner() {
    let directory = TestDirectory::new();
    let mut publisher = directory.publish();
    let _subscriber: Subscriber<u32> = Subscriber::builder().domain(&directory.domain()).open("a").unwrap();
    publisher.send(&7).unwrap();
    let verdict = reap(&directory.case(Some(exited_with(0))), true);
    let Verdict::Dead { death, subscribers } = verdict else { panic!("{verdict:?}") };
    assert_eq!((death.last_sequence, subscribers.len()), (Some(0), 1));
    assert!(death.last_message_age_ns.is_some());
    assert!(!directory.has_region(), "the name is removed");
}

#[test]
fn a_topic_closed_before_the_death_is_closed() {
    let directory = TestDirectory::new();
    let _publisher = directory.publish();
    let case = directory.case(Some(exited_with(0)));
    case.region.mark_closed().unwrap();
    assert!(matches!(reap(&case, true), Verdict::Closed));
    assert!(!directory.has_region());
}

#[test]
fn a_released_raw_region_is_kept() {
    let directory = TestDirectory::new();
    drop(ShmRegion::builder().domain(&directory.domain()).create("a", 4096).unwrap());
    assert!(matches!(reap(&directory.case(None), true), Verdict::Kept));
    assert!(directory.has_region());
}

#[test]
fn a_reaper_that_panics_has_failed() {
    let directory = TestDirectory::new();
    let _publisher = directory.publish();
    run(async {
        let reaping = Reaping::new(|_, _| panic!("on purpose"));
        let verdict = reaping.examine(directory.case(None)).await;
        let Verdict::Failed { reason } = &verdict else { panic!("{verdict:?}") };
        assert!(reason.contains("on purpose"), "{reason}");
        reaping.finish(&verdict);
        assert_eq!(reaping.reaped.get(), 0);
    });
}

#[test]
fn regions_of_live_owners_occupy_no_threads() {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let directory = TestDirectory::new();
    let _publisher = directory.publish();
    run(async {
        let reaping = std::rc::Rc::new(Reaping::new(|case, is_last| {
            LOOKS.fetch_add(1, Ordering::Relaxed);
            MOST.fetch_max(AT_ONCE.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let verdict = reap(case, is_last);
            AT_ONCE.fetch_sub(1, Ordering::Relaxed);
            verdict
        }));
        let cases = (0..3 * CASES_PER_UID).map(|_| {
            let (reaping, case) = (std::rc::Rc::clone(&reaping), directory.case(None));
            tokio::task::spawn_local(async move { reaping.examine(case).await })
        });
        for case in cases.collect::<Vec<_>>() {
            assert!(matches!(case.await.unwrap(), Verdict::Alive));
        }
    });
    assert!(MOST.load(Ordering::Relaxed) <= CASES_PER_UID, "{MOST:?}");
    assert!(LOOKS.load(Ordering::Relaxed) > 6 * CASES_PER_UID, "each is looked at again: {LOOKS:?}");
}

#[test]
fn a_caller_waits_until_the_reaper_has_finished() {
    run(async {
        let reaping = std::rc::Rc::new(Reaping::new(reap));
        let is_dying = std::rc::Rc::new(Cell::new(true));
        let (of_task, of_caller) = (std::rc::Rc::clone(&reaping), std::rc::Rc::clone(&is_dying));
        let caller = tokio::task::spawn_local(async move { of_task.wait_while(|| of_caller.get()).await });
        tokio::task::yield_now().await;
        // Another region's reaper.
        reaping.finish(&Verdict::Alive);
        tokio::task::yield_now().await;
        assert!(!caller.is_finished());
        is_dying.set(false);
        reaping.finish(&Verdict::Closed);
        caller.await.unwrap();
        assert_eq!(reaping.reaped.get(), 1);
        reaping.wait_while(|| false).await;
    });
}

#[test]
fn a_certificate_has_the_exit_status() {
    let death = run(certify(DeathCertificate::default(), Some(&exited_with(3)), None));
    // The kernel keeps the status of a process that its parent has waited for since Linux 6.15.
    assert!(death.signal.is_none() && death.exit_code.is_none_or(|code| code == 3), "{death:?}");
    assert_eq!(run(certify(DeathCertificate::default(), None, None)), DeathCertificate::default());
}

#[test]
fn the_kernel_identifies_subscribers_that_hold_a_lease() {
    let process = |pid| conduit::registry::Process::new(pid, 1000, format!("node{pid}"));
    let claimed = {
        let mut it = SubscriberInfo::default();
        it.pid = 1;
        it.uid = 1;
        it.program = "claimed".into();
        it.received = 5;
        it.asleep = true;
        it
    };
    let recorded = vec![(0, claimed.clone()), (2, claimed)];
    let named = name_subscribers(&[(Some(2), process(22)), (None, process(33))], recorded);
    let seen: Vec<_> = named.iter().map(|one| (one.pid, one.program.as_str(), one.received, one.asleep)).collect();
    assert_eq!(seen, [(1, "claimed", 5, true), (22, "node22", 5, true), (33, "node33", 0, false)]);
}
