use std::fs;

use tempfile::TempDir;

use super::*;
use crate::ring::end::Gone;

fn directory() -> (TempDir, Domain) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    (directory, domain)
}

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

/// A vacant ring that a topic is waited for at.
fn vigil(domain: &Domain, name: &str) -> (VacantRing, Vigil) {
    let ring = VacantRing::new().unwrap();
    let mut vigil = Vigil::new(domain, &topic(name), ring.clone());
    vigil.begin().unwrap();
    (ring, vigil)
}

fn has_ended(ring: &VacantRing) -> bool {
    ring.reader().has_ended() == Some(Gone::Closed)
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    wait_until_mut(what, is_so);
}

fn wait_until_mut(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn make(directory: &TempDir, name: &str) {
    fs::write(directory.path().join(topic(name).file_name()), b"").unwrap();
}

#[test]
fn a_name_that_appears_ends_the_ring_of_those_who_wait_for_it() {
    let (directory, domain) = directory();
    let (first, mut vigil_of_first) = vigil(&domain, "first");
    let (second, _vigil) = vigil(&domain, "second");
    let (third, vigil_of_third) = vigil(&domain, "third");
    vigil_of_third.rest();
    for name in ["other", "third", "first"] {
        make(&directory, name);
    }
    wait_until("the name", || has_ended(&first));
    assert!(!has_ended(&second) && !has_ended(&third));
    vigil_of_first.begin().unwrap();
    assert!(!has_ended(&first), "it is there already");
    fs::rename(directory.path().join("conduit_other"), directory.path().join("conduit_first")).unwrap();
    wait_until("another file of that name", || has_ended(&first));
}

#[test]
fn what_cannot_be_opened_yet_is_tried_again_in_a_while() {
    let (_directory, domain) = directory();
    let (ring, mut vigil) = vigil(&domain, "first");
    for _ in 0..2 {
        vigil.try_later();
        wait_until("the next try", || has_ended(&ring));
        vigil.begin().unwrap();
    }
    std::thread::sleep(2 * CHECK_INTERVAL);
    assert!(!has_ended(&ring), "nobody asked for it");
}

#[test]
fn a_directory_that_is_made_again_is_watched_again() {
    let (parent, _) = directory();
    let inner = parent.path().join("shm");
    fs::create_dir(&inner).unwrap();
    let domain = Domain::new(&inner).without_registry();
    let (ring, mut vigil) = vigil(&domain, "first");
    for _ in 0..2 {
        fs::remove_dir_all(&inner).unwrap();
        fs::create_dir(&inner).unwrap();
        wait_until("the directory", || has_ended(&ring));
        vigil.begin().unwrap();
        fs::write(inner.join("conduit_first"), b"").unwrap();
        wait_until("the name", || has_ended(&ring));
        vigil.begin().unwrap();
    }
}

/// Begins a vigil with a thread that has no inotify instance.
fn look_blindly_for(directory: &TempDir, vigil: &mut Vigil) -> (Arc<LookoutState>, std::thread::JoinHandle<()>) {
    let state = Arc::new(LookoutState {
        directory: directory.path().into(),
        watches: Mutex::default(),
        is_blind: AtomicBool::new(true),
        has_ended: AtomicBool::new(false),
        changes: AtomicU32::new(0),
    });
    lock(&state.watches).push(Arc::clone(&vigil.watch));
    vigil.shared = Some(Arc::clone(&state));
    vigil.begin().unwrap();
    let looking = {
        let state = Arc::clone(&state);
        std::thread::spawn(move || state.look_blindly())
    };
    (state, looking)
}

#[test]
fn a_blind_thread_looks_for_the_name() {
    let (directory, domain) = directory();
    let ring = VacantRing::new().unwrap();
    let mut vigil = Vigil::new(&domain, &topic("first"), ring.clone());
    let (state, looking) = look_blindly_for(&directory, &mut vigil);
    for round in 0..3 {
        fs::write(directory.path().join("new"), b"").unwrap();
        fs::rename(directory.path().join("new"), directory.path().join("conduit_first")).unwrap();
        wait_until("the name", || has_ended(&ring));
        vigil.begin().unwrap();
        if round == 1 {
            vigil.try_later();
            wait_until("the next try", || has_ended(&ring));
            vigil.begin().unwrap();
        }
    }
    state.has_ended.store(true, Release);
    state.rouse_blind();
    looking.join().unwrap();
}

/// A program may close what it did not open.
#[test]
fn a_thread_whose_socket_is_closed_is_replaced() {
    let (directory, domain) = directory();
    let (ring, mut vigil) = vigil(&domain, "first");
    let shared = Arc::clone(vigil.shared.as_ref().unwrap());
    let is_it = |post: &Post| Arc::ptr_eq(&post.shared, &shared);
    let post = with_posts(|posts| {
        let at = posts.list.iter().position(is_it).unwrap();
        posts.list.swap_remove(at)
    });
    drop(post);
    wait_until("its end", || has_ended(&ring));
    vigil.begin().unwrap();
    assert!(!Arc::ptr_eq(vigil.shared.as_ref().unwrap(), &shared) && !has_ended(&ring));
    make(&directory, "first");
    wait_until("the name", || has_ended(&ring));
}

/// A vacant ring that all topics are waited for at.
fn vigil_for_all(domain: &Domain, pattern: &str) -> (VacantRing, Vigil) {
    let ring = VacantRing::new().unwrap();
    let mut vigil = Vigil::for_all(domain, pattern.parse().unwrap(), ring.clone());
    vigil.begin().unwrap();
    assert!(vigil.take_found().are_unknown, "what was there before is not known");
    (ring, vigil)
}

#[test]
fn names_that_match_are_found() {
    let (directory, domain) = directory();
    let (ring, mut vigil) = vigil_for_all(&domain, "tf/*");
    for name in ["other", "tf/a/b", "tf/a", "tf/b"] {
        make(&directory, name);
    }
    let mut names = Vec::new();
    wait_until_mut("the names", || {
        names.extend(vigil.take_found().names);
        names.len() == 2
    });
    assert_eq!(names.iter().map(TopicName::as_str).collect::<Vec<_>>(), ["tf/a", "tf/b"]);
    wait_until("the end", || has_ended(&ring));
    vigil.begin().unwrap();
    assert!(!has_ended(&ring) && !vigil.has_found(), "they are there already");
    make(&directory, "tf/c");
    wait_until("another name", || has_ended(&ring));
    assert!(vigil.has_found());
}

#[test]
fn a_blind_thread_looks_for_names_that_match() {
    let (directory, domain) = directory();
    let (ring, vigil) = (VacantRing::new().unwrap(), |ring| Vigil::for_all(&domain, "tf/*".parse().unwrap(), ring));
    let mut vigil = vigil(ring.clone());
    let (state, looking) = look_blindly_for(&directory, &mut vigil);
    for name in ["tf/a", "tf/b"] {
        make(&directory, name);
        wait_until("the name", || has_ended(&ring) && vigil.has_found());
        assert!(vigil.take_found().are_unknown);
        // It reports a change more than once.
        std::thread::sleep(Duration::from_millis(200));
        vigil.take_found();
        vigil.begin().unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(!has_ended(&ring) && !vigil.has_found(), "nothing has appeared");
    state.has_ended.store(true, Release);
    state.rouse_blind();
    looking.join().unwrap();
}
