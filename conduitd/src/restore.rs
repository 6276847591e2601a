//! The directory as the source of truth: what is there when the daemon starts, and what changes afterwards.
//!
//! The daemon keeps no file of its own. It looks at the names, and at the locks behind them; a restarted daemon is as wise
//! as one that was never gone.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::{DirEntry, FileId, ShmDir};
use conduit::registry::{DeathCertificate, EventKind, Process, RegistryEvent};
use conduit::{OpenError, TopicName};
use nix::sys::socket::MsgFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::UnixStream;

use crate::event_log::event;
use crate::hub::Hub;
use crate::limits::Admission;
use crate::owner::PeerProcess;
use crate::reaper::certify;
use crate::registry::{Appearance, ConnectionId, Fate, LeaseRole};
use crate::systemd::store::{Held, KeptClient};
use crate::watchers::EventReceiver;

/// How long a remover may take before its private name counts as left behind.
const REMOVAL_PATIENCE: Duration = Duration::from_millis(1500);

/// After how many names the service manager is asked for more patience, and for how much: each takes microseconds if its region is
/// not busy, and nobody knows how many there are.
const MANY_NAMES: usize = 1000;
const MORE_PATIENCE: Duration = Duration::from_secs(30);

/// A client of the daemon before, taken in.
pub(crate) struct Resumed {
    pub(crate) id: ConnectionId,
    pub(crate) peer: PeerProcess,
    pub(crate) place: Admission,
    pub(crate) held: Held,
    pub(crate) stream: UnixStream,
    /// For a watcher.
    pub(crate) events: Option<EventReceiver>,
}

/// The kernel's word on changes of the directory.
///
/// Kept by the service manager it goes on collecting while no daemon runs: the next one finds exactly what it has missed.
pub(crate) struct DirectoryWatch {
    inotify: OwnedFd,
    is_resumed: bool,
}

/// A name has changed.
struct NameChange {
    entry: Option<DirEntry>,
    how: ReadFlags,
}

