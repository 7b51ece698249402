//! The project's own text format for traces: commented CSV.
//!
//! ```text
//! # {"schema":2,"scenario":"...","status":"control","duration_ns":20000000000,...}
//! t_ns,down_rate_bps,down_delay_ns,...,up_queue_bytes,sinr_cdb,mcs,...,event
//! 0,60000000,4000000,...
//! ```
//!
//! The metadata is one line of JSON behind `# `; other lines that start with `#` are comments.
//! All numbers are whole; the rate `max` means unlimited; an empty diagnostic is unknown. A file
//! may leave out columns other than the time and the two rates, and order them as it likes;
//! [`CsvWriter`] writes all of them in one order, so equal traces have equal text.

mod header;
mod reader;
mod writer;

use crate::{Trace, TraceError};

pub use reader::CsvReader;
pub use writer::CsvWriter;

/// The text of a trace in canonical form: equal traces give equal bytes.
#[must_use]
pub fn to_text(trace: &Trace) -> String {
    let mut text = String::with_capacity(512 + trace.row_count() * 96);
    writer::push_head(&mut text, trace.metadata());
    let mut bytes = text.into_bytes();
    let columns: Vec<_> = super::column::Column::all().collect();
    for row in trace.iter() {
        writer::push_row(&mut bytes, &columns, &row);
    }
    // Everything that is written is ASCII or was a string.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Reads a trace from the text of a file.
///
/// # Errors
/// The first mistake, with its line, its column and what was expected there.
pub fn parse(text: &str) -> Result<Trace, TraceError> {
    let mut reader = CsvReader::new(text.as_bytes())?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
    }
    Trace::new(reader.metadata().clone(), rows)
}

#[cfg(test)]
pub(super) mod tests;
