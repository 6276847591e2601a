//! Polling for states instead of sleeping for fixed times.

use std::time::{Duration, Instant};

/// Longer than any step takes, even on a busy machine: a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `look` returns a value.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}
