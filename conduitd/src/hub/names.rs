//! Keeps the registry up to date with the directory: names that appear, pass to another file, or
//! vanish.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::TopicName;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::DirEntry;
use conduit::internal::shm::process::open_process;
use conduit::registry::Process;
use rustix::fs::inotify::ReadFlags;
use tokio::task::spawn_blocking;

use super::Hub;
use crate::directory::{Inspected, NameChange, appearance_of, fate_of};
use crate::logging::message_id;
use crate::registry::{Fate, Key};
use crate::systemd::logind::who_removed;
use crate::tasks;

/// After how many names the service manager is asked for more time, and for how much. A name takes
/// microseconds unless its region is busy, and there may be any number.
const MANY_NAMES: usize = 1000;
const MORE_TIME: Duration = Duration::from_secs(30);

impl Hub {
    /// Takes in every change so far, so that an answer is at least as new as its question.
    pub(crate) fn catch_up(self: &Rc<Self>) {
        let Some(changes) = self.directory.watch.take() else {
            if let Err(error) = self.scan(|_| false) {
                tracing::error!("cannot read {}: {error}", self.directory.shm.path().display());
            }
            return;
        };
        for NameChange { entry, how } in changes {
            match entry {
                Some(DirEntry::Region(topic)) => self.take_in_change(&topic, how),
                Some(DirEntry::Removal { .. }) if how.contains(ReadFlags::MOVED_TO) => {
                    self.directory.finish_removals_later();
                }
                _ => {}
            }
        }
    }

    /// Takes in the whole directory, except the names that `is_left_out` returns true for.
    pub(super) fn scan(self: &Rc<Self>, is_left_out: impl Fn(&TopicName) -> bool) -> io::Result<()> {
        self.directory.finish_removals_later();
        let mut topics: Vec<TopicName> = self.registry.borrow().topics().map(|topic| topic.name.clone()).collect();
        topics.extend(self.directory.topics()?);
        topics.sort();
        topics.dedup();
        for (number, topic) in topics.iter().filter(|topic| !is_left_out(topic)).enumerate() {
            if number > 0 && number.is_multiple_of(MANY_NAMES) {
                self.supervisor.needs_longer(MORE_TIME);
            }
            self.update(topic);
        }
        Ok(())
    }

    /// Takes in a change of a name, whose region may be gone already.
    pub(super) fn take_in_change(self: &Rc<Self>, topic: &TopicName, how: ReadFlags) {
        let was_seen = self.update(topic);
        if how.contains(ReadFlags::CREATE) && !was_seen {
            let changes = self.registry.borrow_mut().came_and_went(topic);
            self.carry_out(changes);
        }
    }

    /// Compares what a name stands for with what the registry knows. Returns whether the name stood
    /// for a file, before or now.
    pub(super) fn update(self: &Rc<Self>, topic: &TopicName) -> bool {
        let known = self.registry.borrow().file_of(topic);
        let found = match self.directory.shm.id_of(topic) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("cannot inspect topic \"{topic}\": {error}; the daemon will try again");
                self.directory.uninspected.borrow_mut().insert(topic.clone());
                self.polling_due.notify_one();
                return true;
            }
        };
        if known == found {
            return known.is_some();
        }
        if let Some(known) = known {
            self.name_vanished((topic.clone(), known));
        }
        let is_seen = found.is_some() && self.name_appeared(topic);
        is_seen || known.is_some()
    }

    fn name_vanished(self: &Rc<Self>, key: Key) {
        let region = self.topics.region(&key);
        let fate = region.as_ref().map_or(Fate::Dead, |region| fate_of(region));
        let changes = self.registry.borrow_mut().vanished(&key, fate);
        self.carry_out(changes);
        if let (Fate::Alive, Some(region)) = (fate, region) {
            self.report_unlinked(&key, region);
        }
        self.forget_unless_known(&key);
    }

    /// Returns whether the name still existed.
    fn name_appeared(self: &Rc<Self>, topic: &TopicName) -> bool {
        let region = match self.directory.inspect(topic) {
            Inspected::Region(region) => region,
            Inspected::Gone => return false,
            Inspected::Unusable => {
                self.polling_due.notify_one();
                return true;
            }
        };
        let appearance = appearance_of(&region);
        let key = (topic.clone(), region.id());
        let claimant = appearance.claimed.clone().filter(|_| !appearance.is_kept);
        self.topics.insert(key.clone(), region);
        let changes = self.registry.borrow_mut().appeared(topic, appearance);
        self.judge(&key);
        if let Some(process) = claimant
            && self.registry.borrow().announcer_of(topic).is_none()
        {
            self.watch_claimant(&key, &process);
        }
        self.carry_out(changes);
        true
    }

    /// Watches the process that a region without a lease names as its owner. It may be another
    /// process: in a container, the same pid names another one.
    fn watch_claimant(&self, key: &Key, process: &Process) {
        let Some(pidfd) = open_process(process.pid, process.uid) else { return };
        let claimant = self.processes.next_connection();
        if let Some(previous) = self.topics.update(key, |topic| topic.claimant.replace(claimant)).flatten() {
            self.processes.forget(previous);
        }
        self.processes.watch(claimant, &Arc::new(pidfd), process);
    }

    /// The name of a live region was removed: reports that to its owner, and to clients that ask.
    fn report_unlinked(self: &Rc<Self>, key: &Key, region: Arc<Region>) {
        let remover = who_removed(region.uid());
        self.topics.update(key, |topic| topic.unlinked_by = Some(remover.explain()));
        let (hub, key) = (Rc::clone(self), key.clone());
        tasks::spawn("unlinked", async move {
            // Both can stall: the user database, and a busy region.
            let marked = Arc::clone(&region);
            let by_name = spawn_blocking(move || {
                if !marked.is_raw()
                    && let Err(error) = marked.mark_unlinked()
                {
                    tracing::warn!("cannot notify the publisher of topic \"{}\": {error}", marked.topic());
                }
                remover.explain_by_name()
            });
            hub.log_unlinked(&key, region.uid(), by_name.await.ok().flatten().unwrap_or_else(|| remover.explain()));
        });
    }

    fn log_unlinked(&self, key: &Key, uid: u32, reason: String) {
        tracing::warn!(
            message_id = message_id::UNLINKED,
            conduit.topic = %key.0,
            conduit.uid = uid,
            "topic \"{}\" was unlinked: {reason}",
            key.0
        );
        self.invalidate_answers();
        self.topics.update(key, |topic| topic.unlinked_by = Some(reason));
    }
}
