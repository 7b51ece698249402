//! The header of a GGUF file.

use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::Content;

use crate::engine::error::first_line;
use crate::engine::guard::guarded;

/// Reads a header; in words what is wrong with it. The library panics over some (an alignment of 0): that
/// is an error as any other.
pub(crate) fn read_content(reader: &mut (impl Read + Seek)) -> Result<Content, String> {
    match guarded(|| Content::read(reader)) {
        Some(content) => content.map_err(|error| first_line(&error)),
        None => Err("its header is damaged".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_header_over_which_the_library_panics_is_an_error() {
        let key = b"general.alignment";
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes()); // tensors
        bytes.extend(1_u64.to_le_bytes()); // entries
        bytes.extend(17_u64.to_le_bytes());
        bytes.extend(key);
        bytes.extend(4_u32.to_le_bytes()); // a u32
        let with = |alignment: u32| {
            let whole = [bytes.as_slice(), &alignment.to_le_bytes()].concat();
            read_content(&mut Cursor::new(whole)).map(|content| content.metadata.len())
        };
        assert_eq!(with(32), Ok(1));
        assert_eq!(with(0), Err("its header is damaged".to_owned()));
    }
}
