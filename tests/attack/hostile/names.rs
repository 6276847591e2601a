//! Attacks by files and their names.

use std::fs::File;
use std::path::{Path, PathBuf};

use conduit::Domain;
use rustix::fs::{XattrFlags, fsetxattr};

use crate::machine::{say_ready, wait_for_the_end};

pub fn path_of(name: &str) -> PathBuf {
    Domain::from_env().shm_dir().join(format!("conduit_{name}"))
}

/// A small file that is marked as Conduit's.
pub fn marked(path: &Path, mark: &str) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(4096).unwrap();
    fsetxattr(&file, "user.conduit", mark.as_bytes(), XattrFlags::empty()).unwrap();
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
