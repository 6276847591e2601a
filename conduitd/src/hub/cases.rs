//! Reaps the regions of dead owners, and reports deaths.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::TopicName;
use conduit::registry::{DeathCertificate, EventKind, Process, RegistryEvent};
use tokio::time::timeout;

use super::Hub;
use crate::event_log::event;
use crate::peer::Pidfd;
use crate::reaping::certificate::{LeasedSubscriber, certify, name_subscribers};
use crate::reaping::{Proof, ReapCase, Verdict};
use crate::registry::{Key, Suspect};
use crate::tasks;

/// How long the answer about deaths waits for those that are not reported yet.
const REPORT_PATIENCE: Duration = Duration::from_millis(250);

impl Hub {
    pub(super) fn start_reaper(self: &Rc<Self>, key: Key, owner: Suspect) {
        let Some(region) = self.topics.region(&key) else {
            // Gone, unless it cannot be opened now.
            let is_named = self.directory.shm.id_of(&key.0).is_ok_and(|found| found == Some(key.1));
            if is_named {
                self.registry.borrow_mut().survived(&key);
                self.polling_due.notify_one();
            } else {
                self.registry.borrow_mut().reaped(&key);
                self.forget_unless_known(&key);
            }
            return;
        };
        let connection = owner.connection.or_else(|| self.topics.claimant_of(&key));
        let pidfd = connection.and_then(|connection| self.processes.pidfd_of(connection));
        let proof = owner.connection.zip(pidfd.clone()).map(|(connection, pidfd)| Proof {
            pidfd,
            pid: self.processes.pid_of(connection),
            is_announced: owner.is_proven,
        });
        let (directory, lock) = (Arc::clone(&self.directory.shm), self.directory.lock);
        let case = ReapCase { region, directory, lock, proof };
        // Read now: a subscriber that the reaper wakes may release its lease before the case is
        // closed.
        let subscribers = self.leased_subscribers(key.1);
        let owner = owner.process;
        let report = OpenReport::new(self);
        let open = OpenCase { hub: Rc::clone(self), key, owner, pidfd, subscribers, is_closed: false, _report: report };
        tasks::spawn("reaper", async move {
            let verdict = open.hub.reaping.examine(case).await;
            open.close(verdict).await;
        });
    }

    /// Reports a death once the process's exit status is known.
    pub(super) fn report_death(
        self: &Rc<Self>,
        kind: EventKind,
        topic: TopicName,
        process: Option<Process>,
        pidfd: Option<Arc<Pidfd>>,
    ) {
        let report = OpenReport::new(self);
        tasks::spawn("certificate", async move {
            let death = Some(certify(DeathCertificate::default(), pidfd.as_deref(), process.as_ref()).await);
            report.0.publish(event(kind, &topic, process).with_death(death));
        });
    }

    /// The recent deaths, with those of processes that are being examined: whoever has seen a name
    /// disappear finds out why.
    pub(crate) async fn deaths(&self) -> Vec<RegistryEvent> {
        let reported = self.reaping.wait_while(|| self.reaping.open_reports.get() > 0);
        let _ = timeout(REPORT_PATIENCE, reported).await;
        self.log.deaths()
    }
}

/// A death, or a suspicion of one, that is not reported yet.
struct OpenReport(Rc<Hub>);

impl OpenReport {
    fn new(hub: &Rc<Hub>) -> Self {
        let open = &hub.reaping.open_reports;
        open.set(open.get() + 1);
        Self(Rc::clone(hub))
    }
}

impl Drop for OpenReport {
    fn drop(&mut self) {
        self.0.reaping.report_closed();
    }
}

/// A region that is being reaped. Dropped by a panic, it is polled by its lock again, so that it is
/// not `dying` for ever.
struct OpenCase {
    hub: Rc<Hub>,
    key: Key,
    owner: Option<Process>,
    pidfd: Option<Arc<Pidfd>>,
    subscribers: Vec<LeasedSubscriber>,
    is_closed: bool,
    _report: OpenReport,
}

impl OpenCase {
    async fn close(mut self, verdict: Verdict) {
        self.settle(&verdict);
        let (hub, topic) = (&self.hub, &self.key.0);
        let owner = self.owner.take();
        match verdict {
            Verdict::Alive => hub.polling_due.notify_one(),
            Verdict::Failed { reason } => {
                tracing::error!(conduit.topic = %topic, "cannot reap topic \"{topic}\": {reason}; the daemon will try again");
                hub.polling_due.notify_one();
            }
            Verdict::Kept => {
                let changes = hub.registry.borrow_mut().kept(&self.key);
                hub.carry_out(changes);
            }
            Verdict::Closed => hub.publish(event(EventKind::Closed, topic, owner)),
            Verdict::Dead { mut death, subscribers } => {
                death.subscribers = name_subscribers(&self.subscribers, subscribers);
                let death = certify(death, self.pidfd.as_deref(), owner.as_ref()).await;
                hub.publish(event(EventKind::Died, topic, owner).with_death(Some(death)));
            }
        }
    }

    /// Tells the registry, then the callers that wait.
    fn settle(&mut self, verdict: &Verdict) {
        if verdict.is_reaped() {
            self.hub.registry.borrow_mut().reaped(&self.key);
        } else {
            self.hub.registry.borrow_mut().survived(&self.key);
        }
        self.is_closed = true;
        self.hub.forget_unless_known(&self.key);
        self.hub.reaping.finish(verdict);
    }
}

impl Drop for OpenCase {
    fn drop(&mut self) {
        if !self.is_closed {
            self.settle(&Verdict::Failed { reason: "the task was dropped".into() });
            self.hub.polling_due.notify_one();
        }
    }
}
