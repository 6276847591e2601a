//! A private directory for the regions of a verb, removed at its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use conduit::Domain;
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::signals;

/// How long an interrupted verb may take to end its children and to remove its files.
const CLEANING_PATIENCE: Duration = Duration::from_secs(2);

/// The directory, below the one where regions live. Removed when dropped.
#[derive(Debug)]
pub(crate) struct PrivateDirectory(TempDir);

impl PrivateDirectory {
    /// Makes a directory whose name starts with the prefix.
    pub(crate) fn new(prefix: &str) -> Result<Self, Failure> {
        let outside = Domain::from_env();
        tempfile::Builder::new()
            .prefix(prefix)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(outside.shm_dir())
            .map(Self)
            .map_err(Failure::io("make a directory in", outside.shm_dir()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// From now on a signal that ends this process first calls `interrupt`, and ends it when what
    /// this returns is dropped; the directory is gone by then, whether the verb is stuck or not.
    ///
    /// To be called before other threads are started.
    pub(crate) fn put_away_before_ending(
        &self,
        interrupt: impl FnOnce() + Send + 'static,
    ) -> Result<Sender<()>, Failure> {
        let (done, is_clean) = mpsc::channel::<()>();
        let directory = self.path().to_owned();
        signals::before_ending(move || {
            interrupt();
            if is_clean.recv_timeout(CLEANING_PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // Its children die with it.
                let _ = fs::remove_dir_all(directory);
            }
        })
        .map_err(Failure::new)?;
        Ok(done)
    }
}

/// How much room there is for files.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, Failure> {
    let stat = statvfs(path).map_err(|errno| Failure::io("examine", path)(errno.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
