//! Names that appear in the shared-memory directory, as they appear.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use conduit::internal::shm::dir::DirEntry;
use conduit::{Domain, TopicName};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::backoff::Backoff;
use crate::failure::Failure;

/// What may have appeared.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NewName {
    Topic(TopicName),
    /// Anything: what happened meanwhile is unknown.
    Unknown,
}

/// Reports each name that appears from now on, on a thread of its own that sleeps in between, and
/// calls `wake` after each report. A directory that is replaced is found again.
pub(super) fn watch(domain: &Domain, wake: impl Fn() + Send + 'static) -> Result<Receiver<NewName>, Failure> {
    let (sender, appearances) = mpsc::channel();
    // The first watch begins before the caller reads the directory.
    let first = watch_directory(domain);
    let domain = domain.clone();
    let report = move || {
        let mut backoff = Backoff::new();
        let mut next = first;
        loop {
            match next {
                Ok(inotify) => {
                    backoff = Backoff::new();
                    if forward(&inotify, &sender, &wake).is_none() {
                        return;
                    }
                }
                // No directory, or this user has no inotify instance left: looks now and then.
                Err(_) => backoff.sleep(),
            }
            next = watch_directory(&domain);
            if sender.send(NewName::Unknown).is_err() {
                return;
            }
            wake();
        }
    };
    let started = thread::Builder::new().name("directory".into()).spawn(report);
    started.map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    Ok(appearances)
}

fn watch_directory(domain: &Domain) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MOVE_SELF;
    inotify.add_watch(domain.shm_dir(), flags | AddWatchFlags::IN_DELETE_SELF)?;
    Ok(inotify)
}

/// Reports names until the directory is another one; `None` if nobody listens.
fn forward(inotify: &Inotify, reports: &Sender<NewName>, wake: &impl Fn()) -> Option<()> {
    loop {
        let events = match inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EINTR) => continue,
            Err(_) => return Some(()),
        };
        for event in events {
            let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
            if event.mask.intersects(gone) {
                return Some(());
            }
            let name = event.name.as_ref().and_then(|name| DirEntry::parse(name.to_str()?));
            let report = match name {
                _ if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) => NewName::Unknown,
                Some(DirEntry::Region(topic)) => NewName::Topic(topic),
                _ => continue,
            };
            reports.send(report).ok()?;
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conduit::Publisher;

    use super::*;

    #[test]
    fn names_are_reported_also_of_a_directory_that_takes_the_place() {
        let parent = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = parent.path().join("shm");
        std::fs::create_dir(&path).unwrap();
        let domain = Domain::new(&path).without_registry();
        let (woken, wakes) = mpsc::channel();
        let appearances = watch(&domain, move || woken.send(()).unwrap_or_default()).unwrap();
        let next = || appearances.recv_timeout(Duration::from_secs(30)).unwrap();
        let _imu = Publisher::<u64>::builder().domain(&domain).create("imu").unwrap();
        assert_eq!(next(), NewName::Topic("imu".parse().unwrap()));
        wakes.recv().unwrap();
        std::fs::rename(&path, parent.path().join("old")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(next(), NewName::Unknown);
        // Until the new directory is watched.
        let mut scans = Vec::new();
        let found = loop {
            scans.push(
                Publisher::<u64>::builder().domain(&domain).create(&format!("scan/{}", scans.len())[..]).unwrap(),
            );
            match appearances.recv_timeout(Duration::from_millis(100)) {
                Ok(NewName::Topic(topic)) => break topic,
                _ => assert!(scans.len() < 300),
            }
        };
        assert!(found.as_str().starts_with("scan/"));
    }
}
