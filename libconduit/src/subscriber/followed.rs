//! What a subscriber that follows has besides, and knows of its publishers.

use std::fmt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::connection::ConnectOptions;
use crate::error::{OpenError, RecvError};
use crate::inspect::open_directory;
use crate::lookout::Vigil;
use crate::registry::{Client, DeathCertificate, Process};
use crate::ring::end::Gone;
use crate::ring::vacant::VacantRing;
use crate::shm::dir::FileId;
use crate::watched::{Seat, Watched};
use crate::{Domain, TopicName};

/// How long to wait until the registry knows of a death.
const CERTIFICATE_PATIENCE: Duration = Duration::from_millis(100);
const CERTIFICATE_INTERVAL: Duration = Duration::from_millis(2);

/// A publisher that a subscriber has or had.
pub(super) struct FollowedPublisher {
    pub(super) publisher: Process,
    /// When the subscriber connected, in milliseconds since the epoch.
    pub(super) time_ms: u64,
}

/// What a subscriber that follows has besides.
pub(super) struct Follow {
    /// How to open the next region.
    pub(super) options: ConnectOptions,
    pub(super) vacancy: VacantRing,
    /// For waiting at the vacant ring.
    pub(super) vacant: Arc<Watched>,
    pub(super) vigil: Vigil,
    /// Where wait sets find what to wait for.
    pub(super) seat: Arc<Seat>,
    /// Messages of earlier publishers: received, lost and skipped.
    pub(super) earlier: [u64; 3],
    pub(super) connected: Option<FollowedPublisher>,
    /// Events that were not reported.
    pub(super) is_connection_new: bool,
    pub(super) lost: Option<(FollowedPublisher, Gone)>,
    /// The last region that could not be opened, and why, which was reported.
    pub(super) refusal: Option<(Option<FileId>, String)>,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("epoch", &self.options.epoch).finish_non_exhaustive()
    }
}

impl Follow {
    pub(super) fn has_event(&self) -> bool {
        self.lost.is_some() || self.is_connection_new
    }

    /// A topic could not be opened: says why, unless it was said already.
    pub(super) fn refuse(&mut self, topic: &TopicName, error: OpenError) -> Result<(), RecvError> {
        let is_of_type = matches!(error, OpenError::TypeMismatch { .. } | OpenError::ShapeMismatch { .. });
        match error {
            // Nobody, so far.
            OpenError::NotFound { .. } | OpenError::Orphaned { .. } => {
                self.refusal = None;
                return Ok(());
            }
            // Only another publisher changes that.
            OpenError::TypeMismatch { .. }
            | OpenError::ShapeMismatch { .. }
            | OpenError::Layout { .. }
            | OpenError::Kind { .. } => {}
            _ => self.vigil.try_later(),
        }
        let domain = self.options.domain.clone().unwrap_or_default();
        let region = open_directory(&domain).ok().and_then(|directory| directory.id_of(topic).ok().flatten());
        let refusal = Some((region, error.to_string()));
        if self.refusal == refusal {
            return Ok(());
        }
        let reason = error.to_string();
        self.refusal = refusal;
        let topic = topic.clone();
        Err(if is_of_type {
            RecvError::TypeChanged { topic, reason }
        } else {
            RecvError::NotFollowed { topic, reason }
        })
    }
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What the registry says of a death: it may be about to learn of it.
pub(super) fn certificate(domain: &Domain, topic: &TopicName, dead: &FollowedPublisher) -> Option<DeathCertificate> {
    let deadline = Instant::now() + CERTIFICATE_PATIENCE;
    let mut client = Client::connect_in_passing(domain).ok()?;
    loop {
        let mut deaths = client.deaths().ok()?;
        deaths.retain(|death| death.topic == topic.as_str() && death.time_ms >= dead.time_ms);
        let is_over = Instant::now() >= deadline;
        // In a container, processes have other ids for themselves than for the registry.
        let is_meant = |process: &Process| process.pid == dead.publisher.pid || is_over;
        let found = deaths.into_iter().rev().find(|death| death.process.as_ref().is_none_or(is_meant));
        if found.is_some() || is_over {
            return found?.death;
        }
        sleep(CERTIFICATE_INTERVAL);
    }
}
