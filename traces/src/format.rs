//! Trace files: commented CSV ([`parse`], [`to_text`]), Arrow IPC and Parquet, which hold the same
//! rows and metadata. [`TraceReader`] and [`TraceWriter`] take rows one by one, so that a trace
//! need not fit in memory; [`MappedTrace`] gives the columns of an Arrow IPC file where they lie.
//! Others' recordings are imported ([`import`], [`mahimahi`]).
//!
//! Parsing is a pure function of the text: it looks at no path and panics on no bytes.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::{Trace, TraceError};

mod column;
mod columnar;
mod csv;
pub mod export;
mod file;
pub mod import;
pub mod mahimahi;
mod metadata;
mod reader;
mod rows;
mod writer;

pub use columnar::{
    LinkColumns, METADATA_KEY, MappedTrace, ROWS_KEY, RowsHash, TraceColumns, UNIT_KEY,
};
pub use csv::{CsvReader, CsvWriter, parse, to_text};
pub use file::{
    FileFormat, LARGEST_FILE_BYTES, MOST_ROWS_COPIED, MOST_ROWS_IN_MEMORY, read_file, read_mapped,
    read_open, write_file, write_open,
};
pub use reader::TraceReader;
pub(crate) use reader::check_hash;
pub use rows::{RowSource, Spans, TraceRows};
pub use writer::TraceWriter;

/// SHA-256 of a text, in hexadecimal: what names a trace in plans and records.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    let mut hash = HashedText::default();
    hash.0.update(text.as_bytes());
    hash.finish()
}

/// SHA-256 of a trace's canonical text, of which only a row is in memory at a time: whatever file a
/// trace is in, this is its name.
///
/// # Errors
/// None in practice: the rows of a trace can be written.
pub fn text_sha256(trace: &Trace) -> Result<String, TraceError> {
    let mut writer = CsvWriter::new(HashedText::default(), trace.metadata());
    for row in trace.iter() {
        writer.write_row(&row)?;
    }
    writer.finish().map(HashedText::finish)
}

/// Text that is hashed and forgotten.
#[derive(Debug, Default)]
struct HashedText(Sha256);

impl HashedText {
    fn finish(self) -> String {
        let mut hexadecimal = String::with_capacity(64);
        for byte in self.0.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(hexadecimal, "{byte:02x}");
        }
        hexadecimal
    }
}

impl std::io::Write for HashedText {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_of_nothing_is_the_published_one() {
        assert_eq!(
            super::sha256_hex(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_trace_is_named_by_the_hash_of_its_text_without_making_the_text() {
        let trace = crate::generate::control::constant(5, 6, 7, 8).unwrap();
        let text = super::to_text(&trace);
        assert_eq!(
            super::text_sha256(&trace).unwrap(),
            super::sha256_hex(&text)
        );
    }
}
