//! Owns the reaping of dead owners' regions: how a death is proven, how many regions were reaped,
//! which callers wait for a reaper.

pub(crate) mod certificate;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::inspect::{Counters, Region, age_ns};
use conduit::internal::shm::dir::{ReapLock, Removal, ShmDir};
use conduit::internal::{ReapGuard, ReapRegion};
use conduit::registry::{DeathCertificate, SubscriberInfo};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::spawn_blocking;

use crate::descriptors::Charged;
use crate::limits::Places;
use crate::peer::{Pidfd, has_exited, is_dying};

/// How long a lock may outlive its owner before the owner's pidfd decides: a `ps` of another user,
/// or a child that has not yet called exec, can keep it for some milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// Regions of one user that are examined at a time. Those of others are not delayed by a user whose
/// locks stay held.
const CASES_PER_UID: usize = 8;

/// A region that the daemon has open.
pub(crate) type HeldRegion = Charged<Region>;

/// A region whose owner may be dead.
#[derive(Debug)]
pub(crate) struct ReapCase {
    pub(crate) region: Arc<HeldRegion>,
    pub(crate) directory: Arc<ShmDir>,
    pub(crate) lock: ReapLock,
    /// The owner's process, if a connection announced the region for it.
    pub(crate) proof: Option<Proof>,
}

/// A process that announced a region as its own.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) pidfd: Arc<Pidfd>,
    /// 0 if it is not visible here.
    pub(crate) pid: u32,
    /// It did so before the region had a name: it is the owner. Afterwards, any process of the user
    /// could.
    pub(crate) is_announced: bool,
}

impl Proof {
    fn has_exited(&self) -> bool {
        self.is_announced && has_exited(&self.pidfd)
    }

    /// Whether the owner will never run again. A late announcement counts if the region names the
    /// same process.
    fn is_dying(&self, region: &Region) -> bool {
        (self.is_announced || region.claimed_owner().pid == Some(self.pid)) && is_dying(&self.pidfd, self.pid)
    }
}

/// What a reaper found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The owner lives: a process has the lock, and nothing proves otherwise.
    Alive,
    /// The creator had released the raw region, which is kept.
    Kept,
    /// The owner had closed the topic and died before it removed the name, which is removed now.
    Closed,
    /// The owner is dead. Its waiters are awake and its name is removed.
    Dead {
        /// What the region tells of the death.
        death: DeathCertificate,
        /// The subscribers, with the numbers of their records.
        subscribers: Vec<(usize, SubscriberInfo)>,
    },
    /// The reaper itself failed; the region is as it was, or half reaped.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the region is gone.
    pub(crate) fn is_reaped(&self) -> bool {
        matches!(self, Self::Closed | Self::Dead { .. })
    }
}

/// A reaper: looks at a region once. `is_last`: it will not look again, so the owner's pidfd
/// decides if the lock does not.
pub(crate) type Reaper = fn(&ReapCase, bool) -> Verdict;

/// Runs reapers, and lets callers wait for them.
pub(crate) struct Reaping {
    reaper: Reaper,
    places: Places,
    /// Regions of dead owners that were removed.
    pub(crate) reaped: Cell<u64>,
    /// Deaths, or suspicions of them, that are not reported yet.
    pub(crate) open_reports: Cell<usize>,
    finished: Notify,
}

impl Reaping {
    /// `reaper` runs on blocking threads: it can stall on a busy region. It is [`reap`], except in
    /// tests.
    pub(crate) fn new(reaper: Reaper) -> Self {
        let (reaped, open_reports) = Default::default();
        Self { reaper, places: Places::new(CASES_PER_UID), reaped, open_reports, finished: Notify::new() }
    }

