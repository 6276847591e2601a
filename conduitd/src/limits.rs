//! Owns the accounts of users: their connections, bytes and turns, so that no user's excess is
//! another's loss.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use conduit::registry::RegistryError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

use crate::descriptors::{DescriptorPlace, DescriptorUse, Descriptors};
use crate::tasks;

/// What clients may use of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one user.
    pub connections_per_uid: usize,
    /// Names of regions whose files belong to one user, besides those of its publishers' leases.
    pub regions_per_uid: usize,
    /// Longest message that a client may send, in bytes.
    pub message_bytes: usize,
    /// Events that a watcher may leave unread before it is disconnected.
    pub queued_events: usize,
}

impl Default for Limits {
    /// Suits a robot.
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_uid: 1024,
            regions_per_uid: 1024,
            message_bytes: 64 << 10,
            queued_events: 256,
        }
    }
}

/// Bytes that the daemon keeps for one user, in incomplete messages and unread replies. A single
/// one may be larger.
const BYTES_PER_UID: usize = 4 << 20;

/// Connections beyond the limits, for questions: of one user, and in all. Whoever looks for the
/// cause of too many connections needs one more.
const QUESTIONS_PER_UID: usize = 4;
const QUESTIONS: usize = 16;

/// Hang-ups of one user that are handled before others have their turn: each takes up to 50 us.
const HANG_UPS_PER_TURN: usize = 4;
/// So many connections leave memory that is worth giving back.
const MANY: usize = 64;

/// All users' accounts.
#[derive(Debug)]
pub(crate) struct Accounts {
    limits: Limits,
    descriptors: Descriptors,
    total: Cell<usize>,
    questions: Cell<usize>,
    refusals: Cell<u64>,
    by_uid: RefCell<HashMap<u32, Rc<UserAccount>>>,
    /// The most connections since many of them have gone.
    peak: Cell<usize>,
    /// Many connections have gone.
    pub(crate) many_gone: Notify,
}

#[derive(Debug)]
struct UserAccount {
    connections: Cell<usize>,
    /// Of these connections, those that hold leases.
    leases: Cell<usize>,
    questions: Cell<usize>,
    bytes: Cell<usize>,
    turn: Arc<Semaphore>,
    hang_ups: Arc<Semaphore>,
}

/// A user's turn, which the next call of the user's gets when this is dropped.
#[derive(Debug)]
#[must_use = "the turn is over when it is dropped"]
pub(crate) struct UserTurn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl UserTurn {
    /// Ends the turn when other users have had theirs. The caller continues meanwhile: only further
    /// work of the same user has to wait.
    pub(crate) fn end_after_others(self) {
        tasks::spawn("turn", async move {
            yield_now().await;
            drop(self);
        });
    }
}

/// The right to one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    accounts: Rc<Accounts>,
    account: Rc<UserAccount>,
    uid: u32,
    holds_lease: Cell<bool>,
    place: ConnectionPlace,
}

/// What a connection is admitted for.
#[derive(Debug)]
enum ConnectionPlace {
    Any {
        _descriptor: DescriptorPlace,
    },
    /// Beyond this limit, for questions only. Its descriptor is one of the reserve.
    Questions {
        exceeded: RegistryError,
    },
}

/// Bytes kept for a user, given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Rc<UserAccount>,
    uid: u32,
    bytes: usize,
}

/// Of so many places, those that leases do not take.
fn questions(places: usize) -> usize {
    (places / 16).min(8)
}

fn exceeded(what: &str, limit: usize) -> RegistryError {
    RegistryError::LimitExceeded { what: what.into(), limit: limit as u64 }
}

impl Accounts {
    pub(crate) fn new(limits: Limits, descriptors: Descriptors) -> Rc<Self> {
        let (total, questions, refusals, by_uid, peak, many_gone) = Default::default();
        Rc::new(Self { limits, descriptors, total, questions, refusals, by_uid, peak, many_gone })
    }

    /// Connections now.
    pub(crate) fn connections(&self) -> usize {
        self.total.get()
    }

    fn descriptor(&self, uid: u32) -> Result<DescriptorPlace, RegistryError> {
        let descriptor = self.descriptors.take(uid, DescriptorUse::Connection);
        descriptor.map_err(|held| exceeded("open files of the registry for one user", held))
    }

