//! What a check finds.

use std::process::ExitCode;

use anstyle::Style;
use serde::Serialize;

use crate::output;

/// How serious a finding is, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Skipped,
    Ok,
    Warning,
    Problem,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    pub(super) fn style(self) -> Style {
        match self {
            Self::Skipped => output::FAINT,
            Self::Ok => output::GOOD,
            Self::Warning => output::WARNING,
            Self::Problem => output::BAD,
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) id: &'static str,
    pub(super) state: Severity,
    pub(super) message: String,
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self { id, state: Severity::Ok, message: message.into(), remedy: None }
    }

    pub(super) fn skipped(id: &'static str, message: impl Into<String>) -> Self {
        Self { id, state: Severity::Skipped, message: message.into(), remedy: None }
    }

    pub(super) fn warning(id: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id, state: Severity::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn problem(id: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id, state: Severity::Problem, message: message.into(), remedy: Some(remedy.into()) }
    }

    /// One finding of several about the same thing, the worst first; `fine` if there are none.
    pub(super) fn of_all(id: &'static str, mut all: Vec<Finding>, fine: impl FnOnce() -> Finding) -> Self {
        // Stable: findings of equal severity keep their order.
        all.sort_by_key(|finding| std::cmp::Reverse(finding.state));
        let Some(worst) = all.first().map(|finding| finding.state) else { return fine() };
        let messages: Vec<_> = all.iter().map(|finding| finding.message.as_str()).collect();
        let mut remedies: Vec<_> = all.iter().filter_map(|finding| finding.remedy.as_deref()).collect();
        remedies.dedup();
        let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
        Self { id, state: worst, message: messages.join("; "), remedy }
    }
}

/// All findings, in the order of the help.
#[derive(Serialize)]
pub(super) struct DoctorReport {
    pub(super) checks: Vec<Finding>,
    pub(super) worst: Severity,
}

impl DoctorReport {
    pub(super) fn new(checks: Vec<Finding>) -> Self {
        let worst = checks.iter().map(|finding| finding.state).max().unwrap_or(Severity::Ok).max(Severity::Ok);
        Self { checks, worst }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.worst {
            Severity::Skipped | Severity::Ok => 0,
            Severity::Warning => 1,
            Severity::Problem => 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_comes_first() {
        let several = vec![
            Finding::warning("socket", "a", "do a"),
            Finding::problem("socket", "b", "do b"),
            Finding::problem("socket", "c", "do b"),
        ];
        let one = Finding::of_all("socket", several, || unreachable!());
        assert_eq!(one, Finding::problem("socket", "b; c; a", "do b; do a"));
    }
}
