//! The attacks: each prepares itself, says so, and goes on until it is killed.

mod calls;
mod names;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub fn attack(name: &str) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    match name {
        "links" => names::many_links(),
        "connect" => calls::connect_and_hang_up(),
        other => panic!("no attack is named {other}"),
    }
}
