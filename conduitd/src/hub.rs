//! The daemon's state, shared by its connections: the registry, what it needs to carry changes out, and the answers to
//! questions. Everything here runs on one thread and never waits; what may stall is given to blocking threads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conduit::TopicName;
use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::protocol::{TopicList, encode_reply};
use conduit::internal::shm::dir::{FileId, ReapLock, Removal, ShmDir};
use conduit::internal::shm::process::open_process;
use conduit::registry::{
    DeathCertificate, EventKind, Process, RegionState, RegistryError, RegistryEvent, RegistryStatus, SubscriberInfo,
    TopicInfo,
};
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, spawn_local};

use crate::event_log::{EventLog, event};
use crate::limits::{Accounts, Limits};
use crate::logging::message_id;
use crate::owner::{PeerProcess, ProcessWatch, has_exited};
use crate::policy::{FileFacts, Policy, Refusal};
use crate::reaper::{Case, Verdict, certify, reap};
use crate::registry::{Change, ConnectionId, Key, LeaseRole, RegistryState, Suspect, TopicView, identify};
use crate::restore::DirectoryWatch;
use crate::shared_answer::SharedAnswer;
use crate::systemd::Supervisor;
use crate::systemd::logind::who_removed;
use crate::systemd::store::Held;
use crate::watchers::{EventFilter, EventStream, Watchers};

/// How often the locks of topics without a lease are looked at.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the service manager hears how much there is.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How often a caller who waits for a reaper looks.
const REAPER_INTERVAL: Duration = Duration::from_millis(1);

/// Everything the daemon knows and holds.
pub(crate) struct Hub {
    pub(crate) directory: Arc<ShmDir>,
    pub(crate) watch: DirectoryWatch,
    pub(crate) lock: ReapLock,
    pub(crate) limits: Limits,
    pub(crate) accounts: Rc<Accounts>,
    pub(crate) supervisor: Rc<Supervisor>,
    pub(crate) registry: RefCell<RegistryState>,
    pub(crate) regions: RefCell<HashMap<Key, Arc<Region>>>,
    /// Names that could not be looked at, for want of descriptors perhaps: to be tried again.
    pub(crate) unseen: RefCell<BTreeSet<TopicName>>,
    /// A scan for removals that were left half-way is due.
    pub(crate) removals_due: Cell<bool>,
    connections: Cell<ConnectionId>,
    processes: ProcessWatch,
    pidfds: RefCell<HashMap<ConnectionId, Arc<OwnedFd>>>,
    /// Processes that regions without a lease name as their owners: watched as if they had a connection. Their ends prove
    /// nothing and are a reason to look.
    claimants: RefCell<BTreeMap<Key, ConnectionId>>,
    pub(crate) watchers: Watchers,
    log: EventLog,
    policy: RefCell<Policy>,
    /// The groups of those who have registered something.
    gids: RefCell<HashMap<ConnectionId, Vec<u32>>>,
    /// What is there against the rules, and why.
    refusals: RefCell<HashMap<Key, Refusal>>,
    /// Living regions without a name, and who has probably taken it.
    unlinked: RefCell<HashMap<Key, String>>,
    /// Regions of dead owners that were removed.
    reaped: Cell<u64>,
    /// The numbers that the service manager shows may have changed.
    counts: Notify,
    /// The reply to `List`.
    listed: SharedAnswer,
    /// Something is watched by its lock alone.
    pub(crate) locks: Notify,
}

