//! The one place of this crate with `unsafe`: files mapped into memory.

use std::fs::File;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a whole file for reading. The mapping lives as long as the bytes or any part of them.
///
/// Whoever truncates the file meanwhile ends this process with SIGBUS, and whoever writes into it
/// changes what is read: a file that is played must be left alone. [`crate::format::TraceWriter`]
/// never writes into a file that is there; it replaces it.
#[expect(unsafe_code, reason = "a mapping aliases a file that others may write")]
pub(super) fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the mapping is read-only and private to this process's view; it is only ever read
    // as plain bytes and integers, for which every bit pattern is valid, and text in it is
    // checked when it is decoded. That nobody changes the file is the caller's promise, above.
    let mapping = unsafe { Mmap::map(file) }?;
    Ok(Bytes::from_owner(mapping))
}
