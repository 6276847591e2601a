//! Polls the locks of regions without a lease, and inspects again the names that could not be
//! inspected.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Hub;
use crate::registry::Key;

/// How often the locks of topics without a lease are polled.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);
/// How long locks are polled before other work has its turn.
const SLICE: Duration = Duration::from_micros(200);

impl Hub {
    /// Polls for as long as there is anything to poll; sleeps otherwise.
    pub(crate) async fn watch_locks(self: Rc<Self>) {
        loop {
            self.polling_due.notified().await;
            while self.has_work_to_poll() {
                self.poll_all().await;
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
        }
    }

    pub(super) fn has_work_to_poll(&self) -> bool {
        self.registry.borrow().watches_locks() || !self.directory.uninspected.borrow().is_empty()
    }

    async fn poll_all(self: &Rc<Self>) {
        if !self.processes.watch.hears_dumps() {
            self.processes.watch.look_for_dumps();
        }
        let uninspected: Vec<_> = self.directory.uninspected.borrow().keys().cloned().collect();
        let mut began = Instant::now();
        for topic in &uninspected {
            self.update(topic);
            self.pause_after(SLICE, &mut began).await;
        }
        let polled = self.registry.borrow().watched_by_lock();
        for key in &polled {
            self.poll_lock(key);
            self.pause_after(SLICE, &mut began).await;
        }
    }

    pub(super) fn poll_lock(self: &Rc<Self>, key: &Key) {
        let Some(region) = self.topics.file(key) else { return };
        let changes = if region.is_kept() {
            self.registry.borrow_mut().kept(key)
        } else if !region.owner_lives().unwrap_or(true) {
            self.registry.borrow_mut().lock_is_free(key)
        } else {
            return;
        };
        self.carry_out(changes);
    }
}