impl Hub {
    pub(crate) fn new(
        directory: Arc<ShmDir>,
        watch: DirectoryWatch,
        lock: ReapLock,
        limits: Limits,
        policy: Policy,
        processes: ProcessWatch,
        supervisor: Rc<Supervisor>,
    ) -> Rc<Self> {
        Rc::new(Self {
            accounts: Accounts::new(limits),
            supervisor,
            directory,
            watch,
            lock,
            limits,
            registry: RefCell::default(),
            regions: RefCell::default(),
            unseen: RefCell::default(),
            removals_due: Cell::default(),
            connections: Cell::default(),
            processes,
            pidfds: RefCell::default(),
            claimants: RefCell::default(),
            watchers: Watchers::new(limits.queued_events),
            log: EventLog::default(),
            policy: RefCell::new(policy),
            gids: RefCell::default(),
            refusals: RefCell::default(),
            unlinked: RefCell::default(),
            reaped: Cell::default(),
            counts: Notify::new(),
            listed: SharedAnswer::default(),
            locks: Notify::new(),
        })
    }

    fn forget_shared(&self) {
        self.listed.invalidate();
        self.watchers.invalidate_snapshot();
    }

    /// A number for a new connection.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// Numbers below this one are taken by connections of the daemon before.
    pub(crate) fn number_from(&self, first: ConnectionId) {
        self.connections.set(self.connections.get().max(first));
    }

    /// Has the watching thread say that it is there.
    pub(crate) fn ask_watcher(&self) {
        self.processes.ask();
    }

