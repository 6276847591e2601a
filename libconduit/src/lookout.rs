//! Looks out for publishers, on behalf of subscribers that have none.
//!
//! One thread for each shared-memory directory, however many subscribers wait: it starts with the
//! first of them and ends with the last. It sleeps until a name appears in the directory
//! ([`inotify(7)`](https://man7.org/linux/man-pages/man7/inotify.7.html)), and then ends the
//! [vacant rings](crate::ring::vacant) that are waited at for that name, or for names that match a
//! pattern. Where no inotify instance is left, it looks for the names every 10 ms instead, while
//! somebody waits.
//!
//! The thread has a descriptor table of its own, so that it costs the program one descriptor, a
//! socket that wakes it when something changes, and the program can neither close the others nor
//! take their numbers. So it must never drop a ring, whose descriptor is in the program's table: it
//! only borrows them, under the lock.

mod matching;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::stat;

pub(crate) use self::matching::FoundTopics;
use self::matching::Matching;
use crate::intervals::CHECK_INTERVAL;
use crate::mutation::{mutated, step};
use crate::parker::start_thread;
use crate::ring::vacant::VacantRing;
use crate::shm::descriptor::Descriptor;
use crate::shm::dir::FileId;
use crate::shm::open::above_standard;
use crate::shm::own_table::leave_table;
use crate::shm::{fork, futex};
use crate::{Domain, TopicName, TopicPattern};

/// How often names are looked for without inotify.
const BLIND_INTERVAL: Duration = Duration::from_millis(10);

/// The posts of this process. Only locked under a `ForkGuard`, so that a forked child never finds
/// it locked.
static POSTS: Mutex<Posts> = Mutex::new(Posts { generation: 0, list: Vec::new() });

struct Posts {
    /// The [`fork::generation`] of the list.
    generation: u32,
    list: Vec<Post>,
}

/// A thread, as the program sees it.
struct Post {
    /// Connected with the thread, which ends when this end is closed.
    socket: Descriptor,
    shared: Arc<LookoutState>,
}

/// What the program and the thread share.
struct LookoutState {
    directory: PathBuf,
    watches: Mutex<Vec<Arc<AwaitedName>>>,
    /// The thread has no inotify instance.
    is_blind: AtomicBool,
    has_ended: AtomicBool,
    /// What a blind thread sleeps on: the number of changes.
    changes: AtomicU32,
}

/// What is waited for.
struct AwaitedName {
    /// Of the file, or of the directory.
    path: PathBuf,
    /// Empty if any name that matches is waited for.
    file_name: String,
    matching: Option<Matching>,
    ring: VacantRing,
    is_waiting: AtomicBool,
    /// Whether to try again in a while, although nothing has appeared.
    retries: AtomicBool,
    /// The file that the path referred to when a blind thread looked.
    seen: Mutex<Option<Seen>>,
}

/// A file, and when its inode was last changed: another file may have the same inode.
type Seen = (FileId, i64, i64);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscriber's place among those on whose behalf a thread looks out.
pub(crate) struct Vigil {
    domain: Domain,
    watch: Arc<AwaitedName>,
    shared: Option<Arc<LookoutState>>,
    generation: u32,
}

impl Vigil {
    /// Ends `ring` whenever a region of the topic may have appeared, from the next
    /// [`begin`](Self::begin) on.
    pub(crate) fn new(domain: &Domain, topic: &TopicName, ring: VacantRing) -> Self {
        let watch = AwaitedName::new(domain.shm_dir().join(topic.file_name()), topic.file_name(), None, ring);
        Self::of(domain, watch)
    }

    /// Ends `ring` whenever a region of a topic that matches may have appeared, which
    /// [`take_found`](Self::take_found) tells, from the next [`begin`](Self::begin) on.
    pub(crate) fn for_all(domain: &Domain, pattern: TopicPattern, ring: VacantRing) -> Self {
        let matching = Some(Matching::new(pattern));
        Self::of(domain, AwaitedName::new(domain.shm_dir().into(), String::new(), matching, ring))
    }

