//! Socket options without a safe interface: the groups of a peer, and refusing descriptors.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Ids of the groups of a socket's peer, as they were when it connected: see `SO_PEERGROUPS` in
/// [`unix(7)`](https://man7.org/linux/man-pages/man7/unix.7.html).
pub fn peer_groups(socket: impl AsFd) -> std::io::Result<Vec<u32>> {
    let socket = socket.as_fd().as_raw_fd();
    let mut groups = vec![0u32; 32];
    loop {
        let mut len = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `groups`, and to `len` how many there
        // are.
        let result = unsafe {
            libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut len)
        };
        let error = std::io::Error::last_os_error();
        groups.resize(len as usize / size_of::<u32>(), 0);
        match (result, error.raw_os_error()) {
            (0, _) => return Ok(groups),
            // The buffer now has the length that the kernel needs.
            (_, Some(libc::ERANGE)) => {}
            _ => return Err(error),
        }
    }
}

/// Makes the kernel refuse descriptors that a peer sends over a socket: closing one can take long,
/// or even hang.
///
/// Without effect before Linux 6.16: there the descriptors are closed when the message is read.
pub fn refuse_descriptors(socket: impl AsFd) {
    // From the kernel's include/uapi/asm-generic/socket.h; libc does not have it yet.
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    let len = size_of_val(&off) as libc::socklen_t;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `len` bytes of `off`, which outlives the call.
    unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), len) };
}
