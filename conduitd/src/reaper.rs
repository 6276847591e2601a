//! Cleaning up after a dead owner. Runs on blocking threads: each of these calls can stall on a busy region.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::inspect::{Region, age_ns};
use conduit::internal::shm::dir::{ReapLock, Removal, ShmDir};
use conduit::internal::shm::process::{Exit, exit_of};
use conduit::internal::{ReapGuard, ReapRegion};
use conduit::registry::{DeathCertificate, SubscriberInfo};

use crate::owner::has_exited;

/// How long a lock may outlive its owner before the owner's pidfd decides: a `ps` of another user, or a child that has
/// not yet called exec, can keep it for some milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
/// How long the kernel may take to know how a process ended: its parent must have waited for it.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);
const EXIT_INTERVAL: Duration = Duration::from_millis(2);
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// A file whose owner may be dead.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) region: Arc<Region>,
    pub(crate) directory: Arc<ShmDir>,
    pub(crate) lock: ReapLock,
    /// The owner's process, if a connection vouched for it before the region had a name.
    pub(crate) proof: Option<Arc<OwnedFd>>,
}

/// What a reaper found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The owner lives: somebody has the lock, and nothing proves otherwise.
    Alive,
    /// The creator had let the raw region go on purpose.
    Kept,
    /// The owner had closed the topic and did not live to remove its name; that is done now.
    Closed,
    /// The owner is dead. Its sleepers are awake and its name is gone.
    Dead {
        /// The certificate, as far as the region tells.
        death: DeathCertificate,
        /// Who was subscribed, with the numbers of their records.
        subscribers: Vec<(usize, SubscriberInfo)>,
    },
}

/// Finds out whether the owner is dead and cleans up.
pub(crate) fn reap(case: &Case) -> Verdict {
    let Some(_guard) = prove_death(case) else { return Verdict::Alive };
    let region = &case.region;
    if region.is_kept() {
        return Verdict::Kept;
    }
    let counters = region.counters();
    let is_closed = counters.as_ref().is_some_and(|counters| counters.closed);
    if !is_closed && let Err(error) = region.mark_orphaned() {
        // Its sleepers look for themselves within a second.
        tracing::warn!("can not wake the subscribers of topic \"{}\": {error}", region.topic());
    }
    match case.directory.remove(region.topic(), region.id()) {
        Ok(Removal::Removed | Removal::NotOurs) => {}
        Ok(Removal::Stranded(name)) => {
            tracing::error!("a live region was renamed to {name} while topic \"{}\" was reaped", region.topic());
        }
        Err(error) => tracing::error!("can not remove the orphan of topic \"{}\": {error}", region.topic()),
    }
    if is_closed {
        return Verdict::Closed;
    }
    Verdict::Dead {
        death: DeathCertificate {
            last_sequence: counters.as_ref().and_then(|counters| counters.published.checked_sub(1)),
            last_message_age_ns: counters.as_ref().and_then(|counters| counters.last_stamp_ns).map(age_ns),
            ..DeathCertificate::default()
        },
        subscribers: counters.map(|counters| counters.subscribers).unwrap_or_default(),
    }
}

/// Holds what proves the death: the lock, or nothing but the word of the pidfd.
#[expect(clippy::option_option, reason = "the outer option is the verdict, the inner one what must be kept for it")]
fn prove_death(case: &Case) -> Option<Option<ReapGuard>> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match case.region.try_reap_lock(case.lock) {
            Ok(Some(guard)) => return Some(Some(guard)),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!("can not lock topic \"{}\": {error}", case.region.topic());
            }
        }
        if Instant::now() >= deadline {
            return case.proof.as_deref().is_some_and(has_exited).then_some(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Adds to a certificate how the process ended, where the kernel tells: once its parent has waited for it.
pub(crate) async fn certify(mut death: DeathCertificate, pidfd: Option<&OwnedFd>) -> DeathCertificate {
    // A process that lives has only hung up.
    let Some(pidfd) = pidfd.filter(|pidfd| has_exited(pidfd)) else { return death };
    let deadline = Instant::now() + EXIT_PATIENCE;
    loop {
        match exit_of(pidfd) {
            Some(Exit::Code(code)) => death.exit_code = Some(code),
            Some(Exit::Signal { signal, core_dumped }) => {
                death.signal = Some(signal);
                death.core_dumped = Some(core_dumped);
            }
            None if Instant::now() < deadline => {
                tokio::time::sleep(EXIT_INTERVAL).await;
                continue;
            }
            None => {}
        }
        return death;
    }
}
