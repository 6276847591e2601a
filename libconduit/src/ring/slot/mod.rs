//! The ring in mapped memory, and the only places where payload bytes become values.

pub(crate) mod claim;
pub(crate) mod mapped;
pub(crate) mod sample;