    fn of(domain: &Domain, watch: AwaitedName) -> Self {
        Self { domain: domain.clone(), watch: Arc::new(watch), shared: None, generation: fork::watched_generation() }
    }

    /// Waits for a region from now on. Whatever appears after this call ends the ring; look for the
    /// region once more now.
    ///
    /// # Errors
    ///
    /// If the thread that looks out cannot be started.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.watch.ring.begin_again();
        self.watch.retries.store(false, Relaxed);
        self.watch.is_waiting.store(true, Release);
        if self.shared.as_ref().is_none_or(|shared| shared.has_ended.load(Acquire)) {
            self.shared = Some(join(&self.domain, &self.watch)?);
            // Nobody has looked until now.
            if let Some(matching) = &self.watch.matching {
                step!(matching_joined, matching.note_unknown());
            }
        }
        if let Some(shared) = &self.shared {
            shared.rouse_blind();
        }
        Ok(())
    }

    /// Whether topics that match may have appeared since they were [taken](Self::take_found).
    #[inline]
    pub(crate) fn has_found(&self) -> bool {
        self.watch.matching.as_ref().is_some_and(Matching::has_found)
    }

    /// The topics that match and have appeared since the last call.
    pub(crate) fn take_found(&self) -> FoundTopics {
        self.watch.matching.as_ref().map(Matching::take).unwrap_or_default()
    }

    /// Waits no longer.
    pub(crate) fn rest(&self) {
        self.watch.is_waiting.store(false, Relaxed);
    }

    /// Has the ring ended in a while, whether anything appears or not.
    pub(crate) fn try_later(&self) {
        self.watch.retries.store(true, Release);
        let Some(shared) = &self.shared else { return };
        shared.rouse_blind();
        with_posts(|posts| {
            if let Some(post) = posts.list.iter().find(|post| Arc::ptr_eq(&post.shared, shared)) {
                // One that is full has news already.
                let _ = send(post.socket.as_fd().as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL);
            }
        });
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return;
        }
        let Some(shared) = &self.shared else { return };
        let unneeded = {
            let _no_fork = fork::ForkGuard::new();
            let mut posts = lock(&POSTS);
            let mut watches = lock(&shared.watches);
            watches.retain(|watch| !Arc::ptr_eq(watch, &self.watch));
            let at = posts.list.iter().position(|post| watches.is_empty() && Arc::ptr_eq(&post.shared, shared));
            at.map(|at| posts.list.swap_remove(at))
        };
        // Not under the guard: closing its descriptor takes one.
        drop(unneeded);
    }
}

/// Adds a subscriber to those on whose behalf the directory's thread looks out, and starts that if
/// need be.
fn join(domain: &Domain, watch: &Arc<AwaitedName>) -> io::Result<Arc<LookoutState>> {
    let directory = std::path::absolute(domain.shm_dir())?;
    let add = |posts: &Posts| {
        let is_suitable = |post: &&Post| post.shared.directory == directory && !post.shared.has_ended.load(Acquire);
        let shared = Arc::clone(&posts.list.iter().find(is_suitable)?.shared);
        lock(&shared.watches).push(Arc::clone(watch));
        Some(shared)
    };
    if let Some(shared) = with_posts(|posts| add(posts)) {
        return Ok(shared);
    }
    let post = start(directory.clone())?;
    let (shared, _unneeded) = with_posts(|posts| {
        // Another thread of the program may have been faster.
        if let Some(shared) = add(posts) {
            return (shared, Some(post));
        }
        lock(&post.shared.watches).push(Arc::clone(watch));
        let shared = Arc::clone(&post.shared);
        posts.list.push(post);
        (shared, None)
    });
    Ok(shared)
}

