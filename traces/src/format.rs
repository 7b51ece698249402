//! Trace files. The project's own format is commented CSV ([`parse`], [`to_text`]); others are
//! imported ([`mahimahi`]).
//!
//! Parsing is a pure function of the text: it looks at no path and panics on no bytes.

mod column;
mod csv;
mod file;
pub mod import;
pub mod mahimahi;
mod metadata;

pub use csv::{CsvReader, CsvWriter, parse, to_text};
pub use file::{LARGEST_FILE_BYTES, read_file, write_file};

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
