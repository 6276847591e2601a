//! Removing the name of a region, by way of a private name: the step *Remove* of the
//! [protocol](super).

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};

use super::dir::{DirEntry, FileId, REMOVAL_SEPARATOR, ReapLock, Removal, ShmDir};
use super::mark::Mark;
use super::open::is_regular;
use super::reap_lock::{ReapTry, try_reap_lock};
use crate::TopicName;
use crate::fault::{self, Step};

/// How many private names a topic has that its next publisher looks for. There are several because
/// removers may be stopped.
const FIRST_NAMES: u32 = 4;
/// A private name older than this belongs to a remover that was killed: a removal takes
/// microseconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// One of the private names to which removers rename a region, if it is free.
fn first_name(topic: &TopicName, number: u32) -> String {
    format!(".{}{REMOVAL_SEPARATOR}{number}", topic.file_name())
}

/// A private name that no other remover uses.
fn own_name(topic: &TopicName, id: FileId) -> String {
    static REMOVALS: AtomicU32 = AtomicU32::new(0);
    let (count, pid) = (REMOVALS.fetch_add(1, Ordering::Relaxed), std::process::id());
    format!(".{}{REMOVAL_SEPARATOR}{}-{pid}-{count}", topic.file_name(), id.ino)
}

impl ShmDir {
    /// Removes the name of a region if it still refers to this file, and never another file.
    ///
    /// The caller holds the owner lock of `id` (or, for a raw region, was asked by its user to
    /// remove the name). See the [module documentation](super) for the steps and their reason.
    pub fn remove(&self, topic: &TopicName, id: FileId) -> io::Result<Removal> {
        let name = topic.file_name();
        let mut otherwise = Removal::NotOurs;
        loop {
            if self.stat(&name)?.is_none_or(|stat| FileId::of(&stat) != id) {
                return Ok(otherwise);
            }
            let Some(private) = self.rename_to_private(topic, id)? else { continue };
            fault::point(Step::RemoveRenamed);
            let Some(stat) = self.stat(&private)? else {
                // This process was stopped for so long that a scan took it for dead and put the
                // name back.
                continue;
            };
            if FileId::of(&stat) != id {
                return match self.rename(&private, &name) {
                    Ok(()) | Err(Errno::ENOENT) => Ok(Removal::NotOurs),
                    Err(_) => Ok(Removal::Stranded(private)),
                };
            }
            fault::point(Step::RemoveChecked);
            match self.unlink(&private) {
                Ok(()) => {
                    fault::point(Step::RemoveUnlinked);
                    return Ok(Removal::Removed);
                }
                // As above, or it was unlinked by a scan.
                Err(Errno::ENOENT) => otherwise = Removal::Removed,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Gives a region a private name: one at which its next publisher looks, unless other removers
    /// are using all of those. `None` if its name is gone, or a private name was taken meanwhile.
    fn rename_to_private(&self, topic: &TopicName, id: FileId) -> io::Result<Option<String>> {
        let name = topic.file_name();
        for private in (0..FIRST_NAMES).map(|number| first_name(topic, number)).chain([own_name(topic, id)]) {
            match self.rename(&name, &private) {
                Ok(()) => return Ok(Some(private)),
                Err(Errno::EEXIST) => {}
                Err(Errno::ENOENT) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    /// Finishes removals whose removers were killed.
    ///
    /// If the lock of the file is free, its owner is dead and the file is unlinked. Otherwise it
    /// was renamed by mistake and gets its name back.
    pub fn finish_removals(&self, lock: ReapLock) -> io::Result<()> {
        for entry in self.entries()? {
            if let DirEntry::Removal { topic, file_name } = entry {
                // What cannot be finished now (without permission, for example) is left for a later
                // scan.
                let _ = self.finish_removal(&topic, &file_name, lock);
            }
        }
        Ok(())
    }

    /// Finishes removals of one topic whose removers were killed, as far as they can be found
    /// without reading the directory, in which there may be any number of other files.
    pub(crate) fn tidy(&self, topic: &TopicName) {
        for number in 0..FIRST_NAMES {
            let private = first_name(topic, number);
            if self.stat(&private).is_ok_and(|stat| stat.is_some()) {
                // What cannot be finished is left for the daemon.
                let _ = self.finish_removal(topic, &private, ReapLock::Write);
            }
        }
    }

    fn finish_removal(&self, topic: &TopicName, private: &str, lock: ReapLock) -> io::Result<()> {
        let file = self.open_file(private, lock.access())?;
        let stat = fstat(&file)?;
        if !is_regular(&stat) || Mark::read(&file).is_none() {
            return Ok(());
        }
        if try_reap_lock(&file, lock)? == ReapTry::Locked {
            fault::point(Step::RemoveFinishing);
            self.unlink(private)?;
        } else if age_of_change(&stat) >= ABANDONED_AFTER {
            self.rename(private, &topic.file_name())?;
        }
        Ok(())
    }
}

/// Time since the inode changed; a rename counts.
fn age_of_change(stat: &FileStat) -> Duration {
    let changed = UNIX_EPOCH + Duration::new(stat.st_ctime.max(0) as u64, stat.st_ctime_nsec as u32);
    age_at(changed, SystemTime::now())
}

/// A change in the future was before the clock was set back, nobody knows how long: it counts as
/// old, since a name put back too early is removed again, and one left behind would stay for as
/// long.
fn age_at(changed: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(changed).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::shm::dir::tests::{directory, make, topic};
    use crate::shm::lock::OWNER;

    #[test]
    fn what_changed_before_the_clock_was_set_back_is_old() {
        let changed = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(age_at(changed, changed + Duration::from_secs(1)), Duration::from_secs(1));
        assert!(age_at(changed, changed - Duration::from_secs(1)) >= ABANDONED_AFTER);
    }

    #[test]
    fn a_removal_never_removes_another_file() {
        let (_temporary, directory) = directory();
        let first = make(&directory);
        // Keeps the inode number from being used again.
        let _still_open = File::open(directory.path_of(&topic())).unwrap();
        fs::remove_file(directory.path_of(&topic())).unwrap();
        let second = make(&directory);
        assert_eq!(directory.remove(&topic(), first).unwrap(), Removal::NotOurs);
        assert_eq!(directory.id_of(&topic()).unwrap(), Some(second));
        assert_eq!(directory.remove(&topic(), second).unwrap(), Removal::Removed);
        assert_eq!(directory.remove(&topic(), second).unwrap(), Removal::NotOurs);
        assert_eq!(directory.entries().unwrap(), []);
    }

    #[test]
    fn a_killed_removers_private_name_is_finished_or_put_back() {
        let (temporary, directory) = directory();
        let private = temporary.path().join(".conduit_a.b~1-2-3");
        let id = make(&directory);
        fs::rename(directory.path_of(&topic()), &private).unwrap();
        directory.finish_removals(ReapLock::Write).unwrap();
        assert!(private.exists(), "without our mark it is not ours to remove");

        let file = File::options().read(true).write(true).open(&private).unwrap();
        Mark::Topic.write(&file).unwrap();
        assert!(OWNER.try_write(&file).unwrap());
        directory.finish_removals(ReapLock::Write).unwrap();
        assert!(private.exists(), "its remover may still be at work");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while directory.id_of(&topic()).unwrap().is_none() && std::time::Instant::now() < deadline {
            directory.finish_removals(ReapLock::Write).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(directory.id_of(&topic()).unwrap(), Some(id), "a live region gets its name back");

        fs::rename(directory.path_of(&topic()), &private).unwrap();
        drop(file);
        directory.finish_removals(ReapLock::Write).unwrap();
        assert_eq!(directory.entries().unwrap(), []);
    }

    #[test]
    fn removers_that_stand_still_do_not_keep_others_from_removing() {
        let (temporary, directory) = directory();
        for round in 0..10 {
            let id = make(&directory);
            let private = directory.rename_to_private(&topic(), id).unwrap().unwrap();
            assert_eq!(private.contains('-'), round >= FIRST_NAMES, "{private}");
        }
        let id = make(&directory);
        assert_eq!(directory.remove(&topic(), id).unwrap(), Removal::Removed);
        for entry in fs::read_dir(temporary.path()).unwrap() {
            Mark::Topic.write(File::open(entry.unwrap().path()).unwrap()).unwrap();
        }
        directory.tidy(&topic());
        assert_eq!(directory.entries().unwrap().len(), 10 - FIRST_NAMES as usize, "what is found without a scan");
        directory.finish_removals(ReapLock::Write).unwrap();
        assert_eq!(directory.entries().unwrap(), []);
    }
}
