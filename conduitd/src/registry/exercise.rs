//! The registry in a model of processes, files, names and connections, driven by arbitrary bytes:
//! for the property tests and the fuzzer.
//!
//! The model does what the real world can do, and gives the registry the inputs that the daemon
//! would; after each step the registry must be consistent with itself and with the model.

use std::collections::{BTreeMap, BTreeSet};

use conduit::TopicName;
use conduit::internal::shm::dir::FileId;
use conduit::registry::Process;

use super::{Appearance, Change, ConnectionId, Fate, Key, LeaseRole, RegistryState, Standing, owner_key};

/// A region's file.
#[derive(Clone, Copy, Default)]
struct ModelFile {
    /// A process holds its owner lock.
    lives: bool,
    closed: bool,
    kept: bool,
}

#[derive(Default)]
struct ModelWorld {
    registry: RegistryState,
    open: BTreeSet<ConnectionId>,
    next: ConnectionId,
    files: BTreeMap<u64, ModelFile>,
    names: BTreeMap<TopicName, u64>,
    reapers: BTreeSet<Key>,
}

/// Numbers from the input, until it is used up.
struct FuzzInput<'a>(&'a [u8]);

impl FuzzInput<'_> {
    fn below(&mut self, limit: u8) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first % limit)
    }
}

fn topic(number: u8) -> TopicName {
    ["a", "b", "c"][usize::from(number)].parse().unwrap_or_else(|_| unreachable!())
}

fn file_id(ino: u64) -> FileId {
    FileId { dev: 1, ino }
}

/// Files and connections belong to two users.
fn process(number: u64) -> Process {
    Process::new(number as u32 + 100, 1000 + (number % 2) as u32, "node")
}

impl ModelWorld {
    fn step(&mut self, input: &mut FuzzInput) -> Option<()> {
        let (kind, topic) = (input.below(14)?, topic(input.below(3)?));
        let ino = u64::from(input.below(4)?);
        let connection = self.open.iter().copied().nth(usize::from(input.below(4)?));
        let file = self.files.get(&ino).copied().unwrap_or_default();
        match (kind, connection) {
            (0, _) if self.open.len() < 6 => {
                self.next += 1;
                self.open.insert(self.next);
            }
            (1, Some(connection)) => {
                let _ = self.registry.register(connection, process(connection), topic, file_id(ino));
            }
            (2, Some(connection)) => {
                let record = input.below(3).map(u32::from).filter(|record| *record < 2);
                self.attach(connection, topic, ino, record);
            }
            (3, Some(connection)) => {
                let changes = self.registry.release(connection);
                self.carry_out(changes);
            }
            (4, Some(connection)) => self.hang_up(connection),
            (5, _) if !file.lives && !self.names.values().any(|named| *named == ino) => {
                self.files.insert(ino, ModelFile { lives: true, ..ModelFile::default() });
            }
            (6, _) if file.lives && !self.names.contains_key(&topic) => {
                self.names.insert(topic.clone(), ino);
                self.appear(&topic, ino);
            }
            (7, _) => self.vanish(&topic),
            (8, _) => {
                self.files.entry(ino).or_default().lives = false;
            }
            (9, _) if file.lives => {
                let closed = input.below(2)? == 0;
                self.files.insert(ino, ModelFile { lives: closed, closed, kept: !closed });
            }
            (10, _) => self.poll_lock(&topic),
            (11, _) => {
                let index = usize::from(input.below(4)?);
                if let Some(key) = self.reapers.iter().nth(index).cloned() {
                    self.finish_reaper(&key);
                }
            }
            (12, _) => self.restart(),
            (13, _) => self.miss_deadline(&(topic, file_id(ino)), input.below(2)? == 0),
            _ => {}
        }
        Some(())
    }

    fn attach(&mut self, connection: ConnectionId, topic: TopicName, ino: u64, record: Option<u32>) {
        let changes = self.registry.attach(connection, process(connection), topic, file_id(ino), record);
        self.carry_out(changes.unwrap_or_default());
    }

    fn hang_up(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
        let changes = self.registry.ended(connection);
        self.carry_out(changes);
    }

