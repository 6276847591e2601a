//! Errors of raw regions and their names.

use std::io;
use std::path::PathBuf;

use super::OwnerClaim;
use super::hint::hint;
use crate::{TopicName, TopicNameError};

/// Why a raw region's name could not be removed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum UnlinkError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// There is no such region.
    #[error("region \"{topic}\" does not exist in {}", path.display())]
    NotFound {
        /// The region.
        topic: TopicName,
        /// The shared-memory directory.
        path: PathBuf,
    },
    /// A topic that is being published is not removed.
    #[error("\"{topic}\" is a topic published by {owner}; stop that process to remove it")]
    Live {
        /// The topic.
        topic: TopicName,
        /// Its publisher.
        owner: OwnerClaim,
    },
    /// The file is no region.
    #[error("{} was not made by Conduit; remove it by hand if it is not needed", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot remove {}: {source}{}", path.display(), hint("remove", source))]
    Io {
        /// The region's file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Why a wait for a region failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// The wait was [stopped](crate::Stop).
    #[error("waiting for \"{topic}\" was stopped; it had not appeared")]
    Stopped {
        /// What it waited for.
        topic: TopicName,
    },
    /// The shared-memory directory could not be watched.
    #[error("cannot watch {}: {source}{}", path.display(), hint("watch", source))]
    Io {
        /// The shared-memory directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
