//! Who a process is, and how it ended.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::libc;
use rustix::process::{Pid, PidfdFlags};
use rustix::time::{ClockId, clock_gettime};

/// Command name of a process, as in `/proc/PID/comm`; `None` if it is gone or hidden.
pub fn command_name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// This process as a region's header and a subscriber's record name it.
pub(crate) fn own_name() -> [u8; 16] {
    let mut bytes = [0; 16];
    if let Some(name) = command_name(std::process::id()) {
        let len = name.len().min(bytes.len());
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    }
    bytes
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

/// How the process behind a pidfd ended, if the kernel tells: from Linux 6.15 on, once its parent has waited for it.
pub fn exit_of(pidfd: impl AsFd) -> Option<Exit> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the size of the structure, which is part of the request's number.
    unsafe { ioctl::pidfd_get_info(pidfd.as_fd().as_raw_fd(), &raw mut info) }.ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| decode(info.exit_code))
}

/// Opens a process of a user by its number; `None` if it is gone, another user's, or hidden.
pub fn open_process(pid: u32, uid: u32) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?;
    // The number may have passed to another process before, not since: the descriptor keeps it.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).ok()?);
    (owner == uid).then_some(pidfd)
}

/// Numbers of the groups of the process at the other end of a socket, as they were when it connected: see `SO_PEERGROUPS`
/// in [`unix(7)`](https://man7.org/linux/man-pages/man7/unix.7.html).
pub fn peer_groups(socket: impl AsFd) -> std::io::Result<Vec<u32>> {
    let socket = socket.as_fd().as_raw_fd();
    let mut groups = vec![0u32; 32];
    loop {
        let mut len = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `groups`, and to `len` how many there are.
        let result = unsafe {
            libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut len)
        };
        let error = std::io::Error::last_os_error();
        groups.resize(len as usize / size_of::<u32>(), 0);
        match (result, error.raw_os_error()) {
            (0, _) => return Ok(groups),
            // Now it is as long as they are.
            (_, Some(libc::ERANGE)) => {}
            _ => return Err(error),
        }
    }
}

/// Has the kernel refuse descriptors that a peer sends over a socket: closing one can take long, and even hang.
///
/// Kernels before 6.16 cannot; there the descriptors are closed unseen when the message is read.
pub fn refuse_descriptors(socket: impl AsFd) {
    // From the kernel's include/uapi/asm-generic/socket.h; libc does not have it yet.
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    let len = size_of_val(&off) as libc::socklen_t;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `len` bytes of `off`, which outlives the call.
    unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), len) };
}

/// Takes over the first descriptors after standard error, which were left open for this process by whoever started it: as many as
/// `LISTEN_FDS` says ([`sd_listen_fds(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html)). None for
/// one that is not open; nothing the second time.
///
/// Call it first of all: before anything else in this process opens files.
pub fn take_inherited(count: u16) -> Vec<Option<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Relaxed) {
        return Vec::new();
    }
    let take = |descriptor: RawFd| {
        // SAFETY: fcntl with F_GETFD touches nothing.
        let is_open = unsafe { libc::fcntl(descriptor, libc::F_GETFD) } >= 0;
        // SAFETY: it is open, and since this happens once and the numbers are those that our parent left open for us, nothing else
        // in this process owns it.
        is_open.then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
    };
    (3..3 + RawFd::from(count)).map(take).collect()
}

fn decode(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Now, on the clock that stamps messages: CLOCK_MONOTONIC in nanoseconds, the same in all processes of the machine.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A clock that is cheap to read and a few milliseconds behind.
pub(crate) fn coarse_now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The same clock, as a number that changes with every tick of it, and means nothing else.
#[inline]
pub(crate) fn coarse_tick() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    (now.tv_sec as u64) << 30 | now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn exit_of_child(script: &str) -> Option<Exit> {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(exit_of(&pidfd), None, "it has not been reaped yet");
        child.wait().unwrap();
        exit_of(&pidfd)
    }

    #[test]
    fn the_kernel_tells_how_a_process_ended() {
        // Kernels before 6.15 do not tell; then the answer is "unknown", never a wrong one.
        assert!(matches!(exit_of_child("exit 3"), Some(Exit::Code(3)) | None));
        assert!(matches!(exit_of_child("kill -9 $$"), Some(Exit::Signal { signal: 9, core_dumped: false }) | None));
    }
}