    fn appear(&mut self, topic: &TopicName, ino: u64) {
        let is_kept = self.files.get(&ino).is_some_and(|file| file.kept);
        let uid = process(ino).uid;
        let appearance = Appearance { file: file_id(ino), uid, is_kept, claimed: Some(process(ino)) };
        let changes = self.registry.appeared(topic, appearance);
        self.carry_out(changes);
    }

    fn vanish(&mut self, topic: &TopicName) {
        let Some(ino) = self.names.remove(topic) else { return };
        let file = self.files.get(&ino).copied().unwrap_or_default();
        let fate = match file {
            ModelFile { closed: true, .. } | ModelFile { kept: true, .. } => Fate::Closed,
            ModelFile { lives: true, .. } if self.names.values().any(|named| *named == ino) => Fate::Moved,
            ModelFile { lives: true, .. } => Fate::Alive,
            _ => Fate::Dead,
        };
        let changes = self.registry.vanished(&(topic.clone(), file_id(ino)), fate);
        self.carry_out(changes);
    }

    fn poll_lock(&mut self, topic: &TopicName) {
        let nameless = self.registry.watched_by_lock().into_iter().filter(|key| key.0 == *topic).map(|key| key.1.ino);
        let files: BTreeSet<u64> = nameless.chain(self.names.get(topic).copied()).collect();
        for ino in files {
            self.poll_lock_of(topic, ino);
        }
    }

    fn poll_lock_of(&mut self, topic: &TopicName, ino: u64) {
        let file = self.files.get(&ino).copied().unwrap_or_default();
        let key = (topic.clone(), file_id(ino));
        let changes = if file.kept {
            self.registry.kept(&key)
        } else if !file.lives {
            self.registry.lock_is_free(&key)
        } else {
            Vec::new()
        };
        self.carry_out(changes);
    }

    fn miss_deadline(&mut self, key: &Key, is_overdue: bool) {
        let is_known = self.registry.knows(key) && !self.reapers.contains(key);
        for is_first in [true, false] {
            let changes = self.registry.set_overdue(key, is_overdue);
            assert!(changes.len() <= usize::from(is_known && is_first), "reported twice, or of nobody");
        }
    }

    fn finish_reaper(&mut self, key: &Key) {
        self.reapers.remove(key);
        let (topic, id) = key;
        let file = self.files.get(&id.ino).copied().unwrap_or_default();
        if file.lives || file.kept {
            self.registry.survived(key);
            if file.kept {
                let changes = self.registry.kept(key);
                self.carry_out(changes);
            }
        } else {
            if self.names.get(topic) == Some(&id.ino) {
                self.names.remove(topic);
            }
            self.registry.reaped(key);
        }
    }

    /// The daemon is killed, with its connections and reapers, and a new one scans the directory.
    fn restart(&mut self) {
        self.registry = RegistryState::default();
        self.open.clear();
        self.reapers.clear();
        for (topic, ino) in self.names.clone() {
            self.appear(&topic, ino);
        }
    }

    fn carry_out(&mut self, changes: Vec<Change>) {
        for change in changes {
            if let Change::Reap { key, .. } = change {
                assert!(self.reapers.insert(key), "two reapers on one file");
            }
        }
    }

    fn check(&self) {
        let registry = &self.registry;
        registry.check();
        for connection in registry.leases.keys() {
            assert!(self.open.contains(connection), "a lease without a connection");
        }
        for key in &registry.dying {
            assert!(self.reapers.contains(key), "{key:?} has no reaper");
        }
        let known: BTreeMap<_, _> = registry.topics().map(|topic| (topic.name.clone(), topic.file.ino)).collect();
        assert_eq!(known, self.names, "the topics differ from the names");
        for (topic, entry) in &registry.topics {
            let file = self.files.get(&entry.file.ino).copied().unwrap_or_default();
            let key = (topic.clone(), entry.file);
            let is_watched = match entry.standing {
                Standing::Leased { connection } => self.open.contains(&connection),
                Standing::Locked => registry.watched_by_lock().contains(&key) || registry.dying.contains(&key),
                Standing::Kept => file.kept || self.reapers.contains(&key),
            };
            assert!(is_watched, "the end of {topic} will not be noticed");
        }
    }

