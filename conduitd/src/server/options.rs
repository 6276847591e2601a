//! The options of a daemon.

use std::path::PathBuf;

use crate::limits::Limits;
use crate::policy::Config;

/// What a daemon serves, and where.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The socket to listen on. `None`: the one that the service manager passed, else the default
    /// of this user's clients.
    pub socket: Option<PathBuf>,
    /// The directory of the regions.
    pub shm_dir: PathBuf,
    /// What clients may use.
    pub limits: Limits,
    /// The policy's rules.
    pub config: Config,
}
