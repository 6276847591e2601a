//! Queries: status, list, describe, watch. Owns no state; costly replies are shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::TopicName;
use conduit::internal::foreign_text::clean;
use conduit::internal::protocol::{TopicList, encode_reply};
use conduit::internal::shm::dir::FileId;
use conduit::internal::shm::dying::dying;
use conduit::registry::{RegionState, RegistryError, RegistryStatus, TopicInfo};
use tokio::task::yield_now;

use super::Hub;
use crate::limits::Charge;
use crate::logging;
use crate::reaping::certificate::{LeasedSubscriber, name_subscribers};
use crate::registry::{ConnectionId, Key, TopicView};
use crate::watchers::{EventFilter, EventStream};

/// How often the status line of the service manager is updated.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Processes that are looked up in an answer for the regions of one user. Further subscribers count
/// as alive: they hold the locks of their records.
const PIDS_PER_UID: usize = 256;
/// How long topics are described before other work has its turn.
const SLICE: Duration = Duration::from_micros(500);

impl Hub {
    /// `Status`, for a user.
    pub(crate) async fn status(self: &Rc<Self>, uid: u32) -> RegistryStatus {
        self.catch_up(uid).await;
        self.current_status()
    }

    fn current_status(&self) -> RegistryStatus {
        let directory = self.directory.shm.id().ok();
        let mut status = RegistryStatus::default();
        status.version = env!("CARGO_PKG_VERSION").into();
        status.pid = std::process::id();
        status.uid = nix::unistd::geteuid().as_raw();
        status.shm_dir = clean(self.directory.shm.path().as_os_str().as_bytes());
        status.dev = directory.map_or(0, |directory| directory.dev);
        status.inode = directory.map_or(0, |directory| directory.ino);
        status.supervised = self.supervisor.keeps();
        status.topics = self.registry.borrow().topics().count() as u64;
        status.clients = self.accounts.connections() as u64;
        status.reaped = self.reaping.reaped.get();
        status.log_lines_dropped = logging::dropped_lines();
        status.untracked = self.surplus.total();
        status
    }

    /// Keeps the service manager's status line up to date, at most a second behind.
    pub(crate) async fn report_status(self: Rc<Self>) {
        let mut reported = String::new();
        loop {
            let RegistryStatus { topics, clients, reaped, .. } = self.current_status();
            let text = format!("{topics} topics, {clients} clients, {reaped} reaped");
            if text != reported {
                self.supervisor.status(&text);
                reported = text;
            }
            tokio::time::sleep(STATUS_INTERVAL).await;
            self.counts_changed.notified().await;
        }
    }

    /// `List`, encoded, for a user. `asked`: when the client sent its call; a reply computed since
    /// may be shared.
    pub(crate) async fn list(self: &Rc<Self>, uid: u32, asked: Instant) -> Rc<Vec<u8>> {
        self.catch_up(uid).await;
        self.list_reply.get_or_make_in_turns(asked, async || self.encode_list().await).await
    }

    /// All regions, sorted by name, as the reply of `List`.
    async fn encode_list(&self) -> Vec<u8> {
        let mut views: Vec<(Key, bool)> = {
            let registry = self.registry.borrow();
            let named = registry.topics().map(|topic| ((topic.name.clone(), topic.file), true));
            let unlinked = registry.unlinked().map(|topic| ((topic.name.clone(), topic.file), false));
            named.chain(unlinked).collect()
        };
        views.sort();
        let mut encoded = Vec::new();
        let dying = DyingPids::default();
        let mut began = Instant::now();
        for (key, is_named) in views {
            if let Some(topic) = self.describe_key(&key, is_named, &dying) {
                if !encoded.is_empty() {
                    encoded.push(b',');
                }
                // A description can be encoded.
                let _ = serde_json::to_writer(&mut encoded, &topic);
            }
            if began.elapsed() >= SLICE {
                yield_now().await;
                began = Instant::now();
            }
        }
        list_of(&encoded)
    }

    /// A region that may have changed or gone meanwhile.
    fn describe_key(&self, key: &Key, is_named: bool, dying: &DyingPids) -> Option<TopicInfo> {
        let registry = self.registry.borrow();
        let view = if is_named { registry.topic(&key.0) } else { registry.unlinked_topic(key) };
        let topic = self.describe_view(view.filter(|view| view.file == key.1)?, dying)?;
        (is_named || topic.state == RegionState::Unlinked).then_some(topic)
    }

    /// `Describe`.
    pub(crate) fn describe(self: &Rc<Self>, topic: &TopicName) -> Result<TopicInfo, RegistryError> {
        self.settle(topic);
        let registry = self.registry.borrow();
        let unlinked = || registry.unlinked().find(|unlinked| unlinked.name == topic);
        let view = registry.topic(topic).or_else(unlinked);
        let described = view.and_then(|topic| self.describe_view(topic, &DyingPids::default()));
        described.ok_or_else(|| not_found(topic))
    }

