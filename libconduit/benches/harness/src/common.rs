//! What every part uses: results, the two sides, and how they wait.

use serde::{Deserialize, Serialize};

/// Why a measurement ends early, in words.
pub type BenchError = Box<dyn std::error::Error + Send + Sync>;
/// The result of everything that measures.
pub type Result<T> = std::result::Result<T, BenchError>;

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchSide {
    /// The one that measures.
    First,
    /// The one that answers.
    Second,
}

/// How a process waits for the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// It polls.
    Poll,
    /// It sleeps on a futex until it is woken.
    Sleep,
}
