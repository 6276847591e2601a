//! The attacks: each prepares itself, says so, and goes on until it is killed.

mod calls;
mod names;
mod processes;
mod readers;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub fn attack(name: &str) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    match name {
        "links" => names::many_links(),
        "names" => names::many_regions(),
        "rename" => names::rename(),
        "link" => names::link_and_unlink(),
        "log" => names::orphans(),
        "guard" => names::squat(),
        "sparse" => names::publish_holes(),
        "connect" => calls::connect_and_hang_up(),
        "crowd" => calls::take_every_connection(),
        "shutdown" => calls::call_and_shut_down(),
        "unread" => calls::leave_unread(),
        "watchers" => calls::watch(),
        "release" => calls::release(),
        "register" => calls::register_late(),
        "dump" => processes::dump_core(),
        "attach" => calls::attach(),
        "locks" => readers::lock_everything(),
        "requeue" => readers::requeue(),
        "waiters" => readers::wait_with_many_threads(),
        other => panic!("no attack is named {other}"),
    }
}
