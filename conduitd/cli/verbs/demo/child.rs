//! The demo's child processes and their reports.

use serde::{Deserialize, Serialize};

use super::work::WorkTimes;
use crate::child::ChildReport;

/// A report of a child to the demo.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum DemoReport {
    /// A publisher has published everything, and every subscriber is done with it.
    Streamed { elapsed_ns: u64, written: WorkTimes },
    /// A subscriber has received everything.
    Received(SubscriberTally),
    /// A subscriber has noticed its publisher's death.
    Gone { at_ns: u64 },
    /// The child gives up.
    Failed { message: String },
}

impl ChildReport for DemoReport {
    fn failed(message: String) -> Self {
        Self::Failed { message }
    }
}

/// What a subscriber received.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SubscriberTally {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) corrupt: u64,
    /// The first corrupt message, in words.
    pub(crate) first_corrupt: Option<String>,
    /// When the first message was received.
    pub(crate) first_at_ns: u64,
    /// Comparing a message.
    pub(crate) compared: WorkTimes,
    /// One-way latencies in nanoseconds, each with how often it occurred.
    pub(crate) latencies_ns: Vec<(u64, u64)>,
}

/// Which child it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DemoRole {
    Publisher,
    Restarted,
    Subscriber(usize),
}

impl std::fmt::Display for DemoRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Publisher => write!(f, "the publisher"),
            Self::Restarted => write!(f, "the restarted publisher"),
            Self::Subscriber(index) => write!(f, "subscriber {}", index + 1),
        }
    }
}
