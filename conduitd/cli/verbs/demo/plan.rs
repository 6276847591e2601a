//! What the demo and its child processes agree on.

use std::time::Duration;

pub(super) const TOPIC: &str = "demo/scan";
pub(super) const SLOTS: u64 = 4;
pub(super) const SUBSCRIBERS: usize = 2;

/// How long to wait for anything that moves whole messages: a slow machine moves 100 MB/s.
pub(super) fn patience(message_bytes: u64) -> Duration {
    Duration::from_secs(10) + Duration::from_secs(message_bytes / 100_000_000)
}
