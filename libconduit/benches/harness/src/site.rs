//! Where the two processes of a run meet.

use std::path::PathBuf;

use conduit::Domain;
use serde::{Deserialize, Serialize};

/// The place of a run, as both processes know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchSite {
    /// Their directory, in shared memory.
    pub directory: PathBuf,
    /// Whether the limits allocate their memory before the transports: pages allocated at different
    /// times differ in speed.
    pub limits_first: bool,
    /// Core of the second process, and of the thread in its place if a transport connects only
    /// threads.
    pub second_core: usize,
}

impl BenchSite {
    /// The directory as a domain, which no registry watches.
    pub fn domain(&self) -> Domain {
        Domain::new(&self.directory).without_registry()
    }
}
