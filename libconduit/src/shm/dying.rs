//! Processes that still hold their locks and will never run again.
//!
//! The kernel releases a lock at the very end of a process. A process that is dumping core keeps
//! its locks and sockets until the dump is complete, one that frees a huge heap until that is done.

use std::collections::BTreeSet;
use std::fmt;

use nix::sys::stat::{major, minor};

use super::dir::FileId;
use super::process::kernel_text;

/// Why a process that has not ended will never run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dying {
    /// The kernel is writing its core dump.
    DumpingCore,
    /// It was killed or has called `exit`, and the kernel is freeing what it had.
    Exiting,
}

impl fmt::Display for Dying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DumpingCore => "dumping core",
            Self::Exiting => "exiting",
        })
    }
}

/// Why process `pid` will never run again, as /proc says; `None` if it may run, if there is no such
/// process, or if /proc does not show it.
///
/// A main thread that has ended says nothing: the others may run.
pub fn dying(pid: u32) -> Option<Dying> {
    match task_state(&kernel_text(format!("/proc/{pid}/status")).ok()?) {
        TaskState::MayRun => None,
        TaskState::DumpingCore => Some(Dying::DumpingCore),
        TaskState::Exiting => state_of_all(pid),
    }
}

/// The state of a process whose main thread is exiting or has ended.
fn state_of_all(pid: u32) -> Option<Dying> {
    let before = tasks(pid)?;
    for task in &before {
        // One that has ended since may have started another.
        match task_state(&kernel_text(format!("/proc/{pid}/task/{task}/status")).ok()?) {
            TaskState::MayRun => return None,
            TaskState::DumpingCore => return Some(Dying::DumpingCore),
            TaskState::Exiting => {}
        }
    }
    (tasks(pid)? == before).then_some(Dying::Exiting)
}

fn tasks(pid: u32) -> Option<BTreeSet<u32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    entries.map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// What the kernel says of one thread.
#[derive(Debug, PartialEq, Eq)]
enum TaskState {
    MayRun,
    /// Its process is dumping core.
    DumpingCore,
    /// It has ended, has no memory any more, or has SIGKILL pending.
    Exiting,
}

fn task_state(status: &str) -> TaskState {
    const SIGKILL: u64 = 1 << 8;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_killed = || value("SigPnd:").and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or(0) & SIGKILL != 0;
    // The line is there for as long as the thread has memory.
    match value("CoreDumping:") {
        Some("0") if is_killed() => TaskState::Exiting,
        Some("0") => TaskState::MayRun,
        Some(_) => TaskState::DumpingCore,
        None => TaskState::Exiting,
    }
}

/// The process that a region names as its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionOwner {
    pub(crate) pid: u32,
    pub(crate) file: FileId,
    /// Whether it is a raw region. Any process that opens one maps it as its owner does.
    pub(crate) is_raw: bool,
}

impl RegionOwner {
    /// Why the owner will never run again. The region's word counts only if the kernel shows that
    /// the process has the region mapped as its owner has: in a container, the same pid names
    /// another process.
    pub(crate) fn dying(self) -> Option<Dying> {
        dying(self.pid).filter(|_| self.has_region())
    }

    /// Whether the process has the region mapped as its owner has: for writing, as a whole, and not
    /// (or not only) as a subscriber, which has a second mapping of the first page. `false` also if
    /// this process may not know.
    fn has_region(self) -> bool {
        let Self { pid, file, is_raw } = self;
        let of_task = |task| kernel_text(format!("/proc/{pid}/task/{task}/maps")).ok().filter(|maps| !maps.is_empty());
        // A main thread that has ended has no memory any more.
        let Some(maps) = tasks(pid).into_iter().flatten().find_map(of_task) else { return false };
        let lengths = maps.lines().filter_map(|line| writable_start(line, file));
        let (first_page, whole): (Vec<u64>, Vec<u64>) = lengths.partition(|&len| !is_raw && len <= FIRST_PAGE_BYTES);
        whole.len() > first_page.len()
    }
}

const FIRST_PAGE_BYTES: u64 = 4096;

/// The length of a shared, writable mapping that begins with the first byte of the file.
fn writable_start(line: &str, file: FileId) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (range, mode, offset, device, inode) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
    let (from, to) = range.split_once('-')?;
    let (found_major, found_minor) = device.split_once(':')?;
    let is_it = (hexadecimal(found_major)?, hexadecimal(found_minor)?) == (major(file.dev), minor(file.dev))
        && inode.parse() == Ok(file.ino)
        && mode.starts_with("rw-s")
        && hexadecimal(offset)? == 0;
    is_it.then_some(hexadecimal(to)?.checked_sub(hexadecimal(from)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use nix::sys::stat::fstat;

    use super::*;
    use crate::shm::map::Mapping;

    #[test]
    fn a_process_that_runs_sleeps_or_is_stopped_is_not_dying() {
        assert_eq!(dying(std::process::id()), None);
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        assert_eq!(dying(child.id()), None);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGSTOP).unwrap();
        assert_eq!(dying(child.id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(dying(child.id()), None, "it is dead");
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_waited_for_never_runs_again() {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while dying(child.id()).is_none() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(dying(child.id()), Some(Dying::Exiting));
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_is_judged_by_its_memory_and_signals() {
        let status = |dumping: &str, pending: &str| format!("Name:\tx\nState:\tS\n{dumping}SigPnd:\t{pending}\n");
        let none = "0000000000000000";
        assert_eq!(task_state(&status("CoreDumping:\t0\n", none)), TaskState::MayRun);
        assert_eq!(task_state(&status("CoreDumping:\t0\n", "0000000000000100")), TaskState::Exiting);
        assert_eq!(task_state(&status("CoreDumping:\t0\n", "0000000000000200")), TaskState::MayRun);
        assert_eq!(task_state(&status("CoreDumping:\t1\n", "0000000000000100")), TaskState::DumpingCore);
        assert_eq!(task_state(&status("", none)), TaskState::Exiting);
    }

    #[test]
    fn an_owner_is_told_from_a_subscriber_by_its_mappings() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(1 << 16).unwrap();
        let id = FileId::of(&fstat(file.as_fd()).unwrap());
        let me = std::process::id();
        let map = |len: usize| Mapping::<crate::shm::map::ReadWrite>::new(&file, len.try_into().unwrap()).unwrap();
        let has = |file, is_raw| RegionOwner { pid: me, file, is_raw }.has_region();
        assert!(!has(id, false));
        let owner = map(1 << 16);
        assert!(has(id, false) && has(id, true));
        let subscriber = (map(1 << 16), map(4096));
        assert!(has(id, false), "it is both");
        drop(owner);
        assert!(!has(id, false));
        assert!(has(id, true) && !has(FileId { ino: id.ino + 1, ..id }, true));
        drop(subscriber);
    }
}
