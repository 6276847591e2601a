//! What ends a sleep in `poll(2)`, which cannot sleep on a word as well: two connected sockets, of
//! which one becomes readable.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use super::descriptor::Descriptor;
use crate::mutation::step;

#[derive(Debug)]
pub(super) struct Bell {
    waits: Descriptor,
    rings: Descriptor,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let mut other = None;
        let waits = Descriptor::open(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let (waits, rings) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
            other = Some(rings);
            io::Result::Ok(waits)
        })?;
        let rings = Descriptor::open(|| other.ok_or(io::Error::from(io::ErrorKind::NotFound)))?;
        Ok(Self { waits, rings })
    }

    /// Makes it readable. Calls nothing that a signal handler may not call.
    pub(super) fn ring(&self) {
        let errno = Errno::last_raw();
        // One that is full has been rung.
        step!(stop_ring, send(self.rings.as_fd().as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL).unwrap_or_default());
        Errno::set_raw(errno);
    }

    /// What becomes readable, unless the program has closed it.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (self.waits.is_intact() && self.rings.is_intact()).then(|| self.waits.as_fd())
    }
}
