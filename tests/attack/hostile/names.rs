//! Attacks by files and their names.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use conduit::internal::shm::lock::OWNER;
use conduit::{Domain, Publisher};
use nix::fcntl::{FallocateFlags, fallocate};
use rustix::fs::{XattrFlags, fsetxattr};

use crate::machine::{say_ready, wait_for_the_end};

pub fn path_of(name: &str) -> PathBuf {
    Domain::from_env().shm_dir().join(format!("conduit_{name}"))
}

/// A small file that is marked as Conduit's: "kept", or "raw" with a creator.
pub fn marked(path: &Path, mark: &str) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    file.set_len(4096).unwrap();
    fsetxattr(&file, "user.conduit", mark.as_bytes(), XattrFlags::empty()).unwrap();
    file
}

/// A region whose owner is alive as long as the file is open.
pub fn locked(name: &str) -> File {
    let path = path_of(name);
    // Complete before it has its name, so that it is no orphan before it is locked.
    let unnamed = path.with_file_name(format!("unnamed_{name}"));
    let file = marked(&unnamed, &format!("raw {} attacker", std::process::id()));
    assert!(OWNER.try_write(&file).unwrap());
    std::fs::rename(unnamed, path).unwrap();
    file
}

pub fn many_links() {
    let first = path_of("j");
    marked(&first, "kept");
    for number in 0..25_000 {
        std::fs::hard_link(&first, path_of(&format!("j{number}"))).unwrap();
    }
    say_ready();
    wait_for_the_end();
}

pub fn many_regions() {
    for number in 0..10_000 {
        marked(&path_of(&format!("j{number}")), "kept");
    }
    say_ready();
    wait_for_the_end();
}

pub fn rename() {
    let names = [path_of("j0"), path_of("j1")];
    marked(&names[0], "kept");
    say_ready();
    loop {
        std::fs::rename(&names[0], &names[1]).unwrap();
        std::fs::rename(&names[1], &names[0]).unwrap();
    }
}

pub fn link_and_unlink() {
    let [first, second] = [path_of("j0"), path_of("j1")];
    marked(&first, "kept");
    say_ready();
    loop {
        std::fs::hard_link(&first, &second).unwrap();
        std::fs::remove_file(&second).unwrap();
    }
}

/// The daemon removes them, and logs each.
pub fn orphans() {
    say_ready();
    for number in 0_u64.. {
        marked(&path_of(&format!("j{number}")), "raw 1 attacker");
        if number.is_multiple_of(10) {
            sleep(Duration::from_millis(10));
        }
    }
}

/// Puts one kind of file after the other where the next daemon of root puts its lock.
pub fn squat() {
    let path = Domain::from_env().shm_dir().join(".conduitd.system.0.lock");
    let own = path_of("j");
    marked(&own, "kept");
    say_ready();
    for kind in 0_u64.. {
        // Errors are expected: while the daemon runs, its file is there.
        let _ = match kind % 5 {
            0 => std::fs::create_dir_all(path.join("not empty")),
            1 => File::create_new(&path).map(drop),
            2 => symlink("/dev/null", &path),
            3 => std::fs::hard_link(&own, &path),
            _ => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).map_err(Into::into),
        };
        sleep(Duration::from_millis(1));
    }
}

/// A valid topic without memory: who enters all of it into its page tables allocates it.
pub fn publish_holes() {
    let publisher = Publisher::<[u8]>::builder().slots(2).slot_size(512 << 20).prefault(false);
    let publisher = publisher.create("holes").unwrap();
    let file = File::options().write(true).open(publisher.path()).unwrap();
    let bytes = file.metadata().unwrap().len() as i64;
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, 4096, bytes - 4096).unwrap();
    say_ready();
    wait_for_the_end();
}