    /// Counts a refusal, and logs the 1st, 2nd, 4th, ...: refused clients try again.
    pub(crate) fn log_refusal(&self, uid: u32, pid: u32, error: &RegistryError) {
        let count = self.refusals.get() + 1;
        self.refusals.set(count);
        if count.is_power_of_two() {
            tracing::warn!(conduit.uid = uid, conduit.pid = pid, count, "refused: {error}");
        }
    }

    /// Admits a connection of a user.
    pub(crate) fn admit(self: &Rc<Self>, uid: u32) -> Result<Admission, RegistryError> {
        let Limits { connections, connections_per_uid, .. } = self.limits;
        let mut by_uid = self.by_uid.borrow_mut();
        let of_uid = by_uid.get(&uid).map_or(0, |account| account.connections.get());
        if self.total.get() >= connections {
            return Err(exceeded("connections", connections));
        }
        if of_uid >= connections_per_uid {
            return Err(exceeded("connections of one user", connections_per_uid));
        }
        let descriptor = self.descriptor(uid)?;
        let account = Rc::clone(by_uid.entry(uid).or_default());
        account.connections.set(of_uid + 1);
        self.total.set(self.total.get() + 1);
        self.peak.set(self.peak.get().max(self.total.get()));
        Ok(Admission {
            accounts: Rc::clone(self),
            account,
            uid,
            holds_lease: Cell::new(false),
            place: ConnectionPlace::Any { _descriptor: descriptor },
        })
    }

    /// Admits a connection of a user for questions at least.
    pub(crate) fn admit_at_least_questions(self: &Rc<Self>, uid: u32) -> Result<Admission, RegistryError> {
        let exceeded = match self.admit(uid) {
            Ok(admission) => return Ok(admission),
            Err(exceeded) => exceeded,
        };
        let mut by_uid = self.by_uid.borrow_mut();
        let of_uid = by_uid.get(&uid).map_or(0, |account| account.questions.get());
        if self.questions.get() >= QUESTIONS || of_uid >= QUESTIONS_PER_UID {
            return Err(exceeded);
        }
        let account = Rc::clone(by_uid.entry(uid).or_default());
        account.questions.set(of_uid + 1);
        self.questions.set(self.questions.get() + 1);
        let (holds_lease, place) = (Cell::new(false), ConnectionPlace::Questions { exceeded });
        Ok(Admission { accounts: Rc::clone(self), account, uid, holds_lease, place })
    }
}

impl Default for UserAccount {
    fn default() -> Self {
        Self {
            connections: Cell::default(),
            questions: Cell::default(),
            leases: Cell::default(),
            bytes: Cell::default(),
            turn: Arc::new(Semaphore::new(1)),
            hang_ups: Arc::new(Semaphore::new(HANG_UPS_PER_TURN)),
        }
    }
}

impl Admission {
    /// The limit that is exceeded, if the connection is for questions only.
    pub(crate) fn exceeded(&self) -> Option<&RegistryError> {
        match &self.place {
            ConnectionPlace::Any { .. } => None,
            ConnectionPlace::Questions { exceeded } => Some(exceeded),
        }
    }

    /// Waits for the user's turn: one call of each user is answered at a time, so that a call waits
    /// for at most one call of each other user.
    pub(crate) async fn turn(&self) -> UserTurn {
        // The semaphore is never closed.
        UserTurn { _permit: Arc::clone(&self.account.turn).acquire_owned().await.ok() }
    }

    /// Waits until one of the user's hang-ups can be handled: a few of each user at a time. Not in
    /// turn with the calls, which may take longer.
    pub(crate) async fn turn_to_hang_up(&self) -> UserTurn {
        UserTurn { _permit: Arc::clone(&self.account.hang_ups).acquire_owned().await.ok() }
    }

    /// Another descriptor on the user's account.
    pub(crate) fn descriptor(&self) -> Result<DescriptorPlace, RegistryError> {
        self.accounts.descriptor(self.uid)
    }

    /// Whether this connection may take a lease. A few places of each user are left for questions.
    pub(crate) fn check_lease(&self) -> Result<(), RegistryError> {
        let Accounts { limits, descriptors, .. } = &*self.accounts;
        let most = limits.connections_per_uid - questions(limits.connections_per_uid);
        if self.holds_lease.get() {
            return Ok(());
        }
        if self.account.leases.get() >= most {
            return Err(exceeded("leases of one user", most));
        }
        if descriptors.further_of(self.uid) < questions(descriptors.total()) {
            return Err(exceeded(
                "leases of one user, with so few open files of the registry",
                self.account.leases.get(),
            ));
        }
        Ok(())
    }

