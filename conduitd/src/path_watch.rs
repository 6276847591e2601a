//! Tells when a path may have begun to stand for another file: the file, or a directory above it,
//! was removed, renamed, replaced, unmounted, or mounted over.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use conduit::internal::shm::dir::FileId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

/// The file that a path stands for now, without following a link at its end; `None` if there is
/// none, or if it cannot be told.
pub(crate) fn file_at(path: &Path) -> Option<FileId> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(FileId { dev: metadata.dev(), ino: metadata.ino() })
}

/// Watches what a path stands for, in a thread that ends with this. Make it, then look at the path,
/// then wait: no change is missed.
pub(crate) struct PathWatch {
    changed: Arc<Notify>,
    stop: Arc<EventFd>,
}

/// What the thread of a watch waits for.
struct WatchedPath {
    inotify: OwnedFd,
    /// The next component of the path in the directory whose entries are watched.
    component: OsString,
    /// Changes of mounts, of which inotify tells only some.
    mounts: Option<File>,
}

impl PathWatch {
    /// Watches an absolute path, of which the last components need not exist.
    ///
    /// # Errors
    /// If none of its directories can be watched, or no thread can be started.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let watched = WatchedPath::new(path)?;
        let watch = Self { changed: Arc::default(), stop: Arc::new(EventFd::new()?) };
        let (changed, stop) = (Arc::clone(&watch.changed), Arc::clone(&watch.stop));
        std::thread::Builder::new().name("paths".into()).spawn(move || {
            // Once: the receiver examines the path, and makes a new watch.
            if watched.wait(&stop) {
                changed.notify_one();
            }
        })?;
        Ok(watch)
    }

    /// Waits for a change that may concern the path.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for PathWatch {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
    }
}

impl WatchedPath {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let moved = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        let entries = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        let mut component = OsString::new();
        let mut below = path;
        for ancestor in path.ancestors().skip(1) {
            // Of the last directory that exists its entries are watched, of those above the names.
            let flags = match () {
                () if !component.is_empty() => moved,
                // An entry that exists cannot be created.
                () if below == path && file_at(path).is_some() => moved | entries,
                () => moved | entries | WatchFlags::CREATE,
            };
            let is_watched = inotify::add_watch(&inotify, ancestor, flags).is_ok();
            if component.is_empty() && is_watched {
                component = below.file_name().unwrap_or_default().to_owned();
            }
            below = ancestor;
        }
        if component.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no directory above it can be watched"));
        }
        Ok(Self { inotify, component, mounts: File::open("/proc/self/mountinfo").ok() })
    }

    /// Waits for a change; `false` if it shall stop.
    fn wait(&self, stop: &EventFd) -> bool {
        loop {
            let mut polled = vec![
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            ];
            polled.extend(self.mounts.as_ref().map(|mounts| PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)));
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return false,
            }
            let is_ready = |number: usize| polled.get(number).and_then(PollFd::any).unwrap_or(false);
            if is_ready(0) {
                return false;
            }
            if is_ready(2) || self.has_relevant_event() {
                return true;
            }
        }
    }

    /// Reads all events.
    fn has_relevant_event(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut is_relevant = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let entries = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
                    is_relevant |= !event.events().intersects(entries) || name == Some(&self.component);
                }
                Err(Errno::INTR) => {}
                Err(_) => return is_relevant,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn run(test: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    }

    async fn is_told(watch: &PathWatch) -> bool {
        timeout(Duration::from_secs(30), watch.changed()).await.is_ok()
    }

    #[test]
    fn every_way_to_change_a_path_is_told() {
        run(async || {
            let place = tempfile::tempdir().unwrap();
            let place = fs::canonicalize(place.path()).unwrap();
            let (parent, path) = (place.join("a/b"), place.join("a/b/file"));
            let reset = || {
                let _ = fs::remove_dir_all(place.join("a"));
                fs::create_dir_all(&parent).unwrap();
                fs::write(&path, "").unwrap();
                PathWatch::new(&path).unwrap()
            };
            let ways: [&dyn Fn(); 6] = [
                &|| fs::remove_file(&path).unwrap(),
                &|| fs::rename(&path, place.join("moved")).unwrap(),
                &|| fs::rename(place.join("moved"), &path).unwrap(),
                &|| fs::rename(&parent, place.join("other")).unwrap(),
                &|| fs::rename(place.join("a"), place.join("another")).unwrap(),
                &|| fs::remove_dir_all(place.join("a")).unwrap(),
            ];
            for (number, change) in ways.iter().enumerate() {
                let watch = reset();
                change();
                assert!(is_told(&watch).await, "{number}");
            }
            let watch = reset();
            fs::write(parent.join("neighbour"), "").unwrap();
            fs::remove_file(parent.join("neighbour")).unwrap();
            assert!(timeout(Duration::from_millis(50), watch.changed()).await.is_err(), "of no concern");
        });
    }

    #[test]
    fn a_path_that_does_not_exist_yet_is_watched() {
        run(async || {
            let place = tempfile::tempdir().unwrap();
            let place = fs::canonicalize(place.path()).unwrap();
            let path = place.join("a/b/file");
            let steps: [&dyn Fn(); 3] =
                [&|| fs::create_dir(place.join("a")).unwrap(), &|| fs::create_dir(place.join("a/b")).unwrap(), &|| {
                    fs::write(&path, "").unwrap();
                }];
            for step in steps {
                assert_eq!(file_at(&path), None);
                let watch = PathWatch::new(&path).unwrap();
                step();
                assert!(is_told(&watch).await);
            }
            assert!(file_at(&path).is_some());
        });
    }
}