    /// When all processes are dead, all locks were polled and all reapers are done, only kept
    /// regions are left.
    fn end(mut self) {
        for file in self.files.values_mut() {
            file.lives = false;
        }
        for connection in self.open.clone() {
            self.hang_up(connection);
        }
        for name in ["a", "b", "c"] {
            self.poll_lock(&name.parse().unwrap_or_else(|_| unreachable!()));
        }
        for key in self.reapers.clone() {
            self.finish_reaper(&key);
        }
        self.check();
        let registry = &self.registry;
        assert!(registry.leases.is_empty() && registry.announced.is_empty(), "leases of ended connections");
        assert!(registry.owners.is_empty() && registry.subscribers.is_empty(), "leases of ended connections");
        assert!(registry.nameless.is_empty() && registry.dying.is_empty() && registry.locked.is_empty());
        for (topic, entry) in &registry.topics {
            assert!(self.files.get(&entry.file.ino).is_some_and(|file| file.kept), "{topic} has outlived its owner");
        }
    }
}

impl RegistryState {
    /// The invariants.
    fn check(&self) {
        for (topic, entry) in &self.topics {
            if let Standing::Leased { connection } = entry.standing {
                let lease = self.leases.get(&connection);
                assert!(
                    lease.is_some_and(|lease| lease.file == entry.file && lease.topic == *topic),
                    "the lease of its owner is missing"
                );
            }
        }
        let is_locked = |(topic, entry): &(&TopicName, &super::RegistryEntry)| {
            entry.standing == Standing::Locked && !self.dying.contains(&((*topic).clone(), entry.file))
        };
        let nameless = self.nameless.iter().map(|((topic, _), entry)| (topic, entry));
        let locked = self.topics.iter().chain(nameless).filter(is_locked);
        let locked: BTreeSet<_> = locked.map(|(topic, entry)| (topic.clone(), entry.file)).collect();
        assert_eq!(locked, self.locked, "the set of polled locks");
        self.check_leases();
        for key in self.nameless.keys() {
            let has_lease = self.leases.values().any(|lease| (&lease.topic, lease.file) == (&key.0, key.1));
            let is_watched = self.locked.contains(key) || self.dying.contains(key);
            assert!(has_lease || is_watched, "a region that will never be freed");
        }
    }

    /// Each lease is found by what it is of.
    fn check_leases(&self) {
        let of_role = |is_owner| {
            let leases = self.leases.iter().filter(move |(_, lease)| (lease.role == LeaseRole::Owner) == is_owner);
            leases.map(|(id, lease)| (*id, lease))
        };
        let announced = self.announced.iter().flat_map(|(topic, ids)| ids.iter().map(move |id| (*id, topic)));
        let names: BTreeMap<_, _> = of_role(true).map(|(id, lease)| (id, &lease.topic)).collect();
        assert_eq!(announced.collect::<BTreeMap<_, _>>(), names, "the announced names");
        let owners = self.owners.iter().flat_map(|(key, ids)| ids.iter().map(move |id| (*id, key.clone())));
        let keys: BTreeMap<_, _> = of_role(true).map(|(id, lease)| (id, owner_key(lease))).collect();
        assert_eq!(owners.collect::<BTreeMap<_, _>>(), keys, "the owners of files");
        let subscribers = self.subscribers.iter().flat_map(|(file, ids)| ids.iter().map(move |id| (*id, *file)));
        let files: BTreeMap<_, _> = of_role(false).map(|(id, lease)| (id, lease.file)).collect();
        assert_eq!(subscribers.collect::<BTreeMap<_, _>>(), files, "the subscribers of files");
    }
}

/// Performs the steps that the bytes encode, and checks the invariants after each.
pub(crate) fn run(bytes: &[u8]) {
    let mut world = ModelWorld::default();
    let mut input = FuzzInput(bytes);
    while world.step(&mut input).is_some() {
        world.check();
    }
    world.end();
}
