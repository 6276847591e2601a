//! Takes in the changes of the directory: a bounded number at a time, and those of each user in
//! turn.

use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::TopicName;
use conduit::internal::shm::dir::DirEntry;
use rustix::fs::inotify::ReadFlags;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Hub;
use crate::changes::ChangesTurn;
use crate::directory::NameChange;

/// How long changes of one user are taken in before other work has its turn.
const SLICE: Duration = Duration::from_micros(200);
/// How long the changes of others may delay the answer to a question.
const OTHERS: Duration = Duration::from_millis(1);
/// How long an answer waits until the directory is read, if the kernel has dropped changes.
const SCAN_PATIENCE: Duration = Duration::from_millis(250);
/// How often the kernel's queue is emptied while all changes wait: it must not overflow.
const DRAIN_INTERVAL: Duration = Duration::from_millis(5);

impl Hub {
    /// Takes in changes as they come.
    pub(crate) async fn watch_directory(self: Rc<Self>) {
        loop {
            self.changes_due.notified().await;
            loop {
                self.drain();
                let turn = self.changes.borrow_mut().next_turn(Instant::now());
                match turn {
                    ChangesTurn::User(uid) => {
                        self.take_in_some(uid);
                        yield_now().await;
                    }
                    ChangesTurn::Wait(time) => tokio::time::sleep(time.min(DRAIN_INTERVAL)).await,
                    ChangesTurn::Nothing => break,
                }
            }
            if let Err(error) = self.processes.watch.watch_directory(&self.directory.watch) {
                tracing::error!("cannot watch {} any more: {error}", self.directory.shm.path().display());
            }
        }
    }

    /// Takes in the changes that a user's processes have made so far, so that an answer to one of
    /// them is at least as new as its question; and those of others, unless they are very many.
    pub(crate) async fn catch_up(self: &Rc<Self>, uid: u32) {
        self.drain();
        if self.has_missed_changes.get() {
            let _ = timeout(SCAN_PATIENCE, self.scanned.notified()).await;
        }
        let queued = self.changes.borrow().len_of(uid);
        let mut taken_in = 0;
        while taken_in < queued {
            match self.take_in_some(uid) {
                0 => break,
                some => taken_in += some,
            }
            if taken_in < queued {
                yield_now().await;
            }
        }
        let began = Instant::now();
        let others = self.changes.borrow().users_in_time(began);
        for other in others {
            self.take_in_some(other);
            if began.elapsed() >= OTHERS {
                break;
            }
        }
    }

    /// Takes in what has become of one name.
    pub(super) fn settle(self: &Rc<Self>, topic: &TopicName) {
        self.drain();
        let change = self.changes.borrow_mut().take(topic);
        match change {
            Some(how) => self.take_in_change(topic, how),
            None => drop(self.update(topic)),
        }
    }

    /// Takes in changes of one user for a moment. Returns how many.
    fn take_in_some(self: &Rc<Self>, uid: u32) -> usize {
        let began = Instant::now();
        let mut count = 0;
        loop {
            let next = self.changes.borrow_mut().next_of(uid);
            let Some((topic, how)) = next else { break };
            self.take_in_change(&topic, how);
            count += 1;
            if began.elapsed() >= SLICE {
                break;
            }
        }
        self.changes.borrow_mut().spend(uid, Instant::now(), began.elapsed());
        count
    }

    /// Sorts the changes that the kernel has queued, by the users whose files they concern.
    fn drain(self: &Rc<Self>) {
        if self.directory.watch.drain(|change| self.sort(change)) {
            self.has_missed_changes.set(true);
            self.scan_due.notify_one();
        }
    }

    fn sort(self: &Rc<Self>, NameChange { entry, how, .. }: NameChange) {
        let topic = match entry {
            Some(DirEntry::Region(topic)) => topic,
            Some(DirEntry::Removal { .. }) if how.contains(ReadFlags::MOVED_TO) => {
                return self.directory.finish_removals_later();
            }
            _ => return,
        };
        if self.changes.borrow_mut().merge(&topic, how) {
            return;
        }
        let known = self.registry.borrow().uid_of(&topic);
        let owner = || self.directory.shm.owner_of(&topic).map(|found| found.map(|(_, uid)| uid));
        match known.map_or_else(owner, |uid| Ok(Some(uid))) {
            Ok(Some(uid)) => {
                if !self.changes.borrow_mut().add(topic, uid, how) {
                    self.scan_due.notify_one();
                }
            }
            // It has come and gone, and nothing was known of it.
            Ok(None) => self.miss(&topic, how),
            Err(error) => {
                self.directory.inspect_later(&topic, &format!("cannot inspect topic \"{topic}\": {error}"));
                self.polling_due.notify_one();
            }
        }
    }

    /// A name that nothing was known of is gone.
    fn miss(self: &Rc<Self>, topic: &TopicName, how: ReadFlags) {
        if how.contains(ReadFlags::CREATE) {
            let changes = self.registry.borrow_mut().came_and_went(topic);
            self.carry_out(changes);
        } else if !self.surplus.is_empty() {
            // Perhaps one of those that are counted only.
            self.scan_due.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TestHub, run};
    use super::*;
    use crate::reaping::reap;

    /// One turn of a user ends after a moment, however many names the user has changed.
    #[test]
    fn changes_are_taken_in_for_a_moment_at_a_time() {
        run(async || {
            let test = TestHub::new(reap);
            let (hub, uid) = (&test.hub, nix::unistd::geteuid().as_raw());
            let names: Vec<TopicName> = (0..4000).map(|number| format!("name/{number}").parse().unwrap()).collect();
            for name in &names {
                std::fs::write(hub.directory.shm.path_of(name), "").unwrap();
            }
            hub.drain();
            assert_eq!(hub.changes.borrow().len_of(uid), names.len());
            let taken_in = hub.take_in_some(uid);
            assert!((1..names.len()).contains(&taken_in), "{taken_in} names in one turn");
            assert_eq!(hub.changes.borrow().len_of(uid), names.len() - taken_in);
            // An answer to the user waits for all of them, and lets others have their turns.
            let mut turns_of_others = 0;
            let others = async {
                loop {
                    yield_now().await;
                    turns_of_others += 1;
                }
            };
            tokio::select! {
                () = hub.catch_up(uid) => {}
                () = others => {}
            }
            assert_eq!(hub.changes.borrow().len_of(uid), 0);
            assert!(turns_of_others > 1, "{turns_of_others} turns");
        });
    }
}
