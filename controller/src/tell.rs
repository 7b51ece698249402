//! Words on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes a line on standard error. Where nobody reads it, or where it has no room, what is told is lost and
/// nothing else: the work goes on, and its status is that of the work.
pub(crate) fn tell(words: &dyn Display) {
    let line = format!("{words}\n");
    // As said.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
