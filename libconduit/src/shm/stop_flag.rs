//! What stops the blocking calls of this process, whether they sleep on a word or in `poll(2)`.
//!
//! The first call that sleeps in `poll(2)` makes a [`Bell`]. A program that closes what it did not
//! open, and a child of fork, have none any more; then the call looks at the word in short steps.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::futex;
use super::stop_bell::Bell;
use super::stop_word::StopWord;
use crate::mutation::step;

/// How often a call looks at the word that has no bell.
const BLIND_INTERVAL: Duration = Duration::from_millis(20);

/// Whether to stop, and how to tell those who sleep.
#[derive(Debug, Default)]
pub(crate) struct StopFlag {
    word: StopWord,
    bell: OnceLock<Bell>,
}

impl StopFlag {
    /// Sets it and wakes all sleepers. Calls nothing that a signal handler may not call.
    pub(crate) fn stop(&self) {
        let has_bell = self.word.set();
        step!(stop_wake, futex::wake_all_private(self.word.word()));
        if has_bell && let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.word.is_set()
    }

    /// For calls that sleep on it.
    pub(crate) fn word(&self) -> &StopWord {
        &self.word
    }

    /// What tells calls that sleep in `poll(2)`; `None` if there are no descriptors left. Look at
    /// the word after this.
    fn bell(&self) -> Option<&Bell> {
        if self.bell.get().is_none()
            && let Ok(bell) = Bell::new()
        {
            // Another thread may have been faster.
            let _ = self.bell.set(bell);
        }
        let bell = self.bell.get()?;
        self.word.note_bell();
        Some(bell)
    }
}

/// Sleeps until there is one of the events, the time is up, or it is to stop. Returns whether there
/// is an event; may return false early.
///
/// # Errors
///
/// As for `poll(2)`.
pub(crate) fn poll_or_stop(
    descriptor: BorrowedFd<'_>,
    events: PollFlags,
    timeout: Option<Duration>,
    stop: Option<&StopFlag>,
) -> nix::Result<bool> {
    let bell = match stop {
        Some(stop) => {
            let bell = stop.bell().and_then(Bell::descriptor);
            if stop.is_set() {
                return Ok(false);
            }
            bell
        }
        None => None,
    };
    let is_blind = stop.is_some() && bell.is_none();
    let timeout = if is_blind { Some(timeout.map_or(BLIND_INTERVAL, |it| it.min(BLIND_INTERVAL))) } else { timeout };
    // Rounded up, so that a fraction of a millisecond is not spent polling.
    let rounded = |it: Duration| PollTimeout::try_from(it.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX);
    let mut descriptors = [PollFd::new(descriptor, events), PollFd::new(bell.unwrap_or(descriptor), PollFlags::POLLIN)];
    let used = if bell.is_some() { &mut descriptors[..] } else { &mut descriptors[..1] };
    poll(used, timeout.map_or(PollTimeout::NONE, rounded))?;
    Ok(descriptors[0].any().unwrap_or(true))
}
