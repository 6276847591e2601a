//! The daemon's state, shared by its connections: the registry, what it needs to carry changes out, and the answers to
//! questions. Everything here runs on one thread and never waits; what may stall is given to blocking threads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conduit::TopicName;
use conduit::inspect::Region;
use conduit::protocol::{Death, Event, EventKind, Process, RegistryError, Subscriber, Topic};
use conduit::shm::dir::{FileId, ReapLock, ShmDir};
use tokio::sync::{Notify, mpsc};

use crate::deaths::Deaths;
use crate::owner::{Peer, Watcher};
use crate::reaper::{Case, Verdict, certify, reap};
use crate::registry::{Change, ConnectionId, Key, Owner, Registry};
use crate::restore::DirectoryWatch;

/// How often the locks of topics without a lease are looked at.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);
/// Events a watcher may be behind before it is disconnected.
pub(crate) const WATCHER_BACKLOG: usize = 256;

/// Everything the daemon knows and holds.
pub(crate) struct Hub {
    pub(crate) directory: Arc<ShmDir>,
    pub(crate) watch: DirectoryWatch,
    pub(crate) lock: ReapLock,
    pub(crate) registry: RefCell<Registry>,
    pub(crate) regions: RefCell<HashMap<Key, Arc<Region>>>,
    /// Names that could not be looked at, for want of descriptors perhaps: to be tried again.
    pub(crate) unseen: RefCell<BTreeSet<TopicName>>,
    /// A scan for removals that were left half-way is due.
    pub(crate) removals_due: Cell<bool>,
    processes: Watcher,
    pidfds: RefCell<HashMap<ConnectionId, Arc<OwnedFd>>>,
    watchers: RefCell<HashMap<ConnectionId, mpsc::Sender<Event>>>,
    deaths: RefCell<Deaths>,
    /// Something is watched by its lock alone.
    pub(crate) locks: Notify,
}

/// A watcher's events: what is there first, then what happens.
pub(crate) struct Watching {
    pub(crate) present: Vec<Event>,
    pub(crate) events: mpsc::Receiver<Event>,
}

impl Hub {
    pub(crate) fn new(directory: Arc<ShmDir>, watch: DirectoryWatch, lock: ReapLock, processes: Watcher) -> Rc<Self> {
        Rc::new(Self {
            directory,
            watch,
            lock,
            registry: RefCell::default(),
            regions: RefCell::default(),
            unseen: RefCell::default(),
            removals_due: Cell::default(),
            processes,
            pidfds: RefCell::default(),
            watchers: RefCell::default(),
            deaths: RefCell::default(),
            locks: Notify::new(),
        })
    }

    /// `Register`: a process is about to name a file.
    pub(crate) fn register(
        self: &Rc<Self>,
        connection: ConnectionId,
        peer: &Peer,
        topic: TopicName,
        file: FileId,
    ) -> Result<(), RegistryError> {
        self.catch_up();
        self.registry.borrow_mut().register(connection, peer.process.clone(), topic, file)?;
        self.watch_process(connection, peer);
        Ok(())
    }

    /// `Attach`: a process subscribes.
    pub(crate) fn attach(
        self: &Rc<Self>,
        connection: ConnectionId,
        peer: &Peer,
        topic: TopicName,
        file: FileId,
        record: Option<u32>,
    ) -> Result<(), RegistryError> {
        self.catch_up();
        let process = peer.process.clone();
        let changes = self.registry.borrow_mut().attach(connection, process, topic, file, record)?;
        self.watch_process(connection, peer);
        self.carry_out(changes);
        Ok(())
    }

    fn watch_process(&self, connection: ConnectionId, peer: &Peer) {
        let Some(pidfd) = &peer.pidfd else { return };
        if self.pidfds.borrow_mut().insert(connection, Arc::clone(pidfd)).is_none()
            && let Err(error) = self.processes.watch(connection, pidfd)
        {
            // The end of the connection tells as well, if a forked child does not hold it open.
            tracing::warn!("can not watch process {}: {error}", peer.process);
        }
    }

    fn forget_process(&self, connection: ConnectionId) {
        self.processes.forget(connection);
        self.pidfds.borrow_mut().remove(&connection);
    }

