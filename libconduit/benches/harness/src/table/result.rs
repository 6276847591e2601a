//! What a repeat of the table measures.

use std::collections::BTreeMap;

use serde::Serialize;

use super::entrant::Entrant;
use crate::statistics::Figures;

/// What came of a row in one repeat.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct RowResult {
    /// One way of a cache line meanwhile.
    pub(super) line_ns: Option<f64>,
    pub(super) columns: BTreeMap<Entrant, Figures>,
    /// Messages per second, where that is what was measured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) rates: BTreeMap<Entrant, MessageRate>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) footprints: BTreeMap<Entrant, Footprint>,
    /// Messages that were lost, where that is all that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<u64>,
    /// The processor time that a message costs its subscriber, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_ns: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct MessageRate {
    pub(super) per_second: f64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
}

/// What a topic with one publisher and one subscriber occupies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Footprint {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) publisher_descriptors: usize,
    pub(super) subscriber_descriptors: usize,
}
