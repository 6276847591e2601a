//! How much memory a new region may take, and whether a file has all of its own.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FileStat, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;

use super::dir::ShmDir;

/// What a new region does not fit into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomError {
    /// The shared-memory directory has this many bytes free.
    Directory { have_bytes: u64 },
    /// The memory cgroups of this process leave this many bytes.
    Cgroup { have_bytes: u64 },
}

/// Refuses what cannot fit before anything is reserved: a tmpfs fills up before it reports an
/// error, and beyond the limit of a memory cgroup `fallocate` invokes the out-of-memory killer
/// instead of reporting one.
pub(super) fn check(directory: &ShmDir, need_bytes: u64) -> Result<(), RoomError> {
    if free_bytes(directory).is_some_and(|have| have < need_bytes) {
        return Err(no_space(directory));
    }
    match cgroup_bytes() {
        Some(have_bytes) if have_bytes < need_bytes => Err(RoomError::Cgroup { have_bytes }),
        _ => Ok(()),
    }
}

/// The error for a reservation that the kernel refused.
pub(super) fn no_space(directory: &ShmDir) -> RoomError {
    RoomError::Directory { have_bytes: free_bytes(directory).unwrap_or(0) }
}

/// In `st_blocks`.
const BLOCK_BYTES: u64 = 512;

fn reserved_bytes(stat: &FileStat) -> u64 {
    (stat.st_blocks.max(0) as u64).saturating_mul(BLOCK_BYTES)
}

/// Whether the file system has memory or blocks for every byte of a file: reading the others takes
/// memory. (Not if it compresses files, or if this cannot be found out.)
pub(crate) fn is_reserved(file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| reserved_bytes(&stat) >= stat.st_size.max(0) as u64)
}

/// How many bytes of a file in a tmpfs have memory, if not all have; pages that are swapped out
/// have.
pub(crate) fn missing_memory(file: impl AsFd) -> Option<u64> {
    if is_reserved(&file) || fstatfs(&file).ok()?.filesystem_type() != TMPFS_MAGIC {
        return None;
    }
    fstat(file).ok().map(|stat| reserved_bytes(&stat))
}

fn free_bytes(directory: &ShmDir) -> Option<u64> {
    let stat = fstatvfs(directory).ok()?;
    // A tmpfs without a limit reports zero blocks.
    Some(if stat.blocks() == 0 { u64::MAX } else { stat.blocks_available() * stat.fragment_size() })
}

/// What the limits of this process's memory cgroups leave; `None` without limits (or without cgroup
/// v2).
fn cgroup_bytes() -> Option<u64> {
    // The name of a group need not be UTF-8.
    let own = std::fs::read("/proc/thread-self/cgroup").ok()?;
    let own = own.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let root = Path::new("/sys/fs/cgroup");
    root.join(OsStr::from_bytes(own))
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| {
            let used = number(group.join("memory.current"))?.saturating_sub(reclaimable_bytes(group));
            Some(number(group.join("memory.max"))?.saturating_sub(used))
        })
        .min()
}

/// What the kernel reclaims before it kills: page cache and slabs, but no shared memory.
fn reclaimable_bytes(group: &Path) -> u64 {
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let value = |line: &str| match line.split_once(' ')? {
        ("active_file" | "inactive_file" | "slab_reclaimable", value) => value.parse::<u64>().ok(),
        _ => None,
    };
    stat.lines().filter_map(value).sum()
}