    /// `Status`.
    pub(crate) fn status(self: &Rc<Self>) -> RegistryStatus {
        self.catch_up();
        let metadata = std::fs::metadata(self.directory.path()).ok();
        RegistryStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            shm_dir: self.directory.path().display().to_string(),
            dev: metadata.as_ref().map_or(0, MetadataExt::dev),
            inode: metadata.as_ref().map_or(0, MetadataExt::ino),
            supervised: self.supervisor.keeps(),
            topics: self.registry.borrow().topics().count() as u64,
            clients: self.accounts.connections() as u64,
            reaped: self.reaped.get(),
        }
    }

    /// The number of connections, or of topics, or of the dead, has changed.
    pub(crate) fn note_counts(&self) {
        self.counts.notify_one();
    }

    /// Keeps the service manager's line about this daemon true: at most a second behind.
    pub(crate) async fn tell_status(self: Rc<Self>) {
        let mut told = String::new();
        loop {
            let RegistryStatus { topics, clients, reaped, .. } = self.status();
            let text = format!("{topics} topics, {clients} clients, {reaped} reaped");
            if text != told {
                self.supervisor.status(&text);
                told = text;
            }
            tokio::time::sleep(STATUS_INTERVAL).await;
            self.counts.notified().await;
        }
    }

    /// `Register`: a process is about to name a file.
    pub(crate) fn register(
        self: &Rc<Self>,
        connection: ConnectionId,
        peer: &PeerProcess,
        topic: TopicName,
        file: FileId,
        announced: FileFacts,
    ) -> Result<Held, RegistryError> {
        self.catch_up();
        if let Err(Refusal { rule, reason }) =
            self.policy.borrow().judge(&topic, peer.process.uid, Some(&peer.gids), announced)
        {
            let Process { pid, uid, .. } = peer.process;
            tracing::warn!(
                conduit.topic = %topic, conduit.pid = pid, conduit.uid = uid, conduit.rule = rule, "refused: {reason}"
            );
            return Err(RegistryError::NotAllowed { topic: topic.to_string(), rule, reason });
        }
        self.gids.borrow_mut().insert(connection, peer.gids.clone());
        self.forget_shared();
        let is_late = self.registry.borrow().file_of(&topic) == Some(file);
        self.registry.borrow_mut().register(connection, peer.process.clone(), topic.clone(), file)?;
        self.watch_process(connection, peer);
        Ok(Held::Lease { topic, file, role: LeaseRole::Owner, is_late })
    }

    /// `Attach`: a process subscribes.
    pub(crate) fn attach(
        self: &Rc<Self>,
        connection: ConnectionId,
        peer: &PeerProcess,
        topic: TopicName,
        file: FileId,
        record: Option<u32>,
    ) -> Result<Held, RegistryError> {
        self.catch_up();
        let region = self.region(&topic, file);
        let counters = region.filter(|_| peer.process.pid == 0).and_then(|region| region.counters());
        let recorded = counters.into_iter().flat_map(|counters| counters.subscribers);
        let mut claimed = recorded.filter(|(index, _)| u32::try_from(*index).ok() == record).map(|(_, one)| Process {
            pid: one.pid,
            uid: one.uid,
            program: one.program,
        });
        let process = identify(&peer.process, claimed.next_back().as_ref());
        let changes = self.registry.borrow_mut().attach(connection, process, topic.clone(), file, record)?;
        self.watch_process(connection, peer);
        self.carry_out(changes);
        Ok(Held::Lease { topic, file, role: LeaseRole::Subscriber { record }, is_late: false })
    }

    /// A lease that the daemon before granted.
    pub(crate) fn resume(&self, connection: ConnectionId, peer: &PeerProcess, key: Key, role: LeaseRole) {
        if role == LeaseRole::Owner {
            self.gids.borrow_mut().insert(connection, peer.gids.clone());
        }
        self.registry.borrow_mut().resume(connection, peer.process.clone(), key, role);
        self.watch_process(connection, peer);
    }

    /// The same of one that came when its file had its name already.
    pub(crate) fn resume_late(&self, connection: ConnectionId, peer: &PeerProcess, topic: TopicName, file: FileId) {
        self.gids.borrow_mut().insert(connection, peer.gids.clone());
        let resumed = self.registry.borrow_mut().register(connection, peer.process.clone(), topic, file);
        if resumed.is_ok() {
            self.watch_process(connection, peer);
        }
    }

    fn watch_process(&self, connection: ConnectionId, peer: &PeerProcess) {
        if let Some(pidfd) = &peer.pidfd {
            self.watch_pidfd(connection, pidfd, &peer.process);
        }
    }

    fn watch_pidfd(&self, connection: ConnectionId, pidfd: &Arc<OwnedFd>, process: &Process) {
        if self.pidfds.borrow_mut().insert(connection, Arc::clone(pidfd)).is_none()
            && let Err(error) = self.processes.watch(connection, pidfd)
        {
            // The end of the connection tells as well, if a forked child does not hold it open.
            tracing::warn!("can not watch process {process}: {error}");
        }
    }

    /// Watches the process that a region without a lease names as its owner. It may be another one: in a container, pids
    /// mean other processes.
    pub(crate) fn watch_claimant(&self, key: Key, process: &Process) {
        let Some(pidfd) = open_process(process.pid, process.uid) else { return };
        let connection = self.next_connection();
        if let Some(before) = self.claimants.borrow_mut().insert(key, connection) {
            self.forget_process(before);
        }
        self.watch_pidfd(connection, &Arc::new(pidfd), process);
    }

    /// Takes new rules, for what is there too.
    pub(crate) fn set_policy(self: &Rc<Self>, policy: Policy) {
        self.catch_up();
        self.forget_shared();
        self.policy.replace(policy);
        let keys: Vec<Key> = self.regions.borrow().keys().cloned().collect();
        for key in &keys {
            self.judge(key);
        }
    }

    /// Compares a region with the rules.
    pub(crate) fn judge(&self, key: &Key) {
        let Some(region) = self.regions.borrow().get(key).cloned() else { return };
        let (gid, mode) = region.access().map_or((None, None), |(gid, mode)| (Some(gid), Some(mode)));
        let announcer = self.registry.borrow().announcer_of(&key.0);
        let gids = self.gids.borrow();
        let gids = announcer.and_then(|connection| gids.get(&connection)).map(Vec::as_slice);
        match self.policy.borrow().judge(&key.0, region.uid(), gids, FileFacts { gid, mode }) {
            Ok(()) => {
                self.refusals.borrow_mut().remove(key);
            }
            Err(refusal) => {
                tracing::warn!(
                    message_id = message_id::UNAUTHORISED,
                    conduit.topic = %key.0,
                    conduit.uid = region.uid(),
                    conduit.rule = refusal.rule,
                    "unauthorised: {}",
                    refusal.reason
                );
                self.refusals.borrow_mut().insert(key.clone(), refusal);
            }
        }
    }

    fn forget_process(&self, connection: ConnectionId) {
        self.gids.borrow_mut().remove(&connection);
        self.processes.forget(connection);
        self.pidfds.borrow_mut().remove(&connection);
    }

    /// `Release`: what the connection holds ends cleanly.
    pub(crate) fn release(self: &Rc<Self>, connection: ConnectionId) {
        self.catch_up();
        let key = self.registry.borrow().lease_of(connection);
        self.forget_shared();
        let changes = self.registry.borrow_mut().release(connection);
        self.forget_process(connection);
        self.carry_out(changes);
        self.look_at_locks();
        if let Some(key) = key {
            self.forget_unless_known(&key);
        }
    }

    /// A process that is watched has ended.
    pub(crate) fn exited(self: &Rc<Self>, connection: ConnectionId) {
        let claim = self.claimants.borrow().iter().find(|(_, id)| **id == connection).map(|(key, _)| key.clone());
        match claim {
            Some(key) => {
                self.look_at_lock(&key);
                let region = self.region(&key.0, key.1);
                if region.is_some_and(|region| region.owner_lives().unwrap_or(true)) {
                    // It was another process of that number, and must not be on the owner's certificate.
                    self.claimants.borrow_mut().remove(&key);
                    self.forget_process(connection);
                }
            }
            None => self.ended(connection),
        }
    }

    /// The connection or its process has ended.
    pub(crate) fn ended(self: &Rc<Self>, connection: ConnectionId) {
        self.catch_up();
        self.watchers.remove(connection);
        let changes = self.registry.borrow_mut().ended(connection);
        if !changes.is_empty() {
            self.forget_shared();
        }
        self.carry_out(changes);
        self.forget_process(connection);
    }

    /// `List`, encoded, for somebody who asked then.
    pub(crate) fn list(self: &Rc<Self>, asked: Instant) -> Rc<Vec<u8>> {
        self.catch_up();
        let listed = || {
            let registry = self.registry.borrow();
            let named = registry.topics().filter_map(|topic| self.describe_listed(topic));
            let unlinked = registry.unlinked().filter_map(|topic| self.describe_listed(topic));
            let mut topics: Vec<TopicInfo> =
                named.chain(unlinked.filter(|topic| topic.state == RegionState::Unlinked)).collect();
            topics.sort_by(|one, other| one.name.cmp(&other.name));
            encode_reply(&TopicList { topics })
        };
        self.listed.get_or_make(asked, listed)
    }

    /// `Describe`.
    pub(crate) fn describe(self: &Rc<Self>, topic: &TopicName) -> Result<TopicInfo, RegistryError> {
        self.catch_up();
        let registry = self.registry.borrow();
        let unlinked = || registry.unlinked().find(|unlinked| unlinked.name == topic);
        let described = registry.topic(topic).or_else(unlinked).and_then(|topic| self.describe_listed(topic));
        described.ok_or_else(|| not_found(topic))
    }

    fn region(&self, topic: &TopicName, file: FileId) -> Option<Arc<Region>> {
        self.regions.borrow().get(&(topic.clone(), file)).cloned()
    }

    fn describe_listed(&self, listed: TopicView) -> Option<TopicInfo> {
        let region = self.region(listed.name, listed.file)?;
        let mut counters = region.counters();
        let recorded = counters.as_mut().map(|counters| std::mem::take(&mut counters.subscribers)).unwrap_or_default();
        let mut topic = region.describe_from(counters);
        if let Some(owner) = listed.owner {
            topic.publisher = Some(owner.clone());
        }
        topic.liveness = Some(listed.liveness);
        if let Some(refusal) = self.refusals.borrow().get(&(listed.name.clone(), listed.file))
            && matches!(topic.state, RegionState::Live | RegionState::Kept)
        {
            topic.state = RegionState::Unauthorised;
            topic.refusal = Some(refusal.to_string());
        }
        topic.unlinked = self.unlinked.borrow().get(&(listed.name.clone(), listed.file)).cloned();
        topic.subscribers = name_subscribers(&self.leases_of(listed.file), recorded);
        Some(topic)
    }

    fn leases_of(&self, file: FileId) -> Leases {
        let registry = self.registry.borrow();
        registry.subscribers_of(file).map(|(record, process)| (record, process.clone())).collect()
    }

    /// `Reap`: looks at a topic whose owner somebody takes for dead.
    pub(crate) fn reap_if_dead(self: &Rc<Self>, topic: &TopicName) -> bool {
        self.catch_up();
        let Some(file) = self.registry.borrow().file_of(topic) else { return false };
        let region = self.region(topic, file);
        let is_dead = region.is_some_and(|region| !region.is_kept() && !region.owner_lives().unwrap_or(true));
        if is_dead {
            let changes = self.registry.borrow_mut().lock_is_free(topic, file);
            self.carry_out(changes);
        }
        is_dead
    }

    /// `Unlink`: a region is to go, whether its owner lives or not.
    pub(crate) async fn unlink(
        self: &Rc<Self>,
        by: &Process,
        topic: &TopicName,
        force: bool,
    ) -> Result<(), RegistryError> {
        self.catch_up();
        let file = self.registry.borrow().file_of(topic).ok_or_else(|| not_found(topic))?;
        let region = self.region(topic, file).ok_or_else(|| not_found(topic))?;
        if by.uid != 0 && by.uid != region.uid() {
            return Err(RegistryError::NotOwner { topic: topic.to_string(), uid: region.uid() });
        }
        self.notice_exit(topic);
        while self.registry.borrow().is_dying(topic, file) {
            // The lock of a dead owner may be held for some milliseconds more: its reaper knows better.
            tokio::time::sleep(REAPER_INTERVAL).await;
        }
        if self.registry.borrow().file_of(topic) != Some(file) {
            self.publish(event(EventKind::Removed, topic, Some(by.clone())));
            return Ok(());
        }
        let is_kept = region.is_kept();
        let lives = !is_kept && region.owner_lives().unwrap_or(true);
        if lives && !force {
            let owner = self.registry.borrow().topic(topic).and_then(|topic| topic.owner.map(ToString::to_string));
            let owner = owner.unwrap_or_else(|| "a process that is not known".into());
            return Err(RegistryError::TopicInUse { topic: topic.to_string(), owner });
        }
        if lives || is_kept {
            let directory = Arc::clone(&self.directory);
            let removed = spawn_blocking(move || end_and_remove(&directory, &region, lives)).await;
            removed.map_err(|error| error.to_string()).flatten().map_err(|reason| RegistryError::Failed { reason })?;
        } else {
            let changes = self.registry.borrow_mut().lock_is_free(topic, file);
            self.carry_out(changes);
            // This reaper, or one that was at work already.
            while self.registry.borrow().is_dying(topic, file) {
                tokio::time::sleep(REAPER_INTERVAL).await;
            }
        }
        self.publish(event(EventKind::Removed, topic, Some(by.clone())));
        self.catch_up();
        Ok(())
    }

    /// Takes note of the end of a topic's owner, if that is to be heard of later in this turn of the loop.
    fn notice_exit(self: &Rc<Self>, topic: &TopicName) {
        let Some(owner) = self.registry.borrow().announcer_of(topic) else { return };
        let pidfd = self.pidfds.borrow().get(&owner).cloned();
        if pidfd.is_some_and(|pidfd| has_exited(&pidfd)) {
            self.ended(owner);
        }
    }

    /// `Watch`.
    pub(crate) fn start_watching(
        self: &Rc<Self>,
        connection: ConnectionId,
        filter: EventFilter,
        asked: Instant,
    ) -> EventStream {
        self.catch_up();
        self.watchers.start(connection, filter, &self.registry.borrow(), asked)
    }

    pub(crate) fn carry_out(self: &Rc<Self>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Event { kind, topic, process } => self.publish(event(kind, &topic, process)),
                Change::Reap { topic, file, owner } => self.start_reaper(topic, file, owner),
                Change::SubscriberDied { topic, process, connection } => {
                    self.report_subscriber(topic, process, connection);
                }
            }
        }
        if self.registry.borrow().watches_locks() || !self.unseen.borrow().is_empty() {
            self.locks.notify_one();
        }
    }

    /// `Deaths`.
    pub(crate) fn deaths(&self) -> Vec<RegistryEvent> {
        self.log.deaths()
    }

    pub(crate) fn publish(&self, event: RegistryEvent) {
        self.forget_shared();
        self.note_counts();
        self.log.record(&event);
        if let Ok(topic) = event.topic.parse() {
            self.watchers.publish(&topic, &event);
        }
    }

    fn start_reaper(self: &Rc<Self>, topic: TopicName, file: FileId, owner: Suspect) {
        let Some(region) = self.region(&topic, file) else {
            self.registry.borrow_mut().reaped(&topic, file);
            return;
        };
        let claimant = || self.claimants.borrow().get(&(topic.clone(), file)).copied();
        let connection = owner.connection.or_else(claimant);
        let pidfd = connection.and_then(|connection| self.pidfds.borrow().get(&connection).cloned());
        let proof = pidfd.clone().filter(|_| owner.is_proven);
        // Now: who wakes lets go of its lease before the case is closed.
        let leases = self.leases_of(file);
        let case = Case { region, directory: Arc::clone(&self.directory), lock: self.lock, proof };
        let hub = Rc::clone(self);
        spawn_local(async move {
            let Ok(verdict) = spawn_blocking(move || reap(&case)).await else { return };
            hub.close_case(&topic, file, owner, pidfd, leases, verdict).await;
        });
    }

    async fn close_case(
        self: &Rc<Self>,
        topic: &TopicName,
        file: FileId,
        owner: Suspect,
        pidfd: Option<Arc<OwnedFd>>,
        leases: Leases,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Alive | Verdict::Kept => self.registry.borrow_mut().survived(topic, file),
            Verdict::Closed | Verdict::Dead { .. } => self.registry.borrow_mut().reaped(topic, file),
        }
        self.forget_unless_known(&(topic.clone(), file));
        if matches!(verdict, Verdict::Dead { .. } | Verdict::Closed) {
            self.reaped.set(self.reaped.get() + 1);
        }
        let death = match verdict {
            Verdict::Alive => return self.locks.notify_one(),
            Verdict::Kept => {
                let changes = self.registry.borrow_mut().kept(topic, file);
                return self.carry_out(changes);
            }
            Verdict::Closed => return self.publish(event(EventKind::Closed, topic, owner.process)),
            Verdict::Dead { death, subscribers } => {
                DeathCertificate { subscribers: name_subscribers(&leases, subscribers), ..death }
            }
        };
        let death = Some(certify(death, pidfd.as_deref()).await);
        self.publish(RegistryEvent { death, ..event(EventKind::Died, topic, owner.process) });
    }

    fn report_subscriber(self: &Rc<Self>, topic: TopicName, process: Process, connection: ConnectionId) {
        let pidfd = self.pidfds.borrow().get(&connection).cloned();
        let hub = Rc::clone(self);
        spawn_local(async move {
            let death = Some(certify(DeathCertificate::default(), pidfd.as_deref()).await);
            hub.publish(RegistryEvent { death, ..event(EventKind::SubscriberDied, &topic, Some(process)) });
        });
    }

    /// Lets go of a region about which nothing more can happen. Its last reference frees its memory, which can take long.
    pub(crate) fn forget_unless_known(&self, key: &Key) {
        if self.registry.borrow().knows(key) {
            return;
        }
        self.refusals.borrow_mut().remove(key);
        self.unlinked.borrow_mut().remove(key);
        if let Some(claimant) = self.claimants.borrow_mut().remove(key) {
            self.forget_process(claimant);
        }
        if let Some(region) = self.regions.borrow_mut().remove(key) {
            spawn_blocking(move || drop(region));
        }
    }

    /// The name of a region whose owner lives is gone: the owner is told, and whoever asks.
    pub(crate) fn tell_unlinked(&self, key: &Key) {
        let Some(region) = self.region(&key.0, key.1) else { return };
        let reason = who_removed(region.uid());
        tracing::warn!(
            message_id = message_id::UNLINKED,
            conduit.topic = %key.0,
            conduit.uid = region.uid(),
            "topic \"{}\" has no name any more: {reason}",
            key.0
        );
        self.unlinked.borrow_mut().insert(key.clone(), reason);
        if !region.is_raw() {
            // It may stall on a busy region.
            spawn_blocking(move || {
                if let Err(error) = region.mark_unlinked() {
                    tracing::warn!("can not tell the publisher of topic \"{}\": {error}", region.topic());
                }
            });
        }
    }

    /// Looks at the locks of topics without a lease for as long as there are any.
    pub(crate) async fn watch_locks(self: Rc<Self>) {
        loop {
            self.locks.notified().await;
            while self.registry.borrow().watches_locks() || !self.unseen.borrow().is_empty() {
                self.look_again();
                self.look_at_locks();
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
        }
    }

    fn look_at_locks(self: &Rc<Self>) {
        let watched = self.registry.borrow().watched_by_lock();
        for key in &watched {
            self.look_at_lock(key);
        }
    }

    fn look_at_lock(self: &Rc<Self>, (topic, file): &Key) {
        let Some(region) = self.region(topic, *file) else { return };
        let changes = if region.is_kept() {
            self.registry.borrow_mut().kept(topic, *file)
        } else if !region.owner_lives().unwrap_or(true) {
            self.registry.borrow_mut().lock_is_free(topic, *file)
        } else {
            return;
        };
        self.carry_out(changes);
    }
}

