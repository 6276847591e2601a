//! Tests that cannot run on this machine.
//!
//! `skip!(Lack::Root, "another user's orphan")` ends the test, reports that on standard error even
//! if the test runner captures output, and fails in the gate (`CI=true`) unless the machine really
//! lacks what the test needs.

use std::io::Write;
use std::process::Command;

/// What the machine, or the user who runs the tests, may lack.
#[allow(dead_code, reason = "not every crate of tests needs all of them")]
#[derive(Debug)]
pub enum Lack {
    /// The rights of root.
    Root,
    /// Namespaces, created by `unshare` with these options.
    Namespaces(&'static [&'static str]),
    /// This number of processors.
    Processors(usize),
    /// A clock that is read without a system call.
    FastClock,
    /// A kernel of at least this version.
    Kernel(u32, u32),
    /// A directory that is not on a tmpfs.
    Disk,
    /// Core dumps in the working directory of the process, which can be slowed down there.
    CoreDumps,
    /// A program or a part of this workspace that the gate installs or builds; never missing there.
    Software(&'static str),
}

impl Lack {
    fn is_real(&self) -> bool {
        match self {
            Self::Root => !nix::unistd::geteuid().is_root(),
            Self::Namespaces(options) => {
                let tried = Command::new("unshare").args(*options).args(["--", "true"]).output();
                !tried.is_ok_and(|output| output.status.success())
            }
            Self::Processors(count) => std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < *count,
            Self::FastClock => {
                let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
                let clock = std::fs::read_to_string(path).unwrap_or_default();
                !["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"].contains(&clock.trim())
            }
            Self::Kernel(major, minor) => kernel() < (*major, *minor),
            Self::Disk | Self::CoreDumps => true,
            Self::Software(_) => false,
        }
    }
}

/// Major and minor version of the running kernel.
pub fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Reports that a test, or a part of one, does not run.
#[track_caller]
pub fn report(lack: &Lack, what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let is_gate = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!is_gate || lack.is_real(), "{test}: {what} must be tested in a gate: {lack:?} is not lacking");
    // Not `eprintln`, which the test runner captures and drops if the test passes.
    let _ = writeln!(std::io::stderr(), "**** SKIPPED: {test}: {what} is NOT tested: lacks {lack:?} ****");
}

/// Ends a test that lacks something.
macro_rules! skip {
    ($lack:expr, $what:expr) => {{
        $crate::harness::skip::report(&$lack, $what);
        return;
    }};
}
pub(crate) use skip;
