//! Who has a region, for sentences.

use std::fmt;

use crate::shm::dying::Dying;

/// The owner that a region claims to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerClaim {
    /// Process id in the owner's own pid namespace.
    pub pid: Option<u32>,
    /// Command name.
    pub program: Option<String>,
    /// Why it will never run again, if the kernel says so of a process of that pid and name here.
    pub dying: Option<Dying>,
    /// The user of the region's file, as the kernel reports it.
    pub uid: Option<u32>,
}

/// Whose a file is, for a sentence.
pub(super) fn of_user(uid: Option<u32>) -> String {
    uid.map_or_else(String::new, |uid| format!(", but by uid {uid}"))
}

impl fmt::Display for OwnerClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.program.as_deref()) {
            (Some(pid), Some(program)) if !program.is_empty() => write!(f, "pid {pid} ({program})"),
            (Some(pid), _) => write!(f, "pid {pid}"),
            (None, _) => f.write_str("another process"),
        }?;
        if let Some(uid) = self.uid.filter(|uid| *uid != nix::unistd::geteuid().as_raw()) {
            write!(f, " of uid {uid}")?;
        }
        match self.dying {
            Some(Dying::DumpingCore) => f.write_str(", which is dumping core (SIGKILL ends that)"),
            Some(dying) => write!(f, ", which is {dying}"),
            None => Ok(()),
        }
    }
}
