//! Periods that several layers share.

use std::time::Duration;

/// How often a lease is renewed if it was lost, and how often a subscriber checks its publisher's
/// owner lock if nothing reports its death: a death is noticed within a second, even on a busy
/// machine.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(500);
