//! The one place of this crate with `unsafe`: files mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Mmap, UncheckedAdvice};

/// A mapped file; clones are the same mapping.
#[derive(Debug, Clone)]
pub(super) struct Mapping(Arc<Mmap>);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// Maps a whole file for reading. The mapping lives as long as it or any part of its bytes.
    ///
    /// Whoever truncates the file meanwhile ends this process with SIGBUS, and whoever writes into
    /// it changes what is read: a file that is played must be left alone.
    /// [`crate::format::TraceWriter`] never writes into a file that is there; it replaces it.
    #[expect(unsafe_code, reason = "a mapping aliases a file that others may write")]
    pub(super) fn new(file: &File) -> std::io::Result<Mapping> {
        // SAFETY: the mapping is read-only and private to this process's view; it is only ever
        // read as plain bytes and integers, for which every bit pattern is valid, and text in it
        // is checked when it is decoded. That nobody changes the file is the caller's promise,
        // above.
        let mapping = unsafe { Mmap::map(file) }?;
        Ok(Mapping(Arc::new(mapping)))
    }

    /// All bytes of the file.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// Takes pages that are not needed for now off this process's books; they stay in the page
    /// cache, and come back when they are read. A kernel that will not is as good: they are
    /// reclaimed when memory runs short.
    #[expect(
        unsafe_code,
        reason = "MADV_DONTNEED of a mapping that can be written loses what was"
    )]
    pub(super) fn release(&self, range: Range<usize>) {
        let length = range.end.min(self.0.len()).saturating_sub(range.start);
        // SAFETY: the mapping is of a file and was never writable: pages taken away are read from
        // the file again, with the same bytes.
        let advised = unsafe {
            self.0
                .unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, length)
        };
        drop(advised);
    }
}
