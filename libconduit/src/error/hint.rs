//! What to do about errors of the system.

use std::io;

use nix::errno::Errno;

use crate::shm::new_file::{CREATE, MAP, NAME, RESERVE, SET_GROUP};
/// What to do about the failures that have a remedy.
pub(super) fn hint(doing: &str, error: &io::Error) -> &'static str {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else { return hint_of_kind(error.kind()) };
    match (doing, errno) {
        (CREATE | NAME, Errno::ENOSPC) => {
            "; its file system has no inodes left: remove files from it, or allow more (mount -o remount,nr_inodes=...)"
        }
        (_, Errno::ENOSPC) => {
            "; its file system is full: remove files from it, or enlarge it (mount -o remount,size=...)"
        }
        (_, Errno::EROFS) => "; its file system is read-only: mount it for writing (mount -o remount,rw)",
        (CREATE | RESERVE, Errno::EOPNOTSUPP | Errno::EISDIR) => {
            "; its file system can make no unnamed files, or reserve no room for them: use a tmpfs"
        }
        (RESERVE, Errno::EFBIG) => {
            "; this process may not make files of that size: raise the limit (ulimit -f, LimitFSIZE=)"
        }
        (SET_GROUP, Errno::EPERM) => "; this user is not a member of that group (`id -G` lists its groups)",
        (MAP, Errno::EAGAIN) => {
            "; this process locks its memory (mlockall) and may not lock that much: raise the limit (ulimit -l, LimitMEMLOCK=)"
        }
        (MAP, Errno::ENOMEM) => {
            "; this process may not map that much: raise the limit of its address space (ulimit -v, LimitAS=) or the number \
             of mappings (sysctl vm.max_map_count)"
        }
        (_, Errno::ENOMEM) => "; the machine has too little memory: end other processes, or add swap space",
        (_, Errno::EDQUOT) => "; this user's quota is used up: remove files of this user, or raise the quota",
        (_, Errno::EMFILE) => "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        (_, Errno::ENFILE) => "; the machine has too many open files: raise sysctl fs.file-max",
        _ => hint_of_kind(error.kind()),
    }
}

fn hint_of_kind(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "; this user needs permission there",
        io::ErrorKind::NotFound => "; the directory must exist, and /proc be mounted",
        _ => "",
    }
}
