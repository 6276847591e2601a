//! Names and exit states of processes.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::open::above_standard;
use crate::foreign_text::clean_name;

/// Command name of a process, as in `/proc/PID/comm`; `None` if it is gone or hidden.
pub fn command_name(pid: u32) -> Option<String> {
    Some(clean_name(command_bytes(pid)?))
}

/// The command name as the kernel has it: any bytes, of which the last may be half a character.
fn command_bytes(pid: u32) -> Option<Vec<u8>> {
    let mut name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    name.truncate(name.strip_suffix(b"\n")?.len());
    Some(name)
}

/// A file of the kernel, in which names of processes or files need not be UTF-8: what is printed of
/// it is cleaned first.
pub fn kernel_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// The command name of this process, as in headers and records of regions.
pub(crate) fn own_name() -> [u8; 16] {
    let mut bytes = [0; 16];
    if let Some(name) = command_bytes(std::process::id()) {
        let len = name.len().min(bytes.len());
        bytes[..len].copy_from_slice(&name[..len]);
    }
    bytes
}

/// Whether this thread and the process may run at the same time: on different processors, as far as
/// their affinities say. A process that cannot be seen is taken to share this thread's processors.
pub(crate) fn can_run_beside(pid: u32) -> bool {
    let own = sched_getaffinity(None);
    let other = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| sched_getaffinity(Some(pid)));
    let may_use =
        |cpu: &usize| [Some(&own), other.as_ref()].into_iter().flatten().flatten().any(|set| set.is_set(*cpu));
    // EINVAL: the kernel knows more processors than the set has bits.
    own.as_ref().is_err_and(|&errno| errno == Errno::INVAL) || (0..CpuSet::MAX_CPU).filter(may_use).nth(1).is_some()
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called `exit` with this code.
    Code(i32),
    /// This signal killed it.
    Signal {
        /// Number of the signal.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}

mod ioctl {
    // https://man7.org/linux/man-pages/man2/PIDFD_GET_INFO.2const.html
    nix::ioctl_readwrite!(
        #[allow(missing_docs)]
        pidfd_get_info,
        0xFF,
        11,
        super::PidfdInfo
    );
}

/// The first version of the kernel's `struct pidfd_info`.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How the process of a pidfd ended. Known from Linux 6.15 on, once its parent has waited for it.
pub fn exit_of(pidfd: impl AsFd) -> Option<Exit> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the size of the structure, which is part of the request's
    // number.
    unsafe { ioctl::pidfd_get_info(pidfd.as_fd().as_raw_fd(), &raw mut info) }.ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| decode(info.exit_code))
}

/// Opens a process of user `uid` by its pid; `None` if it is gone, another user's, or hidden.
pub fn open_process(pid: u32, uid: u32) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?;
    let pidfd = above_standard(pidfd).ok()?;
    // The pid may have been reused before; not from here on, since the descriptor keeps the
    // process's identity.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).ok()?);
    (owner == uid).then_some(pidfd)
}

fn decode(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn exit_of_child(script: &str) -> Option<Exit> {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(exit_of(&pidfd), None, "its parent has not waited for it yet");
        child.wait().unwrap();
        exit_of(&pidfd)
    }

    #[test]
    fn threads_on_one_processor_do_not_run_at_the_same_time() {
        let all = sched_getaffinity(None).unwrap();
        assert_eq!(can_run_beside(u32::MAX), all.count() > 1, "nobody has this id");
        std::thread::spawn(move || {
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap());
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            assert!(!can_run_beside(u32::MAX));
            assert_eq!(can_run_beside(std::process::id()), all.count() > 1, "the main thread is not pinned");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_kernel_reports_how_a_process_ended() {
        // Kernels before 6.15 report nothing, never something wrong.
        let release = kernel_text("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let reports = (numbers.next(), numbers.next()) >= (Some(6), Some(15));
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        assert_eq!(exit_of_child("exit 3"), reports.then_some(Exit::Code(3)));
        assert_eq!(exit_of_child("kill -9 $$"), reports.then_some(killed));
    }
}
