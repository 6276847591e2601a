//! The private directory of a run, below the directory of shared memory.
//!
//! A run holds a lock on its directory. The directories of runs that were killed are unlocked: the
//! next run of the same kind removes them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{process, thread};

use nix::sys::signal::{SigSet, Signal};

use crate::Result;
use crate::site::BenchSite;

const SHARED_MEMORY: &str = "/dev/shm";
const PREFIX: &str = "conduit-speed.";

/// Locks a directory until the returned file is dropped; fails if it is locked.
pub fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes the unlocked directories whose names start with `prefix`: their runs are dead.
pub fn remove_leftovers(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix)
            && let Ok(_lock) = lock(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the directory and what a transport left beside it.
type CleanUp = Box<dyn Fn() + Send>;

/// What a signal, or the end of [`with_site`], has to remove.
static CLEAN_UP: Mutex<Option<CleanUp>> = Mutex::new(None);

fn clean_up() {
    if let Some(clean_up) = CLEAN_UP.lock().unwrap_or_else(PoisonError::into_inner).take() {
        clean_up();
    }
}

/// Makes a directory in shared memory for as long as `act` takes, also if it panics or a signal
/// ends this process.
///
/// `clean_ups` remove what transports leave outside of it.
pub fn with_site<R>(
    limits_first: bool,
    second_core: usize,
    clean_ups: Vec<fn(&BenchSite)>,
    act: impl FnOnce(&BenchSite) -> Result<R>,
) -> Result<R> {
    struct OnDrop;
    impl Drop for OnDrop {
        fn drop(&mut self) {
            clean_up();
        }
    }
    remove_leftovers(Path::new(SHARED_MEMORY), PREFIX);
    // Held while the directory is made, so that a signal removes it or comes before it.
    let mut place = CLEAN_UP.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(SHARED_MEMORY)?.keep();
    let site = BenchSite { directory, limits_first, second_core };
    let removed = site.clone();
    *place = Some(Box::new(move || {
        clean_ups.iter().for_each(|clean_up| clean_up(&removed));
        if let Err(error) = fs::remove_dir_all(&removed.directory) {
            let _ = writeln!(io::stderr(), "cannot remove {}: {error}", removed.directory.display());
        }
    }));
    drop(place);
    let _on_drop = OnDrop;
    let _lock = lock(&site.directory)?;
    act(&site)
}

/// Makes SIGINT, SIGTERM and SIGHUP remove the directory of [`with_site`]; the second process dies
/// with this one.
///
/// To be called before other threads are started: they inherit that the signals are blocked.
pub fn handle_signals() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        clean_up();
        let _ = writeln!(io::stderr(), "ended by {signal}");
        process::exit(128 + signal as i32);
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directories_of_dead_runs_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let [live, dead, other] = ["run.live", "run.dead", "other"].map(|name| parent.path().join(name));
        for directory in [&live, &dead, &other] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), "").unwrap();
        }
        let _lock = lock(&live).unwrap();
        remove_leftovers(parent.path(), "run.");
        assert_eq!([&live, &dead, &other].map(|directory| directory.exists()), [true, false, true]);
    }
}
