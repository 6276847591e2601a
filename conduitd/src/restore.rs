//! The directory as the source of truth: what is there when the daemon starts, and what changes afterwards.
//!
//! The daemon keeps no file of its own. It looks at the names, and at the locks behind them; a restarted daemon is as wise
//! as one that was never gone.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::inspect::Region;
use conduit::protocol::Process;
use conduit::shm::dir::{Entry, FileId, ShmDir};
use conduit::{OpenError, TopicName};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

use crate::hub::Hub;
use crate::registry::{Appearance, Fate};

/// How long a remover may take before its private name counts as left behind.
const REMOVAL_PATIENCE: Duration = Duration::from_millis(1500);

/// The kernel's word on changes of the directory.
pub(crate) struct DirectoryWatch(Inotify);

impl DirectoryWatch {
    pub(crate) fn new(directory: &ShmDir) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(directory.path(), changes)?;
        Ok(Self(inotify))
    }

    /// All events since the last call; `None` if some were lost.
    fn take(&self) -> Option<Vec<InotifyEvent>> {
        let mut all = Vec::new();
        loop {
            match self.0.read_events() {
                Ok(events) => all.extend(events),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        let overflowed = all.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
        (!overflowed).then_some(all)
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Hub {
    /// Takes in everything that the directory holds: at the start, and when changes were missed.
    pub(crate) fn scan(self: &Rc<Self>) -> io::Result<()> {
        self.finish_removals_later();
        let mut topics: Vec<TopicName> = self.registry.borrow().topics().map(|topic| topic.name.clone()).collect();
        for entry in self.directory.entries()? {
            match entry {
                Entry::Region(topic) => topics.push(topic),
                Entry::Removal { .. } => {}
                Entry::Foreign(name) => tracing::debug!("{name} is no region's name"),
            }
        }
        topics.sort();
        topics.dedup();
        for topic in topics {
            self.look_at(&topic);
        }
        Ok(())
    }

    /// Takes in every change up to now, so that an answer is as new as its question.
    pub(crate) fn catch_up(self: &Rc<Self>) {
        let Some(events) = self.watch.take() else {
            if let Err(error) = self.scan() {
                tracing::error!("can not read {}: {error}", self.directory.path().display());
            }
            return;
        };
        for event in events {
            match event.name.as_deref().and_then(|name| name.to_str()).and_then(Entry::parse) {
                Some(Entry::Region(topic)) => {
                    let is_there = self.look_at(&topic);
                    if event.mask.contains(AddWatchFlags::IN_CREATE) && !is_there {
                        let changes = self.registry.borrow_mut().came_and_went(&topic);
                        self.carry_out(changes);
                    }
                }
                Some(Entry::Removal { .. }) if event.mask.contains(AddWatchFlags::IN_MOVED_TO) => {
                    self.finish_removals_later();
                }
                _ => {}
            }
        }
    }

    /// Compares what a name stands for with what the registry knows of it. Returns whether it was or is there.
    fn look_at(self: &Rc<Self>, topic: &TopicName) -> bool {
        let known = self.registry.borrow().file_of(topic);
        let found = match self.directory.id_of(topic) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("can not look at topic \"{topic}\": {error}");
                self.unseen.borrow_mut().insert(topic.clone());
                return true;
            }
        };
        if known == found {
            return known.is_some();
        }
        if let Some(known) = known {
            let changes = self.registry.borrow_mut().vanished(topic, known, self.fate_of(topic, known));
            self.carry_out(changes);
            self.forget_unless_known(&(topic.clone(), known));
        }
        let is_there = found.is_some() && self.take_in(topic);
        is_there || known.is_some()
    }

    /// Takes in a name. Returns whether it still was there.
    fn take_in(self: &Rc<Self>, topic: &TopicName) -> bool {
        let region = match Region::open_even_damaged(&self.directory, topic) {
            Ok(region) => region,
            Err(OpenError::NotFound { .. }) => return false,
            Err(error @ OpenError::Io { .. }) => {
                tracing::warn!("{error}; it is tried again");
                self.unseen.borrow_mut().insert(topic.clone());
                self.locks.notify_one();
                return true;
            }
            Err(error) => {
                tracing::warn!("{error}; it is left alone");
                return true;
            }
        };
        if let Err(reason) = region.is_intact() {
            tracing::warn!("topic \"{topic}\" can not be read: {reason}; it is removed when its owner dies");
        }
        let owner = region.claimed_owner();
        let claimed =
            owner.pid.map(|pid| Process { pid, uid: region.uid(), program: owner.program.unwrap_or_default() });
        let appearance = Appearance { file: region.id(), uid: region.uid(), is_kept: region.is_kept(), claimed };
        let key = (topic.clone(), region.id());
        self.regions.borrow_mut().insert(key.clone(), Arc::new(region));
        let claimant = appearance.claimed.clone().filter(|_| !appearance.is_kept);
        let changes = self.registry.borrow_mut().appeared(topic, appearance);
        self.judge(&key);
        if let Some(process) = claimant
            && self.registry.borrow().announcer_of(topic).is_none()
        {
            self.watch_claimant(key.clone(), &process);
        }
        self.carry_out(changes);
        true
    }

    fn fate_of(&self, topic: &TopicName, file: FileId) -> Fate {
        let Some(region) = self.regions.borrow().get(&(topic.clone(), file)).cloned() else { return Fate::Dead };
        let counters = region.counters();
        if region.is_kept() || counters.as_ref().is_some_and(|counters| counters.closed) {
            Fate::Closed
        } else if counters.is_none_or(|counters| !counters.orphaned) && region.owner_lives().unwrap_or(true) {
            if region.is_linked() { Fate::Moved } else { Fate::Alive }
        } else {
            Fate::Dead
        }
    }

    /// Looks once more at names that could not be looked at.
    pub(crate) fn look_again(self: &Rc<Self>) {
        for topic in self.unseen.take() {
            self.look_at(&topic);
        }
    }

    /// Finishes removals whose removers were killed in the middle. One scan serves all that begin until it is done.
    fn finish_removals_later(self: &Rc<Self>) {
        if self.removals_due.replace(true) {
            return;
        }
        let hub = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(REMOVAL_PATIENCE).await;
            hub.removals_due.set(false);
            let (directory, lock) = (Arc::clone(&hub.directory), hub.lock);
            let finished = tokio::task::spawn_blocking(move || directory.finish_removals(None, lock)).await;
            if let Ok(Err(error)) = finished {
                tracing::warn!("can not read {}: {error}", hub.directory.path().display());
            }
        });
    }
}
