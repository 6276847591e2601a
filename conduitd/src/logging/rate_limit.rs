//! Keeps one user from filling the log: lines of one kind that one user causes are limited.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind and user that are logged per period; a robot with a thousand topics starts
/// within one.
const MAX_LINES: u32 = 1000;
const PERIOD: Duration = Duration::from_secs(30);
/// Pairs of kind and user that are counted. A user may have many uids (subuid(5)): those that do
/// not fit share a count.
const MAX_COUNTS: usize = 4096;

/// File and line in the code, and the user.
type LineKind = (&'static str, u32, Option<u64>);

/// Suppresses the lines of a kind above a rate, and says so.
pub(super) struct RateLimit<F> {
    counts: Mutex<HashMap<LineKind, LineCount>>,
    /// Logs a sentence, though not as an event: this is called while one is handled.
    notice: F,
}

struct LineCount {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl<F: Fn(&str)> RateLimit<F> {
    pub(super) fn new(notice: F) -> Self {
        Self { counts: Mutex::default(), notice }
    }

    fn admits(&self, kind: LineKind, now: Instant) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |count: &LineCount| now.saturating_duration_since(count.since) >= PERIOD;
        if counts.len() >= MAX_COUNTS {
            counts.retain(|_, count| !is_over(count) || count.suppressed > 0);
        }
        let is_full = counts.len() >= MAX_COUNTS && !counts.contains_key(&kind);
        let kind = if is_full { (kind.0, kind.1, None) } else { kind };
        let of = kind.2.map_or_else(String::new, |uid| format!(" that uid {uid} causes"));
        let count = counts.entry(kind).or_insert_with(|| LineCount { since: now, lines: 0, suppressed: 0 });
        if is_over(count) {
            if count.suppressed > 0 {
                (self.notice)(&format!("{} lines like the next one{of} were suppressed", count.suppressed));
            }
            *count = LineCount { since: now, lines: 0, suppressed: 0 };
        }
        count.lines = count.lines.saturating_add(1);
        if count.lines <= MAX_LINES {
            return true;
        }
        if count.suppressed == 0 {
            let period = PERIOD.as_secs();
            (self.notice)(&format!("more lines like the last one{of} are suppressed: over {MAX_LINES} in {period} s"));
        }
        count.suppressed += 1;
        false
    }
}

impl<S: Subscriber, F: Fn(&str) + Send + Sync + 'static> Layer<S> for RateLimit<F> {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let mut user = CausingUser(None);
        event.record(&mut user);
        let metadata = event.metadata();
        let place = (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        self.admits((place.0, place.1, user.0), Instant::now())
    }
}

/// The user who causes an event, if a field tells.
struct CausingUser(Option<u64>);

impl Visit for CausingUser {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "conduit.uid" {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn lines_of_one_kind_and_user_are_limited_and_counted() {
        let notices = RefCell::new(Vec::new());
        let limit = RateLimit::new(|notice: &str| notices.borrow_mut().push(notice.to_owned()));
        let start = Instant::now();
        let admitted = |uid, lines: u32, now| (0..lines).filter(|_| limit.admits(("file", 1, uid), now)).count();
        assert_eq!(admitted(Some(1000), MAX_LINES, start), MAX_LINES as usize);
        assert_eq!(notices.borrow().len(), 0);
        assert_eq!(admitted(Some(1000), 5, start), 0);
        assert_eq!(
            notices.take(),
            ["more lines like the last one that uid 1000 causes are suppressed: over 1000 in 30 s"]
        );
        assert_eq!([admitted(Some(1), 1, start), admitted(None, 1, start)], [1, 1], "others are not affected");
        assert!(limit.admits(("file", 2, Some(1000)), start), "nor are other lines");
        assert_eq!(admitted(Some(1000), 1, start + PERIOD), 1);
        assert_eq!(notices.take(), ["5 lines like the next one that uid 1000 causes were suppressed"]);
        assert_eq!(admitted(Some(1000), 1, start + 2 * PERIOD), 1);
        assert_eq!(notices.take(), Vec::<String>::new());
    }

    #[test]
    fn any_number_of_users_takes_bounded_memory() {
        let limit = RateLimit::new(|_: &str| {});
        let start = Instant::now();
        for uid in 0..3 * MAX_COUNTS as u64 {
            limit.admits(("file", 1, Some(uid)), start);
        }
        let counts = || limit.counts.lock().unwrap().len();
        assert_eq!(counts(), MAX_COUNTS + 1);
        limit.admits(("file", 1, Some(u64::MAX)), start + PERIOD);
        assert_eq!(counts(), 2, "counts of the past are forgotten, but for what is not reported yet");
    }
}
