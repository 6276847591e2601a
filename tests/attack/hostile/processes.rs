//! Attacks by processes that end: the kernel reports each core dump to the daemon.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::machine::say_ready;

pub fn dump_core() {
    // Reported all the same, and nothing is written.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    say_ready();
    loop {
        #[allow(unsafe_code, reason = "this process has one thread, and the child does nothing but end")]
        // SAFETY: `abort` may be called after a fork.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => std::process::abort(),
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        };
    }
}
