//! Arrow IPC files mapped into memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, root_as_footer, root_as_message};
use arrow_schema::SchemaRef;

use super::layout::{ROWS_KEY, metadata_of};
use super::mmap::Mapping;
use super::{TraceColumns, not_understood};
use crate::{TraceError, TraceMetadata};

/// The bytes before the footer's length: magic and padding at the start.
const MAGIC: &[u8; 6] = b"ARROW1";

/// What stands before a message's length since format version 0.15.
const CONTINUATION_MARKER: [u8; 4] = [0xff; 4];

/// The length of the footer's length and the magic at the end.
const TRAILER_BYTES: usize = 10;

/// A trace in an Arrow IPC file that is mapped and not read: its columns lie in the page cache,
/// shared with everybody else who plays it, and cost no memory of this process.
pub struct MappedTrace {
    metadata: TraceMetadata,
    rows_sha256: Option<String>,
    buffer: Buffer,
    /// None of bytes that are in memory anyway.
    mapping: Option<Mapping>,
    decoder: FileDecoder,
    batches: Vec<Batch>,
    rows: u64,
}

/// Where a batch lies and how many rows it has.
#[derive(Debug, Clone, Copy)]
struct Batch {
    block: Block,
    offset: usize,
    length: usize,
}

impl std::fmt::Debug for MappedTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedTrace")
            .field("metadata", &self.metadata)
            .field("rows", &self.rows)
            .field("batches", &self.batches.len())
            .finish_non_exhaustive()
    }
}

fn wrong(problem: impl Into<String>) -> TraceError {
    TraceError::Columnar {
        problem: format!("cannot read the Arrow IPC file: {}", problem.into()),
    }
}

impl MappedTrace {
    /// Maps a file. Everything is checked that could lead outside of it; the rows themselves are
    /// checked when they are read one by one ([`crate::format::TraceReader`]).
    ///
    /// The file must not be changed while it is mapped.
    ///
    /// # Errors
    /// The file cannot be mapped or is no trace in this format.
    pub fn open(path: &Path) -> Result<MappedTrace, TraceError> {
        let read = |source| TraceError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        MappedTrace::of_file(&file).map_err(|source| TraceError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    pub(in super::super) fn of_file(file: &File) -> Result<MappedTrace, TraceError> {
        let mapping = Mapping::new(file).map_err(|source| TraceError::Stream {
            action: "map",
            source,
        })?;
        let trace = MappedTrace::of_buffer(&Buffer::from(mapping.bytes()))?;
        // The heads of all batches were looked at, and the kernel maps what lies about them too.
        mapping.release(0..trace.buffer.len());
        Ok(MappedTrace {
            mapping: Some(mapping),
            ..trace
        })
    }

    /// From a file's bytes.
    pub(super) fn of_buffer(buffer: &Buffer) -> Result<MappedTrace, TraceError> {
        let footer_end = buffer
            .len()
            .checked_sub(TRAILER_BYTES)
            .filter(|_| buffer.starts_with(MAGIC))
            .ok_or_else(|| wrong("it does not begin with ARROW1"))?;
        let trailer: [u8; TRAILER_BYTES] = buffer[footer_end..]
            .try_into()
            .map_err(|_error| wrong("it has no footer"))?;
        let cut = "the end of the file is missing: was it copied or written to its end?";
        let length = read_footer_length(trailer).map_err(|_error| wrong(cut))?;
        let footer_start = footer_end.checked_sub(length).ok_or_else(|| wrong(cut))?;
        let footer = root_as_footer(&buffer[footer_start..footer_end])
            .map_err(|error| wrong(format!("its footer is broken: {error}")))?;
        let schema = footer.schema().ok_or_else(|| wrong("it has no schema"))?;
        let schema: SchemaRef = Arc::new(
            try_fb_to_schema(schema).map_err(|error| not_understood("its schema", &error))?,
        );
        let metadata = metadata_of(&schema)?;
        let rows_sha256 = footer.custom_metadata().and_then(|entries| {
            let entry = entries.iter().find(|entry| entry.key() == Some(ROWS_KEY))?;
            entry.value().map(str::to_owned)
        });
        let mut batches = Vec::new();
        let mut rows = 0_u64;
        for block in footer.recordBatches().into_iter().flatten() {
            let (batch, length) = checked(buffer, *block)?;
            rows = rows.saturating_add(length);
            batches.push(batch);
        }
        let decoder = FileDecoder::new(schema, footer.version());
        Ok(MappedTrace {
            metadata,
            rows_sha256,
            decoder,
            batches,
            rows,
            buffer: buffer.clone(),
            mapping: None,
        })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    /// How many rows there are.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// How many batches they are in.
    #[must_use]
    pub const fn batches(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn rows_sha256(&self) -> Option<&str> {
        self.rows_sha256.as_deref()
    }

    /// The columns of a batch, where they lie in the file. `None` after the last.
    ///
    /// # Errors
    /// They are not what the schema says, or compressed.
    pub fn columns(&self, batch: usize) -> Result<Option<TraceColumns>, TraceError> {
        let Some(batch) = self.batches.get(batch) else {
            return Ok(None);
        };
        let data = self.buffer.slice_with_length(batch.offset, batch.length);
        let decoded = self
            .decoder
            .read_record_batch(&batch.block, &data)
            .map_err(|error| not_understood("cannot read a batch of the Arrow IPC file", &error))?
            .ok_or_else(|| wrong("a batch is no batch"))?;
        TraceColumns::new(&decoded).map(Some)
    }
}

impl MappedTrace {
    /// Takes a batch that has been read off this process's memory; it can be read again.
    pub(crate) fn release(&self, batch: usize) {
        if let (Some(mapping), Some(batch)) = (&self.mapping, self.batches.get(batch)) {
            mapping.release(batch.offset..batch.offset + batch.length);
        }
    }
}

/// Checks that a block and the buffers of its batch lie within the file, and counts its rows.
fn checked(buffer: &Buffer, block: Block) -> Result<(Batch, u64), TraceError> {
    let outside = || wrong("a batch lies outside of the file: was it copied to its end?");
    let offset = usize::try_from(block.offset()).map_err(|_error| outside())?;
    let head = usize::try_from(block.metaDataLength()).map_err(|_error| outside())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_error| outside())?;
    let length = head.checked_add(body).ok_or_else(outside)?;
    let end = offset.checked_add(length).ok_or_else(outside)?;
    let data = buffer.get(offset..end).ok_or_else(outside)?;
    let skip = if data.starts_with(&CONTINUATION_MARKER) {
        8
    } else {
        4
    };
    let message = data.get(skip..head).ok_or_else(outside)?;
    let message = root_as_message(message)
        .map_err(|error| wrong(format!("a batch's head is broken: {error}")))?;
    let batch = message
        .header_as_record_batch()
        .ok_or_else(|| wrong("a block holds no batch"))?;
    if batch.compression().is_some() {
        return Err(wrong(
            "it is compressed and cannot be mapped; write it without compression",
        ));
    }
    for part in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(part.offset()).map_err(|_error| outside())?;
        let length = usize::try_from(part.length()).map_err(|_error| outside())?;
        let end = start.checked_add(length).ok_or_else(outside)?;
        if end > body {
            return Err(outside());
        }
    }
    let rows = u64::try_from(batch.length()).map_err(|_error| outside())?;
    Ok((
        Batch {
            block,
            offset,
            length,
        },
        rows,
    ))
}
