//! Signal dispositions that programs under test inherit.

use std::sync::Once;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Programs under test must not inherit ignored signals from the process that started the tests.
pub(crate) fn default_dispositions() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        for number in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            // SAFETY: the test runner has no signal handlers that this could replace.
            #[allow(unsafe_code)]
            unsafe { signal(number, SigHandler::SigDfl) }.unwrap();
        }
    });
}