    fn describe_view(&self, view: TopicView, dying: &DyingPids) -> Option<TopicInfo> {
        let key = (view.name.clone(), view.file);
        let region = self.topics.region(&key)?;
        let mut counters = region.counters();
        let mut recorded = counters.as_mut().map(|it| std::mem::take(&mut it.subscribers)).unwrap_or_default();
        let leased = self.leased_subscribers(view.file);
        // One that is dumping core has lost its lease, and keeps its record until the dump is
        // complete.
        let has_lease = |index| leased.iter().any(|(record, _)| record.is_some_and(|record| record as usize == index));
        recorded.retain(|(index, one)| has_lease(*index) || !dying.contains(region.uid(), one.pid));
        let mut topic = region.describe_from(counters);
        if let Some(owner) = view.owner {
            topic.publisher = Some(owner.clone());
        }
        topic.liveness = Some(view.liveness);
        if topic.last_message_age_ns.is_none() {
            topic.is_overdue = view.is_overdue;
        }
        let (refusal, unlinked) = self.topics.get(&key, |topic| (topic.refusal.clone(), topic.unlinked_by.clone()))?;
        if let Some(refusal) = refusal
            && matches!(topic.state, RegionState::Live | RegionState::Kept)
        {
            topic.state = RegionState::Unauthorised;
            topic.refusal = Some(refusal.to_string());
        }
        topic.unlinked = unlinked;
        topic.subscribers = name_subscribers(&leased, recorded);
        Some(topic)
    }

    /// The subscribers of a file that hold a lease.
    pub(super) fn leased_subscribers(&self, file: FileId) -> Vec<LeasedSubscriber> {
        let registry = self.registry.borrow();
        registry.subscribers_of(file).map(|(record, process)| (record, process.clone())).collect()
    }

    /// `Watch`, for a user. `asked`: when the client sent its call; a snapshot computed since may
    /// be shared. `charges`: see [`Watchers::start`](crate::watchers::Watchers::start).
    pub(crate) async fn watch(
        self: &Rc<Self>,
        (connection, uid): (ConnectionId, u32),
        filter: EventFilter,
        charges: [Charge; 2],
        asked: Instant,
    ) -> Result<EventStream, RegistryError> {
        self.catch_up(uid).await;
        self.watchers.start(connection, filter, charges, &self.registry.borrow(), asked)
    }
}

/// What /proc says of the processes that regions name as their subscribers, looked up once for an
/// answer: one process may have subscribed to every topic, and a region may name any number.
#[derive(Default)]
struct DyingPids {
    known: RefCell<HashMap<u32, bool>>,
    /// Processes that were looked up for regions of a user.
    looks: RefCell<HashMap<u32, usize>>,
}

impl DyingPids {
    /// Whether a process will never run again, as far as it may be looked up for a region of this
    /// user.
    fn contains(&self, uid: u32, pid: u32) -> bool {
        self.look_up(uid, pid, |pid| dying(pid).is_some())
    }

    fn look_up(&self, uid: u32, pid: u32, is_dying: impl FnOnce(u32) -> bool) -> bool {
        if let Some(known) = self.known.borrow().get(&pid) {
            return *known;
        }
        let mut looks = self.looks.borrow_mut();
        let looks = looks.entry(uid).or_default();
        if *looks == PIDS_PER_UID {
            return false;
        }
        *looks += 1;
        *self.known.borrow_mut().entry(pid).or_insert_with(|| is_dying(pid))
    }
}

/// The reply of `List` with encoded topics.
fn list_of(topics: &[u8]) -> Vec<u8> {
    let empty = encode_reply(&TopicList { topics: Vec::new() });
    let at = empty.iter().position(|&byte| byte == b'[').map_or(0, |at| at + 1);
    [&empty[..at], topics, &empty[at..]].concat()
}

pub(super) fn not_found(topic: &TopicName) -> RegistryError {
    RegistryError::TopicNotFound { topic: topic.to_string() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_process_is_looked_up_once_and_few_for_the_regions_of_one_user() {
        let (pids, looks) = (DyingPids::default(), Cell::new(0));
        let look_up = |uid, pid| {
            pids.look_up(uid, pid, |pid| {
                looks.set(looks.get() + 1);
                pid == 7
            })
        };
        for _ in 0..400 {
            assert!(look_up(1, 7) && !look_up(1, 8) && look_up(2, 7));
        }
        assert_eq!(looks.get(), 2);
        for pid in 1000..60_000 {
            assert!(!look_up(1, pid));
        }
        assert_eq!(looks.get(), PIDS_PER_UID);
        assert!(look_up(1, 7), "it is known");
        look_up(2, 9);
        assert_eq!(looks.get(), PIDS_PER_UID + 1, "another user's regions are not affected");
    }
}