    /// Notes whether the connection holds a lease.
    pub(crate) fn set_lease(&self, holds: bool) {
        let leases = &self.account.leases;
        leases.set(leases.get() + usize::from(holds) - usize::from(self.holds_lease.replace(holds)));
    }

    /// An empty charge on the user's account.
    pub(crate) fn charge(&self) -> Charge {
        Charge { account: Rc::clone(&self.account), uid: self.uid, bytes: 0 }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.set_lease(false);
        let (of_all, of_user) = match self.place {
            ConnectionPlace::Any { .. } => (&self.accounts.total, &self.account.connections),
            ConnectionPlace::Questions { .. } => (&self.accounts.questions, &self.account.questions),
        };
        of_all.set(of_all.get() - 1);
        of_user.set(of_user.get() - 1);
        let left = self.accounts.total.get();
        if left + MANY <= self.accounts.peak.get() {
            self.accounts.peak.set(left);
            self.accounts.many_gone.notify_one();
        }
        if self.account.connections.get() + self.account.questions.get() == 0 {
            self.accounts.by_uid.borrow_mut().remove(&self.uid);
        }
    }
}

impl Charge {
    /// The user.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Sets how many bytes are kept.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), RegistryError> {
        let others = self.account.bytes.get() - self.bytes;
        if bytes > self.bytes && others > 0 && others + bytes > BYTES_PER_UID {
            return Err(exceeded("unfinished or unread bytes of one user", BYTES_PER_UID));
        }
        self.account.bytes.set(others + bytes);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.bytes.set(self.account.bytes.get() - self.bytes);
    }
}

/// The same number of places for each user: work of one waits for work of that user alone.
#[derive(Debug)]
pub(crate) struct Places {
    each: usize,
    by_uid: RefCell<HashMap<u32, Arc<Semaphore>>>,
}

impl Places {
    /// Users whose semaphores are kept although they take no place.
    const IDLE_USERS: usize = 64;

    pub(crate) fn new(each: usize) -> Self {
        Self { each, by_uid: RefCell::default() }
    }

    /// Waits for a place of a user's; it is free again when the permit is dropped.
    pub(crate) async fn take(&self, uid: u32) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut by_uid = self.by_uid.borrow_mut();
            if by_uid.len() > Self::IDLE_USERS {
                by_uid.retain(|_, places| Arc::strong_count(places) > 1);
            }
            Arc::clone(by_uid.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
        };
        // The semaphore is never closed.
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(connections: usize, connections_per_uid: usize) -> Rc<Accounts> {
        let limits = Limits { connections, connections_per_uid, ..Limits::default() };
        Accounts::new(limits, Descriptors::new(1024))
    }

    #[test]
    fn a_user_and_all_users_together_are_limited() {
        let accounts = accounts(3, 2);
        let first = accounts.admit(1).unwrap();
        let _second = accounts.admit(1).unwrap();
        assert_eq!(accounts.admit(1).unwrap_err(), exceeded("connections of one user", 2));
        let _other = accounts.admit(2).unwrap();
        assert_eq!(accounts.admit(3).unwrap_err(), exceeded("connections", 3));
        drop(first);
        let third = accounts.admit(3).unwrap();
        assert_eq!(accounts.by_uid.borrow().len(), 3);
        drop(third);
        assert_eq!(accounts.by_uid.borrow().len(), 2, "no account without connections");
    }

    #[test]
    fn a_few_places_are_kept_for_questions() {
        let accounts = accounts(9, 1);
        let place = accounts.admit_at_least_questions(1).unwrap();
        assert_eq!(place.exceeded(), None);
        let ask = |uid| accounts.admit_at_least_questions(uid);
        let limit = exceeded("connections of one user", 1);
        let questions: Vec<_> = (0..QUESTIONS_PER_UID).map(|_| ask(1).unwrap()).collect();
        assert!(questions.iter().all(|question| question.exceeded() == Some(&limit)));
        assert_eq!(ask(1).unwrap_err(), limit);
        assert_eq!(ask(2).unwrap().exceeded(), None, "another user is not affected");
        assert_eq!(accounts.connections(), 1, "questions do not count");
        drop(place);
        assert_eq!(ask(1).unwrap().exceeded(), None);
        drop(questions);
        assert_eq!(accounts.by_uid.borrow().len(), 0, "no account without connections");
        let all: Vec<_> = (10..19).map(|uid| accounts.admit(uid).unwrap()).collect();
        let questions: Vec<_> = (0..100).flat_map(|_| (0..100).filter_map(|uid| ask(uid).ok())).collect();
        assert_eq!(questions.len(), QUESTIONS);
        drop((all, questions));
        assert_eq!((accounts.total.get(), accounts.questions.get()), (0, 0));
    }

