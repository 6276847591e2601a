//! The first message of a reader.

/// The first message that a subscriber receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The next message to be published.
    #[default]
    Next,
    /// The newest message that is kept; the next one if there is none.
    Latest,
    /// The oldest of this many messages, the newest ones, or of as many as are kept; the next one
    /// if there are none.
    Last(u32),
    /// The oldest message that is kept; the next one if there is none.
    Oldest,
}
