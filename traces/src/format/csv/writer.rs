//! Writing trace text row by row.

use std::io::Write;

use super::super::column::Column;
use crate::{RowCheck, TraceError, TraceMetadata, TraceRow};

/// So much text is handed on at a time, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Writes the canonical text of a trace row by row: the same bytes as [`super::to_text`].
#[derive(Debug)]
pub struct CsvWriter<W: Write> {
    sink: W,
    columns: Vec<Column>,
    text: Vec<u8>,
    check: RowCheck,
}

impl<W: Write> CsvWriter<W> {
    /// Begins a trace with this metadata.
    #[must_use]
    pub fn new(sink: W, metadata: &TraceMetadata) -> CsvWriter<W> {
        let mut head = String::new();
        push_head(&mut head, metadata);
        let mut text = head.into_bytes();
        text.reserve(CHUNK_BYTES);
        CsvWriter {
            sink,
            columns: Column::all().collect(),
            text,
            check: RowCheck::new(metadata.duration_ns),
        }
    }

    /// Writes the next row.
    ///
    /// # Errors
    /// A row that [`RowCheck::accept`] refuses, or a sink that takes no more.
    pub fn write_row(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        self.check.accept(row)?;
        push_row(&mut self.text, &self.columns, row);
        if self.text.len() >= CHUNK_BYTES {
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), TraceError> {
        let written = self.sink.write_all(&self.text);
        self.text.clear();
        written.map_err(|source| TraceError::Stream {
            action: "write",
            source,
        })
    }

    /// Writes what is left and gives the sink back.
    ///
    /// # Errors
    /// There was no row, or the sink takes no more.
    pub fn finish(mut self) -> Result<W, TraceError> {
        self.check.finish()?;
        self.hand_on()?;
        self.sink.flush().map_err(|source| TraceError::Stream {
            action: "write",
            source,
        })?;
        Ok(self.sink)
    }
}

/// The metadata's line and the header.
pub(super) fn push_head(text: &mut String, metadata: &TraceMetadata) {
    text.push_str("# ");
    text.push_str(&super::super::metadata::to_json(metadata));
    text.push('\n');
    let names: Vec<String> = Column::all().map(Column::name).collect();
    text.push_str(&names.join(","));
    text.push('\n');
}

pub(super) fn push_row(text: &mut Vec<u8>, columns: &[Column], row: &TraceRow) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        column.write(row, text);
    }
    text.push(b'\n');
}
