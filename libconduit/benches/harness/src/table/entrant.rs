//! The columns of a row, and who fills them.

use std::fmt;
use std::rc::Rc;

use serde::{Serialize, Serializer};

use crate::Wait;
use crate::contestants::limits::PingPongLimit;
use crate::limits::LimitsRegion;
use crate::turns::{Contestant, Contestants};

/// What is compared in a row, in the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entrant {
    /// A cache line, only to see how near the cores are.
    Line,
    Limit,
    /// A limit that uses as much memory as the ring has.
    RingLimit,
    /// A limit that uses so many buffers.
    Buffers(usize),
    /// Conduit at an easier task, to compare with.
    Reference,
    Ours,
    /// Conduit once more, only to be there.
    Between,
    /// Another library, by its name.
    Peer(&'static str),
}

impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffers(1) => "1 buffer",
            Self::Buffers(buffers) => return write!(f, "{buffers} buffers"),
            Self::Line => "line",
            Self::Limit => "limit",
            Self::RingLimit => "ring_limit",
            Self::Reference => "reference",
            Self::Ours => "ours",
            Self::Between => "between",
            Self::Peer(name) => name,
        })
    }
}

impl Serialize for Entrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) type Entrants = Contestants<Entrant>;

/// A cache line in short turns.
pub(super) fn line(region: &Rc<LimitsRegion>) -> (Entrant, Box<dyn Contestant>) {
    let region = region.clone();
    (Entrant::Line, Box::new(PingPongLimit { region, wait: Wait::Poll, turn_share: 0.2, is_grouped: true }))
}
