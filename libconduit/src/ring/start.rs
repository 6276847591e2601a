//! Where a reader starts.

/// Where a subscriber starts to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next message to be published.
    #[default]
    Next,
    /// With the newest message in the ring; with the next one if there is none.
    Latest,
    /// With the oldest message in the ring; with the next one if there is none.
    Oldest,
}