    /// `Release`: what the connection holds ends cleanly.
    pub(crate) fn release(self: &Rc<Self>, connection: ConnectionId) {
        self.catch_up();
        let key = self.registry.borrow().lease_of(connection);
        let changes = self.registry.borrow_mut().release(connection);
        self.forget_process(connection);
        self.carry_out(changes);
        self.look_at_locks();
        if let Some(key) = key {
            self.forget_unless_known(&key);
        }
    }

    /// The connection or its process has ended.
    pub(crate) fn ended(self: &Rc<Self>, connection: ConnectionId) {
        self.catch_up();
        self.watchers.borrow_mut().remove(&connection);
        let changes = self.registry.borrow_mut().ended(connection);
        self.carry_out(changes);
        self.forget_process(connection);
    }

    /// `List`.
    pub(crate) fn list(self: &Rc<Self>) -> Vec<Topic> {
        self.catch_up();
        let registry = self.registry.borrow();
        registry.topics().filter_map(|(topic, file, owner)| self.describe_file(topic, file, owner)).collect()
    }

    /// `Describe`.
    pub(crate) fn describe(self: &Rc<Self>, topic: &TopicName) -> Result<Topic, RegistryError> {
        self.catch_up();
        let registry = self.registry.borrow();
        let known = registry.topics().find(|(name, ..)| *name == topic);
        known
            .and_then(|(topic, file, owner)| self.describe_file(topic, file, owner))
            .ok_or_else(|| RegistryError::TopicNotFound { topic: topic.to_string() })
    }

    fn region(&self, topic: &TopicName, file: FileId) -> Option<Arc<Region>> {
        self.regions.borrow().get(&(topic.clone(), file)).cloned()
    }

    fn describe_file(&self, topic: &TopicName, file: FileId, owner: Option<&Process>) -> Option<Topic> {
        let region = self.region(topic, file)?;
        let mut topic = region.describe();
        if let Some(owner) = owner {
            topic.publisher = Some(owner.clone());
        }
        topic.subscribers = self.subscribers_of(&region);
        Some(topic)
    }

    /// Subscribers by their records, named as the kernel names them where they hold a lease; then those that may only read
    /// the region and so have no record.
    fn subscribers_of(&self, region: &Region) -> Vec<Subscriber> {
        let registry = self.registry.borrow();
        let attached = |index: usize| {
            let mut leases = registry.subscribers_of(region.id());
            leases.find_map(|(record, process)| (record == u32::try_from(index).ok()).then_some(process))
        };
        let recorded = region.counters().map(|counters| counters.subscribers).unwrap_or_default();
        let named = recorded.into_iter().map(|(index, subscriber)| match attached(index) {
            Some(Process { pid, uid, program }) => {
                Subscriber { pid: *pid, uid: *uid, program: program.clone(), ..subscriber }
            }
            None => subscriber,
        });
        let readers = registry.subscribers_of(region.id()).filter(|(record, _)| record.is_none());
        let readers = readers.map(|(_, Process { pid, uid, program })| Subscriber {
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

    /// `Watch`.
    pub(crate) fn start_watching(self: &Rc<Self>, connection: ConnectionId) -> Watching {
        self.catch_up();
        let (sender, events) = mpsc::channel(WATCHER_BACKLOG);
        self.watchers.borrow_mut().insert(connection, sender);
        let registry = self.registry.borrow();
        let present = registry.topics().map(|(topic, _, owner)| event(EventKind::Present, topic, owner.cloned()));
        Watching { present: present.collect(), events }
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
        if !self.registry.borrow().watched_by_lock().is_empty() || !self.unseen.borrow().is_empty() {
            self.locks.notify_one();
        }
    }

    /// `Deaths`.
    pub(crate) fn deaths(&self) -> Vec<Event> {
        self.deaths.borrow().all()
    }

    fn publish(&self, event: Event) {
        log(&event);
        if event.kind == EventKind::Died {
            self.deaths.borrow_mut().remember(event.clone());
        }
        self.watchers.borrow_mut().retain(|connection, watcher| {
            // Its connection ends when the channel does.
            let keeps_up = watcher.try_send(event.clone()).is_ok();
            if !keeps_up {
                tracing::warn!(connection, "a watcher that does not read is disconnected");
            }
            keeps_up
        });
    }

    fn start_reaper(self: &Rc<Self>, topic: TopicName, file: FileId, owner: Owner) {
        let Some(region) = self.region(&topic, file) else {
            self.registry.borrow_mut().reaped(&topic, file);
            return;
        };
        let pidfd = owner.connection.and_then(|connection| self.pidfds.borrow().get(&connection).cloned());
        let proof = pidfd.clone().filter(|_| owner.is_proven);
        let case = Case { region, directory: Arc::clone(&self.directory), lock: self.lock, proof };
        let hub = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let Ok(verdict) = tokio::task::spawn_blocking(move || reap(&case)).await else { return };
            hub.close_case(&topic, file, owner, pidfd, verdict).await;
        });
    }

    async fn close_case(
        self: &Rc<Self>,
        topic: &TopicName,
        file: FileId,
        owner: Owner,
        pidfd: Option<Arc<OwnedFd>>,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Alive | Verdict::Kept => self.registry.borrow_mut().survived(topic, file),
            Verdict::Closed | Verdict::Dead(_) => self.registry.borrow_mut().reaped(topic, file),
        }
        self.forget_unless_known(&(topic.clone(), file));
        let death = match verdict {
            Verdict::Alive => return self.locks.notify_one(),
            Verdict::Kept => {
                let changes = self.registry.borrow_mut().kept(topic, file);
                return self.carry_out(changes);
            }
            Verdict::Closed => return self.publish(event(EventKind::Closed, topic, owner.process)),
            Verdict::Dead(death) => death,
        };
        let death = Some(certify(death, pidfd.as_deref()).await);
        self.publish(Event { death, ..event(EventKind::Died, topic, owner.process) });
    }