    /// Runs the reaper until it finds the owner dead, or for [`LOCK_PATIENCE`]. A reaper that
    /// panics has failed.
    ///
    /// No thread waits in between: a user can have any number of regions whose locks stay held.
    pub(crate) async fn examine(&self, case: ReapCase) -> Verdict {
        let _place = self.places.take(case.region.uid()).await;
        let (case, reaper) = (Arc::new(case), self.reaper);
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let is_last = Instant::now() >= deadline;
            let of_thread = Arc::clone(&case);
            let verdict = spawn_blocking(move || reaper(&of_thread, is_last)).await;
            let verdict = verdict.unwrap_or_else(|error| Verdict::Failed { reason: error.to_string() });
            if is_last || !matches!(verdict, Verdict::Alive) {
                return verdict;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for a place of a user's, for other work that may stall on its regions.
    pub(crate) async fn place_of(&self, uid: u32) -> Option<OwnedSemaphorePermit> {
        self.places.take(uid).await
    }

    /// Counts a verdict and wakes the callers that wait for it. The registry knows of it already.
    pub(crate) fn finish(&self, verdict: &Verdict) {
        if verdict.is_reaped() {
            self.reaped.set(self.reaped.get() + 1);
        }
        self.finished.notify_waiters();
    }

    /// A report is made, or there is nothing to report.
    pub(crate) fn report_closed(&self) {
        self.open_reports.set(self.open_reports.get() - 1);
        self.finished.notify_waiters();
    }

    /// Waits while a region is being reaped.
    pub(crate) async fn wait_while(&self, is_dying: impl Fn() -> bool) {
        loop {
            // Created before the check, so that a reaper that finishes in between is not missed.
            let finished = self.finished.notified();
            if !is_dying() {
                return;
            }
            finished.await;
        }
    }
}

/// Finds out whether the owner is dead, and reaps the region if so.
pub(crate) fn reap(case: &ReapCase, is_last: bool) -> Verdict {
    let Some(_guard) = prove_death(case, is_last) else { return Verdict::Alive };
    let region = &case.region;
    if region.is_kept() {
        return Verdict::Kept;
    }
    let counters = region.counters();
    let is_closed = counters.as_ref().is_some_and(|counters| counters.closed);
    if !is_closed && let Err(error) = region.mark_orphaned() {
        // Its waiters check the owner lock themselves within a second.
        tracing::warn!("cannot wake the subscribers of topic \"{}\": {error}", region.topic());
    }
    remove_name(case);
    if is_closed { Verdict::Closed } else { dead(counters) }
}

fn remove_name(ReapCase { directory, region, .. }: &ReapCase) {
    match directory.remove(region.topic(), region.id()) {
        Ok(Removal::Removed | Removal::NotOurs) => {}
        Ok(Removal::Stranded(name)) => {
            tracing::error!("a live region was renamed to {name} while topic \"{}\" was reaped", region.topic());
        }
        Err(error) => tracing::error!("cannot remove the orphan of topic \"{}\": {error}", region.topic()),
    }
}

fn dead(counters: Option<Counters>) -> Verdict {
    let mut death = DeathCertificate::default();
    death.last_sequence = counters.as_ref().and_then(|counters| counters.published.checked_sub(1));
    death.last_message_age_ns = counters.as_ref().and_then(|counters| counters.last_stamp_ns).map(age_ns);
    Verdict::Dead { death, subscribers: counters.map(|counters| counters.subscribers).unwrap_or_default() }
}

/// Returns what proves the death: the owner lock, or that of removers if the owner is dying; or
/// `None` inside if only the pidfd does.
#[expect(clippy::option_option, reason = "the outer option is the verdict, the inner one what must be held for it")]
fn prove_death(case: &ReapCase, is_last: bool) -> Option<Option<ReapGuard>> {
    let ReapCase { region, lock, proof, .. } = case;
    let locked = match region.try_reap_lock(*lock, is_last) {
        Ok(None) if proof.as_ref().is_some_and(|proof| proof.is_dying(region)) => {
            region.try_remover_lock(*lock, is_last)
        }
        other => other,
    };
    match locked {
        Ok(Some(guard)) => return Some(Some(guard)),
        Ok(None) => {}
        Err(error) => tracing::debug!("cannot lock topic \"{}\": {error}", region.topic()),
    }
    (is_last && proof.as_ref().is_some_and(Proof::has_exited)).then_some(None)
}
