//! When a verb that reports once a second prints a report, and when it ends.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::output;

/// How often a report is printed.
const INTERVAL: Duration = Duration::from_secs(1);

/// The reports that are wanted and those that were printed.
pub(crate) struct Reports {
    wanted: Option<u64>,
    printed: u64,
    timeout: Option<Duration>,
    /// `None` if it is so far ahead that it never comes.
    deadline: Option<Instant>,
}

impl Reports {
    /// As many reports as are wanted, for no longer than the timeout.
    pub(crate) fn new(wanted: Option<u64>, timeout: Option<Duration>) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { wanted, printed: 0, timeout, deadline }
    }

    /// Whether no report is wanted any more, or there is no time for one.
    pub(crate) fn are_over(&self) -> bool {
        self.has_enough() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn has_enough(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.printed >= wanted)
    }

    /// When the next report is due: in a second, or at the end.
    pub(crate) fn next(&self) -> Instant {
        let next = Instant::now() + INTERVAL;
        self.deadline.map_or(next, |deadline| deadline.min(next))
    }

    pub(crate) fn count(&mut self) {
        self.printed += 1;
    }

    /// The command's result: an error if there was too little to report in time.
    pub(crate) fn result(&self) -> Result<(), Failure> {
        let timeout = output::duration(self.timeout.unwrap_or_default());
        match self.wanted {
            Some(wanted) if self.printed < wanted => {
                let reports = output::count(wanted, "report");
                Err(Failure::new(format_args!("{} of {reports} within {timeout}", self.printed)))
            }
            None if self.printed == 0 => Err(Failure::new(format_args!("nothing to report within {timeout}"))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_tells_whether_there_was_enough_to_report() {
        let after = |wanted, printed: u64, timeout| {
            let mut reports = Reports::new(wanted, timeout);
            (0..printed).for_each(|_| reports.count());
            (reports.are_over(), reports.result().map_err(|failure| format!("{failure:?}")))
        };
        let (none, long) = (Some(Duration::ZERO), Some(Duration::MAX));
        assert_eq!(after(None, 1, none), (true, Ok(())));
        assert_eq!(after(Some(2), 2, long), (true, Ok(())));
        assert_eq!(after(None, 7, None), (false, Ok(())));
        assert!(after(Some(2), 1, none).1.unwrap_err().contains("1 of 2 reports within 0 ns"));
        assert!(after(None, 0, none).1.unwrap_err().contains("nothing to report within 0 ns"));
        let reports = Reports::new(None, Some(Duration::from_millis(1)));
        assert!(reports.next() <= Instant::now() + Duration::from_millis(1));
    }
}
