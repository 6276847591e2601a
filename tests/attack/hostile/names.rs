//! Attacks by files and their names.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use conduit::internal::shm::lock::OWNER;
use conduit::{Domain, Publisher};
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::libc;
use rustix::fs::{XattrFlags, fsetxattr};

use crate::HOSTILE;
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

/// Takes the write locks of all bytes that can mean anything.
fn lock_all(file: &File) {
    let whence = libc::SEEK_SET as libc::c_short;
    let request =
        libc::flock { l_type: libc::F_WRLCK as libc::c_short, l_whence: whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&request)).unwrap();
}

/// Puts files of all kinds, some of them locked, where daemons look for each other, and takes the
/// names of the files that daemons remove.
pub fn squat() {
    let directory = Domain::from_env().shm_dir().to_owned();
    let own = path_of("j");
    marked(&own, "kept");
    let mut locked = Vec::new();
    let mut take = |path: &Path, kind: usize| {
        // Errors are expected: the file of a daemon that runs is there.
        let _ = match kind % 5 {
            0 => std::fs::create_dir_all(path.join("not empty")),
            1 => symlink("/dev/null", path),
            2 => std::fs::hard_link(&own, path),
            3 => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).map_err(Into::into),
            _ => File::create_new(path).map(|file| {
                lock_all(&file);
                locked.push(file);
            }),
        };
    };
    let mut known: HashSet<PathBuf> = (0..1000)
        .map(|number| format!(".conduitd.system.{}.{number:016x}.lock", number % 2 * HOSTILE))
        .map(|name| directory.join(name))
        .collect();
    known.insert(directory.join(".conduitd.system.0.lock"));
    say_ready();
    for kind in 0.. {
        known.iter().enumerate().for_each(|(number, path)| take(path, kind + number));
        let entries = std::fs::read_dir(&directory).unwrap().flatten();
        known.extend(entries.map(|it| it.path()).filter(|path| path.to_string_lossy().contains("/.conduitd.")));
        sleep(Duration::from_millis(10));
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
