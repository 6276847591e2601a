//! Core dumps that take long.

use std::os::fd::AsFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

use super::peer::Peer;
use super::wait::wait_until;
use crate::protocol::{Answer, Order};

/// A folder in which every page of a file is written to the disk at once: a dump of a few megabytes
/// takes many seconds.
pub struct SlowFolder(TempDir);

impl SlowFolder {
    /// `None` if this machine cannot have one, or writes no core dumps into working directories.
    pub fn new() -> Option<Self> {
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").ok()?;
        let is_dumped_here = !pattern.starts_with('|') && !pattern.contains(['/', '@']);
        let folder = TempDir::new().ok().filter(|_| is_dumped_here)?;
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).ok()?;
        let open = std::fs::File::open(folder.path()).ok()?;
        let flags = ioctl_getflags(open.as_fd()).ok()?;
        ioctl_setflags(&open, flags | IFlags::SYNC).ok()?;
        Some(Self(folder))
    }

    /// Has a peer dump core; returns it while the kernel is at it. It is killed when dropped, which
    /// ends the dump.
    pub fn dump(&self, mut peer: Peer) -> Dump {
        assert_eq!(peer.ask(Order::DumpCore(self.0.path().to_str().unwrap())), Answer::Began);
        let dump = Dump(peer);
        wait_until("the dump to begin", || dump.is_in_progress());
        dump
    }
}

/// A process that is dumping core.
pub struct Dump(Peer);

impl Dump {
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub fn is_in_progress(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.pid())).into_iter().flatten().flatten();
        let mut statuses = tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap_or_default());
        statuses.any(|status| status.contains("CoreDumping:\t1"))
    }

    /// Ends the dump.
    pub fn end(self) {
        self.0.kill();
    }
}