    #[test]
    fn it_is_told_when_many_connections_have_gone() {
        let accounts = accounts(500, 500);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let is_told = || {
            runtime.block_on(async {
                let soon = std::time::Duration::from_millis(1);
                tokio::time::timeout(soon, accounts.many_gone.notified()).await.is_ok()
            })
        };
        for _ in 0..200 {
            drop(accounts.admit(1).unwrap());
        }
        assert!(!is_told(), "never more than one at a time");
        let mut all: Vec<_> = (0..200).map(|_| accounts.admit(1).unwrap()).collect();
        all.truncate(200 - MANY + 1);
        assert!(!is_told());
        all.truncate(200 - MANY);
        assert!(is_told() && !is_told(), "once");
        all.clear();
        assert!(is_told());
    }

    #[test]
    fn bytes_are_limited_by_user_and_given_back() {
        let accounts = accounts(9, 9);
        let (place, other) = (accounts.admit(1).unwrap(), accounts.admit(2).unwrap());
        let mut large = place.charge();
        large.set(2 * BYTES_PER_UID).expect("a single reply may be of any length");
        let mut more = place.charge();
        assert!(more.set(1).is_err());
        other.charge().set(BYTES_PER_UID).expect("another user is not affected");
        large.set(BYTES_PER_UID - 1).unwrap();
        more.set(1).unwrap();
        assert!(more.set(2).is_err());
        drop(large);
        more.set(2).unwrap();
        drop(more);
        assert_eq!(place.account.bytes.get(), 0);
    }

    #[test]
    fn leases_leave_places_for_questions() {
        let accounts = accounts(100, 32);
        let all: Vec<_> = std::iter::from_fn(|| accounts.admit(1).ok()).collect();
        let leased = all.iter().take_while(|place| {
            let may = place.check_lease().is_ok();
            place.set_lease(may);
            may
        });
        assert_eq!((leased.count(), all.len()), (30, 32));
        all[0].check_lease().expect("a lease that is held may be repeated");
        all[0].set_lease(false);
        assert!(all[31].check_lease().is_ok());
        drop(all);

        let few = Accounts::new(Limits::default(), Descriptors::new(64));
        let mut held = Vec::new();
        while let Ok(place) = few.admit(1)
            && place.check_lease().is_ok()
        {
            place.set_lease(true);
            held.push(place);
        }
        assert!(held.len() > 5 && few.admit(1).is_ok(), "{}", held.len());
    }

    #[test]
    fn places_are_counted_by_user_and_given_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let places = Places::new(2);
            let soon = std::time::Duration::from_millis(10);
            let (first, _second) = (places.take(1).await, places.take(1).await);
            assert!(tokio::time::timeout(soon, places.take(1)).await.is_err());
            assert!(places.take(2).await.is_some(), "another user is not affected");
            drop(first);
            assert!(places.take(1).await.is_some());
            for uid in 0..1000 {
                drop(places.take(uid).await);
            }
            assert!(places.by_uid.borrow().len() <= Places::IDLE_USERS + 1, "idle users are forgotten");
        });
    }

    #[test]
    fn few_descriptors_leave_room_for_other_users() {
        let accounts = Accounts::new(Limits::default(), Descriptors::new(64));
        let first: Vec<_> = std::iter::from_fn(|| accounts.admit(1).ok()).collect();
        assert_eq!(first.len(), 12);
        assert_eq!(accounts.admit(1).unwrap_err(), exceeded("open files of the registry for one user", 12));
        let second: Vec<_> = std::iter::from_fn(|| accounts.admit(2).ok()).collect();
        assert_eq!(second.len(), 6);
        drop(first);
        assert!(accounts.admit(1).is_ok());
    }
}
