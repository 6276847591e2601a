//! `Unlink` and `Reap`: removes the name of a region, or reaps it, because a client asks.

use std::rc::Rc;
use std::sync::Arc;

use conduit::TopicName;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{Removal, ShmDir};
use conduit::registry::{EventKind, Process, RegistryError};
use tokio::task::spawn_blocking;

use super::Hub;
use super::queries::not_found;
use crate::event_log::event;
use crate::reaping::HeldRegion;
use crate::registry::Key;

impl Hub {
    /// `Reap`: reaps a topic if its owner is dead. Returns whether it is.
    pub(crate) fn reap_if_dead(self: &Rc<Self>, topic: &TopicName) -> bool {
        self.settle(topic);
        let Some(file) = self.registry.borrow().file_of(topic) else { return false };
        let key = (topic.clone(), file);
        let region = self.topics.region(&key);
        let is_dead = region.is_some_and(|region| {
            !region.is_kept() && (!region.owner_lives().unwrap_or(true) || self.owner_is_dying(&key, &region))
        });
        if is_dead {
            let changes = self.registry.borrow_mut().lock_is_free(&key);
            self.carry_out(changes);
        }
        is_dead
    }

    /// `Unlink`: removes a region's name; that of a live topic only if `force`.
    pub(crate) async fn unlink(
        self: &Rc<Self>,
        by: &Process,
        topic: &TopicName,
        force: bool,
    ) -> Result<(), RegistryError> {
        self.settle(topic);
        let file = self.registry.borrow().file_of(topic).ok_or_else(|| not_found(topic))?;
        let key = (topic.clone(), file);
        let region = self.topics.region(&key).ok_or_else(|| not_found(topic))?;
        if by.uid != 0 && by.uid != region.uid() {
            return Err(RegistryError::NotOwner { topic: topic.to_string(), uid: region.uid() });
        }
        self.notice_exit(topic);
        // The lock may outlive a dead owner by some milliseconds: its reaper decides.
        self.wait_for_reaper(&key).await;
        if self.registry.borrow().file_of(topic) == Some(file) {
            self.remove(&key, region, force).await?;
        }
        self.publish(event(EventKind::Removed, topic, Some(by.clone())));
        self.settle(topic);
        Ok(())
    }

    async fn remove(self: &Rc<Self>, key: &Key, region: Arc<HeldRegion>, force: bool) -> Result<(), RegistryError> {
        let (topic, file) = key;
        let is_kept = region.is_kept();
        let is_live = !is_kept && region.owner_lives().unwrap_or(true);
        if is_live && !force {
            return Err(self.in_use(topic));
        }
        if is_live || is_kept {
            let directory = Arc::clone(&self.directory.shm);
            let removed = spawn_blocking(move || close_and_remove(&directory, &region, is_live)).await;
            return removed
                .map_err(|error| error.to_string())
                .flatten()
                .map_err(|reason| RegistryError::Failed { reason });
        }
        let changes = self.registry.borrow_mut().lock_is_free(key);
        self.carry_out(changes);
        self.wait_for_reaper(key).await;
        if self.registry.borrow().file_of(topic) == Some(*file) {
            let reason = format!("topic \"{topic}\" could not be reaped, its lock may be in use; try again");
            return Err(RegistryError::Failed { reason });
        }
        Ok(())
    }

    /// Waits until no reaper works on the file.
    async fn wait_for_reaper(&self, key: &Key) {
        self.reaping.wait_while(|| self.registry.borrow().is_dying(key)).await;
    }

    fn in_use(&self, topic: &TopicName) -> RegistryError {
        let owner = self.registry.borrow().topic(topic).and_then(|topic| topic.owner.map(ToString::to_string));
        let owner = owner.unwrap_or_else(|| "an unknown process".into());
        RegistryError::TopicInUse { topic: topic.to_string(), owner }
    }

    /// Handles the end of a topic's owner now, if the notice of it has not been read yet.
    fn notice_exit(self: &Rc<Self>, topic: &TopicName) {
        let Some(owner) = self.registry.borrow().announcer_of(topic) else { return };
        if self.processes.is_dying(owner) {
            self.ended(owner);
        }
    }
}

/// Removes a region's name. A live topic is closed first, for its owner and its subscribers.
fn close_and_remove(directory: &ShmDir, region: &Region, is_live: bool) -> Result<(), String> {
    let topic = region.topic();
    if is_live
        && !region.is_raw()
        && let Err(error) = region.mark_closed()
        // A region with a damaged header has no readers.
        && region.is_intact().is_ok()
    {
        return Err(format!("cannot close topic \"{topic}\": {error}"));
    }
    match directory.remove(topic, region.id()) {
        Ok(Removal::Removed | Removal::NotOurs) => Ok(()),
        Ok(Removal::Stranded(name)) => {
            Err(format!("a live region was renamed to {name} while \"{topic}\" was removed"))
        }
        Err(error) => Err(format!("cannot remove {}: {error}", directory.path_of(topic).display())),
    }
}