fn with_posts<R>(action: impl FnOnce(&mut Posts) -> R) -> R {
    let (result, _ended) = {
        let _no_fork = fork::ForkGuard::new();
        let mut posts = lock(&POSTS);
        let generation = fork::watched_generation();
        if posts.generation != generation {
            posts.generation = generation;
            // The parent's, with locks in an unknown state.
            std::mem::forget(std::mem::take(&mut posts.list));
        }
        let (ended, list) = std::mem::take(&mut posts.list).into_iter().partition(Post::has_ended);
        let ended: Vec<Post> = ended;
        posts.list = list;
        (action(&mut posts), ended)
    };
    result
}

impl Post {
    /// Whether the thread has ended, or is about to because the program has closed the pipe.
    fn has_ended(&self) -> bool {
        !self.socket.is_intact() || self.shared.has_ended.load(Acquire)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Release);
        self.shared.rouse_blind();
        // A thread that is not blind notices that the socket is closed.
    }
}

/// Starts a thread. When this returns, it is looking out.
fn start(directory: PathBuf) -> io::Result<Post> {
    let mut threads_end = None;
    let socket = Descriptor::open(|| {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (own, other) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        threads_end = Some(above_standard(other)?);
        io::Result::Ok(own)
    })?;
    let threads_end = Arc::new(threads_end.ok_or(io::ErrorKind::NotFound)?);
    let shared = Arc::new(LookoutState {
        directory,
        watches: Mutex::default(),
        is_blind: AtomicBool::new(false),
        has_ended: AtomicBool::new(false),
        changes: AtomicU32::new(0),
    });
    // Not a channel, whose wait would allocate memory for a thread that is not Rust's.
    let begun = Arc::new(Barrier::new(2));
    let has_begun = Arc::clone(&begun);
    let (of_thread, kept) = (Arc::clone(&shared), Arc::clone(&threads_end));
    start_thread("conduit-lookout", move || look_out(&of_thread, kept, &begun))?;
    // Before the thread has left the program's table, its end must stay open there.
    has_begun.wait();
    drop(threads_end);
    Ok(Post { socket, shared })
}

/// The thread.
fn look_out(shared: &LookoutState, kept: Arc<OwnedFd>, begun: &Barrier) {
    let socket = leave_table(kept.as_fd());
    drop(kept);
    let inotify = socket.as_ref().ok().and_then(|_| watch_directory(&shared.directory).ok());
    shared.is_blind.store(inotify.is_none(), Release);
    begun.wait();
    match (socket, inotify) {
        (Ok(socket), Some(inotify)) => shared.look_by_events(&socket, inotify),
        _ => shared.look_blindly(),
    }
    shared.has_ended.store(true, Release);
    // The program has closed the socket, perhaps together with all that it did not open: whoever
    // still waits starts another thread.
    step!(lookout_end, shared.end_rings(|_| true));
}

fn watch_directory(directory: &Path) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    let goes = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
    inotify.add_watch(directory, appears | goes | AddWatchFlags::IN_ONLYDIR)?;
    Ok(inotify)
}

/// What has happened in the directory.
#[derive(Default)]
struct DirectoryChanges {
    names: Vec<OsString>,
    /// Some changes are not among the names.
    are_unknown: bool,
    /// The directory is gone, or has another name.
    are_last: bool,
}

impl DirectoryChanges {
    fn read(inotify: &Inotify) -> Self {
        let mut changes = Self::default();
        while let Ok(events) = inotify.read_events() {
            for event in events {
                let goes = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
                let is_last = event.mask.intersects(goes | AddWatchFlags::IN_UNMOUNT);
                step!(lookout_directory_goes, changes.are_last |= is_last);
                changes.are_unknown |= changes.are_last || event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                changes.names.extend(event.name);
            }
        }
        changes
    }
}

impl LookoutState {
    /// Ends the rings of those who wait, and are meant.
    fn end_rings(&self, is_meant: impl Fn(&AwaitedName) -> bool) {
        for watch in lock(&self.watches).iter() {
            if (watch.is_waiting.load(Acquire) || mutated!(lookout_ends_all)) && is_meant(watch) {
                watch.ring.end();
            }
        }
    }

