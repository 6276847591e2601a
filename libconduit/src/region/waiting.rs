//! Waiting for a region or topic to appear.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::read;

use super::ShmRegion;
use crate::error::{OpenError, WaitError};
use crate::inspect::open_directory;
use crate::shm::dir::ShmDir;
use crate::shm::open::above_standard;
use crate::shm::stop_flag::{StopFlag, poll_or_stop};
use crate::stop::Stop;
use crate::{Domain, IntoTopicName, TopicName};

/// How often a wait calls `keep_waiting`, which nothing wakes it for.
const FLAG_INTERVAL: Duration = Duration::from_millis(20);
/// How often a wait polls for the region if no inotify instance is left.
const BLIND_INTERVAL: Duration = Duration::from_millis(10);

impl ShmRegion {
    /// Whether a region or topic of the name exists.
    ///
    /// # Errors
    ///
    /// If the shared-memory directory cannot be read.
    pub fn exists(name: impl IntoTopicName) -> Result<bool, OpenError> {
        Self::exists_in(&Domain::from_env(), name)
    }

    /// Whether a region or topic of the name [exists](Self::exists) in this domain.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn exists_in(domain: &Domain, name: impl IntoTopicName) -> Result<bool, OpenError> {
        let topic = name.into_topic_name()?;
        let directory = open_directory(domain)?;
        let id = directory.id_of(&topic).map_err(OpenError::io("look for", directory.path_of(&topic)))?;
        Ok(id.is_some())
    }

    /// Sleeps until a region or topic of the name exists, or the timeout expires. Returns whether
    /// it exists.
    ///
    /// # Errors
    ///
    /// If the shared-memory directory cannot be read.
    pub fn wait_until_exists_for(name: impl IntoTopicName, timeout: Duration) -> Result<bool, WaitError> {
        Self::wait_until_exists_in(&Domain::from_env(), name, || true, Some(timeout))
    }

    /// Sleeps until a region or topic of the name exists in this domain, or `keep_waiting`, called
    /// every 20 ms, returns false, or the timeout expires. Returns whether it exists.
    ///
    /// # Errors
    ///
    /// If the shared-memory directory cannot be read.
    pub fn wait_until_exists_in(
        domain: &Domain,
        name: impl IntoTopicName,
        mut keep_waiting: impl FnMut() -> bool,
        timeout: Option<Duration>,
    ) -> Result<bool, WaitError> {
        let step = |watched| if watched { FLAG_INTERVAL } else { BLIND_INTERVAL };
        wait_for_name(domain, name.into_topic_name()?, timeout, step, |watch, left| {
            let is_over = !keep_waiting();
            if !is_over {
                sleep_until_change(watch, left, None);
            }
            !is_over
        })
    }

    /// Sleeps until a region or topic of the name exists in this domain, the timeout expires, or it
    /// is [stopped](Stop). Returns whether it exists. Nothing polls.
    ///
    /// # Errors
    ///
    /// [`WaitError::Stopped`], and if the shared-memory directory cannot be read.
    pub fn wait_until_exists_or_stopped(
        domain: &Domain,
        name: impl IntoTopicName,
        stop: &Stop,
        timeout: Option<Duration>,
    ) -> Result<bool, WaitError> {
        let topic = name.into_topic_name()?;
        let step = |watched| if watched { Duration::MAX } else { BLIND_INTERVAL };
        let mut is_stopped = stop.is_stopped();
        let exists = !is_stopped
            && wait_for_name(domain, topic.clone(), timeout, step, |watch, left| {
                sleep_until_change(watch, left, Some(stop.flag()));
                is_stopped = stop.is_stopped();
                !is_stopped
            })?;
        if is_stopped { Err(WaitError::Stopped { topic }) } else { Ok(exists) }
    }
}

/// Waits for a name. `step` says how long to sleep at most, with an inotify instance or without;
/// `sleep` does, and returns whether to continue.
fn wait_for_name(
    domain: &Domain,
    topic: TopicName,
    timeout: Option<Duration>,
    step: impl FnOnce(bool) -> Duration,
    mut sleep: impl FnMut(Option<&OwnedFd>, Duration) -> bool,
) -> Result<bool, WaitError> {
    let failure = |source| WaitError::Io { path: domain.shm_dir().into(), source };
    let directory = ShmDir::open(domain).map_err(failure)?;
    // Watch before checking: a region that appears in between is seen by one or the other.
    let watch = watch_directory(&directory);
    let interval = step(watch.is_some());
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        if directory.id_of(&topic).map_err(failure)?.is_some() {
            return Ok(true);
        }
        let left = deadline.map_or(interval, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() || !sleep(watch.as_ref(), left.min(interval)) {
            return Ok(false);
        }
    }
}

/// `None` if this user has no inotify instance left.
fn watch_directory(directory: &ShmDir) -> Option<OwnedFd> {
    // Through libc: with the system calls of rustix, valgrind reports a jump here that depends on
    // uninitialised memory.
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    inotify.add_watch(directory.path(), AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO).ok()?;
    above_standard(inotify.into()).ok()
}

fn sleep_until_change(watch: Option<&OwnedFd>, timeout: Duration, stop: Option<&StopFlag>) {
    let Some(watch) = watch else { return std::thread::sleep(timeout) };
    // Whatever the outcome and the events, the caller checks again.
    let _ = poll_or_stop(watch.as_fd(), PollFlags::POLLIN, Some(timeout), stop);
    let _ = read(watch, &mut [0; 4096]);
}
