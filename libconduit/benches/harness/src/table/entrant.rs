//! The columns of a row, and who fills them.

use std::fmt;
use std::rc::Rc;

use serde::Serialize;

use crate::Wait;
use crate::contestants::limits::PingPongLimit;
use crate::limits::LimitsRegion;
use crate::turns::{Contestant, Contestants};

/// What is compared in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entrant {
    /// A cache line, only to see how near the cores are.
    Line,
    Limit,
    Ours,
    /// Conduit at an easier task, to compare with.
    Reference,
    Peer,
}

impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

pub(super) type Entrants = Contestants<Entrant>;

/// A cache line in short turns.
pub(super) fn line(region: &Rc<LimitsRegion>) -> (Entrant, Box<dyn Contestant>) {
    let region = region.clone();
    (Entrant::Line, Box::new(PingPongLimit { region, wait: Wait::Poll, turn_share: 0.2, is_grouped: true }))
}
