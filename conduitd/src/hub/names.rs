//! Keeps the registry up to date with the directory: names that appear, pass to another file, or
//! vanish.

use std::rc::Rc;
use std::sync::Arc;

use conduit::TopicName;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::FileId;
use conduit::internal::shm::process::open_process;
use conduit::registry::Process;
use rustix::fs::inotify::ReadFlags;
use tokio::task::spawn_blocking;

use super::Hub;
use crate::descriptors::{Charged, DescriptorUse};
use crate::directory::{Inspected, appearance_of, fate_of};
use crate::logging::message_id;
use crate::reaping::HeldRegion;
use crate::registry::{Fate, Key};
use crate::systemd::logind::who_removed;
use crate::tasks;

/// Names of one file that are tracked; and how many more if its owner's processes have announced
/// them.
const NAMES_PER_FILE: usize = 8;
const ANNOUNCED_NAMES_PER_FILE: usize = 8;

impl Hub {
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
        self.compare(topic, false)
    }

    /// See [`update`](Self::update). `is_recount`: all names are being compared.
    pub(super) fn compare(self: &Rc<Self>, topic: &TopicName, is_recount: bool) -> bool {
        let known = self.registry.borrow().file_of(topic);
        let found = match self.directory.shm.owner_of(topic) {
            Ok(found) => found,
            Err(error) => {
                self.directory.inspect_later(topic, &format!("cannot inspect topic \"{topic}\": {error}"));
                self.polling_due.notify_one();
                return true;
            }
        };
        if known == found.map(|(file, _)| file) {
            return known.is_some();
        }
        if let Some(known) = known {
            self.name_vanished((topic.clone(), known));
        }
        let Some((file, uid)) = found else { return known.is_some() };
        if self.has_room_for(topic, file, uid) {
            return self.name_appeared(topic, uid) || known.is_some();
        }
        if let Some(count) = self.surplus.add(uid, is_recount) {
            tracing::warn!(
                conduit.uid = uid,
                "uid {uid} has more names than one user may have: {count} are not tracked, \"{topic}\" is one of them; see \
                 --max-regions-per-uid"
            );
        }
        true
    }

    /// Whether a name may be tracked: those of a user's leases, and so many others; few of one
    /// file, unless it is an orphan.
    fn has_room_for(&self, topic: &TopicName, file: FileId, uid: u32) -> bool {
        let is_announced = self.registry.borrow().is_announced(topic, file, uid);
        let most = if is_announced { NAMES_PER_FILE + ANNOUNCED_NAMES_PER_FILE } else { NAMES_PER_FILE };
        (is_announced || self.topics.count_of(uid) < self.limits.regions_per_uid)
            && (self.topics.names_of(file) < most || self.is_orphan(topic, file))
    }

    fn is_orphan(&self, topic: &TopicName, file: FileId) -> bool {
        let open = self.topics.file(&(topic.clone(), file));
        open.is_some_and(|region| !region.is_kept() && !region.owner_lives().unwrap_or(true))
    }

    fn name_vanished(self: &Rc<Self>, key: Key) {
        let region = self.topics.file(&key);
        // Of a file that is not open, the likely end is reported: that its owner has closed it.
        let fate = match region.as_ref().map_or(Fate::Closed, |region| fate_of(region)) {
            Fate::Alive if region.as_ref().is_some_and(|region| self.owner_is_dying(&key, region)) => Fate::Dead,
            fate => fate,
        };
        let changes = self.registry.borrow_mut().vanished(&key, fate);
        self.carry_out(changes);
        if let (Fate::Alive, Some(region)) = (fate, region) {
            self.report_unlinked(&key, region);
        }
        self.forget_unless_known(&key);
    }

    /// Returns whether the name still existed.
    fn name_appeared(self: &Rc<Self>, topic: &TopicName, uid: u32) -> bool {
        let region = match self.directory.inspect(topic, || self.log.may_log(Some(uid))) {
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
        let region = self.topics.insert(&key, *region);
        let changes = self.registry.borrow_mut().appeared(topic, appearance);
        self.judge(&key);
        if let Some(process) = claimant
            && self.registry.borrow().announcer_of(topic).is_none()
        {
            self.watch_claimant(&key, &process);
        }
        self.carry_out(changes);
        self.await_messages(&key, &region);
        true
    }

    /// Watches the process that a region without a lease names as its owner. It may be another
    /// process: in a container, the same pid names another one.
    fn watch_claimant(&self, key: &Key, process: &Process) {
        // Without it the lock is polled, as ever.
        let Ok(place) = self.descriptors.take(process.uid, DescriptorUse::Convenience) else { return };
        let Some(pidfd) = open_process(process.pid, process.uid) else { return };
        let claimant = self.processes.next_connection();
        if let Some(previous) = self.topics.set_claimant(key, Some(claimant)) {
            self.processes.forget(previous);
        }
        self.processes.watch(claimant, &Arc::new(Charged::new(pidfd, place)), process);
    }

    /// The name of a live region was removed: reports that to its owner, and to clients that ask.
    fn report_unlinked(self: &Rc<Self>, key: &Key, region: Arc<HeldRegion>) {
        let remover = who_removed(region.uid());
        self.topics.update(key, |topic| topic.unlinked_by = Some(remover.explain()));
        let (hub, key) = (Rc::clone(self), key.clone());
        tasks::spawn("unlinked", async move {
            // Both can stall: the user database, and a busy region.
            let _place = hub.reaping.place_of(region.uid()).await;
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
        if self.log.may_log(Some(uid)) {
            tracing::warn!(
                message_id = message_id::UNLINKED,
                conduit.topic = %key.0,
                conduit.uid = uid,
                "topic \"{}\" was unlinked: {reason}",
                key.0
            );
        }
        self.invalidate_answers();
        self.topics.update(key, |topic| topic.unlinked_by = Some(reason));
    }
}
