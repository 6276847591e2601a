//! The first message of a reader.

/// The first message that a subscriber receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The next message to be published.
    #[default]
    Next,
    /// The newest message in the ring; the next one if the ring is empty.
    Latest,
    /// The oldest message in the ring; the next one if the ring is empty.
    Oldest,
}
