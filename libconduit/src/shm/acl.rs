//! Opening another user's file for writing with CAP_FOWNER alone, which permits changing its access
//! rights.
//!
//! Widening its mode would give every user access for a moment. An access control list gives access
//! to one user: this process's. See [`acl(5)`](https://man7.org/linux/man-pages/man5/acl.5.html);
//! the extended attribute's format is in the kernel's `include/uapi/linux/posix_acl_xattr.h`.

use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::geteuid;
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};

use super::descriptor::Descriptor;
use super::open::Access;

const XATTR: &str = "system.posix_acl_access";
const VERSION: u32 = 2;
const READ_WRITE: u16 = 6;
/// Tags of the entries.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Id of an entry without a user or group.
const NOBODY_NAMED: u32 = u32::MAX;

/// Opens a file for reading and writing that this user may not write, but whose access rights it
/// may change.
pub(crate) fn open_for_writing(file: impl AsFd) -> io::Result<Descriptor> {
    if fgetxattr(&file, XATTR, &mut [0u8; 4][..]) != Err(rustix::io::Errno::NODATA) {
        // Its owner has set a list, or the file system has no lists.
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mode = fstat(&file)?.st_mode & 0o7777;
    fsetxattr(&file, XATTR, &list(mode, geteuid().as_raw()), XattrFlags::CREATE)?;
    let opened = Descriptor::reopen(&file, Access::ReadWrite);
    // In this order: while there is a list the group's rights are those of its mask, and they must
    // be restored before the list is removed.
    fchmod(&file, Mode::from_bits_truncate(mode))?;
    fremovexattr(&file, XATTR)?;
    opened
}

/// The mode as a list, with read and write access for `uid`.
fn list(mode: u32, uid: u32) -> Vec<u8> {
    let bits = |shift: u32| (mode >> shift & 0o7) as u16;
    let entries = [
        (USER_OBJ, bits(6), NOBODY_NAMED),
        (USER, READ_WRITE, uid),
        (GROUP_OBJ, bits(3), NOBODY_NAMED),
        (MASK, bits(3) | READ_WRITE, NOBODY_NAMED),
        (OTHER, bits(0), NOBODY_NAMED),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_mode_is_as_before() {
        for mode in [0o644, 0o600, 0o640, 0o604] {
            let file = tempfile::tempfile_in("/dev/shm").unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            // Any user may do this to its own files.
            let opened = open_for_writing(&file).unwrap();
            rustix::io::write(&opened, b"x").unwrap();
            assert_eq!(fstat(&file).unwrap().st_mode & 0o7777, mode);
            assert_eq!(fgetxattr(&file, XATTR, &mut [0u8; 64][..]), Err(rustix::io::Errno::NODATA));
        }
    }
}