impl DirectoryWatch {
    pub(crate) fn new(directory: &ShmDir) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory.path(), changes)?;
        Ok(Self { inotify, is_resumed: false })
    }

    /// The watch of the daemon before.
    pub(crate) fn resume(inotify: OwnedFd) -> Self {
        Self { inotify, is_resumed: true }
    }

    /// All changes since the last call; `None` if some were lost.
    fn take(&self) -> Option<Vec<NameChange>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        let mut overflowed = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    all.push(NameChange { entry: name.and_then(DirEntry::parse), how: event.events() });
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        (!overflowed).then_some(all)
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Hub {
    /// Begins with what is there: the directory's contents, and the clients of the daemon before.
    ///
    /// To those nothing has happened but what really has. Leases of files come before the names that stand for them, so that they count as
    /// announced before; watchers come after all that they know of, and before the changes that were collected meanwhile.
    pub(crate) fn adopt(self: &Rc<Self>, clients: Vec<KeptClient>) -> io::Result<Vec<Resumed>> {
        self.number_from(clients.last().map_or(0, |client| client.id));
        let mut clients: Vec<Resumed> = clients.into_iter().filter_map(|client| self.take_back(client)).collect();
        for client in &clients {
            if let Held::Lease { topic, file, role: LeaseRole::Owner, is_late: false } = &client.held {
                self.resume(client.id, &client.peer, (topic.clone(), *file), LeaseRole::Owner);
            }
        }
        let missed = if self.watch.is_resumed { self.watch.take().unwrap_or_default() } else { Vec::new() };
        let mut changed: BTreeMap<TopicName, ReadFlags> = BTreeMap::new();
        for NameChange { entry, how } in missed {
            if let Some(DirEntry::Region(topic)) = entry {
                // The first change says whether it was there before.
                changed.entry(topic).or_insert(how);
            }
        }
        self.scan_but(|topic| changed.contains_key(topic))?;
        for client in &mut clients {
            match &client.held {
                Held::Lease { topic, file, role: role @ LeaseRole::Subscriber { .. }, .. } => {
                    self.resume(client.id, &client.peer, (topic.clone(), *file), *role);
                }
                Held::Lease { topic, file, role: LeaseRole::Owner, is_late: true } => {
                    self.resume_late(client.id, &client.peer, topic.clone(), *file);
                }
                Held::Watch(filter) => {
                    client.events = Some(self.watchers.resume(client.id, filter.clone()));
                }
                Held::Lease { .. } | Held::Nothing => {}
            }
        }
        for (topic, first) in changed {
            if first.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                self.tell_end(&topic, &clients);
            }
            self.look_at_new(&topic, first);
        }
        Ok(clients)
    }

    /// A connection of the daemon before; nothing if the limits are narrower by now.
    fn take_back(&self, KeptClient { id, held, stream }: KeptClient) -> Option<Resumed> {
        let peer = PeerProcess::of(&stream).ok()?;
        stream.set_nonblocking(true).ok()?;
        let stream = UnixStream::from_std(stream).ok()?;
        let place = match self.accounts.admit(peer.process.uid) {
            Ok(place) => place,
            Err(error) => {
                tracing::warn!(conduit.uid = peer.process.uid, "a client of the daemon before is let go: {error}");
                return None;
            }
        };
        let peer = match &held {
            Held::Lease { .. } => peer.with_pidfd(&stream).with_groups(&stream),
            Held::Watch(_) | Held::Nothing => peer,
        };
        Some(Resumed { id, peer, place, held, stream, events: None })
    }

    /// A topic that the watchers know of has ended while no daemon ran: whether it was closed, its owner's connection tells.
    fn tell_end(self: &Rc<Self>, topic: &TopicName, clients: &[Resumed]) {
        let is_owner = |client: &&Resumed| matches!(&client.held, Held::Lease { topic: of, role: LeaseRole::Owner, .. } if of == topic);
        let owner = clients.iter().find(is_owner);
        let process = owner.map(|owner| owner.peer.process.clone());
        // Who closes says good-bye, which still is to be read.
        match owner.filter(|owner| crate::connection::has_hung_up(&owner.stream) && has_nothing_to_say(&owner.stream)) {
            None => self.publish(event(EventKind::Closed, topic, process)),
            Some(owner) => {
                let (hub, topic, pidfd) = (Rc::clone(self), topic.clone(), owner.peer.pidfd.clone());
                tokio::task::spawn_local(async move {
                    let death = Some(certify(DeathCertificate::default(), pidfd.as_deref()).await);
                    hub.publish(RegistryEvent { death, ..event(EventKind::Died, &topic, process) });
                });
            }
        }
    }

    /// Takes in everything that the directory holds: when changes were missed.
    pub(crate) fn scan(self: &Rc<Self>) -> io::Result<()> {
        self.scan_but(|_| false)
    }

    fn scan_but(self: &Rc<Self>, leave_out: impl Fn(&TopicName) -> bool) -> io::Result<()> {
        self.finish_removals_later();
        let mut topics: Vec<TopicName> = self.registry.borrow().topics().map(|topic| topic.name.clone()).collect();
        for entry in self.directory.entries()? {
            match entry {
                DirEntry::Region(topic) => topics.push(topic),
                DirEntry::Removal { .. } => {}
                DirEntry::Foreign(name) => tracing::debug!("{name} is no region's name"),
            }
        }
        topics.sort();
        topics.dedup();
        for (number, topic) in topics.iter().filter(|topic| !leave_out(topic)).enumerate() {
            if number > 0 && number.is_multiple_of(MANY_NAMES) {
                self.supervisor.needs_longer(MORE_PATIENCE);
            }
            self.look_at(topic);
        }
        Ok(())
    }

    /// Takes in every change up to now, so that an answer is as new as its question.
    pub(crate) fn catch_up(self: &Rc<Self>) {
        let Some(changes) = self.watch.take() else {
            if let Err(error) = self.scan() {
                tracing::error!("can not read {}: {error}", self.directory.path().display());
            }
            return;
        };
        for NameChange { entry, how } in changes {
            match entry {
                Some(DirEntry::Region(topic)) => self.look_at_new(&topic, how),
                Some(DirEntry::Removal { .. }) if how.contains(ReadFlags::MOVED_TO) => {
                    self.finish_removals_later();
                }
                _ => {}
            }
        }
    }

    /// Looks at a name that has changed.
    fn look_at_new(self: &Rc<Self>, topic: &TopicName, how: ReadFlags) {
        let is_there = self.look_at(topic);
        if how.contains(ReadFlags::CREATE) && !is_there {
            let changes = self.registry.borrow_mut().came_and_went(topic);
            self.carry_out(changes);
        }
    }

    /// Compares what a name stands for with what the registry knows of it. Returns whether it was or is there.
    fn look_at(self: &Rc<Self>, topic: &TopicName) -> bool {
        let known = self.registry.borrow().file_of(topic);
        let found = match self.directory.id_of(topic) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("can not look at topic \"{topic}\": {error}");
                self.unseen.borrow_mut().insert(topic.clone());
                return true;
            }
        };
        if known == found {
            return known.is_some();
        }
        if let Some(known) = known {
            let key = (topic.clone(), known);
            let fate = self.fate_of(topic, known);
            let changes = self.registry.borrow_mut().vanished(topic, known, fate);
            self.carry_out(changes);
            if fate == Fate::Alive {
                self.tell_unlinked(&key);
            }
            self.forget_unless_known(&key);
        }
        let is_there = found.is_some() && self.take_in(topic);
        is_there || known.is_some()
    }

    /// Takes in a name. Returns whether it still was there.
    fn take_in(self: &Rc<Self>, topic: &TopicName) -> bool {
        let region = match Region::open_even_damaged(&self.directory, topic) {
            Ok(region) => region,
            Err(OpenError::NotFound { .. }) => return false,
            Err(error @ OpenError::Io { .. }) => {
                tracing::warn!("{error}; it is tried again");
                self.unseen.borrow_mut().insert(topic.clone());
                self.locks.notify_one();
                return true;
            }
            Err(error) => {
                tracing::warn!("{error}; it is left alone");
                return true;
            }
        };
        if let Err(reason) = region.is_intact() {
            tracing::warn!("topic \"{topic}\" can not be read: {reason}; it is removed when its owner dies");
        }
        let owner = region.claimed_owner();
        let claimed =
            owner.pid.map(|pid| Process { pid, uid: region.uid(), program: owner.program.unwrap_or_default() });
        let appearance = Appearance { file: region.id(), uid: region.uid(), is_kept: region.is_kept(), claimed };
        let key = (topic.clone(), region.id());
        self.regions.borrow_mut().insert(key.clone(), Arc::new(region));
        let claimant = appearance.claimed.clone().filter(|_| !appearance.is_kept);
        let changes = self.registry.borrow_mut().appeared(topic, appearance);
        self.judge(&key);
        if let Some(process) = claimant
            && self.registry.borrow().announcer_of(topic).is_none()
        {
            self.watch_claimant(key.clone(), &process);
        }
        self.carry_out(changes);
        true
    }

    fn fate_of(&self, topic: &TopicName, file: FileId) -> Fate {
        let Some(region) = self.regions.borrow().get(&(topic.clone(), file)).cloned() else { return Fate::Dead };
        let counters = region.counters();
        if region.is_kept() || counters.as_ref().is_some_and(|counters| counters.closed) {
            Fate::Closed
        } else if counters.is_none_or(|counters| !counters.orphaned) && region.owner_lives().unwrap_or(true) {
            if region.is_linked() { Fate::Moved } else { Fate::Alive }
        } else {
            Fate::Dead
        }
    }

    /// Looks once more at names that could not be looked at.
    pub(crate) fn look_again(self: &Rc<Self>) {
        for topic in self.unseen.take() {
            self.look_at(&topic);
        }
    }

    /// Finishes removals whose removers were killed in the middle. One scan serves all that begin until it is done.
    fn finish_removals_later(self: &Rc<Self>) {
        if self.removals_due.replace(true) {
            return;
        }
        let hub = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(REMOVAL_PATIENCE).await;
            hub.removals_due.set(false);
            let (directory, lock) = (Arc::clone(&hub.directory), hub.lock);
            let finished = tokio::task::spawn_blocking(move || directory.finish_removals(None, lock)).await;
            if let Ok(Err(error)) = finished {
                tracing::warn!("can not read {}: {error}", hub.directory.path().display());
            }
        });
    }
}

/// Whether nothing of what the other side has sent is unread.
fn has_nothing_to_say(stream: &UnixStream) -> bool {
    nix::sys::socket::recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Ok(0)
}
