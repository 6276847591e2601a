//! Lines for the user on standard error.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard error. If that fails there is nobody left to report it to.
pub(crate) fn notice(line: impl Display) {
    let _ = writeln!(io::stderr(), "conduit: {line}");
}
