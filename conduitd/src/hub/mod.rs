//! The middle of the daemon: hands the changes of one part to the others. Owns the parts, and two
//! notifications.
//!
//! Everything here runs on one thread and never waits; what may stall runs on blocking threads.

mod adoption;
mod cases;
mod changes;
mod deadlines;
mod leases;
mod locks;
mod names;
mod queries;
mod rules;
mod scan;
mod subscribers;
#[cfg(test)]
pub(crate) mod tests;
mod unlink;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use adoption::ResumedClient;
use conduit::internal::shm::heap;
use conduit::registry::{EventKind, RegistryEvent};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::changes::PendingChanges;
use crate::deadlines::Deadlines;
use crate::descriptors::Descriptors;
use crate::directory::Directory;
use crate::event_log::{EventLog, event};
use crate::limits::{Accounts, Limits};
use crate::policy::Policy;
use crate::process_watch::{Notice, ProcessWatch};
use crate::processes::Processes;
use crate::reaping::Reaping;
use crate::registry::{Change, Key, RegistryState};
use crate::shared_answer::SharedAnswer;
use crate::surplus::SurplusNames;
use crate::systemd::Supervisor;
use crate::topics::Topics;
use crate::watchers::Watchers;

/// How long after many clients have gone memory is given back.
const RELEASE_PAUSE: Duration = Duration::from_secs(3);

/// What clients may use, and what there is.
pub(crate) struct Resources {
    pub(crate) limits: Limits,
    pub(crate) descriptors: Descriptors,
}

/// The parts of the daemon.
pub(crate) struct Hub {
    pub(crate) limits: Limits,
    pub(crate) accounts: Rc<Accounts>,
    pub(crate) supervisor: Rc<Supervisor>,
    pub(crate) directory: Rc<Directory>,
    pub(crate) descriptors: Descriptors,
    changes: RefCell<PendingChanges>,
    surplus: SurplusNames,
    registry: RefCell<RegistryState>,
    topics: Topics,
    deadlines: RefCell<Deadlines>,
    /// There may be an earlier one.
    deadlines_changed: Notify,
    pub(crate) processes: Processes,
    policy: RefCell<Policy>,
    watchers: Watchers,
    reaping: Reaping,
    pub(crate) log: EventLog,
    list_reply: SharedAnswer,
    /// The number of topics, connections or reaped regions may have changed.
    pub(crate) counts_changed: Notify,
    /// There may be locks to poll, or names to inspect again.
    polling_due: Notify,
    /// The directory has changed.
    changes_due: Notify,
    /// The directory is to be read anew.
    scan_due: Notify,
    /// The kernel has dropped changes; the directory is not read yet.
    has_missed_changes: Cell<bool>,
    scanned: Notify,
}

impl Hub {
    pub(crate) fn new(
        directory: Rc<Directory>,
        Resources { limits, descriptors }: Resources,
        policy: Policy,
        watch: ProcessWatch,
        reaping: Reaping,
        supervisor: Rc<Supervisor>,
    ) -> Rc<Self> {
        Rc::new(Self {
            limits,
            accounts: Accounts::new(limits, descriptors.clone()),
            supervisor,
            topics: Topics::new(Arc::clone(&directory.shm), descriptors.clone()),
            deadlines: RefCell::default(),
            deadlines_changed: Notify::new(),
            directory,
            descriptors,
            changes: RefCell::default(),
            surplus: SurplusNames::default(),
            registry: RefCell::default(),
            processes: Processes::new(watch),
            policy: RefCell::new(policy),
            watchers: Watchers::new(limits.queued_events),
            reaping,
            log: EventLog::default(),
            list_reply: SharedAnswer::default(),
            counts_changed: Notify::new(),
            polling_due: Notify::new(),
            changes_due: Notify::new(),
            scan_due: Notify::new(),
            has_missed_changes: Cell::default(),
            scanned: Notify::new(),
        })
    }

    /// Handles a notice of the process-watching thread.
    pub(crate) fn handle(self: &Rc<Self>, notice: Notice) {
        match notice {
            Notice::Exited(connection) => self.exited(connection),
            Notice::Dumping(connection) => self.begins_to_dump(connection),
            Notice::DirectoryChanged => self.changes_due.notify_one(),
            Notice::Awake => self.supervisor.feed_watchdog(),
        }
    }

    /// Gives memory back when many clients have gone: what is left between the memory of those that
    /// stay would be kept for ever.
    pub(crate) async fn release_memory(self: Rc<Self>) {
        loop {
            self.accounts.many_gone.notified().await;
            // More may be leaving, and their memory is freed later than their places.
            tokio::time::sleep(RELEASE_PAUSE).await;
            // On another thread, since it may take long. That it panics is logged.
            let _ = spawn_blocking(heap::trim).await;
        }
    }

    /// Hands the changes of the registry to the parts that carry them out.
    fn carry_out(self: &Rc<Self>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Event { kind, topic, process } => self.publish(event(kind, &topic, process)),
                Change::Reap { key, owner } => self.start_reaper(key, owner),
                Change::SubscriberDied { topic, process, connection } => {
                    let pidfd = self.processes.pidfd_of(connection);
                    self.report_death(EventKind::SubscriberDied, topic, Some(process), pidfd);
                }
            }
        }
        if self.has_work_to_poll() {
            self.polling_due.notify_one();
        }
    }

    fn publish(&self, event: RegistryEvent) {
        self.invalidate_answers();
        self.counts_changed.notify_one();
        self.log.record(&event);
        if let Ok(topic) = event.topic.parse() {
            self.watchers.publish(&topic, &event);
        }
    }

    fn invalidate_answers(&self) {
        self.list_reply.invalidate();
        self.watchers.full_snapshot.invalidate();
    }

    /// Closes a region about which nothing more can be reported.
    fn forget_unless_known(&self, key: &Key) {
        if self.registry.borrow().knows(key) {
            return;
        }
        self.deadlines.borrow_mut().remove(key);
        if let Some((uid, claimant)) = self.topics.remove(key) {
            if let Some(claimant) = claimant {
                self.processes.forget(claimant);
            }
            if self.surplus.has(uid) {
                // There is room for one of them.
                self.scan_due.notify_one();
            }
        }
    }
}