/// Subscribers that hold a lease, with their records.
type Leases = Vec<(Option<u32>, Process)>;

/// Subscribers by their records, named as the kernel names them where they hold a lease; then those that may only read the
/// region and so have no record.
fn name_subscribers(leases: &Leases, recorded: Vec<(usize, SubscriberInfo)>) -> Vec<SubscriberInfo> {
    let named = recorded.into_iter().map(|(index, subscriber)| {
        let index = u32::try_from(index).ok();
        match leases.iter().find(|(record, _)| *record == index) {
            Some((_, Process { pid, uid, program })) => {
                SubscriberInfo { pid: *pid, uid: *uid, program: program.clone(), ..subscriber }
            }
            None => subscriber,
        }
    });
    let readers = leases.iter().filter(|(record, _)| record.is_none());
    let readers = readers.map(|(_, Process { pid, uid, program })| SubscriberInfo {
        pid: *pid,
        uid: *uid,
        program: program.clone(),
        received: 0,
        lost: 0,
        held: 0,
        lag: 0,
        asleep: false,
    });
    named.chain(readers).collect()
}

/// Takes a region's name away; if its owner lives, it and its subscribers are told before.
fn end_and_remove(directory: &ShmDir, region: &Region, lives: bool) -> Result<(), String> {
    let topic = region.topic();
    if lives
        && !region.is_raw()
        && let Err(error) = region.mark_closed()
        // Nobody can read one whose header is damaged.
        && region.is_intact().is_ok()
    {
        return Err(format!("can not close topic \"{topic}\": {error}"));
    }
    match directory.remove(topic, region.id()) {
        Ok(Removal::Removed | Removal::NotOurs) => Ok(()),
        Ok(Removal::Stranded(name)) => {
            Err(format!("a live region was renamed to {name} while \"{topic}\" was removed"))
        }
        Err(error) => Err(format!("can not remove {}: {error}", directory.path_of(topic).display())),
    }
}

fn not_found(topic: &TopicName) -> RegistryError {
    RegistryError::TopicNotFound { topic: topic.to_string() }
}
