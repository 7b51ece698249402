//! Trace files: commented CSV ([`parse`], [`to_text`]), Arrow IPC and Parquet, which hold the same
//! rows and metadata. [`TraceReader`] and [`TraceWriter`] take rows one by one, so that a trace
//! need not fit in memory; [`MappedTrace`] gives the columns of an Arrow IPC file where they lie.
//! Others' recordings are imported ([`import`], [`mahimahi`]).
//!
//! Parsing is a pure function of the text: it looks at no path and panics on no bytes.

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

pub use columnar::{LinkColumns, METADATA_KEY, MappedTrace, ROWS_KEY, RowsHash, TraceColumns};
pub use csv::{CsvReader, CsvWriter, parse, to_text};
pub use file::{FileFormat, LARGEST_FILE_BYTES, MOST_ROWS_IN_MEMORY, read_file, write_file};
pub use reader::TraceReader;
pub use rows::{RowSource, Spans, TraceRows};
pub use writer::TraceWriter;

/// SHA-256 of a text, in hexadecimal: what names a trace in plans and records.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write as _;

    let mut hexadecimal = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    hexadecimal
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
}
