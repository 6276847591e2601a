//! Checks that may hang.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::finding::Finding;

/// Longer than any check takes whose file system and daemon answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoResult {
    Late,
    Panicked,
}

/// Runs a check that may hang forever, for example on a file system that does not answer. Its
/// thread is then left behind.
pub(super) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoResult> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name("check".into()).spawn(move || sender.send(work()));
    if thread.is_err() {
        return Err(NoResult::Panicked);
    }
    receiver.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => NoResult::Late,
        RecvTimeoutError::Disconnected => NoResult::Panicked,
    })
}

/// The findings of a group of checks, also if it did not end.
pub(super) fn guarded(ids: &[&'static str], result: Result<Vec<Finding>, NoResult>) -> Vec<Finding> {
    let instead = |id, reason| match reason {
        NoResult::Late if id == ids[0] => Finding::problem(
            id,
            format!("the check has not ended within {} s", PATIENCE.as_secs()),
            "see in `dmesg` whether a file system or the machine hangs",
        ),
        NoResult::Late => Finding::skipped(id, format!("no answer to {}", ids[0])),
        NoResult::Panicked => Finding::skipped(id, "the check itself has failed; please report it"),
    };
    result.unwrap_or_else(|reason| ids.iter().map(|id| instead(*id, reason)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_check_that_hangs_or_fails_does_not_stop_the_others() {
        let (_keep, never) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(5), move || {
            let _ = never.recv();
            Vec::new()
        });
        let findings = guarded(&["one", "two"], late);
        assert_eq!([findings[0].state, findings[1].state], [Severity::Problem, Severity::Skipped]);
        let failed = guarded(&["one"], Err(NoResult::Panicked));
        assert_eq!(failed[0].state, Severity::Skipped);
        assert_eq!(within(PATIENCE, || 7), Ok(7));
    }
}
