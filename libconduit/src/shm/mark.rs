//! The mark by which a file is known to be Conduit's: an extended attribute or, on file systems
//! without them, the first bytes of a topic.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::process::command_name;
use crate::foreign_text::clean_name;

const XATTR: &str = "user.conduit";
/// The first bytes of a topic's file: `CONDUIT` and a byte that occurs in no text.
pub(crate) const MAGIC: [u8; 8] = *b"CONDUIT\xd1";

/// What the extended attribute `user.conduit` says about a file. A file without it is not Conduit's
/// and is never removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A topic: header and ring.
    Topic,
    /// A raw region, an orphan once its creator is dead.
    Raw {
        /// Pid of the creator, as claimed by it.
        pid: u32,
        /// Command name of the creator, as claimed by it.
        program: String,
    },
    /// A raw region whose creator closed it cleanly: it stays until it is unlinked.
    Kept,
}

impl Mark {
    /// A raw region created by this process.
    pub(crate) fn raw() -> Self {
        let pid = std::process::id();
        Self::Raw { pid, program: command_name(pid).unwrap_or_default() }
    }

    /// Writes the mark to a file. File systems without extended attributes store none: topics are
    /// then recognized by their header, and raw regions are never reaped.
    pub(crate) fn write(&self, file: impl AsFd) -> io::Result<()> {
        let value = match self {
            Self::Topic => "topic".into(),
            Self::Raw { pid, program } => format!("raw {pid} {program}"),
            Self::Kept => "kept".into(),
        };
        match fsetxattr(file, XATTR, value.as_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads the mark of an open file; `None` if the file is not Conduit's.
    pub(crate) fn read(file: impl AsFd) -> Option<Self> {
        let mut value = [0; 128];
        if let Ok(len) = fgetxattr(&file, XATTR, &mut value[..]) {
            return Self::parse(&value[..len]);
        }
        let mut magic = [0; MAGIC.len()];
        (nix::sys::uio::pread(&file, &mut magic, 0) == Ok(magic.len()) && magic == MAGIC).then_some(Self::Topic)
    }

    fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"topic" => Some(Self::Topic),
            b"kept" => Some(Self::Kept),
            _ => {
                let mut words = value.strip_prefix(b"raw ")?.splitn(2, |byte| *byte == b' ');
                let pid = str::from_utf8(words.next()?).ok()?.parse().ok()?;
                Some(Self::Raw { pid, program: clean_name(words.next()?) })
            }
        }
    }
}
