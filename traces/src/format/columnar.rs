//! Traces in columns: Arrow IPC files, memory-mapped for playback, and Parquet for archives.
//!
//! Both have one column per column of the text format, with the same names and in the same order:
//! unsigned integers for the link's state, nullable columns for the diagnostics, text for the
//! event. The unlimited rate is 2^64 - 1. The metadata is the JSON of the text format, in the
//! schema's metadata under [`METADATA_KEY`]; [`ROWS_KEY`] holds a hash of the rows, which readers
//! check after the last one.

mod builder;
mod columns;
mod hash;
mod layout;
mod mapped;
mod mmap;
mod parquet;

use arrow_schema::ArrowError;

use crate::TraceError;

pub(super) use self::parquet::{ParquetRows, ParquetSink};
pub(super) use builder::ArrowSink;
pub use columns::{LinkColumns, TraceColumns};
pub use hash::RowsHash;
pub use layout::{METADATA_KEY, ROWS_KEY, UNIT_KEY};
pub use mapped::MappedTrace;

/// Rows of one batch: what is held before it is written, and what is decoded at a time.
const BATCH_ROWS: usize = 1 << 16;

fn not_understood(doing: &str, error: &ArrowError) -> TraceError {
    TraceError::Columnar {
        problem: format!("{doing}: {error}"),
    }
}
