//! Open file description locks on bytes past the end of a region: they prove that a process is
//! alive.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The byte that the owner of a region locks.
pub const OWNER: LockByte = LockByte(1 << 62);
/// The byte that a daemon locks in its file. Not one that the owner or a subscriber of a region
/// locks: no region can pose as a daemon's file.
pub(crate) const GUARD: LockByte = LockByte(OWNER.0 - 1);
/// The byte that a daemon locks in its file until it serves.
pub(crate) const STARTING: LockByte = LockByte(OWNER.0 - 2);

/// The byte that the removers of a region's name lock, one at a time, while its dying owner may
/// still hold the other.
pub const REMOVER: LockByte = LockByte(OWNER.0 - 3);

/// Where the second bytes of records begin: after the first ones, of which there are fewer.
const SECOND_BYTES: i64 = 1024;

/// A byte of a region, far past any file's end, that one process locks while it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockByte(i64);

impl LockByte {
    /// The byte that whoever holds subscriber record `index` locks.
    pub fn record(index: usize) -> Self {
        Self(OWNER.0 + 1 + index as i64)
    }

    /// The byte that the holder of subscriber record `index` locks besides, once it is attached:
    /// its record is its own, and it receives whatever is published from then on.
    pub fn attached(index: usize) -> Self {
        Self(OWNER.0 + 1 + SECOND_BYTES + index as i64)
    }

    fn request(self, kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: self.0,
            l_len: 1,
            l_pid: 0,
        }
    }

    /// Takes the write lock; `false` if another description holds a lock. The file must be open for
    /// writing.
    pub fn try_write(self, file: impl AsFd) -> io::Result<bool> {
        self.try_set(file, libc::F_WRLCK)
    }

    /// Takes a read lock; `false` if another description holds a write lock. The file must be open
    /// for reading.
    pub fn try_read(self, file: impl AsFd) -> io::Result<bool> {
        self.try_set(file, libc::F_RDLCK)
    }

    fn try_set(self, file: impl AsFd, kind: libc::c_int) -> io::Result<bool> {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&self.request(kind))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Releases the lock of this description.
    pub fn unlock(self, file: impl AsFd) {
        // Unlocking cannot fail on a descriptor on which locking succeeded.
        let _ = fcntl(&file, FcntlArg::F_OFD_SETLK(&self.request(libc::F_UNLCK)));
    }

    /// Whether another description holds the write lock. The file must be open for reading.
    ///
    /// Tests with a read lock, so that read locks, which any reader may take, do not count.
    pub fn is_write_locked(self, file: impl AsFd) -> io::Result<bool> {
        self.conflicts(file, libc::F_RDLCK)
    }

    /// Whether another description holds any lock, so that the write lock cannot be had.
    pub(crate) fn is_locked(self, file: impl AsFd) -> io::Result<bool> {
        self.conflicts(file, libc::F_WRLCK)
    }

    fn conflicts(self, file: impl AsFd, kind: libc::c_int) -> io::Result<bool> {
        let mut request = self.request(kind);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut request))?;
        Ok(request.l_type != libc::F_UNLCK as libc::c_short)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_read_lock_does_not_look_like_a_live_owner() {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (reader, prober) = (open(), open());
        assert!(OWNER.try_read(&reader).unwrap());
        assert!(!OWNER.is_write_locked(&prober).unwrap() && OWNER.is_locked(&prober).unwrap());
        assert!(!OWNER.try_write(&prober).unwrap());
        OWNER.unlock(&reader);
        assert!(OWNER.try_write(&prober).unwrap());
        assert!(OWNER.is_write_locked(&reader).unwrap());
        assert!(!LockByte::record(0).is_locked(&reader).unwrap());
        assert_ne!(LockByte::record(1023), LockByte::attached(0));
    }
}