    fn has(&self, is_such: impl Fn(&AwaitedName) -> bool) -> bool {
        lock(&self.watches).iter().any(|watch| watch.is_waiting.load(Acquire) && is_such(watch))
    }

    fn rouse_blind(&self) {
        if self.is_blind.load(Acquire) {
            self.changes.fetch_add(1, Release);
            futex::wake_all_private(&self.changes);
        }
    }

    /// Ends the rings of those who try again without anything having appeared, twice a second.
    fn end_retries(&self, last: &mut Instant) {
        if last.elapsed() >= CHECK_INTERVAL {
            *last = Instant::now();
            step!(lookout_retries, self.end_rings(AwaitedName::retries));
        }
    }

    /// Until the program closes its end of the socket.
    fn look_by_events(&self, socket: &OwnedFd, mut inotify: Inotify) {
        let mut last_retry = Instant::now();
        loop {
            let timeout = if self.has(AwaitedName::retries) { Some(CHECK_INTERVAL) } else { None };
            if !wait(socket, Some(&inotify), timeout) {
                return;
            }
            let mut changes = DirectoryChanges::read(&inotify);
            while changes.are_last {
                match watch_directory(&self.directory) {
                    Ok(again) => {
                        inotify = again;
                        changes.are_last = false;
                    }
                    // It is gone, and perhaps made again.
                    Err(_) if !wait(socket, None, Some(BLIND_INTERVAL)) => return,
                    Err(_) => {}
                }
            }
            if changes.are_unknown || !changes.names.is_empty() {
                self.end_rings(|watch| watch.is_concerned(&changes));
            }
            self.end_retries(&mut last_retry);
        }
    }

    /// Until nobody waits for the thread's news any more.
    fn look_blindly(&self) {
        let mut last_retry = Instant::now();
        loop {
            let changes = self.changes.load(Acquire);
            if self.has_ended.load(Acquire) {
                return;
            }
            let timeout = self.has(|_| true).then_some(BLIND_INTERVAL);
            futex::wait_private(&self.changes, changes, timeout, None);
            self.end_rings(AwaitedName::has_changed);
            self.end_retries(&mut last_retry);
        }
    }
}

impl AwaitedName {
    fn new(path: PathBuf, file_name: String, matching: Option<Matching>, ring: VacantRing) -> Self {
        let (is_waiting, retries) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { path, file_name, matching, ring, is_waiting, retries, seen: Mutex::new(None) }
    }

    /// Whether the changes may be what is waited for.
    fn is_concerned(&self, changes: &DirectoryChanges) -> bool {
        match &self.matching {
            Some(matching) => matching.note(&changes.names, changes.are_unknown),
            None => changes.are_unknown || changes.names.iter().any(|name| name == self.file_name.as_str()),
        }
    }

    fn retries(&self) -> bool {
        self.retries.load(Acquire)
    }

    /// Whether the path refers to another file than at the last look, or to a directory that has
    /// changed.
    fn has_changed(&self) -> bool {
        let found = stat(&self.path).ok().map(|stat| (FileId::of(&stat), stat.st_ctime, stat.st_ctime_nsec));
        let mut seen = lock(&self.seen);
        let has_changed = found.is_some() && *seen != found;
        *seen = found;
        match &self.matching {
            Some(matching) => matching.note_look(has_changed),
            None => has_changed,
        }
    }
}

/// Sleeps until there is news. Returns false if the program has closed its end of the socket.
fn wait(socket: &OwnedFd, inotify: Option<&Inotify>, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map_or(PollTimeout::NONE, |it| PollTimeout::try_from(it).unwrap_or(PollTimeout::MAX));
    let of_inotify = inotify.map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
    let mut descriptors: Vec<_> =
        [PollFd::new(socket.as_fd(), PollFlags::POLLIN)].into_iter().chain(of_inotify).collect();
    // Whatever the outcome, the caller looks.
    let _ = poll(&mut descriptors, timeout);
    let mut bytes = [0; 64];
    // Nothing to read is EAGAIN.
    recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) != Ok(0)
}

#[cfg(test)]
mod tests;