    fn report_subscriber(self: &Rc<Self>, topic: TopicName, process: Process, connection: ConnectionId) {
        let pidfd = self.pidfds.borrow().get(&connection).cloned();
        let hub = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let death = Some(certify(Death::default(), pidfd.as_deref()).await);
            hub.publish(Event { death, ..event(EventKind::SubscriberDied, &topic, Some(process)) });
        });
    }

    /// Lets go of a region about which nothing more can happen. Its last reference frees its memory, which can take long.
    pub(crate) fn forget_unless_known(&self, key: &Key) {
        if self.registry.borrow().knows(key) {
            return;
        }
        if let Some(region) = self.regions.borrow_mut().remove(key) {
            tokio::task::spawn_blocking(move || drop(region));
        }
    }

    /// Looks at the locks of topics without a lease for as long as there are any.
    pub(crate) async fn watch_locks(self: Rc<Self>) {
        loop {
            self.locks.notified().await;
            while !self.registry.borrow().watched_by_lock().is_empty() || !self.unseen.borrow().is_empty() {
                self.look_again();
                self.look_at_locks();
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
        }
    }

    fn look_at_locks(self: &Rc<Self>) {
        let watched = self.registry.borrow().watched_by_lock();
        for (topic, file) in watched {
            let Some(region) = self.region(&topic, file) else { continue };
            let changes = if region.is_kept() {
                self.registry.borrow_mut().kept(&topic, file)
            } else if !region.owner_lives().unwrap_or(true) {
                self.registry.borrow_mut().lock_is_free(&topic, file)
            } else {
                continue;
            };
            self.carry_out(changes);
        }
    }
}

fn event(kind: EventKind, topic: &TopicName, process: Option<Process>) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Event { kind, topic: topic.to_string(), time_ms, process, death: None }
}

fn log(event: &Event) {
    let process = event.process.as_ref();
    let death = event.death.as_ref();
    tracing::info!(
        topic = event.topic,
        event = %event.kind,
        pid = process.map(|process| process.pid),
        uid = process.map(|process| process.uid),
        program = process.map(|process| process.program.as_str()),
        signal = death.and_then(|death| death.signal),
        exit_code = death.and_then(|death| death.exit_code),
        last_sequence = death.and_then(|death| death.last_sequence),
        last_message_age_ns = death.and_then(|death| death.last_message_age_ns),
        subscribers = death.map(|death| death.subscribers.len()),
        "{}",
        event.kind
    );
}
